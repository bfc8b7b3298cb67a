//! Lets the op before an activation apply it.
//!
//! ```text
//! x ── conv ── act relu6     =>   x ── conv relu6
//! ```
//!
//! Also depthwise convolutions, dense layers, sums and scalings. Refused where the value before the activation is also read,
//! and where the op before cannot carry one.

use super::{Pass, Remarks, name, readers};
use crate::front::PassOptions;
use crate::ir::Graph;
use crate::ir::op::{Activation, Op, ShapeError};

pub(super) const PASS: Pass = Pass { name: "fuse_act", summary: "let the op before an activation apply it", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        let Op::Act(act) = *graph.op(id) else { continue };
        let this = name(graph, id);
        let before = graph.inputs_of(id)[0];
        if graph.single_user(before).is_none() {
            remarks.refused(this, readers(graph, before));
            continue;
        }
        let mut op = graph.op(before).clone();
        let pooled = matches!(&op, Op::Conv(c) if c.pool);
        match op.activation_mut() {
            Some(fused) if *fused == Activation::None && !pooled => *fused = act,
            Some(_) => {
                remarks.refused(this, format!("{} has something fused after its sum", name(graph, before)));
                continue;
            }
            None => {
                remarks.refused(this, format!("{} ({}) carries no activation", name(graph, before), op.name()));
                continue;
            }
        }
        let inputs = graph.inputs_of(before);
        graph.replace(before, op, &inputs)?;
        graph.redirect(id, before);
        graph.remove(id);
        remarks.did(this, format!("fused into {}", name(graph, before)));
        changed = true;
    }
    Ok(changed)
}
