//! Pooling by windows, and the mean over all pixels.

use core::ops::Range;

use super::{Given, Source, check_len, check_rows, check_windows, size, taps_inside};
use crate::isa::{Isa, Job, Simd};
use crate::pack::LANES;
use crate::params::{Pool, PoolKind};

/// Pixels that [`global_pool`] sums before it adds to the total: a long sum in one accumulator would lose digits.
const CHUNK: usize = 64;

/// The largest element or the mean of every window, for the output rows `rows`; padding never wins and is not counted.
///
/// `x` `[in_h, in_w, c]`, `y` `[out_h, out_w, c]`. Panics where a length is another or a window lies outside of the input.
pub fn pool(isa: Isa, p: &Pool, rows: Range<usize>, x: &[f32], y: &mut [f32]) {
    run(isa, Given::new(p, rows), x, y);
}

#[inline(always)]
pub(super) fn run<P: Source<Pool>>(isa: Isa, source: P, x: &[f32], y: &mut [f32]) {
    let p = source.params();
    check_rows("pool", &source.rows(), p.out_h);
    check_windows("pool rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top);
    check_windows("pool columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left);
    check_touching("pool rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top, p.in_h);
    check_touching("pool columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left, p.in_w);
    check_len("pool input", x.len(), size([p.in_h, p.in_w, p.c]));
    check_len("pool output", y.len(), size([p.out_h, p.out_w, p.c]));
    isa.run(Windows { source, x, y });
}

/// Panics where a window along one axis holds no element of the input: it would have no mean.
#[inline(always)]
#[track_caller]
fn check_touching(what: &str, out: usize, kernel: usize, stride: usize, pad: usize, len: usize) {
    let touching = pad < kernel && (out == 0 || (out - 1) * stride < len + pad);
    assert!(touching, "{what}: {out} windows of {kernel} at stride {stride}, padding {pad}, reach beyond an input of {len}");
}

struct Windows<'a, P> {
    source: P,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<P: Source<Pool>> Job for Windows<'_, P> {
    const SCALAR: bool = P::FIXED.is_none();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.source.params();
        for oy in self.source.rows() {
            let kys = taps_inside(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h);
            let iys = oy * p.stride_h + kys.start - p.pad_top..oy * p.stride_h + kys.end - p.pad_top;
            for ox in 0..p.out_w {
                let kxs = taps_inside(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
                let ixs = ox * p.stride_w + kxs.start - p.pad_left..ox * p.stride_w + kxs.end - p.pad_left;
                let y = &mut self.y[(oy * p.out_w + ox) * p.c..][..p.c];
                for (block, y) in y.chunks_mut(LANES).enumerate() {
                    let load =
                        |iy: usize, ix: usize| -> &[f32] { &self.x[(iy * p.in_w + ix) * p.c + block * LANES..][..y.len()] };
                    let v = match p.kind {
                        PoolKind::Max => {
                            let mut max = s.splat(f32::NEG_INFINITY);
                            for iy in iys.clone() {
                                for ix in ixs.clone() {
                                    let v = s.load_part(load(iy, ix));
                                    // `max` keeps its second operand at NaN: one in `max` stays, one in `v` is put in.
                                    max = s.or_nan(s.max(v, max), v);
                                }
                            }
                            max
                        }
                        PoolKind::Average => {
                            let mut sum = s.splat(0.0);
                            for iy in iys.clone() {
                                for ix in ixs.clone() {
                                    sum = s.add(sum, s.load_part(load(iy, ix)));
                                }
                            }
                            s.div(sum, s.splat((iys.len() * ixs.len()) as f32))
                        }
                    };
                    s.store_part(v, y);
                }
            }
        }
    }
}

/// The mean of every channel over all pixels: `x` `[pixels, c]`, `y` `[c]`. Panics where a length is another or there are no
/// pixels.
pub fn global_pool(isa: Isa, pixels: usize, c: usize, x: &[f32], y: &mut [f32]) {
    assert!(pixels > 0, "global_pool: no pixels");
    check_len("global_pool input", x.len(), size([pixels, c]));
    check_len("global_pool output", y.len(), c);
    isa.run(Mean { pixels, c, x, y });
}

struct Mean<'a> {
    pixels: usize,
    c: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Mean<'_> {
    /// Means of `VECTORS` vectors of channels from `channel` on; the last one may be partial.
    #[inline(always)]
    fn vectors<S: Simd, const VECTORS: usize>(&mut self, s: S, channel: usize) {
        let y = &mut self.y[channel..];
        let valid = y.len().min(VECTORS * LANES);
        let mut total = [s.splat(0.0); VECTORS];
        for first in (0..self.pixels).step_by(CHUNK) {
            let mut sum = [s.splat(0.0); VECTORS];
            for pixel in first..(first + CHUNK).min(self.pixels) {
                let x = &self.x[pixel * self.c + channel..][..valid];
                if valid == VECTORS * LANES {
                    for (sum, x) in sum.iter_mut().zip(x.as_chunks::<LANES>().0) {
                        *sum = s.add(*sum, s.load(x));
                    }
                } else {
                    for (sum, x) in sum.iter_mut().zip(x.chunks(LANES)) {
                        *sum = s.add(*sum, s.load_part(x));
                    }
                }
            }
            for (total, sum) in total.iter_mut().zip(sum) {
                *total = s.add(*total, sum);
            }
        }
        let pixels = s.splat(self.pixels as f32);
        for (total, y) in total.iter().zip(y[..valid].chunks_mut(LANES)) {
            s.store_part(s.div(*total, pixels), y);
        }
    }
}

impl Job for Mean<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let mut channel = 0;
        while channel < self.c {
            if self.c - channel >= 4 * LANES {
                self.vectors::<S, 4>(s, channel);
                channel += 4 * LANES;
            } else {
                self.vectors::<S, 1>(s, channel);
                channel += LANES;
            }
        }
    }
}
