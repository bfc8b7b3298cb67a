//! Transposed convolution: every output pixel gathers the input pixels that reach it, so that each is written once.

use core::ops::Range;

use super::tile::{self, Spot};
use super::{Rows, check_len, check_windows, size};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{PANEL, bias_len, panels_len};
use crate::params::Conv;

/// `y = act(transposed_conv(x, w) + bias)`: `x` `[in_h, in_w, in_c]`, `w` packed by [`crate::pack::grouped`] with
/// `k = kernel_h * kernel_w * in_c / groups`, `bias` of each group padded to [`bias_len`], `y` `[out_h, out_w, out_c]`. Panics
/// where a length is another.
pub fn conv_transpose(isa: Isa, p: &Conv, x: &[f32], w: &[f32], bias: &[f32], y: &mut [f32]) {
    check_windows("transposed rows", p.in_h, p.span_h(), p.stride_h, p.pad_top);
    check_windows("transposed columns", p.in_w, p.span_w(), p.stride_w, p.pad_left);
    check_windows("transposed output", p.out_h.max(p.out_w), 1, 1, p.pad_top.max(p.pad_left));
    check_len("transposed input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    let (in_c, out_c) =
        p.group().unwrap_or_else(|| panic!("transposed: {} groups of {} and {} channels", p.groups, p.in_c, p.out_c));
    let panels = out_c.div_ceil(PANEL);
    check_len("transposed weights", w.len(), size([p.groups, panels, p.kernel_h, p.kernel_w, in_c, PANEL]));
    check_len("transposed bias", bias.len(), size([p.groups, panels, PANEL]));
    check_len("transposed output", y.len(), size([p.out_h, p.out_w, p.out_c]));
    let band = Band {
        p,
        columns: 0..p.out_c,
        x: Rows { first: x.as_ptr(), rows: p.in_h, width: p.in_w, pitch: p.in_c },
        w: w.as_ptr(),
        bias: bias.as_ptr(),
        y: y.as_mut_ptr(),
        y_pitch: p.out_c,
    };
    // SAFETY: every operand was checked to be as long as the parameters say; `y` is borrowed for writing, so nothing else is it.
    unsafe { run(isa, band) };
}

/// Some output channels of a transposed convolution.
pub(crate) struct Band<'a> {
    /// The whole layer.
    pub p: &'a Conv,
    /// Output channels; in each group the start is a multiple of [`PANEL`], the end too or its last channel.
    pub columns: Range<usize>,
    pub x: Rows,
    /// Of the whole layer.
    pub w: *const f32,
    /// Of the whole layer.
    pub bias: *const f32,
    /// The first pixel's first output channel, also where `columns` start later.
    pub y: *mut f32,
    pub y_pitch: usize,
}

/// [`run`]
pub(crate) type Kernel = unsafe fn(Isa, Band<'_>);

/// The kernel.
///
/// # Safety
/// Pointers are valid for all that the sizes, channels and pitches reach, `w` and `bias` for the whole packed layer; `y` is
/// neither read nor written by anything else meanwhile, and is no other operand.
pub(crate) unsafe fn run(isa: Isa, band: Band<'_>) {
    isa.run(Call(band));
}

struct Call<'a>(Band<'a>);

impl Job for Call<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = &self.0;
        let Some((in_c, out_c)) = b.p.group() else { return };
        let p = Conv { in_c, out_c, groups: 1, ..*b.p };
        let panels = panels_len(p.kernel_h * p.kernel_w * in_c, out_c);
        for g in 0..b.p.groups {
            let (x, y) = (g * in_c, g * out_c);
            let columns = b.columns.start.clamp(y, y + out_c) - y..b.columns.end.clamp(y, y + out_c) - y;
            let group = Band {
                p: &p,
                columns: columns.clone(),
                x: Rows { first: b.x.first.wrapping_add(x), ..b.x },
                w: b.w.wrapping_add(g * panels),
                bias: b.bias.wrapping_add(g * bias_len(out_c)),
                y: b.y.wrapping_add(y),
                y_pitch: b.y_pitch,
            };
            for oy in 0..p.out_h {
                for column in columns.clone().step_by(S::WIDE) {
                    s.outline(Line { b: &group, oy, column });
                }
            }
        }
    }
}

/// One output row of two vectors of channels of a group.
struct Line<'a> {
    b: &'a Band<'a>,
    oy: usize,
    column: usize,
}

impl Job for Line<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, oy, column } = self;
        let p = b.p;
        let valid = (b.columns.end - column).min(S::WIDE);
        // SAFETY: `column` is a channel of the layer on a vector's boundary.
        let w = unsafe { tile::panels::<S, 2>(b.w, p.kernel_h * p.kernel_w * p.in_c, p.out_c, column) };
        for ox in 0..p.out_w {
            // SAFETY: as above; only inputs that exist are read, a tap is `in_c` steps of the panels, the pixel is one of the
            // output's with the channels of the band.
            unsafe {
                let mut acc = tile::start::<S, 1, 2>(s, b.bias, p.out_c, column);
                for ky in 0..p.kernel_h {
                    let Some(iy) = source(oy + p.pad_top, ky * p.dilation_h, p.stride_h, p.in_h) else { continue };
                    let row = b.x.first.add(b.x.row(iy));
                    for kx in 0..p.kernel_w {
                        let Some(ix) = source(ox + p.pad_left, kx * p.dilation_w, p.stride_w, p.in_w) else { continue };
                        let tap = (ky * p.kernel_w + kx) * p.in_c * PANEL;
                        let x = row.add(ix * b.x.pitch);
                        tile::accumulate_runs(s, &mut acc, 1, (|_| x, 0), w.map(|w| w.add(tap)), p.in_c);
                    }
                }
                tile::finish(s, &mut acc, p.act, None);
                let at = b.y.add((oy * p.out_w + ox) * b.y_pitch + column);
                tile::store(s, &acc, Spot { at, pitch: b.y_pitch, valid });
            }
        }
    }
}

/// The input position whose tap `before` positions in reaches padded output position `at`.
#[inline(always)]
fn source(at: usize, before: usize, stride: usize, len: usize) -> Option<usize> {
    let from = at.wrapping_sub(before); // wraps to a huge number, which no input reaches
    let position = from / stride;
    if position < len && position * stride == from { Some(position) } else { None }
}
