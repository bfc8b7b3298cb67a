//! Rows and columns added around an input.

use super::{ShapeError, shape_err};
use crate::ir::{ConstId, Padding, Shape};

/// Attributes of [`crate::ir::Op::Pad`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pad {
    /// How many on each side.
    pub pad: Padding,
    /// What they hold, one element a channel; zero where absent.
    pub value: Option<ConstId>,
}

impl Pad {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        let add = |a: usize, b: usize, c: usize| a.checked_add(b)?.checked_add(c);
        match (add(x.h, self.pad.top, self.pad.bottom), add(x.w, self.pad.left, self.pad.right)) {
            (Some(h), Some(w)) => Ok(Shape { h, w, ..x }),
            _ => shape_err!("padding of {x} overflows"),
        }
    }
}
