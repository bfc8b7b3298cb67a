//! Depthwise convolution.

use mnc_runtime::isa::Isa;
use mnc_runtime::{kernel, pack, params, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, banded, cases, close, random, size, unwritten};
use crate::conv::axis;

pub fn check(p: &params::Depthwise, pad_value: bool, cuts: u32, seed: u64) {
    let (taps, c) = (p.kernel_h * p.kernel_w, p.in_c * p.multiplier);
    let len = p.out_h * p.out_w * c;
    let x = random(p.in_h * p.in_w * p.in_c, seed);
    let w = random(taps * c, seed + 1);
    let b = random(c, seed + 2);
    let value = random(p.in_c, seed + 3);

    let run = |p: &params::Depthwise, x: &[f32], w: &[f32], b: &[f32], value: &[f32]| {
        let mut y = unwritten(len);
        reference::depthwise(p, x, w, Some(b), pad_value.then_some(value), &mut y);
        y
    };
    let want = run(p, &x, &w, &b, &value);
    let sums = params::Depthwise { act: params::Activation::None, ..*p };
    let magnitude = run(&sums, &abs(&x), &abs(&w), &abs(&b), &abs(&value));

    let (mut packed, mut bias) = (vec![0.0; pack::depthwise_len(taps, c)], vec![0.0; pack::bias_len(c)]);
    pack::depthwise(taps, c, &w, &mut packed);
    pack::bias(Some(&b), &mut bias);
    for isa in Isa::available() {
        let what = format!("{} {p:?} pad_value {pad_value}", isa.name());
        let got = banded(&what, p.out_h, cuts, &unwritten(len), |rows, y| {
            kernel::depthwise(isa, p, rows, &x, &packed, &bias, pad_value.then_some(&value), y);
        });
        close(&what, taps + 1, &got, &want, &magnitude);
    }
}

prop_compose! {
    fn shape()(y in axis(), x in axis(), in_c in 1..size(40, 19), multiplier in prop::sample::select(vec![1, 1, 1, 2, 3, 8]), act in activation())
        -> params::Depthwise {
        params::Depthwise {
            in_h: y.0, in_w: x.0, in_c, multiplier, out_h: y.1, out_w: x.1, kernel_h: y.2, kernel_w: x.2, stride_h: y.3,
            stride_w: x.3, dilation_h: y.5, dilation_w: x.5, pad_top: y.4, pad_left: x.4, act,
        }
    }
}

prop_compose! {
    /// The windows that have tiles of their own, on images wide enough for every tile width.
    fn square()(
        k in prop::sample::select(vec![3usize, 5]), stride in 1usize..3, in_h in 1..size(20, 6), in_w in 1usize..36, before in 0usize..3,
        after in 0usize..3, in_c in prop::sample::select(vec![8usize, 16, 24, 19, 40, 53]), act in activation(),
    ) -> params::Depthwise {
        let out = |len: usize| ((len + before + after).max(k) - k) / stride + 1;
        params::Depthwise {
            in_h, in_w, in_c, multiplier: 1, out_h: out(in_h), out_w: out(in_w), kernel_h: k, kernel_w: k, stride_h: stride,
            stride_w: stride, dilation_h: 1, dilation_w: 1, pad_top: before, pad_left: before, act,
        }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_shape(p in shape(), pad_value: bool, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, pad_value, cuts, seed);
    }

    #[test]
    fn square_windows(p in square(), pad_value: bool, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, pad_value, cuts, seed);
    }
}

/// Shapes of real networks: rows of several tiles, channels in several blocks of which the last is odd.
#[test]
fn many_channels() {
    let all = [(3, 1, 7, 264), (3, 1, 14, 216), (3, 1, 28, 120), (3, 2, 15, 200), (5, 1, 14, 72), (5, 2, 28, 40)];
    for (k, stride, side, in_c) in all.into_iter().take(size(6, 1)) {
        let out = (side - 1) / stride + 1;
        let act = params::Activation::HSwish;
        let p = params::Depthwise {
            in_h: side,
            in_w: side,
            in_c,
            multiplier: 1,
            out_h: out,
            out_w: out,
            kernel_h: k,
            kernel_w: k,
            stride_h: stride,
            stride_w: stride,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: k / 2,
            pad_left: k / 2,
            act,
        };
        check(&p, false, 0b1_0010, 7);
    }
}
