//! The vector that every kernel is written in: its width is the instruction set's.

use super::Job;

/// The most lanes of any instruction set: the unit in which weights are packed and channels are shared among threads.
pub(crate) const MOST_LANES: usize = 16;

/// A token of an instruction set with its vector operations. All methods are `#[inline(always)]` and take the token by value, so
/// that holding one is the proof that the instructions exist.
pub(crate) trait Simd: Copy {
    /// Lanes of a vector: 8 or 16.
    const LANES: usize;
    /// Output channels of a wide register tile, which is two vectors wide.
    const WIDE: usize = 2 * Self::LANES;
    /// The most pixels of a register tile that is two vectors wide: `2 * ROWS` sums, two weights and one broadcast must fit the
    /// register file.
    const ROWS: usize;
    /// The most pixels of a register tile that is one vector wide.
    const NARROW_ROWS: usize;
    /// The most pixels of such a tile where [`Simd::short_tiles`] says so.
    const SHORT_ROWS: usize = Self::NARROW_ROWS;
    /// Output rows and columns of a depthwise 3x3 tile, whose sums, one row of inputs and one weight must fit the register file.
    const DEPTHWISE: (usize, usize);
    /// Whether a part of a vector is read and written as fast as the whole.
    const MASKS: bool;

    /// Whether half a vector of channels takes half the time in [`Simd::half_products`].
    const HALVES: bool = false;

    /// `LANES` f32.
    type V: Copy;

    /// Runs `job` as a function of its own, once a program and instruction set however often it is called. Through one without the
    /// instruction set's target features: rustc drops `#[inline(never)]` from a function that has some, and all tiles of a kernel
    /// then end up in one function, as fast as tiles apart, but one that takes LLVM twice the time.
    fn outline<J: Job>(self, job: J);

    /// Whether this CPU computes sums of products faster in tiles one vector wide and [`Simd::SHORT_ROWS`] pixels high than in the
    /// largest ones. The sums are the same to the bit.
    #[inline(always)]
    fn short_tiles(self) -> bool {
        false
    }

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Reads a vector, at any alignment of f32.
    ///
    /// # Safety
    /// `LANES` floats can be read at `x`.
    unsafe fn load(self, x: *const f32) -> Self::V;
    /// Writes a vector, at any alignment of f32.
    ///
    /// # Safety
    /// `LANES` floats can be written at `y`.
    unsafe fn store(self, v: Self::V, y: *mut f32);
    /// Reads `n <= LANES` elements; the lanes beyond them are zero.
    ///
    /// # Safety
    /// `n` floats can be read at `x`.
    unsafe fn load_part(self, x: *const f32, n: usize) -> Self::V;
    /// Writes the first `n <= LANES` lanes.
    ///
    /// # Safety
    /// `n` floats can be written at `y`.
    unsafe fn store_part(self, v: Self::V, y: *mut f32, n: usize);
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
    /// Asks for the cache line at `x`, which need not be readable, into the second level of cache.
    fn prefetch(self, x: *const f32);

    /// [`products`] of rows that stand `pitch` floats apart from `a` on: the loop in which networks spend most of their time, for
    /// which an instruction set may have code of its own.
    ///
    /// # Safety
    /// As for [`products`].
    #[inline(always)]
    unsafe fn products<const ROWS: usize, const VECTORS: usize, const AHEAD: usize>(
        self,
        sums: &mut [[Self::V; VECTORS]; ROWS],
        (a, pitch): (*const f32, usize),
        w: [*const f32; VECTORS],
        k: usize,
        ahead: *const f32,
    ) {
        let a = core::array::from_fn(|r| a.wrapping_add(r * pitch));
        // SAFETY: the caller's.
        unsafe { products::<Self, ROWS, VECTORS, AHEAD>(self, sums, a, w, k, ahead) };
    }

    /// [`Simd::products`] where only the first half of the vector's channels exist and the sums of the others are not used.
    ///
    /// # Safety
    /// As for [`products`].
    #[inline(always)]
    unsafe fn half_products<const ROWS: usize, const AHEAD: usize>(
        self,
        sums: &mut [[Self::V; 1]; ROWS],
        rows: (*const f32, usize),
        w: *const f32,
        k: usize,
        ahead: *const f32,
    ) {
        // SAFETY: the caller's.
        unsafe { self.products::<ROWS, 1, AHEAD>(sums, rows, [w], k, ahead) };
    }
}

/// Steps of `k` that [`products`] takes at a time.
pub(crate) const UNROLL: usize = 4;
/// Floats of a cache line.
const LINE: usize = 16;

/// Adds to the sums of `ROWS` rows and `VECTORS` vectors the products of `k` elements of every row with `k` steps of the panels, in
/// order. Meanwhile `AHEAD` cache lines in [`UNROLL`] steps are asked for from `ahead` on, which need not be readable.
///
/// # Safety
/// `k` floats can be read at every row, `k` steps of [`MOST_LANES`] floats, of which `LANES` are used, at every `w`.
#[inline(always)]
pub(crate) unsafe fn products<S: Simd, const ROWS: usize, const VECTORS: usize, const AHEAD: usize>(
    s: S,
    sums: &mut [[S::V; VECTORS]; ROWS],
    a: [*const f32; ROWS],
    w: [*const f32; VECTORS],
    k: usize,
    ahead: *const f32,
) {
    let whole = k - k % UNROLL;
    let mut i = 0;
    while i < whole {
        for line in 0..AHEAD {
            s.prefetch(ahead.wrapping_add((i / UNROLL * AHEAD + line) * LINE));
        }
        for u in 0..UNROLL {
            // SAFETY: `i + u < k`.
            unsafe { step::<S, ROWS, VECTORS>(s, sums, a, w, i + u) };
        }
        i += UNROLL;
    }
    while i < k {
        // SAFETY: `i < k`.
        unsafe { step::<S, ROWS, VECTORS>(s, sums, a, w, i) };
        i += 1;
    }
}

/// One step of `k`.
///
/// # Safety
/// As for [`products`], with `i < k`.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECTORS: usize>(
    s: S,
    sums: &mut [[S::V; VECTORS]; ROWS],
    a: [*const f32; ROWS],
    w: [*const f32; VECTORS],
    i: usize,
) {
    // SAFETY: the caller has `k > i` steps of panels and elements.
    unsafe {
        let mut b = [s.splat(0.0); VECTORS];
        for v in 0..VECTORS {
            b[v] = s.load(w[v].add(i * MOST_LANES));
        }
        for r in 0..ROWS {
            let x = s.splat(*a[r].add(i));
            for v in 0..VECTORS {
                sums[r][v] = s.mul_add(x, b[v], sums[r][v]);
            }
        }
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
            let repeat = |v: [f32; 8]| -> [f32; MOST_LANES] { core::array::from_fn(|i| v[i % 8]) };
            let a = repeat([1.5, -2.0, 0.0, -0.0, f32::NAN, 3.0, f32::INFINITY, 1e-40]);
            let b = repeat([0.5, 4.0, -0.0, 0.0, 1.0, f32::NAN, 2.0, 3.0]);
            let c: [f32; MOST_LANES] = core::array::from_fn(|i| i as f32 + 1.0);
            let lanes = |v: S::V| {
                let mut y = [0.0; MOST_LANES];
                // SAFETY: no instruction set has more lanes than the array has elements.
                unsafe { s.store(v, y.as_mut_ptr()) };
                y
            };
            // SAFETY: no instruction set has more lanes than the arrays have elements.
            let (va, vb, vc) = unsafe { (s.load(a.as_ptr()), s.load(b.as_ptr()), s.load(c.as_ptr())) };
            // Compilers may know better of constants: LLVM 22 for aarch64 takes the larger zero of two, which the comparison does not.
            let (a, b) = core::hint::black_box((a, b));
            let same = |got: [f32; MOST_LANES], want: &dyn Fn(usize) -> f32, what: &str| {
                for (i, g) in got.into_iter().enumerate().take(S::LANES) {
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
            for i in 0..S::LANES {
                let got = lanes(s.mul_add(va, vb, vc))[i];
                let (once, twice) = (a[i].mul_add(b[i], c[i]), a[i] * b[i] + c[i]);
                assert!(got == once || got == twice || got.is_nan() && once.is_nan(), "mul_add lane {i}: {got}");
            }
            for n in -126..=127 {
                same(lanes(s.pow2(s.splat(n as f32 + 12_582_912.0))), &|_| f64::from(n).exp2() as f32, "pow2");
            }
            for n in 0..=S::LANES {
                // SAFETY: `n` elements of the array.
                let part = unsafe { s.load_part(c.as_ptr(), n) };
                same(lanes(part), &|i| if i < n { c[i] } else { 0.0 }, "load_part");
                let mut y = [9.0; MOST_LANES];
                // SAFETY: as above.
                unsafe { s.store_part(vc, y.as_mut_ptr(), n) };
                same(y, &|i| if i < n { c[i] } else { 9.0 }, "store_part");
            }
        }
    }

    #[test]
    fn operations_are_those_of_f32() {
        Isa::available().for_each(|isa| isa.run(Check));
    }
}
