//! Depthwise convolution with multiplier.
//!
//! ```text
//! for a row: for 8 output channels: for 4 pixels: for ky inside the input: for kx:
//!     acc[p] += x[p * stride + kx] * w[ky][kx]
//! ```
//! Tiles at the left and right edge are emitted one by one, without the taps that they lack. Windows too wide for that, and
//! padding with a content, go pixel by pixel and tap by tap.

use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::pack::PANEL;
use mnc_runtime::params::Depthwise;

use super::act::activate;
use super::window::Axis;
use crate::back::clif::emit::{Emit, FLOAT, Int, LANES, Mem, VECTOR, bytes, vectors};

/// Pixels a tile.
const PIXELS: usize = 4;
/// Output channels of a group: two vectors a pixel.
const GROUP: usize = 8;
/// The widest window whose taps are written out.
const WIDEST: usize = 9;
/// The most pixels at the edges of a row that are written out.
const EDGES: usize = 8;

/// The layer, and its tensors.
struct Layer<'p> {
    p: &'p Depthwise,
    rows: Axis,
    columns: Axis,
    x: Value,
    pad_value: Option<Value>,
    y: Value,
}

/// A group of output channels in one output row.
struct Group {
    /// Its first channel.
    first: Int,
    /// How many.
    channels: usize,
    /// Its weights.
    w: Value,
    /// Its biases.
    bias: Value,
    /// The output row.
    row: Value,
    /// Input row of the first tap.
    origin: Int,
    /// With a multiplier, the byte offset of each output channel's input in a pixel.
    inputs: Option<Vec<Value>>,
}

/// Emits the body; `pointers` as [`super::super::class::Class::Depthwise`] says.
pub(super) fn lower(e: &mut Emit<'_>, p: &Depthwise, pad_value: bool, pointers: &[Value], rows: [Value; 2]) {
    let (w, bias) = (pointers[1], pointers[2]);
    let layer = Layer {
        p,
        rows: Axis {
            input: p.in_h,
            output: p.out_h,
            kernel: p.kernel_h,
            stride: p.stride_h,
            dilation: p.dilation_h,
            pad: p.pad_top,
        },
        columns: Axis {
            input: p.in_w,
            output: p.out_w,
            kernel: p.kernel_w,
            stride: p.stride_w,
            dilation: p.dilation_w,
            pad: p.pad_left,
        },
        x: pointers[0],
        pad_value: pad_value.then(|| pointers[3]),
        y: pointers[pointers.len() - 1],
    };
    let taps = p.kernel_h * p.kernel_w;
    e.each(rows[0], rows[1], 1, [], |e, row, []| {
        let origin = layer.rows.origin(e, row);
        e.groups(p.in_c * p.multiplier, GROUP, |e, first, channels| {
            // A group is one half of a panel.
            let panel = e.div(first, PANEL as i64);
            let before = e.mul(panel, ((taps - 1) * PANEL) as i64);
            let weights = e.add(before, first);
            let weights = e.mul(weights, FLOAT);
            let biases = e.mul(first, FLOAT);
            let (w, bias) = (e.at(w, weights), e.at(bias, biases));
            let inputs = (p.multiplier > 1).then(|| {
                (0..channels)
                    .map(|lane| {
                        let output = e.add(first, lane);
                        let input = e.div(output, p.multiplier as i64);
                        let offset = e.mul(input, FLOAT);
                        e.val(offset)
                    })
                    .collect()
            });
            layer.row(e, &Group { first, channels, w, bias, row, origin, inputs });
        });
        []
    });
}

impl Layer<'_> {
    /// All pixels of a row.
    fn row(&self, e: &mut Emit<'_>, group: &Group) {
        let (first, last) = self.columns.inside();
        let width = self.p.out_w;
        if self.pad_value.is_some() || self.p.kernel_w > WIDEST || first + (width - last) > EDGES {
            self.edge(e, group, 0, width);
            return;
        }
        // 0..left and right..width are written out; between them every tile lies inside.
        let left = first.next_multiple_of(PIXELS).min(width);
        let right = left + last.saturating_sub(left) / PIXELS * PIXELS;
        let written = |e: &mut Emit<'_>, from: usize, to: usize| {
            for column in (from..to).step_by(PIXELS) {
                self.tile(e, group, PIXELS.min(to - column), Int::from(column), |pixel, kx| {
                    let at = (column + pixel) * self.p.stride_w + kx * self.p.dilation_w;
                    (self.p.pad_left..self.p.pad_left + self.p.in_w).contains(&at)
                });
            }
        };
        written(e, 0, left);
        e.each(left, right, PIXELS as i64, [], |e, column, []| {
            self.tile(e, group, PIXELS, column.into(), |_, _| true);
            []
        });
        written(e, right, width);
    }

    /// Some pixels in a row; `has` says which taps lie inside the input's columns.
    fn tile(&self, e: &mut Emit<'_>, group: &Group, pixels: usize, column: Int, has: impl Fn(usize, usize) -> bool) {
        let p = self.p;
        let acc: Vec<Value> = self.bias(e, group).iter().flat_map(|&b| vec![b; pixels]).collect();
        let origin = self.columns.origin(e, column);
        let (first, last) = self.rows.taps(e, group.origin);
        let acc = e.each_vec(first, last, 1, acc, |e, ky, acc| {
            let (x, w) = self.tap(e, group, ky.into(), 0i64.into(), origin);
            let mut next = Vec::with_capacity(acc.len());
            // Vector by vector: the weights of one are dead before the next.
            for (acc, (offset, lanes)) in acc.chunks(pixels).zip(vectors(group.channels)) {
                for (pixel, &acc) in acc.iter().enumerate() {
                    let mut sum = acc;
                    for kx in (0..p.kernel_w).filter(|&kx| has(pixel, kx)) {
                        let x = load(e, p, group, x, bytes((pixel * p.stride_w + kx * p.dilation_w) * p.in_c), offset, lanes);
                        let w = e.load(Mem::Fixed, w, bytes(kx * PANEL) + offset, LANES);
                        sum = e.fma(x, w, sum);
                    }
                    next.push(sum);
                }
            }
            next
        });
        self.finish(e, group, &acc, pixels, column);
    }

    /// Pixels `from..to`, one at a time, tap by tap.
    fn edge(&self, e: &mut Emit<'_>, group: &Group, from: usize, to: usize) {
        e.each(from, to, 1, [], |e, column, []| {
            let acc = self.bias(e, group);
            let origin = self.columns.origin(e, column);
            let (rows, columns) = match self.pad_value {
                None => (self.rows.taps(e, group.origin), self.columns.taps(e, origin)),
                Some(_) => ((0i64.into(), self.p.kernel_h.into()), (0i64.into(), self.p.kernel_w.into())),
            };
            let acc = e.each_vec(rows.0, rows.1, 1, acc, |e, ky, acc| {
                e.each_vec(columns.0, columns.1, 1, acc.to_vec(), |e, kx, acc| {
                    let column = self.columns.at(e, origin, kx);
                    let (mut x, w) = self.tap(e, group, ky.into(), kx.into(), column);
                    if let Some(value) = self.pad_value {
                        let row = self.rows.at(e, group.origin, ky);
                        let row = self.rows.exists(e, row);
                        let column = self.columns.exists(e, column);
                        let exists = e.b.ins().band(row, column);
                        let value = self.channel(e, group, value);
                        x = e.b.ins().select(exists, x, value);
                    }
                    let mut next = Vec::with_capacity(acc.len());
                    for (&acc, (offset, lanes)) in acc.iter().zip(vectors(group.channels)) {
                        let x = load(e, self.p, group, x, 0, offset, lanes);
                        let w = e.load(Mem::Fixed, w, offset, LANES);
                        next.push(e.fma(x, w, acc));
                    }
                    next
                })
            });
            self.finish(e, group, &acc, 1, column.into());
            []
        });
    }

    /// The biases of the group.
    fn bias(&self, e: &mut Emit<'_>, group: &Group) -> Vec<Value> {
        vectors(group.channels).map(|(offset, _)| e.load(Mem::Fixed, group.bias, offset, LANES)).collect()
    }

    /// The input at the row of tap `ky` and at `column`, and the weights of tap `(ky, kx)`.
    fn tap(&self, e: &mut Emit<'_>, group: &Group, ky: Int, kx: Int, column: Int) -> (Value, Value) {
        let row = self.rows.at(e, group.origin, ky);
        let row = e.mul(row, self.p.in_w as i64);
        let pixel = e.add(row, column);
        let offset = e.mul(pixel, self.p.in_c as i64 * FLOAT);
        let x = e.at(self.x, offset);
        let tap = e.mul(ky, self.p.kernel_w as i64);
        let tap = e.add(tap, kx);
        let offset = e.mul(tap, PANEL as i64 * FLOAT);
        (self.channel(e, group, x), e.at(group.w, offset))
    }

    /// A pixel's first channel of the group; with a multiplier, the pixel.
    fn channel(&self, e: &mut Emit<'_>, group: &Group, pixel: Value) -> Value {
        if group.inputs.is_some() {
            return pixel;
        }
        let offset = e.mul(group.first, FLOAT);
        e.at(pixel, offset)
    }

    /// Activates and stores accumulators ordered vector by vector.
    fn finish(&self, e: &mut Emit<'_>, group: &Group, acc: &[Value], pixels: usize, column: Int) {
        let out_c = self.p.in_c * self.p.multiplier;
        let row = e.mul(group.row, self.p.out_w as i64);
        let pixel = e.add(row, column);
        let pixel = e.mul(pixel, out_c as i64);
        let element = e.add(pixel, group.first);
        let offset = e.mul(element, FLOAT);
        let y = e.at(self.y, offset);
        for (acc, (offset, lanes)) in acc.chunks(pixels).zip(vectors(group.channels)) {
            for (pixel, &sum) in acc.iter().enumerate() {
                let v = activate(e, self.p.act, sum);
                e.store(v, y, bytes(pixel * out_c) + offset, lanes);
            }
        }
    }
}

/// The input vector that belongs to the output channels at `offset` in the group, in the pixel `at` bytes behind `x`.
fn load(e: &mut Emit<'_>, p: &Depthwise, group: &Group, x: Value, at: i32, offset: i32, lanes: usize) -> Value {
    let Some(inputs) = &group.inputs else {
        return e.load(Mem::Fixed, x, at + offset, lanes);
    };
    let inputs = &inputs[(offset / VECTOR) as usize * LANES..][..lanes];
    if p.multiplier.is_multiple_of(LANES) {
        // All lanes read one channel.
        let x = e.at(x, inputs[0]);
        return e.load_splat(Mem::Fixed, x, at);
    }
    let mut v = e.all(0.0);
    for (lane, &input) in inputs.iter().enumerate() {
        let x = e.at(x, input);
        let x = e.load1(Mem::Fixed, x, at);
        v = e.b.ins().insertlane(v, x, lane as u8);
    }
    v
}
