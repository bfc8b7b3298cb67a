//! Sums, differences, products and quotients of two tensors of which either may have one row, column or channel for many.

use core::marker::PhantomData;
use core::ops::Range;

use super::activation::activate;
use super::{check_len, load_n, size, store_n};
use crate::isa::{Isa, Job, Simd};
use crate::params::{Activation, BinaryKind};

/// `y = act(f(a, b))`: `y` of `shape` (rows, columns, channels); along every axis each operand, given with its shape, is as long,
/// or one, which then stands for all. Panics where a length or a shape is another.
pub fn binary(
    isa: Isa,
    kind: BinaryKind,
    act: Activation,
    shape: [usize; 3],
    a: ([usize; 3], &[f32]),
    b: ([usize; 3], &[f32]),
    y: &mut [f32],
) {
    check_len("binary output", y.len(), size(shape));
    let strided = |what: &str, (of, x): ([usize; 3], &[f32])| {
        check_len(what, x.len(), size(of));
        assert!((0..3).all(|i| of[i] == shape[i] || of[i] == 1), "{what}: {of:?} for {shape:?}");
        Strided::new(x.as_ptr(), of, of[2])
    };
    let (a, b) = (strided("binary first operand", a), strided("binary second operand", b));
    let [rows, width, c] = shape;
    let y = Strided::new(y.as_mut_ptr(), shape, c);
    let band = Band { kind, act, rows: 0..rows, width, channels: 0..c, a, b, y };
    // SAFETY: the operands were checked to be as long as their shapes say, which fit the output's; `y` is borrowed alone.
    unsafe { run(isa, band) };
}

/// A tensor by its distances: 0 along an axis where one element stands for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strided<P> {
    first: P,
    row: usize,
    pixel: usize,
    /// One channel stands for all.
    alone: bool,
}

impl<P> Strided<P> {
    /// Of `shape`, its pixels `pitch` floats apart.
    #[inline(always)]
    pub(crate) fn new(first: P, [h, w, c]: [usize; 3], pitch: usize) -> Self {
        Self { first, row: if h == 1 { 0 } else { w * pitch }, pixel: if w == 1 { 0 } else { pitch }, alone: c == 1 }
    }
}

/// Some rows and channels of the result.
#[derive(Debug, Clone)]
pub(crate) struct Band {
    /// What is computed.
    pub kind: BinaryKind,
    /// The activation.
    pub act: Activation,
    /// Rows, counted as the operands count them.
    pub rows: Range<usize>,
    /// Pixels of a row.
    pub width: usize,
    /// Channels.
    pub channels: Range<usize>,
    /// First operand, its row 0.
    pub a: Strided<*const f32>,
    /// Second operand.
    pub b: Strided<*const f32>,
    /// The result.
    pub y: Strided<*mut f32>,
}

/// [`run`]
pub(crate) type Kernel = unsafe fn(Isa, Band);

/// The kernel.
///
/// # Safety
/// The channels can be read of every pixel of the operands' rows, and written of every pixel of `y`, to which nothing else
/// refers meanwhile, except `a` where it is `y` itself.
pub(crate) unsafe fn run(isa: Isa, band: Band) {
    isa.run(Call(band));
}

/// [`BinaryKind`] as a type, so that a loop over vectors has no branch in it.
trait Operation {
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V;
}

struct Add;
struct Sub;
struct Mul;
struct Div;

impl Operation for Add {
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

impl Operation for Sub {
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.sub(a, b)
    }
}

impl Operation for Mul {
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}

impl Operation for Div {
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.div(a, b)
    }
}

struct Call(Band);

impl Job for Call {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.0.kind {
            BinaryKind::Add => self.operation::<S, Add>(s),
            BinaryKind::Sub => self.operation::<S, Sub>(s),
            BinaryKind::Mul => self.operation::<S, Mul>(s),
            BinaryKind::Div => self.operation::<S, Div>(s),
        }
    }
}

impl Call {
    #[inline(always)]
    fn operation<S: Simd, F: Operation>(self, s: S) {
        match (self.0.a.alone, self.0.b.alone) {
            (false, false) => s.outline(With::<F, false, false>(self.0, PhantomData)),
            (true, false) => s.outline(With::<F, true, false>(self.0, PhantomData)),
            (false, true) => s.outline(With::<F, false, true>(self.0, PhantomData)),
            (true, true) => s.outline(With::<F, true, true>(self.0, PhantomData)),
        }
    }
}

/// A band whose operation is a type. `A` and `B`: one channel of that operand stands for all.
struct With<F, const A: bool, const B: bool>(Band, PhantomData<F>);

impl<F: Operation, const A: bool, const B: bool> Job for With<F, A, B> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Band { a, b, y, .. } = self.0;
        let Range { start, end } = self.0.channels.clone();
        for row in self.0.rows.clone() {
            for pixel in 0..self.0.width {
                let a = a.first.wrapping_add(row * a.row + pixel * a.pixel);
                let b = b.first.wrapping_add(row * b.row + pixel * b.pixel);
                let y = y.first.wrapping_add(row * y.row + pixel * y.pixel);
                let mut channel = start;
                while channel < end {
                    let n = S::LANES.min(end - channel);
                    // SAFETY: the operands and the result have these channels of this pixel, or one for all, as [`run`] was
                    // promised.
                    unsafe {
                        let a = if A { s.splat(*a) } else { load_n(s, a.add(channel), n) };
                        let b = if B { s.splat(*b) } else { load_n(s, b.add(channel), n) };
                        let mut v = [[F::apply(s, a, b)]];
                        activate(s, self.0.act, &mut v);
                        store_n(s, v[0][0], y.add(channel), n);
                    }
                    channel += S::LANES;
                }
            }
        }
    }
}
