//! Tensor shapes (NHWC, said once here for the whole compiler), element types, padding arithmetic.

use std::fmt;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DType {
    /// IEEE 754 single precision.
    #[default]
    F32,
}

impl DType {
    /// Bytes per element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            DType::F32 => 4,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DType::F32 => f.write_str("f32"),
        }
    }
}

/// Batch, rows, columns, channels. Elements are stored in that order, channels fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Batch; 1 today.
    pub n: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// `[1, h, w, c]`
    #[must_use]
    pub fn hwc(h: usize, w: usize, c: usize) -> Self {
        Self { n: 1, h, w, c }
    }

    /// Number of elements. The front ends refuse shapes for which this would overflow (see [`Shape::checked_elements`]).
    #[must_use]
    pub fn elements(self) -> usize {
        self.n * self.h * self.w * self.c
    }

    /// Number of elements, or `None` where it does not fit in `usize`.
    #[must_use]
    pub fn checked_elements(self) -> Option<usize> {
        self.n.checked_mul(self.h)?.checked_mul(self.w)?.checked_mul(self.c)
    }

    /// `[n, h, w, c]`
    #[must_use]
    pub fn dims(self) -> [usize; 4] {
        [self.n, self.h, self.w, self.c]
    }
}

impl fmt::Display for Shape {
    /// `1x112x112x32`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}x{}x{}", self.n, self.h, self.w, self.c)
    }
}

/// Rows and columns added around an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Columns to the left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// No padding.
    pub const ZERO: Padding = Padding { top: 0, left: 0, bottom: 0, right: 0 };

    /// PyTorch's usual symmetric padding, `kernel / 2` on every side.
    #[must_use]
    pub fn torch(kernel: [usize; 2]) -> Self {
        let [y, x] = kernel.map(|k| k / 2);
        Self { top: y, left: x, bottom: y, right: x }
    }

    /// TensorFlow's SAME for an `h x w` input: `total = max((ceil(i / s) - 1) * s + k - i, 0)`, the smaller half first.
    #[must_use]
    pub fn same(h: usize, w: usize, kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |i: usize, k: usize, s: usize| ((i.div_ceil(s) - 1) * s + k).saturating_sub(i);
        let (y, x) = (total(h, kernel[0], stride[0]), total(w, kernel[1], stride[1]));
        Self { top: y / 2, left: x / 2, bottom: y - y / 2, right: x - x / 2 }
    }

    /// Both halves together, sides included.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

/// Output size of a window op along one axis, `floor((i + pad - k) / s) + 1`, or `None` where the window does not fit once
/// or window or step is zero.
#[must_use]
pub fn window_out(input: usize, pad_before: usize, pad_after: usize, kernel: usize, stride: usize) -> Option<usize> {
    if kernel == 0 || stride == 0 {
        return None;
    }
    let padded = input.checked_add(pad_before)?.checked_add(pad_after)?;
    Some(padded.checked_sub(kernel)? / stride + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_asymmetric_on_even_sizes() {
        assert_eq!(Padding::same(224, 224, [3, 3], [2, 2]), Padding { top: 0, left: 0, bottom: 1, right: 1 });
        assert_eq!(Padding::same(56, 56, [5, 5], [2, 2]), Padding { top: 1, left: 1, bottom: 2, right: 2 });
        assert_eq!(Padding::same(7, 7, [3, 3], [2, 2]), Padding { top: 1, left: 1, bottom: 1, right: 1 });
        assert_eq!(Padding::same(4, 4, [1, 1], [2, 2]), Padding::ZERO);
    }

    #[test]
    fn window_that_does_not_fit_is_refused() {
        assert_eq!(window_out(2, 0, 0, 3, 1), None);
        assert_eq!(window_out(224, 1, 1, 3, 2), Some(112));
    }
}
