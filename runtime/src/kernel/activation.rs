//! Activations on vectors, and the exponential that some of them and softmax need.

use crate::isa::{Job, Simd};
use crate::params::Activation;

/// An activation as a type, so that a loop over vectors has no branch in it.
pub(super) trait Act: Copy {
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V;
}

#[derive(Clone, Copy)]
pub(super) struct Identity;
#[derive(Clone, Copy)]
pub(super) struct Relu;
#[derive(Clone, Copy)]
pub(super) struct Relu6;
#[derive(Clone, Copy)]
pub(super) struct HSwish;
#[derive(Clone, Copy)]
pub(super) struct HSigmoid;
#[derive(Clone, Copy)]
pub(super) struct Sigmoid;
#[derive(Clone, Copy)]
pub(super) struct Tanh;
#[derive(Clone, Copy)]
pub(super) struct Silu;
/// The slope.
#[derive(Clone, Copy)]
pub(super) struct LeakyRelu(pub f32);
/// The least and the most.
#[derive(Clone, Copy)]
pub(super) struct Clip(pub f32, pub f32);
/// Factor and addend.
#[derive(Clone, Copy)]
pub(super) struct HardSigmoid(pub f32, pub f32);

/// Calls `$then` with the type of the activation `$act` in `$a`.
macro_rules! with_act {
    ($act:expr, $a:ident => $then:expr) => {
        match $act {
            $crate::params::Activation::None => {
                let $a = $crate::kernel::activation::Identity;
                $then
            }
            $crate::params::Activation::Relu => {
                let $a = $crate::kernel::activation::Relu;
                $then
            }
            $crate::params::Activation::Relu6 => {
                let $a = $crate::kernel::activation::Relu6;
                $then
            }
            $crate::params::Activation::HSwish => {
                let $a = $crate::kernel::activation::HSwish;
                $then
            }
            $crate::params::Activation::HSigmoid => {
                let $a = $crate::kernel::activation::HSigmoid;
                $then
            }
            $crate::params::Activation::Sigmoid => {
                let $a = $crate::kernel::activation::Sigmoid;
                $then
            }
            $crate::params::Activation::Tanh => {
                let $a = $crate::kernel::activation::Tanh;
                $then
            }
            $crate::params::Activation::Silu => {
                let $a = $crate::kernel::activation::Silu;
                $then
            }
            $crate::params::Activation::LeakyRelu(slope) => {
                let $a = $crate::kernel::activation::LeakyRelu(slope.get());
                $then
            }
            $crate::params::Activation::Clip(least, most) => {
                let $a = $crate::kernel::activation::Clip(least.get(), most.get());
                $then
            }
            $crate::params::Activation::HardSigmoid(alpha, beta) => {
                let $a = $crate::kernel::activation::HardSigmoid(alpha.get(), beta.get());
                $then
            }
        }
    };
}
pub(super) use with_act;

impl Act for Identity {
    #[inline(always)]
    fn apply<S: Simd>(self, _: S, x: S::V) -> S::V {
        x
    }
}

impl Act for Relu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }
}

impl Act for Relu6 {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.min(s.splat(6.0), s.max(s.splat(0.0), x))
    }
}

impl Act for HSigmoid {
    /// `clamp(x / 6 + 1 / 2, 0, 1)`: absolute error below 2^-23.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let linear = s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5));
        s.min(s.splat(1.0), s.max(s.splat(0.0), linear))
    }
}

impl Act for HSwish {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(x, HSigmoid.apply(s, x))
    }
}

impl Act for Sigmoid {
    /// Within 4 units in the last place for `x > -87`; below it stays at about 1e-38 (the exact value is smaller still).
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let one = s.splat(1.0);
        s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
    }
}

impl Act for Tanh {
    /// A ratio of polynomials in `x`, the minimax one of Eigen's `ptanh_float`; within 8 units in the last place where the result
    /// is a normal number. Beyond the clamp it stays 5 units from one.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        const ABOVE: [f32; 7] =
            [-2.760_768_5e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_524_6e-3];
        const BELOW: [f32; 4] = [1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3];
        let x = s.min(s.splat(7.905_311), s.max(s.splat(-7.905_311), x));
        let square = s.mul(x, x);
        let polynomial = |coefficients: &[f32]| {
            let mut p = s.splat(coefficients[0]);
            for &c in &coefficients[1..] {
                p = s.mul_add(p, square, s.splat(c));
            }
            p
        };
        s.div(s.mul(x, polynomial(&ABOVE)), polynomial(&BELOW))
    }
}

impl Act for Silu {
    /// Below -87 within 1e-35 of the exact value, so that minus infinity gives next to nothing.
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.mul(s.max(s.splat(-88.0), x), Sigmoid.apply(s, x))
    }
}

impl Act for LeakyRelu {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.mul_add(s.min(zero, x), s.splat(self.0), s.max(zero, x))
    }
}

impl Act for Clip {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        s.min(s.splat(self.1), s.max(s.splat(self.0), x))
    }
}

impl Act for HardSigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        let linear = s.mul_add(x, s.splat(self.0), s.splat(self.1));
        s.min(s.splat(1.0), s.max(s.splat(0.0), linear))
    }
}

/// `e^x`, clamped to `x` in -87..=88 where the result is a normal number; within 2 units in the last place. NaN stays NaN.
///
/// `2^n * e^r` with `r = x - n ln 2` in two steps (the first product is exact, for its constant has nine bits) and the
/// polynomial of Cephes' `expf` (S. Moshier).
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, x: S::V) -> S::V {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the integer nearest to x in the low bits
    let x = s.min(s.splat(88.0), s.max(s.splat(-87.0), x));
    let rounded = s.mul_add(x, s.splat(core::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(rounded, s.splat(ROUND));
    let r = s.mul_add(n, s.splat(-355.0 / 512.0), x);
    let r = s.mul_add(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.mul_add(p, r, s.splat(c));
    }
    let e = s.add(s.mul_add(p, s.mul(r, r), r), s.splat(1.0));
    s.mul(e, s.pow2(rounded))
}

/// Applies the activation to every vector of a tile.
#[inline(always)]
pub(super) fn activate<S: Simd, const ROWS: usize, const COLUMNS: usize>(
    s: S,
    act: Activation,
    tile: &mut [[S::V; COLUMNS]; ROWS],
) {
    match act {
        Activation::None => {}
        Activation::Relu => each(s, Relu, tile),
        Activation::Relu6 => each(s, Relu6, tile),
        Activation::HSwish => each(s, HSwish, tile),
        Activation::HSigmoid => each(s, HSigmoid, tile),
        Activation::Sigmoid
        | Activation::Tanh
        | Activation::Silu
        | Activation::LeakyRelu(_)
        | Activation::Clip(..)
        | Activation::HardSigmoid(..) => {
            // Long or rare: one copy of its code for all tiles, which goes through memory. A copy of the tile, so that only this
            // branch keeps one there.
            let mut copy = *tile;
            // SAFETY: `copy` is `ROWS * COLUMNS` vectors without gaps, and nothing else refers to it meanwhile.
            s.outline(unsafe { InMemory::new(act, copy.as_mut_ptr().cast(), ROWS * COLUMNS) });
            *tile = copy;
        }
    }
}

/// An activation of vectors in memory.
struct InMemory {
    act: Activation,
    first: *mut f32,
    vectors: usize,
}

impl InMemory {
    /// # Safety
    /// `vectors` vectors, of the instruction set that runs the job, can be read and written from `first` on.
    unsafe fn new(act: Activation, first: *mut f32, vectors: usize) -> Self {
        Self { act, first, vectors }
    }

    #[inline(always)]
    fn each<S: Simd>(self, s: S, act: impl Act) {
        for i in 0..self.vectors {
            // SAFETY: one of the vectors that `new` was promised.
            unsafe {
                let v = self.first.add(i * S::LANES);
                s.store(act.apply(s, s.load(v)), v);
            }
        }
    }
}

impl Job for InMemory {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        with_act!(self.act, act => self.each(s, act));
    }
}

#[inline(always)]
fn each<S: Simd, A: Act, const ROWS: usize, const COLUMNS: usize>(s: S, act: A, tile: &mut [[S::V; COLUMNS]; ROWS]) {
    for row in tile {
        for v in row {
            *v = act.apply(s, *v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::isa::simd::MOST_LANES;
    use crate::params::Real;
    use crate::reference;

    /// Units in the last place between `got` and the exact value.
    fn ulps(got: f32, want: f64) -> f64 {
        let ulp = f64::from(f32::from_bits((want as f32).abs().to_bits() + 1)) - f64::from((want as f32).abs());
        ((f64::from(got) - want) / ulp).abs()
    }

    struct Exp;

    impl Job for Exp {
        fn run<S: Simd>(self, s: S) {
            let lane = |v: S::V| {
                let mut y = [0.0; MOST_LANES];
                // SAFETY: no instruction set has more lanes than the array has elements.
                unsafe { s.store(v, y.as_mut_ptr()) };
                y[0]
            };
            let (mut worst_exp, mut worst_sigmoid, mut worst_tanh, mut worst_silu) = (0f64, 0f64, 0f64, 0f64);
            let points = if cfg!(miri) { 400 } else { 400_000 };
            for i in 0..points {
                let x = -86.9 + i as f32 * (174.8 / points as f32);
                worst_exp = worst_exp.max(ulps(lane(exp(s, s.splat(x))), reference::exp(f64::from(x))));
                let sigmoid = lane(Sigmoid.apply(s, s.splat(x)));
                worst_sigmoid = worst_sigmoid.max(ulps(sigmoid, reference::activate(Activation::Sigmoid, f64::from(x))));
                let silu = lane(Silu.apply(s, s.splat(x)));
                worst_silu = worst_silu.max(ulps(silu, reference::activate(Activation::Silu, f64::from(x))));
                let small = x / 10.0;
                worst_tanh = worst_tanh.max(ulps(lane(Tanh.apply(s, s.splat(small))), reference::tanh(f64::from(small))));
            }
            assert!(worst_exp <= 2.0, "exp is {worst_exp} units off");
            assert!(worst_sigmoid <= 4.0, "sigmoid is {worst_sigmoid} units off");
            assert!(worst_silu <= 6.0, "silu is {worst_silu} units off");
            assert!(worst_tanh <= 8.0, "tanh is {worst_tanh} units off");
            for (x, y) in [(f32::INFINITY, 1.0), (f32::NEG_INFINITY, -1.0)] {
                assert!((lane(Tanh.apply(s, s.splat(x))) - y).abs() <= 3.0 * f32::EPSILON);
            }
            assert!(lane(Silu.apply(s, s.splat(f32::NEG_INFINITY))).abs() < 1e-35);
            for x in [0.0, -0.0] {
                assert_eq!(lane(exp(s, s.splat(x))), 1.0);
            }
            assert!(lane(exp(s, s.splat(f32::NAN))).is_nan());
            assert_eq!(lane(Sigmoid.apply(s, s.splat(f32::INFINITY))), 1.0);
            let least = lane(Sigmoid.apply(s, s.splat(f32::NEG_INFINITY)));
            assert!((0.0..1e-37).contains(&least), "{least}");
        }
    }

    /// The activations of a tile that go through memory are those of its vectors.
    struct Tile;

    impl Job for Tile {
        fn run<S: Simd>(self, s: S) {
            let start: [[S::V; 7]; 2] = core::array::from_fn(|r| core::array::from_fn(|c| s.splat(r as f32 - c as f32)));
            let [a, b] = [0.25, 0.75].map(Real::new);
            let all = [Activation::Sigmoid, Activation::Tanh, Activation::LeakyRelu(a), Activation::Clip(a, b)];
            for act in all {
                let mut tile = start;
                activate(s, act, &mut tile);
                for (got, x) in tile.iter().flatten().zip(start.iter().flatten()) {
                    let want = with_act!(act, act => act.apply(s, *x));
                    let (mut a, mut b) = ([0.0; MOST_LANES], [0.0; MOST_LANES]);
                    // SAFETY: no instruction set has more lanes than the arrays have elements.
                    unsafe {
                        s.store(*got, a.as_mut_ptr());
                        s.store(want, b.as_mut_ptr());
                    }
                    assert_eq!(a, b, "{act}");
                }
            }
        }
    }

    #[test]
    fn tiles_through_memory() {
        Isa::available().for_each(|isa| isa.run(Tile));
    }

    #[test]
    fn exponential_keeps_its_error() {
        Isa::available().for_each(|isa| isa.run(Exp));
    }
}
