//! The nodes that move data.

use mnc_runtime::params::{Axis, Real};

use super::import::{At, Import, Refusal};
use super::view::{C, H, W};
use crate::front::graph::MAX_TABLE;
use crate::ir::op::Gather;
use crate::ir::{NodeId, Op, Shape};

impl<'a> Import<'a> {
    /// The same elements in the same order as another shape.
    pub(super) fn reshape(&mut self, at: &At<'_, 'a>, node: NodeId, shape: Shape) -> Result<NodeId, Refusal> {
        // Of two in a row only the last counts.
        let from = if let Op::Reshape(_) = self.graph.op(node) { self.graph.inputs_of(node)[0] } else { node };
        if self.graph.shape(from) == shape {
            return Ok(from);
        }
        self.add(at, "reshape", Op::Reshape(shape), &[from])
    }

    /// Rows, columns and channels in the order `perm`: axis `i` of the result is axis `perm[i]` of `node`.
    pub(super) fn transpose(&mut self, at: &At<'_, 'a>, node: NodeId, perm: [usize; 3]) -> Result<NodeId, Refusal> {
        self.add(at, "transpose", Op::Transpose(perm), &[node])
    }

    /// Elements of each axis by position; `None` for an axis as it is.
    pub(super) fn picked(&mut self, at: &At<'_, 'a>, node: NodeId, tables: [Option<Vec<usize>>; 3]) -> Result<NodeId, Refusal> {
        let [rows, columns, channels] = tables.map(|t| t.map(|t| t.into_iter().map(index).collect()));
        self.gather(at, node, Gather { rows, columns, channels, fill: Real::new(0.0) })
    }

    /// Adds `gather`; if what it picks from was picked itself, both at once.
    fn gather(&mut self, at: &At<'_, 'a>, node: NodeId, mut gather: Gather) -> Result<NodeId, Refusal> {
        if let Some(table) = gather.tables().into_iter().flatten().find(|t| t.len() > MAX_TABLE) {
            return Err(Refusal::Wrong(format!("it picks {} elements of an axis, more than {MAX_TABLE}", table.len())));
        }
        let fills = |g: &Gather| g.tables().into_iter().flatten().any(|t| t.contains(&Gather::FILL));
        if let Op::Gather(first) = self.graph.op(node)
            && !fills(first)
        {
            let through = |first: &Option<Vec<i32>>, then: Option<Vec<i32>>| match (first, then) {
                (Some(first), Some(then)) => {
                    // What is no position is the fill value.
                    Some(then.into_iter().map(|i| usize::try_from(i).map_or(Gather::FILL, |i| first[i])).collect())
                }
                (Some(first), None) => Some(first.clone()),
                (None, then) => then,
            };
            gather.rows = through(&first.rows, gather.rows);
            gather.columns = through(&first.columns, gather.columns);
            gather.channels = through(&first.channels, gather.channels);
            let from = self.graph.inputs_of(node)[0];
            return self.add(at, "gather", Op::Gather(gather), &[from]);
        }
        self.add(at, "gather", Op::Gather(gather), &[node])
    }

    /// The elements at `positions` of one axis; `None` among them for `fill`.
    pub(super) fn gathered(
        &mut self,
        at: &At<'_, 'a>,
        node: NodeId,
        axis: usize,
        positions: impl Iterator<Item = Option<usize>>,
        fill: f32,
    ) -> Result<NodeId, Refusal> {
        let table = positions.map(|p| p.map_or(Gather::FILL, index)).collect();
        let mut gather = Gather { rows: None, columns: None, channels: None, fill: Real::new(fill) };
        match axis {
            H => gather.rows = Some(table),
            W => gather.columns = Some(table),
            _ => gather.channels = Some(table),
        }
        self.gather(at, node, gather)
    }

    /// `nodes` one behind the other along an axis.
    pub(super) fn join(&mut self, at: &At<'_, 'a>, nodes: &[NodeId], axis: usize) -> Result<NodeId, Refusal> {
        let axis = match axis {
            H => Axis::H,
            W => Axis::W,
            _ => Axis::C,
        };
        self.add(at, "", Op::Concat(axis), nodes)
    }

    /// The mean over those graph axes that `gone` says.
    pub(super) fn averaged_axes(&mut self, at: &At<'_, 'a>, node: NodeId, gone: [bool; 3]) -> Result<NodeId, Refusal> {
        let shape = self.graph.shape(node);
        let sizes = [shape.h, shape.w, shape.c];
        let matters = [H, W, C].map(|axis| gone[axis] && sizes[axis] > 1);
        let whole = |axis: usize| gone[axis] || sizes[axis] == 1;
        match matters {
            [false, false, false] => Ok(node),
            [_, _, false] if whole(H) && whole(W) => self.add(at, "", Op::GlobalPool, &[node]),
            axes => self.add(at, "", Op::Mean { axes }, &[node]),
        }
    }
}

/// A position in a table; axes are far shorter than 2^31.
fn index(i: usize) -> i32 {
    i32::try_from(i).unwrap_or(i32::MAX)
}
