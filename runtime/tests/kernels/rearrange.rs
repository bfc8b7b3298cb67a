//! Joining, gathering, transposing, interpolating, means, operands that are spread, slopes, transposed convolutions.

use mnc_runtime::isa::Isa;
use mnc_runtime::params::{Activation, Axis, BinaryKind, Conv, Method, Real, Tap, span};
use mnc_runtime::{kernel, pack, reference};
use proptest::prelude::*;

use crate::case::{abs, activation, cases, close, random, same_bits, size, unwritten};

/// Rows, columns, channels; often one.
fn shape() -> impl Strategy<Value = [usize; 3]> {
    let one_or = |most: usize| prop_oneof![1 => Just(1usize), 4 => 1..=most];
    (one_or(6), one_or(6), one_or(40)).prop_map(|(h, w, c)| [h, w, c])
}

fn elements(shape: [usize; 3]) -> usize {
    shape.iter().product()
}

/// Indices below `len`, or a run of them, or the fill value.
fn table(len: usize) -> impl Strategy<Value = Option<Vec<i32>>> {
    let most = i32::try_from(len).expect("small");
    prop_oneof![
        Just(None),
        (0..most, 0..most).prop_map(|(a, b)| Some((a.min(b)..=a.max(b)).collect())),
        prop::collection::vec(-1..most, 1..9).prop_map(Some),
    ]
}

fn taps(len: usize) -> impl Strategy<Value = Vec<Tap>> {
    let weight = prop_oneof![Just(0.0f32), 0.0f32..1.0];
    let tap = (0..len, 0..len, weight).prop_map(|(low, high, weight)| Tap { low, high, weight: Real::new(weight) });
    prop::collection::vec(tap, 1..7)
}

prop_compose! {
    fn gathered()(shape in shape())(
        shape in Just(shape), rows in table(shape[0]), columns in table(shape[1]), channels in table(shape[2]),
    ) -> ([usize; 3], [Option<Vec<i32>>; 3]) {
        (shape, [rows, columns, channels])
    }
}

prop_compose! {
    fn interpolated()(shape in shape())(
        shape in Just(shape), rows in taps(shape[0]), columns in taps(shape[1]),
    ) -> ([usize; 3], Vec<Tap>, Vec<Tap>) {
        (shape, rows, columns)
    }
}

prop_compose! {
    fn transposed()(
        input in (1usize..6, 1usize..6), kernel in (1usize..5, 1usize..5), stride in (1usize..4, 1usize..4),
        dilation in (1usize..3, 1usize..3), pad in (0usize..3, 0usize..3), more in (0usize..3, 0usize..3),
        groups in prop_oneof![2 => Just(1usize), 1 => 2usize..4], in_c in 1..size(20, 5), out_c in 1..size(40, 19), act in activation(),
    ) -> Conv {
        let out = |len: usize, kernel, dilation, stride: usize, pad: usize, more: usize| {
            ((len - 1) * stride + span(kernel, dilation) + more).saturating_sub(2 * pad).max(1)
        };
        Conv {
            in_h: input.0, in_w: input.1, in_c: groups * in_c, groups, act, out_c: groups * out_c,
            out_h: out(input.0, kernel.0, dilation.0, stride.0, pad.0, more.0),
            out_w: out(input.1, kernel.1, dilation.1, stride.1, pad.1, more.1),
            kernel_h: kernel.0, kernel_w: kernel.1, stride_h: stride.0, stride_w: stride.1,
            dilation_h: dilation.0, dilation_w: dilation.1, pad_top: pad.0, pad_left: pad.1, method: Method::Direct }
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn gather((shape, tables) in gathered(), fill in -1.0f32..1.0, seed in 0u64..1 << 40) {
        let x = random(elements(shape), seed);
        let out: [usize; 3] = std::array::from_fn(|i| tables[i].as_ref().map_or(shape[i], Vec::len));
        let (mut want, mut got) = (unwritten(elements(out)), unwritten(elements(out)));
        reference::gather(shape, std::array::from_fn(|i| tables[i].as_deref()), fill, &x, &mut want);
        let words = tables.map(|t| t.map(|t| t.iter().map(|&i| usize::try_from(i).unwrap_or(kernel::FILL)).collect::<Vec<_>>()));
        kernel::gather(shape, std::array::from_fn(|i| words[i].as_deref()), fill, &x, &mut got);
        same_bits("gather", &got, &want);
    }

    #[test]
    fn concat(shape in shape(), axis in 0usize..3, sizes in prop::collection::vec(1usize..9, 1..5), seed in 0u64..1 << 40) {
        let mut whole = shape;
        whole[axis] = sizes.iter().sum();
        let parts: Vec<([usize; 3], Vec<f32>)> = sizes.iter().enumerate().map(|(i, &size)| {
            let mut part = shape;
            part[axis] = size;
            (part, random(elements(part), seed + i as u64))
        }).collect();
        let (mut want, mut got) = (unwritten(elements(whole)), unwritten(elements(whole)));
        let slices: Vec<([usize; 3], &[f32])> = parts.iter().map(|(s, x)| (*s, x.as_slice())).collect();
        reference::concat([Axis::H, Axis::W, Axis::C][axis], whole, &slices, &mut want);
        let blocks: usize = whole[..axis].iter().product();
        let mut first = 0;
        for (_, part) in &parts {
            kernel::concat_part(blocks, elements(whole) / blocks, first, part, &mut got);
            first += part.len() / blocks;
        }
        same_bits("concat", &got, &want);
    }

    #[test]
    fn transpose(shape in shape(), order in prop::sample::select(vec![[0usize, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]), seed in 0u64..1 << 40) {
        let x = random(elements(shape), seed);
        let (mut want, mut got) = (unwritten(x.len()), unwritten(x.len()));
        reference::transpose(shape, order, &x, &mut want);
        kernel::transpose(shape, order, &x, &mut got);
        same_bits("transpose", &got, &want);
    }

    #[test]
    fn interpolate(([h, w, c], rows, columns) in interpolated(), seed in 0u64..1 << 40) {
        let x = random(h * w * c, seed);
        let len = rows.len() * columns.len() * c;
        let (mut want, mut got) = (unwritten(len), unwritten(len));
        reference::interpolate(&rows, &columns, w, c, &x, &mut want);
        let words = |taps: &[Tap]| taps.iter().map(|t| t.words()).collect::<Vec<_>>();
        kernel::interpolate(&words(&rows), &words(&columns), w, c, &x, &mut got);
        close("interpolate", 4, &got, &want, &vec![1.0; len]);
    }

    #[test]
    fn mean(shape in shape(), axes: [bool; 3], seed in 0u64..1 << 40) {
        let x = random(elements(shape), seed);
        let len = (0..3).map(|i| if axes[i] { 1 } else { shape[i] }).product();
        let (mut want, mut got) = (unwritten(len), unwritten(len));
        reference::mean(shape, axes, &x, &mut want);
        kernel::mean(shape, axes, &x, &mut got);
        close("mean", 0, &got, &want, &abs(&want));
    }

    #[test]
    fn binary(shape in shape(), one: [[bool; 3]; 2], kind in 0usize..4, act in activation(), seed in 0u64..1 << 40) {
        let kind = [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div][kind];
        let of = one.map(|one| std::array::from_fn(|i| if one[i] { 1 } else { shape[i] }));
        let a = random(elements(of[0]), seed);
        // Divisors are not small.
        let b: Vec<f32> = random(elements(of[1]), seed + 1).iter().map(|v| v + if *v < 0.0 { -0.5 } else { 0.5 }).collect();
        let mut want = unwritten(elements(shape));
        reference::binary(kind, act, shape, (of[0], &a), (of[1], &b), &mut want);
        for isa in Isa::available() {
            let mut got = unwritten(want.len());
            kernel::binary(isa, kind, act, shape, (of[0], &a), (of[1], &b), &mut got);
            close(&format!("{} {kind:?} {act} {shape:?} {of:?}", isa.name()), 1, &got, &want, &vec![2.5; want.len()]);
        }
    }

    #[test]
    fn prelu(pixels in 1usize..20, c in 1usize..50, seed in 0u64..1 << 40) {
        let (x, slope) = (random(pixels * c, seed), random(c, seed + 1));
        let mut want = unwritten(x.len());
        reference::prelu(&slope, &x, &mut want);
        for isa in Isa::available() {
            let (mut got, mut in_place) = (unwritten(x.len()), x.clone());
            kernel::prelu(isa, &slope, &x, &mut got);
            kernel::prelu_in_place(isa, &slope, &mut in_place);
            close(isa.name(), 0, &got, &want, &abs(&want));
            same_bits(isa.name(), &in_place, &got);
        }
    }

    #[test]
    fn conv_transpose(p in transposed(), seed in 0u64..1 << 40) {
        let (k, n) = (p.kernel_h * p.kernel_w * p.in_c / p.groups, p.out_c / p.groups);
        let (x, w, b) = (random(p.in_h * p.in_w * p.in_c, seed), random(k * p.out_c, seed + 1), random(p.out_c, seed + 2));
        let len = p.out_h * p.out_w * p.out_c;
        let (mut want, mut magnitude) = (unwritten(len), unwritten(len));
        reference::conv_transpose(&p, &x, &w, Some(&b), &mut want);
        let sums = Conv { act: Activation::None, ..p };
        reference::conv_transpose(&sums, &abs(&x), &abs(&w), Some(&abs(&b)), &mut magnitude);
        let (mut panels, mut bias) = (vec![0.0; pack::grouped_len(p.groups, k, n)], vec![0.0; p.groups * pack::bias_len(n)]);
        pack::grouped(p.groups, k, n, &w, &mut panels);
        pack::grouped(p.groups, 1, n, &b, &mut bias);
        for isa in Isa::available() {
            let mut got = unwritten(len);
            kernel::conv_transpose(isa, &p, &x, &panels, &bias, &mut got);
            close(&format!("{} {p:?}", isa.name()), k + 2, &got, &want, &magnitude);
        }
    }
}

/// A weight of zero reads nothing of the second tap, a mean and a quotient pass NaN on.
#[test]
fn nan_goes_where_it_is_read() {
    let tap = |low, high, weight| Tap { low, high, weight: Real::new(weight) }.words();
    let mut y = [0.0; 2];
    kernel::interpolate(&[tap(0, 1, 0.0), tap(0, 1, 0.5)], &[tap(0, 0, 0.0)], 1, 1, &[1.0, f32::NAN], &mut y);
    assert!(y[0] == 1.0 && y[1].is_nan());
    kernel::mean([2, 1, 2], [true, false, false], &[1.0, f32::NAN, 3.0, 1.0], &mut y);
    assert!(y[0] == 2.0 && y[1].is_nan());
    for isa in Isa::available() {
        for kind in [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div] {
            let (a, b) = ([1.0, f32::NAN], [f32::NAN]);
            kernel::binary(isa, kind, Activation::Relu, [1, 1, 2], ([1, 1, 2], &a), ([1, 1, 1], &[2.0]), &mut y);
            assert!(!y[0].is_nan() && y[1].is_nan());
            kernel::binary(isa, kind, Activation::Relu, [1, 1, 2], ([1, 1, 2], &[1.0, 2.0]), ([1, 1, 1], &b), &mut y);
            assert!(y.iter().all(|v| v.is_nan()));
        }
        let mut y = [f32::NAN, -1.0];
        kernel::prelu_in_place(isa, &[0.5, 0.5], &mut y);
        assert!(y[0].is_nan() && y[1] == -0.5);
    }
}
