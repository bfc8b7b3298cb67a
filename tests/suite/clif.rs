//! The cranelift back end: each kernel alone against the reference, and the memory of the JIT.

use std::process::Command;

use mnc_compiler::back::clif::{ClifError, JitNet, JitOptions, ObjectOptions, compile_jit_with, object};
use mnc_compiler::front::{ColorOrder, Filter, Preprocess, Resize};
use mnc_compiler::ir::{DType, Shape};
use mnc_compiler::plan::{
    Buffer, BufferId, Entry, Estimate, Kernel, Memory, Place, Plan, Port, Prefer, Proof, Residual, Split, Stage, Step, Tensor,
    WeightId, Weights,
};
use mnc_runtime::net::Net;
use mnc_runtime::params::{self, Activation, PoolKind, Real};
use mnc_runtime::{pack, reference};
use proptest::prelude::*;

/// By cranelift's own kernels.
fn alone(plan: &Plan) -> Result<JitNet, ClifError> {
    compile_jit_with(plan, JitOptions { self_contained: true })
}

/// Builds a plan step by step; every tensor besides input and output gets a buffer of its own.
struct Planner {
    plan: Plan,
}

impl Planner {
    fn new(input: Shape, output: Shape) -> Self {
        let port = |name: &str, shape| Port::list([(name.to_owned(), Tensor { shape, dtype: DType::F32 })]);
        let preprocess = Preprocess {
            resize: Resize::Squash,
            filter: Filter::Bilinear,
            order: ColorOrder::Rgb,
            mean: vec![0.5; input.c],
            std: vec![0.25; input.c],
            in_graph: false,
        };
        let plan = Plan {
            name: "net".to_owned(),
            inputs: port("input", input),
            outputs: port("output", output),
            preprocess,
            labels: vec!["zero".to_owned(), "\"one\"".to_owned()],
            stages: Vec::new(),
            threads: 1,
            prefer: Prefer::Speed,
            tuned_on: None,
            memory: Memory {
                buffers: Vec::new(),
                arena_bytes: 0,
                lower_bound_bytes: 0,
                layerwise_bound_bytes: 0,
                peak_with_input_bytes: 0,
                proof: Proof::MeetsBound,
                order_is_best: true,
            },
            weights: Weights::default(),
            macs: 0,
            params: 0,
        };
        Self { plan }
    }

    fn weight(&mut self, values: &[f32]) -> WeightId {
        let w = &mut self.plan.weights;
        let offset = w.data.len();
        w.data.extend(values);
        w.data.resize(w.data.len().next_multiple_of(16), 0.0);
        w.entries.push(Entry { name: format!("w{offset}"), offset, len: values.len() });
        WeightId(w.entries.len() - 1)
    }

    fn buffer(&mut self, len: usize) -> Place {
        let m = &mut self.plan.memory;
        let bytes = (len * 4).next_multiple_of(64);
        let (name, offset) = ("b".to_owned(), m.arena_bytes);
        m.buffers.push(Buffer { name, bytes, offset, first: 0, last: 9, pitch: 0, ring_rows: None, apart: 0 });
        m.arena_bytes += bytes;
        Place::Arena(BufferId(m.buffers.len() - 1))
    }

    /// An arena buffer that a first step fills with `values`.
    fn constant(&mut self, values: &[f32]) -> Place {
        let place = self.buffer(values.len());
        let value = self.weight(values);
        let shape = Shape::hwc(1, 1, values.len());
        self.step(Kernel::Constant { value, len: values.len() }, place, shape, place, shape, 1);
        place
    }

    fn step(&mut self, kernel: Kernel, input: Place, input_shape: Shape, output: Place, output_shape: Shape, strip: usize) {
        let step = Step { name: "step".to_owned(), kernel, input, input_shape, output, output_shape, macs: 1 };
        let (split, estimate) = (Split::Alone, Estimate::default());
        self.plan.stages.push(Stage { name: "step".to_owned(), steps: vec![step], strip_rows: strip, split, estimate });
    }

    /// The last step: the caller's input to the caller's output.
    fn last(&mut self, kernel: Kernel, strip: usize) {
        let (x, y) = (self.plan.input_shape(), self.plan.output_shape());
        self.step(kernel, Place::Input(0), x, Place::Output(0), y, strip);
    }

    /// The last two steps: the kernel to a buffer that holds `before`, and a copy of it to the output.
    fn last_onto(&mut self, before: &[f32], strip: usize, kernel: impl FnOnce(Place) -> Kernel) {
        let place = self.constant(before);
        let (x, y) = (self.plan.input_shape(), self.plan.output_shape());
        self.step(kernel(place), Place::Input(0), x, place, y, strip);
        self.step(Kernel::Copy { len: y.elements() }, place, y, Place::Output(0), y, 1);
    }

    /// The last two steps: a copy of the input to a buffer, and the kernel from there to there, and a copy to the output.
    fn last_in_place(&mut self, kernel: Kernel) {
        let shape = self.plan.input_shape();
        let place = self.buffer(shape.elements());
        let copy = Kernel::Copy { len: shape.elements() };
        self.step(copy.clone(), Place::Input(0), shape, place, shape, 1);
        self.step(kernel, place, shape, place, shape, 1);
        self.step(copy, place, shape, Place::Output(0), shape, 1);
    }

    fn run(&self, x: &[f32]) -> Vec<f32> {
        run(&mut alone(&self.plan).expect("the plan compiles"), x)
    }
}

/// Runs with guards around input and output: reading beyond the input gives what is no number, writing beyond the output is
/// seen.
fn run(net: &mut JitNet, x: &[f32]) -> Vec<f32> {
    const GUARD: usize = 32;
    let shape = net.output_shape();
    let n: usize = shape.iter().product();
    let mut around = vec![f32::NAN; GUARD];
    around.extend(x);
    around.extend([f32::NAN; GUARD]);
    let mut y = vec![-7.25; n + 2 * GUARD];
    net.run(&around[GUARD..GUARD + x.len()], &mut y[GUARD..GUARD + n]).expect("lengths fit");
    assert!(y[..GUARD].iter().chain(&y[GUARD + n..]).all(|&v| v == -7.25), "wrote beyond the output");
    y[GUARD..GUARD + n].to_vec()
}

/// Numbers in -1..1 that differ by seed.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= 4e-6 * scale, "element {i}: {a} instead of {e}");
    }
}

fn bias(n: usize, seed: u64, padded: usize) -> (Vec<f32>, Vec<f32>) {
    let values = random(n, seed);
    let mut packed = vec![0.0; padded];
    pack::bias(Some(&values), &mut packed);
    (values, packed)
}

const ACTIVATIONS: [Activation; 12] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::HSwish,
    Activation::HSigmoid,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Silu,
    Activation::LeakyRelu(Real::new(0.1)),
    Activation::Clip(Real::new(-0.25), Real::new(0.5)),
    Activation::Clip(Real::new(-0.5), Real::new(f32::INFINITY)),
    Activation::HardSigmoid(Real::new(0.2), Real::new(0.5)),
];

/// Input length, output length, window, stride and padding before, of one axis.
fn axis(most: usize) -> impl Strategy<Value = [usize; 5]> {
    (1..=most, 1usize..=5, 1usize..=3, 0usize..=4, 0usize..=4).prop_map(|(input, kernel, stride, before, after)| {
        let (before, after) = (before.min(kernel - 1), after.min(kernel - 1));
        let kernel = kernel.min(input + before + after);
        [input, (input + before + after - kernel) / stride + 1, kernel, stride, before]
    })
}

/// As [`axis`], and a dilation.
fn axis_apart(most: usize) -> impl Strategy<Value = [usize; 6]> {
    (axis(most), prop_oneof![2 => Just(1usize), 1 => 2usize..4]).prop_map(
        |([input, output, kernel, stride, before], dilation)| {
            // Padding behind grows with the window.
            [input, output, kernel, stride, before, dilation]
        },
    )
}

fn residuals() -> impl Strategy<Value = usize> {
    0usize..3
}

fn activation() -> impl Strategy<Value = Activation> {
    (0..ACTIVATIONS.len()).prop_map(|i| ACTIVATIONS[i])
}

/// Adds the last step of a layer that may have a residual, given as none, in place, from elsewhere. Returns the residual.
fn with_residual(
    planner: &mut Planner,
    which: usize,
    len: usize,
    strip: usize,
    seed: u64,
    kernel: impl Fn(Residual) -> Kernel,
) -> Option<Vec<f32>> {
    let values = random(len, seed);
    match which {
        0 => planner.last(kernel(Residual::None), strip),
        1 => planner.last_onto(&values, strip, |_| kernel(Residual::InPlace)),
        _ => {
            let from = planner.constant(&values);
            planner.last(kernel(Residual::From(from)), strip);
        }
    }
    (which > 0).then_some(values)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conv(
        [in_h, out_h, kernel_h, stride_h, pad_top, dilation_h] in axis_apart(9),
        [in_w, out_w, kernel_w, stride_w, pad_left, dilation_w] in axis_apart(13),
        in_c in 1usize..10, out_c in 1usize..40, act in activation(),
        padded: bool, residual in residuals(), strip in 1usize..9, seed in 0u64..1 << 40,
    ) {
        let p = params::Conv {
            in_h, in_w, in_c, out_h, out_w, out_c, groups: 1, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, act, method: params::Method::Direct };
        let mut planner = Planner::new(Shape::hwc(in_h, in_w, in_c), Shape::hwc(out_h, out_w, out_c));
        let k = kernel_h * kernel_w * in_c;
        let w = random(k * out_c, seed);
        let mut packed = vec![0.0; pack::panels_len(k, out_c)];
        pack::panels(k, out_c, &w, &mut packed);
        let weight = planner.weight(&packed);
        let (b, packed) = bias(out_c, seed + 1, pack::bias_len(out_c));
        let bias = planner.weight(&packed);
        let value = random(in_c, seed + 2);
        let pad_value = padded.then(|| planner.weight(&value));
        let r = with_residual(&mut planner, residual, out_h * out_w * out_c, strip, seed + 3, |residual| {
            Kernel::Conv { params: p, weight, bias, pad_value, residual }
        });

        let x = random(in_h * in_w * in_c, seed + 4);
        let mut expected = vec![0.0; out_h * out_w * out_c];
        reference::conv(&p, &x, &w, Some(&b), padded.then_some(&value[..]), r.as_deref(), &mut expected);
        assert_close(&planner.run(&x), &expected);
    }

    #[test]
    fn depthwise(
        [in_h, out_h, kernel_h, stride_h, pad_top, dilation_h] in axis_apart(9),
        [in_w, out_w, kernel_w, stride_w, pad_left, dilation_w] in axis_apart(24),
        in_c in 1usize..30, multiplier in prop_oneof![3 => Just(1usize), 1 => 2usize..10], act in activation(),
        padded: bool, strip in 1usize..9, seed in 0u64..1 << 40,
    ) {
        let p = params::Depthwise {
            in_h, in_w, in_c, multiplier, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left, act,
        };
        check_depthwise(&p, padded, strip, seed);
    }

    #[test]
    fn pointwise(
        h in 1usize..7, w in 1usize..15, in_c in 1usize..40, out_c in 1usize..50, act in activation(),
        pool: bool, residual in residuals(), strip in 1usize..7, seed in 0u64..1 << 40,
    ) {
        check_pointwise(&params::Pointwise { h, w, in_c, out_c, act, pool, method: params::Method::Direct }, residual, strip, seed);
    }

    #[test]
    fn dense(in_c in 1usize..70, out_c in 1usize..70, act in activation(), seed in 0u64..1 << 40) {
        check_pointwise(&params::Pointwise { h: 1, w: 1, in_c, out_c, act, pool: false, method: params::Method::Direct }, 0, 1, seed);
    }

    #[test]
    fn pool(
        [in_h, out_h, kernel_h, stride_h, pad_top] in axis(9),
        [in_w, out_w, kernel_w, stride_w, pad_left] in axis(9),
        c in 1usize..30, average: bool, count_padding: bool, strip in 1usize..9, seed in 0u64..1 << 40,
    ) {
        let kind = if average { PoolKind::Average } else { PoolKind::Max };
        let p = params::Pool { kind, in_h, in_w, c, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, count_padding };
        let mut planner = Planner::new(Shape::hwc(in_h, in_w, c), Shape::hwc(out_h, out_w, c));
        planner.last(Kernel::Pool(p), strip);
        let x = random(in_h * in_w * c, seed);
        let mut expected = vec![0.0; out_h * out_w * c];
        reference::pool(&p, &x, &mut expected);
        assert_close(&planner.run(&x), &expected);
    }

    #[test]
    fn elementwise(h in 1usize..4, w in 1usize..6, c in 1usize..40, act in activation(), in_place: bool, seed in 0u64..1 << 40) {
        let shape = Shape::hwc(h, w, c);
        let (pixels, len) = (h * w, h * w * c);
        let x: Vec<f32> = random(len, seed).iter().map(|v| v * 8.0).collect();
        let mut expected = vec![0.0; len];
        let check = |kernel: &dyn Fn(&mut Planner) -> Kernel, expected: &[f32]| {
            let mut planner = Planner::new(shape, shape);
            let kernel = kernel(&mut planner);
            if in_place { planner.last_in_place(kernel) } else { planner.last(kernel, 1) }
            assert_close(&planner.run(&x), expected);
        };

        reference::act(act, &x, &mut expected);
        check(&|_| Kernel::Act { len, act }, &expected);

        let other = random(len, seed + 1);
        reference::add(act, &x, &other, &mut expected);
        check(&|planner| Kernel::Add { other: planner.constant(&other), len, act }, &expected);

        let factors = random(c, seed + 2);
        reference::scale(act, pixels, c, &x, &factors, &mut expected);
        check(&|planner| Kernel::Scale { scale: planner.constant(&factors), pixels, c, act }, &expected);
    }

    #[test]
    fn softmax(w in 1usize..4, c in 1usize..70, spread in 0.1f32..60.0, in_place: bool, seed in 0u64..1 << 40) {
        let shape = Shape::hwc(2, w, c);
        let x: Vec<f32> = random(2 * w * c, seed).iter().map(|v| v * spread).collect();
        let mut planner = Planner::new(shape, shape);
        let kernel = Kernel::Softmax { pixels: 2 * w, c };
        if in_place { planner.last_in_place(kernel) } else { planner.last(kernel, 1) }
        let mut expected = vec![0.0; x.len()];
        reference::softmax(c, &x, &mut expected);
        assert_close(&planner.run(&x), &expected);
    }

    #[test]
    fn global_pool_normalize_pad(
        h in 1usize..6, w in 1usize..6, c in 1usize..40, edges in [0usize..4, 0usize..4, 0usize..4, 0usize..4],
        filled: bool, seed in 0u64..1 << 40,
    ) {
        let shape = Shape::hwc(h, w, c);
        let x = random(h * w * c, seed);

        let mut planner = Planner::new(shape, Shape::hwc(1, 1, c));
        planner.last(Kernel::GlobalPool { pixels: h * w, c }, 1);
        let mut expected = vec![0.0; c];
        reference::global_pool(h * w, c, &x, &mut expected);
        assert_close(&planner.run(&x), &expected);

        let mut planner = Planner::new(shape, shape);
        let order: Vec<usize> = (0..c).rev().collect();
        let (scale, shift) = (random(c, seed + 1), random(c, seed + 2));
        let kernel = Kernel::Normalize {
            pixels: h * w, order: order.clone(), scale: planner.weight(&scale), shift: planner.weight(&shift),
        };
        planner.last(kernel, 1);
        let mut expected = vec![0.0; x.len()];
        reference::normalize(h * w, &order, &scale, &shift, &x, &mut expected);
        assert_close(&planner.run(&x), &expected);

        let [top, left, bottom, right] = edges;
        let (out_h, out_w) = (top + h + bottom, left + w + right);
        let mut planner = Planner::new(shape, Shape::hwc(out_h, out_w, c));
        let content = random(c, seed + 3);
        let value = filled.then(|| planner.weight(&content));
        planner.last(Kernel::Pad { top, left, value }, 1);
        let mut expected = vec![0.0; out_h * out_w * c];
        reference::pad(h, w, c, top, left, out_h, out_w, filled.then_some(&content[..]), &x, &mut expected);
        prop_assert_eq!(planner.run(&x), expected);
    }
}

fn check_depthwise(p: &params::Depthwise, padded: bool, strip: usize, seed: u64) {
    let (out_c, taps) = (p.in_c * p.multiplier, p.kernel_h * p.kernel_w);
    let mut planner = Planner::new(Shape::hwc(p.in_h, p.in_w, p.in_c), Shape::hwc(p.out_h, p.out_w, out_c));
    let w = random(taps * out_c, seed);
    let mut packed = vec![0.0; pack::depthwise_len(taps, out_c)];
    pack::depthwise(taps, out_c, &w, &mut packed);
    let weight = planner.weight(&packed);
    let (b, packed) = bias(out_c, seed + 1, pack::bias_len(out_c));
    let bias = planner.weight(&packed);
    let value = random(p.in_c, seed + 2);
    let pad_value = padded.then(|| planner.weight(&value));
    planner.last(Kernel::Depthwise { params: *p, weight, bias, pad_value }, strip);

    let x = random(p.in_h * p.in_w * p.in_c, seed + 4);
    let mut expected = vec![0.0; p.out_h * p.out_w * out_c];
    reference::depthwise(p, &x, &w, Some(&b), padded.then_some(&value[..]), &mut expected);
    assert_close(&planner.run(&x), &expected);
}

/// The reference is a 1x1 convolution, then the mean.
fn check_pointwise(p: &params::Pointwise, residual: usize, strip: usize, seed: u64) {
    let &params::Pointwise { h, w, in_c, out_c, act, pool, method: _ } = p;
    let output = if pool { Shape::hwc(1, 1, out_c) } else { Shape::hwc(h, w, out_c) };
    let mut planner = Planner::new(Shape::hwc(h, w, in_c), output);
    let weights = random(in_c * out_c, seed);
    let mut packed = vec![0.0; pack::panels_len(in_c, out_c)];
    pack::panels(in_c, out_c, &weights, &mut packed);
    let weight = planner.weight(&packed);
    let (b, packed) = bias(out_c, seed + 1, pack::bias_len(out_c));
    let bias = planner.weight(&packed);
    // In place means the output's place, which a pooled output does not share.
    let residual = if pool && residual == 1 { 2 } else { residual };
    let r = with_residual(&mut planner, residual, h * w * out_c, strip, seed + 3, |residual| Kernel::Pointwise {
        params: *p,
        weight,
        bias,
        residual,
    });

    let x = random(h * w * in_c, seed + 4);
    let conv = params::Conv {
        in_h: h,
        in_w: w,
        in_c,
        out_h: h,
        out_w: w,
        out_c,
        groups: 1,
        kernel_h: 1,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
        act,
        method: params::Method::Direct,
    };
    let mut expected = vec![0.0; h * w * out_c];
    reference::conv(&conv, &x, &weights, Some(&b), None, r.as_deref(), &mut expected);
    if pool {
        let mut mean = vec![0.0; out_c];
        reference::global_pool(h * w, out_c, &expected, &mut mean);
        expected = mean;
    }
    assert_close(&planner.run(&x), &expected);
}

/// Windows beyond what is written out tap by tap, and paddings wider than the input.
#[test]
fn wide_depthwise_windows() {
    for (kernel_w, pad_left, in_w, out_w) in [(11, 5, 14, 14), (10, 0, 30, 21), (3, 12, 4, 26), (7, 3, 40, 40)] {
        let p = params::Depthwise {
            in_h: 5,
            in_w,
            in_c: 11,
            multiplier: 1,
            out_h: 5,
            out_w,
            kernel_h: 3,
            kernel_w,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left,
            act: Activation::Relu,
        };
        check_depthwise(&p, false, 5, 3);
    }
}

/// A net of all that a V3 block has, small enough for an emulator: conv, depthwise, squeeze-and-excite, residual, softmax.
fn small_net() -> Planner {
    let act = Activation::HSwish;
    let mut p = Planner::new(Shape::hwc(9, 9, 3), Shape::hwc(1, 1, 10));
    let panels = |p: &mut Planner, k: usize, n: usize, seed: u64| {
        let w: Vec<f32> = random(k * n, seed).iter().map(|v| v / (k as f32).sqrt()).collect();
        let mut packed = vec![0.0; pack::panels_len(k, n)];
        pack::panels(k, n, &w, &mut packed);
        let (_, b) = bias(n, seed + 50, pack::bias_len(n));
        (p.weight(&packed), p.weight(&b))
    };
    let (stem, stem_bias) = panels(&mut p, 27, 13, 1);
    let stem_shape = Shape::hwc(5, 5, 13);
    let a = p.buffer(stem_shape.elements());
    let conv = params::Conv {
        in_h: 9,
        in_w: 9,
        in_c: 3,
        out_h: 5,
        out_w: 5,
        out_c: 13,
        groups: 1,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 2,
        stride_w: 2,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        act,
        method: params::Method::Direct,
    };
    let kernel = Kernel::Conv { params: conv, weight: stem, bias: stem_bias, pad_value: None, residual: Residual::None };
    p.step(kernel, Place::Input(0), Shape::hwc(9, 9, 3), a, stem_shape, 5);

    let w = random(9 * 13, 2);
    let mut packed = vec![0.0; pack::depthwise_len(9, 13)];
    pack::depthwise(9, 13, &w, &mut packed);
    let weight = p.weight(&packed);
    let (_, packed) = bias(13, 3, pack::bias_len(13));
    let bias = p.weight(&packed);
    let b = p.buffer(stem_shape.elements());
    let depthwise = params::Depthwise {
        in_h: 5,
        in_w: 5,
        in_c: 13,
        multiplier: 1,
        out_h: 5,
        out_w: 5,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        act,
    };
    p.step(Kernel::Depthwise { params: depthwise, weight, bias, pad_value: None }, a, stem_shape, b, stem_shape, 5);

    let squeezed = Shape::hwc(1, 1, 13);
    let (mean, gate) = (p.buffer(13), p.buffer(13));
    p.step(Kernel::GlobalPool { pixels: 25, c: 13 }, b, stem_shape, mean, squeezed, 1);
    let pointwise =
        |h, out_c, act, pool| params::Pointwise { h, w: h, in_c: 13, out_c, act, pool, method: params::Method::Direct };
    let (weight, bias) = panels(&mut p, 13, 13, 4);
    let params = pointwise(1, 13, Activation::Sigmoid, false);
    p.step(Kernel::Pointwise { params, weight, bias, residual: Residual::None }, mean, squeezed, gate, squeezed, 1);
    let (weight, bias) = panels(&mut p, 13, 13, 5);
    let params = pointwise(5, 13, Activation::None, false);
    p.step(Kernel::Scale { scale: gate, pixels: 25, c: 13, act: Activation::None }, b, stem_shape, b, stem_shape, 1);
    let kernel = Kernel::Pointwise { params, weight, bias, residual: Residual::InPlace };
    p.step(kernel, b, stem_shape, a, stem_shape, 5);

    let (weight, bias) = panels(&mut p, 13, 10, 6);
    let params = pointwise(5, 10, Activation::None, true);
    let logits = Shape::hwc(1, 1, 10);
    let kernel = Kernel::Pointwise { params, weight, bias, residual: Residual::None };
    p.step(kernel, a, stem_shape, Place::Output(0), logits, 1);
    p.step(Kernel::Softmax { pixels: 1, c: 10 }, Place::Output(0), logits, Place::Output(0), logits, 1);
    p
}

/// Memory of this process that is mapped executable, in bytes, and whether any of it is writable too.
#[cfg(target_os = "linux")]
fn executable_memory() -> (usize, bool) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let (mut bytes, mut writable) = (0, false);
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, protection) = (fields.next().expect("a range"), fields.next().expect("a protection"));
        if protection.contains('x') {
            let (from, to) = range.split_once('-').expect("two addresses");
            let address = |s| usize::from_str_radix(s, 16).expect("an address");
            bytes += address(to) - address(from);
            writable |= protection.contains('w');
        }
    }
    (bytes, writable)
}

/// The process maps what it maps: this test starts itself again, alone, because the other tests' threads map code too.
#[cfg(target_os = "linux")]
#[test]
fn code_is_released() {
    const ALONE: &str = "MNC_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("this test");
        let arguments = ["--exact", "clif::code_is_released", "--test-threads=1"];
        let out = Command::new(this).args(arguments).env(ALONE, "1").output().expect("this test runs again");
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let planner = small_net();
    let x = random(9 * 9 * 3, 7);
    let expected = planner.run(&x);
    let (before, _) = executable_memory();
    let mut nets = vec![alone(&planner.plan).expect("compiles"), alone(&planner.plan).expect("compiles")];
    let (during, writable) = executable_memory();
    assert!(during > before, "two nets have code: {before} and {during} bytes");
    assert!(!writable, "no page is writable and executable");
    assert_eq!(run(&mut nets[1], &x), expected);
    drop(nets);
    for _ in 0..200 {
        drop(alone(&planner.plan).expect("compiles"));
    }
    // A plan that is refused half-way leaves nothing either.
    assert!(alone(&spoilt(Kernel::Act { len: 1 << 40, act: Activation::Relu })).is_err());
    assert_eq!(executable_memory(), (before, false));
}

/// The small net with a mistake in its last step.
fn spoilt(kernel: Kernel) -> Plan {
    let mut plan = small_net().plan;
    plan.stages.last_mut().expect("a last stage").steps[0].kernel = kernel;
    plan
}

/// Safe code may hand over any plan: one that would read or write beyond its arrays is refused.
#[test]
fn wrong_plans_are_refused() {
    let act = Activation::Relu;
    let pool = params::Pool {
        kind: PoolKind::Max,
        in_h: 1,
        in_w: 1,
        c: 10,
        out_h: 1,
        out_w: 1,
        kernel_h: 1,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        pad_top: 0,
        pad_left: 0,
        count_padding: false,
    };
    #[rustfmt::skip]
    let conv = params::Conv {
        in_h: 1, in_w: 1, in_c: 10, out_h: 1, out_w: 1, out_c: 10, groups: 2, kernel_h: 1, kernel_w: 1, stride_h: 1, stride_w: 1, dilation_h: 1, dilation_w: 1,
        pad_top: 0, pad_left: 0, act, method: params::Method::Direct };
    let (weight, bias, pad_value, residual) = (WeightId(0), WeightId(0), None, Residual::None);
    for (kernel, part) in [
        (Kernel::Conv { params: conv, weight, bias, pad_value, residual }, "knows no groups of channels"),
        (Kernel::Act { len: 11, act }, "has 10 floats, the kernel needs 11"),
        (Kernel::Act { len: 1 << 40, act }, "too large"),
        (Kernel::Act { len: usize::MAX, act }, "too large"),
        (Kernel::Add { other: Place::Arena(BufferId(99)), len: 10, act }, "does not exist"),
        (Kernel::Constant { value: WeightId(99), len: 1 }, "does not exist"),
        (Kernel::Pool(params::Pool { stride_w: 0, ..pool }), "of 0 cannot be"),
        (Kernel::Pool(params::Pool { pad_left: usize::MAX, ..pool }), "cannot be"),
        (Kernel::Pool(params::Pool { out_w: 2, ..pool }), "needs 20"),
        (Kernel::Pad { top: 1, left: 0, value: None }, "of 0 cannot be"),
        (Kernel::Normalize { pixels: 1, order: vec![10], scale: WeightId(0), shift: WeightId(0) }, "needs 11"),
    ] {
        let error = alone(&spoilt(kernel.clone())).err().unwrap_or_else(|| panic!("{kernel:?} compiles"));
        assert!(error.to_string().contains(part), "{kernel:?}: {error}");
    }
    assert!(alone(&spoilt(Kernel::Pool(pool))).is_ok());
}

#[test]
fn targets_are_refused_with_a_reason() {
    let plan = small_net().plan;
    for (target, part) in [
        ("x86_64-pc-windows-msvc", "ELF"),
        ("wasm32-unknown-unknown", "wasm32"),
        ("nonsense", "nonsense"),
        ("x86_64-unknown-linux-gnu+mmx", "mmx"),
        ("aarch64_be-unknown-linux-gnu", "aarch64_be"),
    ] {
        let error = object(&plan, ObjectOptions { target: Some(target), self_contained: true }).expect_err(target);
        assert!(matches!(error, ClifError::Target { .. }), "{target}: {error}");
        let d = error.diagnostic();
        assert!(d.message.contains(part), "{target}: {}", d.message);
        assert!(d.help.is_some_and(|h| h.contains("aarch64-unknown-linux-gnu")));
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let mut net = alone(&small_net().plan).expect("compiles");
    let mut y = [0.0; 10];
    assert_eq!(net.input_shape(), [1, 9, 9, 3]);
    assert!(net.run(&[0.0; 242], &mut y).is_err());
    assert!(net.run(&[0.0; 243], &mut y[..9]).is_err());
    assert!(net.run(&[0.0; 243], &mut y).is_ok());
}
