//! NEON (Advanced SIMD): a pair of 128-bit registers a vector, thirty-two registers. Every aarch64 CPU has it.

use core::arch::aarch64::{
    float32x4_t, uint32x4_t, vaddq_f32, vaddq_s32, vbslq_f32, vceqq_f32, vcgtq_f32, vcltq_f32, vdivq_f32, vdupq_n_f32,
    vdupq_n_s32, vfmaq_f32, vld1q_f32, vmulq_f32, vreinterpretq_f32_s32, vreinterpretq_s32_f32, vshlq_n_s32, vst1q_f32,
    vsubq_f32,
};

use super::Job;
use super::simd::Simd;

const LANES: usize = 8;

/// Only [`run`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Runs `job` compiled for NEON.
#[target_feature(enable = "neon")]
pub(super) fn run<J: Job>(job: J) {
    job.run(Neon(()));
}

/// [`run`] as a function of its own, for [`Simd::outline`].
#[inline(never)]
fn run_apart<J: Job>(job: J) {
    // SAFETY: NEON is part of aarch64.
    unsafe { run(job) }
}

/// Half by half.
#[inline(always)]
fn both(a: [float32x4_t; 2], b: [float32x4_t; 2], f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> [float32x4_t; 2] {
    [f(a[0], b[0]), f(a[1], b[1])]
}

/// The lanes of `a` where `mask` is set, those of `b` elsewhere.
#[inline(always)]
fn select(mask: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t {
    // SAFETY: NEON is part of aarch64.
    unsafe { vbslq_f32(mask, a, b) }
}

impl Simd for Neon {
    const LANES: usize = LANES;
    /// Twenty-four registers of sums, four of weights, one broadcast.
    const ROWS: usize = 6;
    const NARROW_ROWS: usize = 8;
    /// Sixteen registers of sums, twelve of inputs, two of a weight.
    const DEPTHWISE: (usize, usize) = (2, 4);
    const MASKS: bool = false;

    type V = [float32x4_t; 2];

    #[inline(always)]
    fn outline<J: Job>(self, job: J) {
        run_apart(job);
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        unsafe { [vdupq_n_f32(x); 2] }
    }
    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> Self::V {
        // SAFETY: the caller has eight floats there, and the loads take any alignment of f32.
        unsafe { [vld1q_f32(x), vld1q_f32(x.add(4))] }
    }
    #[inline(always)]
    unsafe fn store(self, v: Self::V, y: *mut f32) {
        // SAFETY: the caller has room for eight floats there, and the stores take any alignment of f32.
        unsafe {
            vst1q_f32(y, v[0]);
            vst1q_f32(y.add(4), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_part(self, x: *const f32, n: usize) -> Self::V {
        let mut lanes = [0.0; LANES];
        for (i, lane) in lanes.iter_mut().enumerate().take(n) {
            // SAFETY: only the first `n` elements are read.
            *lane = unsafe { *x.add(i) };
        }
        // SAFETY: an array of eight floats.
        unsafe { self.load(lanes.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_part(self, v: Self::V, y: *mut f32, n: usize) {
        let mut lanes = [0.0; LANES];
        // SAFETY: an array of eight floats.
        unsafe { self.store(v, lanes.as_mut_ptr()) };
        for (i, lane) in lanes.into_iter().enumerate().take(n) {
            // SAFETY: only the first `n` elements are written.
            unsafe { *y.add(i) = lane };
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| unsafe { vaddq_f32(a, b) })
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| unsafe { vsubq_f32(a, b) })
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| unsafe { vmulq_f32(a, b) })
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| unsafe { vdivq_f32(a, b) })
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        unsafe { [vfmaq_f32(c[0], a[0], b[0]), vfmaq_f32(c[1], a[1], b[1])] }
    }
    /// Not `fmax`, which differs for NaN.
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| select(unsafe { vcgtq_f32(a, b) }, a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        both(a, b, |a, b| select(unsafe { vcltq_f32(a, b) }, a, b))
    }
    #[inline(always)]
    fn or_nan(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64. Only a NaN differs from itself.
        both(a, b, |a, b| select(unsafe { vceqq_f32(b, b) }, a, b))
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        // SAFETY: NEON is part of aarch64.
        v.map(|v| unsafe {
            let n = vshlq_n_s32::<23>(vreinterpretq_s32_f32(v));
            vreinterpretq_f32_s32(vaddq_s32(n, vdupq_n_s32(0x3f80_0000)))
        })
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
}
