//! AVX-512: one 512-bit register a vector, thirty-two registers, masks for parts.

use core::arch::x86_64::{
    __m512, __mmask16, _CMP_UNORD_Q, _MM_HINT_T1, _mm_prefetch, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512,
    _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use self::tile::{Halves, Sums};
use super::Job;
use super::simd::{Simd, products};

mod tile;

const LANES: usize = 16;

/// Only [`run`] makes one, and its caller has the proof.
#[derive(Clone, Copy)]
pub(crate) struct Avx512 {
    short_tiles: bool,
}

/// Runs `job` compiled for AVX-512, with [`Simd::short_tiles`].
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
pub(super) fn run<J: Job>(job: J, short_tiles: bool) {
    job.run(Avx512 { short_tiles });
}

/// [`run`] as a function of its own, for [`Simd::outline`].
///
/// # Safety
/// The CPU has AVX-512.
#[inline(never)]
unsafe fn run_apart<J: Job>(job: J, short_tiles: bool) {
    // SAFETY: the caller has the proof.
    unsafe { run(job, short_tiles) }
}

/// The first `n` lanes.
#[inline(always)]
fn mask(n: usize) -> __mmask16 {
    ((1u32 << n) - 1) as __mmask16
}

impl Simd for Avx512 {
    const LANES: usize = LANES;
    /// Twenty-eight sums, two weights, one broadcast: thirty-one of thirty-two registers. MobileNets' widths are multiples of 14.
    const ROWS: usize = 14;
    const NARROW_ROWS: usize = 14;
    /// Two sums in flight for each of four cycles of latency where one is begun a cycle.
    const SHORT_ROWS: usize = 8;
    /// Fourteen sums, nine inputs (fifteen at stride 2), one weight.
    const DEPTHWISE: (usize, usize) = (2, 7);
    const MASKS: bool = true;
    const HALVES: bool = true;

    type V = __m512;

    #[inline(always)]
    fn outline<J: Job>(self, job: J) {
        // SAFETY: an `Avx512` exists only inside `run`, on a CPU with AVX-512.
        unsafe { run_apart(job, self.short_tiles) }
    }
    #[inline(always)]
    fn short_tiles(self) -> bool {
        self.short_tiles
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: an `Avx512` exists only inside `run`, on a CPU with AVX-512F.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, x: *const f32) -> Self::V {
        // SAFETY: AVX-512F as above; the caller has sixteen floats there, and the load takes any alignment.
        unsafe { _mm512_loadu_ps(x) }
    }
    #[inline(always)]
    unsafe fn store(self, v: Self::V, y: *mut f32) {
        // SAFETY: AVX-512F as above; the caller has room for sixteen floats there, and the store takes any alignment.
        unsafe { _mm512_storeu_ps(y, v) }
    }
    #[inline(always)]
    unsafe fn load_part(self, x: *const f32, n: usize) -> Self::V {
        // SAFETY: AVX-512F as above; masked lanes are not read, and the caller has the others.
        unsafe { _mm512_maskz_loadu_ps(mask(n), x) }
    }
    #[inline(always)]
    unsafe fn store_part(self, v: Self::V, y: *mut f32, n: usize) {
        // SAFETY: AVX-512F as above; masked lanes are not written, and the caller has room for the others.
        unsafe { _mm512_mask_storeu_ps(y, mask(n), v) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_sub_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_div_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_max_ps(a, b) }
    }
    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_min_ps(a, b) }
    }
    #[inline(always)]
    fn or_nan(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(b, b), a, b) }
    }
    #[inline(always)]
    fn pow2(self, v: Self::V) -> Self::V {
        // SAFETY: AVX-512F as above.
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(v));
            _mm512_castsi512_ps(_mm512_add_epi32(n, _mm512_set1_epi32(0x3f80_0000)))
        }
    }
    #[inline(always)]
    fn prefetch(self, x: *const f32) {
        // SAFETY: SSE is part of x86-64, and a prefetch of any address is allowed.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(x.cast()) }
    }
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const VECTORS: usize, const AHEAD: usize>(
        self,
        sums: &mut [[Self::V; VECTORS]; ROWS],
        (a, pitch): (*const f32, usize),
        w: [*const f32; VECTORS],
        k: usize,
        ahead: *const f32,
    ) {
        macro_rules! rows {
            ($($n:literal)*) => {
                $(if const { ROWS == $n && VECTORS <= 2 } {
                    let apart = (w[VECTORS - 1] as usize).wrapping_sub(w[0] as usize);
                    let w = (w[0], apart);
                    // SAFETY: the array is of this very size; AVX-512F as above, and the caller's.
                    return unsafe {
                        if const { VECTORS == 2 } {
                            Sums::add_products(&mut *(&raw mut *sums).cast::<[[__m512; 2]; $n]>(), a, 4 * pitch, w, k, ahead, AHEAD)
                        } else {
                            Sums::add_products(&mut *(&raw mut *sums).cast::<[[__m512; 1]; $n]>(), a, 4 * pitch, w, k, ahead, AHEAD)
                        }
                    };
                })*
            };
        }
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        let a = core::array::from_fn(|r| a.wrapping_add(r * pitch));
        // SAFETY: the caller's.
        unsafe { products::<Self, ROWS, VECTORS, AHEAD>(self, sums, a, w, k, ahead) };
    }
    #[inline(always)]
    unsafe fn half_products<const ROWS: usize, const AHEAD: usize>(
        self,
        sums: &mut [[Self::V; 1]; ROWS],
        (a, pitch): (*const f32, usize),
        w: *const f32,
        k: usize,
        ahead: *const f32,
    ) {
        macro_rules! rows {
            ($($n:literal)*) => {
                $(if const { ROWS == $n } {
                    // SAFETY: the array is of this very size; AVX-512F and VL as above, and the caller's.
                    unsafe {
                        let sums = &mut *(&raw mut *sums).cast::<[[__m512; 1]; $n]>();
                        Halves::add_products(sums, a, 4 * pitch, (w, 0), k, ahead, AHEAD);
                    }
                })*
            };
        }
        const { assert!(ROWS >= 1 && ROWS <= 14, "no tile has more rows") };
        rows!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}
