//! Life and place of every tensor: what is written over what, who lives when, then offsets by [`super::search`].
//!
//! A layer is written over an operand where its kernel can ([`super::select`]), the operand stands in the arena, nobody reads it
//! later, and no other operand of the layer is the same tensor. The two are then one buffer with one life. A tensor that ends
//! up in the caller's output that way needs no arena at all. Sizes agree because such kernels keep the shape.

use super::schedule::{Order, is_read_once};
use super::search::{self, Rect};
use super::select::{Layer, Source};
use super::{Buffer, BufferId, Memory, Place};

/// Where everything stands.
#[derive(Debug)]
pub(super) struct Assignment {
    /// The arena.
    pub(super) memory: Memory,
    /// Of each layer's result.
    pub(super) homes: Vec<Place>,
    /// Which operand each layer's result is written over.
    pub(super) overwritten: Vec<Option<usize>>,
}

/// Gives every result of `layers`, run in `order`, a place.
pub(super) fn assign(layers: &[Layer], order: &Order) -> Assignment {
    let n = layers.len();
    let mut time = vec![0; n];
    for (t, &l) in order.layers.iter().enumerate() {
        time[l] = t;
    }
    let mut last = time.clone();
    for (l, layer) in layers.iter().enumerate() {
        for r in &layer.reads {
            if let Source::Layer(r) = *r {
                last[r] = last[r].max(time[l]);
            }
        }
    }

    let mut groups: Vec<Group> = Vec::new();
    let mut group_of = vec![0; n];
    let mut overwritten = vec![None; n];
    for (t, &l) in order.layers.iter().enumerate() {
        let layer = &layers[l];
        // The oldest operand first: one buffer that lives long packs better than many that take turns.
        let over = layer
            .overwritable
            .iter()
            .filter_map(|&p| match layer.reads[p] {
                Source::Layer(r) if last[r] == t && is_read_once(layer, p) => Some((groups[group_of[r]].first, p, group_of[r])),
                Source::Layer(_) | Source::Input => None,
            })
            .min();
        match over {
            Some((_, p, g)) => {
                overwritten[l] = Some(p);
                group_of[l] = g;
                groups[g].last = last[l];
            }
            None => {
                group_of[l] = groups.len();
                groups.push(Group { head: l, first: t, last: last[l] });
            }
        }
    }

    let output = order.layers.last().map(|&l| group_of[l]);
    let mut places = vec![Place::Output; groups.len()];
    let mut rects = Vec::new();
    for (g, group) in groups.iter().enumerate().filter(|&(g, _)| Some(g) != output) {
        places[g] = Place::Arena(BufferId(rects.len()));
        rects.push(Rect { bytes: layers[group.head].bytes, first: group.first, last: group.last });
    }
    let placed = search::place(&rects);
    let heads = groups.iter().enumerate().filter(|&(g, _)| Some(g) != output).map(|(_, group)| group.head);
    let buffers = heads
        .zip(rects.iter().zip(&placed.offsets))
        .map(|(head, (r, &offset))| Buffer {
            name: layers[head].name.clone(),
            bytes: r.bytes,
            offset,
            first: r.first,
            last: r.last,
            pitch: layers[head].shape.c,
            ring_rows: None,
            apart: 0,
        })
        .collect();
    Assignment {
        memory: Memory {
            buffers,
            arena_bytes: placed.height,
            lower_bound_bytes: placed.bound,
            layerwise_bound_bytes: placed.bound,
            peak_with_input_bytes: placed.bound,
            proof: placed.proof,
            order_is_best: order.is_best,
        },
        homes: group_of.into_iter().map(|g| places[g]).collect(),
        overwritten,
    }
}

/// Tensors written over one another: one buffer.
struct Group {
    /// The layer that first writes it.
    head: usize,
    /// When.
    first: usize,
    /// When it is last read or written.
    last: usize,
}
