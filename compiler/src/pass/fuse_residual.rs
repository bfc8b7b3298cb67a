//! Lets a convolution add the residual while its sums are still in registers.
//!
//! ```text
//! a ─────────────┐                    a ──────┐
//! x ── conv ── add, act     =>        x ── conv + residual, act
//! ```
//!
//! Refused where the convolution has an activation of its own or its output is also read. Where both operands are such
//! convolutions, the one computed later is taken: the other must be there first anyway, and dies with the sum, so the plan can
//! add in place. Whether it can is in the remark.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::op::{Activation, Op, ShapeError};
use crate::ir::{Graph, NodeId};

pub(super) const PASS: Pass =
    Pass { name: "fuse_residual", summary: "let convolutions add the residual to their sums", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        let Op::Add(act) = *graph.op(id) else { continue };
        let this = name(graph, id);
        let operands = graph.inputs_of(id);
        let order = graph.topo();
        let mut best: Option<(Option<usize>, usize)> = None;
        let mut reasons = Vec::new();
        for (at, &conv) in operands.iter().enumerate() {
            match refusal(graph, conv) {
                Some(why) => reasons.push(why),
                None => best = best.max(Some((order.iter().position(|&o| o == conv), at))),
            }
        }
        let Some((_, at)) = best else {
            reasons.dedup();
            remarks.refused(this, reasons.join("; "));
            continue;
        };
        let (conv, other) = (operands[at], operands[1 - at]);
        let in_place = dies(graph, other, conv, id, &order);
        let Op::Conv(mut op) = graph.op(conv).clone() else { continue };
        op.residual = true;
        op.act = act;
        let mut inputs = graph.inputs_of(conv);
        inputs.push(other);
        graph.replace(conv, Op::Conv(op), &inputs)?;
        graph.redirect(id, conv);
        graph.remove(id);
        let place = if in_place { "in place" } else { "that must be kept" };
        remarks.did(this, format!("fused into {}, residual {} {place}", name(graph, conv), name(graph, other)));
        changed = true;
    }
    Ok(changed)
}

/// Why `id` cannot take the sum into itself, if so.
fn refusal(graph: &Graph, id: NodeId) -> Option<String> {
    let this = name(graph, id);
    match graph.op(id) {
        Op::Conv(c) => {
            if c.act != Activation::None {
                Some(format!("{this} has an activation before the sum"))
            } else if c.residual || c.pool {
                Some(format!("{this} has something fused after its sum"))
            } else if graph.single_user(id).is_none() {
                Some(readers(graph, id))
            } else {
                None
            }
        }
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Depthwise(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
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
        | Op::Softmax => Some(format!("{this} is no dense convolution")),
    }
}

/// Whether nothing reads `other` after `conv` and it stands in memory that may be overwritten.
fn dies(graph: &Graph, other: NodeId, conv: NodeId, add: NodeId, order: &[NodeId]) -> bool {
    let position = |id: NodeId| order.iter().position(|&o| o == id);
    !matches!(graph.op(other), Op::Input | Op::Constant(_))
        && !graph.outputs.contains(&other)
        && graph.users(other).into_iter().all(|user| user == add || position(user) < position(conv))
}
