//! AVX2 with FMA: one 256-bit register a vector, sixteen registers.

use core::arch::x86_64::{
    __m256, _CMP_UNORD_Q, _MM_HINT_T1, _mm_prefetch, _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castps_si256,
    _mm256_castsi256_ps, _mm256_cmp_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps,
    _mm256_mul_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::Job;
use super::simd::Simd;

const LANES: usize = 8;

/// Only [`run`] makes one, and its caller has the proof.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs `job` compiled for AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<J: Job>(job: J) {
    job.run(Avx2(()));
}

/// [`run`] as a function of its own, for [`Simd::outline`].
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline(never)]
unsafe fn run_apart<J: Job>(job: J) {
    // SAFETY: the caller has the proof.
    unsafe { run(job) }
}

impl Simd for Avx2 {
    const LANES: usize = LANES;
    /// Twelve sums, two weights, one broadcast: fifteen of sixteen registers.
    const ROWS: usize = 6;
    /// Two sums in flight for each of four cycles of latency, and a few more.
    const NARROW_ROWS: usize = 10;
    /// Eight sums, six inputs, one weight.
    const DEPTHWISE: (usize, usize) = (2, 4);
    const MASKS: bool = false;

    type V = __m256;

    #[inline(always)]
    fn outline<J: Job>(self, job: J) {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with AVX2 and FMA.
        unsafe { run_apart(job) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with AVX.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> Self::V {
        // SAFETY: AVX as above; the caller has eight floats there, and the load takes any alignment.
        unsafe { _mm256_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store(self, v: Self::V, y: *mut f32) {
        // SAFETY: AVX as above; the caller has room for eight floats there, and the store takes any alignment.
        unsafe { _mm256_storeu_ps(y, v) }
    }
    /// By way of the stack: a masked store costs Zen 3 twelve cycles, and parts are rare.
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
        // SAFETY: AVX as above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with FMA.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    fn or_nan(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX as above.
        unsafe { _mm256_blendv_ps(a, b, _mm256_cmp_ps::<_CMP_UNORD_Q>(b, b)) }
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with AVX2.
        unsafe {
            let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(v));
            _mm256_castsi256_ps(_mm256_add_epi32(n, _mm256_set1_epi32(0x3f80_0000)))
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
}
