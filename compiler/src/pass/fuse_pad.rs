//! Lets convolutions pad by themselves.
//!
//! ```text
//! x ── pad p, v ── conv q, v     =>   x ── conv p + q, v
//! ```
//!
//! `v` is what the padding holds, per channel; a convolution that pads already takes more only of the same content. Pools are
//! refused: their own padding is no element, a padding node's is.

use super::{Pass, Remarks, name};
use crate::front::PassOptions;
use crate::ir::op::{Op, ShapeError};
use crate::ir::{ConstId, Graph, NodeId, Padding};

pub(super) const PASS: Pass = Pass { name: "fuse_pad", summary: "let convolutions pad their input themselves", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    // Of two paddings in a row the later goes first, so that the earlier finds the convolution behind it.
    for id in graph.topo().into_iter().rev() {
        if !matches!(graph.op(id), Op::Pad(_)) {
            continue;
        }
        let mut users = graph.users(id);
        users.dedup();
        let mut fused = false;
        for user in users {
            match fuse(graph, id, user)? {
                Ok(()) => {
                    remarks.did(name(graph, id), format!("fused into {}", name(graph, user)));
                    fused = true;
                }
                Err(why) => remarks.refused(name(graph, id), why),
            }
        }
        if fused && graph.users(id).is_empty() && !graph.outputs.contains(&id) {
            graph.remove(id);
        }
        changed |= fused;
    }
    Ok(changed)
}

/// The outer error is a mistake of this pass, the inner one a refusal.
fn fuse(graph: &mut Graph, id: NodeId, user: NodeId) -> Result<Result<(), String>, ShapeError> {
    let Op::Pad(pad) = graph.op(id).clone() else { return Ok(Err("it is no padding".into())) };
    let mut inputs = graph.inputs_of(user);
    let user_name = name(graph, user);
    if inputs[0] != id || inputs[1..].contains(&id) {
        return Ok(Err(format!("{user_name} reads it as a second operand")));
    }
    let mut op = graph.op(user).clone();
    let (own, own_value) = match &mut op {
        Op::Conv(c) if c.pool => return Ok(Err(format!("{user_name} has a fused pool and cannot pad"))),
        Op::Conv(c) => (&mut c.pad, &mut c.pad_value),
        Op::Depthwise(d) => (&mut d.pad, &mut d.pad_value),
        Op::Pool(_) => return Ok(Err(format!("{user_name} is a pool: its padding would be no element"))),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::GlobalPool
        | Op::Dense(_)
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose(_)
        | Op::Softmax => return Ok(Err(format!("{user_name} is no convolution"))),
    };
    if own.is_zero() {
        *own_value = pad.value;
    } else if !same_content(graph, pad.value, *own_value) {
        return Ok(Err(format!("{user_name} already pads with other values")));
    }
    *own = sum(*own, pad.pad);
    inputs[0] = graph.inputs_of(id)[0];
    graph.replace(user, op, &inputs)?;
    Ok(Ok(()))
}

fn sum(a: Padding, b: Padding) -> Padding {
    Padding { top: a.top + b.top, left: a.left + b.left, bottom: a.bottom + b.bottom, right: a.right + b.right }
}

/// Whether two paddings hold the same; an absent content is zeros.
fn same_content(graph: &Graph, a: Option<ConstId>, b: Option<ConstId>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => graph.consts.get(a) == graph.consts.get(b),
        (Some(v), None) | (None, Some(v)) => graph.consts.get(v).iter().all(|&v| v == 0.0),
    }
}
