//! How a tensor of the model lies in the graph's memory.
//!
//! ONNX tensors have any number of axes in any order, the graph's have rows, columns and channels. A [`View`] says of every axis of
//! the model's tensor which part of which axis of the graph's node it is: a list of [`Factor`]s, the slowest first. `[1, c, h, w]` of
//! an `h x w x c` node is `[[], [c], [h], [w]]`; after `Reshape` to `[1, g, c / g, h, w]` the second axis is the upper part of the
//! channels and the third the lower. So `Reshape`, `Transpose`, `Squeeze` and `Flatten` move nothing: they write down another view.
//! Only an op that needs its input in a certain place makes the graph move data ([`super::layout`]).
//!
//! Invariants: factors of size 1 do not occur; the factors of one graph axis, over all axes of the view, tile it: sorted by stride,
//! each stride is the product of the sizes before it.

use crate::ir::{NodeId, Shape};

/// Rows, columns and channels, as positions in `[h, w, c]`.
pub(super) const H: usize = 0;
/// See [`H`].
pub(super) const W: usize = 1;
/// See [`H`].
pub(super) const C: usize = 2;

/// A part of a graph axis: `size` steps of `stride` elements of that axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Factor {
    /// [`H`], [`W`] or [`C`].
    pub(super) axis: usize,
    /// In elements of the axis.
    pub(super) stride: usize,
    /// Above 1.
    pub(super) size: usize,
}

/// A tensor of the model as it lies in a node of the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    /// The node.
    pub(super) node: NodeId,
    /// The factors of each axis of the model's tensor, the slowest first; none for an axis of size 1.
    pub(super) axes: Vec<Vec<Factor>>,
}

/// The size that a list of factors makes.
pub(super) fn size(factors: &[Factor]) -> usize {
    factors.iter().map(|f| f.size).product()
}

/// A whole graph axis of size `n` as a list of factors.
pub(super) fn whole(axis: usize, n: usize) -> Vec<Factor> {
    if n == 1 { Vec::new() } else { vec![Factor { axis, stride: 1, size: n }] }
}

/// Joins neighbours that are one run of their axis.
fn merged(factors: impl IntoIterator<Item = Factor>) -> Vec<Factor> {
    let mut out: Vec<Factor> = Vec::new();
    for f in factors {
        match out.last_mut() {
            Some(last) if last.axis == f.axis && last.stride == f.stride * f.size => {
                *last = Factor { axis: f.axis, stride: f.stride, size: last.size * f.size };
            }
            _ => out.push(f),
        }
    }
    out
}

/// Cuts `factors` into runs of the sizes `dims` (of the same product); `None` where a cut goes through a factor unevenly.
pub(super) fn cut(factors: &[Factor], dims: &[usize]) -> Option<Vec<Vec<Factor>>> {
    let mut left = factors.iter().copied();
    let mut rest: Option<Factor> = None;
    let mut out = Vec::with_capacity(dims.len());
    for &dim in dims {
        let mut need = dim;
        let mut run = Vec::new();
        while need > 1 {
            let f = rest.take().or_else(|| left.next())?;
            if need.is_multiple_of(f.size) {
                need /= f.size;
                run.push(f);
            } else if f.size.is_multiple_of(need) {
                let inner = f.size / need;
                run.push(Factor { axis: f.axis, stride: f.stride * inner, size: need });
                rest = Some(Factor { axis: f.axis, stride: f.stride, size: inner });
                need = 1;
            } else {
                return None;
            }
        }
        out.push(merged(run));
    }
    Some(out)
}

impl View {
    /// The dimensions of the model's tensor.
    pub(super) fn dims(&self) -> Vec<usize> {
        self.axes.iter().map(|a| size(a)).collect()
    }

    /// A node whose elements stand in the order of a tensor of `dims`, the last one fastest.
    ///
    /// The node has [`row_major`]'s shape.
    pub(super) fn plain(node: NodeId, dims: &[usize]) -> Self {
        let shape = row_major(dims);
        let sizes = [shape.h, shape.w, shape.c];
        let first = dims.len().saturating_sub(2);
        let mut axes = cut(&whole(H, sizes[H]), &dims[..first]).expect("the product of these is the number of rows");
        let rest = if dims.len() == 1 { &[C][..] } else { &[W, C][..] };
        axes.extend(dims[first..].iter().zip(rest).map(|(&n, &axis)| whole(axis, n)));
        Self { node, axes }
    }

    /// `[1, c, h, w]` of a node of `shape`.
    pub(super) fn nchw(node: NodeId, shape: Shape) -> Self {
        Self { node, axes: vec![Vec::new(), whole(C, shape.c), whole(H, shape.h), whole(W, shape.w)] }
    }

    /// The same elements as a tensor of `dims` (of the same product); `None` where that needs other factors.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let all = merged(self.axes.iter().flatten().copied());
        Some(Self { node: self.node, axes: cut(&all, dims)? })
    }

    /// The axes in another order.
    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        Self { node: self.node, axes: order.iter().map(|&a| self.axes[a].clone()).collect() }
    }
}

/// The shape of a node for a tensor of `dims` in its own order: the last two are columns and channels, the others rows.
pub(super) fn row_major(dims: &[usize]) -> Shape {
    match dims {
        [] => Shape::hwc(1, 1, 1),
        [c] => Shape::hwc(1, 1, *c),
        [rows @ .., w, c] => Shape::hwc(rows.iter().product(), *w, *c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Graph;

    fn node() -> NodeId {
        Graph::default().add_input("x", Shape::hwc(4, 5, 6))
    }

    #[test]
    fn views_are_cut_and_joined() {
        let x = View::nchw(node(), Shape::hwc(4, 5, 6));
        assert_eq!(x.dims(), [1, 6, 4, 5]);
        let groups = x.reshaped(&[1, 2, 3, 4, 5]).unwrap();
        assert_eq!(groups.axes[1], [Factor { axis: C, stride: 3, size: 2 }]);
        assert_eq!(groups.axes[2], [Factor { axis: C, stride: 1, size: 3 }]);
        let shuffled = groups.transposed(&[0, 2, 1, 3, 4]).reshaped(&[1, 6, 4, 5]).unwrap();
        assert_eq!(shuffled.axes[1].len(), 2);
        // and back again
        let back = shuffled.reshaped(&[1, 3, 2, 4, 5]).unwrap().transposed(&[0, 2, 1, 3, 4]).reshaped(&[1, 6, 4, 5]).unwrap();
        assert_eq!(back, x);
        assert_eq!(x.reshaped(&[1, 120]).unwrap().axes[1].len(), 3);
        assert_eq!(shuffled.reshaped(&[1, 4, 30]), None, "a cut through the middle of a factor");
        assert_eq!(View::plain(node(), &[2, 2, 5, 6]).axes[1], [Factor { axis: H, stride: 1, size: 2 }]);
        assert_eq!(View::plain(node(), &[120]).dims(), [120]);
        assert_eq!(View::plain(node(), &[]).dims(), [0usize; 0]);
    }
}
