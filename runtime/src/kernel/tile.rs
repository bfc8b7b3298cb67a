//! The register tile of pointwise and dense convolutions: `ROWS` pixels by `VECTORS` vectors of output channels.
//!
//! ```text
//! for i in 0..k { for r in 0..ROWS { for v in 0..VECTORS { acc[r][v] += a[r][i] * panel[i][8 v..8 v + 8] } } }
//! ```
//! All sums stay in registers over the whole of `k`: a panel is read front to back, a pixel's channels too.

use super::Residual;
use super::activation::activate;
use crate::isa::Simd;
use crate::pack::{LANES, PANEL};
use crate::params::Activation;

/// Steps of `k` that the inner loop takes at a time.
const UNROLL: usize = 4;

/// A tile whose rows all hold the bias.
#[inline(always)]
pub(super) fn start<S: Simd, const ROWS: usize, const VECTORS: usize>(s: S, bias: &[f32]) -> [[S::V; VECTORS]; ROWS] {
    let (bias, _) = bias.as_chunks::<LANES>();
    let mut row = [s.splat(0.0); VECTORS];
    for (v, b) in row.iter_mut().zip(bias) {
        *v = s.load(b);
    }
    [row; ROWS]
}

/// Adds the products of `a` (a slice a row, each as long as `panel`) with a piece of a panel. With `SCALED` every weight is
/// multiplied by its row's factor first (`scale` is as long as `panel`, otherwise unused).
#[inline(always)]
pub(super) fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const SCALED: bool>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    mut a: [&[f32]; ROWS],
    panel: &[[f32; PANEL]],
    scale: &[f32],
) {
    let k = panel.len();
    // Equal lengths stated once let the loops below go without bounds checks.
    for row in &mut a {
        *row = &row[..k];
    }
    let scale = if SCALED { &scale[..k] } else { scale };
    let (steps, rest) = panel.as_chunks::<UNROLL>();
    let mut chunks: [&[[f32; UNROLL]]; ROWS] = [&[]; ROWS];
    for (chunk, row) in chunks.iter_mut().zip(&a) {
        *chunk = &row.as_chunks::<UNROLL>().0[..steps.len()];
    }
    for (i, step) in steps.iter().enumerate() {
        for u in 0..UNROLL {
            let factor = if SCALED { scale[i * UNROLL + u] } else { 1.0 };
            let b = weights::<S, VECTORS, SCALED>(s, &step[u], factor);
            for r in 0..ROWS {
                let x = s.splat(chunks[r][i][u]);
                for v in 0..VECTORS {
                    acc[r][v] = s.mul_add(x, b[v], acc[r][v]);
                }
            }
        }
    }
    let done = k - rest.len();
    for (i, step) in rest.iter().enumerate() {
        let b = weights::<S, VECTORS, SCALED>(s, step, if SCALED { scale[done + i] } else { 1.0 });
        for r in 0..ROWS {
            let x = s.splat(a[r][done + i]);
            for v in 0..VECTORS {
                acc[r][v] = s.mul_add(x, b[v], acc[r][v]);
            }
        }
    }
}

/// One row of a panel.
#[inline(always)]
pub(super) fn weights<S: Simd, const VECTORS: usize, const SCALED: bool>(
    s: S,
    row: &[f32; PANEL],
    factor: f32,
) -> [S::V; VECTORS] {
    let (row, _) = row.as_chunks::<LANES>();
    let mut b = [s.splat(0.0); VECTORS];
    for v in 0..VECTORS {
        b[v] = s.load(&row[v]);
        if SCALED {
            b[v] = s.mul(b[v], s.splat(factor));
        }
    }
    b
}

/// Where a tile's results stand in the output.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    /// Element of the first row's first channel.
    pub at: usize,
    /// Elements from a row to the next.
    pub stride: usize,
    /// Channels that exist; the lanes beyond them are padding.
    pub valid: usize,
}

/// Adds the residual and applies the activation.
#[inline(always)]
pub(super) fn finish<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    spot: Spot,
    act: Activation,
    residual: Residual<'_>,
    y: &[f32],
) {
    let from = match residual {
        Residual::None => None,
        Residual::InPlace => Some(y),
        Residual::From(r) => Some(r),
    };
    if let Some(from) = from {
        let mut copy = [[0.0; PANEL]; MAX_ROWS];
        let (from, stride) = if spot.valid == VECTORS * LANES {
            (&from[spot.at..], spot.stride)
        } else {
            copy_in(&mut copy[..ROWS], spot, from);
            (copy.as_flattened(), PANEL)
        };
        for (r, row) in acc.iter_mut().enumerate() {
            let (from, _) = from[r * stride..][..VECTORS * LANES].as_chunks::<LANES>();
            for (v, from) in row.iter_mut().zip(from) {
                *v = s.add(*v, s.load(from));
            }
        }
    }
    activate(s, act, acc);
}

/// Writes the channels that exist.
#[inline(always)]
pub(super) fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &[[S::V; VECTORS]; ROWS],
    spot: Spot,
    y: &mut [f32],
) {
    let mut copy = [[0.0; PANEL]; MAX_ROWS];
    let full = spot.valid == VECTORS * LANES;
    let (to, stride) = if full { (&mut y[spot.at..], spot.stride) } else { (copy.as_flattened_mut(), PANEL) };
    for (r, row) in acc.iter().enumerate() {
        let (to, _) = to[r * stride..][..VECTORS * LANES].as_chunks_mut::<LANES>();
        for (v, to) in row.iter().zip(to) {
            s.store(*v, to);
        }
    }
    if !full {
        copy_out(&copy[..ROWS], spot, y);
    }
}

/// The most rows of a tile on any instruction set.
const MAX_ROWS: usize = 6;

/// The channels of a partial panel, to a tile on the stack.
#[inline(never)]
fn copy_in(tile: &mut [[f32; PANEL]], spot: Spot, from: &[f32]) {
    for (r, row) in tile.iter_mut().enumerate() {
        row[..spot.valid].copy_from_slice(&from[spot.at + r * spot.stride..][..spot.valid]);
    }
}

/// The channels of a partial panel, from a tile on the stack.
#[inline(never)]
fn copy_out(tile: &[[f32; PANEL]], spot: Spot, y: &mut [f32]) {
    for (r, row) in tile.iter().enumerate() {
        y[spot.at + r * spot.stride..][..spot.valid].copy_from_slice(&row[..spot.valid]);
    }
}

/// Calls `$tile::<ROWS>` over `$first..$end` with as few tiles of at most `$max` rows as possible and all of nearly the same
/// height: 49 rows by sixes are four sixes and five fives, not eight sixes and a slow single row.
macro_rules! by_rows {
    ($range:expr, $max:expr, $at:ident, $ROWS:ident => $body:expr) => {{
        let range: core::ops::Range<usize> = $range;
        let len = range.end - range.start;
        let tiles = len.div_ceil($max);
        let (height, higher) = (len / tiles.max(1), len % tiles.max(1));
        let mut $at = range.start;
        for tile in 0..tiles {
            let rows = height + usize::from(tile < higher);
            // Heights beyond the instruction set's limit are dead code: the limit is a constant.
            match rows {
                6 if $max >= 6 => {
                    const $ROWS: usize = 6;
                    $body
                }
                5 if $max >= 5 => {
                    const $ROWS: usize = 5;
                    $body
                }
                4 if $max >= 4 => {
                    const $ROWS: usize = 4;
                    $body
                }
                3 if $max >= 3 => {
                    const $ROWS: usize = 3;
                    $body
                }
                2 if $max >= 2 => {
                    const $ROWS: usize = 2;
                    $body
                }
                _ => {
                    const $ROWS: usize = 1;
                    $body
                }
            }
            $at += rows;
        }
    }};
}
pub(super) use by_rows;
