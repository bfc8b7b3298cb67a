//! Element by element: activations, products, quotients, softmax, interpolation.

use mnc_runtime::reference::activate;

use super::{FOLDS, LAMBDA, OPEN, Sums, U, Value, both, largest};
use crate::ir::Shape;
use crate::ir::eval::{self, hwc};
use crate::ir::op::{Activation, Binary, BinaryKind, Op, Tap};

/// How far a kernel's formula lies from the function at `x`, where it is `y`, in units of `u`, the last rounding not counted.
/// The figures are those that the kernels' documentation states; a unit in the last place is up to `2 u`.
fn formula(act: Activation, x: f64, y: f64) -> f64 {
    match act {
        Activation::None | Activation::Relu | Activation::Relu6 | Activation::LeakyRelu(_) | Activation::Clip(..) => 0.0,
        Activation::HSigmoid => 2.0,
        Activation::HSwish => 2.0 * x.abs().min(3.0) + y.abs(),
        Activation::HardSigmoid(alpha, beta) => {
            let (alpha, beta) = (f64::from(alpha.get()), f64::from(beta.get()));
            // Beyond this the sum is clamped.
            2.0 * (alpha * x).abs().min(2.0 + beta.abs()) + beta.abs()
        }
        // 4 units in the last place, and about 1e-38 for the smallest.
        Activation::Sigmoid => 8.0 * y.abs() + 1e-37 / U,
        Activation::Tanh => 16.0 * y.abs(),
        Activation::Silu => 10.0 * y.abs() + 1e-35 / U,
    }
}

/// Where a function turns from falling to rising or back.
fn turn(act: Activation) -> Option<f64> {
    match act {
        Activation::HSwish => Some(-1.5),
        Activation::Silu => Some(-1.278_464_542_761_074),
        Activation::LeakyRelu(_) => Some(0.0),
        Activation::None
        | Activation::Relu
        | Activation::Relu6
        | Activation::HSigmoid
        | Activation::Sigmoid
        | Activation::Tanh
        | Activation::Clip(..)
        | Activation::HardSigmoid(..) => None,
    }
}

/// The variance of `f(x)` for an error of variance `v` in `x`: how far `f` gets from its value within the bound.
fn through(f: impl Fn(f64) -> f64, turn: Option<f64>, x: f64, v: f64) -> f64 {
    if v == OPEN {
        return OPEN;
    }
    let (reach, y) = (LAMBDA * U * v.sqrt(), f(x));
    if reach == 0.0 || !y.is_finite() {
        return 0.0;
    }
    let turn = turn.filter(|t| (t - x).abs() < reach);
    let far = [Some(x - reach), Some(x + reach), turn].into_iter().flatten().map(|x| (f(x) - y).abs()).fold(0.0, f64::max);
    (far / (LAMBDA * U)).powi(2)
}

pub(super) fn act(act: Activation, x: Value) -> Value {
    if act == Activation::None {
        return x;
    }
    let y = eval::node(&Op::Act(act), &crate::ir::Consts::default(), &[x.shape], x.shape, &[&x.x]);
    let turn = turn(act);
    let one = |((&x, &v), &y): ((&f32, &f64), &f32)| {
        let (x, y) = (f64::from(x), f64::from(y));
        let own = if y.is_finite() { (formula(act, x, y) / LAMBDA).powi(2) } else { 0.0 };
        through(|x| activate(act, x), turn, x, v) + own
    };
    let v = x.x.iter().zip(&x.v).zip(&y).map(one).collect();
    let most = largest(&y);
    Value::result(x.shape, y, v, most).sharing(x.shared)
}

/// `x < 0 ? slope[c] * x : x`; `y` is the reference's result.
pub(super) fn prelu(slope: &[f32], y: Vec<f32>, x: &Value) -> Value {
    let one = |i: usize| {
        let slope = f64::from(slope[i % slope.len()]);
        let v = through(|x| if x < 0.0 { slope * x } else { x }, Some(0.0), f64::from(x.x[i]), x.v[i]);
        // The slope is a constant of its own.
        v + if y[i].is_finite() { f64::from(y[i]).powi(2) } else { 0.0 }
    };
    let v = (0..y.len()).map(one).collect();
    let most = largest(&y).max(x.most * f64::from(slope.iter().fold(1f32, |a, b| a.max(b.abs()))));
    Value::result(x.shape, y, v, most)
}

/// The variance of a product; `both` adds two errors.
fn times([a, b]: [f64; 2], [ea, eb]: [f64; 2], both: impl Fn(f64, f64) -> f64) -> f64 {
    if !(a * b).is_finite() {
        return if ea == OPEN || eb == OPEN { OPEN } else { 0.0 };
    }
    (both(b.abs() * ea, a.abs() * eb) + U * LAMBDA * ea * eb).powi(2)
}

/// `x[p][c] * s[c]`; `y` is the reference's result.
pub(super) fn product(y: Vec<f32>, shape: Shape, reads: &[&Value]) -> Value {
    let (x, s) = (reads[0], reads[1]);
    let (scales, both): (Vec<f64>, _) = (s.deviations().collect(), both(reads));
    let one = |(i, e): (usize, f64)| {
        let c = i % shape.c;
        times([f64::from(x.x[i]), f64::from(s.x[c])], [e, scales[c]], &both)
    };
    let v = x.deviations().enumerate().map(one).collect();
    Value::result(shape, y, v, x.most * s.most).sharing(x.shared.max(s.shared))
}

/// Sum, difference, product or quotient with broadcasting, without its activation.
pub(super) fn binary(op: Binary, shape: Shape, reads: &[&Value]) -> Value {
    let plain = Op::Binary(Binary { act: Activation::None, ..op });
    let shapes = [reads[0].shape, reads[1].shape];
    let y = eval::node(&plain, &crate::ir::Consts::default(), &shapes, shape, &[&reads[0].x, &reads[1].x]);
    let at = |r: &Value, i: usize| {
        let [h, w, c] = hwc(r.shape);
        let clip = |i: usize, len: usize| if len == 1 { 0 } else { i };
        let i = (clip(i / (shape.w * shape.c), h) * w + clip(i / shape.c % shape.w, w)) * c + clip(i % shape.c, c);
        (f64::from(r.x[i]), r.v[i].sqrt())
    };
    let both = both(reads);
    let one = |i: usize| {
        let ((a, ea), (b, eb)) = (at(reads[0], i), at(reads[1], i));
        match op.kind {
            BinaryKind::Add | BinaryKind::Sub => both(ea, eb).powi(2),
            BinaryKind::Mul => times([a, b], [ea, eb], &both),
            BinaryKind::Div if ea == OPEN || eb == OPEN => OPEN,
            // The divisor may be zero, or of the other sign.
            BinaryKind::Div if eb > 0.0 && LAMBDA * U * eb >= 0.5 * b.abs() => OPEN,
            BinaryKind::Div if !(a / b).is_finite() || b.is_infinite() => 0.0,
            BinaryKind::Div => both(ea / b.abs(), (a / b / b).abs() * 2.0 * eb).powi(2),
        }
    };
    let v = (0..y.len()).map(one).collect();
    let (a, b) = (reads[0].most, reads[1].most);
    let most = match op.kind {
        BinaryKind::Add | BinaryKind::Sub => a + b,
        BinaryKind::Mul => a * b,
        BinaryKind::Div => largest(&y),
    };
    let mut value = Value::result(shape, y, v, most);
    if op.kind == BinaryKind::Div {
        // A quotient beyond f32 of finite operands; of zero it is the same everywhere.
        for i in 0..value.x.len() {
            let ((a, _), (b, _)) = (at(reads[0], i), at(reads[1], i));
            if value.x[i].is_infinite() && a.is_finite() && b != 0.0 {
                value.v[i] = OPEN;
            }
        }
    }
    value
}

/// Linear interpolation; `y` is the reference's result.
pub(super) fn interpolate(rows: &[Tap], columns: &[Tap], y: Vec<f32>, shape: Shape, x: &Value) -> Value {
    let e: Vec<f64> = x.deviations().collect();
    let mut v = vec![0.0; y.len()];
    for (i, v) in v.iter_mut().enumerate() {
        let (row, column, c) = (&rows[i / (shape.w * shape.c)], &columns[i / shape.c % shape.w], i % shape.c);
        let (mut deviation, mut size) = (0.0, 0.0);
        for (iy, wy) in ends(row) {
            for (ix, wx) in ends(column) {
                let from = (iy * x.shape.w + ix) * x.shape.c + c;
                let weight = wy * wx;
                let known = x.x[from].is_finite() && e[from].is_finite();
                deviation += if known { weight * e[from] } else { OPEN };
                size += weight * f64::from(x.x[from].abs());
            }
        }
        // Three roundings along each axis.
        *v = deviation * deviation + 6.0 * size * size;
    }
    Value::result(shape, y, v, 2.0 * x.most)
}

/// Both positions of a tap with the magnitudes of their weights.
fn ends(tap: &Tap) -> [(usize, f64); 2] {
    let weight = f64::from(tap.weight.get());
    [(tap.low, (1.0 - weight).abs()), (tap.high, weight.abs())]
}

/// Softmax over the channels of every pixel; `y` is the reference's result.
pub(super) fn softmax(y: Vec<f32>, x: &Value, sums: Sums) -> Value {
    let channels = x.shape.c;
    // Exponential and sum of a kernel: two units in the last place, and a rounding a term.
    let n = if sums != Sums::F64 { FOLDS + channels as f64 } else { 1.0 };
    let e: Vec<f64> = x.deviations().collect();
    let mut v = Vec::with_capacity(y.len());
    for ((y, e), x) in y.chunks(channels).zip(e.chunks(channels)).zip(x.x.chunks(channels)) {
        let top = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
        if e.iter().any(|e| LAMBDA * U * e > 0.5) {
            v.extend(std::iter::repeat_n(OPEN, y.len()));
            continue;
        }
        // d y_i = y_i (d x_i - sum y_j d x_j)
        let mean: f64 = y.iter().zip(e).map(|(y, e)| f64::from(*y) * e).sum();
        v.extend((0..y.len()).map(|i| {
            if !y[i].is_finite() {
                return 0.0;
            }
            // The argument's own rounding; kernels leave some 1e-38 where nothing is left.
            let argument = if sums != Sums::F64 && y[i] > 0.0 { f64::from(top - x[i]) } else { 0.0 };
            (f64::from(y[i]) * (e[i] + mean + argument + n.sqrt()) + 1e-37 / U).powi(2)
        }));
    }
    Value::result(x.shape, y, v, 1.0)
}
