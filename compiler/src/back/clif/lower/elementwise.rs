//! Kernels that map elements to elements; each may write where it reads.

use cranelift_codegen::ir::{InstBuilder, Value};
use mnc_runtime::params::Activation;

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
