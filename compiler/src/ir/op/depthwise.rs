//! Depthwise convolution: output channel `o` sees input channel `o / multiplier` only.

use mnc_runtime::params::span;

use super::{Activation, ShapeError, shape_err};
use crate::ir::shape::window_out;
use crate::ir::{ConstId, Padding, Shape};

/// Attributes of [`crate::ir::Op::Depthwise`].
#[derive(Debug, Clone, PartialEq)]
pub struct Depthwise {
    /// Input channels.
    pub channels: usize,
    /// Outputs per input channel; output channel `o` reads input channel `o / multiplier`.
    pub multiplier: usize,
    /// Window rows and columns.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// From one row or column of the window to the next in the input; 1 where they are neighbours.
    pub dilation: [usize; 2],
    /// Fused padding.
    pub pad: Padding,
    /// What the padding holds, one element an input channel; zero where absent.
    pub pad_value: Option<ConstId>,
    /// `[kernel_h][kernel_w][channels * multiplier]`
    pub weight: ConstId,
    /// `[channels * multiplier]`
    pub bias: Option<ConstId>,
    /// Fused activation, applied last.
    pub act: Activation,
}

impl Depthwise {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        if x.c != self.channels {
            return shape_err!("a depthwise convolution of {} channels cannot take {x}", self.channels);
        }
        let h = window_out(x.h, self.pad.top, self.pad.bottom, span(self.kernel[0], self.dilation[0]), self.stride[0]);
        let w = window_out(x.w, self.pad.left, self.pad.right, span(self.kernel[1], self.dilation[1]), self.stride[1]);
        match (h, w, self.channels.checked_mul(self.multiplier)) {
            (Some(h), Some(w), Some(c)) => Ok(Shape { n: x.n, h, w, c }),
            _ => shape_err!("a {}x{} window does not fit into {x}", self.kernel[0], self.kernel[1]),
        }
    }
}
