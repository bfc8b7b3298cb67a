//! The loop of the register tile in assembly: three pointers and two distances address up to fourteen rows.
//!
//! From the loop in Rust the compiler keeps a pointer a row, fourteen of them in sixteen registers, and turns the sums through the
//! registers: no slower in a long loop, but a short one (sixteen steps of fourteen cycles) loses a fifth of its time around it.

use core::arch::asm;
use core::arch::x86_64::__m512;

/// Sums of `ROWS` rows and one or two vectors.
pub(super) trait Sums {
    /// [`crate::isa::products`] of rows `pitch` bytes apart from `a` on. `w` holds the first vector's weights and how many bytes
    /// behind it the second's are; of the cache lines from `ahead` on two in four steps are asked for, or one over and over where
    /// `lines` is zero.
    ///
    /// # Safety
    /// As for [`crate::isa::products`], on a CPU with AVX-512F and VL.
    unsafe fn add_products(
        &mut self,
        a: *const f32,
        pitch: usize,
        w: (*const f32, usize),
        k: usize,
        ahead: *const f32,
        lines: usize,
    );
}

/// Sums of `ROWS` rows and the first half of a vector: 256-bit products, of which a core that has units so wide begins two a cycle.
pub(super) trait Halves {
    /// As [`Sums::add_products`], of the first eight channels of a panel; the other sums become zero.
    ///
    /// # Safety
    /// As for [`Sums::add_products`].
    unsafe fn add_products(
        &mut self,
        a: *const f32,
        pitch: usize,
        w: (*const f32, usize),
        k: usize,
        ahead: *const f32,
        lines: usize,
    );
}

/// One step of `k`, `$a` bytes behind the rows' pointers and `$w` behind the weights'.
macro_rules! step {
    (2, $a:tt, $w:tt, $(($row:tt $x:tt $sum0:tt $sum1:tt $half:tt $i:tt))*) => {
        concat!(
            "vmovups zmm28, [{w} + ", $w, "]\n",
            "vmovups zmm29, [{w} + {apart} + ", $w, "]\n",
            $(
                "vbroadcastss ", $x, ", dword ptr [", $row, " + ", $a, "]\n",
                "vfmadd231ps ", $sum0, ", ", $x, ", zmm28\n",
                "vfmadd231ps ", $sum1, ", ", $x, ", zmm29\n",
            )*
        )
    };
    (1, $a:tt, $w:tt, $(($row:tt $x:tt $sum0:tt $sum1:tt $half:tt $i:tt))*) => {
        concat!(
            "vmovups zmm28, [{w} + ", $w, "]\n",
            $("vfmadd231ps ", $sum0, ", zmm28, dword ptr [", $row, " + ", $a, "]{{1to16}}\n",)*
        )
    };
    (half, $a:tt, $w:tt, $(($row:tt $x:tt $sum0:tt $sum1:tt $half:tt $i:tt))*) => {
        concat!(
            "vmovups ymm28, [{w} + ", $w, "]\n",
            $("vfmadd231ps ", $half, ", ymm28, dword ptr [", $row, " + ", $a, "]{{1to8}}\n",)*
        )
    };
}

/// Four steps at a time, then one at a time. Operands that the rows of small tiles do not name stand in a comment.
macro_rules! steps {
    ($vectors:tt, $($rows:tt)*) => {
        concat!(
            "sub {whole}, 1\n",
            "jc 3f\n",
            "2:\n",
            "prefetcht1 [{ahead}]\n",
            "prefetcht1 [{ahead} + 64]\n",
            step!($vectors, 0, 0, $($rows)*),
            step!($vectors, 4, 64, $($rows)*),
            step!($vectors, 8, 128, $($rows)*),
            step!($vectors, 12, 192, $($rows)*),
            "add {ahead}, {lines}\n",
            "add {p0}, 16\n",
            "add {p1}, 16\n",
            "add {p2}, 16\n",
            "add {w}, 256\n",
            "sub {whole}, 1\n",
            "jnc 2b\n",
            "3:\n",
            "sub {rest}, 1\n",
            "jc 5f\n",
            "4:\n",
            step!($vectors, 0, 0, $($rows)*),
            "add {p0}, 4\n",
            "add {p1}, 4\n",
            "add {p2}, 4\n",
            "add {w}, 64\n",
            "sub {rest}, 1\n",
            "jnc 4b\n",
            "5:\n",
            "# {apart} {s} {s3}\n",
        )
    };
}

/// [`Sums`] of one number of rows and vectors.
macro_rules! sums {
    ($name:ident, $vectors:tt, $of:tt, [$($rows:tt)*], [$($i:tt)*], $($sum:tt $at:tt $v:tt)*) => {
        impl $name for [[__m512; $vectors]; [$($i),*].len()] {
            #[inline]
            #[target_feature(enable = "avx512f,avx512vl")]
            unsafe fn add_products(
                &mut self,
                a: *const f32,
                pitch: usize,
                (w, apart): (*const f32, usize),
                k: usize,
                ahead: *const f32,
                lines: usize,
            ) {
                // SAFETY: the loops read `k` floats of every row and `k` steps of both panels, as the caller has them; nothing is
                // written, and a prefetch of any address is allowed.
                unsafe {
                    asm!(
                        steps!($of, $($rows)*),
                        p0 = inout(reg) a => _,
                        p1 = inout(reg) a.wrapping_byte_add(5 * pitch) => _,
                        p2 = inout(reg) a.wrapping_byte_add(10 * pitch) => _,
                        s = in(reg) pitch,
                        s3 = in(reg) 3 * pitch,
                        w = inout(reg) w => _,
                        apart = in(reg) apart,
                        ahead = inout(reg) ahead => _,
                        lines = in(reg) lines * 64,
                        whole = inout(reg) k / 4 => _,
                        rest = inout(reg) k % 4 => _,
                        $(inout($sum) self[$at][$v],)*
                        out("zmm28") _,
                        out("zmm29") _,
                        out("zmm30") _,
                        out("zmm31") _,
                        options(nostack, readonly),
                    );
                }
            }
        }
    };
}

/// [`Sums`] of the rows so far, then with one more.
macro_rules! up_to {
    ([$($row:tt)*] [$($i:tt)*] [$($one:tt)*] [$($two:tt)*]) => {};
    ([$($row:tt)*] [$($i:tt)*] [$($one:tt)*] [$($two:tt)*] ($at:tt $x:tt $sum0:tt $sum1:tt $half:tt $n:tt) $($next:tt)*) => {
        sums!(Sums, 1, 1, [$($row)* ($at $x $sum0 $sum1 $half $n)], [$($i)* $n], $($one)* $sum0 $n 0);
        sums!(Halves, 1, half, [$($row)* ($at $x $sum0 $sum1 $half $n)], [$($i)* $n], $($one)* $sum0 $n 0);
        sums!(Sums, 2, 2, [$($row)* ($at $x $sum0 $sum1 $half $n)], [$($i)* $n], $($two)* $sum0 $n 0 $sum1 $n 1);
        up_to!(
            [$($row)* ($at $x $sum0 $sum1 $half $n)] [$($i)* $n] [$($one)* $sum0 $n 0] [$($two)* $sum0 $n 0 $sum1 $n 1]
            $($next)*
        );
    };
}

// Where a row stands, the register of its element, those of its sums, the first one's lower half, its number.
up_to! {
    [] [] [] []
    ("{p0}" "zmm30" "zmm0" "zmm1" "ymm0" 0)
    ("{p0} + {s}" "zmm31" "zmm2" "zmm3" "ymm2" 1)
    ("{p0} + 2*{s}" "zmm30" "zmm4" "zmm5" "ymm4" 2)
    ("{p0} + {s3}" "zmm31" "zmm6" "zmm7" "ymm6" 3)
    ("{p0} + 4*{s}" "zmm30" "zmm8" "zmm9" "ymm8" 4)
    ("{p1}" "zmm31" "zmm10" "zmm11" "ymm10" 5)
    ("{p1} + {s}" "zmm30" "zmm12" "zmm13" "ymm12" 6)
    ("{p1} + 2*{s}" "zmm31" "zmm14" "zmm15" "ymm14" 7)
    ("{p1} + {s3}" "zmm30" "zmm16" "zmm17" "ymm16" 8)
    ("{p1} + 4*{s}" "zmm31" "zmm18" "zmm19" "ymm18" 9)
    ("{p2}" "zmm30" "zmm20" "zmm21" "ymm20" 10)
    ("{p2} + {s}" "zmm31" "zmm22" "zmm23" "ymm22" 11)
    ("{p2} + 2*{s}" "zmm30" "zmm24" "zmm25" "ymm24" 12)
    ("{p2} + {s3}" "zmm31" "zmm26" "zmm27" "ymm26" 13)
}
