//! Dense convolution by the register tile of [`super::tile`], without an im2col copy.
//!
//! In NHWC the taps of a window's row are neighbours in memory: where every window of a tile lies inside the input, a tile is
//! `kernel_h` runs of `kernel_w * in_c` elements a pixel. Elsewhere it goes tap by tap, and a pixel whose tap lies outside of the
//! input reads the padding's content instead. Both ways add in the same order.

use core::ops::Range;

use super::tile::{self, Blocks, Spot, by_size};
use super::{Given, Residual, Source, check_len, check_rows, check_windows, input_at, min, size};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{LANES, PANEL, bias_len};
use crate::params::Conv;

/// Input elements that a block of pixels may touch in each row of its window, and its bounds in pixels.
const BLOCK_FLOATS: usize = 65536;
const BLOCK_PIXELS: Range<usize> = 64..192;

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
    run(isa, Given::new(p, rows), x, w, bias, pad_value, residual, y);
}

#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
#[inline(always)]
pub(super) fn run<P: Source<Conv>>(
    isa: Isa,
    source: P,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    let p = source.params();
    check_rows("conv", &source.rows(), p.out_h);
    check_windows("conv rows", p.out_h, p.kernel_h, p.stride_h, p.pad_top);
    check_windows("conv columns", p.out_w, p.kernel_w, p.stride_w, p.pad_left);
    check_len("conv input", x.len(), size([p.in_h, p.in_w, p.in_c]));
    check_len("conv weights", w.len(), size([p.out_c.div_ceil(PANEL), p.kernel_h, p.kernel_w, p.in_c, PANEL]));
    check_len("conv bias", bias.len(), bias_len(p.out_c));
    check_len("conv output", y.len(), size([p.out_h, p.out_w, p.out_c]));
    if let Some(v) = pad_value {
        check_len("conv padding", v.len(), p.in_c);
    }
    if let Residual::From(r) = residual {
        check_len("conv residual", r.len(), y.len());
    }
    isa.run(Call { source, o: Operands { x, w, bias, pad_value, residual }, y });
}

/// Pixels of a block.
const fn block(p: &Conv) -> usize {
    let floats = p.in_c.saturating_mul(p.kernel_h);
    let pixels = BLOCK_FLOATS / if floats == 0 { 1 } else { floats };
    if pixels < BLOCK_PIXELS.start { BLOCK_PIXELS.start } else { min(pixels, BLOCK_PIXELS.end) }
}

/// What a band reads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    pad_value: Option<&'a [f32]>,
    residual: Residual<'a>,
}

/// One call: bands are cut into blocks, blocks into panels, and those into runs of equal tiles.
struct Call<'a, P> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
}

impl<P: Source<Conv>> Job for Call<'_, P> {
    const SCALAR: bool = P::FIXED.is_none();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (p, rows) = (self.source.params(), self.source.rows());
        let blocks = Blocks::new(rows.start * p.out_w, (rows.end - rows.start) * p.out_w, block(&p));
        for b in 0..blocks.count {
            let (first, end) = blocks.get(b);
            for column in (0..p.out_c).step_by(PANEL) {
                if const { has_width(P::FIXED, 2) } && p.out_c - column > LANES {
                    self.panel::<S, 2>(s, first, end, column);
                } else if const { has_width(P::FIXED, 1) } {
                    self.panel::<S, 1>(s, first, end, column);
                }
            }
        }
    }
}

impl<P: Source<Conv>> Call<'_, P> {
    /// One panel of output channels for a block of pixels.
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, s: S, first: usize, end: usize, column: usize) {
        by_size!(first, end, S::ROWS, tile_sizes(P::FIXED, S::ROWS), |ROWS, pixel, tiles| s.outline(Tiles::<P, ROWS, VECTORS> {
            source: self.source,
            o: self.o,
            y: self.y,
            pixel,
            tiles,
            column
        }));
    }
}

/// Whether a panel of `vectors` vectors can occur.
const fn has_width(p: Option<Conv>, vectors: usize) -> bool {
    match p {
        Some(p) => tile::has_width(p.out_c, vectors),
        None => true,
    }
}

/// The tile heights that can occur, as a set of bits.
const fn tile_sizes(p: Option<Conv>, max: usize) -> u32 {
    match p {
        Some(p) => Blocks::new(0, p.out_h * p.out_w, block(&p)).sizes(max),
        None => u32::MAX,
    }
}

/// `tiles` tiles of one panel from `pixel` on.
struct Tiles<'a, P, const ROWS: usize, const VECTORS: usize> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
    pixel: usize,
    tiles: usize,
    column: usize,
}

impl<P: Source<Conv>, const ROWS: usize, const VECTORS: usize> Job for Tiles<'_, P, ROWS, VECTORS> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        for i in 0..self.tiles {
            self.tile(s, self.pixel + i * ROWS);
        }
    }
}

impl<P: Source<Conv>, const ROWS: usize, const VECTORS: usize> Tiles<'_, P, ROWS, VECTORS> {
    #[inline(always)]
    fn tile<S: Simd>(&mut self, s: S, pixel: usize) {
        let p = self.source.params();
        let k = p.kernel_h * p.kernel_w * p.in_c;
        let (panel, _) = self.o.w[self.column * k..][..k * PANEL].as_chunks::<PANEL>();
        let mut origins = [(0, 0); ROWS];
        let (mut oy, mut ox) = (pixel / p.out_w, pixel % p.out_w);
        let mut inside = true;
        for origin in &mut origins {
            *origin = (oy, ox);
            inside &= covers(oy, p.stride_h, p.kernel_h, p.pad_top, p.in_h);
            inside &= covers(ox, p.stride_w, p.kernel_w, p.pad_left, p.in_w);
            ox += 1;
            if ox == p.out_w {
                (oy, ox) = (oy + 1, 0);
            }
        }
        let mut acc = tile::start::<S, ROWS, VECTORS>(s, &self.o.bias[self.column..]);
        // A tile is a sequence of segments, in each of which every pixel reads neighbouring elements: a row of taps where all
        // windows lie inside, otherwise a tap (in pieces no longer than the zeros).
        let pieces = p.in_c.div_ceil(ZEROS.len());
        let segments = if inside { p.kernel_h } else { p.kernel_h * p.kernel_w * pieces };
        let mut a: [&[f32]; ROWS] = [&[]; ROWS];
        let mut panel = panel;
        for segment in 0..segments {
            let len = if inside {
                for (a, (oy, ox)) in a.iter_mut().zip(origins) {
                    let (iy, ix) = (oy * p.stride_h + segment - p.pad_top, ox * p.stride_w - p.pad_left);
                    *a = &self.o.x[(iy * p.in_w + ix) * p.in_c..];
                }
                p.kernel_w * p.in_c
            } else {
                let (tap, first) = (segment / pieces, segment % pieces * ZEROS.len());
                let (ky, kx) = (tap / p.kernel_w, tap % p.kernel_w);
                for (a, (oy, ox)) in a.iter_mut().zip(origins) {
                    let iy = input_at(oy, p.stride_h, ky, p.pad_top, p.in_h);
                    let ix = input_at(ox, p.stride_w, kx, p.pad_left, p.in_w);
                    *a = match (iy, ix, self.o.pad_value) {
                        (Some(iy), Some(ix), _) => &self.o.x[(iy * p.in_w + ix) * p.in_c + first..],
                        (_, _, Some(v)) => &v[first..],
                        (_, _, None) => &ZEROS,
                    };
                }
                (p.in_c - first).min(ZEROS.len())
            };
            tile::accumulate::<S, ROWS, VECTORS, false>(s, &mut acc, a, &panel[..len], &[]);
            panel = &panel[len..];
        }
        let spot =
            Spot { at: pixel * p.out_c + self.column, stride: p.out_c, valid: (p.out_c - self.column).min(VECTORS * LANES) };
        tile::finish(s, &mut acc, spot, p.act, self.o.residual, self.y);
        tile::store(s, &acc, spot, self.y);
    }
}

/// Whether the window of output `at` lies inside the input along one axis.
#[inline(always)]
fn covers(at: usize, stride: usize, kernel: usize, pad: usize, len: usize) -> bool {
    at * stride >= pad && at * stride + kernel <= len + pad
}
