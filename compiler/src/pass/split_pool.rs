//! Averages the pixels of each row first, then the rows: threads that share an image by rows each read what they wrote.
//!
//! ```text
//! x ── global_pool    =>   x ── pool 1xW ── global_pool
//! ```
//! A mean over all pixels is shared by channels, so that every thread reads rows of all the others, whose caches must give them up
//! once more when the image is written next, as that of a squeeze-and-excite block is at once, by the scale. Row by row no thread
//! reads another's. Images of narrow rows, which threads share by channels anyway, are left alone.
//!
//! Behind `fuse_pool`, which takes the pools that no kernel has to compute.

use super::{Pass, Remarks, fresh, name, taken};
use crate::front::PassOptions;
use crate::ir::op::{Op, Pool, PoolKind, ShapeError};
use crate::ir::{Graph, Padding, Shape};

pub(super) const PASS: Pass =
    Pass { name: "split_pool", summary: "average wide images row by row, then the rows", exact: true, run };

/// Pixels of a row from which an image is shared by rows, as `plan/cost.rs` has it.
const WIDE: usize = 14;

/// Whether the mean over all pixels of `image` is taken row by row.
pub(crate) fn is_split(image: Shape) -> bool {
    image.w >= WIDE && image.h >= 2
}

fn run(graph: &mut Graph, _: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    let mut changed = false;
    for id in graph.topo() {
        if !matches!(graph.op(id), Op::GlobalPool) {
            continue;
        }
        let this = name(graph, id);
        let image = graph.inputs_of(id)[0];
        let shape = graph.shape(image);
        if !is_split(shape) {
            remarks.refused(this, format!("{} by {} pixels are not shared by rows", shape.h, shape.w));
            continue;
        }
        let rows = fresh(&taken(graph), format!("{this}.rows"));
        let row = [1, shape.w];
        let pool = Pool { kind: PoolKind::Average, kernel: row, stride: row, pad: Padding::default(), count_padding: false };
        let rows = graph.add(rows, Op::Pool(pool), &[image])?;
        graph.replace(id, Op::GlobalPool, &[rows])?;
        remarks.did(this, format!("{} rows of {} pixels", shape.h, shape.w));
        changed = true;
    }
    Ok(changed)
}
