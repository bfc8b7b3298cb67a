//! Dense convolution.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::{pack, params, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, banded, close, random, unwritten};

pub fn check(p: &params::Conv, pad_value: bool, residual: u8, cuts: u32, seed: u64) {
    let (k, n) = (p.kernel_h * p.kernel_w * p.in_c, p.out_c);
    let len = p.out_h * p.out_w * n;
    let x = random(p.in_h * p.in_w * p.in_c, seed);
    let w = random(k * n, seed + 1);
    let b = random(n, seed + 2);
    let value = random(p.in_c, seed + 3);
    let r = random(len, seed + 4);

    let run = |p: &params::Conv, x: &[f32], w: &[f32], b: &[f32], value: &[f32], r: &[f32]| {
        let mut y = unwritten(len);
        reference::conv(p, x, w, Some(b), pad_value.then_some(value), (residual > 0).then_some(r), &mut y);
        y
    };
    let want = run(p, &x, &w, &b, &value, &r);
    let sums = params::Conv { act: params::Activation::None, ..*p };
    let magnitude = run(&sums, &abs(&x), &abs(&w), &abs(&b), &abs(&value), &abs(&r));

    let (mut panels, mut bias) = (vec![0.0; pack::panels_len(k, n)], vec![0.0; pack::bias_len(n)]);
    pack::panels(k, n, &w, &mut panels);
    pack::bias(Some(&b), &mut bias);
    for isa in Isa::available() {
        let what = format!("{} {p:?} pad_value {pad_value} residual {residual}", isa.name());
        let start = if residual == 1 { r.clone() } else { unwritten(len) };
        let got = banded(&what, p.out_h, cuts, &start, |rows, y| {
            let from = match residual {
                0 => Residual::None,
                1 => Residual::InPlace,
                _ => Residual::From(&r),
            };
            kernel::conv(isa, p, rows, &x, &panels, &bias, pad_value.then_some(&value), from, y);
        });
        close(&what, k + 2, &got, &want, &magnitude);
    }
}

/// Sizes along one axis: input, output, window, stride, padding before. The output may be any size that the padding after the
/// input can make, so windows may lie wholly in it.
pub fn axis() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    (1usize..12, 1usize..6, 1usize..4, 0usize..4, 0usize..4).prop_map(|(len, kernel, stride, before, after)| {
        let padded = (len + before + after).max(kernel);
        (len, (padded - kernel) / stride + 1, kernel, stride, before)
    })
}

prop_compose! {
    pub fn shape()(y in axis(), x in axis(), in_c in 1usize..20, out_c in 1usize..40, act in activation()) -> params::Conv {
        params::Conv {
            in_h: y.0, in_w: x.0, in_c, out_h: y.1, out_w: x.1, out_c, kernel_h: y.2, kernel_w: x.2, stride_h: y.3, stride_w: x.3,
            pad_top: y.4, pad_left: x.4, act,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape(p in shape(), pad_value: bool, residual in 0u8..3, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, pad_value, residual, cuts, seed);
    }
}

/// A stem with PyTorch's padding and one with TensorFlow's (asymmetric on even sizes), and more channels than the zeros that
/// stand in for padding are long.
#[test]
fn stems_and_wide_inputs() {
    let stem = params::Conv {
        in_h: 30,
        in_w: 30,
        in_c: 3,
        out_h: 15,
        out_w: 15,
        out_c: 32,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 2,
        stride_w: 2,
        pad_top: 1,
        pad_left: 1,
        act: params::Activation::Relu6,
    };
    check(&stem, false, 0, 0b1001, 1);
    check(&params::Conv { pad_top: 0, pad_left: 0, ..stem }, true, 0, 0b1001, 2);
    let wide = params::Conv { in_h: 4, in_w: 5, in_c: 300, out_h: 4, out_w: 5, out_c: 24, stride_h: 1, stride_w: 1, ..stem };
    check(&wide, false, 2, 0b10, 3);
    check(&wide, true, 1, 0b10, 4);
}
