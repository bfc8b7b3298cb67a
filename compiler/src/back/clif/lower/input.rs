//! What stands before the first layer: normalisation, and padding on its own.

use cranelift_codegen::ir::{InstBuilder, Value};

use super::elementwise::{clear, copy};
use crate::back::clif::emit::{Emit, FLOAT, Int, Mem, bytes};

/// `y[p][c] = x[p][order[c]] * scale[c] + shift[c]`, pixel by pixel, the few channels of a picture written out.
pub(super) fn normalize(e: &mut Emit<'_>, pixels: usize, order: &[usize], x: Value, scale: Value, shift: Value, y: Value) {
    let size = order.len() as i64 * FLOAT;
    e.each(0i64, pixels, 1, [], |e, pixel, []| {
        let offset = e.mul(pixel, size);
        let (x, y) = (e.at(x, offset), e.at(y, offset));
        for (c, &from) in order.iter().enumerate() {
            let v = e.load1(Mem::Fixed, x, bytes(from));
            let scale = e.load1(Mem::Fixed, scale, bytes(c));
            let shift = e.load1(Mem::Fixed, shift, bytes(c));
            let product = e.b.ins().fmul(v, scale);
            let sum = e.b.ins().fadd(product, shift);
            e.store1(sum, y, bytes(c));
        }
        []
    });
}

/// Where an input stands in a larger output.
pub(super) struct Frame {
    /// Rows and columns.
    pub input: [usize; 2],
    /// Rows and columns.
    pub output: [usize; 2],
    /// Channels of both.
    pub c: usize,
    /// Rows above.
    pub top: usize,
    /// Columns left.
    pub left: usize,
}

/// Rows and columns around the input, filled with `value` (one element a channel) or zero.
pub(super) fn pad(e: &mut Emit<'_>, f: &Frame, value: Option<Value>, x: Value, y: Value) {
    let [in_h, in_w] = f.input;
    let [out_h, out_w] = f.output;
    let fill = |e: &mut Emit<'_>, row: Value, from: usize, to: usize| {
        e.each(from, to, 1, [], |e, column, []| {
            let y = f.pixel(e, y, row, out_w, column.into());
            match value {
                Some(value) => copy(e, f.c, value, y),
                None => clear(e, f.c, y),
            }
            []
        });
    };
    for (from, to) in [(0, f.top), (f.top + in_h, out_h)] {
        e.each(from, to, 1, [], |e, row, []| {
            fill(e, row, 0, out_w);
            []
        });
    }
    e.each(0i64, in_h, 1, [], |e, row, []| {
        let below = e.at(row, f.top);
        fill(e, below, 0, f.left);
        let x = f.pixel(e, x, row, in_w, 0i64.into());
        let to = f.pixel(e, y, below, out_w, f.left.into());
        copy(e, in_w * f.c, x, to);
        fill(e, below, f.left + in_w, out_w);
        []
    });
}

impl Frame {
    /// Where a pixel of a tensor `width` pixels wide stands.
    fn pixel(&self, e: &mut Emit<'_>, base: Value, row: Value, width: usize, column: Int) -> Value {
        let row = e.mul(row, width as i64);
        let pixel = e.add(row, column);
        let offset = e.mul(pixel, self.c as i64 * FLOAT);
        e.at(base, offset)
    }
}
