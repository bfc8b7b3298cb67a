//! What an x86-64 CPU can do, asked with `cpuid` alone (the standard library's detection is not in `core`).

use core::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

/// Bits of `cpuid` leaf 1, register ecx (Intel SDM volume 2A, table 3-10).
const FMA: u32 = 1 << 12;
const OSXSAVE: u32 = 1 << 27;
const AVX: u32 = 1 << 28;
/// Bit of `cpuid` leaf 7 subleaf 0, register ebx (table 3-8).
const AVX2: u32 = 1 << 5;
/// Bits of the same register.
const AVX512: u32 = F | DQ | BW | VL;
const F: u32 = 1 << 16;
const DQ: u32 = 1 << 17;
const BW: u32 = 1 << 30;
const VL: u32 = 1 << 31;
/// Bits of XCR0: the operating system saves xmm and ymm registers (SDM volume 1, 13.3).
const XMM_YMM: u64 = 0b110;
/// And mask registers, the upper halves of zmm, and the upper sixteen of them.
const ZMM: u64 = 0b1110_0000;

/// Whether AVX2 and FMA can be used. The CPU's word is not enough: the operating system must also save ymm registers when it
/// switches threads, which OSXSAVE allows to ask and XCR0 answers.
pub(super) fn avx2_fma() -> bool {
    if cfg!(miri) {
        return false; // the interpreter has neither cpuid nor these instructions
    }
    if cfg!(all(target_feature = "avx2", target_feature = "fma")) {
        return true; // the whole program was compiled for such CPUs
    }
    if __cpuid(0).eax < 7 {
        return false;
    }
    let leaf1 = __cpuid(1).ecx;
    if leaf1 & (FMA | OSXSAVE | AVX) != FMA | OSXSAVE | AVX {
        return false;
    }
    // SAFETY: OSXSAVE is set, so XGETBV exists and is enabled.
    let xcr0 = unsafe { _xgetbv(0) };
    xcr0 & XMM_YMM == XMM_YMM && __cpuid_count(7, 0).ebx & AVX2 != 0
}

/// Whether the CPU, which has AVX-512, begins one product of 512-bit vectors a cycle, not two: Zen 4, whose units are half as wide.
///
/// There a register tile of one vector and eight pixels loads its operands in half of the time of its products, and its end,
/// where sums are finished and stored, is short enough to pass while the next tile's products run: 4 to 15 % less time
/// than two vectors and fourteen pixels where sums are of 16 to 32 products, up to 6 % elsewhere. Where two begin a cycle, eight
/// sums only just hide their latency and nine loads take longer than eight products, so larger tiles are kept there, unmeasured.
pub(super) fn half_wide() -> bool {
    let vendor = __cpuid(0);
    let amd = [vendor.ebx, vendor.edx, vendor.ecx] == [*b"Auth", *b"enti", *b"cAMD"].map(u32::from_le_bytes);
    // Base and extended family (AMD APM volume 3, Fn0000_0001_EAX): of family 19h, Zen 3 and 4, only Zen 4 has AVX-512.
    let eax = __cpuid(1).eax;
    amd && (eax >> 8 & 0xf) + (eax >> 20 & 0xff) == 0x19
}

/// Whether AVX-512 F, VL, DQ and BW can be used, and AVX2 with FMA.
pub(super) fn avx512() -> bool {
    if !avx2_fma() || __cpuid(0).eax < 7 || __cpuid(1).ecx & OSXSAVE == 0 {
        return false;
    }
    // SAFETY: OSXSAVE is set, so XGETBV exists and is enabled.
    let xcr0 = unsafe { _xgetbv(0) };
    xcr0 & (XMM_YMM | ZMM) == XMM_YMM | ZMM && __cpuid_count(7, 0).ebx & AVX512 == AVX512
}
