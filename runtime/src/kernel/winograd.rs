//! Convolution of 3x3 windows at stride 1 by Winograd's minimal filtering F(2x2, 3x3): 16 products where the sum has 36 (Lavin and
//! Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1).
//!
//! ```text
//! four windows side by side, Y [2][2], read D [4][4] of each input channel:
//! Y = A^T (sum over c of (G g_c G^T) . (B^T D_c B)) A
//!
//! B^T = 1  0 -1  0    G = 1    0    0     A^T = 1  1  1  0
//!       0  1  1  0        1/2  1/2  1/2         0  1 -1 -1
//!       0 -1  1  0        1/2 -1/2  1/2
//!       0  1  0 -1        0    0    1
//! ```
//! `G g G^T` is made when weights are packed ([`crate::pack::winograd`]), and for each of its 16 elements the sum over channels is a
//! matrix product: the register tile of [`super::tile`], with a pixel of four outputs in place of one.
//!
//! A tile of pixels is transformed to scratch memory of this call, then for two vectors of output channels after the other the 16
//! products are added up, and transformed back with bias, residual and activation. Wide inputs are added up in pieces.
//!
//! Rounding: sums and differences of up to four inputs, then of up to nine products, take the place of single ones, so the error
//! of a sum of `k` products is up to some times that of the direct sum. A number that is not finite spreads over its four outputs.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::activation::activate;
use super::conv::Band;
use super::tile::{self, Spot, by_size};
use super::{load_n, store_n};
use crate::isa::{Job, Simd};
use crate::pack::PANEL;

/// Elements of a transformed tile, and the side of its four outputs.
const ELEMENTS: usize = 16;
const SIDE: usize = 2;
/// Input channels that are transformed at a time: with fourteen pixels 56 KiB, which the first level of cache nearly holds.
const CHANNELS: usize = 64;
/// Most pixels of a register tile, and most lanes of two vectors.
const MOST_ROWS: usize = 14;
const MOST_WIDE: usize = 2 * PANEL;

/// What stands outside of the input.
static ZEROS: [f32; CHANNELS] = [0.0; CHANNELS];

/// Transformed inputs `[16][pixels][channels]` and sums `[16][pixels][WIDE]` of a tile.
struct Scratch {
    inputs: [MaybeUninit<f32>; ELEMENTS * MOST_ROWS * CHANNELS],
    sums: [MaybeUninit<f32>; ELEMENTS * MOST_ROWS * MOST_WIDE],
}

/// A band of one group, as [`super::conv`] does it directly. A job of its own, for its scratch memory is on the stack.
pub(super) struct Dense<'a> {
    pub b: &'a Band<'a>,
}

impl Job for Dense<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.b;
        // Whole pixels, also where a band starts or ends inside one: an output is made of the same numbers in any band.
        let tiles_high = b.rows.start / SIDE..b.rows.end.div_ceil(SIDE);
        let wide = b.p.out_w.div_ceil(SIDE);
        let mut scratch = MaybeUninit::<Scratch>::uninit();
        let scratch = scratch.as_mut_ptr();
        by_size!(tiles_high.start * wide, tiles_high.end * wide, S::ROWS, |ROWS, first, tiles| {
            for i in 0..tiles {
                s.outline(Tile::<ROWS> { b, first: first + i * ROWS, wide, scratch });
            }
        });
    }
}

/// `ROWS` pixels of four outputs each, counted row by row.
struct Tile<'a, const ROWS: usize> {
    b: &'a Band<'a>,
    first: usize,
    /// Pixels of a row.
    wide: usize,
    scratch: *mut Scratch,
}

impl<const ROWS: usize> Job for Tile<'_, ROWS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, first, wide, scratch } = self;
        let mut column = b.columns.start;
        // All of the input channels at once where there are few: then they are transformed once for all output channels.
        let pieces = b.p.in_c.div_ceil(CHANNELS);
        // SAFETY: the scratch memory is the caller's, who lends it to one tile at a time.
        let (inputs, sums) = unsafe { ((&raw mut (*scratch).inputs).cast::<f32>(), (&raw mut (*scratch).sums).cast::<f32>()) };
        let pixels = Pixels { b, first, wide, count: ROWS };
        if pieces == 1 {
            s.outline(Forward { pixels, channels: 0..b.p.in_c, to: inputs });
        }
        while column < b.columns.end {
            let vectors = if b.columns.end - column > S::LANES { 2 } else { 1 };
            for piece in 0..pieces.max(1) {
                let channels = piece * CHANNELS..(piece * CHANNELS + CHANNELS).min(b.p.in_c);
                if pieces > 1 {
                    s.outline(Forward { pixels, channels: channels.clone(), to: inputs });
                }
                if vectors == 2 {
                    s.outline(Products::<ROWS, 2> { b, column, channels, inputs, sums });
                } else {
                    s.outline(Products::<ROWS, 1> { b, column, channels, inputs, sums });
                }
            }
            s.outline(Back { pixels, column, sums });
            column += vectors * S::LANES;
        }
    }
}

/// Pixels of a tile.
#[derive(Clone, Copy)]
struct Pixels<'a> {
    b: &'a Band<'a>,
    first: usize,
    wide: usize,
    count: usize,
}

impl Pixels<'_> {
    /// The first of the two output rows and columns of pixel `i`.
    #[inline(always)]
    fn at(&self, i: usize) -> (usize, usize) {
        let at = self.first + i;
        (at / self.wide * SIDE, at % self.wide * SIDE)
    }
}

/// Floats from a transformed pixel to the next.
const fn pitch<S: Simd>(channels: usize) -> usize {
    channels.next_multiple_of(S::LANES)
}

/// `B^T D B` of some channels of every pixel.
struct Forward<'a> {
    pixels: Pixels<'a>,
    channels: Range<usize>,
    to: *mut f32,
}

impl Job for Forward<'_> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "rows and columns of small matrices")]
    fn run<S: Simd>(self, s: S) {
        let Self { pixels, channels, to } = self;
        let (b, p) = (pixels.b, pixels.b.p);
        let count = channels.end - channels.start;
        let pitch = pitch::<S>(count);
        let apart = pixels.count * pitch;
        // Rows of the input that the band's windows reach: a ring need not hold others.
        let reached = (b.rows.start.saturating_sub(p.pad_top), (b.rows.end + SIDE).saturating_sub(p.pad_top).min(p.in_h));
        for i in 0..pixels.count {
            let (oy, ox) = pixels.at(i);
            let x = ox.wrapping_sub(p.pad_left);
            let mut rows = [core::ptr::null::<f32>(); 4];
            let mut all = ox >= p.pad_left && x + 4 <= p.in_w;
            for (ky, row) in rows.iter_mut().enumerate() {
                let iy = (oy + ky).wrapping_sub(p.pad_top); // wraps to a huge number, so outside
                if iy >= reached.0 && iy < reached.1 {
                    *row = b.x.first.wrapping_add(b.x.row(iy) + channels.start);
                } else {
                    all = false;
                }
            }
            let mut c = 0;
            while c < count {
                let n = (count - c).min(S::LANES);
                // Loops and no closures: those are not compiled for the vectors of `S` unless they are inlined.
                let mut d = [[s.splat(0.0); 4]; 4];
                for ky in 0..4 {
                    for kx in 0..4 {
                        let ix = x.wrapping_add(kx);
                        let there = all || !rows[ky].is_null() && ix < p.in_w;
                        let at = if there { rows[ky].wrapping_add(ix * b.x.pitch) } else { ZEROS.as_ptr() };
                        // SAFETY: a row that is there is one that the band's windows reach, a column below `in_w` is in it, and `n`
                        // channels from `c` on are channels; the zeros are as many as a piece has channels.
                        d[ky][kx] = unsafe { load_n(s, at.add(c), n) };
                    }
                }
                for kx in 0..4 {
                    let column = forward(s, [d[0][kx], d[1][kx], d[2][kx], d[3][kx]]);
                    for ky in 0..4 {
                        d[ky][kx] = column[ky];
                    }
                }
                for ky in 0..4 {
                    let row = forward(s, d[ky]);
                    for kx in 0..4 {
                        // SAFETY: the scratch memory has room for 16 elements of every pixel, each of whole vectors.
                        unsafe { s.store(row[kx], to.add((ky * 4 + kx) * apart + i * pitch + c)) };
                    }
                }
                c += S::LANES;
            }
        }
    }
}

/// `B^T d`.
#[inline(always)]
fn forward<S: Simd>(s: S, d: [S::V; 4]) -> [S::V; 4] {
    [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3])]
}

/// The 16 matrix products of a piece of the input channels, added to those of the pieces before.
struct Products<'a, const ROWS: usize, const VECTORS: usize> {
    b: &'a Band<'a>,
    column: usize,
    channels: Range<usize>,
    inputs: *const f32,
    sums: *mut f32,
}

impl<const ROWS: usize, const VECTORS: usize> Job for Products<'_, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, column, channels, inputs, sums } = self;
        let (in_c, count) = (b.p.in_c, channels.end - channels.start);
        let pitch = pitch::<S>(count);
        for element in 0..ELEMENTS {
            // SAFETY: `column` is a channel of the layer on a vector's boundary; the panels have a row for every element and input
            // channel; the scratch memory holds this element of all rows, and has room for their sums.
            unsafe {
                let w = tile::panels::<S, VECTORS>(b.w, ELEMENTS * in_c, b.p.out_c, column);
                let w = w.map(|w| w.add((element * in_c + channels.start) * PANEL));
                let to = sums.add(element * ROWS * MOST_WIDE);
                let mut acc = [[s.splat(0.0); VECTORS]; ROWS];
                if channels.start > 0 {
                    for (r, row) in acc.iter_mut().enumerate() {
                        for (v, sum) in row.iter_mut().enumerate() {
                            *sum = s.load(to.add(r * MOST_WIDE + v * S::LANES));
                        }
                    }
                }
                let rows = (inputs.add(element * ROWS * pitch), pitch);
                tile::accumulate::<S, ROWS, VECTORS, 0>(s, &mut acc, rows, w, count, w[0]);
                tile::store(s, &acc, Spot { at: to, pitch: MOST_WIDE, valid: VECTORS * S::LANES });
            }
        }
    }
}

/// `A^T M A` of every pixel, finished and written.
struct Back<'a> {
    pixels: Pixels<'a>,
    column: usize,
    sums: *const f32,
}

impl Job for Back<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pixels, column, sums } = self;
        let (b, p) = (pixels.b, pixels.b.p);
        let end = b.columns.end.min(column + S::WIDE);
        for i in 0..pixels.count {
            let (oy, ox) = pixels.at(i);
            let mut c = column;
            while c < end {
                let n = (end - c).min(S::LANES);
                let mut rows = [[s.splat(0.0); SIDE]; 4];
                let mut y = [[s.splat(0.0); SIDE]; SIDE];
                // SAFETY: the scratch memory holds the 16 sums of every pixel; the bias is padded to whole vectors.
                unsafe {
                    let at = sums.add(i * MOST_WIDE + c - column);
                    let apart = pixels.count * MOST_WIDE;
                    for (ky, row) in rows.iter_mut().enumerate() {
                        let at = at.add(ky * 4 * apart);
                        *row = back(s, [s.load(at), s.load(at.add(apart)), s.load(at.add(2 * apart)), s.load(at.add(3 * apart))]);
                    }
                    let bias = s.load(b.bias.add(c));
                    for dx in 0..SIDE {
                        let column = back(s, [rows[0][dx], rows[1][dx], rows[2][dx], rows[3][dx]]);
                        for dy in 0..SIDE {
                            y[dy][dx] = s.add(column[dy], bias);
                        }
                    }
                }
                let at = |dy: usize, dx: usize| {
                    let inside = b.rows.contains(&(oy + dy)) && ox + dx < p.out_w;
                    inside.then(|| (oy + dy - b.rows.start) * p.out_w + ox + dx)
                };
                if let Some((residual, pitch)) = b.residual {
                    for (dy, row) in y.iter_mut().enumerate() {
                        for (dx, v) in row.iter_mut().enumerate() {
                            if let Some(pixel) = at(dy, dx) {
                                // SAFETY: a pixel of the band, `n` channels of it from `c` on.
                                *v = s.add(*v, unsafe { load_n(s, residual.add(pixel * pitch + c), n) });
                            }
                        }
                    }
                }
                activate(s, p.act, &mut y);
                for (dy, row) in y.into_iter().enumerate() {
                    for (dx, v) in row.into_iter().enumerate() {
                        if let Some(pixel) = at(dy, dx) {
                            // SAFETY: as above, of the output.
                            unsafe { store_n(s, v, b.y.add(pixel * b.y_pitch + c), n) };
                        }
                    }
                }
                c += S::LANES;
            }
        }
    }
}

/// `A^T m`.
#[inline(always)]
fn back<S: Simd>(s: S, m: [S::V; 4]) -> [S::V; 2] {
    let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    [s.add(m[0], sum), s.sub(difference, m[3])]
}
