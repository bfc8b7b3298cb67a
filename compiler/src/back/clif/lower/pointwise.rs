//! 1x1 convolution and dense layer.
//!
//! ```text
//! for a block of pixels whose input fits the second-level cache:
//!     for 8 output channels (16 for a single pixel): for 4 pixels: a tile of `dot`
//! ```

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::params::Pointwise;

use super::dot::{Run, Tile, panel};
use crate::back::clif::emit::{Emit, FLOAT, Int, bytes, vectors};

/// Pixels a tile.
const PIXELS: i64 = 4;
/// Bytes of input in a block of pixels.
const BLOCK: i64 = 192 << 10;

/// The layer, and its tensors.
struct Layer<'p> {
    p: &'p Pointwise,
    x: Value,
    residual: Option<Value>,
    y: Value,
}

/// A group of output channels of the layer.
#[derive(Clone, Copy)]
struct Group {
    /// Its first channel.
    first: Int,
    /// How many.
    channels: usize,
    /// Its weights.
    w: Value,
    /// Its biases.
    bias: Value,
}

/// Emits the body; `pointers` as [`super::super::class::Class::Pointwise`] says.
pub(super) fn lower(e: &mut Emit<'_>, p: &Pointwise, residual: bool, pointers: &[Value], rows: [Value; 2]) {
    let (x, w, bias) = (pointers[0], pointers[1], pointers[2]);
    let layer = Layer { p, x, residual: residual.then(|| pointers[3]), y: pointers[pointers.len() - 1] };
    let group = |e: &mut Emit<'_>, first: Int, channels: usize| {
        let offset = e.mul(first, FLOAT);
        Group { first, channels, w: panel(e, w, first, p.in_c), bias: e.at(bias, offset) }
    };
    if p.pool {
        e.groups(p.out_c, 8, |e, first, channels| {
            let group = group(e, first, channels);
            layer.mean(e, group);
        });
    } else if p.h * p.w == 1 {
        let some = e.b.ins().icmp(IntCC::SignedLessThan, rows[0], rows[1]);
        e.when(some, |e| {
            e.groups(p.out_c, 16, |e, first, channels| {
                let group = group(e, first, channels);
                layer.tile(e, group, 1, 0i64.into());
            });
        });
    } else {
        let [first, last] = rows.map(|row| e.mul(row, p.w as i64));
        let block = (BLOCK / (p.in_c as i64 * FLOAT) / PIXELS * PIXELS).max(PIXELS * 4);
        e.each(first, last, block, [], |e, start, []| {
            let end = e.add(start, block);
            let end = e.min(end, last);
            e.groups(p.out_c, 8, |e, first, channels| {
                let group = group(e, first, channels);
                layer.tiles(e, group, start, end);
            });
            []
        });
    }
}

impl Layer<'_> {
    /// Pixels `start..end`: tiles of 4, then of 2 and 1 where whole rows can leave such a rest.
    fn tiles(&self, e: &mut Emit<'_>, group: Group, start: Value, end: Int) {
        let mut start = start;
        let mut size = PIXELS;
        loop {
            let stop = e.sub(end, size - 1);
            [start] = e.each(start, stop, size, [start], |e, pixel, [_]| {
                self.tile(e, group, size as usize, pixel.into());
                [e.at(pixel, size)]
            });
            if self.p.w as i64 % size == 0 {
                return;
            }
            size /= 2;
        }
    }

    /// One tile, stored.
    fn tile(&self, e: &mut Emit<'_>, group: Group, pixels: usize, pixel: Int) {
        let (tile, results) = self.compute(e, group, pixels, pixel);
        let y = self.output(e, self.y, group.first, pixel);
        tile.store(e, &results, y, bytes(self.p.out_c));
    }

    /// One tile, in registers.
    fn compute(&self, e: &mut Emit<'_>, group: Group, pixels: usize, pixel: Int) -> (Tile, Vec<Value>) {
        let tile = Tile { pixels, stride: bytes(self.p.in_c), channels: group.channels };
        let offset = e.mul(pixel, self.p.in_c as i64 * FLOAT);
        let x = e.at(self.x, offset);
        let acc = tile.start(e, group.bias);
        let acc = tile.dot(e, Run { x, w: group.w }, self.p.in_c.into(), acc);
        let residual = self.residual.map(|r| self.output(e, r, group.first, pixel));
        (tile, tile.finish(e, &acc, residual, bytes(self.p.out_c), self.p.act))
    }

    /// Where a channel of a pixel stands in a tensor of the output's shape.
    fn output(&self, e: &mut Emit<'_>, base: Value, channel: Int, pixel: Int) -> Value {
        let pixel = e.mul(pixel, self.p.out_c as i64);
        let element = e.add(pixel, channel);
        let offset = e.mul(element, FLOAT);
        e.at(base, offset)
    }

    /// The mean over all pixels, stored.
    fn mean(&self, e: &mut Emit<'_>, group: Group) {
        let count = (self.p.h * self.p.w) as i64;
        let whole = count / PIXELS * PIXELS;
        let n = group.channels.div_ceil(4);
        let mut sums = vec![e.all(0.0); n];
        for (size, from, to) in [(PIXELS, 0, whole), (1, whole, count)] {
            sums = e.each_vec(from, to, size, sums, |e, pixel, sums| {
                let (_, results) = self.compute(e, group, size as usize, pixel.into());
                let mut sums = sums.to_vec();
                for (i, &r) in results.iter().enumerate() {
                    sums[i % n] = e.b.ins().fadd(sums[i % n], r);
                }
                sums
            });
        }
        let share = e.all(1.0 / count as f32);
        let y = self.output(e, self.y, group.first, 0i64.into());
        for (&sum, (offset, lanes)) in sums.iter().zip(vectors(group.channels)) {
            let mean = e.b.ins().fmul(sum, share);
            e.store(mean, y, offset, lanes);
        }
    }
}
