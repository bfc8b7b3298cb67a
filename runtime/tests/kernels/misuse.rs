//! A caller's mistake ends in a panic that names the operand, never in a read or write out of bounds.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::params::{Activation, Conv, Depthwise, Method, Pointwise, Pool, PoolKind};

/// The message that `run` panics with.
fn message(run: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(run)).expect_err("a mistake was let through");
    payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).into())).unwrap()
}

const DEPTHWISE: Depthwise = Depthwise {
    in_h: 4,
    in_w: 4,
    in_c: 8,
    multiplier: 1,
    out_h: 4,
    out_w: 4,
    kernel_h: 3,
    kernel_w: 3,
    stride_h: 1,
    stride_w: 1,
    dilation_h: 1,
    dilation_w: 1,
    pad_top: 1,
    pad_left: 1,
    act: Activation::None,
};

fn depthwise(p: &Depthwise, rows: std::ops::Range<usize>, x: usize, w: usize, bias: usize, value: usize, y: usize) -> String {
    let (x, w, bias, value, mut y) = (vec![0.0; x], vec![0.0; w], vec![0.0; bias], vec![0.0; value], vec![0.0; y]);
    message(|| kernel::depthwise(Isa::detect(), p, rows, &x, &w, &bias, Some(&value), &mut y))
}

#[test]
fn depthwise_operands() {
    let p = DEPTHWISE;
    assert_eq!(depthwise(&p, 0..4, 127, 144, 16, 8, 128), "depthwise input: 127 elements where the parameters ask for 128");
    assert!(depthwise(&p, 0..4, 128, 143, 16, 8, 128).starts_with("depthwise weights"));
    assert!(depthwise(&p, 0..4, 128, 144, 15, 8, 128).starts_with("depthwise bias"));
    assert!(depthwise(&p, 0..4, 128, 144, 16, 7, 128).starts_with("depthwise padding"));
    assert!(depthwise(&p, 0..4, 128, 144, 16, 8, 129).starts_with("depthwise output"));
    assert_eq!(depthwise(&p, 2..5, 128, 144, 16, 8, 128), "depthwise: rows 2..5 of 4");
}

/// Sizes whose product overflows to the length of the slice, and coordinates that overflow.
#[test]
fn depthwise_overflow() {
    let p = Depthwise { in_h: 1 << 62, in_w: 4, in_c: 8, out_h: 0, ..DEPTHWISE };
    assert!(depthwise(&p, 0..0, 0, 144, 16, 8, 0).starts_with("depthwise input"));
    let p = Depthwise { stride_h: usize::MAX / 2, ..DEPTHWISE };
    assert!(depthwise(&p, 0..4, 128, 144, 16, 8, 128).starts_with("depthwise rows"));
    let p = Depthwise { pad_left: usize::MAX, ..DEPTHWISE };
    assert!(depthwise(&p, 0..4, 128, 144, 16, 8, 128).starts_with("depthwise columns"));
    let p = Depthwise { stride_w: 0, dilation_h: 1, dilation_w: 1, ..DEPTHWISE };
    assert!(depthwise(&p, 0..4, 128, 144, 16, 8, 128).starts_with("depthwise columns"));
}

#[test]
fn other_operands() {
    let isa = Isa::detect();
    let p = Pointwise { h: 1, w: 2, in_c: 3, out_c: 4, act: Activation::None, pool: false, method: Method::Direct };
    let (x, w, b) = ([0.0; 6], [0.0; 48], [0.0; 16]);
    let mut y = [0.0; 8];
    let none = Residual::None;
    assert!(message(|| kernel::pointwise(isa, &p, 0..1, &x, &w, &b[..4], none, &mut y)).starts_with("pointwise bias"));
    let residual = Residual::From(&x);
    assert!(message(|| kernel::pointwise(isa, &p, 0..1, &x, &w, &b, residual, &mut y)).starts_with("pointwise residual"));
    let pooled = Pointwise { pool: true, h: 2, w: 1, ..p };
    assert!(message(|| kernel::pointwise(isa, &pooled, 0..1, &x, &w, &b, none, &mut y[..4])).contains("needs all rows"));

    let p = Conv {
        in_h: 2,
        in_w: 2,
        in_c: 1,
        out_h: 2,
        out_w: 2,
        out_c: 1,
        groups: 1,
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
    let run = |x: &[f32], w: &[f32], y: &mut [f32]| kernel::conv(isa, &p, 0..2, x, w, &b, None, none, y);
    assert!(message(|| run(&x, &w[..16], &mut [0.0; 4])).starts_with("conv input"));
    assert!(message(|| run(&x[..4], &w, &mut [0.0; 4])).starts_with("conv weights"));
    assert!(message(|| run(&x[..4], &w[..16], &mut [0.0; 5])).starts_with("conv output"));
    for groups in [0, 2] {
        let p = Conv { groups, ..p };
        let message = message(|| kernel::conv(isa, &p, 0..2, &x[..4], &w[..16], &b, None, none, &mut [0.0; 4]));
        assert_eq!(message, format!("conv: {groups} groups of 1 and 1 channels"));
    }

    let p = Pool {
        kind: PoolKind::Average,
        in_h: 2,
        in_w: 2,
        c: 1,
        out_h: 2,
        out_w: 2,
        kernel_h: 2,
        kernel_w: 2,
        stride_h: 3,
        stride_w: 1,
        pad_top: 0,
        pad_left: 0,
        count_padding: false,
    };
    assert!(message(|| kernel::pool(isa, &p, 0..2, &x[..4], &mut [0.0; 4])).contains("reach beyond an input of 2"));
    assert!(message(|| kernel::add(isa, Activation::None, &x, &b, &mut y)).starts_with("add first operand"));
    assert!(message(|| kernel::scale_in_place(isa, Activation::None, 2, 4, &x, &mut y)).starts_with("scale factors"));
    assert!(message(|| kernel::softmax(1, &x, &mut y)).starts_with("softmax input"));
    assert!(message(|| kernel::softmax_in_place(5, &mut [0.0; 9])).contains("no pixels of 5 channels"));
    assert!(message(|| kernel::pad(2, 2, 1, 1, 0, 2, 2, None, &x[..4], &mut [0.0; 4])).contains("does not fit"));
    assert!(message(|| kernel::normalize(2, &[0, 3, 1], &x[..3], &x[..3], &x, &mut y[..6])).contains("channel order"));
}
