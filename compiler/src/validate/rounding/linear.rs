//! Sums: convolutions, dense layers, affine maps, means and pools.

use std::collections::HashMap;

use mnc_runtime::params;
use mnc_runtime::reference::{self, Accumulate, Running};

use super::{FOLDS, OPEN, Sums, Value, strassen, winograd};
use crate::ir::eval::{self, hwc};
use crate::ir::op::{Activation, Op, Pool, PoolKind};
use crate::ir::{Consts, Shape};
use crate::pass::split_pool::is_split;

/// The sums of a bare convolution or dense layer `op`, for any input, weights and content of the padding.
fn sums_of<X: Copy + Into<f64>, A: Accumulate>(
    op: &Op,
    [from, to]: [Shape; 2],
    [x, w]: [&[X]; 2],
    pad: Option<&[X]>,
    start: impl Fn(usize) -> A,
    each: impl FnMut(usize, A),
) {
    match op {
        Op::Conv(c) => reference::conv_sums(&eval::conv_params(c, from, to.h, to.w), x, w, pad, start, each),
        Op::Depthwise(d) => reference::depthwise_sums(&eval::depthwise_params(d, from, to), x, w, pad, start, each),
        Op::ConvTranspose(c) => reference::conv_transpose_sums(&eval::transposed_params(c, from, to), x, w, start, each),
        Op::Dense(d) => {
            let p = params::Conv {
                in_h: 1,
                in_w: 1,
                in_c: d.in_c,
                out_h: 1,
                out_w: 1,
                out_c: d.out_c,
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
                method: params::Method::Direct,
            };
            reference::conv_sums(&p, x, w, pad, start, each);
        }
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Softmax
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. } => unreachable!("no layer of weights"),
    }
}

/// A convolution or dense layer without anything fused into it but padding.
pub(super) fn layer(op: &Op, consts: &Consts, shape: Shape, x: &Value, sums: Sums) -> Value {
    let (weight, bias, pad, groups) = match op {
        Op::Conv(c) => (c.weight, c.bias, c.pad_value, c.groups),
        Op::Depthwise(d) => (d.weight, d.bias, d.pad_value, 1),
        Op::ConvTranspose(c) => (c.weight, c.bias, None, c.groups),
        Op::Dense(d) => (d.weight, d.bias, None, 1),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Softmax
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. } => unreachable!("no layer of weights"),
    };
    let (weight, bias, pad) = (consts.get(weight), bias.map(|b| consts.get(b)), pad.map(|p| consts.get(p)));
    let shapes = [x.shape, shape];

    // What Winograd's filtering may compute instead.
    let by_tiles = if let Op::Conv(c) = op { Some(eval::conv_params(c, x.shape, shape.h, shape.w)) } else { None };
    let by_tiles = by_tiles.map(|p| params::Conv { method: params::Method::Winograd4, ..p });
    let by_tiles = by_tiles.filter(|p| p.has_method() && pad.is_none());
    // What Strassen's method may.
    let by_quarters = if let Op::Conv(c) = op { Some(c) } else { None };
    let by_quarters = by_quarters.filter(|c| sums == Sums::Strassen && strassen::may_be(c, shape));

    // Every input with its own variance and the roundings of the constant that it meets.
    let size2 = |i: usize| x.terms.as_ref().map_or(0.0, |t| t[i]).max(f64::from(x.x[i]).powi(2));
    let q = |i: usize| if x.x[i].is_finite() { x.v[i] + FOLDS * size2(i) } else { x.v[i] };
    let q: Vec<f64> = (0..x.x.len()).map(q).collect();
    let square = |v: &f32| f64::from(*v).powi(2);
    let weight2: Vec<f64> = weight.iter().map(square).collect();
    let pad2: Option<Vec<f64>> = pad.map(|p| p.iter().map(|v| FOLDS * square(v)).collect());
    let mut v = vec![0.0; shape.elements()];
    sums_of(op, shapes, [&q, &weight2], pad2.as_deref(), |_| 0.0, |at, sum| v[at] = sum);
    if let Some(bias) = bias {
        v.iter_mut().enumerate().for_each(|(i, v)| *v += FOLDS * square(&bias[i % shape.c]));
    }

    let total = |v: &[f64]| v.iter().filter(|v| v.is_finite()).sum::<f64>();
    let part = |a: f64, b: f64| if b > 0.0 { (a / b).min(1.0) } else { 1.0 };
    let through = total(&v);
    // Of what comes through the weights, before and with their own roundings.
    let shared_in = part(total(&q) - (1.0 - x.shared) * total(&x.v), total(&q));
    let y = if sums != Sums::F64 {
        // The roundings of the sum itself, with the sizes that folding leaves of the terms.
        let start = |o: usize| Running { sum: bias.map_or(0.0, |b| f64::from(b[o])), squares: 0.0 };
        let mut y = vec![0.0; shape.elements()];
        let mut squares = vec![0.0; shape.elements()];
        let own = |at: usize, sum: Running| {
            y[at] = sum.sum as f32;
            // A sum that is not finite is judged by itself.
            squares[at] = if sum.sum.is_finite() { sum.squares } else { 0.0 };
        };
        sums_of(op, shapes, [&x.x, weight], pad, start, own);
        if let Some(p) = by_tiles {
            let larger = winograd::squares(&p, &x.x, weight, bias);
            squares = tiled(&squares, &y, shape);
            // What is not a number stays so by any way.
            squares.iter_mut().zip(larger).zip(&y).filter(|(_, y)| !y.is_nan()).for_each(|((s, l), _)| *s = s.max(l));
        }
        if let Some(c) = by_quarters {
            let joined = strassen::squares(&x.x, weight, bias, c.in_c, c.out_c);
            squares.iter_mut().zip(joined).for_each(|(s, j)| *s = s.max(j));
        }
        v.iter_mut().zip(&squares).for_each(|(v, s)| *v += s);
        if let Some(terms) = &x.terms {
            let sizes: Vec<f64> = terms.iter().map(|t| t.sqrt()).collect();
            let weight: Vec<f64> = weight.iter().map(|w| f64::from(*w)).collect();
            let start = |_| Running::default();
            sums_of(op, shapes, [&sizes, &weight], None, start, |at, sum: Running| v[at] += sum.squares);
        }
        y
    } else {
        eval::node(op, consts, &[x.shape], shape, &[&x.x])
    };

    let shared = shared_in * part(through, total(&v));

    // The largest partial sum in any order, of any output channel.
    let mut sizes = vec![0f64; shape.c];
    weight.iter().enumerate().for_each(|(i, w)| sizes[i % shape.c] += f64::from(w.abs()));
    let most = x.most.max(pad.map_or(0.0, super::largest)) * sizes.into_iter().fold(0.0, f64::max);
    let larger = if by_tiles.is_some() { winograd::LARGER } else { by_quarters.map_or(1.0, |_| strassen::LARGER) };
    let most = larger * most + bias.map_or(0.0, super::largest);
    if groups > 1 && x.x.iter().any(|x| !x.is_finite()) {
        v.fill(OPEN);
    }
    Value::result(shape, y, v, most).sharing(shared)
}

/// The squares of partial sums where tiles of two by two outputs may be computed together: each carries the roundings of all of
/// its tile, of terms up to twice as large. Open where one of them is not finite, unless this one is not a number.
fn tiled(squares: &[f64], y: &[f32], shape: Shape) -> Vec<f64> {
    let [h, w, c] = hwc(shape);
    let near = |at: usize, len: usize| at.saturating_sub(1)..(at + 2).min(len);
    let one = |i: usize| {
        let (oy, ox, o) = (i / (w * c), i / c % w, i % c);
        let around = near(oy, h).flat_map(|y| near(ox, w).map(move |x| (y * w + x) * c + o));
        // What is not a number stays so by either way.
        let open = |j: usize| !y[i].is_nan() && !y[j].is_finite();
        around.fold(0f64, |most, j| if open(j) { OPEN } else { most.max(4.0 * squares[j]) })
    };
    (0..y.len()).map(one).collect()
}

/// `y[c] = scale[c] * x[order[c]] + shift[c]`; `order` absent: as they are.
pub(super) fn affine(map: &[(f64, f64)], order: Option<&[usize]>, y: Vec<f32>, shape: Shape, x: &Value) -> Value {
    let mut v = vec![0.0; y.len()];
    let mut terms = vec![0.0; y.len()];
    for i in 0..y.len() {
        let c = i % shape.c;
        let from = order.map_or(i, |order| i - c + order[c]);
        let ((scale, shift), value) = (map[c], f64::from(x.x[from]));
        let own = if value.is_finite() { value * value } else { 0.0 };
        terms[i] = scale * scale * own + shift * shift;
        v[i] = if x.v[from] == OPEN { OPEN } else { scale * scale * x.v[from] + FOLDS * terms[i] };
    }
    let (scale, shift) = map.iter().fold((0f64, 0f64), |(a, b), (s, t)| (a.max(s.abs()), b.max(t.abs())));
    let y = Value::result(shape, y, v, x.most * scale + shift);
    // Normalisation is folded into what follows, batch norm into what stands before.
    Value { terms: order.map(|_| terms), shared: x.shared, ..y }
}

/// The mean over the axes that are set.
pub(super) fn mean(axes: [bool; 3], shape: Shape, x: &Value, sums: Sums) -> Value {
    let [h, w, c] = hwc(x.shape);
    let n: usize = hwc(x.shape).iter().zip(axes).map(|(n, over)| if over { *n } else { 1 }).product();
    let mut all = vec![Vec::new(); shape.elements()];
    for (i, (x, e)) in x.x.iter().zip(x.deviations()).enumerate() {
        let at = [i / (w * c), i / c % w, i % c];
        let [oy, ox, o]: [usize; 3] = std::array::from_fn(|axis| if axes[axis] { 0 } else { at[axis] });
        all[(oy * shape.w + ox) * shape.c + o].push((*x, e));
    }
    debug_assert_eq!(x.x.len(), h * w * c);
    let (y, v): (Vec<f32>, Vec<f64>) = all.iter().map(|terms| mean_of(terms, n as f64, x.shared, sums)).unzip();
    Value::result(shape, y, v, n as f64 * x.most)
}

/// The mean over all pixels. Where a pass averages rows first, their means are rounded too: equal rows in the same direction.
pub(super) fn global_mean(shape: Shape, x: &Value, sums: Sums) -> Value {
    let mut y = mean([true, true, false], shape, x, sums);
    if is_split(x.shape) {
        let [h, w, c] = hwc(x.shape);
        let mut sizes = vec![0f64; c];
        for row in x.x.chunks_exact(w * c) {
            let mut row_sums = vec![0f64; c];
            row.iter().enumerate().for_each(|(i, x)| row_sums[i % c] += f64::from(*x));
            sizes.iter_mut().zip(row_sums).for_each(|(size, sum)| *size += sum.abs() / (h * w) as f64);
        }
        y.v.iter_mut().zip(sizes).filter(|(_, size)| size.is_finite()).for_each(|(v, size)| *v += size * size);
    }
    y
}

/// Value and variance of the mean over `n` of `terms`, each with its deviation, of whose variances the part `shared` is.
fn mean_of(terms: &[(f32, f64)], n: f64, shared: f64, sums: Sums) -> (f32, f64) {
    let mut sum = 0f64;
    // A term added again and again is rounded in the same direction each time: the roundings of equal ones add as they are.
    let mut equal: HashMap<u32, f64> = HashMap::new();
    for (x, _) in terms {
        sum += f64::from(*x);
        if sums != Sums::F64 {
            *equal.entry(x.to_bits()).or_default() += sum.abs();
        }
    }
    // In the order of size, not of the map, so that the same bound comes out each time.
    let mut own: Vec<f64> = if sum.is_finite() { equal.into_values().map(|s| s * s).collect() } else { Vec::new() };
    own.sort_by(f64::total_cmp);
    let deviations: f64 = terms.iter().map(|t| t.1).sum();
    let variances: f64 = terms.iter().map(|t| t.1 * t.1).sum();
    let before = shared * deviations.powi(2) + (1.0 - shared) * variances;
    let v = if before.is_finite() { (before + own.iter().sum::<f64>()) / (n * n) } else { OPEN };
    ((sum / n) as f32, v)
}

/// Pooling by windows; `y` is the reference's result.
pub(super) fn pool(op: &Pool, y: Vec<f32>, shape: Shape, x: &Value, sums: Sums) -> Value {
    let p = eval::pool_params(op, x.shape, shape);
    let deviations: Vec<f64> = x.deviations().collect();
    let inside = |at: usize, pad: usize, len: usize| at.checked_sub(pad).filter(|&i| i < len);
    let mut v = vec![0.0; y.len()];
    for (i, v) in v.iter_mut().enumerate() {
        let (oy, ox, c) = (i / (p.out_w * p.c), i / p.c % p.out_w, i % p.c);
        let mut terms = Vec::new();
        for (ky, kx) in (0..p.kernel_h).flat_map(|ky| (0..p.kernel_w).map(move |kx| (ky, kx))) {
            let iy = inside(oy * p.stride_h + ky, p.pad_top, p.in_h);
            let ix = inside(ox * p.stride_w + kx, p.pad_left, p.in_w);
            if let (Some(iy), Some(ix)) = (iy, ix) {
                let from = (iy * p.in_w + ix) * p.c + c;
                terms.push((x.x[from], deviations[from]));
            }
        }
        let n = if p.count_padding { p.kernel_h * p.kernel_w } else { terms.len() };
        *v = match p.kind {
            PoolKind::Max => terms.iter().map(|t| t.1 * t.1).fold(0.0, f64::max),
            PoolKind::Average => mean_of(&terms, n as f64, x.shared, sums).1,
        };
    }
    let most = match p.kind {
        PoolKind::Max => x.most,
        PoolKind::Average => x.most * (p.kernel_h * p.kernel_w) as f64,
    };
    Value::result(shape, y, v, most).sharing(x.shared)
}
