//! Lets a pointwise convolution average its output: the widest tensor before the classifier is never written.
//!
//! ```text
//! x ── pointwise, act ── global_pool     =>   x ── pointwise, act, pool
//! ```
//!
//! Refused where the convolution's output is also read elsewhere, or has a residual.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::Graph;
use crate::ir::op::{Op, ShapeError};

pub(super) const PASS: Pass =
    Pass { name: "fuse_pool", summary: "let pointwise convolutions average their output", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        if !matches!(graph.op(id), Op::GlobalPool) {
            continue;
        }
        let this = name(graph, id);
        let before = graph.inputs_of(id)[0];
        let before_name = name(graph, before);
        let op = match graph.op(before).clone() {
            Op::Conv(mut c) if c.is_pointwise() && !c.residual && !c.pool => {
                c.pool = true;
                Op::Conv(c)
            }
            Op::Conv(c) if c.is_pointwise() => {
                remarks.refused(this, format!("{before_name} has something fused after its sum"));
                continue;
            }
            op @ (Op::Conv(_)
            | Op::Input
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
            | Op::Softmax) => {
                remarks.refused(this, format!("{before_name} ({}) is no pointwise convolution", op.name()));
                continue;
            }
        };
        if graph.single_user(before).is_none() {
            remarks.refused(this, readers(graph, before));
            continue;
        }
        let inputs = graph.inputs_of(before);
        graph.replace(before, op, &inputs)?;
        graph.redirect(id, before);
        graph.remove(id);
        remarks.did(this, format!("fused into {before_name}"));
        changed = true;
    }
    Ok(changed)
}
