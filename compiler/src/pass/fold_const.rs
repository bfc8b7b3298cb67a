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

use super::{Pass, Remarks, name};
use crate::front::PassOptions;
use crate::ir::op::{Activation, Op, ShapeError};
use crate::ir::{Graph, NodeId, eval};

pub(super) const PASS: Pass =
    Pass { name: "fold_const", summary: "compute nodes of constant inputs, remove nodes that change nothing", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        if let Some(why) = no_effect(graph, id) {
            remarks.did(name(graph, id), format!("removed: {why}"));
            graph.redirect(id, graph.inputs_of(id)[0]);
            graph.remove(id);
            changed = true;
        } else if fold(graph, id)? {
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

/// Replaces a node of constant inputs by its value.
fn fold(graph: &mut Graph, id: NodeId) -> Result<bool, ShapeError> {
    let inputs = graph.inputs_of(id);
    let mut values = Vec::with_capacity(inputs.len());
    for &input in &inputs {
        let Op::Constant(value) = graph.op(input) else { return Ok(false) };
        values.push(graph.consts.get(*value));
    }
    if values.is_empty() {
        return Ok(false);
    }
    let value = eval::node(graph.op(id), &graph.consts, &graph.input_shapes(id), graph.shape(id), &values);
    let value = graph.consts.add(value);
    graph.replace(id, Op::Constant(value), &[])?;
    Ok(true)
}
