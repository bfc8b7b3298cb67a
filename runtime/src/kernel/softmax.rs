//! Softmax of every pixel: `y[i] = exp(x[i] - max) / sum(exp(x - max))`.

use super::activation::exp;
use super::check_len;
use crate::isa::{Scalar, Simd};

/// Softmax over the `c` channels of every pixel of `x`. The relative error of an element is below `(|x - max| + 8) * 2^-23` (the difference is rounded before
/// the exponential); one below `e^-87` of the largest comes out at about `e^-87` of it. The same bits on every instruction
/// set. Panics where the lengths differ, or are no pixels of `c` channels.
pub fn softmax(c: usize, x: &[f32], y: &mut [f32]) {
    check_len("softmax input", x.len(), y.len());
    y.copy_from_slice(x);
    softmax_in_place(c, y);
}

/// [`softmax`] of `y` into `y`.
pub fn softmax_in_place(c: usize, y: &mut [f32]) {
    assert!(y.len().is_multiple_of(c), "softmax: {} elements are no pixels of {c} channels", y.len());
    if c > 0 {
        y.chunks_exact_mut(c).for_each(pixel);
    }
}

/// Softmax over all of `y`.
fn pixel(y: &mut [f32]) {
    let s = Scalar;
    let max = y.iter().fold(f32::NEG_INFINITY, |max, &v| if v > max || v.is_nan() { v } else { max });
    let mut sum = 0f64;
    for y in y.chunks_mut(Scalar::LANES) {
        // SAFETY: the chunk's own length, of at most a vector.
        unsafe {
            let e = exp(s, s.sub(s.load_part(y.as_ptr(), y.len()), s.splat(max)));
            s.store_part(e, y.as_mut_ptr(), y.len());
        }
        sum += y.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
    for y in y {
        *y = (f64::from(*y) / sum) as f32;
    }
}
