//! Convolution of 3x3 windows at stride 1 by Winograd's minimal filtering F(n x n, 3x3): `(n + 2)^2` products where the sum has `9 n^2`
//! (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1). Here `n` is 2, 16 products for 36, or 4,
//! 36 for 144.
//!
//! ```text
//! n x n windows side by side, Y [n][n], read D [n + 2][n + 2] of each input channel:
//! Y = A^T (sum over c of (G g_c G^T) . (B^T D_c B)) A
//!
//! n = 2:  B^T = 1  0 -1  0    G = 1    0    0     A^T = 1  1  1  0
//!               0  1  1  0        1/2  1/2  1/2         0  1 -1 -1
//!               0 -1  1  0        1/2 -1/2  1/2
//!               0  1  0 -1        0    0    1
//!
//! n = 4:  B^T = p    0    -s    0    1  0     G = 1/p  0    0       A^T = 1   1    1    1    1   0
//!               0  -ab^2  -b^2  a    1  0         k    ka   ka^2          0   a   -a    b   -b   0
//!               0   ab^2  -b^2 -a    1  0         k   -ka   ka^2          0   a^2  a^2  b^2  b^2 0
//!               0  -ba^2  -a^2  b    1  0         l    lb   lb^2          0   a^3 -a^3  b^3 -b^3 1
//!               0   ba^2  -a^2 -b    1  0         l   -lb   lb^2
//!               0   p     0    -s    0  1         0    0    1
//!         p = a^2 b^2, s = a^2 + b^2, 1/k = 2 a^2 (a^2 - b^2), 1/l = 2 b^2 (b^2 - a^2)
//! ```
//! which holds for any `a` and `b` (the points of interpolation 0, +-a, +-b and infinity; Blahut, "Fast Algorithms for Signal
//! Processing", 2010, section 5.4). With 5/8 and 3/2, whose powers here are exact in f32, errors are 2.3 times those of the direct sum over
//! 16 or 64 channels; with the usual 1 and 2 they are 4 to 6 times as large, the largest of them 8 to 13 times.
//!
//! `G g G^T` is made when weights are packed ([`crate::pack::winograd`]), and for each of its elements the sum over channels is a
//! matrix product: the register tile of [`super::tile`], with a pixel of `n x n` outputs in place of one.
//!
//! A tile of pixels is transformed to scratch memory of this call, then for two vectors of output channels after the other the
//! products are added up, and transformed back with bias, residual and activation. Wide inputs are added up in pieces.
//!
//! Rounding: sums of several inputs, then of products, take the place of single ones, so the error of a sum of `k` products is up to
//! some times that of the direct sum. A number that is not finite spreads over its outputs.
//!
//! Bands: pixels are counted from the first output row, so an output is of the same pixel in any band. With `n = 2` it is also made of the
//! same numbers, as no sum for it reads an input row that its own windows do not; with `n = 4` it is not, so those who give bands keep
//! the input rows of whole pixels ([`crate::params::Method::tile`]).

use core::mem::MaybeUninit;
use core::ops::Range;

use super::activation::activate;
use super::conv::Band;
use super::tile::{self, Spot, by_size};
use super::{load_n, store_n};
use crate::isa::{Job, Simd};
use crate::pack::{FAR, NEAR, PANEL};

/// Input channels that are transformed at a time: 56 or 63 KiB of elements, which the first level of cache nearly holds.
const CHANNELS: usize = 64;
/// Most lanes of two vectors.
const MOST_WIDE: usize = 2 * PANEL;

/// Pixels of a register tile: with 36 elements half as many as registers take, so that the elements stay as near.
const fn rows<S: Simd, const TILE: usize>() -> usize {
    if TILE == 4 || S::ROWS < 7 { S::ROWS } else { 7 }
}

/// The most elements of all pixels of a tile: 16 of 14, or 36 of 7.
const ELEMENTS: usize = 36 * 7;

/// What stands outside of the input.
static ZEROS: [f32; CHANNELS] = [0.0; CHANNELS];

/// Transformed inputs `[elements][pixels][channels]` and sums `[elements][pixels][WIDE]` of a tile.
struct Scratch {
    inputs: [MaybeUninit<f32>; ELEMENTS * CHANNELS],
    sums: [MaybeUninit<f32>; ELEMENTS * MOST_WIDE],
}

/// A band of one group, as [`super::conv`] does it directly, with `SIDE x SIDE` outputs a pixel, whose elements are `TILE x TILE`. A job of
/// its own, for its scratch memory is on the stack.
pub(super) struct Dense<'a, const SIDE: usize, const TILE: usize> {
    pub b: &'a Band<'a>,
}

impl<const SIDE: usize, const TILE: usize> Job for Dense<'_, SIDE, TILE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.b;
        // Whole pixels, also where a band starts or ends inside one: an output is made of the same numbers in any band.
        let tiles_high = b.rows.start / SIDE..b.rows.end.div_ceil(SIDE);
        let wide = b.p.out_w.div_ceil(SIDE);
        let mut scratch = MaybeUninit::<Scratch>::uninit();
        let scratch = scratch.as_mut_ptr();
        by_size!(tiles_high.start * wide, tiles_high.end * wide, rows::<S, TILE>(), |ROWS, first, tiles| {
            for i in 0..tiles {
                s.outline(Tile::<ROWS, SIDE, TILE> { b, first: first + i * ROWS, wide, scratch });
            }
        });
    }
}

/// `ROWS` pixels of `SIDE x SIDE` outputs each, counted row by row.
struct Tile<'a, const ROWS: usize, const SIDE: usize, const TILE: usize> {
    b: &'a Band<'a>,
    first: usize,
    /// Pixels of a row.
    wide: usize,
    scratch: *mut Scratch,
}

impl<const ROWS: usize, const SIDE: usize, const TILE: usize> Job for Tile<'_, ROWS, SIDE, TILE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, first, wide, scratch } = self;
        let mut column = b.columns.start;
        // All of the input channels at once where there are few: then they are transformed once for all output channels.
        let pieces = b.p.in_c.div_ceil(CHANNELS);
        // SAFETY: the scratch memory is the caller's, who lends it to one tile at a time.
        let (inputs, sums) = unsafe { ((&raw mut (*scratch).inputs).cast::<f32>(), (&raw mut (*scratch).sums).cast::<f32>()) };
        let pixels = Pixels::<SIDE> { b, first, wide, count: ROWS };
        if pieces == 1 {
            s.outline(Forward::<SIDE, TILE> { pixels, channels: 0..b.p.in_c, to: inputs });
        }
        while column < b.columns.end {
            let vectors = if b.columns.end - column > S::LANES { 2 } else { 1 };
            for piece in 0..pieces.max(1) {
                let channels = piece * CHANNELS..(piece * CHANNELS + CHANNELS).min(b.p.in_c);
                if pieces > 1 {
                    s.outline(Forward::<SIDE, TILE> { pixels, channels: channels.clone(), to: inputs });
                }
                if vectors == 2 {
                    s.outline(Products::<ROWS, 2, TILE> { b, column, channels, inputs, sums });
                } else {
                    s.outline(Products::<ROWS, 1, TILE> { b, column, channels, inputs, sums });
                }
            }
            s.outline(Back::<SIDE, TILE> { pixels, column, sums });
            column += vectors * S::LANES;
        }
    }
}

/// Pixels of a tile.
#[derive(Clone, Copy)]
struct Pixels<'a, const SIDE: usize> {
    b: &'a Band<'a>,
    first: usize,
    wide: usize,
    count: usize,
}

impl<const SIDE: usize> Pixels<'_, SIDE> {
    /// The first of the output rows and columns of pixel `i`.
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
struct Forward<'a, const SIDE: usize, const TILE: usize> {
    pixels: Pixels<'a, SIDE>,
    channels: Range<usize>,
    to: *mut f32,
}

impl<const SIDE: usize, const TILE: usize> Job for Forward<'_, SIDE, TILE> {
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "rows and columns of small matrices")]
    fn run<S: Simd>(self, s: S) {
        let Self { pixels, channels, to } = self;
        let (b, p) = (pixels.b, pixels.b.p);
        let count = channels.end - channels.start;
        let pitch = pitch::<S>(count);
        let apart = pixels.count * pitch;
        // Rows of the input that the band's windows reach, or those of its pixels: a ring need not hold others.
        let tile = p.method.tile();
        let (start, end) = (b.rows.start / tile * tile, b.rows.end.next_multiple_of(tile));
        let reached = (start.saturating_sub(p.pad_top), (end + 2).saturating_sub(p.pad_top).min(p.in_h));
        for i in 0..pixels.count {
            let (oy, ox) = pixels.at(i);
            let x = ox.wrapping_sub(p.pad_left);
            let mut rows = [core::ptr::null::<f32>(); TILE];
            let mut all = ox >= p.pad_left && x + TILE <= p.in_w;
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
                let mut d = [[s.splat(0.0); TILE]; TILE];
                for ky in 0..TILE {
                    for kx in 0..TILE {
                        let ix = x.wrapping_add(kx);
                        let there = all || !rows[ky].is_null() && ix < p.in_w;
                        let at = if there { rows[ky].wrapping_add(ix * b.x.pitch) } else { ZEROS.as_ptr() };
                        // SAFETY: a row that is there is one that the band's windows reach, a column below `in_w` is in it, and `n`
                        // channels from `c` on are channels; the zeros are as many as a piece has channels.
                        d[ky][kx] = unsafe { load_n(s, at.add(c), n) };
                    }
                }
                for kx in 0..TILE {
                    let mut column = [s.splat(0.0); TILE];
                    for ky in 0..TILE {
                        column[ky] = d[ky][kx];
                    }
                    let column = forward(s, column);
                    for ky in 0..TILE {
                        d[ky][kx] = column[ky];
                    }
                }
                for ky in 0..TILE {
                    let row = forward(s, d[ky]);
                    for kx in 0..TILE {
                        // SAFETY: the scratch memory has room for all elements of every pixel, each of whole vectors.
                        unsafe { s.store(row[kx], to.add((ky * TILE + kx) * apart + i * pitch + c)) };
                    }
                }
                c += S::LANES;
            }
        }
    }
}

/// `B^T d`.
#[inline(always)]
fn forward<S: Simd, const TILE: usize>(s: S, d: [S::V; TILE]) -> [S::V; TILE] {
    let mut y = d;
    if const { TILE == 4 } {
        y[0] = s.sub(d[0], d[2]);
        y[1] = s.add(d[1], d[2]);
        y[2] = s.sub(d[2], d[1]);
        y[3] = s.sub(d[1], d[3]);
    } else {
        let (near, far) = (NEAR * NEAR, FAR * FAR);
        let (product, sum) = (s.splat(near * far), s.splat(-(near + far)));
        y[0] = s.mul_add(d[0], product, s.mul_add(d[2], sum, d[4]));
        y[5] = s.mul_add(d[1], product, s.mul_add(d[3], sum, d[5]));
        for (at, point, other) in [(1, NEAR, far), (3, FAR, near)] {
            let even = s.mul_add(d[2], s.splat(-other), d[4]);
            let odd = s.mul_add(d[1], s.splat(-other), d[3]);
            y[at] = s.mul_add(odd, s.splat(point), even);
            y[at + 1] = s.mul_add(odd, s.splat(-point), even);
        }
    }
    y
}

/// The matrix products of all elements of a piece of the input channels, added to those of the pieces before.
struct Products<'a, const ROWS: usize, const VECTORS: usize, const TILE: usize> {
    b: &'a Band<'a>,
    column: usize,
    channels: Range<usize>,
    inputs: *const f32,
    sums: *mut f32,
}

impl<const ROWS: usize, const VECTORS: usize, const TILE: usize> Job for Products<'_, ROWS, VECTORS, TILE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, column, channels, inputs, sums } = self;
        let (in_c, count) = (b.p.in_c, channels.end - channels.start);
        let pitch = pitch::<S>(count);
        for element in 0..TILE * TILE {
            // SAFETY: `column` is a channel of the layer on a vector's boundary; the panels have a row for every element and input
            // channel; the scratch memory holds this element of all rows, and has room for their sums.
            unsafe {
                let w = tile::panels::<S, VECTORS>(b.w, TILE * TILE * in_c, b.p.out_c, column);
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
struct Back<'a, const SIDE: usize, const TILE: usize> {
    pixels: Pixels<'a, SIDE>,
    column: usize,
    sums: *const f32,
}

impl<const SIDE: usize, const TILE: usize> Job for Back<'_, SIDE, TILE> {
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
                let mut rows = [[s.splat(0.0); SIDE]; TILE];
                let mut y = [[s.splat(0.0); SIDE]; SIDE];
                // SAFETY: the scratch memory holds the sums of every element of every pixel; the bias is padded to whole vectors.
                unsafe {
                    let at = sums.add(i * MOST_WIDE + c - column);
                    let apart = pixels.count * MOST_WIDE;
                    for (ky, row) in rows.iter_mut().enumerate() {
                        let mut m = [s.splat(0.0); TILE];
                        for (kx, m) in m.iter_mut().enumerate() {
                            *m = s.load(at.add((ky * TILE + kx) * apart));
                        }
                        *row = back(s, m);
                    }
                    let bias = s.load(b.bias.add(c));
                    for dx in 0..SIDE {
                        let mut m = [s.splat(0.0); TILE];
                        for (ky, m) in m.iter_mut().enumerate() {
                            *m = rows[ky][dx];
                        }
                        let column = back::<S, SIDE, TILE>(s, m);
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
fn back<S: Simd, const SIDE: usize, const TILE: usize>(s: S, m: [S::V; TILE]) -> [S::V; SIDE] {
    let mut y = [s.splat(0.0); SIDE];
    let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    if const { SIDE == 2 } {
        y[0] = s.add(m[0], sum);
        y[1] = s.sub(difference, m[3]);
    } else {
        let (far_sum, far_difference) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        y[0] = s.add(m[0], s.add(sum, far_sum));
        y[1] = s.mul_add(far_difference, s.splat(FAR), s.mul(difference, s.splat(NEAR)));
        y[2] = s.mul_add(far_sum, s.splat(FAR * FAR), s.mul(sum, s.splat(NEAR * NEAR)));
        let odd = s.mul_add(difference, s.splat(NEAR * NEAR * NEAR), m[5]);
        y[3] = s.mul_add(far_difference, s.splat(FAR * FAR * FAR), odd);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::super::{Residual, Rows, conv};
    use super::*;
    use crate::isa::Isa;
    use crate::pack;
    use crate::params::{Activation, Conv, Method};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 100 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// A band over a ring that holds the input rows of its windows, or of its tiles', and no others: the bits of the whole.
        #[test]
        fn bands_of_a_ring(
            in_h in 1usize..20, in_w in 1usize..12, pad in 0usize..3, more in 0usize..3, in_c in 1usize..20, out_c in 1usize..40,
            start in 0usize..20, len in 1usize..9, seed in 0usize..1000,
            method in prop::sample::select(vec![Method::Winograd2, Method::Winograd4]),
        ) {
            let [out_h, out_w] = [in_h, in_w].map(|side| (side + 2 * pad).max(3) - 2);
            let p = Conv {
                in_h, in_w, in_c, out_h, out_w, out_c, groups: 1, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, dilation_h: 1,
                dilation_w: 1, pad_top: pad, pad_left: pad, act: Activation::Relu, method,
            };
            let k = p.taps() * in_c;
            let (x, w) = (values(in_h * in_w * in_c, seed), values(9 * in_c * out_c, seed + 1));
            let (mut transformed, mut panels) = (vec![0.0; k * out_c], vec![0.0; pack::panels_len(k, out_c)]);
            pack::winograd(if method == Method::Winograd2 { 2 } else { 4 }, in_c * out_c, &w, &mut transformed);
            pack::panels(k, out_c, &transformed, &mut panels);
            let bias = values(pack::bias_len(out_c), seed + 2);
            let start = start % out_h;
            let rows = start..out_h.min(start + len);
            let tile = method.tile();
            let first = (start / tile * tile).saturating_sub(pad).min(in_h);
            let end = (rows.end.next_multiple_of(tile) + 2).saturating_sub(pad).min(in_h).max(first);
            let ring = (end - first + more).max(1);
            let mut lines = vec![f32::NAN; ring * in_w * in_c];
            for iy in first..end {
                lines[iy % ring * in_w * in_c..][..in_w * in_c].copy_from_slice(&x[iy * in_w * in_c..][..in_w * in_c]);
            }
            for isa in Isa::available() {
                let mut want = vec![0.0; out_h * out_w * out_c];
                conv(isa, &p, 0..out_h, &x, &panels, &bias, None, Residual::None, &mut want);
                let mut y = vec![-9.0; rows.len() * out_w * out_c];
                let band = Band {
                    p: &p,
                    rows: rows.clone(),
                    columns: 0..out_c,
                    x: Rows { first: lines.as_ptr(), rows: ring, width: in_w, pitch: in_c },
                    w: panels.as_ptr(),
                    bias: bias.as_ptr(),
                    pad_value: None,
                    residual: None,
                    y: y.as_mut_ptr(),
                    y_pitch: out_c,
                };
                // SAFETY: the ring holds every row that the band's windows and tiles touch, and all operands are whole.
                unsafe { conv::KERNELS[conv::which(&p)](isa, band) };
                let want = &want[rows.start * out_w * out_c..][..y.len()];
                prop_assert!(y.iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits()), "{} {:?} rows {:?}", isa.name(), p, rows);
            }
        }
    }
}
