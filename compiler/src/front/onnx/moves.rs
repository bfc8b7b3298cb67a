//! The nodes that move data, as far as the graph has them.

use super::import::{At, Import, Refusal, unsupported};
use super::view::{C, H, W};
use crate::ir::{NodeId, Op, Shape};

impl<'a> Import<'a> {
    /// The same elements in the same order as another shape.
    pub(super) fn reshape(&mut self, _: &At<'_, 'a>, node: NodeId, shape: Shape) -> Result<NodeId, Refusal> {
        unsupported!("from {} to {shape}", self.graph.shape(node))
    }

    /// Rows, columns and channels in the order `perm`: axis `i` of the result is axis `perm[i]` of `node`.
    pub(super) fn transpose(&mut self, _: &At<'_, 'a>, _: NodeId, perm: [usize; 3]) -> Result<NodeId, Refusal> {
        unsupported!("(axes in the order {perm:?})")
    }

    /// Elements of each axis by position; `None` for an axis as it is.
    pub(super) fn picked(&mut self, _: &At<'_, 'a>, _: NodeId, _: [Option<Vec<usize>>; 3]) -> Result<NodeId, Refusal> {
        unsupported!("(it picks elements)")
    }

    /// The elements at `positions` of one axis; `None` among them for `fill`.
    pub(super) fn gathered(
        &mut self,
        _: &At<'_, 'a>,
        _: NodeId,
        _axis: usize,
        _positions: &[Option<usize>],
        _fill: f32,
    ) -> Result<NodeId, Refusal> {
        unsupported!("(it picks elements)")
    }

    /// `nodes` one behind the other along an axis.
    pub(super) fn join(&mut self, _: &At<'_, 'a>, _nodes: &[NodeId], _axis: usize) -> Result<NodeId, Refusal> {
        unsupported!("")
    }

    /// The mean over those graph axes that `gone` says.
    pub(super) fn averaged_axes(&mut self, at: &At<'_, 'a>, node: NodeId, gone: [bool; 3]) -> Result<NodeId, Refusal> {
        let shape = self.graph.shape(node);
        let sizes = [shape.h, shape.w, shape.c];
        let matters = |axis: usize| gone[axis] && sizes[axis] > 1;
        match (matters(H) || matters(W), matters(C)) {
            (false, false) => Ok(node),
            (true, false) if (gone[H] || shape.h == 1) && (gone[W] || shape.w == 1) => self.add(at, "", Op::GlobalPool, &[node]),
            _ => unsupported!("over some axes"),
        }
    }
}
