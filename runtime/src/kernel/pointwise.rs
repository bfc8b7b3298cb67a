//! Pointwise convolution and dense layer: `[pixels, in_c] x [in_c, out_c]`.
//!
//! Pixels are taken in blocks that stay in the second-level cache; inside a block, panel by panel, so that a panel is read
//! from the first-level cache for all tiles but the first. A single pixel (a dense layer) runs through four panels at once,
//! because one row of sums would wait for its own additions.

use core::ops::Range;

use super::tile::{self, Spot, by_rows};
use super::{Given, Residual, Source, check_len, check_rows, size};
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
    isa.run(Call { source, x, w, bias, scale, residual, y });
}

struct Call<'a, P> {
    source: P,
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    scale: Option<&'a [f32]>,
    residual: Residual<'a>,
    y: &'a mut [f32],
}

impl<P: Source<Pointwise>> Job for Call<'_, P> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let call = Body { p: self.source.params(), x: self.x, w: self.w, bias: self.bias, residual: self.residual, y: self.y };
        match self.scale {
            None => call.band::<S, false>(s, self.source.rows(), &[]),
            Some(scale) => call.band::<S, true>(s, self.source.rows(), scale),
        }
    }
}

struct Body<'a> {
    p: Pointwise,
    x: &'a [f32],
    w: &'a [f32],
    bias: &'a [f32],
    residual: Residual<'a>,
    y: &'a mut [f32],
}

impl Body<'_> {
    #[inline(always)]
    fn band<S: Simd, const SCALED: bool>(mut self, s: S, rows: Range<usize>, scale: &[f32]) {
        let p = self.p;
        let (first, len) = (rows.start * p.w, (rows.end - rows.start) * p.w);
        if len == 1 && !p.pool {
            return self.single::<S, SCALED>(s, first, scale);
        }
        let block = if p.pool { len.max(1) } else { (BLOCK_FLOATS / p.in_c.max(1)).clamp(BLOCK_PIXELS.start, BLOCK_PIXELS.end) };
        let blocks = len.div_ceil(block);
        for b in 0..blocks {
            let pixels = first + len * b / blocks..first + len * (b + 1) / blocks;
            for column in (0..p.out_c).step_by(PANEL) {
                if p.out_c - column > LANES {
                    self.panel::<S, 2, SCALED>(s, pixels.clone(), column, scale);
                } else {
                    self.panel::<S, 1, SCALED>(s, pixels.clone(), column, scale);
                }
            }
        }
    }

    /// The weights of the panel that starts at output channel `column`.
    #[inline(always)]
    fn weights(&self, column: usize) -> &[[f32; PANEL]] {
        let k = self.p.in_c;
        self.w[column * k..][..k * PANEL].as_chunks().0
    }

    /// One panel of output channels for a block of pixels.
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize, const SCALED: bool>(
        &mut self,
        s: S,
        pixels: Range<usize>,
        column: usize,
        scale: &[f32],
    ) {
        let mut sum = [[s.splat(0.0); VECTORS]];
        by_rows!(pixels, S::ROWS, at, ROWS => self.tile::<S, ROWS, VECTORS, SCALED>(s, at, column, scale, &mut sum));
        if self.p.pool {
            let pixels = s.splat((self.p.h * self.p.w) as f32);
            for v in &mut sum[0] {
                *v = s.div(*v, pixels);
            }
            tile::store(s, &sum, self.spot::<VECTORS>(0, column), self.y);
        }
    }

    #[inline(always)]
    fn spot<const VECTORS: usize>(&self, pixel: usize, column: usize) -> Spot {
        let n = self.p.out_c;
        Spot { at: pixel * n + column, stride: n, valid: (n - column).min(VECTORS * LANES) }
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const SCALED: bool>(
        &mut self,
        s: S,
        at: usize,
        column: usize,
        scale: &[f32],
        sum: &mut [[S::V; VECTORS]; 1],
    ) {
        let k = self.p.in_c;
        let mut a: [&[f32]; ROWS] = [&[]; ROWS];
        for (r, row) in a.iter_mut().enumerate() {
            *row = &self.x[(at + r) * k..][..k];
        }
        let mut acc = tile::start::<S, ROWS, VECTORS>(s, &self.bias[column..]);
        tile::accumulate::<S, ROWS, VECTORS, SCALED>(s, &mut acc, a, self.weights(column), scale);
        let spot = self.spot::<VECTORS>(at, column);
        tile::finish(s, &mut acc, spot, self.p.act, self.residual, self.y);
        if self.p.pool {
            for row in &acc {
                for (sum, v) in sum[0].iter_mut().zip(row) {
                    *sum = s.add(*sum, *v);
                }
            }
        } else {
            tile::store(s, &acc, spot, self.y);
        }
    }

    /// One pixel, several panels at a time; the same sums as [`Self::tile`] in the same order.
    #[inline(always)]
    fn single<S: Simd, const SCALED: bool>(&mut self, s: S, pixel: usize, scale: &[f32]) {
        let mut column = 0;
        while column < self.p.out_c {
            if self.p.out_c - column > (SINGLE - 1) * PANEL {
                self.panels::<S, SINGLE, SCALED>(s, pixel, column, scale);
                column += SINGLE * PANEL;
            } else {
                self.panels::<S, 1, SCALED>(s, pixel, column, scale);
                column += PANEL;
            }
        }
    }

    #[inline(always)]
    fn panels<S: Simd, const PANELS: usize, const SCALED: bool>(&mut self, s: S, pixel: usize, column: usize, scale: &[f32]) {
        let k = self.p.in_c;
        let x = &self.x[pixel * k..][..k];
        let mut panels: [&[[f32; PANEL]]; PANELS] = [&[]; PANELS];
        let mut acc = [[[s.splat(0.0); 2]; 1]; PANELS];
        for j in 0..PANELS {
            panels[j] = &self.weights(column + j * PANEL)[..k];
            acc[j] = tile::start::<S, 1, 2>(s, &self.bias[column + j * PANEL..]);
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
            let spot = self.spot::<2>(pixel, column + j * PANEL);
            tile::finish(s, acc, spot, self.p.act, self.residual, self.y);
            tile::store(s, acc, spot, self.y);
        }
    }
}
