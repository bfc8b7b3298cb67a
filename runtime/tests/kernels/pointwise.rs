//! Pointwise convolution and dense layer.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::{pack, params, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, banded, cases, close, random, size, unwritten};

/// The plain convolution that a pointwise one is.
pub fn as_conv(p: &params::Pointwise) -> params::Conv {
    params::Conv {
        in_h: p.h,
        in_w: p.w,
        in_c: p.in_c,
        out_h: p.h,
        out_w: p.w,
        out_c: p.out_c,
        groups: 1,
        kernel_h: 1,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
        act: p.act,
        method: params::Method::Direct,
    }
}

/// 0: no residual, 1: in place, 2: from another tensor.
pub fn check(p: &params::Pointwise, residual: u8, cuts: u32, seed: u64) {
    let (pixels, k, n) = (p.h * p.w, p.in_c, p.out_c);
    let x = random(pixels * k, seed);
    let w = random(k * n, seed + 1);
    let b = random(n, seed + 2);
    let r = random(pixels * n, seed + 4);

    let plain = as_conv(p);
    let run = |p: &params::Conv, x: &[f32], w: &[f32], b: &[f32], r: &[f32]| {
        let mut y = unwritten(pixels * n);
        reference::conv(p, x, w, Some(b), None, (residual > 0).then_some(r), &mut y);
        y
    };
    let mut want = run(&plain, &x, &w, &b, &r);
    let sums = params::Conv { act: params::Activation::None, ..plain };
    let mut magnitude = run(&sums, &abs(&x), &abs(&w), &abs(&b), &abs(&r));
    let mut terms = k + 2;
    if p.pool {
        let (mut mean, mut mean_magnitude) = (vec![0.0; n], vec![0.0; n]);
        reference::global_pool(pixels, n, &want, &mut mean);
        reference::global_pool(pixels, n, &magnitude, &mut mean_magnitude);
        (want, magnitude) = (mean, mean_magnitude.iter().map(|m| m + 1.0).collect());
        terms += pixels;
    }

    let (mut panels, mut bias) = (vec![0.0; pack::panels_len(k, n)], vec![0.0; pack::bias_len(n)]);
    pack::panels(k, n, &w, &mut panels);
    pack::bias(Some(&b), &mut bias);
    for isa in Isa::available() {
        let what = format!("{} {p:?} residual {residual}", isa.name());
        let got = if p.pool {
            let mut y = unwritten(n);
            kernel::pointwise(isa, p, 0..p.h, &x, &panels, &bias, Residual::None, &mut y);
            y
        } else {
            let start = if residual == 1 { r.clone() } else { unwritten(pixels * n) };
            banded(&what, p.h, cuts, &start, |rows, y| {
                let from = match residual {
                    0 => Residual::None,
                    1 => Residual::InPlace,
                    _ => Residual::From(&r),
                };
                kernel::pointwise(isa, p, rows, &x, &panels, &bias, from, y);
            })
        };
        close(&what, terms, &got, &want, &magnitude);
    }
}

prop_compose! {
    pub fn shape()(h in 1usize..7, w in 1usize..12, in_c in 1..size(70, 9), out_c in 1..size(70, 35), act in activation(), pool in prop::bool::weighted(0.2))
        -> params::Pointwise {
        params::Pointwise { h, w, in_c, out_c, act, pool, method: params::Method::Direct }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn any_shape(p in shape(), residual in 0u8..3, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, if p.pool { 0 } else { residual }, cuts, seed);
    }

    /// A single pixel goes four panels at a time.
    #[test]
    fn dense(in_c in 1..size(100, 9), out_c in 1usize..200, act in activation(), residual in 0u8..3, seed in 0u64..1 << 40) {
        check(&params::Pointwise { h: 1, w: 1, in_c, out_c, act, pool: false, method: params::Method::Direct }, residual, 0, seed);
    }
}

/// More pixels and channels than a block holds, so that blocks, panels and tiles all have remainders.
#[test]
fn larger_than_a_block() {
    let act = params::Activation::Relu6;
    check(
        &params::Pointwise {
            h: 29,
            w: 31,
            in_c: size(37, 1),
            out_c: size(40, 17),
            act,
            pool: false,
            method: params::Method::Direct,
        },
        0,
        0x0101,
        7,
    );
    check(
        &params::Pointwise {
            h: size(7, 2),
            w: size(7, 3),
            in_c: 1100,
            out_c: size(24, 3),
            act,
            pool: false,
            method: params::Method::Direct,
        },
        2,
        0b1010,
        8,
    );
    check(
        &params::Pointwise { h: 7, w: 7, in_c: size(160, 3), out_c: 72, act, pool: true, method: params::Method::Direct },
        0,
        0,
        9,
    );
}
