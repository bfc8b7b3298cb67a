//! Portable vectors: eight floats that the compiler packs into whatever registers the target's baseline has.

use super::Job;
use super::simd::Simd;

/// No proof needed.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

const LANES: usize = 8;

/// Runs `job` with the target's baseline instructions.
#[inline(always)]
pub(super) fn run<J: Job>(job: J) {
    job.run(Scalar);
}

#[inline(never)]
fn run_apart<J: Job>(job: J) {
    job.run(Scalar);
}

/// Applies `f` lane by lane.
#[inline(always)]
fn lanes(f: impl Fn(usize) -> f32) -> [f32; LANES] {
    [f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)]
}

impl Simd for Scalar {
    const LANES: usize = LANES;
    /// Four 128-bit registers a row: sixteen registers hold two rows, thirty-two hold six.
    const ROWS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 4 };
    const NARROW_ROWS: usize = 4;
    /// With few registers a tile and its inputs do not fit.
    const DEPTHWISE: (usize, usize) = (1, 1);
    const MASKS: bool = false;

    type V = [f32; LANES];

    #[inline(always)]
    fn outline<J: Job>(self, job: J) {
        run_apart(job);
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> Self::V {
        // SAFETY: the caller has eight floats at `x`; an array of f32 has the alignment of f32.
        unsafe { *x.cast::<[f32; LANES]>() }
    }
    #[inline(always)]
    unsafe fn store(self, v: Self::V, y: *mut f32) {
        // SAFETY: the caller has room for eight floats at `y`; an array of f32 has the alignment of f32.
        unsafe { *y.cast::<[f32; LANES]>() = v };
    }
    #[inline(always)]
    unsafe fn load_part(self, x: *const f32, n: usize) -> Self::V {
        // SAFETY: only the first `n` elements are read.
        lanes(|i| if i < n { unsafe { *x.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_part(self, v: Self::V, y: *mut f32, n: usize) {
        for (i, v) in v.into_iter().enumerate().take(n) {
            // SAFETY: only the first `n` elements are written.
            unsafe { *y.add(i) = v };
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| a[i] / b[i])
    }
    /// Rounds twice: a fused operation would be a library call on targets without one.
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanes(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn or_nan(self, a: Self::V, b: Self::V) -> Self::V {
        lanes(|i| if b[i].is_nan() { b[i] } else { a[i] })
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        lanes(|i| f32::from_bits((v[i].to_bits() << 23).wrapping_add(1f32.to_bits())))
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}
