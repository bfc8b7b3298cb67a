//! Naive kernels of what moves elements between shapes: joining, gathering, transposing, interpolating, means, broadcasting.

use super::{Accumulate, activate};
use crate::params::{Activation, Axis, BinaryKind, Conv, Tap};

/// Where element `(y, x, c)` of a tensor of `shape` (rows, columns, channels) stands.
fn at(shape: [usize; 3], [y, x, c]: [usize; 3]) -> usize {
    (y * shape[1] + x) * shape[2] + c
}

/// Every `(y, x, c)` of `shape` in order.
fn each(shape: [usize; 3]) -> impl Iterator<Item = [usize; 3]> {
    let [h, w, c] = shape;
    (0..h).flat_map(move |y| (0..w).flat_map(move |x| (0..c).map(move |c| [y, x, c])))
}

fn elements(shape: [usize; 3]) -> usize {
    shape.iter().product()
}

/// `act(f(a, b))`: along every axis each operand is as long as `shape`, or one, which then stands for all.
pub fn binary(
    kind: BinaryKind,
    act: Activation,
    shape: [usize; 3],
    a: ([usize; 3], &[f32]),
    b: ([usize; 3], &[f32]),
    y: &mut [f32],
) {
    assert_eq!(y.len(), elements(shape), "binary output");
    for (of, x) in [a, b] {
        assert_eq!(x.len(), elements(of), "binary operand");
        assert!((0..3).all(|i| of[i] == shape[i] || of[i] == 1), "binary operand of {of:?} for {shape:?}");
    }
    let read = |(of, x): ([usize; 3], &[f32]), p: [usize; 3]| {
        f64::from(x[at(of, core::array::from_fn(|i| if of[i] == 1 { 0 } else { p[i] }))])
    };
    for p in each(shape) {
        let (a, b) = (read(a, p), read(b, p));
        let value = match kind {
            BinaryKind::Add => a + b,
            BinaryKind::Sub => a - b,
            BinaryKind::Mul => a * b,
            BinaryKind::Div => a / b,
        };
        y[at(shape, p)] = activate(act, value) as f32;
    }
}

/// `y[p][c] = x < 0 ? slope[c] * x : x` of `x = x[p][c]`
pub fn prelu(slope: &[f32], x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(slope.len()), "prelu lengths {} {}", x.len(), y.len());
    for (i, (y, x)) in y.iter_mut().zip(x).enumerate() {
        *y = if *x < 0.0 { (f64::from(slope[i % slope.len()]) * f64::from(*x)) as f32 } else { *x };
    }
}

/// The parts, each with its shape, one behind the other along `axis`.
pub fn concat<X: Copy>(axis: Axis, shape: [usize; 3], parts: &[([usize; 3], &[X])], y: &mut [X]) {
    assert_eq!(y.len(), elements(shape), "concat output");
    let axis = match axis {
        Axis::H => 0,
        Axis::W => 1,
        Axis::C => 2,
    };
    let mut first = 0;
    for (of, x) in parts {
        assert_eq!(x.len(), elements(*of), "concat part");
        for p in each(*of) {
            let mut to = p;
            to[axis] += first;
            y[at(shape, to)] = x[at(*of, p)];
        }
        first += of[axis];
    }
    assert_eq!(first, shape[axis], "parts as long as the whole");
}

/// Element `(y, x, c)` is that of the input at the indices that the tables of rows, columns and channels have there; an absent
/// table takes all as they are, a negative index gives `fill`.
pub fn gather<X: Copy>(shape: [usize; 3], tables: [Option<&[i32]>; 3], fill: X, x: &[X], y: &mut [X]) {
    assert_eq!(x.len(), elements(shape), "gather input");
    let out: [usize; 3] = core::array::from_fn(|i| tables[i].map_or(shape[i], <[i32]>::len));
    assert_eq!(y.len(), elements(out), "gather output");
    for p in each(out) {
        let mut from = [0; 3];
        let inside = (0..3).all(|i| match tables[i] {
            None => {
                from[i] = p[i];
                true
            }
            Some(table) => usize::try_from(table[p[i]]).map(|index| from[i] = index).is_ok(),
        });
        y[at(out, p)] = if inside { x[at(shape, from)] } else { fill };
    }
}

/// Output axis `i` is input axis `order[i]`.
pub fn transpose<X: Copy>(shape: [usize; 3], order: [usize; 3], x: &[X], y: &mut [X]) {
    assert!(x.len() == elements(shape) && y.len() == x.len(), "transpose lengths {} {}", x.len(), y.len());
    let out = order.map(|i| shape[i]);
    for p in each(out) {
        let mut from = [0; 3];
        (0..3).for_each(|i| from[order[i]] = p[i]);
        y[at(out, p)] = x[at(shape, from)];
    }
}

/// Linear interpolation along rows, then columns, of an input of `width` columns of `c` channels.
pub fn interpolate(rows: &[Tap], columns: &[Tap], width: usize, c: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(y.len(), rows.len() * columns.len() * c, "interpolate output");
    let mix = |tap: &Tap, low: f64, high: &dyn Fn() -> f64| {
        let weight = f64::from(tap.weight.get());
        if weight == 0.0 { low } else { low * (1.0 - weight) + high() * weight }
    };
    for [oy, ox, i] in each([rows.len(), columns.len(), c]) {
        let (row, column) = (&rows[oy], &columns[ox]);
        let read = |iy: usize, ix: usize| f64::from(x[(iy * width + ix) * c + i]);
        let across = |iy: usize| mix(column, read(iy, column.low), &|| read(iy, column.high));
        y[(oy * columns.len() + ox) * c + i] = mix(row, across(row.low), &|| across(row.high)) as f32;
    }
}

/// The mean over the axes that are set; they become one.
pub fn mean(shape: [usize; 3], axes: [bool; 3], x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), elements(shape), "mean input");
    let out: [usize; 3] = core::array::from_fn(|i| if axes[i] { 1 } else { shape[i] });
    assert_eq!(y.len(), elements(out), "mean output");
    let over: [usize; 3] = core::array::from_fn(|i| if axes[i] { shape[i] } else { 1 });
    for p in each(out) {
        let sum: f64 = each(over).map(|q| f64::from(x[at(shape, core::array::from_fn(|i| p[i] + q[i]))])).sum();
        y[at(out, p)] = (sum / elements(over) as f64) as f32;
    }
}

/// Transposed convolution: `y[o] = act(bias[o] + sum(x * w[.., o]))` over the inputs that reach the output element, weights
/// `[kh][kw][in_c / groups][out_c]`.
pub fn conv_transpose(p: &Conv, x: &[f32], w: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(y.len(), p.out_h * p.out_w * p.out_c, "transposed output");
    let start = |o: usize| bias.map_or(0.0, |b| f64::from(b[o]));
    conv_transpose_sums(p, x, w, start, |at, sum| y[at] = activate(p.act, sum) as f32);
}

/// The sums of [`conv_transpose`], as [`super::conv_sums`] gives them.
pub fn conv_transpose_sums<X: Copy + Into<f64>, A: Accumulate>(
    p: &Conv,
    x: &[X],
    w: &[X],
    start: impl Fn(usize) -> A,
    mut each_sum: impl FnMut(usize, A),
) {
    assert_eq!(x.len(), p.in_h * p.in_w * p.in_c, "transposed input");
    let Some((group_in, group_out)) = p.group() else { panic!("{} groups of {} and {} channels", p.groups, p.in_c, p.out_c) };
    assert_eq!(w.len(), p.kernel_h * p.kernel_w * group_in * p.out_c, "transposed weights");
    for [oy, ox, o] in each([p.out_h, p.out_w, p.out_c]) {
        let mut sum = start(o);
        for [ky, kx, i] in each([p.kernel_h, p.kernel_w, group_in]) {
            let iy = source(oy + p.pad_top, ky * p.dilation_h, p.stride_h, p.in_h);
            let ix = source(ox + p.pad_left, kx * p.dilation_w, p.stride_w, p.in_w);
            if let (Some(iy), Some(ix)) = (iy, ix) {
                let v: f64 = x[(iy * p.in_w + ix) * p.in_c + o / group_out * group_in + i].into();
                sum.add(v * w[((ky * p.kernel_w + kx) * group_in + i) * p.out_c + o].into());
            }
        }
        each_sum((oy * p.out_w + ox) * p.out_c + o, sum);
    }
}

/// The input position whose tap `before` rows in reaches padded output position `at`.
fn source(at: usize, before: usize, stride: usize, len: usize) -> Option<usize> {
    let from = at.checked_sub(before)?;
    (from.is_multiple_of(stride) && from / stride < len).then(|| from / stride)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Real;

    #[test]
    fn moves_by_hand() {
        // Two rows of one column of two channels.
        let x = [1.0, 2.0, 3.0, 4.0];
        let mut y = [0.0; 4];
        transpose([2, 1, 2], [2, 1, 0], &x, &mut y);
        assert_eq!(y, [1.0, 3.0, 2.0, 4.0]);
        let mut y = [0.0; 6];
        gather([2, 1, 2], [Some(&[1, -1, 0]), None, Some(&[1, 0])], 9.0, &x, &mut y);
        assert_eq!(y, [4.0, 3.0, 9.0, 9.0, 2.0, 1.0]);
        concat(Axis::C, [2, 1, 3], &[([2, 1, 2], &x), ([2, 1, 1], &[7.0, 8.0])], &mut y);
        assert_eq!(y, [1.0, 2.0, 7.0, 3.0, 4.0, 8.0]);
        concat(Axis::H, [3, 1, 2], &[([1, 1, 2], &[7.0, 8.0]), ([2, 1, 2], &x)], &mut y);
        assert_eq!(y, [7.0, 8.0, 1.0, 2.0, 3.0, 4.0]);
        let mut y = [0.0; 2];
        mean([2, 1, 2], [true, false, false], &x, &mut y);
        assert_eq!(y, [2.0, 3.0]);
        mean([2, 1, 2], [false, true, true], &x, &mut y);
        assert_eq!(y, [1.5, 3.5]);
        let mut y = [0.0; 4];
        binary(BinaryKind::Sub, Activation::Relu, [2, 1, 2], ([2, 1, 2], &x), ([1, 1, 2], &[1.0, 4.0]), &mut y);
        assert_eq!(y, [0.0, 0.0, 2.0, 0.0]);
        prelu(&[0.5, 2.0], &[-1.0, -1.0, 1.0, -3.0], &mut y);
        assert_eq!(y, [-0.5, -2.0, 1.0, -6.0]);
        let taps = [(0, 1, 0.25), (1, 1, 0.0)].map(|(low, high, weight)| Tap { low, high, weight: Real::new(weight) });
        interpolate(&taps, &taps[1..], 2, 1, &[0.0, 4.0, 8.0, 12.0], &mut y[..2]);
        assert_eq!(y[..2], [6.0, 12.0]);
    }

    /// One input pixel to a whole window, a stride apart.
    #[test]
    fn transposed_convolution_by_hand() {
        let p = Conv {
            in_h: 1,
            in_w: 2,
            in_c: 1,
            out_h: 1,
            out_w: 5,
            out_c: 1,
            groups: 1,
            kernel_h: 1,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 2,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 0,
            pad_left: 0,
            act: Activation::None,
            method: crate::params::Method::Direct,
        };
        let mut y = [0.0; 5];
        conv_transpose(&p, &[1.0, 2.0], &[1.0, 10.0, 100.0], Some(&[0.5]), &mut y);
        assert_eq!(y, [1.5, 10.5, 102.5, 20.5, 200.5]);
    }
}
