//! Kernels that map elements to elements; each may write where it reads.

use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::params::{Activation, BinaryKind};

use super::act::activate;
use crate::back::clif::emit::{Emit, FLOAT, Mem, vectors};

/// Elements a turn.
const WIDTH: usize = 16;

/// `y = act(a + b)`
pub(super) fn add(e: &mut Emit<'_>, len: usize, act: Activation, a: Value, b: Value, y: Value) {
    map(e, len, [a, b], y, |e, [a, b]| {
        let sum = e.b.ins().fadd(a, b);
        activate(e, act, sum)
    });
}

/// `y[p][c] = act(x[p][c] * scale[c])`
pub(super) fn scale(e: &mut Emit<'_>, pixels: usize, c: usize, act: Activation, x: Value, scale: Value, y: Value) {
    e.each(0i64, pixels, 1, [], |e, pixel, []| {
        let offset = e.mul(pixel, c as i64 * FLOAT);
        let (x, y) = (e.at(x, offset), e.at(y, offset));
        map(e, c, [x, scale], y, |e, [x, scale]| {
            let product = e.b.ins().fmul(x, scale);
            activate(e, act, product)
        });
        []
    });
}

/// `y[p][c] = x < 0 ? slope[c] * x : x` of `x = x[p][c]`
pub(super) fn prelu(e: &mut Emit<'_>, pixels: usize, c: usize, x: Value, slope: Value, y: Value) {
    e.each(0i64, pixels, 1, [], |e, pixel, []| {
        let offset = e.mul(pixel, c as i64 * FLOAT);
        let (x, y) = (e.at(x, offset), e.at(y, offset));
        map(e, c, [x, slope], y, |e, [x, slope]| {
            let zero = e.all(0.0);
            let (below, above) = (e.vmin(zero, x), e.vmax(zero, x));
            e.fma(below, slope, above)
        });
        []
    });
}

/// A tensor of `h x w x c` elements, or one along some axes.
#[derive(Clone, Copy)]
pub(super) struct Spread {
    /// Rows, columns, channels.
    pub shape: [usize; 3],
    /// Its first element.
    pub first: Value,
}

impl Spread {
    /// Its pixel at `(row, column)` of the result.
    fn pixel(self, e: &mut Emit<'_>, row: Value, column: Value) -> Value {
        let [h, w, c] = self.shape;
        let down = e.mul(row, if h == 1 { 0 } else { (w * c) as i64 * FLOAT });
        let across = e.mul(column, if w == 1 { 0 } else { c as i64 * FLOAT });
        let offset = e.add(down, across);
        e.at(self.first, offset)
    }
}

/// `y = act(f(a, b))`, where one element of an operand may stand for all along an axis.
pub(super) fn binary(e: &mut Emit<'_>, kind: BinaryKind, act: Activation, shape: [usize; 3], [a, b]: [Spread; 2], y: Value) {
    let [h, w, c] = shape;
    let y = Spread { shape, first: y };
    e.each(0i64, h, 1, [], |e, row, []| {
        e.each(0i64, w, 1, [], |e, column, []| {
            let [a, b, y] = [a, b, y].map(|t| (t.shape[2] == 1, t.pixel(e, row, column)));
            e.groups(c, WIDTH, |e, first, count| {
                let offset = e.mul(first, FLOAT);
                let y = e.at(y.1, offset);
                let results: Vec<Value> = vectors(count)
                    .map(|(at, lanes)| {
                        let [a, b] = [a, b].map(|(alone, p)| match alone {
                            true => e.load_splat(Mem::Live, p, 0),
                            false => {
                                let p = e.at(p, offset);
                                e.load(Mem::Live, p, at, lanes)
                            }
                        });
                        let v = match kind {
                            BinaryKind::Add => e.b.ins().fadd(a, b),
                            BinaryKind::Sub => e.b.ins().fsub(a, b),
                            BinaryKind::Mul => e.b.ins().fmul(a, b),
                            BinaryKind::Div => e.b.ins().fdiv(a, b),
                        };
                        activate(e, act, v)
                    })
                    .collect();
                for (&result, (at, lanes)) in results.iter().zip(vectors(count)) {
                    e.store(result, y, at, lanes);
                }
            });
            []
        });
        []
    });
}

/// `y = act(x)`
pub(super) fn act(e: &mut Emit<'_>, len: usize, act: Activation, x: Value, y: Value) {
    map(e, len, [x], y, |e, [x]| activate(e, act, x));
}

/// `y = x`
pub(super) fn copy(e: &mut Emit<'_>, len: usize, x: Value, y: Value) {
    map(e, len, [x], y, |_, [x]| x);
}

/// `y = 0`
pub(super) fn clear(e: &mut Emit<'_>, len: usize, y: Value) {
    map(e, len, [], y, |e, []| e.all(0.0));
}

/// `y[i] = f(inputs[i])`
fn map<const N: usize>(
    e: &mut Emit<'_>,
    len: usize,
    inputs: [Value; N],
    y: Value,
    f: impl Fn(&mut Emit<'_>, [Value; N]) -> Value,
) {
    e.groups(len, WIDTH, |e, first, count| {
        let offset = e.mul(first, FLOAT);
        let inputs = inputs.map(|p| e.at(p, offset));
        let y = e.at(y, offset);
        // All loads of a turn come before its stores.
        let results: Vec<Value> = vectors(count)
            .map(|(offset, lanes)| {
                let loaded = inputs.map(|p| e.load(Mem::Live, p, offset, lanes));
                f(e, loaded)
            })
            .collect();
        for (&result, (offset, lanes)) in results.iter().zip(vectors(count)) {
            e.store(result, y, offset, lanes);
        }
    });
}
