//! AVX2 with FMA: one 256-bit register a vector, sixteen registers.

use core::arch::x86_64::{
    __m256, _CMP_UNORD_Q, _mm256_add_epi32, _mm256_add_ps, _mm256_blendv_ps, _mm256_castps_si256, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_div_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::Job;
use super::simd::{LANES, Simd};

/// Only [`run`] makes one, and its caller has the proof.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Runs `job` compiled for AVX2 and FMA.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(super) fn run<J: Job>(job: J) {
    job.run(Avx2(()));
}

impl Simd for Avx2 {
    /// Twelve sums, two weights, one broadcast: fifteen of sixteen registers.
    const ROWS: usize = 6;

    type V = __m256;

    #[inline(always)]
    fn outline<J: Job>(self, job: J) {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with AVX2 and FMA.
        unsafe { run(job) }
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: an `Avx2` exists only inside `run`, on a CPU with AVX.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: AVX as above; the array is eight readable floats, and the load takes any alignment.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, y: &mut [f32; LANES]) {
        // SAFETY: AVX as above; the array is eight writable floats, and the store takes any alignment.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), v) }
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
}
