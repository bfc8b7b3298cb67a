//! Convolution by Winograd's minimal filtering against the direct sum.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::params::{Activation, Conv, Method};
use mnc_runtime::{pack, reference};
use proptest::prelude::*;

use crate::case::{activation, banded, cases, close, random, size, unwritten};

/// `B^T`, `G` and `A^T` of F(n x n, 3x3) by absolute value, rows of at most six numbers: `|Y| <= A^T (sum over c of (G g G^T) . (B^T D B)) A`
/// with all signs taken away bounds every number on the way, so also what their rounding comes to.
struct Matrices {
    side: usize,
    b: &'static [[f32; 6]],
    g: &'static [[f32; 3]],
    a: &'static [[f32; 6]],
}

const TWO: Matrices = Matrices {
    side: 2,
    b: &[
        [1.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
    ],
    g: &[[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0]],
    a: &[[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0, 0.0, 0.0]],
};

/// The points of interpolation are 0, +-5/8, +-3/2 and infinity.
const FOUR: Matrices = Matrices {
    side: 4,
    b: &[
        [225.0 / 256.0, 0.0, 169.0 / 64.0, 0.0, 1.0, 0.0],
        [0.0, 45.0 / 32.0, 9.0 / 4.0, 5.0 / 8.0, 1.0, 0.0],
        [0.0, 45.0 / 32.0, 9.0 / 4.0, 5.0 / 8.0, 1.0, 0.0],
        [0.0, 75.0 / 128.0, 25.0 / 64.0, 3.0 / 2.0, 1.0, 0.0],
        [0.0, 75.0 / 128.0, 25.0 / 64.0, 3.0 / 2.0, 1.0, 0.0],
        [0.0, 225.0 / 256.0, 0.0, 169.0 / 64.0, 0.0, 1.0],
    ],
    g: &[
        [256.0 / 225.0, 0.0, 0.0],
        [2048.0 / 2975.0, 256.0 / 595.0, 32.0 / 119.0],
        [2048.0 / 2975.0, 256.0 / 595.0, 32.0 / 119.0],
        [128.0 / 1071.0, 64.0 / 357.0, 32.0 / 119.0],
        [128.0 / 1071.0, 64.0 / 357.0, 32.0 / 119.0],
        [0.0, 0.0, 1.0],
    ],
    a: &[
        [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
        [0.0, 5.0 / 8.0, 5.0 / 8.0, 3.0 / 2.0, 3.0 / 2.0, 0.0],
        [0.0, 25.0 / 64.0, 25.0 / 64.0, 9.0 / 4.0, 9.0 / 4.0, 0.0],
        [0.0, 125.0 / 512.0, 125.0 / 512.0, 27.0 / 8.0, 27.0 / 8.0, 1.0],
    ],
};

/// Magnitudes of all that is added up for each output.
fn magnitudes(m: &Matrices, p: &Conv, x: &[f32], w: &[f32], b: &[f32], r: &[f32]) -> Vec<f32> {
    let (in_c, out_c) = (p.in_c / p.groups, p.out_c / p.groups);
    let at = |y: usize, x_: usize, c: usize| {
        let (iy, ix) = (y.wrapping_sub(p.pad_top), x_.wrapping_sub(p.pad_left));
        if iy < p.in_h && ix < p.in_w { x[(iy * p.in_w + ix) * p.in_c + c].abs() } else { 0.0 }
    };
    let mut all = vec![0.0; p.out_h * p.out_w * p.out_c];
    for (i, to) in all.iter_mut().enumerate() {
        let (oy, ox, o) = (i / p.out_c / p.out_w, i / p.out_c % p.out_w, i % p.out_c);
        let (ty, tx) = (oy / m.side * m.side, ox / m.side * m.side);
        let mut sum = 0.0;
        for c in 0..in_c {
            for (u, b_row) in m.b.iter().enumerate() {
                for (v, b_column) in m.b.iter().enumerate() {
                    let mut d = 0.0;
                    for (y, by) in b_row.iter().enumerate() {
                        for (x, bx) in b_column.iter().enumerate() {
                            d += by * bx * at(ty + y, tx + x, o / out_c * in_c + c);
                        }
                    }
                    let mut g = 0.0;
                    for (ky, gy) in m.g[u].iter().enumerate() {
                        for (kx, gx) in m.g[v].iter().enumerate() {
                            g += gy * gx * w[((ky * 3 + kx) * in_c + c) * p.out_c + o].abs();
                        }
                    }
                    sum += m.a[oy % m.side][u] * m.a[ox % m.side][v] * d * g;
                }
            }
        }
        *to = sum + b[o].abs() + r.get(i).map_or(0.0, |r| r.abs());
    }
    all
}

fn check(p: &Conv, residual: u8, cuts: u32, seed: u64) {
    let (in_c, out_c) = (p.in_c / p.groups, p.out_c / p.groups);
    let len = p.out_h * p.out_w * p.out_c;
    let (x, w) = (random(p.in_h * p.in_w * p.in_c, seed), random(9 * in_c * p.out_c, seed + 1));
    let (b, r) = (random(p.out_c, seed + 2), random(len, seed + 3));
    let added = (residual > 0).then_some(&r[..]);
    let mut want = unwritten(len);
    reference::conv(p, &x, &w, Some(&b), None, added, &mut want);
    let m = if p.method == Method::Winograd2 { TWO } else { FOUR };
    let magnitude = magnitudes(&m, p, &x, &w, &b, added.unwrap_or(&[]));

    let k = p.taps() * in_c;
    let mut transformed = vec![f32::NAN; k * p.out_c];
    pack::winograd(m.side, in_c * p.out_c, &w, &mut transformed);
    let mut panels = vec![0.0; pack::grouped_len(p.groups, k, out_c)];
    pack::grouped(p.groups, k, out_c, &transformed, &mut panels);
    let mut bias = vec![0.0; p.groups * pack::bias_len(out_c)];
    pack::grouped(p.groups, 1, out_c, &b, &mut bias);
    for isa in Isa::available() {
        let what = format!("{} {p:?} residual {residual}", isa.name());
        let start = if residual == 1 { r.clone() } else { unwritten(len) };
        let got = banded(&what, p.out_h, cuts, &start, |rows, y| {
            let from = match residual {
                0 => Residual::None,
                1 => Residual::InPlace,
                _ => Residual::From(&r),
            };
            kernel::conv(isa, p, rows, &x, &panels, &bias, None, from, y);
        });
        // Besides the channels, where a product and its sum are rounded apart: three or ten roundings of an input, one of a weight, six or
        // twelve of the way back, bias and residual.
        close(&what, in_c + if m.side == 2 { 12 } else { 25 }, &got, &want, &magnitude);
    }
}

/// Input, output and padding before along one axis.
fn axis() -> impl Strategy<Value = (usize, usize, usize)> {
    (1..size(14, 5), 0usize..4, 0usize..4).prop_map(|(len, before, after)| {
        let padded = (len + before + after).max(3);
        (len, padded - 2, before)
    })
}

prop_compose! {
    fn shape()(
        y in axis(), x in axis(), groups in 1usize..4,
        in_c in prop_oneof![1usize..40, 60usize..70, 127usize..140].prop_map(|c| size(c, 1 + c % 4)), out_c in 1..size(70, 4), act in activation(),
        method in prop::sample::select(&[Method::Winograd2, Method::Winograd4][..]),
    ) -> Conv {
        Conv {
            in_h: y.0, in_w: x.0, in_c: groups * in_c, out_h: y.1, out_w: x.1, out_c: groups * out_c, groups, kernel_h: 3, kernel_w: 3,
            stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, pad_top: y.2, pad_left: x.2, act, method,
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_shape(p in shape(), residual in 0u8..3, cuts: u32, seed in 0u64..1 << 40) {
        check(&p, residual, cuts, seed);
    }
}

/// One channel of `h` rows of six pixels, padded to as many.
fn window(h: usize, method: Method) -> Conv {
    Conv {
        in_h: h,
        in_w: 6,
        in_c: 1,
        out_h: h,
        out_w: 6,
        out_c: 1,
        groups: 1,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        act: Activation::None,
        method,
    }
}

/// Weights whose transform is known: a window of one tap in the middle copies its input.
#[test]
fn a_window_of_one_tap_is_the_input() {
    let p = window(5, Method::Winograd2);
    let mut w = [0.0; 9];
    w[4] = 4.0;
    let mut transformed = [f32::NAN; 16];
    pack::winograd(2, 1, &w, &mut transformed);
    assert_eq!(transformed, [0., 0., 0., 0., 0., 1., -1., 0., 0., -1., 1., 0., 0., 0., 0., 0.]);
    let mut panels = [0.0; 256];
    pack::panels(16, 1, &transformed, &mut panels);
    let x: Vec<f32> = (1..=30u8).map(f32::from).collect();
    for isa in Isa::available() {
        let mut y = unwritten(30);
        kernel::conv(isa, &p, 0..5, &x, &panels, &[0.0; 16], None, Residual::None, &mut y);
        assert!(y.iter().zip(&x).all(|(y, x)| *y == 4.0 * x), "{}: {y:?}", isa.name());
    }
}

/// The same of tiles of four by four: `G` and its inverse are no powers of two, so nearly.
#[test]
fn a_window_of_one_tap_is_nearly_the_input() {
    let p = window(9, Method::Winograd4);
    for tap in 0..9 {
        let mut w = [0.0; 9];
        w[tap] = 4.0;
        let mut transformed = [f32::NAN; 36];
        pack::winograd(4, 1, &w, &mut transformed);
        let mut panels = [0.0; 36 * 16];
        pack::panels(36, 1, &transformed, &mut panels);
        let x: Vec<f32> = (1..=54u8).map(f32::from).collect();
        let mut want = unwritten(54);
        reference::conv(&p, &x, &w, None, None, None, &mut want);
        for isa in Isa::available() {
            let mut y = unwritten(54);
            kernel::conv(isa, &p, 0..9, &x, &panels, &[0.0; 16], None, Residual::None, &mut y);
            let off = y.iter().zip(&want).map(|(y, want)| (y - want).abs()).fold(0.0, f32::max);
            assert!(off <= 2e-4, "{}: tap {tap} is off by {off}", isa.name());
        }
    }
}
