//! Instruction sets: [`Isa`] proves at run time what the CPU can do, the `Simd` trait is what kernels are written in.
//!
//! A kernel's algorithm exists once, generic over `Simd`, as an `#[inline(always)]` function without target features.
//! `Isa::run` chooses the level and calls it from inside a function compiled for that level, so that every vector operation
//! inlines to its instruction.
//!
//! Invariants: an [`Isa`] of a level exists only where the CPU and the operating system support that level; a level's `Simd` type
//! is only made from such a proof. A vector has eight or sixteen f32 lanes; a lane is always an output channel, so a kernel adds
//! up in the same order on every level, and levels differ in rounding only where one has no fused multiply-add.
//!
//! # How to add an ISA
//! 1. `isa/<name>.rs`: a token type that implements `Simd` (same method order as `avx2.rs`), and its `run` with
//!    `#[target_feature]`. A set with narrow registers holds several in `V`, as `neon.rs` holds a pair. `ROWS` and `DEPTHWISE`
//!    are the sizes of the register tiles, bounded by the number of registers.
//! 2. A variant of `Level`, its name, its detection, its arm in `Isa::run` and in [`Isa::available`]: the compiler lists them.
//! 3. Nothing else: kernels, their tests and the benches go through [`Isa::available`].

#[cfg(feature = "std")]
mod bandwidth;
#[cfg(feature = "std")]
mod peak;
mod scalar;
pub(crate) mod simd;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod cpuid;
#[cfg(target_arch = "aarch64")]
mod neon;

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

#[cfg(feature = "std")]
pub use bandwidth::{Bandwidth, bandwidth};
#[cfg(feature = "std")]
pub use peak::peak_fma;
pub(crate) use scalar::Scalar;
pub(crate) use simd::{Simd, UNROLL, products};

/// An instruction set that this CPU has: the first argument of every kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isa(Level);

/// Ordered from the most portable to the widest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Scalar,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512 {
        short_tiles: bool,
    },
}

/// `MNC_ISA` names an instruction set that does not exist here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsaError {
    /// No instruction set of any platform has this name.
    Unknown,
    /// The name is known, but this CPU (or this build's platform) lacks it.
    Missing(&'static str),
}

/// Every name that `MNC_ISA` knows on some platform.
const NAMES: [&str; 4] = ["scalar", "neon", "avx2", "avx512"];

/// What [`Isa::detect`] found: 0 before the first call, else the [`Isa::code`].
static DETECTED: AtomicU8 = AtomicU8::new(0);

impl Isa {
    /// Portable code; every CPU has it.
    #[must_use]
    pub const fn scalar() -> Self {
        Self(Level::Scalar)
    }

    /// AVX2 with FMA, where this CPU has both and the operating system saves their registers.
    #[must_use]
    pub fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if cpuid::avx2_fma() {
            return Some(Self(Level::Avx2));
        }
        None
    }

    /// AVX-512 (F, VL, DQ, BW), where this CPU has it and the operating system saves its registers.
    #[must_use]
    pub fn avx512() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if cpuid::avx512() {
            return Some(Self(Level::Avx512 { short_tiles: cpuid::half_wide() }));
        }
        None
    }

    /// NEON: on every aarch64.
    #[must_use]
    pub const fn neon() -> Option<Self> {
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        return Some(Self(Level::Neon));
        #[cfg(not(all(target_arch = "aarch64", not(miri))))]
        return None;
    }

    /// Every instruction set that this CPU has, the best one last.
    pub fn available() -> impl Iterator<Item = Self> {
        [Some(Self::scalar()), Self::neon(), Self::avx2(), Self::avx512()].into_iter().flatten()
    }

    /// [`Isa::available`] with, of each set, the way in which this CPU's kernels do not cut their tiles.
    #[cfg(test)]
    pub(crate) fn tested() -> impl Iterator<Item = Self> {
        Self::available().flat_map(|isa| {
            let other = match isa.0 {
                #[cfg(target_arch = "x86_64")]
                Level::Avx512 { short_tiles } => Some(Self(Level::Avx512 { short_tiles: !short_tiles })),
                _ => None,
            };
            [Some(isa), other].into_iter().flatten()
        })
    }

    /// The best instruction set of this CPU; found once, then remembered.
    ///
    /// Under `std` the environment variable `MNC_ISA` (`scalar`, `neon`, `avx2` or `avx512`) overrides it. A value that [`Isa::requested`] refuses
    /// is passed over, for a library neither prints nor stops a program because of its environment: a program
    /// that wants to tell its user asks [`Isa::requested`] first.
    #[must_use]
    pub fn detect() -> Self {
        if let Some(isa) = Self::detected(DETECTED.load(Ordering::Relaxed)) {
            return isa;
        }
        let best = Self::available().last().unwrap_or(Self::scalar());
        let isa = Self::requested().ok().flatten().unwrap_or(best);
        DETECTED.store(isa.code(), Ordering::Relaxed);
        isa
    }

    /// What an earlier [`Isa::detect`] left in [`DETECTED`]; asks no CPU, for a virtual machine may take microseconds to answer.
    const fn detected(known: u8) -> Option<Self> {
        match known {
            1 => Some(Self(Level::Scalar)),
            #[cfg(target_arch = "aarch64")]
            2 => Some(Self(Level::Neon)),
            #[cfg(target_arch = "x86_64")]
            3 => Some(Self(Level::Avx2)),
            #[cfg(target_arch = "x86_64")]
            4 => Some(Self(Level::Avx512 { short_tiles: false })),
            #[cfg(target_arch = "x86_64")]
            5 => Some(Self(Level::Avx512 { short_tiles: true })),
            _ => None,
        }
    }

    /// The number by which [`Isa::detected`] knows it: not 0.
    const fn code(self) -> u8 {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 { short_tiles: true } => 5,
            _ => self.index() + 1,
        }
    }

    /// What the environment variable `MNC_ISA` asks for: nothing where it is unset or empty, and always without `std`.
    ///
    /// # Errors
    /// The variable holds another word than the name of an instruction set that this CPU has.
    pub fn requested() -> Result<Option<Self>, IsaError> {
        #[cfg(feature = "std")]
        if let Some(value) = std::env::var_os("MNC_ISA").filter(|v| !v.is_empty()) {
            return value.to_str().ok_or(IsaError::Unknown).and_then(Self::named).map(Some);
        }
        Ok(None)
    }

    /// The instruction set of this name.
    ///
    /// # Errors
    /// No set has this name, or this CPU lacks it.
    pub fn named(name: &str) -> Result<Self, IsaError> {
        let known = NAMES.iter().find(|n| **n == name).ok_or(IsaError::Unknown)?;
        Self::available().find(|i| i.name() == *known).ok_or(IsaError::Missing(known))
    }

    /// `scalar`, `neon`, `avx2` or `avx512`: what `MNC_ISA` takes, and the suffix of kernel names in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        NAMES[self.index() as usize]
    }

    const fn index(self) -> u8 {
        match self.0 {
            Level::Scalar => 0,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => 1,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => 2,
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 { .. } => 3,
        }
    }

    /// Runs `job` compiled for this instruction set.
    #[inline(always)]
    pub(crate) fn run<J: Job>(self, job: J) {
        match self.0 {
            Level::Scalar => scalar::run(job),
            #[cfg(target_arch = "aarch64")]
            // SAFETY: NEON is part of aarch64.
            Level::Neon => unsafe { neon::run(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this level was only made after `cpuid::avx2_fma` said that the CPU has AVX2 and FMA.
            Level::Avx2 => unsafe { avx2::run(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Isa` of this level was only made after `cpuid::avx512` said that the CPU has it.
            Level::Avx512 { short_tiles } => unsafe { avx512::run(job, short_tiles) },
        }
    }
}

/// A kernel call waiting for its instruction set.
pub(crate) trait Job {
    /// The kernel; `#[inline(always)]`, so that it takes on the target features of its caller.
    fn run<S: Simd>(self, s: S);
}

impl fmt::Debug for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for IsaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("MNC_ISA must be one of")?;
                NAMES.iter().try_for_each(|n| write!(f, " `{n}`"))
            }
            Self::Missing(name) => write!(f, "MNC_ISA asks for `{name}`, which this CPU does not have"),
        }
    }
}

impl core::error::Error for IsaError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_what_is_available() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
            assert_eq!(Isa::detected(isa.code()), Some(isa));
        }
        assert_eq!(Isa::named("sse9"), Err(IsaError::Unknown));
        assert_eq!(Isa::named(""), Err(IsaError::Unknown));
        assert_eq!(Isa::named("avx2").ok(), Isa::avx2());
    }

    #[test]
    fn detection_is_stable_and_available() {
        let isa = Isa::detect();
        assert_eq!(isa, Isa::detect());
        assert!(Isa::available().any(|i| i == isa));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn detection_agrees_with_the_standard_library() {
        let std_says = std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
        assert_eq!(Isa::avx2().is_some(), std_says && !cfg!(miri));
        let std_says = std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vl")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512bw");
        assert_eq!(Isa::avx512().is_some(), std_says && !cfg!(miri));
    }
}
