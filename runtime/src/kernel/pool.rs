//! Pooling by windows, and the mean over all pixels.

use core::ops::Range;

use super::{Rows, check_len, check_rows, check_windows, load_n, size, store_n, taps_inside};
use crate::isa::{Isa, Job, Simd};
use crate::params::{Pool, PoolKind};

/// Pixels that [`global_pool`] sums before it adds to the total: a long sum in one accumulator would lose digits.
const CHUNK: usize = 64;

/// The largest element or the mean of every window, for the output rows `rows`; padding never wins.
///
/// `x` `[in_h, in_w, c]`, `y` `[out_h, out_w, c]`. Panics where a length is another or a window lies outside of the input.
pub fn pool(isa: Isa, p: &Pool, rows: Range<usize>, x: &[f32], y: &mut [f32]) {
    check_rows("pool", &rows, p.out_h);
    check_windows("pool rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top);
    check_windows("pool columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left);
    check_touching("pool rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top, p.in_h);
    check_touching("pool columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left, p.in_w);
    check_len("pool input", x.len(), size([p.in_h, p.in_w, p.c]));
    check_len("pool output", y.len(), size([p.out_h, p.out_w, p.c]));
    if rows.is_empty() || y.is_empty() {
        return;
    }
    let first = &mut y[rows.start * p.out_w * p.c..];
    let band = WindowBand {
        p,
        rows,
        channels: 0..p.c,
        x: Rows { first: x.as_ptr(), rows: p.in_h, width: p.in_w, pitch: p.c },
        y: first.as_mut_ptr(),
        y_pitch: p.c,
    };
    // SAFETY: `x` and `y` are whole tensors of the lengths checked above, `y` is borrowed alone, every window touches the input.
    unsafe { windows(isa, band) };
}

/// Panics where a window along one axis holds no element of the input: it would have no mean.
#[inline(always)]
#[track_caller]
fn check_touching(what: &str, out: usize, kernel: usize, stride: usize, pad: usize, len: usize) {
    let touching = pad < kernel && (out == 0 || (out - 1) * stride < len + pad);
    assert!(touching, "{what}: {out} windows of {kernel} at stride {stride}, padding {pad}, reach beyond an input of {len}");
}

/// Rows and channels of a pooling layer.
#[derive(Debug, Clone)]
pub(crate) struct WindowBand<'a> {
    /// The whole layer.
    pub p: &'a Pool,
    /// Output rows.
    pub rows: Range<usize>,
    /// Channels.
    pub channels: Range<usize>,
    /// Input rows.
    pub x: Rows,
    /// Output row `rows.start`, pixel 0, channel 0.
    pub y: *mut f32,
    /// Floats from an output pixel to the next; a row is `out_w` of them.
    pub y_pitch: usize,
}

/// [`windows`]
pub(crate) type WindowKernel = unsafe fn(Isa, WindowBand<'_>);

/// The kernel of windows.
///
/// # Safety
/// Rows and channels exist in the layer, whose sizes passed the checks of [`pool`]. The channels of every input row that the
/// windows of `rows` touch can be read, and those of the output rows written; nothing else refers to the latter meanwhile.
pub(crate) unsafe fn windows(isa: Isa, band: WindowBand<'_>) {
    isa.run(Windows(band));
}

struct Windows<'a>(WindowBand<'a>);

impl Job for Windows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let band = &self.0;
        let p = band.p;
        for oy in band.rows.clone() {
            let kys = taps_inside(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h);
            let iys = oy * p.stride_h + kys.start - p.pad_top..oy * p.stride_h + kys.end - p.pad_top;
            for ox in 0..p.out_w {
                let kxs = taps_inside(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
                let ixs = ox * p.stride_w + kxs.start - p.pad_left..ox * p.stride_w + kxs.end - p.pad_left;
                let at = ((oy - band.rows.start) * p.out_w + ox) * band.y_pitch;
                let mut channel = band.channels.start;
                while channel < band.channels.end {
                    let left = band.channels.end - channel;
                    // Sums of one vector would wait for one another.
                    let vectors = if left >= 4 * S::LANES { 4 } else { 1 };
                    match vectors {
                        4 => self.window::<S, 4>(s, &iys, &ixs, channel, S::LANES, at),
                        _ => self.window::<S, 1>(s, &iys, &ixs, channel, left.min(S::LANES), at),
                    }
                    channel += vectors * S::LANES;
                }
            }
        }
    }
}

impl Windows<'_> {
    /// `VECTORS` vectors from `channel` on of the output pixel at `at`, from the input rows `iys` and columns `ixs`; `n` lanes of each,
    /// less than all only where there is one.
    #[inline(always)]
    fn window<S: Simd, const VECTORS: usize>(
        &self,
        s: S,
        iys: &Range<usize>,
        ixs: &Range<usize>,
        channel: usize,
        n: usize,
        at: usize,
    ) {
        let WindowBand { p, x, y, .. } = &self.0;
        let (mut max, mut sum) = ([s.splat(f32::NEG_INFINITY); VECTORS], [s.splat(0.0); VECTORS]);
        for iy in iys.clone() {
            for ix in ixs.clone() {
                for v in 0..VECTORS {
                    let from = x.first.wrapping_add(x.row(iy) + ix * x.pitch + channel + v * S::LANES);
                    // SAFETY: `(iy, ix)` is a pixel of the input with these channels, as [`windows`] was promised.
                    let from = unsafe { load_n(s, from, n) };
                    match p.kind {
                        // `max` keeps its second operand at NaN: one in `max` stays, one in `from` is put in.
                        PoolKind::Max => max[v] = s.or_nan(s.max(from, max[v]), from),
                        PoolKind::Average => sum[v] = s.add(sum[v], from),
                    }
                }
            }
        }
        let count = if p.count_padding { p.kernel_h * p.kernel_w } else { iys.len() * ixs.len() };
        for v in 0..VECTORS {
            let result = match p.kind {
                PoolKind::Max => max[v],
                PoolKind::Average => s.div(sum[v], s.splat(count as f32)),
            };
            // SAFETY: the output pixel has these channels, as [`windows`] was promised.
            unsafe { store_n(s, result, y.add(at + channel + v * S::LANES), n) };
        }
    }
}

/// The mean of every channel over all pixels: `x` `[pixels, c]`, `y` `[c]`. Panics where a length is another or there are no
/// pixels.
pub fn global_pool(isa: Isa, pixels: usize, c: usize, x: &[f32], y: &mut [f32]) {
    assert!(pixels > 0, "global_pool: no pixels");
    check_len("global_pool input", x.len(), size([pixels, c]));
    check_len("global_pool output", y.len(), c);
    let band = MeanBand { pixels, channels: 0..c, x: x.as_ptr(), x_pitch: c, y: y.as_mut_ptr() };
    // SAFETY: `x` is `pixels` times `c` floats and `y` is `c`, borrowed alone.
    unsafe { mean_of(isa, band) };
}

/// Channels of a mean over all pixels.
#[derive(Debug, Clone)]
pub(crate) struct MeanBand {
    /// How many; not zero.
    pub pixels: usize,
    /// Channels.
    pub channels: Range<usize>,
    /// Pixel 0, channel 0.
    pub x: *const f32,
    /// Floats from a pixel to the next.
    pub x_pitch: usize,
    /// The mean of channel 0.
    pub y: *mut f32,
}

/// [`mean_of`]
pub(crate) type MeanKernel = unsafe fn(Isa, MeanBand);

/// The kernel of the mean over all pixels.
///
/// # Safety
/// The channels can be read of every pixel, and written once; nothing else refers to the latter meanwhile.
pub(crate) unsafe fn mean_of(isa: Isa, band: MeanBand) {
    isa.run(Mean(band));
}

struct Mean(MeanBand);

impl Mean {
    /// Means of `VECTORS` vectors from `channel` on, `n` lanes of each; less than all only where there is one vector.
    #[inline(always)]
    fn vectors<S: Simd, const VECTORS: usize>(&self, s: S, channel: usize, n: usize) {
        let MeanBand { pixels, x, x_pitch, y, .. } = self.0;
        let mut total = [s.splat(0.0); VECTORS];
        for first in (0..pixels).step_by(CHUNK) {
            let mut sum = [s.splat(0.0); VECTORS];
            for pixel in first..(first + CHUNK).min(pixels) {
                for (v, sum) in sum.iter_mut().enumerate() {
                    // SAFETY: the pixel has these channels, as [`mean_of`] was promised.
                    let x = unsafe { load_n(s, x.add(pixel * x_pitch + channel + v * S::LANES), n) };
                    *sum = s.add(*sum, x);
                }
            }
            for (total, sum) in total.iter_mut().zip(sum) {
                *total = s.add(*total, sum);
            }
        }
        for (v, total) in total.into_iter().enumerate() {
            // SAFETY: the output has these channels, as [`mean_of`] was promised.
            unsafe { store_n(s, s.div(total, s.splat(pixels as f32)), y.add(channel + v * S::LANES), n) };
        }
    }
}

impl Job for Mean {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start: mut channel, end } = self.0.channels.clone();
        while channel < end {
            let left = end - channel;
            if left >= 4 * S::LANES {
                self.vectors::<S, 4>(s, channel, S::LANES);
                channel += 4 * S::LANES;
            } else {
                self.vectors::<S, 1>(s, channel, left.min(S::LANES));
                channel += S::LANES;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    /// Bands of a ring with a pitch, in two parts of the channels, have the bits of the whole.
    #[test]
    fn bands_of_a_ring() {
        const C: usize = 45;
        const PITCH: usize = 50;
        let x = values(9 * 7 * C);
        for (isa, kind) in Isa::available().flat_map(|isa| [(isa, PoolKind::Max), (isa, PoolKind::Average)]) {
            let p = Pool {
                kind,
                in_h: 9,
                in_w: 7,
                c: C,
                out_h: 5,
                out_w: 4,
                kernel_h: 3,
                kernel_w: 3,
                stride_h: 2,
                stride_w: 2,
                pad_top: 1,
                pad_left: 1,
                count_padding: false,
            };
            let mut want = [0.0; 5 * 4 * C];
            pool(isa, &p, 0..5, &x, &mut want);
            for oy in 0..5usize {
                let mut lines = [f32::NAN; 3 * 7 * PITCH];
                for iy in (oy * 2).saturating_sub(1)..9.min(oy * 2 + 2) {
                    for ix in 0..7 {
                        lines[(iy % 3 * 7 + ix) * PITCH..][..C].copy_from_slice(&x[(iy * 7 + ix) * C..][..C]);
                    }
                }
                let mut y = [-9.0; 4 * PITCH];
                for channels in [32..C, 0..32] {
                    let x = Rows { first: lines.as_ptr(), rows: 3, width: 7, pitch: PITCH };
                    let band = WindowBand { p: &p, rows: oy..oy + 1, channels, x, y: y.as_mut_ptr(), y_pitch: PITCH };
                    // SAFETY: the ring holds the rows that the window touches, and `y` the row's pixels.
                    unsafe { windows(isa, band) };
                }
                for (i, pixel) in y.chunks(PITCH).enumerate() {
                    assert_eq!(pixel[..C], want[(oy * 4 + i) * C..][..C], "{} {kind:?}", isa.name());
                    assert!(pixel[C..].iter().all(|&v| v == -9.0));
                }
            }
        }
    }

    #[test]
    fn means_of_some_channels() {
        let x = values(100 * 150);
        for isa in Isa::available() {
            let plain: Vec<f32> = x.chunks(150).flat_map(|pixel| &pixel[..141]).copied().collect();
            let (mut want, mut got) = ([0.0; 141], [-9.0; 141]);
            global_pool(isa, 100, 141, &plain, &mut want);
            for channels in [64..141, 0..64] {
                let band = MeanBand { pixels: 100, channels, x: x.as_ptr(), x_pitch: 150, y: got.as_mut_ptr() };
                // SAFETY: a hundred pixels of 150 channels, of which 141 have a place in the output.
                unsafe { mean_of(isa, band) };
            }
            assert_eq!(got, want, "{}", isa.name());
        }
    }
}
