//! Dense convolution by the register tile of [`super::tile`], without an im2col copy.
//!
//! In NHWC the taps of a window's row are neighbours in memory: where every window of a tile lies inside the input, a tile is
//! `kernel_h` runs of `kernel_w * in_c` elements a pixel. Elsewhere small windows are gathered with the padding's content where
//! they reach outside; large ones go tap by tap, a tap outside reading the padding's content. All ways add in the same order.
//! Tiles do not cross rows of the output: most of a row's tiles lie inside.

use core::ops::Range;

use super::tile::{self, Blocks, Spot, by_size};
use super::{Residual, Rows, check_len, check_rows, check_windows, input_at, size, taps_inside};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{PANEL, bias_len};
use crate::params::Conv;

/// Input elements that a block of pixels may touch in each row of its window, and its bounds in pixels.
const BLOCK_FLOATS: usize = 65536;
const BLOCK_PIXELS: Range<usize> = 70..252;
/// Elements of a tile's windows that are gathered where they reach into the padding: 28 KiB at fourteen pixels.
const PATCH: usize = 512;

/// Floats from a window to the next in the first layer of nearly all networks: three colours at stride 2.
const STEM: usize = 6;

/// Content of the padding where the caller gives none; wider inputs go through it in pieces.
static ZEROS: [f32; 256] = [0.0; 256];

/// `y = act(conv(x, w) + bias + residual)` for the output rows `rows`.
///
/// `x` `[in_h, in_w, in_c]`; `w` packed by [`crate::pack::panels`] with `k = kernel_h * kernel_w * in_c`; `bias` padded to
/// [`bias_len`]; `pad_value` `[in_c]` is what stands outside of the input (zero where absent); `y` and the residual
/// `[out_h, out_w, out_c]`. Panics where a length is another.
#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
pub fn conv(
    isa: Isa,
    p: &Conv,
    rows: Range<usize>,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    check_rows("conv", &rows, p.out_h);
    check_windows("conv rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top);
    check_windows("conv columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left);
    check_len("conv input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    check_len("conv weights", w.len(), size([p.out_c.div_ceil(PANEL), p.kernel_h, p.kernel_w, p.in_c, PANEL]));
    check_len("conv bias", bias.len(), bias_len(p.out_c));
    check_len("conv output", y.len(), size([p.out_h, p.out_w, p.out_c]));
    if let Some(v) = pad_value {
        check_len("conv padding", v.len(), p.in_c);
    }
    let first = rows.start * p.out_w * p.out_c;
    let to = y[first..].as_mut_ptr();
    let from = match residual {
        Residual::None => None,
        Residual::InPlace => Some(to.cast_const()),
        Residual::From(r) => {
            check_len("conv residual", r.len(), y.len());
            Some(r[first..].as_ptr())
        }
    };
    let band = Band {
        p,
        rows,
        columns: 0..p.out_c,
        x: Rows { first: x.as_ptr(), rows: p.in_h, width: p.in_w, pitch: p.in_c },
        w: w.as_ptr(),
        bias: bias.as_ptr(),
        pad_value: pad_value.map(<[f32]>::as_ptr),
        residual: from.map(|r| (r, p.out_c)),
        y: to,
        y_pitch: p.out_c,
    };
    // SAFETY: every operand was checked to be as long as the parameters say; `y` is borrowed for writing, so nothing else is it.
    isa.run(unsafe { band.job() });
}

/// Some rows and some output channels of a convolution.
pub(crate) struct Band<'a> {
    pub p: &'a Conv,
    /// Output rows.
    pub rows: Range<usize>,
    /// Output channels; the start is a multiple of [`PANEL`], the end too or the last channel.
    pub columns: Range<usize>,
    pub x: Rows,
    /// Of the whole layer.
    pub w: *const f32,
    /// Of the whole layer.
    pub bias: *const f32,
    /// Of all input channels.
    pub pad_value: Option<*const f32>,
    /// The first pixel of the first row, and the pitch; may be `y` itself.
    pub residual: Option<(*const f32, usize)>,
    /// The first pixel's first output channel of the first row, also where `columns` start later.
    pub y: *mut f32,
    pub y_pitch: usize,
}

impl<'a> Band<'a> {
    /// What [`Isa::run`] takes.
    ///
    /// # Safety
    /// Pointers are valid for all that rows, channels and pitches reach, `w` and `bias` for the whole packed layer; `y` is neither
    /// read nor written by anything else meanwhile, and is no other operand but the residual.
    #[inline(always)]
    pub(crate) unsafe fn job(self) -> impl Job + use<'a> {
        Call(self)
    }
}

struct Call<'a>(Band<'a>);

impl Job for Call<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = &self.0;
        // Rows are joined to blocks: panels are read from the cache for all rows of a block but the first.
        let floats = b.p.in_c.saturating_mul(b.p.kernel_h).max(1);
        let pixels = (BLOCK_FLOATS / floats).clamp(BLOCK_PIXELS.start, BLOCK_PIXELS.end);
        let blocks = Blocks::new(b.rows.end - b.rows.start, (pixels / b.p.out_w.max(1)).max(1));
        for i in 0..blocks.count {
            let (first, end) = blocks.get(i);
            let mut column = b.columns.start;
            while column < b.columns.end {
                let rows = b.rows.start + first..b.rows.start + end;
                let wide = b.columns.end - column > S::LANES;
                match (wide, b.p.stride_w * b.p.in_c) {
                    (true, STEM) => wide_rows::<S, STEM>(s, b, rows, column),
                    (true, _) => wide_rows::<S, 0>(s, b, rows, column),
                    (false, STEM) => narrow_rows::<S, STEM>(s, b, rows, column),
                    (false, _) => narrow_rows::<S, 0>(s, b, rows, column),
                }
                column += if wide { S::WIDE } else { S::LANES };
            }
        }
    }
}

/// Two vectors of output channels of some rows.
#[inline(always)]
fn wide_rows<S: Simd, const STEP: usize>(s: S, b: &Band<'_>, rows: Range<usize>, column: usize) {
    for oy in rows {
        by_size!(0, b.p.out_w, S::ROWS, |ROWS, ox, tiles| s.outline(Tiles::<ROWS, 2, STEP> { b, oy, ox, tiles, column }));
    }
}

/// One vector of output channels of some rows.
#[inline(always)]
fn narrow_rows<S: Simd, const STEP: usize>(s: S, b: &Band<'_>, rows: Range<usize>, column: usize) {
    for oy in rows {
        by_size!(0, b.p.out_w, S::NARROW_ROWS, |ROWS, ox, tiles| s.outline(Tiles::<ROWS, 1, STEP> { b, oy, ox, tiles, column }));
    }
}

/// `tiles` tiles of output row `oy` from column `ox` on. `STEP` is the floats from a window to the next, where they are a constant,
/// else 0: a constant leaves one pointer to keep in place of one a row.
struct Tiles<'a, const ROWS: usize, const VECTORS: usize, const STEP: usize> {
    b: &'a Band<'a>,
    oy: usize,
    ox: usize,
    tiles: usize,
    column: usize,
}

impl<const ROWS: usize, const VECTORS: usize, const STEP: usize> Job for Tiles<'_, ROWS, VECTORS, STEP> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in 0..self.tiles {
            // SAFETY: the tile's pixels lie in row `oy` of the band, its channels are of the band.
            unsafe { self.tile(s, self.ox + i * ROWS) };
        }
    }
}

impl<const ROWS: usize, const VECTORS: usize, const STEP: usize> Tiles<'_, ROWS, VECTORS, STEP> {
    /// # Safety
    /// `ox + ROWS` is at most the output's width.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, s: S, ox: usize) {
        let (b, oy, column) = (self.b, self.oy, self.column);
        let p = b.p;
        let (taps, n) = (p.kernel_h * p.kernel_w, p.out_c);
        let k = taps * p.in_c;
        let valid = (b.columns.end - column).min(VECTORS * S::LANES);
        // Rows of zeros above and below the input are left out.
        let kys = match b.pad_value {
            None => taps_inside(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h),
            Some(_) => 0..p.kernel_h,
        };
        let tall = b.pad_value.is_none() || covers(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h);
        let inside = tall
            && covers(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w)
            && covers(ox + ROWS - 1, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
        // SAFETY: `column` is a channel of the layer on a vector's boundary; inside, all taps are elements of the input; elsewhere
        // only taps found to be inside are read from it; what is added up is `k` steps of the panels in all ways.
        unsafe {
            let w = tile::panels::<S, VECTORS>(b.w, k, n, column);
            let mut acc = tile::start::<S, ROWS, VECTORS>(s, b.bias, n, column);
            let len = p.kernel_w * p.in_c;
            let row = |i: usize| b.x.row(oy * p.stride_h + kys.start + i - p.pad_top);
            let runs = kys.end - kys.start;
            let from = |w: [*const f32; VECTORS]| w.map(|w| w.wrapping_add(kys.start * len * PANEL));
            if inside && b.x.pitch == p.in_c {
                let x = b.x.first.add((ox * p.stride_w - p.pad_left) * p.in_c);
                let step = if STEP > 0 { STEP } else { p.stride_w * p.in_c };
                let a = |i| core::array::from_fn(|r| x.add(row(i) + r * step));
                tile::accumulate_runs(s, &mut acc, runs, a, from(w), len);
            } else if k * ROWS <= PATCH && b.x.pitch == p.in_c {
                // Windows inside are read where they are, the others gathered.
                let mut patch = [0.0; PATCH];
                let whole: [bool; ROWS] =
                    core::array::from_fn(|r| tall && covers(ox + r, p.stride_w, p.kernel_w, p.pad_left, p.in_w));
                for (r, _) in whole.iter().enumerate().filter(|(_, whole)| !**whole) {
                    gather(b, oy, ox + r, &mut patch[r * k..][..k]);
                }
                let a = |i| {
                    core::array::from_fn(|r| {
                        if whole[r] {
                            b.x.first.add(row(i) + ((ox + r) * p.stride_w - p.pad_left) * p.in_c)
                        } else {
                            patch.as_ptr().add(r * k + (kys.start + i) * len)
                        }
                    })
                };
                tile::accumulate_runs(s, &mut acc, runs, a, from(w), len);
            } else {
                let mut w = w;
                for tap in 0..taps {
                    let (ky, kx) = (tap / p.kernel_w, tap % p.kernel_w);
                    let iy = input_at(oy, p.stride_h, ky, p.pad_top, p.in_h);
                    let mut first = 0;
                    while first < p.in_c {
                        let a = core::array::from_fn(|r| {
                            match (iy, input_at(ox + r, p.stride_w, kx, p.pad_left, p.in_w), b.pad_value) {
                                (Some(iy), Some(ix), _) => b.x.first.add(b.x.row(iy) + ix * b.x.pitch + first),
                                (_, _, Some(v)) => v.add(first),
                                (_, _, None) => ZEROS.as_ptr(),
                            }
                        });
                        let len = (p.in_c - first).min(ZEROS.len());
                        tile::accumulate::<S, ROWS, VECTORS, 0>(s, &mut acc, a, w, len, core::ptr::null());
                        w = w.map(|w| w.wrapping_add(len * PANEL));
                        first += len;
                    }
                }
            }
            let pixel = (oy - b.rows.start) * p.out_w + ox;
            let residual = b.residual.map(|(at, pitch)| Spot { at: at.add(pixel * pitch + column), pitch, valid });
            tile::finish(s, &mut acc, p.act, residual);
            tile::store(s, &acc, Spot { at: b.y.add(pixel * b.y_pitch + column), pitch: b.y_pitch, valid });
        }
    }
}

/// The window of output `(oy, ox)`, with the padding's content where it reaches outside; `patch` holds zeros.
///
/// # Safety
/// `b.x` and `b.pad_value` are valid for the whole input and a pixel.
#[inline(never)]
unsafe fn gather(b: &Band<'_>, oy: usize, ox: usize, patch: &mut [f32]) {
    let p = b.p;
    for (tap, patch) in patch.chunks_exact_mut(p.in_c.max(1)).enumerate() {
        let iy = input_at(oy, p.stride_h, tap / p.kernel_w, p.pad_top, p.in_h);
        let ix = input_at(ox, p.stride_w, tap % p.kernel_w, p.pad_left, p.in_w);
        let from = match (iy, ix, b.pad_value) {
            // SAFETY: `(iy, ix)` is a pixel of the input.
            (Some(iy), Some(ix), _) => unsafe { b.x.first.add(b.x.row(iy) + ix * b.x.pitch) },
            (_, _, Some(v)) => v,
            (_, _, None) => continue,
        };
        for (c, v) in patch.iter_mut().enumerate() {
            // SAFETY: a channel of a pixel, or of the padding.
            *v = unsafe { *from.add(c) };
        }
    }
}

/// Whether the window of output `at` lies inside the input along one axis.
#[inline(always)]
fn covers(at: usize, stride: usize, kernel: usize, pad: usize, len: usize) -> bool {
    at * stride >= pad && at * stride + kernel <= len + pad
}
