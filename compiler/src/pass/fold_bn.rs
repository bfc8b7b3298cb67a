//! Folds batch norm into the weights and bias of the convolution or dense layer before it.
//!
//! ```text
//! x ── conv w, b ── batch_norm        =>   x ── conv w', b'
//! w'[.., o] = w[.., o] * s[o]    b'[o] = b[o] * s[o] + t[o]    s = gamma / sqrt(variance + eps), t = beta - mean * s
//! ```
//!
//! Computed in f64 and rounded once. Refused where the convolution's output is also read without the batch norm, and where
//! something stands between the sum and the batch norm.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::op::{Activation, Op, ShapeError};
use crate::ir::{ConstId, Graph, NodeId};

pub(super) const PASS: Pass =
    Pass { name: "fold_bn", summary: "fold batch norm into the weights and bias of the layer before it", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        if !matches!(graph.op(id), Op::BatchNorm(_)) {
            continue;
        }
        let bn = name(graph, id);
        match fold(graph, id)? {
            Ok(message) => {
                remarks.did(bn, message);
                changed = true;
            }
            Err(why) => remarks.refused(bn, why),
        }
    }
    Ok(changed)
}

/// The outer error is a mistake of this pass, the inner one a refusal.
fn fold(graph: &mut Graph, id: NodeId) -> Result<Result<String, String>, ShapeError> {
    let layer = graph.inputs_of(id)[0];
    let mut op = graph.op(layer).clone();
    if let Err(why) = allowed(graph, layer, &op) {
        return Ok(Err(why));
    }
    let (Op::BatchNorm(bn), Some((weight, bias))) = (graph.op(id), linear(&mut op)) else {
        return Ok(Err("there is no layer before it".into()));
    };
    let affine = bn.affine(&graph.consts);
    let channels = affine.len();
    // The output channel is the fastest index of every weight layout.
    let scaled: Vec<f32> =
        graph.consts.get(*weight).iter().enumerate().map(|(i, &w)| (f64::from(w) * affine[i % channels].0) as f32).collect();
    let old = bias.map(|b| graph.consts.get(b));
    let shifted: Vec<f32> = affine
        .iter()
        .enumerate()
        .map(|(o, &(scale, shift))| (old.map_or(0.0, |b| f64::from(b[o])) * scale + shift) as f32)
        .collect();
    if !scaled.iter().chain(&shifted).all(|v| v.is_finite()) {
        return Ok(Err("the folded weights would not be finite".into()));
    }
    *weight = graph.consts.add(scaled);
    *bias = Some(graph.consts.add(shifted));
    let inputs = graph.inputs_of(layer);
    graph.replace(layer, op, &inputs)?;
    graph.redirect(id, layer);
    graph.remove(id);
    Ok(Ok(format!("folded into {}", name(graph, layer))))
}

/// Weight and bias of a layer that is linear in its input.
fn linear(op: &mut Op) -> Option<(&mut ConstId, &mut Option<ConstId>)> {
    match op {
        Op::Conv(o) => Some((&mut o.weight, &mut o.bias)),
        Op::Depthwise(o) => Some((&mut o.weight, &mut o.bias)),
        Op::ConvTranspose(o) => Some((&mut o.weight, &mut o.bias)),
        Op::Dense(o) => Some((&mut o.weight, &mut o.bias)),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
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
        | Op::Softmax => None,
    }
}

/// Whether nothing but the batch norm reads the bare sum of `layer`.
fn allowed(graph: &Graph, layer: NodeId, op: &Op) -> Result<(), String> {
    let (act, residual, pool) = match op {
        Op::Conv(o) => (o.act, o.residual, o.pool),
        Op::Depthwise(o) => (o.act, false, false),
        Op::ConvTranspose(o) => (o.act, false, false),
        Op::Dense(o) => (o.act, false, false),
        Op::Act(_) => return Err(format!("an activation, {}, stands between it and the layer before", name(graph, layer))),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
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
        | Op::Softmax => return Err(format!("{} before it is no convolution or dense layer", name(graph, layer))),
    };
    if graph.single_user(layer).is_none() {
        return Err(readers(graph, layer));
    }
    if act != Activation::None || residual || pool {
        return Err(format!("{} has something fused after its sum", name(graph, layer)));
    }
    Ok(())
}
