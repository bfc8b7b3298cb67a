//! Lets a pointwise convolution scale its input channels: the end of squeeze-and-excite costs no pass over memory.
//!
//! ```text
//! x ── scale s ── pointwise     =>   x ── pointwise, scaled by s
//! ```
//!
//! Refused where an activation stands between (the order of MobileNetV3's reference code is fused, the other is not), where
//! the scaled tensor is also read elsewhere, and where its reader is no pointwise convolution.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::Graph;
use crate::ir::op::{Activation, Op, ShapeError};

pub(super) const PASS: Pass =
    Pass { name: "fuse_se", summary: "let pointwise convolutions scale their input channels", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        let Op::Scale(act) = *graph.op(id) else { continue };
        let this = name(graph, id);
        if act != Activation::None {
            remarks.refused(this, "an activation follows the scaling");
            continue;
        }
        let Some(user) = graph.single_user(id) else {
            remarks.refused(this, readers(graph, id));
            continue;
        };
        let user_name = name(graph, user);
        let op = match graph.op(user).clone() {
            Op::Conv(mut c) if c.is_pointwise() && !c.scaled && graph.inputs_of(user)[0] == id => {
                c.scaled = true;
                Op::Conv(c)
            }
            Op::Conv(c) if c.scaled => {
                remarks.refused(this, format!("{user_name} already scales its input"));
                continue;
            }
            Op::Conv(c) if !c.is_pointwise() => {
                remarks.refused(this, format!("{user_name} is no pointwise convolution"));
                continue;
            }
            Op::Conv(_) => {
                remarks.refused(this, format!("{user_name} reads it as its residual"));
                continue;
            }
            Op::Act(_) => {
                remarks.refused(this, "an activation follows the scaling");
                continue;
            }
            Op::Input
            | Op::Constant(_)
            | Op::Normalize(_)
            | Op::Pad(_)
            | Op::Depthwise(_)
            | Op::BatchNorm(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Dense(_)
            | Op::Softmax => {
                remarks.refused(this, format!("{user_name} is no pointwise convolution"));
                continue;
            }
        };
        let mut inputs = graph.inputs_of(user);
        inputs.splice(0..1, graph.inputs_of(id));
        graph.replace(user, op, &inputs)?;
        graph.remove(id);
        remarks.did(this, format!("fused into {user_name}"));
        changed = true;
    }
    Ok(changed)
}
