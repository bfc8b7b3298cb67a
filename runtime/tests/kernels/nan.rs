//! NaN propagates, and only where it should.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::params::{Activation, Method, Pointwise, Pool, PoolKind};

use crate::case::ACTIVATIONS;

#[test]
fn through_activations() {
    for isa in Isa::available() {
        for act in ACTIVATIONS {
            let mut y = [1.0; 11];
            y[2] = f32::NAN;
            y[9] = f32::NAN;
            kernel::act_in_place(isa, act, &mut y);
            for (i, v) in y.iter().enumerate() {
                assert_eq!(v.is_nan(), i == 2 || i == 9, "{} {act:?} element {i}", isa.name());
            }
        }
    }
}

/// One pixel's NaN reaches that pixel's outputs alone, though pixels share a register tile.
#[test]
fn through_sums_of_its_own_pixel() {
    for isa in Isa::available() {
        for act in ACTIVATIONS {
            let p = Pointwise { h: 1, w: 7, in_c: 3, out_c: 5, act, pool: false, method: Method::Direct };
            let mut x = [1.0; 21];
            x[10] = f32::NAN;
            let mut y = [0.0; 35];
            kernel::pointwise(isa, &p, 0..1, &x, &[0.5; 48], &[0.0; 16], Residual::None, &mut y);
            for (i, v) in y.iter().enumerate() {
                assert_eq!(v.is_nan(), i / 5 == 3, "{} {act:?} element {i}", isa.name());
            }
        }
    }
}

#[test]
fn through_pools_wherever_it_stands() {
    for isa in Isa::available() {
        for kind in [PoolKind::Max, PoolKind::Average] {
            for at in 0..4 {
                let p = Pool {
                    kind,
                    in_h: 2,
                    in_w: 2,
                    c: 1,
                    out_h: 1,
                    out_w: 1,
                    kernel_h: 2,
                    kernel_w: 2,
                    stride_h: 1,
                    stride_w: 1,
                    pad_top: 0,
                    pad_left: 0,
                    count_padding: false,
                };
                let mut x = [1.0, 2.0, 3.0, 4.0];
                x[at] = f32::NAN;
                let mut y = [0.0];
                kernel::pool(isa, &p, 0..1, &x, &mut y);
                assert!(y[0].is_nan(), "{} {kind:?} {at}", isa.name());
                kernel::global_pool(isa, 4, 1, &x, &mut y);
                assert!(y[0].is_nan());
            }
        }
        let mut y = [1.0, f32::NAN, 2.0];
        kernel::softmax_in_place(3, &mut y);
        assert!(y.iter().all(|v| v.is_nan()));
        let mut y = [1.0, f32::NAN, 2.0, 3.0];
        kernel::softmax_in_place(2, &mut y);
        assert!(y[..2].iter().all(|v| v.is_nan()) && y[2..].iter().all(|v| v.is_finite()));
        let mut y = [f32::NAN, 1.0];
        kernel::add_in_place(isa, Activation::Relu6, &[1.0, f32::NAN], &mut y);
        assert!(y.iter().all(|v| v.is_nan()));
    }
}
