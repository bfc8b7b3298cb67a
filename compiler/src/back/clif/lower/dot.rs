//! The inner loop of dense kernels: a tile of pixels times panels of weights.
//!
//! ```text
//! for k in 0..len: for p in 0..pixels: for v in 0..vectors:
//!     acc[p][v] += x[p * stride + k] * w[k * 16 + v * 4 ..][..4]
//! ```

use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::params::Activation;

use super::act::activate;
use crate::back::clif::emit::{Emit, FLOAT, Int, LANES, Mem, VECTOR, vectors};

/// Bytes of one `k` in a panel of 16 output channels.
pub(super) const PANEL_ROW: i64 = 16 * FLOAT;

/// Turns of the `k` loop in one pass: with two, an accumulator is back in its register at the end of the pass (cranelift's
/// multiply-add overwrites a factor, not the sum).
const UNROLL: i64 = 2;

/// A tile of accumulators, in registers: 4 x 8 leaves room for the operands in 16 of them.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Pixels.
    pub pixels: usize,
    /// Bytes from a pixel to the next in the input.
    pub stride: i32,
    /// Output channels, at most 16; the last vector may be partly filled.
    pub channels: usize,
}

/// Where a run of products stands.
#[derive(Clone, Copy)]
pub(super) struct Run {
    /// First input element of the tile's first pixel.
    pub x: Value,
    /// First weight.
    pub w: Value,
}

impl Tile {
    /// Vectors a pixel.
    fn vectors(self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Accumulators that start with the bias.
    pub fn start(self, e: &mut Emit<'_>, bias: Value) -> Vec<Value> {
        let row: Vec<Value> = (0..self.vectors()).map(|v| e.load(Mem::Fixed, bias, v as i32 * VECTOR, LANES)).collect();
        row.repeat(self.pixels)
    }

    /// The accumulators after `len` products, `len >= 1`.
    pub fn dot(self, e: &mut Emit<'_>, run: Run, len: Int, acc: Vec<Value>) -> Vec<Value> {
        let unroll = match len {
            Int::Const(_) => UNROLL,
            Int::Value(_) => 1,
        };
        let whole = match len {
            Int::Const(n) => Int::Const(n / unroll * unroll),
            Int::Value(_) => len,
        };
        let mut carried = vec![run.w];
        carried.extend(acc);
        let mut at = run;
        if !matches!(whole, Int::Const(0)) {
            let bytes = e.mul(whole, FLOAT);
            let end = e.at(run.x, bytes);
            carried = e.each_nonempty(run.x, end, unroll * FLOAT, carried, |e, x, c| {
                let run = Run { x, w: c[0] };
                let mut acc = c[1..].to_vec();
                for k in 0..unroll {
                    acc = self.product(e, run, k, &acc);
                }
                let mut next = vec![e.at(run.w, unroll * PANEL_ROW)];
                next.extend(acc);
                next
            });
            at = Run { x: end, w: carried[0] };
        }
        let mut acc = carried[1..].to_vec();
        if let (Int::Const(n), Int::Const(done)) = (len, whole) {
            for k in 0..n - done {
                acc = self.product(e, at, k, &acc);
            }
        }
        acc
    }

    /// One `k` of the run. The values are ordered pixel by pixel, so that a broadcast element lives for one pixel only.
    fn product(self, e: &mut Emit<'_>, run: Run, k: i64, acc: &[Value]) -> Vec<Value> {
        let vectors = self.vectors();
        let w: Vec<Value> =
            (0..vectors).map(|v| e.load(Mem::Fixed, run.w, (k * PANEL_ROW) as i32 + v as i32 * VECTOR, LANES)).collect();
        let mut next = Vec::with_capacity(acc.len());
        for (pixel, acc) in acc.chunks(vectors).enumerate() {
            let x = e.load_splat(Mem::Fixed, run.x, (k * FLOAT) as i32 + pixel as i32 * self.stride);
            for (&acc, &w) in acc.iter().zip(&w) {
                next.push(e.fma(x, w, acc));
            }
        }
        next
    }

    /// Adds the residual (at the place of the first result, `step` bytes from pixel to pixel) and applies the activation.
    pub fn finish(self, e: &mut Emit<'_>, acc: &[Value], residual: Option<Value>, step: i32, act: Activation) -> Vec<Value> {
        let mut out = Vec::with_capacity(acc.len());
        for (pixel, acc) in acc.chunks(self.vectors()).enumerate() {
            for (&acc, (offset, lanes)) in acc.iter().zip(vectors(self.channels)) {
                let sum = match residual {
                    Some(r) => {
                        let r = e.load(Mem::Live, r, pixel as i32 * step + offset, lanes);
                        e.b.ins().fadd(acc, r)
                    }
                    None => acc,
                };
                out.push(activate(e, act, sum));
            }
        }
        out
    }

    /// Writes results, `step` bytes from pixel to pixel.
    pub fn store(self, e: &mut Emit<'_>, results: &[Value], y: Value, step: i32) {
        for (pixel, results) in results.chunks(self.vectors()).enumerate() {
            for (&v, (offset, lanes)) in results.iter().zip(vectors(self.channels)) {
                e.store(v, y, pixel as i32 * step + offset, lanes);
            }
        }
    }
}

/// The first weight of output channel `c`, a multiple of 8, in panels of `k` rows: whole panels, then the half.
pub(super) fn panel(e: &mut Emit<'_>, w: Value, c: Int, k: usize) -> Value {
    let panel = e.div(c, 16);
    let start = e.mul(panel, k as i64 * PANEL_ROW);
    let inside = match c {
        Int::Const(c) => Int::Const(c % 16 * FLOAT),
        Int::Value(c) => {
            let lane = e.b.ins().band_imm_s(c, 15);
            e.mul(lane, FLOAT)
        }
    };
    let offset = e.add(start, inside);
    e.at(w, offset)
}
