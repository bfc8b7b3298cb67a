//! Activation functions and the exponential, on one vector. What is not a number stays so: the variable stands second in `vmin`
//! and `vmax`.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use mnc_runtime::params::Activation;

use crate::back::clif::emit::Emit;

/// `act(x)`, lane by lane.
pub(super) fn activate(e: &mut Emit<'_>, act: Activation, x: Value) -> Value {
    match act {
        Activation::None => x,
        Activation::Relu => {
            let zero = e.all(0.0);
            e.vmax(zero, x)
        }
        Activation::Relu6 => relu6(e, x),
        Activation::HSwish => {
            let gate = activate(e, Activation::HSigmoid, x);
            e.b.ins().fmul(x, gate)
        }
        Activation::HSigmoid => {
            let three = e.all(3.0);
            let shifted = e.b.ins().fadd(x, three);
            let clamped = relu6(e, shifted);
            let sixth = e.all(1.0 / 6.0);
            e.b.ins().fmul(clamped, sixth)
        }
        Activation::Sigmoid => {
            let minus = e.b.ins().fneg(x);
            let power = exp(e, minus);
            let one = e.all(1.0);
            let denominator = e.b.ins().fadd(one, power);
            e.b.ins().fdiv(one, denominator)
        }
        Activation::Tanh => tanh(e, x),
        Activation::Silu => {
            let gate = activate(e, Activation::Sigmoid, x);
            // Minus infinity gives next to nothing.
            let least = e.all(-88.0);
            let x = e.vmax(least, x);
            e.b.ins().fmul(x, gate)
        }
        Activation::LeakyRelu(slope) => {
            let (zero, slope) = (e.all(0.0), e.all(slope.get()));
            let (below, above) = (e.vmin(zero, x), e.vmax(zero, x));
            e.fma(below, slope, above)
        }
        Activation::Clip(least, most) => clip(e, least.get(), most.get(), x),
        Activation::HardSigmoid(alpha, beta) => {
            let (alpha, beta) = (e.all(alpha.get()), e.all(beta.get()));
            let linear = e.fma(x, alpha, beta);
            clip(e, 0.0, 1.0, linear)
        }
    }
}

fn clip(e: &mut Emit<'_>, least: f32, most: f32, x: Value) -> Value {
    let (least, most) = (e.all(least), e.all(most));
    let x = e.vmax(least, x);
    e.vmin(most, x)
}

/// A ratio of polynomials in `x`, the minimax one of Eigen's `ptanh_float`. Beyond the clamp it stays 5 units from one.
fn tanh(e: &mut Emit<'_>, x: Value) -> Value {
    const ABOVE: [f32; 7] =
        [-2.760_768_5e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_524_6e-3];
    const BELOW: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];
    let x = clip(e, -7.905_311, 7.905_311, x);
    let square = e.b.ins().fmul(x, x);
    let mut polynomial = |coefficients: &[f32]| {
        let mut p = e.all(coefficients[0]);
        for &c in &coefficients[1..] {
            let c = e.all(c);
            p = e.fma(p, square, c);
        }
        p
    };
    let (above, below) = (polynomial(&ABOVE), polynomial(&BELOW));
    let above = e.b.ins().fmul(x, above);
    e.b.ins().fdiv(above, below)
}

fn relu6(e: &mut Emit<'_>, x: Value) -> Value {
    clip(e, 0.0, 6.0, x)
}

/// `exp(x)` by `2^n * exp(r)`, `n = round(x / ln 2)`, with the polynomial of Cephes' `expf` for `|r| <= ln 2 / 2`; the result is
/// within 2 units in the last place for -87 <= x <= 88, and `x` is clamped to that range.
pub(super) fn exp(e: &mut Emit<'_>, x: Value) -> Value {
    /// Adding it leaves the rounded sum in the low bits of the mantissa, and its own low nine bits are zero.
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23
    /// ln 2 in two parts, so that `n * HIGH` is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    /// From the highest power down to r^2; `1 + r` follows.
    const POLYNOMIAL: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5];

    let (low, high) = (e.all(-87.0), e.all(88.0));
    let x = e.vmax(low, x);
    let x = e.vmin(high, x);
    let (log2_e, round) = (e.all(std::f32::consts::LOG2_E), e.all(ROUND));
    let shifted = e.fma(x, log2_e, round);
    let n = e.b.ins().fsub(shifted, round);
    let (minus_high, minus_low) = (e.all(-HIGH), e.all(-LOW));
    let r = e.fma(n, minus_high, x);
    let r = e.fma(n, minus_low, r);
    let mut p = e.all(POLYNOMIAL[0]);
    for c in &POLYNOMIAL[1..] {
        let c = e.all(*c);
        p = e.fma(p, r, c);
    }
    let r2 = e.b.ins().fmul(r, r);
    let p = e.fma(p, r2, r);
    let one = e.all(1.0);
    let p = e.b.ins().fadd(p, one);
    // The integer n stands in the low bits of `shifted`: moved to the exponent field it multiplies by 2^n.
    let n = e.bits(shifted);
    let exponent = e.b.ins().iconst(types::I32, 23);
    let n = e.b.ins().ishl(n, exponent);
    let p = e.bits(p);
    let scaled = e.b.ins().iadd(p, n);
    e.floats(scaled)
}
