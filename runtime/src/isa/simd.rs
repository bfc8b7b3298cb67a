//! The eight-lane vector that every kernel is written in.

use super::Job;

/// Lanes of a vector, on every instruction set.
pub(crate) const LANES: usize = 8;

/// A token of an instruction set with its vector operations. All methods are `#[inline(always)]` and take the token by value, so
/// that holding one is the proof that the instructions exist.
pub(crate) trait Simd: Copy {
    /// The most pixel rows of a register tile of two vectors: `2 * ROWS` sums, two weights and one broadcast must fit the
    /// register file.
    const ROWS: usize;

    /// Eight f32.
    type V: Copy;

    /// Runs `job` as a function of its own, once a program and instruction set however often it is called.
    fn outline<J: Job>(self, job: J);

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Reads eight elements, at any alignment.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Writes eight elements, at any alignment.
    fn store(self, v: Self::V, y: &mut [f32; LANES]);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set has it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` where either is NaN: `max(bound, x)` lets a NaN in `x` through.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a < b ? a : b`, so `b` where either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The lanes of `b` where it is NaN, those of `a` elsewhere.
    fn or_nan(self, a: Self::V, b: Self::V) -> Self::V;
    /// `2^n` for lanes that hold `n + 1.5 * 2^23` with an integer `n` of -126..=127 (the low bits of such a float are `n`).
    fn pow2(self, v: Self::V) -> Self::V;

    /// Reads up to eight elements; the lanes beyond them are zero.
    #[inline(always)]
    fn load_part(self, x: &[f32]) -> Self::V {
        let mut lanes = [0.0; LANES];
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = *x;
        }
        self.load(&lanes)
    }

    /// Writes the first `y.len()` lanes, at most eight.
    #[inline(always)]
    fn store_part(self, v: Self::V, y: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        for (y, lane) in y.iter_mut().zip(lanes) {
            *y = lane;
        }
    }

    /// Reads `x[at..at + 8]` without a check.
    ///
    /// # Safety
    /// `at + 8 <= x.len()`
    #[inline(always)]
    unsafe fn load_at(self, x: &[f32], at: usize) -> Self::V {
        debug_assert!(at + LANES <= x.len(), "load at {at} of {}", x.len());
        // SAFETY: the caller keeps `at + 8 <= x.len()`; an array of f32 has the alignment of f32.
        self.load(unsafe { &*x.as_ptr().add(at).cast::<[f32; LANES]>() })
    }

    /// Writes `y[at..at + 8]` without a check.
    ///
    /// # Safety
    /// `at + 8 <= y.len()`
    #[inline(always)]
    unsafe fn store_at(self, v: Self::V, y: &mut [f32], at: usize) {
        debug_assert!(at + LANES <= y.len(), "store at {at} of {}", y.len());
        // SAFETY: the caller keeps `at + 8 <= y.len()`; an array of f32 has the alignment of f32.
        self.store(v, unsafe { &mut *y.as_mut_ptr().add(at).cast::<[f32; LANES]>() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::Isa;

    /// Every operation lane by lane, NaN and signed zero included.
    struct Check;

    impl Job for Check {
        fn run<S: Simd>(self, s: S) {
            let a = [1.5, -2.0, 0.0, -0.0, f32::NAN, 3.0, f32::INFINITY, 1e-40];
            let b = [0.5, 4.0, -0.0, 0.0, 1.0, f32::NAN, 2.0, 3.0];
            let c = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
            let lanes = |v: S::V| {
                let mut y = [0.0; LANES];
                s.store(v, &mut y);
                y
            };
            let (va, vb, vc) = (s.load(&a), s.load(&b), s.load(&c));
            let same = |got: [f32; LANES], want: &dyn Fn(usize) -> f32, what: &str| {
                for (i, g) in got.into_iter().enumerate() {
                    let w = want(i);
                    assert!(g.to_bits() == w.to_bits() || g.is_nan() && w.is_nan(), "{what} lane {i}: {g} not {w}");
                }
            };
            same(lanes(s.splat(2.5)), &|_| 2.5, "splat");
            same(lanes(s.add(va, vb)), &|i| a[i] + b[i], "add");
            same(lanes(s.sub(va, vb)), &|i| a[i] - b[i], "sub");
            same(lanes(s.mul(va, vb)), &|i| a[i] * b[i], "mul");
            same(lanes(s.div(va, vc)), &|i| a[i] / c[i], "div");
            same(lanes(s.max(va, vb)), &|i| if a[i] > b[i] { a[i] } else { b[i] }, "max");
            same(lanes(s.min(va, vb)), &|i| if a[i] < b[i] { a[i] } else { b[i] }, "min");
            same(lanes(s.or_nan(vc, vb)), &|i| if b[i].is_nan() { b[i] } else { c[i] }, "or_nan");
            for i in 0..LANES {
                let got = lanes(s.mul_add(va, vb, vc))[i];
                let (once, twice) = (a[i].mul_add(b[i], c[i]), a[i] * b[i] + c[i]);
                assert!(got == once || got == twice || got.is_nan() && once.is_nan(), "mul_add lane {i}: {got}");
            }
            for n in -126..=127 {
                same(lanes(s.pow2(s.splat(n as f32 + 12_582_912.0))), &|_| f64::from(n).exp2() as f32, "pow2");
            }
            for n in 0..=LANES {
                same(lanes(s.load_part(&c[..n])), &|i| if i < n { c[i] } else { 0.0 }, "load_part");
                let mut y = [9.0; LANES];
                s.store_part(vc, &mut y[..n]);
                same(y, &|i| if i < n { c[i] } else { 9.0 }, "store_part");
            }
        }
    }

    #[test]
    fn operations_are_those_of_f32() {
        Isa::available().for_each(|isa| isa.run(Check));
    }
}
