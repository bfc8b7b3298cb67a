//! Computes what depends on constants only, and removes nodes that change nothing.
//!
//! ```text
//! constant ── act ── scale           constant' ── scale
//! x ── pad 0 ── act none ── conv =>  x ── conv
//! ```
//!
//! Nodes that change nothing: padding of no rows and columns, activation `none`, a 1x1 pool at stride 1, global pooling of one
//! pixel, normalisation by 1 and 0 in the given order; joining one tensor, gathering, reshaping or transposing to what is there,
//! means over axes of one.
//!
//! What is computed has a bound ([`Budget`]): a constant of a few numbers can be stretched to gigabytes, and is then left to the net.

use std::collections::HashSet;

use super::{Pass, Remarks, name};
use crate::front::PassOptions;
use crate::ir::op::{Activation, Op, ShapeError};
use crate::ir::{Graph, NodeId, eval};

pub(super) const PASS: Pass =
    Pass { name: "fold_const", summary: "compute nodes of constant inputs, remove nodes that change nothing", exact: true, run };

/// What may be computed: elements of results, those of the graph's constants four times and 16 million more; and steps of the
/// naive loops, some seconds of them.
struct Budget {
    elements: usize,
    steps: u64,
}

impl Budget {
    const EACH: usize = 4;
    const FREE: usize = 1 << 24;
    const STEPS: u64 = 1 << 31;

    fn of(graph: &Graph) -> Self {
        let constants =
            graph.nodes().into_iter().filter_map(|id| if let Op::Constant(c) = graph.op(id) { Some(*c) } else { None });
        let held: usize = constants.collect::<HashSet<_>>().into_iter().map(|c| graph.consts.get(c).len()).sum();
        Self { elements: held.saturating_mul(Self::EACH).saturating_add(Self::FREE), steps: Self::STEPS }
    }

    /// Takes what the node costs, if there is so much.
    fn take(&mut self, graph: &Graph, id: NodeId) -> Option<()> {
        let (inputs, out) = (graph.input_shapes(id), graph.shape(id).elements());
        let window = if let Op::Pool(pool) = graph.op(id) { pool.kernel[0] * pool.kernel[1] } else { 1 };
        let moved = out.saturating_mul(window).saturating_add(inputs.iter().map(|s| s.elements()).sum());
        let steps = graph.op(id).macs(&inputs, graph.shape(id)).saturating_add(moved as u64);
        (self.elements, self.steps) = (self.elements.checked_sub(out)?, self.steps.checked_sub(steps)?);
        Some(())
    }
}

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    let mut budget = Budget::of(graph);
    for id in graph.topo() {
        if let Some(why) = no_effect(graph, id) {
            remarks.did(name(graph, id), format!("removed: {why}"));
            graph.redirect(id, graph.inputs_of(id)[0]);
            graph.remove(id);
            changed = true;
        } else if is_constant(graph, id) {
            if budget.take(graph, id).is_none() {
                remarks.refused(name(graph, id), format!("its value of {} is too large to be computed here", graph.shape(id)));
                continue;
            }
            fold(graph, id)?;
            remarks.did(name(graph, id), "computed: all its inputs are constants");
            changed = true;
        }
    }
    Ok(changed)
}

/// Why the node's output is its input, if it is.
fn no_effect(graph: &Graph, id: NodeId) -> Option<&'static str> {
    match graph.op(id) {
        Op::Pad(p) => p.pad.is_zero().then_some("it pads by nothing"),
        Op::Act(act) => (*act == Activation::None).then_some("there is no activation in it"),
        Op::Pool(p) => (p.kernel == [1, 1] && p.stride == [1, 1]).then_some("its window is one element"),
        Op::GlobalPool => (graph.input_shapes(id)[0] == graph.shape(id)).then_some("its input is one pixel"),
        Op::Concat(_) => (graph.inputs_of(id).len() == 1).then_some("it joins nothing to its input"),
        Op::Gather(g) => g.is_identity(graph.input_shapes(id)[0]).then_some("it takes all as it is"),
        Op::Reshape(shape) => (graph.input_shapes(id)[0] == *shape).then_some("its input has that shape"),
        Op::Transpose(order) => (*order == [0, 1, 2]).then_some("it leaves the axes where they are"),
        Op::Mean { .. } => (graph.input_shapes(id)[0] == graph.shape(id)).then_some("its axes are one already"),
        Op::Normalize(n) => {
            let all = |constant, value: f32| graph.consts.get(constant).iter().all(|&v| v == value);
            let same = n.order.iter().enumerate().all(|(to, &from)| to == from) && all(n.scale, 1.0) && all(n.shift, 0.0);
            same.then_some("it scales by 1 and adds 0")
        }
        Op::Input
        | Op::Constant(_)
        | Op::Conv(_)
        | Op::Depthwise(_)
        | Op::BatchNorm(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Dense(_)
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Interpolate { .. }
        | Op::ConvTranspose(_)
        | Op::Softmax => None,
    }
}

/// Whether the node reads something, and nothing but constants.
fn is_constant(graph: &Graph, id: NodeId) -> bool {
    let inputs = graph.inputs_of(id);
    !inputs.is_empty() && inputs.iter().all(|&i| matches!(graph.op(i), Op::Constant(_)))
}

/// Replaces a node of constant inputs by its value.
fn fold(graph: &mut Graph, id: NodeId) -> Result<(), ShapeError> {
    let constant = |i: NodeId| if let Op::Constant(value) = graph.op(i) { graph.consts.get(*value) } else { &[] };
    let values: Vec<&[f32]> = graph.inputs_of(id).into_iter().map(constant).collect();
    let value = eval::node(graph.op(id), &graph.consts, &graph.input_shapes(id), graph.shape(id), &values);
    let value = graph.consts.add(value);
    graph.replace(id, Op::Constant(value), &[])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Shape;
    use crate::ir::op::{Activation, Binary, BinaryKind};

    /// `column * row` of constants, and an addition of it to the input.
    fn stretched(rows: usize, columns: usize) -> (Graph, NodeId) {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(rows, columns, 1));
        let column = g.add_constant("column", Shape::hwc(rows, 1, 1), vec![2.0; rows]);
        let row = g.add_constant("row", Shape::hwc(1, columns, 1), vec![3.0; columns]);
        let product = Op::Binary(Binary { kind: BinaryKind::Mul, act: Activation::None });
        let product = g.add("product", product, &[column, row]).unwrap();
        let sum = g.add("sum", Op::Add(Activation::None), &[x, product]).unwrap();
        g.outputs.push(sum);
        (g, product)
    }

    #[test]
    fn what_would_be_too_large_stays() {
        for (rows, columns, folds) in [(4, 5, true), (1 << 12, 1 << 12, true), (1 << 13, 1 << 13, false)] {
            let (mut graph, product) = stretched(rows, columns);
            let mut remarks = Remarks::of(&PASS);
            assert_eq!(run(&mut graph, &PassOptions::default(), &mut remarks), Ok(folds), "{rows} x {columns}");
            assert_eq!(matches!(graph.op(product), Op::Constant(_)), folds);
            assert_eq!(remarks.all.last().map(|r| r.done), Some(folds));
        }
    }
}
