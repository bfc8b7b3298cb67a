//! Sum, difference, product or quotient of two tensors, either of which may have one row, column or channel for many.

use super::{Activation, BinaryKind, ShapeError, shape_err};
use crate::ir::Shape;

/// Attributes of [`crate::ir::Op::Binary`]: `act(f(a, b))`. [`crate::ir::Op::Add`] and [`crate::ir::Op::Scale`] are its usual
/// cases, which passes know more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binary {
    /// What is computed.
    pub kind: BinaryKind,
    /// Fused activation.
    pub act: Activation,
}

impl Binary {
    pub(super) fn infer(self, a: Shape, b: Shape) -> Result<Shape, ShapeError> {
        let axis = |a: usize, b: usize| match (a, b) {
            (a, b) if a == b || b == 1 => Some(a),
            (1, b) => Some(b),
            _ => None,
        };
        match (axis(a.n, b.n), axis(a.h, b.h), axis(a.w, b.w), axis(a.c, b.c)) {
            (Some(n), Some(h), Some(w), Some(c)) => Ok(Shape { n, h, w, c }),
            _ => shape_err!("{a} and {b} are equal or one along no common axes"),
        }
    }
}
