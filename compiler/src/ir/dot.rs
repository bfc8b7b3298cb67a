//! The Graphviz form of a graph: a box a node with op, output shape and multiply-adds, coloured by what limits it.
//!
//! `dot -Tsvg` draws it. Boxes run downwards; the share of multiply-adds is the only number a reader has to compare.

use std::collections::HashMap;
use std::fmt::Write;

use super::{Graph, NodeId, Op, print};

/// `graph` in the DOT language.
#[must_use]
pub fn dot(graph: &Graph) -> String {
    let order = graph.topo();
    let number: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let total = graph.macs();
    let mut out = String::from(
        "digraph net {\n  rankdir=TB;\n  ranksep=0.3;\n  node [shape=box, style=\"rounded,filled\", fontname=\"Helvetica\", fontsize=10, margin=\"0.12,0.06\"];\n  \
         edge [fontname=\"Helvetica\", fontsize=9, color=\"#555555\"];\n",
    );
    // Writing to a string does not fail.
    for &id in &order {
        let node = graph.node(id);
        let macs = node.op.macs(&graph.input_shapes(id), node.shape);
        let mut label = format!("{}\\n{}\\n{}", escape(&node.name), escape(&print::describe(&node.op)), node.shape);
        if macs > 0 {
            let _ = write!(label, "\\n{} multiply-adds ({:.1} %)", short(macs), 100.0 * macs as f64 / total as f64);
        }
        let _ = writeln!(out, "  n{} [label=\"{label}\", fillcolor=\"{}\"];", number[&id], color(&node.op));
    }
    for &id in &order {
        for (position, input) in graph.inputs_of(id).into_iter().enumerate() {
            let _ = write!(out, "  n{} -> n{}", number[&input], number[&id]);
            // Second operands are named: the first one is the tensor that flows.
            if position > 0 {
                let _ = write!(out, " [label=\"{}\", style=dashed]", operand(graph.op(id)));
            }
            out.push_str(";\n");
        }
    }
    for (position, id) in graph.outputs.iter().enumerate() {
        let _ = writeln!(
            out,
            "  out{position} [label=\"output\", shape=plaintext, style=\"\"];\n  n{} -> out{position};",
            number[id]
        );
    }
    out.push_str("}\n");
    out
}

/// What an input behind the first is to the op.
fn operand(op: &Op) -> &'static str {
    match op {
        Op::Conv(_) => "residual",
        Op::Scale(_) => "scale",
        Op::Add(_) => "second addend",
        Op::Binary(_) => "second operand",
        Op::Concat(_) => "joined",
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Depthwise(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Dense(_)
        | Op::PRelu(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose(_)
        | Op::Softmax => "",
    }
}

/// Blue: limited by arithmetic; green: by memory, but weighted; yellow: touches memory only; grey: data.
fn color(op: &Op) -> &'static str {
    match op {
        Op::Input | Op::Constant(_) => "#e8e8e8",
        Op::Conv(_) | Op::ConvTranspose(_) | Op::Dense(_) => "#cfe2f3",
        Op::Depthwise(_) => "#d9ead3",
        Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::Softmax => "#fff2cc",
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

/// Three digits: `10.8 M`.
fn short(n: u64) -> String {
    let (value, unit) = match n {
        0..1_000 => return n.to_string(),
        1_000..1_000_000 => (n as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (n as f64 / 1e6, "M"),
        1_000_000_000.. => (n as f64 / 1e9, "G"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Shape;
    use crate::ir::op::{Activation, Dense};

    #[test]
    fn names_are_escaped_and_operands_labelled() {
        let mut g = Graph::default();
        let x = g.add_input("a \"quoted\\name\"", Shape::hwc(1, 1, 1000));
        let weight = g.consts.add(vec![0.0; 1_000_000]);
        let d = Dense { in_c: 1000, out_c: 1000, weight, bias: None, act: Activation::None };
        let d = g.add("fc", Op::Dense(d), &[x]).unwrap();
        let y = g.add("sum", Op::Add(Activation::Relu), &[d, x]).unwrap();
        g.outputs.push(y);
        let dot = dot(&g);
        assert!(dot.contains(r#"n0 [label="a \"quoted\\name\"\ninput\n1x1x1x1000""#), "{dot}");
        assert!(dot.contains(r#"\n1.00 M multiply-adds (100.0 %)""#), "{dot}");
        assert!(dot.contains("  n0 -> n2 [label=\"second addend\", style=dashed];\n"), "{dot}");
        assert!(dot.contains("  n2 -> out0;\n"), "{dot}");
    }

    #[test]
    fn three_digits() {
        assert_eq!(
            [999, 1234, 10_838_016, 568_740_352, 4_867_293_184].map(short),
            ["999", "1.23 k", "10.8 M", "569 M", "4.87 G"]
        );
    }
}
