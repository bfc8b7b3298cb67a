//! Transposed convolution: `y[i * stride + k * dilation - pad] += x[i] * w[k]` along both axes.

use mnc_runtime::params::span;

use super::{Activation, ShapeError, shape_err};
use crate::ir::{ConstId, Padding, Shape};

/// Attributes of [`crate::ir::Op::ConvTranspose`].
#[derive(Debug, Clone, PartialEq)]
pub struct ConvTranspose {
    /// Input channels.
    pub in_c: usize,
    /// Output channels.
    pub out_c: usize,
    /// Window rows and columns.
    pub kernel: [usize; 2],
    /// Output rows and columns from one input row or column to the next.
    pub stride: [usize; 2],
    /// From one row or column of the window to the next in the output; 1 where they are neighbours.
    pub dilation: [usize; 2],
    /// Divides both channel counts; output channel `o` reads only the input channels of its group `o / (out_c / groups)`.
    pub groups: usize,
    /// Cut off the output's sides.
    pub pad: Padding,
    /// Added below and to the right, after the cut.
    pub output_padding: [usize; 2],
    /// `[kernel_h][kernel_w][in_c / groups][out_c]`
    pub weight: ConstId,
    /// `[out_c]`
    pub bias: Option<ConstId>,
    /// Fused activation, applied last.
    pub act: Activation,
}

impl ConvTranspose {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        if x.c != self.in_c {
            return shape_err!("a transposed convolution of {} channels cannot take {x}", self.in_c);
        }
        if self.groups == 0 || !self.in_c.is_multiple_of(self.groups) || !self.out_c.is_multiple_of(self.groups) {
            return shape_err!("{} groups do not divide {} input and {} output channels", self.groups, self.in_c, self.out_c);
        }
        let size = |axis: usize, len: usize, before: usize, after: usize| {
            let span = span(self.kernel[axis], self.dilation[axis]);
            let all = len.checked_sub(1)?.checked_mul(self.stride[axis])?.checked_add(span)?;
            let all = all.checked_add(self.output_padding[axis])?.checked_sub(before.checked_add(after)?)?;
            (self.stride[axis] > 0 && span > 0).then_some(all)
        };
        let h = size(0, x.h, self.pad.top, self.pad.bottom);
        let w = size(1, x.w, self.pad.left, self.pad.right);
        match (h, w) {
            (Some(h), Some(w)) => Ok(Shape { n: x.n, h, w, c: self.out_c }),
            _ => shape_err!("a transposed {}x{} window cannot take {x}", self.kernel[0], self.kernel[1]),
        }
    }

    pub(super) fn macs(&self, x: Shape) -> u64 {
        (x.h * x.w * self.in_c) as u64 * (self.kernel[0] * self.kernel[1] * (self.out_c / self.groups.max(1))) as u64
    }
}
