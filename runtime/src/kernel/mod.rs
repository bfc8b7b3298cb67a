//! The kernels: one file a family, each algorithm written once over [`crate::isa`]'s vectors.
//!
//! An entry checks every length and size once and panics with the operand's name on a caller's mistake; nothing behind it
//! panics. Tensors are NHWC, `x` and `y` are always whole tensors, and `rows` are the output rows to compute, so that a stage
//! can be streamed and a layer split over threads.
//!
//! Invariants, tested for every kernel:
//! * A result does not depend on the banding, to the bit: an output element is summed in one fixed order (bias, then taps by
//!   `(ky, kx, c)`, then residual), whatever tile it falls into. It may depend on the [`crate::isa::Isa`] in the last digits.
//! * Channels need not be multiples of anything; only the elements of the band are written, and none outside of the operands
//!   is read.
//! * NaN propagates: through sums, clamps, maxima and means.
//!
//! Every kernel has two entries through one body: a safe one for whole tensors here, which checks every length, and a band with
//! pointers for [`crate::program`], which has checked the whole program: rows may stand in a ring, pixels apart by a pitch, and
//! a band may be of some output channels only.
//!
//! # How to add a kernel
//! `params.rs` gets its sizes and `reference.rs` its formula; a file here gets the checked entry and an `#[inline(always)]`
//! `Band` whose body is generic over `Simd`; `table` lists the functions that compute it, `program` calls them; `tests/kernels`
//! compares with `reference` on every instruction set.

mod activation;
mod broadcast;
mod conv;
mod conv_transpose;
mod depthwise;
mod eltwise;
mod layout;
mod pointwise;
mod pool;
mod rearrange;
mod softmax;
mod strassen;
mod table;
mod tile;
mod winograd;

pub use broadcast::binary;
pub use conv::conv;
pub use conv_transpose::conv_transpose;
pub use depthwise::depthwise;
pub use eltwise::{act, act_in_place, add, add_in_place, prelu, prelu_in_place, scale, scale_in_place};
pub use layout::{normalize, pad};
pub use pointwise::pointwise;
pub use pool::{global_pool, pool};
pub use rearrange::{FILL, concat_part, gather, interpolate, mean, transpose};
pub use softmax::{softmax, softmax_in_place};

/// What [`crate::program`] calls: parts of kernels, with pointers, unchecked.
pub(crate) mod bands {
    pub(crate) use super::broadcast::{Band as Broadcast, Strided};
    pub(crate) use super::conv::Band as Conv;
    pub(crate) use super::conv_transpose::Band as ConvTranspose;
    pub(crate) use super::depthwise::Band as Depthwise;
    pub(crate) use super::eltwise::MapBand as Map;
    pub(crate) use super::pointwise::{Band as Pointwise, Later};
    pub(crate) use super::pool::{MeanBand as Mean, WindowBand as Window};
}
pub(crate) use eltwise::Binary;
pub(crate) use table::Kernels;

use core::ops::Range;

use crate::isa::Simd;

/// What is added to an output before the activation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// What `y` holds.
    InPlace,
    /// A tensor of the output's shape.
    From(&'a [f32]),
}

/// Rows of pixels that a band reads: a whole tensor, or a ring of its rows.
///
/// Row `r` starts `r % rows` rows behind `first`, a row is `width` pixels, a pixel `pitch` floats of which the channels come first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// The first float.
    pub first: *const f32,
    /// Rows that there are: the height of a tensor, or the size of the ring.
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Floats from a pixel to the next.
    pub pitch: usize,
}

impl Rows {
    /// Float at which row `r` starts, counted from `first`.
    #[inline(always)]
    fn row(self, r: usize) -> usize {
        (r % self.rows) * self.width * self.pitch
    }
}

/// Reads `n <= LANES` elements; the lanes beyond them are zero.
///
/// # Safety
/// `n` floats can be read at `x`.
#[inline(always)]
unsafe fn load_n<S: Simd>(s: S, x: *const f32, n: usize) -> S::V {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { s.load(x) } else { s.load_part(x, n) } }
}

/// Writes the first `n <= LANES` lanes.
///
/// # Safety
/// `n` floats can be written at `y`.
#[inline(always)]
unsafe fn store_n<S: Simd>(s: S, v: S::V, y: *mut f32, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { if n == S::LANES { s.store(v, y) } else { s.store_part(v, y, n) } }
}

/// The number of elements of a shape; `usize::MAX`, which no slice has, where it overflows.
#[inline(always)]
fn size<const N: usize>(dims: [usize; N]) -> usize {
    let mut product = 1usize;
    for d in dims {
        product = match product.checked_mul(d) {
            Some(p) => p,
            None => return usize::MAX,
        };
    }
    product
}

/// Panics unless an operand has the length that the parameters ask for.
#[inline(always)]
#[track_caller]
fn check_len(what: &str, actual: usize, expected: usize) {
    if actual != expected {
        wrong_length(what, actual, expected);
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn wrong_length(what: &str, actual: usize, expected: usize) -> ! {
    panic!("{what}: {actual} elements where the parameters ask for {expected}")
}

/// Panics unless the band lies inside the output.
#[inline(always)]
#[track_caller]
fn check_rows(what: &str, rows: &Range<usize>, out_h: usize) {
    assert!(rows.start <= rows.end && rows.end <= out_h, "{what}: rows {rows:?} of {out_h}");
}

/// Panics unless windows along one axis make sense and their coordinates fit an `isize`, which the geometry computes in.
#[inline(always)]
#[track_caller]
fn check_windows(what: &str, out: usize, kernel: usize, stride: usize, pad: usize) {
    let last = out.checked_mul(stride).and_then(|v| v.checked_add(kernel)).and_then(|v| v.checked_add(pad));
    let fits = matches!(last, Some(v) if v <= isize::MAX as usize);
    assert!(fits && kernel > 0 && stride > 0, "{what}: {out} windows of {kernel} at stride {stride}, padding {pad}");
}

/// The input coordinate that tap `tap` of output `at` reads, where it lies inside the input.
#[inline(always)]
fn input_at(at: usize, stride: usize, tap: usize, pad: usize, len: usize) -> Option<usize> {
    let i = (at * stride + tap).wrapping_sub(pad); // wraps to a huge number, so outside, in the padding before the input
    if i < len { Some(i) } else { None }
}

/// The taps of output `at` that read inside the input; empty where none does.
#[inline(always)]
fn taps_inside(at: usize, stride: usize, kernel: usize, pad: usize, len: usize) -> Range<usize> {
    let first = at * stride;
    let end = if len + pad > first { kernel.min(len + pad - first) } else { 0 };
    let start = if pad > first { (pad - first).min(end) } else { 0 };
    start..end
}

/// The same of taps that are `dilation` apart.
#[inline(always)]
fn taps_apart(at: usize, stride: usize, kernel: usize, dilation: usize, pad: usize, len: usize) -> Range<usize> {
    if dilation == 1 {
        return taps_inside(at, stride, kernel, pad, len); // divides by nothing
    }
    let first = at * stride;
    let end = kernel.min((len + pad).saturating_sub(first).div_ceil(dilation));
    pad.saturating_sub(first).div_ceil(dilation).min(end)..end
}

/// The outputs along one axis whose windows lie wholly inside the input.
#[inline(always)]
const fn interior(out: usize, stride: usize, kernel: usize, pad: usize, len: usize) -> Range<usize> {
    let end = if len + pad >= kernel { min((len + pad - kernel) / stride + 1, out) } else { 0 };
    let start = min(pad.div_ceil(stride), end);
    start..end
}

/// `Ord::min`, which no constant can call.
const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::span;
    use proptest::prelude::*;

    /// Operands of both signs without a pattern, for the tests of all kernels.
    pub(super) fn values(len: usize, seed: usize) -> Vec<f32> {
        (0..len).map(|i| (((i + seed) * 7919) % 1013) as f32 / 500.0 - 1.0).collect()
    }

    proptest! {
        /// `taps_inside`, `taps_apart` and `interior` against the definition, tap by tap.
        #[test]
        fn window_arithmetic(
            out in 1usize..9, stride in 1usize..4, kernel in 1usize..6, dilation in 1usize..4, pad in 0usize..6, len in 1usize..12,
        ) {
            let inner = interior(out, stride, span(kernel, dilation), pad, len);
            for at in 0..out {
                let inside = |d: usize| -> Vec<usize> {
                    (0..kernel).filter(|&t| input_at(at, stride, t * d, pad, len).is_some()).collect()
                };
                prop_assert_eq!(taps_inside(at, stride, kernel, pad, len).collect::<Vec<_>>(), inside(1));
                prop_assert_eq!(taps_apart(at, stride, kernel, dilation, pad, len).collect::<Vec<_>>(), inside(dilation));
                prop_assert_eq!(inner.contains(&at), inside(dilation).len() == kernel);
            }
        }
    }

    #[test]
    fn an_overflowing_size_is_no_length() {
        assert_eq!(size([2, 3, 4]), 24);
        assert_eq!(size([usize::MAX, 2, 0]), usize::MAX);
    }
}
