//! Pointwise convolution by Strassen's method against the direct sum.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::pack::{self, STRASSEN_GROUP};
use mnc_runtime::params::{Activation, Method, Pointwise};
use mnc_runtime::reference;
use proptest::prelude::*;

use crate::case::{activation, banded, cases, close, random, size, unwritten};
use crate::pointwise::as_conv;

/// Magnitudes of all that is added up for each output: the products with all signs of their sums taken away, in every output as
/// many as a quarter has at most.
fn magnitudes(p: &Pointwise, x: &[f32], w: &[f32], b: &[f32]) -> Vec<f32> {
    let (k, n, half) = (p.in_c / 2, p.out_c, STRASSEN_GROUP / 2);
    let mut all = vec![0.0; p.h * p.w * n];
    for (i, to) in all.iter_mut().enumerate() {
        let (pixel, o) = (i / n, i % n);
        let (odd, right) = (pixel % 2 == 1, o % STRASSEN_GROUP >= half);
        let (even, left) = (pixel / 2 * 2, o / STRASSEN_GROUP * STRASSEN_GROUP + o % half);
        let mut sum = 0.0;
        for c in 0..k {
            let a = |row: usize, column: usize| x[(even + row) * p.in_c + column * k + c].abs();
            let (a11, a12, a21, a22) = (a(0, 0), a(0, 1), a(1, 0), a(1, 1));
            let b = |row: usize, column: usize| w[(row * k + c) * n + left + column * half].abs();
            let (b11, b12, b21, b22) = (b(0, 0), b(0, 1), b(1, 0), b(1, 1));
            let (s1, t1) = (a21 + a22, b12 + b11);
            let (s2, t2) = (s1 + a11, b22 + t1);
            let (m1, m2, m3, m4) = (a11 * b11, a12 * b21, (a12 + s2) * b22, a22 * (t2 + b21));
            let (m5, m6, m7) = (s1 * t1, s2 * t2, (a11 + a21) * (b22 + b12));
            sum += match (odd, right) {
                (false, false) => m1 + m2,
                (false, true) => m1 + m6 + m5 + m3,
                (true, false) => m1 + m6 + m7 + m4,
                (true, true) => m1 + m6 + m7 + m5,
            };
        }
        *to = sum + b[o].abs();
    }
    all
}

fn check(p: &Pointwise, cuts: u32, seed: u64) {
    let (pixels, k, n) = (p.h * p.w, p.in_c, p.out_c);
    let (x, w, b) = (random(pixels * k, seed), random(k * n, seed + 1), random(n, seed + 2));
    let mut want = unwritten(pixels * n);
    reference::conv(&as_conv(p), &x, &w, Some(&b), None, None, &mut want);
    let magnitude = magnitudes(p, &x, &w, &b);
    let (mut factors, mut bias) = (vec![f32::NAN; pack::strassen_len(k, n)], vec![0.0; pack::bias_len(n)]);
    pack::strassen(k, n, &w, &mut factors);
    pack::bias(Some(&b), &mut bias);
    for isa in Isa::available() {
        let what = format!("{} {p:?}", isa.name());
        let got = banded(&what, p.h, cuts, &unwritten(pixels * n), |rows, y| {
            kernel::pointwise(isa, p, rows, &x, &factors, &bias, Residual::None, y);
        });
        // Half of the channels in a product, four products, three roundings of an input and one of a weight.
        close(&what, k / 2 + 9, &got, &want, &magnitude);
    }
}

prop_compose! {
    fn shape()(
        h in 1usize..7, w in 1..size(40, 3), in_c in prop_oneof![1usize..30, 250usize..=256].prop_map(|c| size(c, 1 + c % 3)),
        groups in 1usize..3, act in activation(),
    )
        -> Pointwise {
        Pointwise { h, w: 2 * w, in_c: 2 * in_c, out_c: groups * STRASSEN_GROUP, act, pool: false, method: Method::Strassen }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn any_shape(p in shape(), cuts: u32, seed in 0u64..1 << 40) {
        check(&p, cuts, seed);
    }

    /// Products of whole numbers are exact, so the method itself must be.
    #[test]
    fn whole_numbers_are_exact(w in 1..size(40, 3), in_c in 1..size(40, 3), seed in 0u64..1 << 40) {
        let p = Pointwise { h: 2, w: 2 * w, in_c: 2 * in_c, out_c: 2 * STRASSEN_GROUP, act: Activation::None, pool: false, method: Method::Strassen };
        let whole = |len, seed| -> Vec<f32> { random(len, seed).iter().map(|v| (v * 8.0).round()).collect() };
        let (x, weights) = (whole(p.h * p.w * p.in_c, seed), whole(p.in_c * p.out_c, seed + 1));
        let b = whole(p.out_c, seed + 2);
        let mut want = unwritten(p.h * p.w * p.out_c);
        reference::conv(&as_conv(&p), &x, &weights, Some(&b), None, None, &mut want);
        let mut factors = vec![f32::NAN; pack::strassen_len(p.in_c, p.out_c)];
        pack::strassen(p.in_c, p.out_c, &weights, &mut factors);
        for isa in Isa::available() {
            let mut y = unwritten(want.len());
            kernel::pointwise(isa, &p, 0..p.h, &x, &factors, &b, Residual::None, &mut y);
            prop_assert_eq!(&y, &want, "{}", isa.name());
        }
    }
}
