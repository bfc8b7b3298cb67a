//! Puts a view's axes where an op needs them: by nothing, if they are there; else by the cheapest of renaming the shape, picking
//! rows, columns or channels by index, and transposing.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use super::import::{At, Import, Refusal, unsupported};
use super::view::{C, Factor, H, View, W, cut, row_major, size, whole};
use crate::front::graph::MAX_TABLE;
use crate::ir::{NodeId, Shape};

/// The factors of the rows, columns and channels that are wanted.
pub(super) type Target = [Vec<Factor>; 3];

/// Most blocks that transposes are searched for.
const MAX_BLOCKS: usize = 7;
/// Most orders of blocks in one model: a search takes up to a tenth of a second.
const MAX_SEARCHES: usize = 50;

/// The orders of three blocks, but for the one they have.
const ORDERS: [[usize; 3]; 5] = [[1, 0, 2], [0, 2, 1], [2, 1, 0], [1, 2, 0], [2, 0, 1]];

impl<'a> Import<'a> {
    /// The view's elements in a node whose rows, columns and channels are `target`, which consists of all the view's factors.
    pub(super) fn laid(&mut self, at: &At<'_, 'a>, view: &View, target: &Target) -> Result<NodeId, Refusal> {
        let shape = Shape::hwc(size(&target[H]), size(&target[W]), size(&target[C]));
        let wanted: Vec<Factor> = target.iter().flatten().copied().collect();
        let mut memory = wanted.clone();
        // Slowest first: that is how they tile the axes of the node.
        memory.sort_by_key(|f| (f.axis, std::cmp::Reverse(f.stride)));
        if memory == wanted {
            return self.renamed(at, view.node, shape);
        }
        let own = (0..3).all(|axis| target[axis].iter().all(|f| f.axis == axis));
        if own && self.graph.shape(view.node) == shape {
            let mut tables = Vec::with_capacity(3);
            for factors in target {
                tables.push(if in_order(factors) { None } else { Some(table(factors)?) });
            }
            return self.picked(at, view.node, tables.try_into().expect("three axes"));
        }
        self.shuffled(at, view.node, &memory, &wanted, shape)
    }

    /// `node` with another shape of the same elements.
    fn renamed(&mut self, at: &At<'_, 'a>, node: NodeId, shape: Shape) -> Result<NodeId, Refusal> {
        if self.graph.shape(node) == shape {
            return Ok(node);
        }
        self.reshape(at, node, shape)
    }

    /// Transposes until the factors that lie in the order `memory` lie in the order `wanted`.
    fn shuffled(
        &mut self,
        at: &At<'_, 'a>,
        mut node: NodeId,
        memory: &[Factor],
        wanted: &[Factor],
        shape: Shape,
    ) -> Result<NodeId, Refusal> {
        let place: Vec<usize> = memory.iter().map(|f| wanted.iter().position(|w| w == f).expect("the same factors")).collect();
        // Neighbours that stay neighbours are one block.
        let mut blocks: Vec<(usize, usize)> = Vec::new();
        for (i, (&at, factor)) in place.iter().zip(memory).enumerate() {
            match blocks.last_mut() {
                Some((_, n)) if place[i - 1] + 1 == at => *n *= factor.size,
                _ => blocks.push((at, factor.size)),
            }
        }
        if blocks.len() > MAX_BLOCKS {
            return unsupported!("(its axes are mixed too much)");
        }
        let mut order: Vec<usize> = blocks.iter().map(|b| b.0).collect();
        let sizes: HashMap<usize, usize> = blocks.iter().copied().collect();
        for &(cuts, perm) in &*self.moves.of(&order)? {
            let parts = [&order[..cuts.0], &order[cuts.0..cuts.1], &order[cuts.1..]];
            let n = parts.map(|p| p.iter().map(|b| sizes[b]).product::<usize>());
            node = self.renamed(at, node, Shape::hwc(n[0], n[1], n[2]))?;
            node = self.transpose(at, node, perm)?;
            order = perm.iter().flat_map(|&p| parts[p].iter().copied()).collect();
        }
        self.renamed(at, node, shape)
    }

    /// The view as `[1, c, h, w]`, or `[1, c, w]` of one row: what windows need.
    pub(super) fn pixels(&mut self, at: &At<'_, 'a>, view: &View) -> Result<NodeId, Refusal> {
        let dims = view.dims();
        if !matches!(dims.len(), 3 | 4) {
            return unsupported!("on a tensor of {} axes", dims.len());
        }
        if dims[0] != 1 {
            return unsupported!("on a batch of {}", dims[0]);
        }
        let (h, w) =
            if dims.len() == 4 { (view.axes[2].clone(), view.axes[3].clone()) } else { (Vec::new(), view.axes[2].clone()) };
        self.laid(at, view, &[h, w, view.axes[1].clone()])
    }

    /// The view of what an op made of [`Import::pixels`].
    pub(super) fn of_pixels(&self, node: NodeId, rank: usize) -> View {
        let shape = self.graph.shape(node);
        let mut view = View::nchw(node, shape);
        if rank == 3 {
            view.axes.remove(2);
        }
        view
    }

    /// The view with its elements in the order of its own axes.
    pub(super) fn in_order(&mut self, at: &At<'_, 'a>, view: &View) -> Result<View, Refusal> {
        let dims = view.dims();
        let first = dims.len().saturating_sub(2);
        let mut target: Target = [view.axes[..first].concat(), Vec::new(), Vec::new()];
        match &view.axes[first..] {
            [] => {}
            [c] => target[C].clone_from(c),
            [w, c, ..] => {
                target[W].clone_from(w);
                target[C].clone_from(c);
            }
        }
        let node = self.laid(at, view, &target)?;
        debug_assert_eq!(self.graph.shape(node), row_major(&dims));
        Ok(View::plain(node, &dims))
    }

    /// The node that a caller gets: pictures, four axes with a batch of 1, as rows, columns, channels; all else in the order of the
    /// model.
    pub(super) fn delivered(&mut self, at: &At<'_, 'a>, view: &View) -> Result<NodeId, Refusal> {
        let nchw = View::nchw(view.node, self.graph.shape(view.node));
        // `[1, h, w, c]` already, by a transpose at the end.
        if *view == nchw.transposed(&[0, 2, 3, 1]) || !self.channels_last && *view == nchw {
            return Ok(view.node);
        }
        if !self.channels_last && view.axes.len() == 4 && view.axes[0].is_empty() {
            return self.pixels(at, view);
        }
        // One axis is a list of numbers whatever it is called.
        if view.axes.iter().filter(|a| !a.is_empty()).count() <= 1 && view.axes.concat().len() <= 1 {
            return self.laid(at, view, &[Vec::new(), Vec::new(), view.axes.concat()]);
        }
        Ok(self.in_order(at, view)?.node)
    }

    /// The graph axis that the view's axis `k` is, and a view of the same elements in which it is one.
    pub(super) fn placed(&mut self, at: &At<'_, 'a>, view: &View, k: usize) -> Result<(View, usize), Refusal> {
        if let Some(axis) = graph_axis(view, self.graph.shape(view.node), k) {
            return Ok((view.clone(), axis));
        }
        // All of a graph axis in another order: only that need be sorted.
        let shape = self.graph.shape(view.node);
        let sizes = [shape.h, shape.w, shape.c];
        if let Some(axis) = view.axes[k].first().map(|f| f.axis)
            && view.axes[k].iter().all(|f| f.axis == axis)
            && size(&view.axes[k]) == sizes[axis]
        {
            let mut target: Target = [H, W, C].map(|a| view.axes.iter().flatten().copied().filter(|f| f.axis == a).collect());
            target.iter_mut().for_each(|t| t.sort_by_key(|f| std::cmp::Reverse(f.stride)));
            target[axis].clone_from(&view.axes[k]);
            let mut view = View { node: self.laid(at, view, &target)?, axes: view.axes.clone() };
            view.axes[k] = whole(axis, sizes[axis]);
            return Ok((view, axis));
        }
        let (h, w, c) = (view.axes[..k].concat(), view.axes[k].clone(), view.axes[k + 1..].concat());
        let node = self.laid(at, view, &[h, w, c])?;
        let dims = view.dims();
        let mut axes = cut(&whole(H, dims[..k].iter().product()), &dims[..k]).expect("the product of these");
        axes.push(whole(W, dims[k]));
        axes.extend(cut(&whole(C, dims[k + 1..].iter().product()), &dims[k + 1..]).expect("the product of these"));
        Ok((View { node, axes }, W))
    }

    /// `view` in the layout of `base`, of as many axes: each axis as large as that of `base`, or 1, or (axis `free`) anything and
    /// then lying at the graph axis beside it.
    pub(super) fn conform(
        &mut self,
        at: &At<'_, 'a>,
        view: &View,
        base: &View,
        free: Option<(usize, usize)>,
    ) -> Result<NodeId, Refusal> {
        // where each factor of the base's graph axes comes from: (graph axis, stride, model axis, position there)
        let mut sources: Vec<(usize, usize, usize, usize)> = Vec::new();
        let mut pieces: Vec<Vec<Vec<Factor>>> = Vec::new();
        for (i, factors) in base.axes.iter().enumerate() {
            if free.is_some_and(|(k, _)| k == i) || view.axes[i].is_empty() {
                pieces.push(Vec::new());
            } else {
                let sizes: Vec<usize> = factors.iter().map(|f| f.size).collect();
                match cut(&view.axes[i], &sizes) {
                    Some(cut) => pieces.push(cut),
                    None => return unsupported!("(its inputs lie too differently)"),
                }
            }
            if free.is_none_or(|(k, _)| k != i) {
                sources.extend(factors.iter().enumerate().map(|(p, f)| (f.axis, f.stride, i, p)));
            }
        }
        sources.sort_by_key(|&(axis, stride, ..)| (axis, std::cmp::Reverse(stride)));
        let mut target = Target::default();
        let mut whole_axes = [0; 3];
        for (axis, _, i, p) in sources {
            whole_axes[axis] += 1;
            if let Some(piece) = pieces[i].get(p) {
                target[axis].extend(piece.iter().copied());
                whole_axes[axis] -= 1;
            }
        }
        for axis in [H, W, C] {
            if whole_axes[axis] != 0 && !target[axis].is_empty() {
                return unsupported!("(it stretches a part of an axis)");
            }
        }
        if let Some((k, axis)) = free {
            target[axis].clone_from(&view.axes[k]);
        }
        self.laid(at, view, &target)
    }
}

/// The graph axis that is the view's axis `k` and nothing else, if there is one.
pub(super) fn graph_axis(view: &View, shape: Shape, k: usize) -> Option<usize> {
    let sizes = [shape.h, shape.w, shape.c];
    if let [only] = view.axes[k][..] {
        return (only.size == sizes[only.axis]).then_some(only.axis);
    }
    if !view.axes[k].is_empty() {
        return None;
    }
    // An axis of size 1 may be any that no other axis lies on; in pictures the one it usually is.
    let free = |axis: &usize| sizes[*axis] == 1;
    let usual = match (view.axes.len(), k) {
        (3 | 4, 1) => Some(C),
        (4, 2) => Some(H),
        (4, 3) | (3, 2) => Some(W),
        _ => None,
    };
    usual.filter(free).or_else(|| [C, W, H].into_iter().find(free))
}

/// Whether the elements of a whole axis stand in the list in their own order.
fn in_order(factors: &[Factor]) -> bool {
    let mut step = 1;
    factors.iter().rev().all(|f| {
        let next = step * f.size;
        f.stride == std::mem::replace(&mut step, next)
    })
}

/// Which element of its axis each element of the list is.
fn table(factors: &[Factor]) -> Result<Vec<usize>, Refusal> {
    let n = size(factors);
    if n > MAX_TABLE {
        return unsupported!("(it mixes {n} elements of an axis, more than {MAX_TABLE})");
    }
    let place = |mut i: usize| {
        factors.iter().rev().fold(0, |at, f| {
            let digit = i % f.size;
            i /= f.size;
            at + digit * f.stride
        })
    };
    Ok((0..n).map(place).collect())
}

/// Where to cut (two positions), and the order of the three parts.
type Move = ((usize, usize), [usize; 3]);

/// The moves that were searched for, by the order that they sort.
#[derive(Default)]
pub(super) struct Moves(HashMap<Vec<usize>, Rc<[Move]>>);

impl Moves {
    /// The fewest moves by which `order` becomes sorted.
    fn of(&mut self, order: &[usize]) -> Result<Rc<[Move]>, Refusal> {
        // What matters is which is before which.
        let ranks: Vec<usize> = order.iter().map(|a| order.iter().filter(|b| *b < a).count()).collect();
        if let Some(found) = self.0.get(&ranks) {
            return Ok(found.clone());
        }
        if self.0.len() >= MAX_SEARCHES {
            return unsupported!("(the model mixes axes in more than {MAX_SEARCHES} ways)");
        }
        let found: Rc<[Move]> = search(&ranks).into();
        self.0.insert(ranks, found.clone());
        Ok(found)
    }
}

/// See [`Moves::of`].
fn search(order: &[usize]) -> Vec<Move> {
    let mut goal = order.to_vec();
    goal.sort_unstable();
    let mut from: HashMap<Vec<usize>, (Vec<usize>, Move)> = HashMap::new();
    let mut open = VecDeque::from([order.to_vec()]);
    while let Some(state) = open.pop_front() {
        if state == goal {
            break;
        }
        let n = state.len();
        for (i, j) in (0..=n).flat_map(|i| (i..=n).map(move |j| (i, j))) {
            for perm in ORDERS {
                let parts = [&state[..i], &state[i..j], &state[j..]];
                let next: Vec<usize> = perm.iter().flat_map(|&p| parts[p].iter().copied()).collect();
                if next != order && !from.contains_key(&next) {
                    from.insert(next.clone(), (state.clone(), ((i, j), perm)));
                    open.push_back(next);
                }
            }
        }
    }
    let mut steps = Vec::new();
    let mut at = goal;
    while at != order {
        let (before, step) = from[&at].clone();
        steps.push(step);
        at = before;
    }
    steps.reverse();
    steps
}
