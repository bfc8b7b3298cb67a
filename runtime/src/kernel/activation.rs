//! Activations on vectors, and the exponential that two of them and softmax need.

use crate::isa::{Job, Simd};
use crate::params::Activation;

/// An activation as a type, so that a loop over vectors has no branch in it.
pub(super) trait Act {
    fn apply<S: Simd>(s: S, x: S::V) -> S::V;
}

pub(super) struct Identity;
pub(super) struct Relu;
pub(super) struct Relu6;
pub(super) struct HSwish;
pub(super) struct HSigmoid;
pub(super) struct Sigmoid;

impl Act for Identity {
    #[inline(always)]
    fn apply<S: Simd>(_: S, x: S::V) -> S::V {
        x
    }
}

impl Act for Relu {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        s.max(s.splat(0.0), x)
    }
}

impl Act for Relu6 {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        s.min(s.splat(6.0), s.max(s.splat(0.0), x))
    }
}

impl Act for HSigmoid {
    /// `clamp(x / 6 + 1 / 2, 0, 1)`: absolute error below 2^-23.
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        let linear = s.mul_add(x, s.splat(1.0 / 6.0), s.splat(0.5));
        s.min(s.splat(1.0), s.max(s.splat(0.0), linear))
    }
}

impl Act for HSwish {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        s.mul(x, HSigmoid::apply(s, x))
    }
}

impl Act for Sigmoid {
    /// Within 4 units in the last place for `x > -87`; below it stays at about 1e-38 (the exact value is smaller still).
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: S::V) -> S::V {
        let one = s.splat(1.0);
        s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), x))))
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
        Activation::Relu => each::<S, Relu, ROWS, COLUMNS>(s, tile),
        Activation::Relu6 => each::<S, Relu6, ROWS, COLUMNS>(s, tile),
        Activation::HSwish => each::<S, HSwish, ROWS, COLUMNS>(s, tile),
        Activation::HSigmoid => each::<S, HSigmoid, ROWS, COLUMNS>(s, tile),
        Activation::Sigmoid => {
            // Long and rare: one copy of its code for all tiles, which goes through memory. A copy of the tile, so that only this
            // branch keeps one there.
            let mut copy = *tile;
            // SAFETY: `copy` is `ROWS * COLUMNS` vectors without gaps, and nothing else refers to it meanwhile.
            s.outline(unsafe { InMemory::new(copy.as_mut_ptr().cast(), ROWS * COLUMNS) });
            *tile = copy;
        }
    }
}

/// The sigmoid of vectors in memory.
struct InMemory {
    first: *mut f32,
    vectors: usize,
}

impl InMemory {
    /// # Safety
    /// `vectors` vectors, of the instruction set that runs the job, can be read and written from `first` on.
    unsafe fn new(first: *mut f32, vectors: usize) -> Self {
        Self { first, vectors }
    }
}

impl Job for InMemory {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for i in 0..self.vectors {
            // SAFETY: one of the vectors that `new` was promised.
            unsafe {
                let v = self.first.add(i * S::LANES);
                s.store(Sigmoid::apply(s, s.load(v)), v);
            }
        }
    }
}

#[inline(always)]
fn each<S: Simd, A: Act, const ROWS: usize, const COLUMNS: usize>(s: S, tile: &mut [[S::V; COLUMNS]; ROWS]) {
    for row in tile {
        for v in row {
            *v = A::apply(s, *v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;
    use crate::isa::simd::MOST_LANES;
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
            let (mut worst_exp, mut worst_sigmoid) = (0f64, 0f64);
            for i in 0..400_000 {
                let x = -86.9 + i as f32 * (174.8 / 400_000.0);
                worst_exp = worst_exp.max(ulps(lane(exp(s, s.splat(x))), reference::exp(f64::from(x))));
                let sigmoid = lane(Sigmoid::apply(s, s.splat(x)));
                worst_sigmoid = worst_sigmoid.max(ulps(sigmoid, reference::activate(Activation::Sigmoid, f64::from(x))));
            }
            assert!(worst_exp <= 2.0, "exp is {worst_exp} units off");
            assert!(worst_sigmoid <= 4.0, "sigmoid is {worst_sigmoid} units off");
            for x in [0.0, -0.0] {
                assert_eq!(lane(exp(s, s.splat(x))), 1.0);
            }
            assert!(lane(exp(s, s.splat(f32::NAN))).is_nan());
            assert_eq!(lane(Sigmoid::apply(s, s.splat(f32::INFINITY))), 1.0);
            let least = lane(Sigmoid::apply(s, s.splat(f32::NEG_INFINITY)));
            assert!((0.0..1e-37).contains(&least), "{least}");
        }
    }

    /// The sigmoid of a tile, which goes through memory, is that of its vectors.
    struct Tile;

    impl Job for Tile {
        fn run<S: Simd>(self, s: S) {
            let mut tile: [[S::V; 7]; 2] = core::array::from_fn(|r| core::array::from_fn(|c| s.splat(r as f32 - c as f32)));
            let want = tile.map(|row| row.map(|v| Sigmoid::apply(s, v)));
            activate(s, Activation::Sigmoid, &mut tile);
            for (got, want) in tile.iter().flatten().zip(want.iter().flatten()) {
                let (mut a, mut b) = ([0.0; MOST_LANES], [0.0; MOST_LANES]);
                // SAFETY: no instruction set has more lanes than the arrays have elements.
                unsafe {
                    s.store(*got, a.as_mut_ptr());
                    s.store(*want, b.as_mut_ptr());
                }
                assert_eq!(a, b);
            }
        }
    }

    #[test]
    fn sigmoid_of_a_tile() {
        Isa::available().for_each(|isa| isa.run(Tile));
    }

    #[test]
    fn exponential_keeps_its_error() {
        Isa::available().for_each(|isa| isa.run(Exp));
    }
}
