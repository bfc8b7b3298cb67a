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

/// Adds all rows, one after another, to the row of sums at `spot`. The sums stay in memory: registers are for the tile.
#[inline(always)]
pub(super) fn add_up<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &[[S::V; VECTORS]; ROWS],
    spot: Spot,
    y: &mut [f32],
) {
    let mut copy = [[0.0; PANEL]; 1];
    let full = spot.valid == VECTORS * LANES;
    if !full {
        copy_in(&mut copy, spot, y);
    }
    let sums = if full { &mut y[spot.at..] } else { copy.as_flattened_mut() };
    let (sums, _) = sums[..VECTORS * LANES].as_chunks_mut::<LANES>();
    for (v, sum) in sums.iter_mut().enumerate() {
        let mut total = s.load(sum);
        for row in acc {
            total = s.add(total, row[v]);
        }
        s.store(total, sum);
    }
    if !full {
        copy_out(&copy, spot, y);
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

/// Whether `n` output channels have a panel that is `vectors` (1 or 2) vectors wide.
pub(super) const fn has_width(n: usize, vectors: usize) -> bool {
    match vectors {
        1 => !n.is_multiple_of(PANEL) && n % PANEL <= LANES,
        _ => n > LANES,
    }
}

/// How a run of pixels (or columns) is cut into as few tiles of at most `max` as possible, all of nearly the same size: `larger`
/// tiles of `size + 1`, then `rest` tiles of `size`. 49 by sixes are four sixes and five fives, not eight sixes and a slow one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Split {
    pub size: usize,
    pub larger: usize,
    pub rest: usize,
}

impl Split {
    #[inline(always)]
    pub(super) const fn new(len: usize, max: usize) -> Self {
        let tiles = len.div_ceil(max);
        if tiles == 0 {
            return Self { size: 0, larger: 0, rest: 0 };
        }
        Self { size: len / tiles, larger: len % tiles, rest: tiles - len % tiles }
    }

    /// The sizes that occur, as a set of bits.
    pub(super) const fn sizes(self) -> u32 {
        (if self.larger > 0 { 2 << self.size } else { 0 }) | (if self.rest > 0 { 1 << self.size } else { 0 })
    }
}

/// Blocks of pixels: `first..first + len` in as few of at most `block` as possible, all of nearly the same length.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub first: usize,
    pub len: usize,
    pub count: usize,
}

impl Blocks {
    #[inline(always)]
    pub(super) const fn new(first: usize, len: usize, block: usize) -> Self {
        Self { first, len, count: len.div_ceil(block) }
    }

    #[inline(always)]
    pub(super) const fn get(self, i: usize) -> (usize, usize) {
        (self.first + self.len * i / self.count, self.first + self.len * (i + 1) / self.count)
    }

    /// The tile sizes that occur in any block, as a set of bits.
    pub(super) const fn sizes(self, max: usize) -> u32 {
        let (mut sizes, mut i) = (0, 0);
        while i < self.count {
            let (first, end) = self.get(i);
            sizes |= Split::new(end - first, max).sizes();
            i += 1;
        }
        sizes
    }
}

/// Runs `$body` for the larger and for the smaller tiles of a split of `$first..$end`, with their size as the constant `$ROWS`,
/// the first position as `$at` and their number as `$count`. `$sizes` is a constant set of sizes that can occur: the others
/// are not compiled.
macro_rules! by_size {
    ($first:expr, $end:expr, $max:expr, $sizes:expr, |$ROWS:ident, $at:ident, $count:ident| $body:expr) => {{
        let split = $crate::kernel::tile::Split::new($end - $first, $max);
        let mut $at = $first;
        for (size, $count) in [(split.size + 1, split.larger), (split.size, split.rest)] {
            if $count == 0 {
                continue;
            }
            $crate::kernel::tile::by_size!(@arms size, $max, $sizes, $ROWS, $body, 1 2 3 4 5 6);
            $at += size * $count;
        }
    }};
    (@arms $size:ident, $max:expr, $sizes:expr, $ROWS:ident, $body:expr, $($n:literal)*) => {
        match $size {
            $($n if const { $n <= $max && $sizes >> $n & 1 == 1 } => {
                const $ROWS: usize = $n;
                $body
            })*
            _ => {}
        }
    };
}
pub(super) use by_size;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_even_and_complete() {
        assert_eq!(Split::new(49, 6), Split { size: 5, larger: 4, rest: 5 });
        for len in 0..500 {
            for max in 1..=6 {
                let split = Split::new(len, max);
                assert_eq!(split.larger * (split.size + 1) + split.rest * split.size, len);
                assert_eq!(split.larger + split.rest, len.div_ceil(max));
                assert!(split.size <= max && (split.larger == 0 || split.size < max));
            }
            let blocks = Blocks::new(7, len, 64);
            let mut at = 7;
            for i in 0..blocks.count {
                let (first, end) = blocks.get(i);
                assert!(first == at && end > first && end - first <= 64);
                at = end;
            }
            assert_eq!(at, 7 + len);
        }
    }
}
