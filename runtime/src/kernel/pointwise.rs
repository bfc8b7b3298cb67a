//! Pointwise convolution and dense layer: `[pixels, in_c] x [in_c, out_c]`.
//!
//! Pixels are taken in blocks that stay in the second-level cache; inside a block, panel by panel, so that a panel is read
//! from the first-level cache for all tiles but the first. A single pixel (a dense layer) runs through four panels at once,
//! because one row of sums would wait for its own additions.

use core::ops::Range;

use super::tile::{self, Blocks, Spot, by_size};
use super::{Given, Residual, Source, check_len, check_rows, min, size};
use crate::isa::{Isa, Job, Simd};
use crate::pack::{LANES, PANEL, bias_len};
use crate::params::Pointwise;

/// Input elements of a block of pixels: 256 KiB, half of a common second-level cache.
const BLOCK_FLOATS: usize = 65536;
/// Bounds of a block in pixels.
const BLOCK_PIXELS: Range<usize> = 64..192;
/// Panels that a single pixel is multiplied with at once.
const SINGLE: usize = 4;

/// `y = act(x * scale . w + bias + residual)`, or its mean over all pixels.
///
/// `x` `[h, w, in_c]`; `w` packed by [`crate::pack::panels`]; `bias` padded to [`bias_len`]; `scale` `[in_c]` multiplies the input
/// channels; `y` and the residual `[h, w, out_c]`. With [`Pointwise::pool`] `y` is `[out_c]`, `rows` must be all and there is
/// no residual. Panics where a length is another.
#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
pub fn pointwise(
    isa: Isa,
    p: &Pointwise,
    rows: Range<usize>,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    scale: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    run(isa, Given::new(p, rows), x, w, bias, scale, residual, y);
}

#[expect(clippy::too_many_arguments, reason = "one slice an operand")]
#[inline(always)]
pub(super) fn run<P: Source<Pointwise>>(
    isa: Isa,
    source: P,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    scale: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    let p = source.params();
    check_rows("pointwise", &source.rows(), p.h);
    check_len("pointwise input", x.len(), size([p.h, p.w, p.in_c]));
    check_len("pointwise weights", w.len(), size([p.out_c.div_ceil(PANEL), p.in_c, PANEL]));
    check_len("pointwise bias", bias.len(), bias_len(p.out_c));
    if let Some(scale) = scale {
        check_len("pointwise scale", scale.len(), p.in_c);
    }
    if p.pool {
        assert!(source.rows() == (0..p.h), "pointwise: a fused pool needs all rows, not {:?} of {}", source.rows(), p.h);
        assert!(residual == Residual::None, "pointwise: a fused pool takes no residual");
        check_len("pointwise output", y.len(), p.out_c);
    } else {
        check_len("pointwise output", y.len(), size([p.h, p.w, p.out_c]));
        if let Residual::From(r) = residual {
            check_len("pointwise residual", r.len(), y.len());
        }
    }
    if !P::SCALED {
        assert!(scale.is_none(), "pointwise: a scale where the shape says that there is none");
    }
    isa.run(Call { source, o: Operands { x, w, bias, scale, residual }, y });
}

/// Pixels of a block.
const fn block(p: &Pointwise) -> usize {
    let pixels = BLOCK_FLOATS / if p.in_c == 0 { 1 } else { p.in_c };
    if pixels < BLOCK_PIXELS.start { BLOCK_PIXELS.start } else { min(pixels, BLOCK_PIXELS.end) }
}

/// What a band reads.
#[derive(Clone, Copy)]
struct Operands<'a> {
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    scale: Option<&'a [f32]>,
    residual: Residual<'a>,
}

impl<'a> Operands<'a> {
    /// The weights of the panel that starts at output channel `column`.
    #[inline(always)]
    fn panel(&self, k: usize, column: usize) -> &'a [[f32; PANEL]] {
        self.w[column * k..][..k * PANEL].as_chunks().0
    }
}

/// One call: bands are cut into blocks, blocks into panels, and those into runs of equal tiles.
struct Call<'a, P> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
}

impl<P: Source<Pointwise>> Job for Call<'_, P> {
    const SCALAR: bool = P::FIXED.is_none();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if P::SCALED && self.o.scale.is_some() {
            self.band::<S, true>(s);
        } else {
            self.band::<S, false>(s);
        }
    }
}

impl<P: Source<Pointwise>> Call<'_, P> {
    #[inline(always)]
    fn band<S: Simd, const SCALED: bool>(self, s: S) {
        let (p, rows) = (self.source.params(), self.source.rows());
        let (first, len) = (rows.start * p.w, (rows.end - rows.start) * p.w);
        if const { is_single(P::FIXED, true) } && len == 1 && !p.pool {
            return self.single::<S, SCALED>(s, first);
        }
        if const { !is_single(P::FIXED, false) } {
            self.blocks::<S, SCALED>(s, first, len);
        }
    }

    #[inline(always)]
    fn blocks<S: Simd, const SCALED: bool>(mut self, s: S, first: usize, len: usize) {
        let p = self.source.params();
        if p.pool {
            self.y.fill(0.0);
        }
        let blocks = Blocks::new(first, len, block(&p));
        for b in 0..blocks.count {
            let (first, end) = blocks.get(b);
            for column in (0..p.out_c).step_by(PANEL) {
                if const { has_width(P::FIXED, 2) } && p.out_c - column > LANES {
                    self.panel::<S, 2, SCALED>(s, first, end, column);
                } else if const { has_width(P::FIXED, 1) } {
                    self.panel::<S, 1, SCALED>(s, first, end, column);
                }
            }
        }
        if p.pool {
            self.y.iter_mut().for_each(|y| *y /= len as f32);
        }
    }

    /// One panel of output channels for a block of pixels.
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize, const SCALED: bool>(&mut self, s: S, first: usize, end: usize, column: usize) {
        by_size!(first, end, S::ROWS, tile_sizes(P::FIXED, S::ROWS), |ROWS, pixel, tiles| s.outline(Tiles::<
            P,
            ROWS,
            VECTORS,
            SCALED,
        > {
            source: self.source,
            o: self.o,
            y: self.y,
            pixel,
            tiles,
            column
        }));
    }

    /// One pixel, several panels at a time; the same sums as those of [`Tiles`] in the same order.
    #[inline(always)]
    fn single<S: Simd, const SCALED: bool>(self, s: S, pixel: usize) {
        let p = self.source.params();
        let mut column = 0;
        while column < p.out_c {
            let (source, o, y) = (self.source, self.o, &mut *self.y);
            if p.out_c - column > (SINGLE - 1) * PANEL {
                s.outline(Panels::<P, SINGLE, SCALED> { source, o, y, pixel, column });
                column += SINGLE * PANEL;
            } else {
                s.outline(Panels::<P, 1, SCALED> { source, o, y, pixel, column });
                column += PANEL;
            }
        }
    }
}

/// Whether constant parameters mean a single pixel; `unknown` where they are no constants.
const fn is_single(p: Option<Pointwise>, unknown: bool) -> bool {
    match p {
        Some(p) => p.h * p.w == 1 && !p.pool,
        None => unknown,
    }
}

/// Whether a panel of `vectors` vectors can occur.
const fn has_width(p: Option<Pointwise>, vectors: usize) -> bool {
    match p {
        Some(p) => tile::has_width(p.out_c, vectors),
        None => true,
    }
}

/// The tile heights that can occur, as a set of bits.
const fn tile_sizes(p: Option<Pointwise>, max: usize) -> u32 {
    match p {
        Some(p) => Blocks::new(0, p.h * p.w, block(&p)).sizes(max),
        None => u32::MAX,
    }
}

/// The channels of a row of the output from `column` on.
#[inline(always)]
fn spot<const VECTORS: usize>(p: &Pointwise, pixel: usize, column: usize) -> Spot {
    Spot { at: pixel * p.out_c + column, stride: p.out_c, valid: (p.out_c - column).min(VECTORS * LANES) }
}

/// `tiles` tiles of one panel from `pixel` on.
struct Tiles<'a, P, const ROWS: usize, const VECTORS: usize, const SCALED: bool> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
    pixel: usize,
    tiles: usize,
    column: usize,
}

impl<P: Source<Pointwise>, const ROWS: usize, const VECTORS: usize, const SCALED: bool> Job
    for Tiles<'_, P, ROWS, VECTORS, SCALED>
{
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.source.params();
        let k = p.in_c;
        let panel = self.o.panel(k, self.column);
        let scale = self.o.scale.unwrap_or(&[]);
        for i in 0..self.tiles {
            let pixel = self.pixel + i * ROWS;
            let mut a: [&[f32]; ROWS] = [&[]; ROWS];
            for (r, row) in a.iter_mut().enumerate() {
                *row = &self.o.x[(pixel + r) * k..][..k];
            }
            let mut acc = tile::start::<S, ROWS, VECTORS>(s, &self.o.bias[self.column..]);
            tile::accumulate::<S, ROWS, VECTORS, SCALED>(s, &mut acc, a, panel, scale);
            let spot = spot::<VECTORS>(&p, pixel, self.column);
            tile::finish(s, &mut acc, spot, p.act, self.o.residual, self.y);
            if p.pool {
                tile::add_up(s, &acc, Spot { at: self.column, ..spot }, self.y);
            } else {
                tile::store(s, &acc, spot, self.y);
            }
        }
    }
}

/// `PANELS` panels from `column` on for one pixel.
struct Panels<'a, P, const PANELS: usize, const SCALED: bool> {
    source: P,
    o: Operands<'a>,
    y: &'a mut [f32],
    pixel: usize,
    column: usize,
}

impl<P: Source<Pointwise>, const PANELS: usize, const SCALED: bool> Job for Panels<'_, P, PANELS, SCALED> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let p = self.source.params();
        let x = &self.o.x[self.pixel * p.in_c..][..p.in_c];
        let scale = self.o.scale.unwrap_or(&[]);
        let mut panels: [&[[f32; PANEL]]; PANELS] = [&[]; PANELS];
        let mut acc = [[[s.splat(0.0); 2]; 1]; PANELS];
        for j in 0..PANELS {
            panels[j] = &self.o.panel(p.in_c, self.column + j * PANEL)[..x.len()];
            acc[j] = tile::start::<S, 1, 2>(s, &self.o.bias[self.column + j * PANEL..]);
        }
        for (i, x) in x.iter().enumerate() {
            let x = s.splat(*x);
            for j in 0..PANELS {
                let b = tile::weights::<S, 2, SCALED>(s, &panels[j][i], if SCALED { scale[i] } else { 1.0 });
                for v in 0..2 {
                    acc[j][0][v] = s.mul_add(x, b[v], acc[j][0][v]);
                }
            }
        }
        for (j, acc) in acc.iter_mut().enumerate() {
            let spot = spot::<2>(&p, self.pixel, self.column + j * PANEL);
            tile::finish(s, acc, spot, p.act, self.o.residual, self.y);
            tile::store(s, acc, spot, self.y);
        }
    }
}
