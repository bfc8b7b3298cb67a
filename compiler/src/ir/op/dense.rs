//! Fully connected layer: `y[o] = act(bias[o] + sum x[c] * w[c, o])`.

use super::{Activation, ShapeError, shape_err};
use crate::ir::{ConstId, Shape};

/// Attributes of [`crate::ir::Op::Dense`].
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// Inputs.
    pub in_c: usize,
    /// Outputs.
    pub out_c: usize,
    /// `[in_c][out_c]`
    pub weight: ConstId,
    /// `[out_c]`
    pub bias: Option<ConstId>,
    /// Fused activation.
    pub act: Activation,
}

impl Dense {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        if x != Shape::hwc(1, 1, self.in_c) {
            return shape_err!("a dense layer of {} inputs cannot take {x}", self.in_c);
        }
        Ok(Shape::hwc(1, 1, self.out_c))
    }
}
