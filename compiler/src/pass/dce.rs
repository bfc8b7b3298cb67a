//! Removes nodes from which no output can be reached. Graph inputs stay: they are the net's interface.
//!
//! ```text
//! x ── a ── y (output)          x ── a ── y
//! └─── b                   =>
//! ```

use super::{Pass, Remarks, name};
use crate::front::PassOptions;
use crate::ir::Graph;
use crate::ir::op::{Op, ShapeError};

pub(super) const PASS: Pass = Pass { name: "dce", summary: "remove nodes that no output depends on", exact: true, run };

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    // Readers before what they read: a whole dead chain goes in one sweep.
    for id in graph.topo().into_iter().rev() {
        let dead = graph.users(id).is_empty() && !graph.outputs.contains(&id) && !matches!(graph.op(id), Op::Input);
        if dead {
            remarks.did(name(graph, id), "removed: no output depends on it");
            graph.remove(id);
            changed = true;
        }
    }
    Ok(changed)
}
