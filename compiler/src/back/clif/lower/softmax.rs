//! `y[i] = exp(x[i] - max x) / sum` over the channels of every pixel, also in place.

use cranelift_codegen::ir::{InstBuilder, Value};

use super::act::exp;
use crate::back::clif::emit::{Emit, FLOAT, LANES, Mem};

/// Emits the body of [`super::super::class::Class::Softmax`].
pub(super) fn softmax(e: &mut Emit<'_>, pixels: usize, c: usize, x: Value, y: Value) {
    e.each(0i64, pixels, 1, [], |e, i, []| {
        let offset = e.mul(i, c as i64 * FLOAT);
        let (x, y) = (e.at(x, offset), e.at(y, offset));
        pixel(e, c, x, y);
        []
    });
}

/// One pixel: vectors first, the last elements one by one in all lanes.
fn pixel(e: &mut Emit<'_>, c: usize, x: Value, y: Value) {
    let whole = c / LANES * LANES;
    let at = |e: &mut Emit<'_>, p: Value, i: Value| {
        let offset = e.mul(i, FLOAT);
        e.at(p, offset)
    };

    let first = e.load_splat(Mem::Live, x, 0);
    let [max] = e.each(0i64, whole, LANES as i64, [first], |e, i, [max]| {
        let x = at(e, x, i);
        let x = e.load(Mem::Live, x, 0, LANES);
        [e.vmax(x, max)]
    });
    let max = across(e, max, |e, a, b| e.vmax(a, b));
    let [max] = e.each(whole, c, 1, [max], |e, i, [max]| {
        let x = at(e, x, i);
        let x = e.load_splat(Mem::Live, x, 0);
        [e.vmax(x, max)]
    });

    let zero = e.all(0.0);
    let [sum] = e.each(0i64, whole, LANES as i64, [zero], |e, i, [sum]| {
        let (x, y) = (at(e, x, i), at(e, y, i));
        let x = e.load(Mem::Live, x, 0, LANES);
        let power = power(e, x, max);
        e.store(power, y, 0, LANES);
        [e.b.ins().fadd(sum, power)]
    });
    let sum = across(e, sum, |e, a, b| e.b.ins().fadd(a, b));
    let [sum] = e.each(whole, c, 1, [sum], |e, i, [sum]| {
        let (x, y) = (at(e, x, i), at(e, y, i));
        let x = e.load_splat(Mem::Live, x, 0);
        let power = power(e, x, max);
        e.store(power, y, 0, 1);
        [e.b.ins().fadd(sum, power)]
    });

    let one = e.all(1.0);
    let share = e.b.ins().fdiv(one, sum);
    for (from, to, lanes) in [(0, whole, LANES), (whole, c, 1)] {
        e.each(from, to, lanes as i64, [], |e, i, []| {
            let y = at(e, y, i);
            let power = e.load(Mem::Live, y, 0, lanes);
            let result = e.b.ins().fmul(power, share);
            e.store(result, y, 0, lanes);
            []
        });
    }
}

fn power(e: &mut Emit<'_>, x: Value, max: Value) -> Value {
    let below = e.b.ins().fsub(x, max);
    exp(e, below)
}

/// All four lanes combined, in every lane.
fn across(e: &mut Emit<'_>, v: Value, combine: impl Fn(&mut Emit<'_>, Value, Value) -> Value) -> Value {
    let lanes: Vec<Value> = (0..LANES)
        .map(|lane| {
            let x = e.b.ins().extractlane(v, lane as u8);
            e.splat(x)
        })
        .collect();
    let low = combine(e, lanes[0], lanes[1]);
    let high = combine(e, lanes[2], lanes[3]);
    combine(e, low, high)
}
