//! Entries with constant parameters against those with parameters at run time: the same bits.

use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual, fixed};
use mnc_runtime::{pack, params};

use crate::case::{random, same_bits, unwritten};

/// A shape as a type, handed to a check.
macro_rules! each {
    ($check:ident, $params:ident: $({ $($field:ident: $value:expr),* })*) => {
        $({
            struct Here;
            impl fixed::Shape for Here {
                type Params = params::$params;
                const PARAMS: params::$params = params::$params { $($field: $value),* };
            }
            $check::<Here>();
        })*
    };
}

fn pointwise<S: fixed::Shape<Params = params::Pointwise>>() {
    let p = S::PARAMS;
    let (x, scale) = (random(p.h * p.w * p.in_c, 1), random(p.in_c, 2));
    let w = random(pack::panels_len(p.in_c, p.out_c), 3);
    let bias = random(pack::bias_len(p.out_c), 4);
    let len = if p.pool { p.out_c } else { p.h * p.w * p.out_c };
    let r = random(len, 5);
    for isa in Isa::available() {
        for scale in [None, Some(&scale[..])] {
            for residual in [Residual::None, Residual::InPlace, Residual::From(&r)] {
                if p.pool && residual != Residual::None {
                    continue;
                }
                let (mut got, mut want) = (r.clone(), r.clone());
                fixed::pointwise::<S>(isa, &x, &w, &bias, scale, residual, &mut got);
                kernel::pointwise(isa, &p, 0..p.h, &x, &w, &bias, scale, residual, &mut want);
                same_bits(&format!("{} {p:?}", isa.name()), &got, &want);
            }
        }
    }
}

fn conv<S: fixed::Shape<Params = params::Conv>>() {
    let p = S::PARAMS;
    let (x, value) = (random(p.in_h * p.in_w * p.in_c, 1), random(p.in_c, 2));
    let w = random(pack::panels_len(p.kernel_h * p.kernel_w * p.in_c, p.out_c), 3);
    let bias = random(pack::bias_len(p.out_c), 4);
    let r = random(p.out_h * p.out_w * p.out_c, 5);
    for isa in Isa::available() {
        for value in [None, Some(&value[..])] {
            for residual in [Residual::None, Residual::InPlace, Residual::From(&r)] {
                let (mut got, mut want) = (r.clone(), r.clone());
                fixed::conv::<S>(isa, &x, &w, &bias, value, residual, &mut got);
                kernel::conv(isa, &p, 0..p.out_h, &x, &w, &bias, value, residual, &mut want);
                same_bits(&format!("{} {p:?}", isa.name()), &got, &want);
            }
        }
    }
}

fn depthwise<S: fixed::Shape<Params = params::Depthwise>>() {
    let p = S::PARAMS;
    let c = p.in_c * p.multiplier;
    let (x, value) = (random(p.in_h * p.in_w * p.in_c, 1), random(p.in_c, 2));
    let w = random(pack::depthwise_len(p.kernel_h * p.kernel_w, c), 3);
    let bias = random(pack::depthwise_bias_len(c), 4);
    let len = p.out_h * p.out_w * c;
    for isa in Isa::available() {
        for value in [None, Some(&value[..])] {
            let (mut got, mut want) = (unwritten(len), unwritten(len));
            fixed::depthwise::<S>(isa, &x, &w, &bias, value, &mut got);
            kernel::depthwise(isa, &p, 0..p.out_h, &x, &w, &bias, value, &mut want);
            same_bits(&format!("{} {p:?}", isa.name()), &got, &want);
        }
    }
}

fn pool<S: fixed::Shape<Params = params::Pool>>() {
    let p = S::PARAMS;
    let x = random(p.in_h * p.in_w * p.c, 1);
    let len = p.out_h * p.out_w * p.c;
    for isa in Isa::available() {
        let (mut got, mut want) = (unwritten(len), unwritten(len));
        fixed::pool::<S>(isa, &x, &mut got);
        kernel::pool(isa, &p, 0..p.out_h, &x, &mut want);
        same_bits(&format!("{} {p:?}", isa.name()), &got, &want);
    }
}

use params::Activation::{HSigmoid, HSwish, None as Plain, Relu, Relu6, Sigmoid};

#[test]
fn pointwise_shapes() {
    each! { pointwise, Pointwise:
        { h: 1, w: 1, in_c: 1, out_c: 1, act: Plain, pool: false }
        { h: 1, w: 1, in_c: 100, out_c: 77, act: Sigmoid, pool: false }
        { h: 7, w: 7, in_c: 33, out_c: 24, act: HSwish, pool: false }
        { h: 3, w: 5, in_c: 16, out_c: 19, act: Relu, pool: false }
        { h: 14, w: 14, in_c: 32, out_c: 32, act: Relu6, pool: false }
        { h: 7, w: 7, in_c: 20, out_c: 40, act: HSwish, pool: true }
        { h: 2, w: 3, in_c: 5, out_c: 6, act: HSigmoid, pool: true }
    }
}

#[test]
fn conv_shapes() {
    each! { conv, Conv:
        { in_h: 1, in_w: 1, in_c: 1, out_h: 1, out_w: 1, out_c: 1, kernel_h: 1, kernel_w: 1, stride_h: 1, stride_w: 1, pad_top: 0, pad_left: 0, act: Plain }
        { in_h: 20, in_w: 20, in_c: 3, out_h: 10, out_w: 10, out_c: 32, kernel_h: 3, kernel_w: 3, stride_h: 2, stride_w: 2, pad_top: 1, pad_left: 1, act: Relu6 }
        { in_h: 9, in_w: 7, in_c: 5, out_h: 5, out_w: 4, out_c: 21, kernel_h: 3, kernel_w: 5, stride_h: 2, stride_w: 2, pad_top: 1, pad_left: 2, act: HSwish }
        { in_h: 6, in_w: 6, in_c: 8, out_h: 6, out_w: 6, out_c: 8, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1, act: Sigmoid }
    }
}

#[test]
fn depthwise_shapes() {
    each! { depthwise, Depthwise:
        { in_h: 14, in_w: 14, in_c: 24, multiplier: 1, out_h: 14, out_w: 14, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1, act: Relu6 }
        { in_h: 14, in_w: 14, in_c: 20, multiplier: 1, out_h: 7, out_w: 7, kernel_h: 3, kernel_w: 3, stride_h: 2, stride_w: 2, pad_top: 0, pad_left: 0, act: Relu }
        { in_h: 14, in_w: 14, in_c: 16, multiplier: 1, out_h: 14, out_w: 14, kernel_h: 5, kernel_w: 5, stride_h: 1, stride_w: 1, pad_top: 2, pad_left: 2, act: HSwish }
        { in_h: 15, in_w: 15, in_c: 8, multiplier: 1, out_h: 8, out_w: 8, kernel_h: 5, kernel_w: 5, stride_h: 2, stride_w: 2, pad_top: 2, pad_left: 2, act: Plain }
        { in_h: 10, in_w: 11, in_c: 9, multiplier: 1, out_h: 3, out_w: 4, kernel_h: 7, kernel_w: 2, stride_h: 3, stride_w: 3, pad_top: 3, pad_left: 1, act: HSigmoid }
        { in_h: 5, in_w: 5, in_c: 3, multiplier: 4, out_h: 5, out_w: 5, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1, act: Relu6 }
    }
}

#[test]
fn pool_shapes() {
    use params::PoolKind::{Average, Max};
    each! { pool, Pool:
        { kind: Max, in_h: 9, in_w: 8, c: 17, out_h: 5, out_w: 4, kernel_h: 3, kernel_w: 3, stride_h: 2, stride_w: 2, pad_top: 1, pad_left: 1 }
        { kind: Average, in_h: 9, in_w: 8, c: 8, out_h: 9, out_w: 8, kernel_h: 3, kernel_w: 3, stride_h: 1, stride_w: 1, pad_top: 1, pad_left: 1 }
    }
}
