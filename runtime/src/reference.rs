//! Naive kernels, safe and slow: what everything else is compared with.
//!
//! One definition an operation, written as its formula, in plain layouts (a convolution's weights are `[kh][kw][in_c][out_c]`, a
//! depthwise one's `[kh][kw][out_c]`, a dense layer's `[in][out]`) and with f64 accumulators, so a result is the exact value
//! rounded once to f32 (a sum's own rounding is some 2^29 times smaller). NaN propagates through every function.
//!
//! Panics where a slice has another length than the parameters say: a reference must not guess.

mod rearrange;

pub use rearrange::{binary, concat, conv_transpose, conv_transpose_sums, gather, interpolate, mean, prelu, transpose};

use crate::params::{Activation, Conv, Depthwise, Method, Pool, PoolKind};

/// Output channels summed at a time, so that weights are read in the order in which they stand.
const BLOCK: usize = 32;

/// The activation of one element. Clamps let NaN through (`f64::max` would not).
#[must_use]
pub fn activate(act: Activation, x: f64) -> f64 {
    let relu6 = |x: f64| x.clamp(0.0, 6.0);
    match act {
        Activation::None => x,
        Activation::Relu => {
            if x < 0.0 {
                0.0
            } else {
                x
            }
        }
        Activation::Relu6 => relu6(x),
        Activation::HSwish => x * (relu6(x + 3.0) / 6.0),
        Activation::HSigmoid => relu6(x + 3.0) / 6.0,
        Activation::Sigmoid => 1.0 / (1.0 + exp(-x)),
        Activation::Tanh => tanh(x),
        // The limit, where the formula has infinities on both sides.
        Activation::Silu if x == f64::NEG_INFINITY => 0.0,
        Activation::Silu => x / (1.0 + exp(-x)),
        Activation::LeakyRelu(slope) => {
            if x < 0.0 {
                f64::from(slope.get()) * x
            } else {
                x
            }
        }
        Activation::Clip(least, most) => {
            let (least, most) = (f64::from(least.get()), f64::from(most.get()));
            let x = if x < least { least } else { x };
            if x > most { most } else { x }
        }
        Activation::HardSigmoid(alpha, beta) => (f64::from(alpha.get()) * x + f64::from(beta.get())).clamp(0.0, 1.0),
    }
}

/// `tanh(x)` in f64, relative error below 1e-14: by `exp`, near zero by Lambert's continued fraction, which cancels nothing.
#[must_use]
pub fn tanh(x: f64) -> f64 {
    if x.abs() > 1.0 {
        return 1.0 - 2.0 / (exp(2.0 * x) + 1.0);
    }
    let mut below = 19.0;
    for odd in (0..9).rev() {
        below = f64::from(2 * odd + 1) + x * x / below;
    }
    x / below
}

/// `e^x` in f64 (`core` has none): `2^n * e^r` with `|r| <= ln 2 / 2`, Taylor to the 13th power; relative error below 1e-15.
#[must_use]
pub fn exp(x: f64) -> f64 {
    const LN2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
    if x.is_nan() {
        return x;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -700.0 {
        return 0.0;
    }
    let t = x * core::f64::consts::LOG2_E;
    let n = (if t < 0.0 { t - 0.5 } else { t + 0.5 }) as i64;
    let r = (x - n as f64 * LN2_HI) - n as f64 * LN2_LO;
    let mut sum = 1.0;
    for i in (1..=13).rev() {
        sum = 1.0 + sum * r / f64::from(i);
    }
    sum * f64::from_bits(((1023 + n) as u64) << 52)
}

/// What the products of one output element go into.
pub trait Accumulate: Copy {
    /// One more.
    fn add(&mut self, product: f64);
}

impl Accumulate for f64 {
    fn add(&mut self, product: f64) {
        *self += product;
    }
}

/// A sum, and the squares of all its partial sums together: what the roundings of a sum in f32 are relative to, one by one
/// (Wilkinson's running error analysis).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Running {
    /// The sum so far.
    pub sum: f64,
    /// Of every partial sum, added up.
    pub squares: f64,
}

impl Accumulate for Running {
    fn add(&mut self, product: f64) {
        self.sum += product;
        self.squares += self.sum * self.sum;
    }
}

/// Convolution: `y[o] = act(sum(x * w[.., o]) + bias[o] + residual[o])`, summed over the input channels of `o`'s group, so that
/// weights are `[kh][kw][in_c / groups][out_c]`. Outside of the input stands `pad_value` (`in_c` elements; zero where absent).
pub fn conv(
    p: &Conv,
    x: &[f32],
    w: &[f32],
    bias: Option<&[f32]>,
    pad_value: Option<&[f32]>,
    residual: Option<&[f32]>,
    y: &mut [f32],
) {
    assert_eq!(y.len(), p.out_h * p.out_w * p.out_c, "conv output");
    conv_sums(
        p,
        x,
        w,
        pad_value,
        |_| 0.0,
        |at, sum| {
            let o = at % p.out_c;
            let sum = sum + bias.map_or(0.0, |b| f64::from(b[o])) + residual.map_or(0.0, |r| f64::from(r[at]));
            y[at] = activate(p.act, sum) as f32;
        },
    );
}

/// The sums of [`conv`]: `each` is given the place of every output element and what its products were added to, `start` of its channel.
pub fn conv_sums<X: Copy + Into<f64>, A: Accumulate>(
    p: &Conv,
    x: &[X],
    w: &[X],
    pad_value: Option<&[X]>,
    start: impl Fn(usize) -> A,
    mut each: impl FnMut(usize, A),
) {
    assert_eq!(x.len(), p.in_h * p.in_w * p.in_c, "conv input");
    let Some((group_in, group_out)) = p.group() else { panic!("{} groups of {} and {} channels", p.groups, p.in_c, p.out_c) };
    assert_eq!(w.len(), p.kernel_h * p.kernel_w * group_in * p.out_c, "conv weights");
    for oy in 0..p.out_h {
        for ox in 0..p.out_w {
            let at = (oy * p.out_w + ox) * p.out_c;
            let blocks = (0..p.groups).flat_map(|g| (0..group_out).step_by(BLOCK).map(move |first| (g, first)));
            for (g, first) in blocks {
                let n = BLOCK.min(group_out - first);
                let first = g * group_out + first;
                let mut acc: [A; BLOCK] = core::array::from_fn(|j| start(first + j.min(n - 1)));
                for ky in 0..p.kernel_h {
                    for kx in 0..p.kernel_w {
                        let iy = inside(oy * p.stride_h + ky * p.dilation_h, p.pad_top, p.in_h);
                        let ix = inside(ox * p.stride_w + kx * p.dilation_w, p.pad_left, p.in_w);
                        for i in 0..group_in {
                            let c = g * group_in + i;
                            let v: f64 = match (iy, ix) {
                                (Some(iy), Some(ix)) => x[(iy * p.in_w + ix) * p.in_c + c].into(),
                                (_, None) | (None, _) => pad_value.map_or(0.0, |v| v[c].into()),
                            };
                            let row = ((ky * p.kernel_w + kx) * group_in + i) * p.out_c + first;
                            for (a, w) in acc[..n].iter_mut().zip(&w[row..row + n]) {
                                a.add(v * (*w).into());
                            }
                        }
                    }
                }
                for (j, a) in acc[..n].iter().enumerate() {
                    each(at + first + j, *a);
                }
            }
        }
    }
}

/// Depthwise convolution: output channel `o` reads input channel `o / multiplier`. Outside of the input stands `pad_value`
/// (`in_c` elements; zero where absent).
pub fn depthwise(p: &Depthwise, x: &[f32], w: &[f32], bias: Option<&[f32]>, pad_value: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(y.len(), p.out_h * p.out_w * p.in_c * p.multiplier, "depthwise output");
    let start = |o: usize| bias.map_or(0.0, |b| f64::from(b[o]));
    depthwise_sums(p, x, w, pad_value, start, |at, sum| y[at] = activate(p.act, sum) as f32);
}

/// The sums of [`depthwise`], as [`conv_sums`] gives them.
pub fn depthwise_sums<X: Copy + Into<f64>, A: Accumulate>(
    p: &Depthwise,
    x: &[X],
    w: &[X],
    pad_value: Option<&[X]>,
    start: impl Fn(usize) -> A,
    mut each: impl FnMut(usize, A),
) {
    let out_c = p.in_c * p.multiplier;
    assert_eq!(x.len(), p.in_h * p.in_w * p.in_c, "depthwise input");
    assert_eq!(w.len(), p.kernel_h * p.kernel_w * out_c, "depthwise weights");
    for oy in 0..p.out_h {
        for ox in 0..p.out_w {
            for o in 0..out_c {
                let c = o / p.multiplier;
                let mut acc = start(o);
                for ky in 0..p.kernel_h {
                    for kx in 0..p.kernel_w {
                        let iy = inside(oy * p.stride_h + ky * p.dilation_h, p.pad_top, p.in_h);
                        let ix = inside(ox * p.stride_w + kx * p.dilation_w, p.pad_left, p.in_w);
                        let v: f64 = match (iy, ix) {
                            (Some(iy), Some(ix)) => x[(iy * p.in_w + ix) * p.in_c + c].into(),
                            (_, None) | (None, _) => pad_value.map_or(0.0, |v| v[c].into()),
                        };
                        acc.add(v * w[(ky * p.kernel_w + kx) * out_c + o].into());
                    }
                }
                each((oy * p.out_w + ox) * out_c + o, acc);
            }
        }
    }
}

/// Dense layer: `y[o] = act(sum(x[i] * w[i][o]) + bias[o])`.
pub fn dense(in_c: usize, out_c: usize, act: Activation, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    let p = Conv {
        in_h: 1,
        in_w: 1,
        in_c,
        out_h: 1,
        out_w: 1,
        out_c,
        groups: 1,
        kernel_h: 1,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
        act,
        method: Method::Direct,
    };
    conv(&p, x, w, bias, None, None, y);
}

/// Pooling by windows. A window must touch the input; elements outside of it do not win a maximum, and count in a mean, as zeros,
/// only if `count_padding`.
pub fn pool(p: &Pool, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), p.in_h * p.in_w * p.c, "pool input");
    assert_eq!(y.len(), p.out_h * p.out_w * p.c, "pool output");
    for oy in 0..p.out_h {
        for ox in 0..p.out_w {
            for c in 0..p.c {
                let (mut count, mut sum, mut max) = (0u32, 0f64, f64::NEG_INFINITY);
                for ky in 0..p.kernel_h {
                    for kx in 0..p.kernel_w {
                        let iy = inside(oy * p.stride_h + ky, p.pad_top, p.in_h);
                        let ix = inside(ox * p.stride_w + kx, p.pad_left, p.in_w);
                        if let (Some(iy), Some(ix)) = (iy, ix) {
                            let v = f64::from(x[(iy * p.in_w + ix) * p.c + c]);
                            count += 1;
                            sum += v;
                            max = if v > max || v.is_nan() { v } else { max };
                        }
                    }
                }
                assert!(count > 0, "pool window ({oy}, {ox}) lies outside of the input");
                y[(oy * p.out_w + ox) * p.c + c] = match p.kind {
                    PoolKind::Max => max as f32,
                    PoolKind::Average if p.count_padding => (sum / (p.kernel_h * p.kernel_w) as f64) as f32,
                    PoolKind::Average => (sum / f64::from(count)) as f32,
                };
            }
        }
    }
}

/// Mean over all pixels of each channel: `[pixels, c] -> [c]`.
pub fn global_pool(pixels: usize, c: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), pixels * c, "global_pool input");
    assert_eq!(y.len(), c, "global_pool output");
    for (i, y) in y.iter_mut().enumerate() {
        let sum: f64 = x[i..].iter().step_by(c).map(|&v| f64::from(v)).sum();
        *y = (sum / pixels as f64) as f32;
    }
}

/// `y = act(a + b)`, element by element.
pub fn add(act: Activation, a: &[f32], b: &[f32], y: &mut [f32]) {
    assert!(a.len() == y.len() && b.len() == y.len(), "add lengths {} {} {}", a.len(), b.len(), y.len());
    for ((y, a), b) in y.iter_mut().zip(a).zip(b) {
        *y = activate(act, f64::from(*a) + f64::from(*b)) as f32;
    }
}

/// `y[p][c] = act(x[p][c] * s[c])`
pub fn scale(act: Activation, pixels: usize, c: usize, x: &[f32], s: &[f32], y: &mut [f32]) {
    assert!(x.len() == pixels * c && y.len() == x.len(), "scale lengths {} {}", x.len(), y.len());
    assert_eq!(s.len(), c, "scale factors");
    for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
        *y = activate(act, f64::from(*x) * f64::from(s[i % c])) as f32;
    }
}

/// `y = act(x)`, element by element.
pub fn act(act: Activation, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "act lengths");
    for (y, x) in y.iter_mut().zip(x) {
        *y = activate(act, f64::from(*x)) as f32;
    }
}

/// `y[i] = exp(x[i] - max) / sum(exp(x - max))` over the `c` channels of every pixel.
pub fn softmax(c: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(c), "softmax lengths {} {} of {c} channels", x.len(), y.len());
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        softmax_pixel(x, y);
    }
}

fn softmax_pixel(x: &[f32], y: &mut [f32]) {
    let max = x.iter().fold(f64::NEG_INFINITY, |m, &v| if f64::from(v) > m || v.is_nan() { f64::from(v) } else { m });
    let sum: f64 = x.iter().map(|&v| exp(f64::from(v) - max)).sum();
    for (y, x) in y.iter_mut().zip(x) {
        *y = (exp(f64::from(*x) - max) / sum) as f32;
    }
}

/// `y[p][c] = x[p][order[c]] * scale[c] + shift[c]`
pub fn normalize(pixels: usize, order: &[usize], scale: &[f32], shift: &[f32], x: &[f32], y: &mut [f32]) {
    let c = order.len();
    assert!(x.len() == pixels * c && y.len() == x.len(), "normalize lengths {} {}", x.len(), y.len());
    assert!(scale.len() == c && shift.len() == c, "normalize constants {} {}", scale.len(), shift.len());
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        for i in 0..c {
            y[i] = (f64::from(x[order[i]]) * f64::from(scale[i]) + f64::from(shift[i])) as f32;
        }
    }
}

/// The input with `top` rows above it, `left` columns before it and as many after it as the output size asks for, filled with
/// `value` (`c` elements; zero where absent).
#[expect(clippy::too_many_arguments, reason = "sizes of both tensors; a struct would be used here alone")]
pub fn pad<X: Copy + Default>(
    in_h: usize,
    in_w: usize,
    c: usize,
    top: usize,
    left: usize,
    out_h: usize,
    out_w: usize,
    value: Option<&[X]>,
    x: &[X],
    y: &mut [X],
) {
    assert_eq!(x.len(), in_h * in_w * c, "pad input");
    assert_eq!(y.len(), out_h * out_w * c, "pad output");
    assert!(top + in_h <= out_h && left + in_w <= out_w, "pad output is smaller than its input");
    for oy in 0..out_h {
        for ox in 0..out_w {
            for i in 0..c {
                y[(oy * out_w + ox) * c + i] = match (inside(oy, top, in_h), inside(ox, left, in_w)) {
                    (Some(iy), Some(ix)) => x[(iy * in_w + ix) * c + i],
                    (_, None) | (None, _) => value.map_or_else(X::default, |v| v[i]),
                };
            }
        }
    }
}

/// The input coordinate of padded coordinate `at`, where it lies inside the input.
fn inside(at: usize, pad: usize, len: usize) -> Option<usize> {
    at.checked_sub(pad).filter(|&i| i < len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_standard_library() {
        for i in -7000..7090 {
            let x = f64::from(i) / 10.0 + 0.013;
            let (got, want) = (exp(x), f64::exp(x));
            assert!((got - want).abs() <= 2e-15 * want, "exp({x}) = {got}, not {want}");
        }
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(f64::INFINITY), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan());
    }

    #[test]
    fn tanh_is_that_of_the_standard_library() {
        for i in -4000..4000 {
            let x = f64::from(i) / 300.0 + 1e-5;
            let (got, want) = (tanh(x), f64::tanh(x));
            assert!((got - want).abs() <= 1e-14 * want.abs(), "tanh({x}) = {got}, not {want}");
        }
        assert_eq!(tanh(1e-300), 1e-300);
        assert!(tanh(f64::NAN).is_nan());
    }

    #[test]
    fn activations_at_points_known_by_hand() {
        use crate::params::Real;
        use Activation::*;

        let cases = [
            (None, -2.5, -2.5),
            (Relu, -1.0, 0.0),
            (Relu, 7.0, 7.0),
            (Relu6, 7.0, 6.0),
            (Relu6, -7.0, 0.0),
            (HSigmoid, 0.0, 0.5),
            (HSigmoid, 3.0, 1.0),
            (HSigmoid, -3.0, 0.0),
            (HSwish, 1.0, 4.0 / 6.0),
            (HSwish, -4.0, 0.0),
            (HSwish, 5.0, 5.0),
            (Sigmoid, 0.0, 0.5),
            (Tanh, 0.0, 0.0),
            (Tanh, f64::INFINITY, 1.0),
            (Tanh, f64::NEG_INFINITY, -1.0),
            (Silu, 0.0, 0.0),
            (Silu, f64::INFINITY, f64::INFINITY),
            (Silu, f64::NEG_INFINITY, 0.0),
            (LeakyRelu(Real::new(0.25)), -2.0, -0.5),
            (LeakyRelu(Real::new(0.25)), 2.0, 2.0),
            (Clip(Real::new(-1.0), Real::new(2.0)), -3.0, -1.0),
            (Clip(Real::new(-1.0), Real::new(2.0)), 3.0, 2.0),
            (Clip(Real::new(f32::NEG_INFINITY), Real::new(2.0)), -1e30, -1e30),
            (HardSigmoid(Real::new(0.25), Real::new(0.5)), 1.0, 0.75),
            (HardSigmoid(Real::new(0.25), Real::new(0.5)), -3.0, 0.0),
        ];
        for (act, x, want) in cases {
            assert_eq!(activate(act, x), want, "{act:?}({x})");
            assert!(activate(act, f64::NAN).is_nan(), "{act:?} swallows NaN");
        }
    }

    /// A 3x3 input counted from 1, a 2x2 window of ones, bias 0.5: sums checked by hand.
    #[test]
    fn conv_by_hand() {
        let x: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let mut p = Conv {
            in_h: 3,
            in_w: 3,
            in_c: 1,
            out_h: 2,
            out_w: 2,
            out_c: 1,
            groups: 1,
            kernel_h: 2,
            kernel_w: 2,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            act: Activation::None,
            method: Method::Direct,
        };
        let mut y = [0.0; 4];
        conv(&p, &x, &[1.0; 4], Some(&[0.5]), None, Some(&[0.0, 0.0, 0.0, 100.0]), &mut y);
        assert_eq!(y, [12.5, 16.5, 24.5, 128.5]);
        p.pad_top = 1;
        p.pad_left = 1;
        conv(&p, &x, &[1.0; 4], None, Some(&[10.0]), None, &mut y);
        assert_eq!(y, [31.0, 23.0, 25.0, 12.0]);
        p.stride_h = 2;
        p.stride_w = 2;
        conv(&p, &x, &[1.0, 10.0, 100.0, 1000.0], None, None, None, &mut y);
        assert_eq!(y, [1000.0, 3200.0, 7040.0, 9865.0]);
        // Taps two apart.
        (p.dilation_h, p.dilation_w, p.stride_h, p.stride_w) = (2, 2, 1, 1);
        conv(&p, &x, &[1.0, 10.0, 100.0, 1000.0], None, None, None, &mut y);
        assert_eq!(y, [5000.0, 6400.0, 8020.0, 9731.0]);
    }

    /// Two groups of two inputs and two outputs, one pixel.
    #[test]
    fn groups_by_hand() {
        let p = Conv {
            in_h: 1,
            in_w: 1,
            in_c: 4,
            out_h: 1,
            out_w: 1,
            out_c: 4,
            groups: 2,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            act: Activation::None,
            method: Method::Direct,
        };
        let mut y = [0.0; 4];
        let w = [1.0, 10.0, 1.0, 10.0, 2.0, 20.0, 2.0, 20.0];
        conv(&p, &[1.0, 2.0, 3.0, 4.0], &w, Some(&[0.0, 0.0, 0.5, 0.0]), None, None, &mut y);
        assert_eq!(y, [5.0, 50.0, 11.5, 110.0]);
    }

    #[test]
    fn depthwise_multiplier_reads_the_channel_it_divides_to() {
        let p = Depthwise {
            in_h: 1,
            in_w: 1,
            in_c: 2,
            multiplier: 2,
            out_h: 1,
            out_w: 1,
            kernel_h: 1,
            kernel_w: 1,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            act: Activation::None,
        };
        let mut y = [0.0; 4];
        depthwise(&p, &[3.0, 5.0], &[1.0, 2.0, 10.0, 20.0], Some(&[0.0, 0.0, 0.0, 1.0]), None, &mut y);
        assert_eq!(y, [3.0, 6.0, 50.0, 101.0]);
    }

    #[test]
    fn pools_do_not_count_padding() {
        let mut p = Pool {
            kind: PoolKind::Average,
            in_h: 2,
            in_w: 2,
            c: 1,
            out_h: 2,
            out_w: 2,
            kernel_h: 2,
            kernel_w: 2,
            stride_h: 1,
            stride_w: 1,
            pad_top: 1,
            pad_left: 1,
            count_padding: false,
        };
        let x = [-1.0, -2.0, -3.0, -6.0];
        let mut y = [0.0; 4];
        pool(&p, &x, &mut y);
        assert_eq!(y, [-1.0, -1.5, -2.0, -3.0]);
        p.count_padding = true;
        pool(&p, &x, &mut y);
        assert_eq!(y, [-0.25, -0.75, -1.0, -3.0]);
        p.kind = PoolKind::Max;
        pool(&p, &x, &mut y);
        assert_eq!(y, [-1.0, -1.0, -1.0, -1.0]);
    }

    #[test]
    fn small_operations_by_hand() {
        let mut y = [0.0; 2];
        global_pool(2, 2, &[1.0, 2.0, 3.0, 6.0], &mut y);
        assert_eq!(y, [2.0, 4.0]);
        add(Activation::Relu, &[1.0, -3.0], &[1.0, 1.0], &mut y);
        assert_eq!(y, [2.0, 0.0]);
        scale(Activation::None, 1, 2, &[1.0, 2.0], &[3.0, 4.0], &mut y);
        assert_eq!(y, [3.0, 8.0]);
        softmax(2, &[1000.0, 1000.0], &mut y);
        assert_eq!(y, [0.5, 0.5]);
        softmax(1, &[1000.0, 7.0], &mut y);
        assert_eq!(y, [1.0, 1.0]);
        normalize(1, &[1, 0], &[2.0, 3.0], &[0.5, 0.25], &[1.0, 10.0], &mut y);
        assert_eq!(y, [20.5, 3.25]);
        dense(2, 2, Activation::None, &[1.0, 2.0], &[1.0, 2.0, 3.0, 4.0], Some(&[0.0, 1.0]), &mut y);
        assert_eq!(y, [7.0, 11.0]);
        let mut y = [0.0; 6];
        pad(1, 1, 1, 1, 2, 2, 3, Some(&[9.0]), &[1.0], &mut y);
        assert_eq!(y, [9.0, 9.0, 9.0, 9.0, 9.0, 1.0]);
    }
}
