//! Max and average pooling by windows.

use super::{PoolKind, ShapeError, shape_err};
use crate::ir::shape::window_out;
use crate::ir::{Padding, Shape};

/// Attributes of [`crate::ir::Op::Pool`]. Padding belongs to the op: it never wins a maximum, and is averaged only if counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Max or average.
    pub kind: PoolKind,
    /// Window rows and columns.
    pub kernel: [usize; 2],
    /// Vertical and horizontal step.
    pub stride: [usize; 2],
    /// Padding; less than the window on every side, so that no window is empty.
    pub pad: Padding,
    /// An average is over the whole window, the padding as zeros; else over the elements inside the input.
    pub count_padding: bool,
}

impl Pool {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        let p = self.pad;
        if p.top.max(p.bottom) >= self.kernel[0] || p.left.max(p.right) >= self.kernel[1] {
            return shape_err!("pooling padding must be less than its window");
        }
        let h = window_out(x.h, p.top, p.bottom, self.kernel[0], self.stride[0]);
        let w = window_out(x.w, p.left, p.right, self.kernel[1], self.stride[1]);
        match (h, w) {
            (Some(h), Some(w)) => Ok(Shape { h, w, ..x }),
            _ => shape_err!("a {}x{} window does not fit into {x}", self.kernel[0], self.kernel[1]),
        }
    }
}
