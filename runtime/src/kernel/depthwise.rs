//! Depthwise convolution: eight channels a vector, several output pixels at a time.
//!
//! ```text
//! for ky, kx { y[oy][ox][c] += x[oy * stride + ky - top][ox * stride + kx - left][c] * w[ky][kx][c] }
//! ```
//! Square 3x3 and 5x5 windows at stride 1 and 2 keep a tile of output pixels in registers while its input rows pass by, each
//! element loaded once a row. Other windows, and columns whose windows reach into the padding, go through a plain loop over
//! taps. Channels beyond the last whole vector and channel multipliers are gathered lane by lane. All ways add in the same
//! order, and padding is never copied: taps that read zeros are left out.

use core::ops::Range;

use super::activation::activate;
use super::tile::{Split, by_size};
use super::{Given, Source, check_len, check_rows, check_windows, input_at, interior, size, taps_inside};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{LANES, depthwise_bias_len};
use crate::params::Depthwise;

/// `y = act(depthwise(x, w) + bias)` for the output rows `rows`.
///
/// `x` `[in_h, in_w, in_c]`; `w` packed by [`crate::pack::depthwise`] with `c = in_c * multiplier`; `bias` padded to
/// [`depthwise_bias_len`]; `pad_value` `[in_c]` is what stands outside of the input (zero where absent); `y` `[out_h, out_w, c]`.
/// Panics where a length is another.
#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
pub fn depthwise(
    isa: Isa,
    p: &Depthwise,
    rows: Range<usize>,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    y: &mut [f32],
) {
    run(isa, Given::new(p, rows), x, w, bias, pad_value, y);
}

#[inline(always)]
pub(super) fn run<P: Source<Depthwise>>(
    isa: Isa,
    source: P,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    y: &mut [f32],
) {
    let p = source.params();
    let out_c = size([p.in_c, p.multiplier]);
    check_rows("depthwise", &source.rows(), p.out_h);
    check_windows("depthwise rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top);
    check_windows("depthwise columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left);
    check_len("depthwise input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    check_len("depthwise weights", w.len(), size([out_c.div_ceil(LANES), p.kernel_h, p.kernel_w, LANES]));
    check_len("depthwise bias", bias.len(), depthwise_bias_len(out_c));
    check_len("depthwise output", y.len(), size([p.out_h, p.out_w, out_c]));
    if let Some(v) = pad_value {
        check_len("depthwise padding", v.len(), p.in_c);
    }
    isa.run(Call { source, o: Operands { x, w, bias, pad_value }, y });
}

/// What a band reads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    pad_value: Option<&'a [f32]>,
}

/// Whole vectors of channels; only where the multiplier is 1.
#[inline(always)]
fn vectors(p: &Depthwise) -> usize {
    p.in_c / LANES
}

/// One call: bands are cut into strips of one or two rows, and those into runs of equal tiles.
struct Call<'a, P> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
}

impl<P: Source<Depthwise>> Job for Call<'_, P> {
    const SCALAR: bool = P::FIXED.is_none();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let p = self.source.params();
        if const { has_vectors(P::FIXED) } && p.multiplier == 1 && p.in_c >= LANES {
            // With few registers a tile and its input rows do not fit: then any window is any other.
            if const { can_be(P::FIXED, 3, 1) && S::ROWS >= 6 } && is(&p, 3, 1) {
                self.band::<S, 3, 1, 2, 4>(s);
            } else if const { can_be(P::FIXED, 3, 2) && S::ROWS >= 6 } && is(&p, 3, 2) {
                self.band::<S, 3, 2, 1, 4>(s);
            } else if const { can_be(P::FIXED, 5, 1) && S::ROWS >= 6 } && is(&p, 5, 1) {
                self.band::<S, 5, 1, 1, 4>(s);
            } else if const { can_be(P::FIXED, 5, 2) && S::ROWS >= 6 } && is(&p, 5, 2) {
                self.band::<S, 5, 2, 1, 3>(s);
            } else {
                self.any(s);
            }
        }
        if const { has_gathered(P::FIXED) } && (p.multiplier != 1 || p.in_c % LANES != 0) {
            s.outline(Gathered { source: self.source, o: self.o, y: self.y });
        }
    }
}

/// Whether the window is `k` x `k` at stride `stride`.
const fn is(p: &Depthwise, k: usize, stride: usize) -> bool {
    p.kernel_h == k && p.kernel_w == k && p.stride_h == stride && p.stride_w == stride
}

/// [`is`] of constant parameters; of others it may be.
const fn can_be(p: Option<Depthwise>, k: usize, stride: usize) -> bool {
    match p {
        Some(p) => is(&p, k, stride),
        None => true,
    }
}

/// Whether there can be whole vectors of channels.
const fn has_vectors(p: Option<Depthwise>) -> bool {
    match p {
        Some(p) => p.multiplier == 1 && p.in_c >= LANES,
        None => true,
    }
}

/// Whether there can be channels that whole vectors do not cover.
const fn has_gathered(p: Option<Depthwise>) -> bool {
    match p {
        Some(p) => p.multiplier != 1 || p.in_c % LANES != 0,
        None => true,
    }
}

/// The tile widths that can occur, as a set of bits.
const fn tile_sizes(p: Option<Depthwise>, max: usize) -> u32 {
    match p {
        Some(p) => {
            let inner = interior(p.out_w, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
            Split::new(inner.end - inner.start, max).sizes()
        }
        None => u32::MAX,
    }
}

impl<P: Source<Depthwise>> Call<'_, P> {
    /// A `K` x `K` window at stride `STRIDE`, in tiles of up to `TALL` x `WIDE` output pixels.
    #[inline(always)]
    fn band<S: Simd, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize>(&mut self, s: S) {
        let rows = self.source.rows();
        let mut oy = rows.start;
        while oy < rows.end {
            if TALL == 2 && oy + 2 <= rows.end {
                self.strip::<S, K, STRIDE, 2, WIDE>(s, oy);
                oy += 2;
            } else {
                self.strip::<S, K, STRIDE, 1, WIDE>(s, oy);
                oy += 1;
            }
        }
    }

    /// `TALL` output rows.
    #[inline(always)]
    fn strip<S: Simd, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize>(&mut self, s: S, oy: usize) {
        let p = self.source.params();
        let inner = interior(p.out_w, STRIDE, K, p.pad_left, p.in_w);
        for r in 0..TALL {
            self.edges(s, oy + r, &inner);
        }
        by_size!(inner.start, inner.end, WIDE, tile_sizes(P::FIXED, WIDE), |COLUMNS, ox, tiles| s.outline(Tiles::<
            P,
            K,
            STRIDE,
            TALL,
            COLUMNS,
        > {
            source: self.source,
            o: self.o,
            y: self.y,
            oy,
            ox,
            tiles
        }));
    }

    /// The pixels of a row whose windows reach into the padding columns.
    #[inline(always)]
    fn edges<S: Simd>(&mut self, s: S, oy: usize, inner: &Range<usize>) {
        let p = self.source.params();
        for (ox, end) in [(0, inner.start), (inner.end, p.out_w)] {
            if ox < end {
                s.outline(Pixels::<P, 1> { source: self.source, o: self.o, y: self.y, oy, ox, tiles: end - ox });
            }
        }
    }

    /// Any window, in tiles of one row.
    #[inline(always)]
    fn any<S: Simd>(&mut self, s: S) {
        let p = self.source.params();
        let inner = interior(p.out_w, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
        let tiles = inner.len() / 4;
        let rest = inner.start + tiles * 4;
        for oy in self.source.rows() {
            self.edges(s, oy, &(inner.start..rest));
            s.outline(Pixels::<P, 4> { source: self.source, o: self.o, y: self.y, oy, ox: inner.start, tiles });
        }
    }
}

/// Marks an input row that lies outside of the input.
const OUTSIDE: usize = usize::MAX;

/// `tiles` tiles of `TALL` x `WIDE` output pixels from `(oy, ox)` on, all their windows inside the input's columns.
struct Tiles<'a, P, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
    oy: usize,
    ox: usize,
    tiles: usize,
}

impl<P: Source<Depthwise>, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize> Job
    for Tiles<'_, P, K, STRIDE, TALL, WIDE>
{
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.tiles {
            self.tile(s, self.oy, self.ox + i * WIDE);
        }
    }
}

impl<P: Source<Depthwise>, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize>
    Tiles<'_, P, K, STRIDE, TALL, WIDE>
{
    #[inline(always)]
    fn tile<S: Simd>(&mut self, s: S, oy: usize, ox: usize) {
        let p = self.source.params();
        let c = p.in_c;
        let mut bases = [OUTSIDE; 8];
        for (i, base) in bases.iter_mut().enumerate().take((TALL - 1) * STRIDE + K) {
            if let Some(iy) = input_at(oy, STRIDE, i, p.pad_top, p.in_h) {
                *base = (iy * p.in_w + ox * STRIDE - p.pad_left) * c;
            }
        }
        for vector in 0..vectors(&p) {
            let channel = vector * LANES;
            let taps = vector * K * K * LANES;
            // SAFETY: the bias is padded to whole vectors, of which this is one.
            let bias = unsafe { s.load_at(self.o.bias, channel) };
            let mut acc = [[bias; WIDE]; TALL];
            for (i, base) in bases.iter().enumerate().take((TALL - 1) * STRIDE + K) {
                let mut row = [s.splat(0.0); 16];
                let span = (WIDE - 1) * STRIDE + K;
                if *base != OUTSIDE {
                    for (j, v) in row.iter_mut().enumerate().take(span) {
                        // SAFETY: row `i` is a row of the input, the tile's windows lie inside its columns, so column `j < span`
                        // of them exists, and it has the channels `channel..channel + 8`.
                        *v = unsafe { s.load_at(self.o.x, base + j * c + channel) };
                    }
                } else if let Some(value) = self.o.pad_value {
                    // SAFETY: the padding has `c` elements, and `channel + 8 <= c` in a whole vector.
                    row = [unsafe { s.load_at(value, channel) }; 16];
                } else {
                    continue;
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    if i >= r * STRIDE && i - r * STRIDE < K {
                        let ky = i - r * STRIDE;
                        for kx in 0..K {
                            // SAFETY: tap `(ky, kx)` of one of the vectors that the weights were checked to hold.
                            let w = unsafe { s.load_at(self.o.w, taps + (ky * K + kx) * LANES) };
                            for (t, acc) in acc.iter_mut().enumerate() {
                                *acc = s.mul_add(row[t * STRIDE + kx], w, *acc);
                            }
                        }
                    }
                }
            }
            activate(s, p.act, &mut acc);
            for (r, row) in acc.iter().enumerate() {
                for (t, v) in row.iter().enumerate() {
                    // SAFETY: `(oy + r, ox + t)` is an output pixel with the channels `channel..channel + 8`.
                    unsafe { s.store_at(*v, self.y, ((oy + r) * p.out_w + ox + t) * c + channel) };
                }
            }
        }
    }
}

/// `tiles` times `WIDE` output pixels from `(oy, ox)` on, any window, tap by tap. More than one at a time only where all their
/// windows lie inside the input's columns.
struct Pixels<'a, P, const WIDE: usize> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
    oy: usize,
    ox: usize,
    tiles: usize,
}

impl<P: Source<Depthwise>, const WIDE: usize> Job for Pixels<'_, P, WIDE> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.tiles {
            self.tile(s, self.oy, self.ox + i * WIDE);
        }
    }
}

impl<P: Source<Depthwise>, const WIDE: usize> Pixels<'_, P, WIDE> {
    #[inline(always)]
    fn tile<S: Simd>(&mut self, s: S, oy: usize, ox: usize) {
        let p = self.source.params();
        let c = p.in_c;
        let (kys, kxs) = match self.o.pad_value {
            None => (
                taps_inside(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h),
                taps_inside(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w),
            ),
            Some(_) => (0..p.kernel_h, 0..p.kernel_w),
        };
        for vector in 0..vectors(&p) {
            let channel = vector * LANES;
            // SAFETY: the bias is padded to whole vectors, of which this is one.
            let bias = unsafe { s.load_at(self.o.bias, channel) };
            let mut acc = [[bias; WIDE]];
            for ky in kys.clone() {
                let iy = input_at(oy, p.stride_h, ky, p.pad_top, p.in_h);
                for kx in kxs.clone() {
                    let tap = (vector * p.kernel_h + ky) * p.kernel_w + kx;
                    // SAFETY: tap `(ky, kx)` of one of the vectors that the weights were checked to hold.
                    let w = unsafe { s.load_at(self.o.w, tap * LANES) };
                    let ix = input_at(ox, p.stride_w, kx, p.pad_left, p.in_w);
                    for (t, acc) in acc[0].iter_mut().enumerate() {
                        let v = match (iy, ix, self.o.pad_value) {
                            (Some(iy), Some(ix), _) => {
                                let at = (iy * p.in_w + ix + t * p.stride_w) * c + channel;
                                // SAFETY: `(iy, ix)` is an input pixel; for `t > 0` the caller keeps the windows inside the
                                // input's columns; every pixel has the channels `channel..channel + 8`.
                                unsafe { s.load_at(self.o.x, at) }
                            }
                            // SAFETY: the padding has `c` elements, and `channel + 8 <= c` in a whole vector.
                            (_, _, Some(value)) => unsafe { s.load_at(value, channel) },
                            (_, _, None) => continue,
                        };
                        *acc = s.mul_add(v, w, *acc);
                    }
                }
            }
            activate(s, p.act, &mut acc);
            for (t, v) in acc[0].iter().enumerate() {
                // SAFETY: `(oy, ox + t)` is an output pixel with the channels `channel..channel + 8`.
                unsafe { s.store_at(*v, self.y, (oy * p.out_w + ox + t) * c + channel) };
            }
        }
    }
}

/// The channels that no whole vector of input channels covers: those beyond the last one, or all where there is a multiplier.
struct Gathered<'a, P> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
}

impl<P: Source<Depthwise>> Job for Gathered<'_, P> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.source.params();
        let out_c = p.in_c * p.multiplier;
        let first = if p.multiplier == 1 { vectors(&p) * LANES } else { 0 };
        for oy in self.source.rows() {
            for ox in 0..p.out_w {
                for channel in (first..out_c).step_by(LANES) {
                    let valid = LANES.min(out_c - channel);
                    let mut acc = [[s.load_part(&self.o.bias[channel..][..LANES])]];
                    for tap in 0..p.kernel_h * p.kernel_w {
                        let iy = input_at(oy, p.stride_h, tap / p.kernel_w, p.pad_top, p.in_h);
                        let ix = input_at(ox, p.stride_w, tap % p.kernel_w, p.pad_left, p.in_w);
                        let from = match (iy, ix, self.o.pad_value) {
                            (Some(iy), Some(ix), _) => &self.o.x[(iy * p.in_w + ix) * p.in_c..][..p.in_c],
                            (_, _, Some(value)) => value,
                            (_, _, None) => continue,
                        };
                        let mut lanes = [0.0; LANES];
                        for (i, lane) in lanes.iter_mut().enumerate().take(valid) {
                            *lane = from[(channel + i) / p.multiplier];
                        }
                        let at = channel * p.kernel_h * p.kernel_w + tap * LANES;
                        let w = s.load_part(&self.o.w[at..][..LANES]);
                        acc[0][0] = s.mul_add(s.load(&lanes), w, acc[0][0]);
                    }
                    activate(s, p.act, &mut acc);
                    let at = (oy * p.out_w + ox) * out_c + channel;
                    s.store_part(acc[0][0], &mut self.y[at..][..valid]);
                }
            }
        }
    }
}
