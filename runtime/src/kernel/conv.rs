//! Convolution by the register tile of [`super::tile`], without an im2col copy.
//!
//! A group of channels is a dense convolution from some channels of the input's pixels to some of the output's: pixels have gaps.
//!
//! In NHWC the taps of a window's row are neighbours in memory: where every window of a tile lies inside the input, a tile is
//! `kernel_h` runs of `kernel_w * in_c` elements a pixel (or a run a tap, where there are gaps between pixels or taps). Elsewhere the
//! windows are copied with the padding around them, if they are small; else it goes tap by tap, and a pixel whose tap lies outside of
//! the input reads the padding's content instead. All add in the same order.
//! Tiles do not cross rows of the output: most of a row's tiles lie inside.

use core::mem::MaybeUninit;
use core::ops::Range;

use super::tile::{self, Blocks, Spot, by_size};
use super::{Residual, Rows, check_len, check_rows, check_windows, input_at, interior, size, taps_apart, winograd};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{PANEL, bias_len, panels_len};
use crate::params::{Conv, Method};

/// Input elements that a block of pixels may touch in each row of its window, and its bounds in pixels.
const BLOCK_FLOATS: usize = 65536;
const BLOCK_PIXELS: Range<usize> = 70..252;
/// Runs of a window that are looked up once a row: those of 5x5 windows with gaps between pixels.
const MOST_RUNS: usize = 25;

/// Elements of the input that a tile at the edge copies at most: with three colours it takes half the time of going tap by tap.
const COPY: usize = 1024;

/// Content of the padding where the caller gives none; wider inputs go through it in pieces.
static ZEROS: [f32; 512] = [0.0; 512];

/// `y = act(conv(x, w) + bias + residual)` for the output rows `rows`.
///
/// `x` `[in_h, in_w, in_c]`; `w` packed as [`Conv::method`] says with `k = taps * in_c / groups`; `bias` of each
/// group padded to [`bias_len`]; `pad_value` `[in_c]` is what stands outside of the input (zero where absent); `y` and the residual
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
    check_windows("conv rows", p.out_h, p.span_h(), p.stride_h, p.pad_top);
    check_windows("conv columns", p.out_w, p.span_w(), p.stride_w, p.pad_left);
    check_len("conv input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    let (in_c, out_c) = p.group().unwrap_or_else(|| panic!("conv: {} groups of {} and {} channels", p.groups, p.in_c, p.out_c));
    let panels = out_c.div_ceil(PANEL);
    assert!(p.has_method() && (p.method == Method::Direct || pad_value.is_none()), "conv: {:?} cannot do {p:?}", p.method);
    check_len("conv weights", w.len(), size([p.groups, panels, p.taps(), in_c, PANEL]));
    check_len("conv bias", bias.len(), size([p.groups, panels, PANEL]));
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
    unsafe { KERNELS[which(p)](isa, band) };
}

/// Some rows and some output channels of a convolution.
pub(crate) struct Band<'a> {
    pub p: &'a Conv,
    /// Output rows.
    pub rows: Range<usize>,
    /// Output channels; in each group the start is a multiple of [`PANEL`], the end too or its last channel.
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

/// A kernel of some layers.
///
/// # Safety
/// It is that of [`KERNELS`] which [`which`] names for the band's layer.
/// Pointers are valid for all that rows, channels and pitches reach, `w` and `bias` for the whole packed layer; `y` is neither
/// read nor written by anything else meanwhile, and is no other operand but the residual.
pub(crate) type Kernel = unsafe fn(Isa, Band<'_>);

/// A kernel a method.
pub(crate) const KERNELS: [Kernel; 3] = [run::<0>, run::<2>, run::<4>];

/// The layer's kernel among [`KERNELS`].
pub(crate) const fn which(p: &Conv) -> usize {
    match p.method {
        Method::Direct | Method::Strassen => 0,
        Method::Winograd2 => 1,
        Method::Winograd4 => 2,
    }
}

/// # Safety
/// As [`Kernel`] says.
unsafe fn run<const SIDE: usize>(isa: Isa, band: Band<'_>) {
    isa.run(Call::<SIDE>(band));
}

/// With Winograd's tiles of `SIDE` x `SIDE` outputs, or without where it is 0.
struct Call<'a, const SIDE: usize>(Band<'a>);

impl<const SIDE: usize> Job for Call<'_, SIDE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = &self.0;
        let Some((in_c, out_c)) = b.p.group() else { return };
        let p = Conv { in_c, out_c, groups: 1, ..*b.p };
        let panels = panels_len(p.taps() * in_c, out_c);
        for g in 0..b.p.groups {
            let (x, y) = (g * in_c, g * out_c);
            let columns = b.columns.start.clamp(y, y + out_c) - y..b.columns.end.clamp(y, y + out_c) - y;
            let group = Band {
                p: &p,
                rows: b.rows.clone(),
                columns,
                x: Rows { first: b.x.first.wrapping_add(x), ..b.x },
                w: b.w.wrapping_add(g * panels),
                bias: b.bias.wrapping_add(g * bias_len(out_c)),
                pad_value: b.pad_value.map(|v| v.wrapping_add(x)),
                residual: b.residual.map(|(at, pitch)| (at.wrapping_add(y), pitch)),
                y: b.y.wrapping_add(y),
                y_pitch: b.y_pitch,
            };
            if const { SIDE == 0 } {
                dense(s, &group);
            } else if const { SIDE == 2 } {
                s.outline(winograd::Dense::<2, 4> { b: &group });
            } else {
                s.outline(winograd::Dense::<4, 6> { b: &group });
            }
        }
    }
}

/// A band of one group.
#[inline(always)]
fn dense<S: Simd>(s: S, b: &Band<'_>) {
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
            if wide {
                wide_rows::<S>(s, b, rows, column)
            } else {
                narrow_rows::<S>(s, b, rows, column)
            }
            column += if wide { S::WIDE } else { S::LANES };
        }
    }
}

/// Two vectors of output channels of some rows. Short tiles are of two vectors too: as fast as those of one in the first levels of
/// cache, and faster where input and output come from behind them (224x224x3 -> 32: 94 GFLOP/s for 82, 88 in large tiles).
#[inline(always)]
fn wide_rows<S: Simd>(s: S, b: &Band<'_>, rows: Range<usize>, column: usize) {
    let most = if s.short_tiles() { S::ROWS / 2 } else { S::ROWS };
    for oy in rows {
        by_size!(0, b.p.out_w, S::ROWS, most, |ROWS, ox, tiles| s.outline(Tiles::<ROWS, 2> { b, oy, ox, tiles, column }));
    }
}

/// One vector of output channels of some rows.
#[inline(always)]
fn narrow_rows<S: Simd>(s: S, b: &Band<'_>, rows: Range<usize>, column: usize) {
    for oy in rows {
        by_size!(0, b.p.out_w, S::NARROW_ROWS, |ROWS, ox, tiles| s.outline(Tiles::<ROWS, 1> { b, oy, ox, tiles, column }));
    }
}

/// `tiles` tiles of output row `oy` from column `ox` on.
struct Tiles<'a, const ROWS: usize, const VECTORS: usize> {
    b: &'a Band<'a>,
    oy: usize,
    ox: usize,
    tiles: usize,
    column: usize,
}

/// The runs of neighbouring elements of a window that lies inside the input's columns, as offsets from the window's first column.
struct Runs {
    offsets: [usize; MOST_RUNS],
    count: usize,
    /// Elements of a run.
    len: usize,
    /// Steps of the panels before the first run: those of rows above the input.
    skipped: usize,
}

impl Runs {
    /// Of output row `oy`; none where there are too many of them, or where rows of the padding are no zeros.
    #[inline(always)]
    fn new(b: &Band<'_>, oy: usize) -> Option<Self> {
        let p = b.p;
        let kys = taps_apart(oy, p.stride_h, p.kernel_h, p.dilation_h, p.pad_top, p.in_h);
        // A row of taps is one run where they stand without gaps.
        let (a_row, len) = if b.x.pitch == p.in_c && p.dilation_w == 1 { (1, p.kernel_w * p.in_c) } else { (p.kernel_w, p.in_c) };
        let count = (kys.end - kys.start) * a_row;
        if count > MOST_RUNS || b.pad_value.is_some() && kys != (0..p.kernel_h) {
            return None;
        }
        let mut offsets = [0; MOST_RUNS];
        for (i, ky) in kys.clone().enumerate() {
            let row = b.x.row(oy * p.stride_h + ky * p.dilation_h - p.pad_top);
            for kx in 0..a_row {
                offsets[i * a_row + kx] = row + kx * p.dilation_w * b.x.pitch;
            }
        }
        Some(Self { offsets, count, len, skipped: kys.start * p.kernel_w * p.in_c })
    }
}

impl<const ROWS: usize, const VECTORS: usize> Job for Tiles<'_, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, oy, column, .. } = self;
        let p = b.p;
        let k = p.kernel_h * p.kernel_w * p.in_c;
        let inner = interior(p.out_w, p.stride_w, p.span_w(), p.pad_left, p.in_w);
        let runs = Runs::new(b, oy);
        // SAFETY: `column` is a channel of the layer on a vector's boundary.
        let w = unsafe { tile::panels::<S, VECTORS>(b.w, k, p.out_c, column) };
        for i in 0..self.tiles {
            let ox = self.ox + i * ROWS;
            let Some(runs) = runs.as_ref().filter(|_| ox >= inner.start && ox + ROWS <= inner.end) else {
                s.outline(Edge::<ROWS, VECTORS> { b, oy, ox, column });
                continue;
            };
            let step = p.stride_w * b.x.pitch;
            // SAFETY: the windows lie inside the input, the tile's pixels in row `oy` of the band, its channels are of the band; the
            // runs are `k` steps of the panels, less those skipped.
            unsafe {
                let x = b.x.first.add((ox * p.stride_w - p.pad_left) * b.x.pitch);
                let a = |i: usize| x.add(runs.offsets[i]);
                let mut acc = tile::start::<S, ROWS, VECTORS>(s, b.bias, p.out_c, column);
                tile::accumulate_runs(s, &mut acc, runs.count, (a, step), w.map(|w| w.add(runs.skipped * PANEL)), runs.len);
                finish(s, &mut acc, b, oy, ox, column);
            }
        }
    }
}

/// One tile with windows that reach into the padding.
struct Edge<'a, const ROWS: usize, const VECTORS: usize> {
    b: &'a Band<'a>,
    oy: usize,
    ox: usize,
    column: usize,
}

impl<const ROWS: usize, const VECTORS: usize> Job for Edge<'_, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { b, oy, ox, column } = self;
        let p = b.p;
        let span = (ROWS - 1) * p.stride_w + p.kernel_w;
        let taps = p.kernel_h * p.kernel_w;
        // SAFETY: `column` is a channel of the layer on a vector's boundary; the copy is all that the windows read, and no more than it
        // has room for; what is added up is `k` steps of the panels.
        unsafe {
            let w = tile::panels::<S, VECTORS>(b.w, taps * p.in_c, p.out_c, column);
            let mut acc;
            if p.dilation_w == 1 && p.kernel_h.saturating_mul(span).saturating_mul(p.in_c) <= COPY {
                let mut copy = [const { MaybeUninit::uninit() }; COPY];
                s.outline(CopyWindows { b, oy, ox, span, to: &mut copy });
                // After the call, which leaves no vector in its register.
                acc = tile::start::<S, ROWS, VECTORS>(s, b.bias, p.out_c, column);
                let a = |ky: usize| copy.as_ptr().add(ky * span * p.in_c).cast();
                tile::accumulate_runs(s, &mut acc, p.kernel_h, (a, p.stride_w * p.in_c), w, p.kernel_w * p.in_c);
            } else {
                acc = tile::start::<S, ROWS, VECTORS>(s, b.bias, p.out_c, column);
                by_taps(s, b, oy, ox, w, &mut acc);
            }
            finish(s, &mut acc, b, oy, ox, column);
        }
    }
}

/// Adds up a tile tap by tap: from the input, or from what stands outside.
///
/// # Safety
/// The tile's pixels are of the band, `w` the panels of the whole layer.
#[inline(always)]
unsafe fn by_taps<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    b: &Band<'_>,
    oy: usize,
    ox: usize,
    w: [*const f32; VECTORS],
    acc: &mut [[S::V; VECTORS]; ROWS],
) {
    let p = b.p;
    // Elements of a tap at a time: what stands outside of the input is as long as the zeros.
    let most = ZEROS.len();
    let pieces = p.in_c.div_ceil(most);
    let run = |i: usize| {
        let (tap, first) = (i / pieces, i % pieces * most);
        (tap_rows(b, oy, ox, tap, first), (p.in_c - first).min(most))
    };
    // SAFETY: only taps found to be inside are read from the input, from the zeros no more than there are; all taps together are
    // `k` steps of the panels.
    unsafe { tile::accumulate_apart(s, acc, p.kernel_h * p.kernel_w * pieces, run, w) };
}

/// Copies the `span` input pixels under a tile's windows, row by row without gaps, with what stands outside. A job of its own: tiles of
/// all sizes have it in common. Only [`Edge`] makes one: the tile's pixels are of the band, and there is room.
struct CopyWindows<'a> {
    b: &'a Band<'a>,
    oy: usize,
    ox: usize,
    span: usize,
    to: &'a mut [MaybeUninit<f32>; COPY],
}

impl Job for CopyWindows<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { b, oy, ox, span, to } = self;
        let p = b.p;
        let mut to: *mut f32 = to.as_mut_ptr().cast();
        let outside = |to: *mut f32, pixels: usize| {
            for i in 0..pixels {
                for c in 0..p.in_c {
                    // SAFETY: the caller of the closure has room for these pixels; the padding has a pixel's channels.
                    unsafe { to.add(i * p.in_c + c).write(b.pad_value.map_or(0.0, |v| *v.add(c))) };
                }
            }
        };
        // Columns `first..first + inside` of the span are columns of the input, from `ix` on.
        let first = p.pad_left.saturating_sub(ox * p.stride_w).min(span);
        let ix = (ox * p.stride_w + first).saturating_sub(p.pad_left);
        let inside = p.in_w.saturating_sub(ix).min(span - first);
        for ky in 0..p.kernel_h {
            // SAFETY: `kernel_h` rows of `span` pixels were found to fit; columns inside exist, in a row that exists.
            unsafe {
                match input_at(oy, p.stride_h, ky * p.dilation_h, p.pad_top, p.in_h) {
                    None => outside(to, span),
                    Some(iy) => {
                        outside(to, first);
                        let from = b.x.first.wrapping_add(b.x.row(iy) + ix * b.x.pitch);
                        let at = to.add(first * p.in_c);
                        if b.x.pitch == p.in_c {
                            from.copy_to_nonoverlapping(at, inside * p.in_c);
                        } else {
                            for i in 0..inside {
                                from.add(i * b.x.pitch).copy_to_nonoverlapping(at.add(i * p.in_c), p.in_c);
                            }
                        }
                        outside(at.add(inside * p.in_c), span - first - inside);
                    }
                }
                to = to.add(span * p.in_c);
            }
        }
    }
}

/// Where tap `tap` of the windows of outputs `(oy, ox..ox + ROWS)` reads from channel `first` on: the input, or what stands outside.
#[inline(always)]
fn tap_rows<const ROWS: usize>(b: &Band<'_>, oy: usize, ox: usize, tap: usize, first: usize) -> [*const f32; ROWS] {
    let p = b.p;
    let outside = b.pad_value.map_or(ZEROS.as_ptr(), |v| v.wrapping_add(first));
    let Some(iy) = input_at(oy, p.stride_h, tap / p.kernel_w * p.dilation_h, p.pad_top, p.in_h) else {
        return [outside; ROWS];
    };
    let row = b.x.first.wrapping_add(b.x.row(iy) + first);
    // Left of the input it wraps to a huge number, so outside.
    let x = (ox * p.stride_w + tap % p.kernel_w * p.dilation_w).wrapping_sub(p.pad_left);
    let mut rows = [outside; ROWS];
    for (r, to) in rows.iter_mut().enumerate() {
        let ix = x.wrapping_add(r * p.stride_w);
        let inside = row.wrapping_add(ix.wrapping_mul(b.x.pitch));
        *to = if ix < p.in_w { inside } else { outside };
    }
    rows
}

/// Adds the residual, applies the activation, and writes a tile.
///
/// # Safety
/// The tile's pixels lie in row `oy` of the band, and from `column` on there are channels of the band.
#[inline(always)]
unsafe fn finish<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    acc: &mut [[S::V; VECTORS]; ROWS],
    b: &Band<'_>,
    oy: usize,
    ox: usize,
    column: usize,
) {
    let valid = (b.columns.end - column).min(VECTORS * S::LANES);
    let pixel = (oy - b.rows.start) * b.p.out_w + ox;
    // SAFETY: the caller's.
    unsafe {
        let residual = b.residual.map(|(at, pitch)| Spot { at: at.add(pixel * pitch + column), pitch, valid });
        tile::finish(s, acc, b.p.act, residual);
        tile::store(s, acc, Spot { at: b.y.add(pixel * b.y_pitch + column), pitch: b.y_pitch, valid });
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
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever tiles an instruction set cuts, inside and at the edges, all outputs are added up in the same order: bias, taps
        /// row by row and channel by channel.
        #[test]
        fn tiles_of_any_shape_add_up_in_order(
            k in 1usize..5, stride in 1usize..3, pad in 0usize..3, in_h in 4usize..9, in_w in 4usize..40, in_c in 1usize..6,
            out_c in 1usize..70, seed in 0usize..1000,
        ) {
            let out = |side: usize| (side + 2 * pad - k) / stride + 1;
            let p = Conv {
                in_h, in_w, in_c, out_h: out(in_h), out_w: out(in_w), out_c, groups: 1, kernel_h: k, kernel_w: k, stride_h: stride,
                stride_w: stride, dilation_h: 1, dilation_w: 1, pad_top: pad, pad_left: pad, act: Activation::Relu,
                method: Method::Direct,
            };
            let (x, weights) = (values(in_h * in_w * in_c, seed), values(k * k * in_c * out_c, seed + 1));
            let mut bias = values(out_c, seed + 2);
            bias.resize(bias_len(out_c), 0.0);
            let mut panels = vec![0.0; panels_len(k * k * in_c, out_c)];
            pack::panels(k * k * in_c, out_c, &weights, &mut panels);
            let mut want = Vec::new();
            for (oy, ox, o) in (0..p.out_h).flat_map(|oy| (0..p.out_w).flat_map(move |ox| (0..out_c).map(move |o| (oy, ox, o)))) {
                let mut sum = bias[o];
                for (tap, c) in (0..k * k).flat_map(|tap| (0..in_c).map(move |c| (tap, c))) {
                    let (iy, ix) = ((oy * stride + tap / k).wrapping_sub(pad), (ox * stride + tap % k).wrapping_sub(pad));
                    if iy < in_h && ix < in_w {
                        sum = x[(iy * in_w + ix) * in_c + c].mul_add(weights[(tap * in_c + c) * out_c + o], sum);
                    }
                }
                want.push(sum.max(0.0));
            }
            // Scalar products are rounded.
            for isa in Isa::tested().filter(|&isa| isa != Isa::scalar()) {
                let mut y = vec![f32::NAN; want.len()];
                conv(isa, &p, 0..p.out_h, &x, &panels, &bias, None, Residual::None, &mut y);
                prop_assert!(y.iter().zip(&want).all(|(a, b)| a == b), "{} {:?}", isa.name(), p);
            }
        }
    }
}
