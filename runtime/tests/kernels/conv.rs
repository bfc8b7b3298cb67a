//! Dense convolution.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::{pack, params, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, banded, cases, close, random, same_bits, size, unwritten};

pub fn check(p: &params::Conv, pad_value: bool, residual: u8, cuts: u32, seed: u64) {
    let (k, n) = (p.kernel_h * p.kernel_w * p.in_c / p.groups, p.out_c / p.groups);
    let len = p.out_h * p.out_w * p.out_c;
    let x = random(p.in_h * p.in_w * p.in_c, seed);
    let w = random(k * p.out_c, seed + 1);
    let b = random(p.out_c, seed + 2);
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

    let (mut panels, mut bias) = (vec![0.0; pack::grouped_len(p.groups, k, n)], vec![0.0; p.groups * pack::bias_len(n)]);
    pack::grouped(p.groups, k, n, &w, &mut panels);
    pack::grouped(p.groups, 1, n, &b, &mut bias);
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

/// Sizes along one axis: input, output, window, stride, padding before, dilation. The output may be any size that the padding
/// after the input can make, so windows may lie wholly in it.
pub fn axis() -> impl Strategy<Value = (usize, usize, usize, usize, usize, usize)> {
    let dilation = prop_oneof![3 => Just(1usize), 1 => 2usize..4];
    (1..size(12, 5), 1usize..6, 1usize..4, 0usize..4, 0usize..4, dilation).prop_map(
        |(len, kernel, stride, before, after, dilation)| {
            let span = params::span(kernel, dilation);
            let padded = (len + before + after).max(span);
            (len, (padded - span) / stride + 1, kernel, stride, before, dilation)
        },
    )
}

prop_compose! {
    pub fn shape()(y in axis(), x in axis(), in_c in 1..size(20, 5), out_c in 1..size(40, 19), act in activation()) -> params::Conv {
        params::Conv {
            in_h: y.0, in_w: x.0, in_c, out_h: y.1, out_w: x.1, out_c, groups: 1, kernel_h: y.2, kernel_w: x.2, stride_h: y.3, stride_w: x.3, dilation_h: y.5, dilation_w: x.5,
            pad_top: y.4, pad_left: x.4, act, method: params::Method::Direct }
    }
}

prop_compose! {
    /// Groups of few channels and of whole vectors.
    fn in_groups()(
        p in shape(), groups in 2usize..6, in_c in prop::sample::select(&[1usize, 2, 3, 8, 16][..size(5, 3)]),
        out_c in prop::sample::select(&[1usize, 3, 8, 12, 16, 20, 24, 32, 40][..size(9, 3)]),
    ) -> params::Conv {
        params::Conv { in_c: groups * in_c, out_c: groups * out_c, groups, ..p }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_shape(p in shape(), pad_value: bool, residual in 0u8..3, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, pad_value, residual, cuts, seed);
    }

    #[test]
    fn any_groups(p in in_groups(), pad_value: bool, residual in 0u8..3, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, pad_value, residual, cuts, seed);
    }
}

/// Groups are what the same convolution with zeros between them is, to the bit: sums run in one order.
#[test]
fn groups_are_blocks_of_a_dense_convolution() {
    let all = [(4, 4, 4), (6, 96, 2), (9, 60, 3), (48, 192, 3)];
    for (in_c, out_c, groups) in all.into_iter().take(size(4, 1)) {
        #[rustfmt::skip]
        let p = params::Conv {
            in_h: 9, in_w: 11, in_c, out_h: 9, out_w: 11, out_c, groups, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1,
            pad_top: 1, pad_left: 1, act: params::Activation::Relu6, method: params::Method::Direct };
        let (group_in, group_out) = (in_c / groups, out_c / groups);
        let (x, w, b) = (random(99 * in_c, 1), random(9 * group_in * out_c, 2), random(out_c, 3));
        let mut zeros = vec![0.0; 9 * in_c * out_c];
        for (row, w) in w.chunks(out_c).enumerate() {
            let (tap, c) = (row / group_in, row % group_in);
            for (o, w) in w.iter().enumerate() {
                zeros[(tap * in_c + o / group_out * group_in + c) * out_c + o] = *w;
            }
        }
        for isa in Isa::available() {
            let [y, dense] = [(groups, &w), (1, &zeros)].map(|(groups, w)| {
                let (k, n) = (w.len() / out_c, out_c / groups);
                let (mut panels, mut bias) = (vec![0.0; pack::grouped_len(groups, k, n)], vec![0.0; groups * pack::bias_len(n)]);
                pack::grouped(groups, k, n, w, &mut panels);
                pack::grouped(groups, 1, n, &b, &mut bias);
                let mut y = unwritten(99 * out_c);
                let p = params::Conv { groups, ..p };
                kernel::conv(isa, &p, 0..9, &x, &panels, &bias, None, Residual::None, &mut y);
                y
            });
            same_bits(&format!("{} {p:?}", isa.name()), &y, &dense);
        }
    }
}

/// A stem with PyTorch's padding and one with TensorFlow's (asymmetric on even sizes), and more channels than the zeros that
/// stand in for padding are long.
#[test]
fn stems_and_wide_inputs() {
    let out = size(15, 3);
    let stem = params::Conv {
        in_h: 2 * out,
        in_w: 2 * out,
        in_c: 3,
        out_h: out,
        out_w: out,
        out_c: 32,
        groups: 1,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 2,
        stride_w: 2,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        act: params::Activation::Relu6,
        method: params::Method::Direct,
    };
    check(&stem, false, 0, 0b1001, 1);
    check(&params::Conv { pad_top: 0, pad_left: 0, ..stem }, true, 0, 0b1001, 2);
    let wide = params::Conv {
        in_h: size(4, 1),
        in_w: size(5, 2),
        in_c: 600,
        out_h: size(4, 1),
        out_w: size(5, 2),
        out_c: size(24, 3),
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        ..stem
    };
    check(&wide, false, 2, 0b10, 3);
    check(&wide, true, 1, 0b10, 4);
}
