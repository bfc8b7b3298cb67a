//! The text form of a graph: a line a node in topological order, numbered anew so that unrelated edits do not move numbers.
//!
//! ```text
//! %0 = input                               1x224x224x3    input
//! %1 = conv 3x3 s2 p1,1,1,1 +bias relu6 %0 1x112x112x32   stem
//! return %1
//! ```
//!
//! Padding is written `top,left,bottom,right`. Weights are not written, only which of them are there.

use std::collections::HashMap;
use std::fmt::Write;

use super::op::{Activation, PoolKind};
use super::{Graph, NodeId, Op, Padding};

/// `graph` as text; equal for equal graphs, whatever was added and removed on the way.
#[must_use]
pub fn text(graph: &Graph) -> String {
    let order = graph.topo();
    let number: HashMap<NodeId, usize> = order.iter().enumerate().map(|(i, &id)| (id, i)).collect();
    let names = |ids: &[NodeId]| ids.iter().map(|id| format!("%{}", number[id])).collect::<Vec<_>>().join(" ");
    let lines: Vec<[String; 3]> = order
        .iter()
        .map(|&id| {
            let node = graph.node(id);
            let what = [describe(&node.op), names(&graph.inputs_of(id))];
            let what = what.into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(" ");
            [format!("%{} = {what}", number[&id]), node.shape.to_string(), node.name.clone()]
        })
        .collect();
    let widths = [0, 1].map(|column| lines.iter().map(|l| l[column].len()).max().unwrap_or(0));
    let mut out = String::new();
    for [what, shape, name] in lines {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{what:0$} {shape:1$} {name}", widths[0], widths[1]);
    }
    let _ = writeln!(out, "return {}", names(&graph.outputs));
    out
}

/// An op with its attributes: `conv 3x3 s2 p1,1,1,1 +bias relu6`.
#[must_use]
pub fn describe(op: &Op) -> String {
    let mut all = vec![op.name().to_string()];
    match op {
        // The shape stands behind it.
        Op::Input | Op::Constant(_) | Op::GlobalPool | Op::Softmax | Op::PRelu(_) | Op::Reshape(_) => {}
        Op::Binary(b) => all.extend(activation(b.act)),
        Op::Concat(axis) => all.push(format!("{axis:?}").to_lowercase()),
        Op::Gather(g) => {
            let named = g.tables().into_iter().zip(["rows", "columns", "channels"]);
            all.extend(named.filter_map(|(table, axis)| table.map(|t| format!("{axis} {}", indices(t)))));
        }
        Op::Transpose(order) => all.push(order.map(|axis| ["h", "w", "c"][axis.min(2)]).concat()),
        Op::Mean { axes } => all.push((0..3).filter(|&i| axes[i]).map(|i| ["h", "w", "c"][i]).collect()),
        Op::Interpolate { rows, columns } => all.push(format!("to {}x{}", rows.len(), columns.len())),
        Op::ConvTranspose(c) => {
            all.extend(window(c.kernel, c.stride, c.pad));
            all.extend(dilation(c.dilation));
            all.extend((c.output_padding != [0, 0]).then(|| format!("o{},{}", c.output_padding[0], c.output_padding[1])));
            all.extend((c.groups != 1).then(|| format!("g{}", c.groups)));
            all.extend(c.bias.map(|_| "+bias".into()));
            all.extend(activation(c.act));
        }
        Op::Normalize(n) => {
            if n.order.iter().enumerate().any(|(to, from)| to != *from) {
                all.push(format!("order {:?}", n.order));
            }
        }
        Op::Pad(p) => {
            all.extend(padding(p.pad));
            all.extend(p.value.map(|_| "+value".into()));
        }
        Op::Conv(c) => {
            all.extend(window(c.kernel, c.stride, c.pad));
            all.extend(dilation(c.dilation));
            all.extend((c.groups != 1).then(|| format!("g{}", c.groups)));
            all.extend(c.pad_value.map(|_| "+value".into()));
            all.extend(c.bias.map(|_| "+bias".into()));
            all.extend(c.residual.then(|| "+residual".into()));
            all.extend(activation(c.act));
            all.extend(c.pool.then(|| "+pool".into()));
        }
        Op::Depthwise(d) => {
            all.extend(window(d.kernel, d.stride, d.pad));
            all.extend(dilation(d.dilation));
            all.extend((d.multiplier != 1).then(|| format!("m{}", d.multiplier)));
            all.extend(d.pad_value.map(|_| "+value".into()));
            all.extend(d.bias.map(|_| "+bias".into()));
            all.extend(activation(d.act));
        }
        Op::BatchNorm(b) => all.push(format!("eps {}", b.eps)),
        Op::Act(act) => all.extend(activation(*act).or(Some("none".into()))),
        Op::Add(act) | Op::Scale(act) => all.extend(activation(*act)),
        Op::Pool(p) => {
            // The kind is in the name of the op.
            let (PoolKind::Max | PoolKind::Average) = p.kind;
            all.extend(window(p.kernel, p.stride, p.pad));
            all.extend(p.count_padding.then(|| "+padding".into()));
        }
        Op::Dense(d) => {
            all.extend(d.bias.map(|_| "+bias".into()));
            all.extend(activation(d.act));
        }
    }
    all.join(" ")
}

/// `3..7`, `0,2,4`, `0,3,1,4,2,5,... (24)`
fn indices(table: &[i32]) -> String {
    const SHOWN: usize = 6;
    if let [first, .., last] = table
        && table.windows(2).all(|pair| pair[1] == pair[0] + 1)
    {
        return format!("{first}..{}", last + 1);
    }
    let shown: Vec<String> = table.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if table.len() > SHOWN { format!(",... ({})", table.len()) } else { String::new() };
    shown.join(",") + &more
}

fn activation(act: Activation) -> Option<String> {
    (act != Activation::None).then(|| act.to_string())
}

fn dilation([y, x]: [usize; 2]) -> Option<String> {
    let text = if y == x { format!("d{y}") } else { format!("d{y}x{x}") };
    ([y, x] != [1, 1]).then_some(text)
}

fn padding(p: Padding) -> Option<String> {
    (!p.is_zero()).then(|| format!("p{},{},{},{}", p.top, p.left, p.bottom, p.right))
}

/// Kernel, stride if there is one, padding if there is any; a 1x1 kernel at stride 1 goes without saying.
fn window(kernel: [usize; 2], stride: [usize; 2], pad: Padding) -> Vec<String> {
    let mut all = Vec::new();
    if kernel != [1, 1] || stride != [1, 1] || !pad.is_zero() {
        all.push(format!("{}x{}", kernel[0], kernel[1]));
    }
    if stride != [1, 1] {
        all.push(if stride[0] == stride[1] { format!("s{}", stride[0]) } else { format!("s{}x{}", stride[0], stride[1]) });
    }
    all.extend(padding(pad));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Shape;
    use crate::ir::op::{Depthwise, Pool};

    #[test]
    fn numbers_are_compact_and_columns_line_up() {
        let mut g = Graph::default();
        let x = g.add_input("picture", Shape::hwc(8, 8, 3));
        let gone = g.add("gone", Op::Act(Activation::Relu), &[x]).unwrap();
        let weight = g.consts.add(vec![0.0; 54]);
        let pad = Padding { top: 1, left: 0, bottom: 1, right: 2 };
        let d = Depthwise {
            channels: 3,
            multiplier: 2,
            kernel: [3, 3],
            stride: [2, 1],
            dilation: [1, 1],
            pad,
            pad_value: None,
            weight,
            bias: None,
            act: Activation::HSwish,
        };
        let d = g.add("dw", Op::Depthwise(d), &[x]).unwrap();
        g.remove(gone);
        let p = Pool { kind: PoolKind::Average, kernel: [2, 2], stride: [2, 2], pad: Padding::ZERO, count_padding: false };
        let p = g.add("pool", Op::Pool(p), &[d]).unwrap();
        g.outputs.push(p);
        assert_eq!(
            text(&g),
            "%0 = input                                    1x8x8x3 picture\n\
             %1 = depthwise 3x3 s2x1 p1,0,1,2 m2 hswish %0 1x4x8x6 dw\n\
             %2 = avg_pool 2x2 s2 %1                       1x2x4x6 pool\n\
             return %2\n"
        );
    }
}
