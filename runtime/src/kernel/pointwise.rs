//! Pointwise convolution and dense layer: `[pixels, in_c] x [in_c, out_c]`.
//!
//! Pixels are taken in blocks that stay in the second-level cache; inside a block, panel by panel, so that a panel is read
//! from the first-level cache for all tiles but the first. A single pixel (a dense layer) runs through several panels at once,
//! because one row of sums would wait for its own additions.

use core::cell::Cell;
use core::ops::Range;

use super::tile::{self, Blocks, Spot, by_size};
use super::{Residual, check_len, check_rows, size, strassen};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{PANEL, bias_len};
use crate::params::{Method, Pointwise};

/// Input elements of a block of pixels: half of the second-level cache, which has 1 MiB where vectors have sixteen lanes, elsewhere
/// often 512 KiB. 14x14x512 in one block of 392 KiB takes 2 % less than in two that read the weights twice.
const fn block_floats<S: Simd>() -> usize {
    if S::LANES > 8 { 132 << 10 } else { 64 << 10 }
}
/// Bounds of a block in pixels.
const BLOCK_PIXELS: Range<usize> = 70..252;
/// Cache lines of the next weights that a tile asks for in [`crate::isa::UNROLL`] steps: two tiles ask for all that a panel holds.
/// At 7x7 two panels serve four large tiles, or one panel seven short ones, so weights come as fast as they are used, from the third
/// level of cache or beyond, and without this the kernel runs at three quarters of its speed.
const AHEAD: usize = 2;
/// Output channels that a single pixel is multiplied with at once. Weights come from the third level of cache, 64 bytes in two to
/// three cycles: four panels, each sum with a latency of four cycles, keep up, and eight streams of weights were 15 % slower.
const SINGLE: usize = 4 * PANEL;

/// Floats of [`Later`]: 1 MiB, with which V3 large takes 3.5 % less; half of it gained two thirds of that, twice as much no more.
const WINDOW: usize = 256 << 10;

/// Bytes of a panel that may stay in the first level of cache from tile to tile.
const NEAR: usize = 32 << 10;

/// `y = act(x . w + bias + residual)`, or its mean over all pixels.
///
/// `x` `[h, w, in_c]`; `w` packed as [`Pointwise::method`] asks; `bias` padded to [`bias_len`]; `y` and the residual
/// `[h, w, out_c]`. With [`Pointwise::pool`] `y` is `[out_c]`, `rows` must be all and there is no residual. Panics where a length
/// is another.
#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
pub fn pointwise(
    isa: Isa,
    p: &Pointwise,
    rows: Range<usize>,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    residual: Residual<'_>,
    y: &mut [f32],
) {
    check_rows("pointwise", &rows, p.h);
    check_len("pointwise input", x.len(), size([p.h, p.w, p.in_c]));
    check_len("pointwise weights", w.len(), p.weights());
    check_len("pointwise bias", bias.len(), bias_len(p.out_c));
    assert!(p.has_method(), "pointwise: {:?} for a layer of {p:?}", p.method);
    assert!(p.method == Method::Direct || residual == Residual::None, "pointwise: {:?} takes no residual", p.method);
    let first = rows.start * p.w;
    let (from, to) = if p.pool {
        assert!(rows == (0..p.h), "pointwise: a fused pool needs all rows, not {rows:?} of {}", p.h);
        assert!(residual == Residual::None, "pointwise: a fused pool takes no residual");
        check_len("pointwise output", y.len(), p.out_c);
        (None, y.as_mut_ptr())
    } else {
        check_len("pointwise output", y.len(), size([p.h, p.w, p.out_c]));
        let to = y[first * p.out_c..].as_mut_ptr();
        match residual {
            Residual::None => (None, to),
            Residual::InPlace => (Some(to.cast_const()), to),
            Residual::From(r) => {
                check_len("pointwise residual", r.len(), y.len());
                (Some(r[first * p.out_c..].as_ptr()), to)
            }
        }
    };
    let band = Band {
        p,
        pixels: rows.len() * p.w,
        columns: 0..p.out_c,
        x: x[first * p.in_c..].as_ptr(),
        x_pitch: p.in_c,
        w: w.as_ptr(),
        bias: bias.as_ptr(),
        residual: from.map(|r| (r, p.out_c)),
        y: to,
        y_pitch: p.out_c,
        later: Later::nothing(),
    };
    // SAFETY: every operand was checked to be as long as the parameters say; `y` is borrowed for writing, so nothing else is it.
    unsafe { KERNELS[which(p)](isa, band) };
}

/// Some pixels and some output channels of a pointwise convolution.
pub(crate) struct Band<'a> {
    pub p: &'a Pointwise,
    /// How many, one behind the other.
    pub pixels: usize,
    /// Output channels; the start is a multiple of [`PANEL`], the end too or the last channel.
    pub columns: Range<usize>,
    /// The first pixel's first channel.
    pub x: *const f32,
    pub x_pitch: usize,
    /// Of the whole layer.
    pub w: *const f32,
    /// Of the whole layer.
    pub bias: *const f32,
    /// The first pixel's first output channel, and the pitch; may be `y` itself.
    pub residual: Option<(*const f32, usize)>,
    /// The first pixel's first output channel, also where `columns` start later; with [`Pointwise::pool`] the mean's.
    pub y: *mut f32,
    pub y_pitch: usize,
    pub later: Later,
}

/// Weights of the layers behind. A tile whose own next panels have all been asked for asks for some of these: a dense layer of one
/// pixel would wait for memory at each of its weights, which a layer of many pixels has time to fetch.
pub(crate) struct Later {
    next: Cell<*const f32>,
    end: *const f32,
}

impl Later {
    /// Nothing.
    pub(crate) const fn nothing() -> Self {
        Self { next: Cell::new(core::ptr::null()), end: core::ptr::null() }
    }

    /// Of the `floats` weights from `from` on the first [`WINDOW`], and of these the part of thread `thread` of `threads`. They are
    /// never read.
    pub(crate) fn part(from: *const f32, floats: usize, thread: usize, threads: usize) -> Self {
        let at = |thread: usize| from.wrapping_add(floats.min(WINDOW) * thread / threads.max(1));
        Self { next: Cell::new(at(thread)), end: at(thread + 1) }
    }

    /// The next `lines` cache lines.
    #[inline(always)]
    fn take(&self, lines: usize) -> Option<*const f32> {
        let at = self.next.get();
        (at < self.end).then(|| {
            self.next.set(at.wrapping_add(lines * PANEL));
            at
        })
    }
}

/// A kernel of some layers.
///
/// # Safety
/// It is that of [`KERNELS`] which [`which`] names for the band's layer.
/// Pointers are valid for all that pixels, channels and pitches reach, `w` and `bias` for the whole packed layer; `y` is neither
/// read nor written by anything else meanwhile, and is no other operand but the residual.
pub(crate) type Kernel = unsafe fn(Isa, Band<'_>);

/// A kernel a method.
pub(crate) const KERNELS: [Kernel; 2] = [direct, by_strassen];

/// The layer's kernel among [`KERNELS`].
pub(crate) const fn which(p: &Pointwise) -> usize {
    match p.method {
        Method::Direct | Method::Winograd2 | Method::Winograd4 => 0,
        Method::Strassen => 1,
    }
}

/// # Safety
/// As [`Kernel`] says.
unsafe fn direct(isa: Isa, band: Band<'_>) {
    isa.run(Call(band));
}

/// # Safety
/// As [`Kernel`] says.
unsafe fn by_strassen(isa: Isa, band: Band<'_>) {
    isa.run(strassen::Dense { b: &band });
}

/// The direct kernel inside of another.
///
/// # Safety
/// As [`Kernel`] says.
#[inline(always)]
pub(super) unsafe fn sum(band: Band<'_>) -> impl Job {
    Call(band)
}

struct Call<'a>(Band<'a>);

impl Job for Call<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = &self.0;
        if b.pixels == 1 && !b.p.pool {
            return single(s, b);
        }
        if b.p.pool {
            for c in b.columns.clone() {
                // SAFETY: a channel of the mean.
                unsafe { *b.y.add(c) = 0.0 };
            }
        }
        let in_c = b.p.in_c.max(1);
        let blocks = Blocks::new(b.pixels, (block_floats::<S>() / in_c).clamp(BLOCK_PIXELS.start, BLOCK_PIXELS.end));
        for i in 0..blocks.count {
            let (first, end) = blocks.get(i);
            let mut column = b.columns.start;
            while column < b.columns.end {
                let left = b.columns.end - column;
                let half = const { S::HALVES } && left.next_multiple_of(S::LANES) - left >= S::LANES / 2;
                if half && left <= S::LANES / 2 {
                    halves::<S>(s, b, first, end, column);
                    column = b.columns.end;
                } else if left > S::LANES && !(half && left <= S::WIDE) && !short(s, in_c) {
                    wide::<S>(s, b, first, end, column);
                    column += S::WIDE;
                } else {
                    narrow::<S>(s, b, first, end, column);
                    column += S::LANES;
                }
            }
        }
        if b.p.pool {
            for c in b.columns.clone() {
                // SAFETY: as above.
                unsafe { *b.y.add(c) /= b.pixels as f32 };
            }
        }
    }
}

/// Whether sums of `k` products are cut into [`Simd::short_tiles`]: a panel that comes from the second level for every tile is better
/// read by few large ones (960 products: 3 %).
#[inline(always)]
fn short<S: Simd>(s: S, k: usize) -> bool {
    s.short_tiles() && 4 * k * PANEL <= NEAR
}

/// Two vectors of output channels for a block of pixels.
#[inline(always)]
fn wide<S: Simd>(s: S, b: &Band<'_>, first: usize, end: usize, column: usize) {
    by_size!(first, end, S::ROWS, |ROWS, pixel, tiles| s.outline(Tiles::<ROWS, 2> { b, first, pixel, tiles, column }));
}

/// One vector of output channels for a block of pixels.
#[inline(always)]
fn narrow<S: Simd>(s: S, b: &Band<'_>, first: usize, end: usize, column: usize) {
    let most = if short(s, b.p.in_c) { S::SHORT_ROWS } else { S::NARROW_ROWS };
    by_size!(first, end, S::NARROW_ROWS, most, |ROWS, pixel, tiles| s.outline(Tiles::<ROWS, 1> {
        b,
        first,
        pixel,
        tiles,
        column
    }));
}

/// The last half vector of output channels for a block of pixels. In large tiles: what a step loads, it loads for half a product.
#[inline(always)]
fn halves<S: Simd>(s: S, b: &Band<'_>, first: usize, end: usize, column: usize) {
    by_size!(first, end, S::NARROW_ROWS, |ROWS, pixel, tiles| s.outline(Half(Tiles::<ROWS, 1> {
        b,
        first,
        pixel,
        tiles,
        column
    })));
}

/// `tiles` tiles of `VECTORS` vectors of output channels from `pixel` on, of a block that starts at `first`.
struct Tiles<'a, const ROWS: usize, const VECTORS: usize> {
    b: &'a Band<'a>,
    first: usize,
    pixel: usize,
    tiles: usize,
    column: usize,
}

impl<const ROWS: usize, const VECTORS: usize> Job for Tiles<'_, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.each(s, |acc, rows, w, k, ahead| {
            // SAFETY: `each` gives operands that are what this reads.
            unsafe { tile::accumulate::<S, ROWS, VECTORS, AHEAD>(s, acc, rows, w, k, ahead) }
        });
    }
}

/// Tiles of one vector of which only the first half are channels.
struct Half<'a, const ROWS: usize>(Tiles<'a, ROWS, 1>);

impl<const ROWS: usize> Job for Half<'_, ROWS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.each(s, |acc, rows, [w], k, ahead| {
            // SAFETY: `each` gives operands that are what this reads.
            unsafe { tile::accumulate_half::<S, ROWS, AHEAD>(s, acc, rows, w, k, ahead) }
        });
    }
}

impl<const ROWS: usize, const VECTORS: usize> Tiles<'_, ROWS, VECTORS> {
    /// Computes every tile, its sums by `accumulate` from its rows, where the panels start, steps of `k`, and the weights to ask for.
    #[inline(always)]
    fn each<S: Simd>(
        &self,
        s: S,
        accumulate: impl Fn(&mut [[S::V; VECTORS]; ROWS], (*const f32, usize), [*const f32; VECTORS], usize, *const f32),
    ) {
        let (b, column) = (self.b, self.column);
        let (k, n) = (b.p.in_c, b.p.out_c);
        let valid = (b.columns.end - column).min(VECTORS * S::LANES);
        // SAFETY: `column` is a channel of the layer, on a vector's boundary.
        let w = unsafe { tile::panels::<S, VECTORS>(b.w, k, n, column) };
        // Each tile asks for its part of the panels that come next, or behind the last part for what comes later, or for the start
        // of the panels after them.
        let group = k * VECTORS * S::LANES;
        let next = w[0].wrapping_add(group);
        for i in 0..self.tiles {
            let pixel = self.pixel + i * ROWS;
            // SAFETY: the tile's pixels are pixels of the band, its `valid` channels channels of the band.
            unsafe {
                let x = b.x.add(pixel * b.x_pitch);
                let mut acc = tile::start::<S, ROWS, VECTORS>(s, b.bias, n, column);
                let lines = tile::lines(k, AHEAD);
                let mine = (pixel - self.first) / ROWS * lines * PANEL;
                let later = if mine < group { None } else { b.later.take(lines) };
                let ahead = later.unwrap_or(next.wrapping_add(mine.min(group)));
                accumulate(&mut acc, (x, b.x_pitch), w, k, ahead);
                let residual = b.residual.map(|(at, pitch)| Spot { at: at.add(pixel * pitch + column), pitch, valid });
                tile::finish(s, &mut acc, b.p.act, residual);
                if b.p.pool {
                    tile::add_up(s, &acc, Spot { at: b.y.add(column), pitch: 0, valid });
                } else {
                    tile::store(s, &acc, Spot { at: b.y.add(pixel * b.y_pitch + column), pitch: b.y_pitch, valid });
                }
            }
        }
    }
}

/// One pixel, several vectors at a time; the same sums as those of [`Tiles`] in the same order.
#[inline(always)]
fn single<S: Simd>(s: S, b: &Band<'_>) {
    let mut column = b.columns.start;
    while column < b.columns.end {
        let vectors = (b.columns.end - column).min(SINGLE).div_ceil(S::LANES);
        match vectors {
            1 => s.outline(Vectors::<1> { b, column }),
            2 => s.outline(Vectors::<2> { b, column }),
            3 => s.outline(Vectors::<3> { b, column }),
            4 => s.outline(Vectors::<4> { b, column }),
            5 => s.outline(Vectors::<5> { b, column }),
            6 => s.outline(Vectors::<6> { b, column }),
            7 => s.outline(Vectors::<7> { b, column }),
            _ => s.outline(Vectors::<8> { b, column }),
        }
        column += vectors * S::LANES;
    }
}

/// `VECTORS` vectors of output channels from `column` on for one pixel.
struct Vectors<'a, const VECTORS: usize> {
    b: &'a Band<'a>,
    column: usize,
}

impl<const VECTORS: usize> Job for Vectors<'_, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (b, column) = (self.b, self.column);
        let (k, n) = (b.p.in_c, b.p.out_c);
        let valid = (b.columns.end - column).min(VECTORS * S::LANES);
        // SAFETY: `column` is a channel of the layer on a vector's boundary, and `valid` channels from there on are of the band.
        unsafe {
            let w = tile::panels::<S, VECTORS>(b.w, k, n, column);
            let mut acc = tile::start::<S, 1, VECTORS>(s, b.bias, n, column);
            tile::accumulate::<S, 1, VECTORS, 0>(s, &mut acc, (b.x, 0), w, k, w[0]);
            let residual = b.residual.map(|(at, pitch)| Spot { at: at.add(column), pitch, valid });
            tile::finish(s, &mut acc, b.p.act, residual);
            tile::store(s, &acc, Spot { at: b.y.add(column), pitch: b.y_pitch, valid });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;
    use crate::pack;
    use crate::params::Activation;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever tiles an instruction set cuts, all outputs are added up in the same order: bias, products, residual, pixels.
        /// Short sums and some whose panels leave the first level of cache.
        #[test]
        fn tiles_of_any_shape_add_up_in_order(
            w in 1usize..60, in_c in prop_oneof![3 => 1usize..40, 1 => 510usize..516], out_c in 1usize..100, pool: bool,
            residual: bool, seed in 0usize..1000,
        ) {
            let residual = residual && !pool;
            let p = Pointwise { h: 1, w, in_c, out_c, act: Activation::Relu, pool, method: Method::Direct };
            let (x, weights, r) = (values(w * in_c, seed), values(in_c * out_c, seed + 1), values(w * out_c, seed + 3));
            let mut bias = values(out_c, seed + 2);
            bias.resize(bias_len(out_c), 0.0);
            let mut panels = vec![0.0; pack::panels_len(in_c, out_c)];
            pack::panels(in_c, out_c, &weights, &mut panels);
            let mut want: Vec<f32> = (0..w * out_c)
                .map(|i| {
                    let (pixel, o) = (i / out_c, i % out_c);
                    let sum = (0..in_c).fold(bias[o], |sum, c| x[pixel * in_c + c].mul_add(weights[c * out_c + o], sum));
                    (if residual { sum + r[i] } else { sum }).max(0.0)
                })
                .collect();
            if pool {
                want = (0..out_c).map(|o| (0..w).fold(0.0, |sum, i| sum + want[i * out_c + o]) / w as f32).collect();
            }
            // Scalar products are rounded.
            for isa in Isa::tested().filter(|&isa| isa != Isa::scalar()) {
                let mut y = vec![f32::NAN; want.len()];
                let from = if residual { Residual::From(&r) } else { Residual::None };
                pointwise(isa, &p, 0..1, &x, &panels, &bias, from, &mut y);
                prop_assert!(y.iter().zip(&want).all(|(a, b)| a == b), "{} {:?}", isa.name(), p);
            }
        }
    }
}
