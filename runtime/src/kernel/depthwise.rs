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
    isa.run(Call { source, x, w, bias, pad_value, y });
}

struct Call<'a, P> {
    source: P,
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    pad_value: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl<P: Source<Depthwise>> Job for Call<'_, P> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.source.params();
        let rows = self.source.rows();
        let mut body = Body { p, x: self.x, w: self.w, bias: self.bias, pad_value: self.pad_value, y: self.y };
        if p.multiplier == 1 && p.in_c >= LANES {
            match (p.kernel_h, p.kernel_w, p.stride_h, p.stride_w) {
                _ if S::ROWS < 6 => body.any(s, rows.clone()), // too few registers for a tile and its input rows
                (3, 3, 1, 1) => body.band::<S, 3, 1, 2, 4>(s, rows.clone()),
                (3, 3, 2, 2) => body.band::<S, 3, 2, 1, 4>(s, rows.clone()),
                (5, 5, 1, 1) => body.band::<S, 5, 1, 1, 4>(s, rows.clone()),
                (5, 5, 2, 2) => body.band::<S, 5, 2, 1, 3>(s, rows.clone()),
                (_, _, _, _) => body.any(s, rows.clone()),
            }
        }
        body.gathered(s, rows);
    }
}

/// Marks an input row that lies outside of the input.
const OUTSIDE: usize = usize::MAX;

struct Body<'a> {
    p: Depthwise,
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    pad_value: Option<&'a [f32]>,
    y: &'a mut [f32],
}

impl Body<'_> {
    /// Whole vectors of channels; only where the multiplier is 1.
    #[inline(always)]
    fn vectors(&self) -> usize {
        self.p.in_c / LANES
    }

    /// A `K` x `K` window at stride `STRIDE`, in tiles of up to `TALL` x `WIDE` (at most 4) output pixels.
    #[inline(always)]
    fn band<S: Simd, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize>(
        &mut self,
        s: S,
        rows: Range<usize>,
    ) {
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
        let p = self.p;
        let inner = interior(p.out_w, STRIDE, K, p.pad_left, p.in_w);
        for r in 0..TALL {
            for ox in (0..inner.start).chain(inner.end..p.out_w) {
                self.pixels::<S, 1>(s, oy + r, ox);
            }
        }
        let tiles = inner.len().div_ceil(WIDE);
        let (width, wider) = (inner.len() / tiles.max(1), inner.len() % tiles.max(1));
        let mut ox = inner.start;
        for tile in 0..tiles {
            let columns = width + usize::from(tile < wider);
            match columns {
                4 if WIDE >= 4 => self.tile::<S, K, STRIDE, TALL, 4>(s, oy, ox),
                3 if WIDE >= 3 => self.tile::<S, K, STRIDE, TALL, 3>(s, oy, ox),
                2 => self.tile::<S, K, STRIDE, TALL, 2>(s, oy, ox),
                _ => self.tile::<S, K, STRIDE, TALL, 1>(s, oy, ox),
            }
            ox += columns;
        }
    }

    /// `TALL` x `WIDE` output pixels from `(oy, ox)` on, all their windows inside the input's columns.
    #[inline(always)]
    fn tile<S: Simd, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize>(
        &mut self,
        s: S,
        oy: usize,
        ox: usize,
    ) {
        let p = self.p;
        let c = p.in_c;
        let mut bases = [OUTSIDE; 8];
        for (i, base) in bases.iter_mut().enumerate().take((TALL - 1) * STRIDE + K) {
            if let Some(iy) = input_at(oy, STRIDE, i, p.pad_top, p.in_h) {
                *base = (iy * p.in_w + ox * STRIDE - p.pad_left) * c;
            }
        }
        for vector in 0..self.vectors() {
            let channel = vector * LANES;
            let taps = vector * K * K * LANES;
            // SAFETY: the bias is padded to whole vectors, of which this is one.
            let bias = unsafe { s.load_at(self.bias, channel) };
            let mut acc = [[bias; WIDE]; TALL];
            for (i, base) in bases.iter().enumerate().take((TALL - 1) * STRIDE + K) {
                let mut row = [s.splat(0.0); 16];
                let span = (WIDE - 1) * STRIDE + K;
                if *base != OUTSIDE {
                    for (j, v) in row.iter_mut().enumerate().take(span) {
                        // SAFETY: row `i` is a row of the input, the tile's windows lie inside its columns, so column `j < span`
                        // of them exists, and it has the channels `channel..channel + 8`.
                        *v = unsafe { s.load_at(self.x, base + j * c + channel) };
                    }
                } else if let Some(value) = self.pad_value {
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
                            let w = unsafe { s.load_at(self.w, taps + (ky * K + kx) * LANES) };
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

    /// Any window, in tiles of one row.
    #[inline(always)]
    fn any<S: Simd>(&mut self, s: S, rows: Range<usize>) {
        let p = self.p;
        let inner = interior(p.out_w, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
        for oy in rows {
            for ox in (0..inner.start).chain(inner.end..p.out_w) {
                self.pixels::<S, 1>(s, oy, ox);
            }
            let mut ox = inner.start;
            while ox + 4 <= inner.end {
                self.pixels::<S, 4>(s, oy, ox);
                ox += 4;
            }
            for ox in ox..inner.end {
                self.pixels::<S, 1>(s, oy, ox);
            }
        }
    }

    /// `WIDE` output pixels from `(oy, ox)` on, tap by tap. More than one only where all their windows lie inside the input's
    /// columns.
    #[inline(always)]
    fn pixels<S: Simd, const WIDE: usize>(&mut self, s: S, oy: usize, ox: usize) {
        let p = self.p;
        let c = p.in_c;
        let (kys, kxs) = match self.pad_value {
            None => (
                taps_inside(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h),
                taps_inside(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w),
            ),
            Some(_) => (0..p.kernel_h, 0..p.kernel_w),
        };
        for vector in 0..self.vectors() {
            let channel = vector * LANES;
            // SAFETY: the bias is padded to whole vectors, of which this is one.
            let bias = unsafe { s.load_at(self.bias, channel) };
            let mut acc = [[bias; WIDE]];
            for ky in kys.clone() {
                let iy = input_at(oy, p.stride_h, ky, p.pad_top, p.in_h);
                for kx in kxs.clone() {
                    let tap = (vector * p.kernel_h + ky) * p.kernel_w + kx;
                    // SAFETY: tap `(ky, kx)` of one of the vectors that the weights were checked to hold.
                    let w = unsafe { s.load_at(self.w, tap * LANES) };
                    let ix = input_at(ox, p.stride_w, kx, p.pad_left, p.in_w);
                    for (t, acc) in acc[0].iter_mut().enumerate() {
                        let v = match (iy, ix, self.pad_value) {
                            (Some(iy), Some(ix), _) => {
                                let at = (iy * p.in_w + ix + t * p.stride_w) * c + channel;
                                // SAFETY: `(iy, ix)` is an input pixel; for `t > 0` the caller keeps the windows inside the
                                // input's columns; every pixel has the channels `channel..channel + 8`.
                                unsafe { s.load_at(self.x, at) }
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

    /// The channels that no whole vector of input channels covers: those beyond the last one, or all where there is a multiplier.
    #[inline(always)]
    fn gathered<S: Simd>(&mut self, s: S, rows: Range<usize>) {
        let p = self.p;
        let out_c = p.in_c * p.multiplier;
        let first = if p.multiplier == 1 { self.vectors() * LANES } else { 0 };
        if first == out_c {
            return;
        }
        for oy in rows {
            for ox in 0..p.out_w {
                for channel in (first..out_c).step_by(LANES) {
                    let valid = LANES.min(out_c - channel);
                    let mut acc = [[s.load_part(&self.bias[channel..][..LANES])]];
                    for tap in 0..p.kernel_h * p.kernel_w {
                        let iy = input_at(oy, p.stride_h, tap / p.kernel_w, p.pad_top, p.in_h);
                        let ix = input_at(ox, p.stride_w, tap % p.kernel_w, p.pad_left, p.in_w);
                        let from = match (iy, ix, self.pad_value) {
                            (Some(iy), Some(ix), _) => &self.x[(iy * p.in_w + ix) * p.in_c..][..p.in_c],
                            (_, _, Some(value)) => value,
                            (_, _, None) => continue,
                        };
                        let mut lanes = [0.0; LANES];
                        for (i, lane) in lanes.iter_mut().enumerate().take(valid) {
                            *lane = from[(channel + i) / p.multiplier];
                        }
                        let at = channel * p.kernel_h * p.kernel_w + tap * LANES;
                        let w = s.load_part(&self.w[at..][..LANES]);
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
