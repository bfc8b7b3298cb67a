//! Depthwise convolution: a vector of channels and a tile of output pixels at a time.
//!
//! ```text
//! for ky, kx { y[oy][ox][c] += x[oy * stride + ky - top][ox * stride + kx - left][c] * w[ky][kx][c] }
//! ```
//! Square 3x3 and 5x5 windows at stride 1 and 2 keep a tile of output pixels in registers while its input rows pass by, each
//! element loaded once a row. Where such a tile reaches into the padding, its columns there are zeros and its rows there are left
//! out. A row that is no multiple of the tile ends in one that overlaps: what is computed twice comes out the same.
//!
//! Other windows, padding with a content, and channels beyond the last whole vector where the instruction set has no masks, go
//! through a plain loop over taps, which leaves out those in the padding; channel multipliers are gathered lane by lane. Which of
//! these ways an output goes depends on the layer, its channel and the instruction set alone, and each adds up bias and taps in
//! order, so no bit depends on bands. Padding is never copied.

use core::ops::Range;

use super::activation::activate;
use super::{Rows, check_len, check_rows, check_windows, input_at, interior, load_n, size, store_n, taps_apart};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{PANEL, bias_len};
use crate::params::Depthwise;

/// `y = act(depthwise(x, w) + bias)` for the output rows `rows`.
///
/// `x` `[in_h, in_w, in_c]`; `w` packed by [`crate::pack::depthwise`] with `c = in_c * multiplier`; `bias` padded to
/// [`bias_len`]; `pad_value` `[in_c]` is what stands outside of the input (zero where absent); `y` `[out_h, out_w, c]`.
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
    let out_c = size([p.in_c, p.multiplier]);
    check_rows("depthwise", &rows, p.out_h);
    check_windows("depthwise rows", p.out_h, p.span_h(), p.stride_h, p.pad_top);
    check_windows("depthwise columns", p.out_w, p.span_w(), p.stride_w, p.pad_left);
    check_len("depthwise input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    check_len("depthwise weights", w.len(), size([out_c.div_ceil(PANEL), p.kernel_h, p.kernel_w, PANEL]));
    check_len("depthwise bias", bias.len(), bias_len(out_c));
    check_len("depthwise output", y.len(), size([p.out_h, p.out_w, out_c]));
    if let Some(v) = pad_value {
        check_len("depthwise padding", v.len(), p.in_c);
    }
    if rows.is_empty() || y.is_empty() {
        return;
    }
    let first = &mut y[rows.start * p.out_w * out_c..];
    let band = Band {
        p,
        rows,
        channels: 0..out_c,
        x: Rows { first: x.as_ptr(), rows: p.in_h, width: p.in_w, pitch: p.in_c },
        w: w.as_ptr(),
        bias: bias.as_ptr(),
        pad_value: pad_value.map(<[f32]>::as_ptr),
        y: first.as_mut_ptr(),
        y_pitch: out_c,
    };
    // SAFETY: all operands are whole tensors of the lengths checked above, and `y` is borrowed alone.
    unsafe { KERNELS[which(p)](isa, band) };
}

/// Rows and channels of a depthwise convolution.
#[derive(Debug, Clone)]
pub(crate) struct Band<'a> {
    /// The whole layer.
    pub p: &'a Depthwise,
    /// Output rows.
    pub rows: Range<usize>,
    /// Output channels; both ends are multiples of [`PANEL`], or the end is the layer's.
    pub channels: Range<usize>,
    /// Input rows, channel 0.
    pub x: Rows,
    /// Packed weights of the whole layer.
    pub w: *const f32,
    /// Biases of the whole layer, padded.
    pub bias: *const f32,
    /// What stands outside of the input; zeros where absent.
    pub pad_value: Option<*const f32>,
    /// Output row `rows.start`, pixel 0, channel 0.
    pub y: *mut f32,
    /// Floats from an output pixel to the next; a row is `out_w` of them.
    pub y_pitch: usize,
}

impl Band<'_> {
    /// Input row `iy`, pixel 0, channel 0.
    #[inline(always)]
    fn row(&self, iy: usize) -> *const f32 {
        self.x.first.wrapping_add(self.x.row(iy))
    }

    /// The weights of the vector of channels that starts at `channel`.
    #[inline(always)]
    fn weights(&self, channel: usize) -> *const f32 {
        let lane = channel % PANEL;
        self.w.wrapping_add((channel - lane) * self.p.kernel_h * self.p.kernel_w + lane)
    }

    /// Output pixel `(oy, ox)`, channel 0.
    #[inline(always)]
    fn pixel(&self, oy: usize, ox: usize) -> *mut f32 {
        self.y.wrapping_add(((oy - self.rows.start) * self.p.out_w + ox) * self.y_pitch)
    }
}

/// A kernel of some layers.
///
/// # Safety
/// It is that of [`KERNELS`] which [`which`] names for the band's layer.
/// Rows and channels exist in the layer, whose sizes passed the checks of [`depthwise`]. Weights, biases and padding are whole. The
/// channels of every input row that the windows of `rows` touch can be read (of `multiplier` output channels, one input channel),
/// and those of the output rows written; nothing else refers to the latter meanwhile.
pub(crate) type Kernel = unsafe fn(Isa, Band<'_>);

/// Kernels of windows of one size and stride, the last of any.
pub(crate) const KERNELS: [Kernel; 5] = [run::<3, 1>, run::<3, 2>, run::<5, 1>, run::<5, 2>, run::<0, 0>];

/// The last.
const ANY: usize = KERNELS.len() - 1;

/// The layer's kernel among [`KERNELS`].
pub(crate) const fn which(p: &Depthwise) -> usize {
    let near = p.dilation_h == 1 && p.dilation_w == 1;
    if p.multiplier != 1 || !near || p.kernel_h != p.kernel_w || p.stride_h != p.stride_w {
        return ANY;
    }
    match (p.kernel_h, p.stride_h) {
        (3, 1) => 0,
        (3, 2) => 1,
        (5, 1) => 2,
        (5, 2) => 3,
        _ => ANY,
    }
}

/// # Safety
/// As [`Kernel`] says.
unsafe fn run<const K: usize, const STRIDE: usize>(isa: Isa, band: Band<'_>) {
    isa.run(Call::<K, STRIDE>(band));
}

/// One call: strips of one or two rows, runs of equal tiles. `K` is 0 for windows without tiles of their own.
struct Call<'a, const K: usize, const STRIDE: usize>(Band<'a>);

impl<const K: usize, const STRIDE: usize> Job for Call<'_, K, STRIDE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.0.p;
        if const { K == 0 } {
            if p.multiplier == 1 { self.any(s, self.0.channels.clone()) } else { s.outline(Gathered(&self.0)) }
        } else if const { S::DEPTHWISE.0 < 2 } || self.0.pad_value.is_some() || !half_padded(p) {
            self.any(s, self.0.channels.clone());
        } else if const { S::DEPTHWISE.1 >= 7 } {
            self.tiled::<S, 2, 7, 4>(s);
        } else if const { K == 3 } {
            self.tiled::<S, 2, 4, 3>(s);
        } else {
            self.tiled::<S, 1, 7, 4>(s);
        }
    }
}

/// Whether no window reaches beyond the input's columns by more than half: then only the first and the last `kernel_w / 2`
/// columns of a tile can lie outside.
fn half_padded(p: &Depthwise) -> bool {
    let half = p.kernel_w / 2;
    p.pad_left <= half && (p.out_w - 1) * p.stride_w + p.kernel_w <= p.in_w + p.pad_left + half
}

/// Whether the vectors are so wide and the multiply-adds of an input element so few that the second-level cache cannot keep up.
const fn outruns<S: Simd>(k: usize, stride: usize) -> bool {
    S::LANES > 8 && k < 5 && stride == 1
}

impl<const K: usize, const STRIDE: usize> Call<'_, K, STRIDE> {
    /// A `K` x `K` window at stride `STRIDE`, in tiles of up to `TALL` x `WIDE` output pixels; what is left of a row in tiles of
    /// `SMALL` columns.
    #[inline(always)]
    fn tiled<S: Simd, const TALL: usize, const WIDE: usize, const SMALL: usize>(&self, s: S) {
        let Range { mut start, mut end } = self.0.channels;
        if !S::MASKS && !(end - start).is_multiple_of(S::LANES) {
            let whole = end - (end - start) % S::LANES;
            self.any(s, whole..end);
            end = whole;
        }
        let rows = self.0.rows.clone();
        let block = if const { outruns::<S>(K, STRIDE) } { self.block(TALL, (TALL - 1) * STRIDE + K) } else { usize::MAX };
        while start < end {
            let channels = start..start + block.min(end - start);
            start = channels.end;
            let mut oy = rows.start;
            if const { TALL > 1 } {
                while oy + TALL <= rows.end {
                    self.strip::<S, TALL, WIDE, SMALL>(s, oy, channels.clone());
                    oy += TALL;
                }
            }
            while oy < rows.end {
                self.strip::<S, 1, WIDE, SMALL>(s, oy, channels.clone());
                oy += 1;
            }
        }
    }

    /// Channels that go over the image together: so many that the `high` input rows of a strip take half of a first-level cache,
    /// where the strip below finds them. All where there are few strips, where a block would be too narrow to be worth its way,
    /// or where pixels are so far apart, by a power of two, that they share a few places in the cache.
    #[inline(always)]
    fn block(&self, tall: usize, high: usize) -> usize {
        let Rows { width, pitch, .. } = self.0.x;
        let channels = (24 << 10) / size_of::<f32>() / (high * width) / PANEL * PANEL;
        let few = self.0.rows.len() < 5 * tall || channels < 3 * PANEL || pitch.is_multiple_of(256);
        if few { usize::MAX } else { channels }
    }

    /// `TALL` output rows.
    #[inline(always)]
    fn strip<S: Simd, const TALL: usize, const WIDE: usize, const SMALL: usize>(&self, s: S, oy: usize, channels: Range<usize>) {
        let p = self.0.p;
        let width = p.out_w;
        if width < SMALL {
            for r in 0..TALL {
                self.tiles::<S, 1, 1, true>(s, oy + r, 0, width, channels.clone());
            }
            return;
        }
        let (tiles, rest) = (width / WIDE, width % WIDE);
        let above = oy * STRIDE;
        let inner = if above >= p.pad_top && above + (TALL - 1) * STRIDE + K <= p.in_h + p.pad_top {
            interior(tiles, WIDE * STRIDE, (WIDE - 1) * STRIDE + K, p.pad_left, p.in_w)
        } else {
            0..0
        };
        let whole = channels.start..channels.end - (channels.end - channels.start) % S::LANES;
        let part = whole.end..channels.end;
        self.tiles::<S, TALL, WIDE, true>(s, oy, 0, inner.start, channels.clone());
        self.tiles::<S, TALL, WIDE, false>(s, oy, inner.start * WIDE, inner.len(), whole);
        self.tiles::<S, TALL, WIDE, true>(s, oy, inner.start * WIDE, inner.len(), part);
        self.tiles::<S, TALL, WIDE, true>(s, oy, inner.end * WIDE, tiles - inner.end, channels.clone());
        if rest > SMALL && tiles > 0 {
            self.tiles::<S, TALL, WIDE, true>(s, oy, width - WIDE, 1, channels);
        } else {
            if rest > SMALL {
                self.tiles::<S, TALL, SMALL, true>(s, oy, 0, 1, channels.clone());
            }
            self.tiles::<S, TALL, SMALL, true>(s, oy, width - SMALL, rest.min(1), channels);
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const TALL: usize, const WIDE: usize, const EDGE: bool>(
        &self,
        s: S,
        oy: usize,
        ox: usize,
        tiles: usize,
        channels: Range<usize>,
    ) {
        if tiles > 0 && !channels.is_empty() {
            s.outline(Tiles::<K, STRIDE, TALL, WIDE, EDGE> { band: &self.0, oy, ox, tiles, channels });
        }
    }

    /// Any window, in tiles of one row.
    #[inline(always)]
    fn any<S: Simd>(&self, s: S, channels: Range<usize>) {
        let band = &self.0;
        let p = band.p;
        let inner = interior(p.out_w, p.stride_w, p.span_w(), p.pad_left, p.in_w);
        let tiles = inner.len() / 4;
        let rest = inner.start + tiles * 4;
        for oy in band.rows.clone() {
            for (ox, end) in [(0, inner.start), (rest, p.out_w)] {
                if ox < end {
                    s.outline(Pixels::<1> { band, oy, ox, tiles: end - ox, channels: channels.clone() });
                }
            }
            if tiles > 0 {
                s.outline(Pixels::<4> { band, oy, ox: inner.start, tiles, channels: channels.clone() });
            }
        }
    }
}

/// The most rows and columns of input that a tile reads.
const MOST_ROWS: usize = 7;
const MOST_COLUMNS: usize = 17;

/// The input of a tile.
struct Spot {
    /// Where its rows start; null where there is no such row.
    lines: [*const f32; MOST_ROWS],
    /// Which of its columns exist.
    inside: [bool; MOST_COLUMNS],
    /// The first channel of the vector.
    channel: usize,
    /// Channels of the vector.
    n: usize,
}

/// `tiles` tiles of `TALL` x `WIDE` output pixels from `(oy, ox)` on. Only with `EDGE` may their windows reach into the padding;
/// only then, and where the instruction set has masks, may the last vector of channels be a part.
struct Tiles<'a, const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize, const EDGE: bool> {
    band: &'a Band<'a>,
    oy: usize,
    ox: usize,
    tiles: usize,
    channels: Range<usize>,
}

impl<const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize, const EDGE: bool> Job
    for Tiles<'_, K, STRIDE, TALL, WIDE, EDGE>
{
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { band, oy, .. } = self;
        let p = band.p;
        // Where the tile's input rows start, at column `-pad_left`; none where there is no such row.
        let mut lines = [core::ptr::null(); MOST_ROWS];
        for (i, line) in lines.iter_mut().enumerate().take(Self::HEIGHT) {
            if let Some(iy) = input_at(oy, STRIDE, i, p.pad_top, p.in_h) {
                *line = band.row(iy).wrapping_sub(p.pad_left * band.x.pitch);
            }
        }
        for tile in 0..self.tiles {
            let ox = self.ox + tile * WIDE;
            let mut spot = Spot { lines, inside: [true; MOST_COLUMNS], channel: self.channels.start, n: S::LANES };
            for line in &mut spot.lines {
                if !EDGE || !line.is_null() {
                    *line = line.wrapping_add(ox * STRIDE * band.x.pitch);
                }
            }
            if EDGE {
                for (j, inside) in spot.inside.iter_mut().enumerate().take(Self::SPAN) {
                    *inside = (ox * STRIDE + j).wrapping_sub(p.pad_left) < p.in_w;
                }
            }
            let to = band.pixel(oy, ox);
            while spot.channel < self.channels.end {
                if EDGE && S::MASKS {
                    spot.n = S::LANES.min(self.channels.end - spot.channel);
                }
                self.vector(s, &spot, to.wrapping_add(spot.channel));
                spot.channel += S::LANES;
            }
        }
    }
}

impl<const K: usize, const STRIDE: usize, const TALL: usize, const WIDE: usize, const EDGE: bool>
    Tiles<'_, K, STRIDE, TALL, WIDE, EDGE>
{
    /// Input rows and columns of a tile.
    const HEIGHT: usize = (TALL - 1) * STRIDE + K;
    const SPAN: usize = (WIDE - 1) * STRIDE + K;

    /// One vector of channels; `to` is its place in the first output pixel.
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, spot: &Spot, to: *mut f32) {
        let band = self.band;
        // SAFETY: biases are padded to whole panels.
        let bias = unsafe { s.load(band.bias.add(spot.channel)) };
        let mut acc = [[bias; WIDE]; TALL];
        // Input rows that only the first output row reads, that both read, that only the second reads.
        if TALL == 1 {
            for i in 0..K {
                self.row::<S, true, false>(s, spot, i, &mut acc);
            }
        } else {
            for i in 0..STRIDE {
                self.row::<S, true, false>(s, spot, i, &mut acc);
            }
            for i in STRIDE..K {
                self.row::<S, true, true>(s, spot, i, &mut acc);
            }
            for i in K..K + STRIDE {
                self.row::<S, false, true>(s, spot, i, &mut acc);
            }
        }
        activate(s, band.p.act, &mut acc);
        let y_pitch = band.y_pitch;
        for (r, row) in acc.iter().enumerate() {
            let to = to.wrapping_add(r * band.p.out_w * y_pitch);
            for (t, v) in row.iter().enumerate() {
                let y = to.wrapping_add(t * y_pitch);
                // SAFETY: `(oy + r, ox + t)` is an output pixel with the channels of the spot, as [`Kernel`] was promised.
                unsafe { if EDGE && S::MASKS { store_n(s, *v, y, spot.n) } else { s.store(*v, y) } };
            }
        }
    }

    /// Adds input row `i` of the tile to the sums of its first output row, its last, or both.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "an index runs through several arrays")]
    fn row<S: Simd, const FIRST: bool, const LAST: bool>(&self, s: S, spot: &Spot, i: usize, acc: &mut [[S::V; WIDE]; TALL]) {
        if EDGE && spot.lines[i].is_null() {
            return;
        }
        let taps = self.band.weights(spot.channel);
        let mut w = [[s.splat(0.0); K]; 2];
        for kx in 0..K {
            // SAFETY: taps `(i, kx)` and `(i - STRIDE, kx)` of the panel that holds these channels, as wide as the widest vector.
            unsafe {
                if FIRST {
                    w[0][kx] = s.load(taps.add((i * K + kx) * PANEL));
                }
                if LAST {
                    w[1][kx] = s.load(taps.add(((i - STRIDE) * K + kx) * PANEL));
                }
            }
        }
        let mut x = [s.splat(0.0); MOST_COLUMNS];
        for j in 0..K - STRIDE {
            x[j] = self.column(s, spot, i, j);
        }
        for t in 0..WIDE {
            // The columns that this output is the first to read.
            for j in t * STRIDE + K - STRIDE..t * STRIDE + K {
                x[j] = self.column(s, spot, i, j);
            }
            for kx in 0..K {
                if FIRST {
                    acc[0][t] = s.mul_add(x[t * STRIDE + kx], w[0][kx], acc[0][t]);
                }
                if LAST {
                    acc[TALL - 1][t] = s.mul_add(x[t * STRIDE + kx], w[1][kx], acc[TALL - 1][t]);
                }
            }
        }
    }

    /// Column `j` of input row `i`.
    #[inline(always)]
    fn column<S: Simd>(&self, s: S, spot: &Spot, i: usize, j: usize) -> S::V {
        let x = spot.lines[i].wrapping_add(spot.channel + j * self.band.x.pitch);
        let inside = !EDGE || j >= K / 2 && j < Self::SPAN - K / 2 || spot.inside[j];
        // SAFETY: column `j` exists in a row that exists, with the channels of the spot, all lanes without masks; of one that
        // does not exist nothing is read.
        unsafe {
            if EDGE && S::MASKS {
                // Nothing is read from an address where something is: where nothing is, as before the arena, the processor takes a
                // thousand cycles to find that out.
                let x = if inside { x } else { self.band.bias };
                s.load_part(x, if inside { spot.n } else { 0 })
            } else if inside {
                s.load(x)
            } else {
                s.splat(0.0)
            }
        }
    }
}

/// `tiles` times `WIDE` output pixels from `(oy, ox)` on, any window, tap by tap. More than one at a time only where all their
/// windows lie inside the input's columns.
struct Pixels<'a, const WIDE: usize> {
    band: &'a Band<'a>,
    oy: usize,
    ox: usize,
    tiles: usize,
    channels: Range<usize>,
}

impl<const WIDE: usize> Job for Pixels<'_, WIDE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for tile in 0..self.tiles {
            for channel in self.channels.clone().step_by(S::LANES) {
                let n = S::LANES.min(self.channels.end - channel);
                self.vector(s, self.ox + tile * WIDE, channel, n);
            }
        }
    }
}

impl<const WIDE: usize> Pixels<'_, WIDE> {
    /// `n` channels of one tile.
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, ox: usize, channel: usize, n: usize) {
        let Self { band, oy, .. } = *self;
        let p = band.p;
        let (kys, kxs) = match band.pad_value {
            None => (
                taps_apart(oy, p.stride_h, p.kernel_h, p.dilation_h, p.pad_top, p.in_h),
                taps_apart(ox, p.stride_w, p.kernel_w, p.dilation_w, p.pad_left, p.in_w),
            ),
            Some(_) => (0..p.kernel_h, 0..p.kernel_w),
        };
        // SAFETY: biases are padded to whole panels.
        let bias = unsafe { s.load(band.bias.add(channel)) };
        let mut acc = [[bias; WIDE]];
        for ky in kys {
            let iy = input_at(oy, p.stride_h, ky * p.dilation_h, p.pad_top, p.in_h);
            for kx in kxs.clone() {
                let ix = input_at(ox, p.stride_w, kx * p.dilation_w, p.pad_left, p.in_w);
                // SAFETY: tap `(ky, kx)` of the panel that holds these channels, as wide as the widest vector.
                let w = unsafe { s.load(band.weights(channel).add((ky * p.kernel_w + kx) * PANEL)) };
                for (t, acc) in acc[0].iter_mut().enumerate() {
                    let x = match (iy, ix, band.pad_value) {
                        // For `t > 0` the caller keeps the windows inside the input's columns.
                        (Some(iy), Some(ix), _) => band.row(iy).wrapping_add((ix + t * p.stride_w) * band.x.pitch),
                        (_, _, Some(value)) => value,
                        (_, _, None) => continue,
                    };
                    // SAFETY: a pixel of the input, or the padding, with the channels `channel..channel + n`, as [`Kernel`] was
                    // promised.
                    *acc = s.mul_add(unsafe { load_n(s, x.add(channel), n) }, w, *acc);
                }
            }
        }
        activate(s, p.act, &mut acc);
        for (t, v) in acc[0].iter().enumerate() {
            // SAFETY: `(oy, ox + t)` is an output pixel with the channels `channel..channel + n`, as [`Kernel`] was promised.
            unsafe { store_n(s, *v, band.pixel(oy, ox + t).add(channel), n) };
        }
    }
}

/// A layer with a channel multiplier: every lane has an input of its own.
struct Gathered<'a>(&'a Band<'a>);

impl Job for Gathered<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let band = self.0;
        for oy in band.rows.clone() {
            for ox in 0..band.p.out_w {
                for channel in band.channels.clone().step_by(S::LANES) {
                    self.vector(s, oy, ox, channel, S::LANES.min(band.channels.end - channel));
                }
            }
        }
    }
}

impl Gathered<'_> {
    /// `n` channels of one pixel.
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, oy: usize, ox: usize, channel: usize, n: usize) {
        let band = self.0;
        let p = band.p;
        // SAFETY: biases are padded to whole panels.
        let mut acc = [[unsafe { s.load(band.bias.add(channel)) }]];
        for tap in 0..p.kernel_h * p.kernel_w {
            let iy = input_at(oy, p.stride_h, tap / p.kernel_w * p.dilation_h, p.pad_top, p.in_h);
            let ix = input_at(ox, p.stride_w, tap % p.kernel_w * p.dilation_w, p.pad_left, p.in_w);
            let from = match (iy, ix, band.pad_value) {
                (Some(iy), Some(ix), _) => band.row(iy).wrapping_add(ix * band.x.pitch),
                (_, _, Some(value)) => value,
                (_, _, None) => continue,
            };
            let mut lanes = [0.0; PANEL];
            for (i, lane) in lanes.iter_mut().enumerate().take(n) {
                // SAFETY: a pixel of the input, or the padding, with the input channel of output channel `channel + i`, as
                // [`Kernel`] was promised.
                *lane = unsafe { *from.add((channel + i) / p.multiplier) };
            }
            // SAFETY: no vector is wider than the array, nor than the panel that holds these channels.
            let (x, w) = unsafe { (s.load(lanes.as_ptr()), s.load(band.weights(channel).add(tap * PANEL))) };
            acc[0][0] = s.mul_add(x, w, acc[0][0]);
        }
        activate(s, p.act, &mut acc);
        // SAFETY: `(oy, ox)` is an output pixel with the channels `channel..channel + n`, as [`Kernel`] was promised.
        unsafe { store_n(s, acc[0][0], band.pixel(oy, ox).add(channel), n) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::values;
    use super::*;
    use crate::params::Activation;
    use proptest::prelude::*;

    /// What Miri can do in a minute.
    const MOST: [usize; 3] = if cfg!(miri) { [7, 12, 35] } else { [20, 33, 70] };

    prop_compose! {
        fn layer()(
            k in 1usize..6, stride in 1usize..3, in_h in 1..MOST[0], in_w in 1..MOST[1], pad in 0usize..3, in_c in 1..MOST[2],
            multiplier in prop::sample::select(vec![1, 1, 1, 2]),
        ) -> Depthwise {
            let out = |len: usize| ((len + 2 * pad).max(k) - k) / stride + 1;
            Depthwise {
                in_h, in_w, in_c, multiplier, out_h: out(in_h), out_w: out(in_w), kernel_h: k, kernel_w: k, stride_h: stride,
                stride_w: stride, dilation_h: 1, dilation_w: 1, pad_top: pad, pad_left: pad, act: Activation::HSwish,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 3 } else { 300 }, failure_persistence: None, ..ProptestConfig::default() })]

        /// Bands of a few rows over a ring of input rows, pixels apart by a pitch, in two parts of the channels: the bits of the
        /// whole, and nothing between the pixels is read or written.
        #[test]
        fn bands_of_a_ring(
            p in layer(), band in 1usize..4, gap in 0usize..9, split in 0usize..6, padded: bool, seed in 0usize..1000,
        ) {
            let c = p.in_c * p.multiplier;
            let x = values(p.in_h * p.in_w * p.in_c, seed);
            let w = values(crate::pack::depthwise_len(p.kernel_h * p.kernel_w, c), seed + 1);
            let (bias, value) = (values(bias_len(c), seed + 2), values(p.in_c, seed + 3));
            let split = (split * PANEL).min(c);
            let (pitch, y_pitch) = (p.in_c + gap, c + gap);
            let ring = (band - 1) * p.stride_h + p.kernel_h;
            for isa in Isa::available() {
                let mut want = vec![0.0; p.out_h * p.out_w * c];
                depthwise(isa, &p, 0..p.out_h, &x, &w, &bias, padded.then_some(&value), &mut want);
                for start in (0..p.out_h).step_by(band) {
                    let rows = start..p.out_h.min(start + band);
                    let mut lines = vec![f32::NAN; ring * p.in_w * pitch];
                    let above = (start * p.stride_h).saturating_sub(p.pad_top);
                    let below = ((rows.end - 1) * p.stride_h + p.kernel_h).saturating_sub(p.pad_top).min(p.in_h);
                    for iy in above..below {
                        for ix in 0..p.in_w {
                            let from = &x[(iy * p.in_w + ix) * p.in_c..][..p.in_c];
                            lines[(iy % ring * p.in_w + ix) * pitch..][..p.in_c].copy_from_slice(from);
                        }
                    }
                    let mut y = vec![-9.0; rows.len() * p.out_w * y_pitch];
                    for channels in [split..c, 0..split] {
                        let band = Band {
                            p: &p,
                            rows: rows.clone(),
                            channels,
                            x: Rows { first: lines.as_ptr(), rows: ring, width: p.in_w, pitch },
                            w: w.as_ptr(),
                            bias: bias.as_ptr(),
                            pad_value: padded.then_some(value.as_ptr()),
                            y: y.as_mut_ptr(),
                            y_pitch,
                        };
                        // SAFETY: the ring holds every row that the band's windows touch, and all operands are whole.
                        unsafe { KERNELS[which(&p)](isa, band) };
                    }
                    for (i, pixel) in y.chunks(y_pitch).enumerate() {
                        let want = &want[(start * p.out_w + i) * c..][..c];
                        let same = pixel[..c].iter().zip(want).all(|(a, b)| a.to_bits() == b.to_bits());
                        prop_assert!(same, "{} pixel {}", isa.name(), i);
                        prop_assert!(pixel[c..].iter().all(|&v| v == -9.0), "{} behind pixel {}", isa.name(), i);
                    }
                }
            }
        }
    }
}
