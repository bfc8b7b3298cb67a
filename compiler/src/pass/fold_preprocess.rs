//! Folds the normalisation of pixels into the first layer, so that the net takes raw pixels at no cost.
//!
//! ```text
//! x ── normalize order, s, t ── conv w, b, padding p   =>   x ── conv w', b', padding p'
//! w'[.., order[c], o] = w[.., c, o] * s[c]     b'[o] = b[o] + sum over taps and c of w[.., c, o] * t[c]
//! p'[order[c]] = (p[c] - t[c]) / s[c]
//! ```
//!
//! The convolution pads the *normalised* picture (with zeros, mostly). The bias now adds `w * t` for padded taps too, so the
//! padding must hold the raw pixel value that normalises to `p`: then every border pixel is what it was, up to rounding.
//! Computed in f64 and rounded once. A depthwise or grouped convolution keeps its channels in place, so
//! there only the identical order is folded.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::op::{Normalize, Op, ShapeError};
use crate::ir::{ConstId, Graph, NodeId, Padding};

pub(super) const PASS: Pass = Pass {
    name: "fold_preprocess",
    summary: "fold pixel normalisation and channel order into the first layer",
    exact: true,
    run,
};

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        let Op::Normalize(normalize) = graph.op(id).clone() else { continue };
        let this = name(graph, id);
        let Some(layer) = graph.single_user(id) else {
            remarks.refused(this, readers(graph, id));
            continue;
        };
        match fold(graph, &normalize, id, layer) {
            Err(why) => remarks.refused(this, why),
            Ok(op) => {
                let mut inputs = graph.inputs_of(layer);
                inputs[0] = graph.inputs_of(id)[0];
                graph.replace(layer, op, &inputs)?;
                graph.remove(id);
                remarks.did(this, format!("folded into {}", name(graph, layer)));
                changed = true;
            }
        }
    }
    Ok(changed)
}

/// The op of `layer` on raw pixels, or why it cannot be had.
fn fold(graph: &mut Graph, n: &Normalize, id: NodeId, layer: NodeId) -> Result<Op, String> {
    let layer_name = name(graph, layer);
    if graph.inputs_of(layer)[0] != id {
        return Err(format!("{layer_name} reads it as a second operand"));
    }
    let mut op = graph.op(layer).clone();
    // Every layer as a convolution in groups; a depthwise one has as many as channels.
    let no_padding = &mut None;
    let (in_c, out_c, groups, weight, bias, pad, pad_value) = match &mut op {
        Op::Conv(c) => (c.in_c, c.out_c, c.groups, &mut c.weight, &mut c.bias, c.pad, &mut c.pad_value),
        Op::Depthwise(d) => {
            (d.channels, d.channels * d.multiplier, d.channels, &mut d.weight, &mut d.bias, d.pad, &mut d.pad_value)
        }
        Op::Dense(d) => (d.in_c, d.out_c, 1, &mut d.weight, &mut d.bias, Padding::ZERO, no_padding),
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
        | Op::ConvTranspose(_)
        | Op::Softmax => return Err(format!("{layer_name} is no convolution or dense layer")),
    };
    if groups > 1 && n.order.iter().enumerate().any(|(to, &from)| to != from) {
        return Err(format!("the channels change places and {layer_name} is depthwise or in groups"));
    }
    let [scale, shift] = [n.scale, n.shift].map(|c| graph.consts.get(c).iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    let raw = if pad.is_zero() { None } else { Some(raw_padding(graph, n, *pad_value, &scale, &shift)?) };
    let old = graph.consts.get(*weight);
    let mut new = vec![0f32; old.len()];
    let mut sums = bias.map_or_else(|| vec![0.0; out_c], |b| graph.consts.get(b).iter().map(|&v| f64::from(v)).collect());
    // [tap][row][o]: row `r` of output channel `o` multiplies channel `r` of the group of `o`.
    let rows = in_c / groups;
    for (i, &w) in old.iter().enumerate() {
        let (tap, r, o) = (i / out_c / rows, i / out_c % rows, i % out_c);
        let c = o / (out_c / groups) * rows + r;
        let to = if groups > 1 { r } else { n.order[r] };
        new[(tap * rows + to) * out_c + o] = (f64::from(w) * scale[c]) as f32;
        sums[o] += f64::from(w) * shift[c];
    }
    let sums: Vec<f32> = sums.into_iter().map(|v| v as f32).collect();
    if !new.iter().chain(&sums).chain(raw.iter().flatten()).all(|v| v.is_finite()) {
        return Err("the folded weights would not be finite".into());
    }
    *weight = graph.consts.add(new);
    *bias = Some(graph.consts.add(sums));
    *pad_value = raw.map(|raw| graph.consts.add(raw));
    Ok(op)
}

/// What the padding must hold for its normalised value to stay.
fn raw_padding(graph: &Graph, n: &Normalize, value: Option<ConstId>, scale: &[f64], shift: &[f64]) -> Result<Vec<f32>, String> {
    let mut raw = vec![0.0; n.order.len()];
    for (c, &from) in n.order.iter().enumerate() {
        let value = value.map_or(0.0, |v| f64::from(graph.consts.get(v)[c]));
        if scale[c] == 0.0 {
            return Err(format!("channel {c} is scaled by 0: no raw pixel value normalises to what the padding holds"));
        }
        raw[from] = ((value - shift[c]) / scale[c]) as f32;
    }
    Ok(raw)
}
