//! Pools, sums, scales, activations, softmax, normalisation and padding.

use mnc_runtime::isa::Isa;
use mnc_runtime::params::{Activation, Pool, PoolKind};
use mnc_runtime::{kernel, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, banded, cases, close, random, same_bits, unwritten};

/// Sizes along one axis whose windows all touch the input: input, output, window, stride, padding before.
fn touching() -> impl Strategy<Value = (usize, usize, usize, usize, usize)> {
    (1usize..12, 1usize..5, 1usize..4, 0usize..4, 0usize..4).prop_map(|(len, kernel, stride, before, after)| {
        let (before, after) = (before.min(kernel - 1), after.min(kernel - 1));
        let padded = (len + before + after).max(kernel);
        (len, ((padded - kernel) / stride + 1).min((len + before - 1) / stride + 1), kernel, stride, before)
    })
}

prop_compose! {
    fn pool_shape()(y in touching(), x in touching(), c in 1usize..100, max: bool, count_padding: bool) -> Pool {
        Pool {
            kind: if max { PoolKind::Max } else { PoolKind::Average }, in_h: y.0, in_w: x.0, c, out_h: y.1, out_w: x.1,
            kernel_h: y.2, kernel_w: x.2, stride_h: y.3, stride_w: x.3, pad_top: y.4, pad_left: x.4, count_padding,
        }
    }
}

fn close_to_itself(what: &str, terms: usize, got: &[f32], want: &[f32]) {
    close(what, terms, got, want, &abs(want));
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn pool(p in pool_shape(), cuts: u32, seed in 0u64..1 << 40) {
        let x = random(p.in_h * p.in_w * p.c, seed);
        let mut want = unwritten(p.out_h * p.out_w * p.c);
        reference::pool(&p, &x, &mut want);
        for isa in Isa::available() {
            let what = format!("{} {p:?}", isa.name());
            let got = banded(&what, p.out_h, cuts, &unwritten(want.len()), |rows, y| kernel::pool(isa, &p, rows, &x, y));
            match p.kind {
                PoolKind::Max => same_bits(&what, &got, &want),
                PoolKind::Average => close(&what, p.kernel_h * p.kernel_w + 1, &got, &want, &vec![1.0; want.len()]),
            }
        }
    }

    #[test]
    fn global_pool(pixels in 1usize..300, c in 1usize..80, seed in 0u64..1 << 40) {
        let x = random(pixels * c, seed);
        let (mut want, mut magnitude) = (unwritten(c), unwritten(c));
        reference::global_pool(pixels, c, &x, &mut want);
        reference::global_pool(pixels, c, &abs(&x), &mut magnitude);
        for isa in Isa::available() {
            let mut got = unwritten(c);
            kernel::global_pool(isa, pixels, c, &x, &mut got);
            // sums of at most 64, then the sums of those
            close(&format!("{} {pixels} {c}", isa.name()), 64 + pixels / 64 + 2, &got, &want, &magnitude);
        }
    }

    #[test]
    fn add(act in activation(), len in 0usize..100, seed in 0u64..1 << 40) {
        let (a, b) = (random(len, seed), random(len, seed + 1));
        let mut want = unwritten(len);
        reference::add(act, &a, &b, &mut want);
        let magnitude: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a.abs() + b.abs()).collect();
        for isa in Isa::available() {
            let (mut got, mut in_place) = (unwritten(len), a.clone());
            kernel::add(isa, act, &a, &b, &mut got);
            kernel::add_in_place(isa, act, &b, &mut in_place);
            close(isa.name(), 1, &got, &want, &magnitude);
            same_bits(isa.name(), &in_place, &got);
        }
    }

    #[test]
    fn scale(act in activation(), pixels in 1usize..20, c in 1usize..50, seed in 0u64..1 << 40) {
        let (x, s) = (random(pixels * c, seed), random(c, seed + 1));
        let (mut want, mut magnitude) = (unwritten(x.len()), unwritten(x.len()));
        reference::scale(act, pixels, c, &x, &s, &mut want);
        reference::scale(Activation::None, pixels, c, &abs(&x), &abs(&s), &mut magnitude);
        for isa in Isa::available() {
            let (mut got, mut in_place) = (unwritten(x.len()), x.clone());
            kernel::scale(isa, act, pixels, c, &x, &s, &mut got);
            kernel::scale_in_place(isa, act, pixels, c, &s, &mut in_place);
            close(isa.name(), 1, &got, &want, &magnitude);
            same_bits(isa.name(), &in_place, &got);
        }
    }

    #[test]
    fn act(act in activation(), len in 0usize..100, size in 0.0f32..60.0, seed in 0u64..1 << 40) {
        let x: Vec<f32> = random(len, seed).iter().map(|v| v * size).collect();
        let mut want = unwritten(len);
        reference::act(act, &x, &mut want);
        for isa in Isa::available() {
            let (mut got, mut in_place) = (unwritten(len), x.clone());
            kernel::act(isa, act, &x, &mut got);
            kernel::act_in_place(isa, act, &mut in_place);
            close(isa.name(), 0, &got, &want, &abs(&x));
            same_bits(isa.name(), &in_place, &got);
        }
    }

    #[test]
    fn softmax(c in 1usize..1200, size in 0.0f32..80.0, seed in 0u64..1 << 40) {
        let len = (1200 / c).clamp(1, 9) * c;
        let x: Vec<f32> = random(len, seed).iter().map(|v| v * size).collect();
        let (mut want, mut got, mut in_place) = (unwritten(len), unwritten(len), x.clone());
        reference::softmax(c, &x, &mut want);
        kernel::softmax(c, &x, &mut got);
        kernel::softmax_in_place(c, &mut in_place);
        same_bits("softmax in place", &in_place, &got);
        for ((got, want), x) in got.chunks(c).zip(want.chunks(c)).zip(x.chunks(c)) {
            let max = x.iter().fold(f32::NEG_INFINITY, |max, v| max.max(*v));
            for ((got, want), x) in got.iter().zip(want).zip(x) {
                let bound = want * (max - x + 8.0) * f32::EPSILON + 1e-37;
                prop_assert!((got - want).abs() <= bound, "{} not {}", got, want);
            }
            prop_assert!((got.iter().map(|&v| f64::from(v)).sum::<f64>() - 1.0).abs() < 1e-6);
        }
    }

    #[test]
    fn normalize(pixels in 0usize..30, c in 1usize..5, turn in 0usize..5, seed in 0u64..1 << 40) {
        let order: Vec<usize> = (0..c).map(|i| (i + turn) % c).collect();
        let x: Vec<f32> = random(pixels * c, seed).iter().map(|v| (v * 128.0).round() + 128.0).collect();
        let (scale, shift) = (random(c, seed + 1), random(c, seed + 2));
        let (mut want, mut got) = (unwritten(x.len()), unwritten(x.len()));
        reference::normalize(pixels, &order, &scale, &shift, &x, &mut want);
        kernel::normalize(pixels, &order, &scale, &shift, &x, &mut got);
        close("normalize", 2, &got, &want, &vec![257.0; x.len()]);
    }

    #[test]
    fn pad(in_h in 1usize..6, in_w in 1usize..6, c in 1usize..10, edges in prop::array::uniform4(0usize..4), filled: bool, seed in 0u64..1 << 40) {
        let [top, bottom, left, right] = edges;
        let (out_h, out_w) = (top + in_h + bottom, left + in_w + right);
        let (x, value) = (random(in_h * in_w * c, seed), random(c, seed + 1));
        let value = filled.then_some(&value[..]);
        let (mut want, mut got) = (unwritten(out_h * out_w * c), unwritten(out_h * out_w * c));
        reference::pad(in_h, in_w, c, top, left, out_h, out_w, value, &x, &mut want);
        kernel::pad(in_h, in_w, c, top, left, out_h, out_w, value, &x, &mut got);
        same_bits("pad", &got, &want);
    }
}

/// The corners of every activation, exactly where the formula says so.
#[test]
fn activations_at_their_corners() {
    let x = [-4.0, -3.0, -0.0, 0.0, 3.0, 4.0, 6.0, 7.0, 1e30, -1e30];
    for isa in Isa::available() {
        for act in crate::case::ACTIVATIONS {
            let (mut want, mut got) = ([0.0; 10], [0.0; 10]);
            reference::act(act, &x, &mut want);
            kernel::act(isa, act, &x, &mut got);
            let rounds = [Activation::Sigmoid, Activation::Tanh, Activation::Silu].contains(&act);
            if rounds || matches!(act, Activation::HardSigmoid(..)) {
                close_to_itself(isa.name(), 0, &got, &want);
            } else {
                assert_eq!(got, want, "{} {act:?}", isa.name());
            }
        }
    }
}
