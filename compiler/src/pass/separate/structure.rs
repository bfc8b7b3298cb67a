//! The paper's layer: depthwise + batch norm + activation, pointwise + batch norm + activation (figure 3 of arXiv 1704.04861).

use super::super::name;
use super::split_names;
use crate::ir::op::{Activation, BatchNorm, Conv, Depthwise, Op, ShapeError};
use crate::ir::random::Random;
use crate::ir::{ConstId, Graph, NodeId, Padding};

/// Replaces the convolution at `id`: it becomes the pointwise convolution, keeps what follows it, and gets a depthwise convolution
/// with batch norm and activation before it. Those mirror what follows: batch norm (identical to begin with, of the same `eps`),
/// bias and activation only where the convolution has them. Weights are seeded by the layers' names.
pub(super) fn rewrite(graph: &mut Graph, id: NodeId, conv: &Conv) -> Result<(), ShapeError> {
    let (bn, act) = followers(graph, id, conv);
    let (c, taps) = (conv.in_c, conv.kernel[0] * conv.kernel[1]);
    let seeded = |name: &str, n: usize, fan_in: usize| Random::keyed(0, &format!("{name}.weight")).he(n, fan_in);
    let first = split_names(graph, id);
    let depthwise = Op::Depthwise(Depthwise {
        channels: c,
        multiplier: 1,
        kernel: conv.kernel,
        stride: conv.stride,
        dilation: conv.dilation,
        pad: conv.pad,
        pad_value: conv.pad_value,
        weight: graph.consts.add(seeded(&first, taps * c, taps)),
        bias: conv.bias.map(|_| graph.consts.add(vec![0.0; c])),
        act: Activation::None,
    });
    let mut inputs = graph.inputs_of(id);
    let mut x = graph.add(first.clone(), depthwise, &inputs[..1])?;
    if let Some(eps) = bn {
        let mut all = |value: f32| -> ConstId { graph.consts.add(vec![value; c]) };
        let bn = BatchNorm { gamma: all(1.0), beta: all(0.0), mean: all(0.0), variance: all(1.0), eps };
        x = graph.add(format!("{first}.bn"), Op::BatchNorm(bn), &[x])?;
    }
    if act != Activation::None {
        x = graph.add(format!("{first}.act"), Op::Act(act), &[x])?;
    }
    inputs[0] = x;
    let weight = graph.consts.add(seeded(&name(graph, id), c * conv.out_c, c));
    let pointwise =
        Conv { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pad: Padding::ZERO, pad_value: None, weight, ..conv.clone() };
    graph.replace(id, Op::Conv(pointwise), &inputs)
}

/// `eps` of the batch norm and the activation that follow, where they do.
fn followers(graph: &Graph, id: NodeId, conv: &Conv) -> (Option<f64>, Activation) {
    let mut next = graph.single_user(id);
    let mut bn = None;
    if let Some((user, Op::BatchNorm(b))) = next.map(|user| (user, graph.op(user))) {
        bn = Some(b.eps);
        next = graph.single_user(user);
    }
    match next.map(|user| graph.op(user)) {
        Some(Op::Act(act)) => (bn, *act),
        Some(_) | None => (bn, conv.act),
    }
}
