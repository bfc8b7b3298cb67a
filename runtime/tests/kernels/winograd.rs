//! Convolution by Winograd's minimal filtering against the direct sum.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::params::{Activation, Conv, Method};
use mnc_runtime::{pack, reference};
use proptest::prelude::*;

use crate::case::{activation, banded, cases, close, random, size, unwritten};

/// `B^T`, `G` and `A^T` by absolute value: `|Y| <= A^T (sum over c of (G g G^T) . (B^T D B)) A` with all signs taken away bounds every number
/// on the way, so also what their rounding comes to.
const B: [[f32; 4]; 4] = [[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]];
const G: [[f32; 3]; 4] = [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.0, 0.0, 1.0]];
const A: [[f32; 4]; 2] = [[1.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 1.0]];

/// Magnitudes of all that is added up for each output.
fn magnitudes(p: &Conv, x: &[f32], w: &[f32], b: &[f32], r: &[f32]) -> Vec<f32> {
    let (in_c, out_c) = (p.in_c / p.groups, p.out_c / p.groups);
    let at = |y: usize, x_: usize, c: usize| {
        let (iy, ix) = (y.wrapping_sub(p.pad_top), x_.wrapping_sub(p.pad_left));
        if iy < p.in_h && ix < p.in_w { x[(iy * p.in_w + ix) * p.in_c + c].abs() } else { 0.0 }
    };
    let mut all = vec![0.0; p.out_h * p.out_w * p.out_c];
    for (i, to) in all.iter_mut().enumerate() {
        let (oy, ox, o) = (i / p.out_c / p.out_w, i / p.out_c % p.out_w, i % p.out_c);
        let (ty, tx) = (oy / 2 * 2, ox / 2 * 2);
        let mut sum = 0.0;
        for c in 0..in_c {
            for (u, b_row) in B.iter().enumerate() {
                for (v, b_column) in B.iter().enumerate() {
                    let mut d = 0.0;
                    for (y, by) in b_row.iter().enumerate() {
                        for (x, bx) in b_column.iter().enumerate() {
                            d += by * bx * at(ty + y, tx + x, o / out_c * in_c + c);
                        }
                    }
                    let mut g = 0.0;
                    for (ky, gy) in G[u].iter().enumerate() {
                        for (kx, gx) in G[v].iter().enumerate() {
                            g += gy * gx * w[((ky * 3 + kx) * in_c + c) * p.out_c + o].abs();
                        }
                    }
                    sum += A[oy % 2][u] * A[ox % 2][v] * d * g;
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
    let magnitude = magnitudes(p, &x, &w, &b, added.unwrap_or(&[]));

    let mut transformed = vec![f32::NAN; 16 * in_c * p.out_c];
    pack::winograd(in_c * p.out_c, &w, &mut transformed);
    let mut panels = vec![0.0; pack::grouped_len(p.groups, 16 * in_c, out_c)];
    pack::grouped(p.groups, 16 * in_c, out_c, &transformed, &mut panels);
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
        // Besides the channels: three roundings of an input, one of a weight, six of the way back, bias and residual.
        close(&what, in_c + 12, &got, &want, &magnitude);
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
    ) -> Conv {
        Conv {
            in_h: y.0, in_w: x.0, in_c: groups * in_c, out_h: y.1, out_w: x.1, out_c: groups * out_c, groups, kernel_h: 3, kernel_w: 3,
            stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1, pad_top: y.2, pad_left: x.2, act, method: Method::Winograd,
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

/// Weights whose transform is known: a window of one tap in the middle copies its input.
#[test]
fn a_window_of_one_tap_is_the_input() {
    let p = Conv {
        in_h: 5,
        in_w: 6,
        in_c: 1,
        out_h: 5,
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
        method: Method::Winograd,
    };
    let mut w = [0.0; 9];
    w[4] = 4.0;
    let mut transformed = [f32::NAN; 16];
    pack::winograd(1, &w, &mut transformed);
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
