//! Life and place of every tensor and ring: what is written over what, who lives when, then offsets by [`super::search`].
//!
//! Time is counted in stages. A stage is written over an operand where it may be ([`super::stages`]), the operand stands in the
//! arena and nobody reads it later. The two are then one buffer with one life. A tensor that ends up in the caller's output
//! that way needs no arena at all; an output itself is never written over, whoever reads it. Sizes agree because such kernels keep the shape, and pitches because they are chosen together.
//! A ring lives in its stage only, and so does nothing of it elsewhere: it is never shared.

use std::collections::BTreeMap;

use super::schedule::{self, Order};
use super::search::{self, Rect};
use super::select::Layer;
use super::stages::Unit;
use super::{Buffer, BufferId, Memory, Place, Port};

/// Where everything stands.
#[derive(Debug)]
pub(super) struct Assignment {
    /// The arena.
    pub(super) memory: Memory,
    /// Of each layer's result.
    pub(super) homes: Vec<Place>,
    /// Which operand of its last layer each unit's result is written over.
    pub(super) overwritten: Vec<Option<usize>>,
}

/// Tensors written over one another: one buffer.
struct Group {
    /// The unit that first writes it.
    head: usize,
    /// When.
    first: usize,
    /// When it is last read or written.
    last: usize,
    /// The output that it becomes.
    output: Option<usize>,
}

/// Lives in one order of the units.
struct Lives {
    groups: Vec<Group>,
    /// By unit.
    group_of: Vec<usize>,
    /// As in [`Assignment`].
    overwritten: Vec<Option<usize>>,
    /// When each of the caller's inputs that are read is last read.
    input_read: BTreeMap<usize, usize>,
}

impl Lives {
    fn new(units: &[Unit], order: &Order) -> Self {
        let n = units.len();
        let mut time = vec![0; n];
        for (t, &u) in order.units.iter().enumerate() {
            time[u] = t;
        }
        let mut last = time.clone();
        let mut input_read = BTreeMap::new();
        for (u, unit) in units.iter().enumerate() {
            for &r in unit.reads.iter().flatten() {
                last[r] = last[r].max(time[u]);
            }
            for &i in &unit.inputs {
                let read = input_read.entry(i).or_insert(0);
                *read = time[u].max(*read);
            }
        }
        let mut groups: Vec<Group> = Vec::new();
        let mut group_of = vec![0; n];
        let mut overwritten = vec![None; n];
        for (t, &u) in order.units.iter().enumerate() {
            let unit = &units[u];
            // The oldest operand first: one buffer that lives long packs better than many that take turns.
            let dying = |&p: &usize| {
                let r = unit.reads[p].filter(|&r| last[r] == t)?;
                Some((groups[group_of[r]].first, unit.operands[p]?, group_of[r]))
            };
            match unit.overwritable.iter().filter_map(dying).min() {
                Some((_, p, g)) => {
                    overwritten[u] = Some(p);
                    group_of[u] = g;
                    (groups[g].last, groups[g].output) = (last[u], unit.output);
                }
                None => {
                    group_of[u] = groups.len();
                    groups.push(Group { head: u, first: t, last: last[u], output: unit.output });
                }
            }
        }
        Self { groups, group_of, overwritten, input_read }
    }

    /// Groups that stand in the arena.
    fn in_arena(&self) -> impl Iterator<Item = (usize, &Group)> {
        self.groups.iter().enumerate().filter(|(_, g)| g.output.is_none())
    }
}

/// The most bytes alive at once of the best order found of `units`.
pub(super) fn bound(units: &[Unit]) -> usize {
    let lives = Lives::new(units, &schedule::order(units));
    let rects: Vec<Rect> =
        lives.in_arena().map(|(_, g)| Rect { bytes: units[g.head].bytes, first: g.first, last: g.last }).collect();
    search::lower_bound(&rects)
}

/// Gives every result of `units`, run in `order`, a place. `layerwise` is the bound of the layers one by one, where that is another.
pub(super) fn assign(
    layers: &[Layer],
    units: &[Unit],
    order: &Order,
    inputs: &[Port],
    outputs: &[Port],
    layerwise: Option<usize>,
) -> Assignment {
    let lives = Lives::new(units, order);
    let mut places: Vec<Place> = lives.groups.iter().map(|g| Place::Output(g.output.map_or(0, |o| outputs[o].offset))).collect();
    let mut buffers = Vec::new();
    for (g, group) in lives.in_arena() {
        places[g] = Place::Arena(BufferId(buffers.len()));
        let unit = &units[group.head];
        let layer = &layers[result(unit)];
        let (first, last) = (group.first, group.last);
        let (name, bytes) = (layer.name.clone(), unit.bytes);
        // A reshaped tensor stands where it stood before, and has no gaps.
        let all = units.iter().zip(&lives.group_of).filter(|&(_, &of)| of == g).map(|(u, _)| &layers[result(u)]);
        let pitch = if all.into_iter().all(|l| l.shape.c == layer.shape.c) { layer.pitch } else { 0 };
        buffers.push(Buffer { name, bytes, offset: 0, first, last, pitch, ring_rows: None, apart: 0 });
    }
    let mut homes = vec![Place::Output(0); layers.len()];
    for (t, &u) in order.units.iter().enumerate() {
        let unit = &units[u];
        homes[result(unit)] = places[lives.group_of[u]];
        for (&l, ring) in unit.layers.iter().zip(&unit.rings) {
            homes[l] = Place::Ring { buffer: BufferId(buffers.len()), rows: ring.rows };
            let (name, bytes, pitch) = (layers[l].name.clone(), ring.bytes, layers[l].pitch);
            let (ring_rows, apart) = (Some(ring.rows), ring.apart);
            buffers.push(Buffer { name, bytes, offset: 0, first: t, last: t, pitch, ring_rows, apart });
        }
    }
    let rects: Vec<Rect> = buffers.iter().map(|b| Rect { bytes: b.bytes, first: b.first, last: b.last }).collect();
    let placed = search::place(&rects);
    for (buffer, &offset) in buffers.iter_mut().zip(&placed.offsets) {
        buffer.offset = offset;
    }
    Assignment {
        memory: Memory {
            peak_with_input_bytes: with_input(&rects, order.units.len(), &lives.input_read, inputs),
            buffers,
            arena_bytes: placed.height,
            lower_bound_bytes: placed.bound,
            layerwise_bound_bytes: layerwise.unwrap_or(placed.bound),
            proof: placed.proof,
            order_is_best: order.is_best,
        },
        homes,
        overwritten: lives.overwritten,
    }
}

/// The layer whose result leaves `unit`.
fn result(unit: &Unit) -> usize {
    unit.layers[unit.layers.len() - 1]
}

/// The most bytes alive at once with those of the caller's inputs, each of which is alive until it is last read.
fn with_input(rects: &[Rect], times: usize, read: &BTreeMap<usize, usize>, inputs: &[Port]) -> usize {
    let mut all = rects.to_vec();
    all.extend(read.iter().map(|(&i, &last)| Rect { bytes: inputs[i].tensor.bytes(), first: 0, last }));
    debug_assert!(all.iter().all(|r| r.last < times.max(1)));
    search::lower_bound(&all)
}
