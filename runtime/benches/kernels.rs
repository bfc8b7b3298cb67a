//! Time of the kernels by shape class, and of MobileNet V1 1.0 at 224 x 224 as the sum of its layers.
//!
//! `cargo bench -p mnc-runtime`; the counter is floating-point operations a second (two a multiply-add). `MNC_ISA` chooses
//! the instruction set; depthwise layers run on every one. `peak` is what independent chains of multiply-adds reach: the limit
//! of one core.

use std::fmt;
use std::hint::black_box;
use std::ops::{Deref, DerefMut};

use divan::Bencher;
use divan::counter::ItemsCount;
use mnc_runtime::isa::Isa;
use mnc_runtime::kernel::{self, Residual};
use mnc_runtime::pack;
use mnc_runtime::params::{Activation, Conv, Depthwise, Method, Pointwise};

fn main() {
    divan::main();
}

/// Floats that start at a cache line, as those of an arena do.
struct Floats {
    all: Vec<f32>,
    start: usize,
    len: usize,
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.all[self.start..][..self.len]
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.start..][..self.len]
    }
}

fn data(len: usize) -> Floats {
    let mut all = vec![0.0; len + 16];
    let start = all.as_ptr().align_offset(64);
    for (i, v) in all[start..].iter_mut().enumerate() {
        *v = ((i * 7919) % 1000) as f32 / 500.0 - 1.0;
    }
    Floats { all, start, len }
}

/// A layer with operands of its own.
struct Layer<P> {
    p: P,
    x: Floats,
    w: Floats,
    bias: Floats,
    y: Floats,
    flops: usize,
}

fn pointwise(h: usize, in_c: usize, out_c: usize) -> Layer<Pointwise> {
    let p = Pointwise { h, w: h, in_c, out_c, act: Activation::Relu6, pool: false, method: Method::Direct };
    Layer {
        p,
        x: data(h * h * in_c),
        w: data(pack::panels_len(in_c, out_c)),
        bias: data(pack::bias_len(out_c)),
        y: data(h * h * out_c),
        flops: 2 * h * h * in_c * out_c,
    }
}

fn depthwise(in_h: usize, c: usize, k: usize, stride: usize) -> Layer<Depthwise> {
    let out = in_h.div_ceil(stride);
    let p = Depthwise {
        in_h,
        in_w: in_h,
        in_c: c,
        multiplier: 1,
        out_h: out,
        out_w: out,
        kernel_h: k,
        kernel_w: k,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: k / 2,
        pad_left: k / 2,
        act: Activation::Relu6,
    };
    Layer {
        p,
        x: data(in_h * in_h * c),
        w: data(pack::depthwise_len(k * k, c)),
        bias: data(pack::bias_len(c)),
        y: data(out * out * c),
        flops: 2 * out * out * c * k * k,
    }
}

fn conv(in_h: usize, in_c: usize, out_c: usize, stride: usize) -> Layer<Conv> {
    let out = in_h.div_ceil(stride);
    let p = Conv {
        in_h,
        in_w: in_h,
        in_c,
        out_h: out,
        out_w: out,
        out_c,
        groups: 1,
        kernel_h: 3,
        kernel_w: 3,
        stride_h: stride,
        stride_w: stride,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 1,
        pad_left: 1,
        act: Activation::Relu6,
        method: Method::Direct,
    };
    Layer {
        p,
        x: data(in_h * in_h * in_c),
        w: data(pack::panels_len(9 * in_c, out_c)),
        bias: data(pack::bias_len(out_c)),
        y: data(out * out * out_c),
        flops: 2 * out * out * out_c * 9 * in_c,
    }
}

impl Layer<Pointwise> {
    fn run(&mut self, isa: Isa) {
        kernel::pointwise(isa, &self.p, 0..self.p.h, &self.x, &self.w, &self.bias, Residual::None, &mut self.y);
    }
}

impl Layer<Depthwise> {
    fn run(&mut self, isa: Isa) {
        kernel::depthwise(isa, &self.p, 0..self.p.out_h, &self.x, &self.w, &self.bias, None, &mut self.y);
    }
}

impl Layer<Conv> {
    fn run(&mut self, isa: Isa) {
        kernel::conv(isa, &self.p, 0..self.p.out_h, &self.x, &self.w, &self.bias, None, Residual::None, &mut self.y);
    }
}

#[divan::bench(args = [(112, 32, 64), (56, 128, 128), (28, 256, 256), (14, 512, 512), (7, 1024, 1024), (56, 24, 144), (56, 144, 24), (1, 1024, 1000)])]
fn pointwise_layers(bencher: Bencher<'_, '_>, (h, in_c, out_c): (usize, usize, usize)) {
    let (isa, mut layer) = (Isa::detect(), pointwise(h, in_c, out_c));
    bencher.counter(ItemsCount::new(layer.flops)).bench_local(|| layer.run(isa));
}

/// The same by Strassen's method, counted as the products of the direct sum: more than the peak is possible.
#[divan::bench(args = [(56, 128, 128), (28, 256, 256), (14, 512, 512)])]
fn strassen_layers(bencher: Bencher<'_, '_>, (h, in_c, out_c): (usize, usize, usize)) {
    let (isa, direct) = (Isa::detect(), pointwise(h, in_c, out_c));
    let p = Pointwise { method: Method::Strassen, ..direct.p };
    let mut layer = Layer { p, w: data(pack::strassen_len(in_c, out_c)), ..direct };
    bencher.counter(ItemsCount::new(layer.flops)).bench_local(|| layer.run(isa));
}

/// A shape on an instruction set: input rows and columns, channels, window, stride.
struct Case(Isa, (usize, usize, usize, usize));

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case(isa, (h, c, k, stride)) = self;
        write!(f, "{} {h}x{h}x{c} {k}x{k} stride {stride}", isa.name())
    }
}

/// Where the channels are a power of two, pixels share a few places in the first-level cache; sixteen channels more show what
/// a pitch between the pixels brings.
fn cases() -> Vec<Case> {
    let stride1 = [(112, 32), (56, 128), (56, 144), (28, 192), (28, 256), (28, 272), (14, 384), (14, 512), (14, 528), (14, 576)];
    let late1 = [(7, 960), (7, 1024), (7, 1040)];
    let stride2 = [(112, 64), (56, 128), (56, 144), (28, 256), (28, 272), (14, 512), (14, 528)];
    let mut shapes: Vec<_> = stride1.into_iter().chain(late1).map(|(h, c)| (h, c, 3, 1)).collect();
    shapes.extend(stride2.map(|(h, c)| (h, c, 3, 2)));
    shapes.extend([(28, 120, 5, 1), (14, 480, 5, 1), (14, 672, 5, 1), (7, 960, 5, 1), (28, 120, 5, 2), (14, 672, 5, 2)]);
    Isa::available().flat_map(|isa| shapes.iter().map(move |&shape| Case(isa, shape)).collect::<Vec<_>>()).collect()
}

#[divan::bench(args = cases())]
fn depthwise_layers(bencher: Bencher<'_, '_>, Case(isa, (in_h, c, k, stride)): &Case) {
    let mut layer = depthwise(*in_h, *c, *k, *stride);
    bencher.counter(ItemsCount::new(layer.flops)).bench_local(|| layer.run(*isa));
}

#[divan::bench(args = [(224, 3, 32, 2), (56, 64, 64, 1), (14, 256, 256, 1), (7, 512, 512, 1)])]
fn conv_layers(bencher: Bencher<'_, '_>, (in_h, in_c, out_c, stride): (usize, usize, usize, usize)) {
    let (isa, mut layer) = (Isa::detect(), conv(in_h, in_c, out_c, stride));
    bencher.counter(ItemsCount::new(layer.flops)).bench_local(|| layer.run(isa));
}

/// All layers of MobileNet V1, each on operands of its own.
#[divan::bench]
fn mobilenet_v1(bencher: Bencher<'_, '_>) {
    const BLOCKS: [(usize, usize, usize, usize); 13] = [
        (112, 32, 64, 1),
        (112, 64, 128, 2),
        (56, 128, 128, 1),
        (56, 128, 256, 2),
        (28, 256, 256, 1),
        (28, 256, 512, 2),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 512, 1),
        (14, 512, 1024, 2),
        (7, 1024, 1024, 1),
    ];
    let isa = Isa::detect();
    let mut stem = conv(224, 3, 32, 2);
    let mut blocks: Vec<_> = BLOCKS
        .iter()
        .map(|&(h, in_c, out_c, stride)| (depthwise(h, in_c, 3, stride), pointwise(h.div_ceil(stride), in_c, out_c)))
        .collect();
    let mut head = pointwise(1, 1024, 1000);
    let flops = stem.flops + head.flops + blocks.iter().map(|(d, p)| d.flops + p.flops).sum::<usize>();
    bencher.counter(ItemsCount::new(flops)).bench_local(|| {
        stem.run(isa);
        for (d, p) in &mut blocks {
            d.run(isa);
            p.run(isa);
        }
        head.run(isa);
    });
}

/// The limit of one core on AVX2.
#[cfg(target_arch = "x86_64")]
#[divan::bench]
fn peak(bencher: Bencher<'_, '_>) {
    const STEPS: usize = 10_000;
    if Isa::avx2().is_none() {
        return;
    }
    bencher.counter(ItemsCount::new(STEPS * 12 * 16)).bench_local(|| {
        // SAFETY: the CPU has AVX2 and FMA, as asked above.
        black_box(unsafe { chains(STEPS, black_box(0.5)) })
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn chains(steps: usize, x: f32) -> f32 {
    use core::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (a, b) = (_mm256_set1_ps(x), _mm256_set1_ps(0.25));
    let mut acc = [a; 12];
    for _ in 0..steps {
        for v in &mut acc {
            *v = _mm256_fmadd_ps(*v, a, b);
        }
    }
    _mm256_cvtss_f32(acc.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).unwrap_or(a))
}
