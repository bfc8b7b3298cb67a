//! The register tile of pointwise and dense convolutions: `ROWS` pixels by `VECTORS` vectors of output channels.
//!
//! ```text
//! for i in 0..k { for r in 0..ROWS { for v in 0..VECTORS { acc[r][v] += a[r][i] * w[v][i][..] } } }
//! ```
//! All sums stay in registers over the whole of `k`: a panel is read front to back, a pixel's channels too. A vector of sixteen
//! lanes is a panel, one of eight half a panel.

use super::activation::activate;
use crate::isa::{Simd, UNROLL, products};
use crate::pack::PANEL;
use crate::params::Activation;

/// Cache lines that [`accumulate`] asks for in `k` steps.
pub(super) const fn lines(k: usize, ahead: usize) -> usize {
    k / UNROLL * ahead
}

/// The weights of `VECTORS` vectors of output channels from `column` on: where each starts, `PANEL` floats a step of `k`. A vector
/// beyond the last panel repeats the first one: its sums are never stored.
///
/// # Safety
/// `w` holds the panels of a `[k][n]` matrix, `column` is a multiple of `S::LANES` below `n`.
#[inline(always)]
pub(super) unsafe fn panels<S: Simd, const VECTORS: usize>(
    w: *const f32,
    k: usize,
    n: usize,
    column: usize,
) -> [*const f32; VECTORS] {
    core::array::from_fn(|v| {
        let c = column + v * S::LANES;
        let c = if c < n { c } else { column };
        // SAFETY: `c < n`, so its panel exists, and a vector does not cross panels.
        unsafe { w.add(c / PANEL * PANEL * k + c % PANEL) }
    })
}

/// A tile whose rows all hold the bias.
///
/// # Safety
/// `bias` is padded to whole panels and `column` is below its length.
#[inline(always)]
pub(super) unsafe fn start<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    bias: *const f32,
    n: usize,
    column: usize,
) -> [[S::V; VECTORS]; ROWS] {
    let row = core::array::from_fn(|v| {
        let c = column + v * S::LANES;
        // SAFETY: a vector that starts below `n` ends within the last panel.
        if c < n { unsafe { s.load(bias.add(c)) } } else { s.splat(0.0) }
    });
    [row; ROWS]
}

/// Adds the products of `k` elements of every row, `pitch` floats apart, with `k` steps of the panels. Meanwhile `AHEAD` cache lines
/// in [`UNROLL`] steps are asked for from `ahead` on, which need not be readable: the weights that come next.
///
/// # Safety
/// `k` floats can be read at every row, `k` steps of panels at every `w`.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const AHEAD: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    rows: (*const f32, usize),
    w: [*const f32; VECTORS],
    k: usize,
    ahead: *const f32,
) {
    // Sums of its own: those of the caller may stay in memory, and these must not.
    let mut sums = *acc;
    // SAFETY: the caller's.
    unsafe { s.products::<ROWS, VECTORS, AHEAD>(&mut sums, rows, w, k, ahead) };
    *acc = sums;
}

/// [`accumulate`] of half a vector of channels.
///
/// # Safety
/// As for [`accumulate`].
#[inline(always)]
pub(super) unsafe fn accumulate_half<S: Simd, const ROWS: usize, const AHEAD: usize>(
    s: S,
    acc: &mut [[S::V; 1]; ROWS],
    rows: (*const f32, usize),
    w: *const f32,
    k: usize,
    ahead: *const f32,
) {
    let mut sums = *acc;
    // SAFETY: the caller's.
    unsafe { s.half_products::<ROWS, AHEAD>(&mut sums, rows, w, k, ahead) };
    *acc = sums;
}

/// [`accumulate`] of `runs` runs of `k` elements, the rows of run `i` from `a(i)` on, the panels one run behind the other.
///
/// # Safety
/// `k` floats can be read at every row of every run, `runs * k` steps of panels at every `w`.
#[inline(always)]
pub(super) unsafe fn accumulate_runs<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    runs: usize,
    (a, pitch): (impl Fn(usize) -> *const f32, usize),
    mut w: [*const f32; VECTORS],
    k: usize,
) {
    let mut sums = *acc;
    for i in 0..runs {
        // SAFETY: the caller's; behind the last run, nothing is read.
        unsafe { s.products::<ROWS, VECTORS, 0>(&mut sums, (a(i), pitch), w, k, w[0]) };
        w = w.map(|w| w.wrapping_add(k * PANEL));
    }
    *acc = sums;
}

/// [`accumulate_runs`] with the rows of run `i` anywhere, and of any length: `a(i)`.
///
/// # Safety
/// The elements of run `i` can be read at each of its rows, and at every `w` as many steps of panels as all runs have elements.
#[inline(always)]
pub(super) unsafe fn accumulate_apart<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    runs: usize,
    a: impl Fn(usize) -> ([*const f32; ROWS], usize),
    mut w: [*const f32; VECTORS],
) {
    let mut sums = *acc;
    for i in 0..runs {
        let (rows, k) = a(i);
        // SAFETY: the caller's; behind the last run, nothing is read.
        unsafe { products::<S, ROWS, VECTORS, 0>(s, &mut sums, rows, w, k, core::ptr::null()) };
        w = w.map(|w| w.wrapping_add(k * PANEL));
    }
    *acc = sums;
}

/// Pixels of a tile in memory: row `r` stands at `at + r * pitch`.
#[derive(Clone, Copy)]
pub(super) struct Spot<P> {
    /// The first row's first channel of the tile.
    pub at: P,
    /// Floats from a row to the next.
    pub pitch: usize,
    /// Channels that exist; the lanes beyond them are padding.
    pub valid: usize,
}

/// Lanes of vector `v` that exist.
#[inline(always)]
fn lanes<S: Simd>(valid: usize, v: usize) -> usize {
    valid.saturating_sub(v * S::LANES).min(S::LANES)
}

/// Adds the residual, where there is one, and applies the activation.
///
/// # Safety
/// `valid` floats can be read at every row of `residual`.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    act: Activation,
    residual: Option<Spot<*const f32>>,
) {
    if let Some(spot) = residual {
        for (r, row) in acc.iter_mut().enumerate() {
            for (v, sum) in row.iter_mut().enumerate() {
                // SAFETY: the caller has `valid` floats in every row.
                let x = unsafe {
                    let at = spot.at.add(r * spot.pitch + v * S::LANES);
                    if spot.valid == VECTORS * S::LANES { s.load(at) } else { s.load_part(at, lanes::<S>(spot.valid, v)) }
                };
                *sum = s.add(*sum, x);
            }
        }
    }
    activate(s, act, acc);
}

/// Writes the channels that exist.
///
/// # Safety
/// `valid` floats can be written at every row of `spot`.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &[[S::V; VECTORS]; ROWS],
    spot: Spot<*mut f32>,
) {
    if spot.valid == VECTORS * S::LANES {
        for (r, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                // SAFETY: the caller has `valid` floats in every row, which are all of the tile's.
                unsafe { s.store(*sum, spot.at.add(r * spot.pitch + v * S::LANES)) };
            }
        }
    } else {
        for (r, row) in acc.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                // SAFETY: the caller has `valid` floats in every row.
                unsafe { s.store_part(*sum, spot.at.add(r * spot.pitch + v * S::LANES), lanes::<S>(spot.valid, v)) };
            }
        }
    }
}

/// Adds all rows, one after another, to the row of sums at `spot`. The sums stay in memory: registers are for the tile.
///
/// # Safety
/// `valid` floats can be read and written at `spot`.
#[inline(always)]
pub(super) unsafe fn add_up<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &[[S::V; VECTORS]; ROWS],
    spot: Spot<*mut f32>,
) {
    for v in 0..VECTORS {
        let n = lanes::<S>(spot.valid, v);
        // SAFETY: the caller has `valid` floats there.
        unsafe {
            let at = spot.at.add(v * S::LANES);
            let mut total = s.load_part(at, n);
            for row in acc {
                total = s.add(total, row[v]);
            }
            s.store_part(total, at, n);
        }
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
}

/// Blocks of pixels: `0..len` in as few of at most `block` as possible, all of nearly the same length.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub len: usize,
    pub count: usize,
}

impl Blocks {
    #[inline(always)]
    pub(super) const fn new(len: usize, block: usize) -> Self {
        Self { len, count: len.div_ceil(block) }
    }

    #[inline(always)]
    pub(super) const fn get(self, i: usize) -> (usize, usize) {
        (self.len * i / self.count, self.len * (i + 1) / self.count)
    }
}

/// Runs `$body` for the larger and for the smaller tiles of a split of `$first..$end`, with their size as the constant `$ROWS`,
/// the first position as `$at` and their number as `$count`. Sizes above the constant `$max` are not compiled; `$most`, where it is
/// given, is the largest one used now.
macro_rules! by_size {
    ($first:expr, $end:expr, $max:expr, |$ROWS:ident, $at:ident, $count:ident| $body:expr) => {
        $crate::kernel::tile::by_size!($first, $end, $max, $max, |$ROWS, $at, $count| $body)
    };
    ($first:expr, $end:expr, $max:expr, $most:expr, |$ROWS:ident, $at:ident, $count:ident| $body:expr) => {{
        let split = $crate::kernel::tile::Split::new($end - $first, $most);
        let mut $at = $first;
        for (size, $count) in [(split.size + 1, split.larger), (split.size, split.rest)] {
            if $count == 0 {
                continue;
            }
            $crate::kernel::tile::by_size!(@arms size, $max, $ROWS, $body, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
            $at += size * $count;
        }
    }};
    (@arms $size:ident, $max:expr, $ROWS:ident, $body:expr, $($n:literal)*) => {
        match $size {
            $($n if const { $n <= $max } => {
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
        assert_eq!(Split::new(49, 14), Split { size: 12, larger: 1, rest: 3 });
        for len in 0..500 {
            for max in 1..=14 {
                let split = Split::new(len, max);
                assert_eq!(split.larger * (split.size + 1) + split.rest * split.size, len);
                assert_eq!(split.larger + split.rest, len.div_ceil(max));
                assert!(split.size <= max && (split.larger == 0 || split.size < max));
            }
            let blocks = Blocks::new(len, 64);
            let mut at = 0;
            for i in 0..blocks.count {
                let (first, end) = blocks.get(i);
                assert!(first == at && end > first && end - first <= 64);
                at = end;
            }
            assert_eq!(at, len);
        }
    }
}
