//! Linear resizing: every output row and column is a mean of two of the input's.

use super::{ShapeError, Tap, shape_err};
use crate::ir::Shape;

/// Checks the taps of rows and columns and gives the output's shape.
pub(super) fn infer(rows: &[Tap], columns: &[Tap], x: Shape) -> Result<Shape, ShapeError> {
    for (taps, len, axis) in [(rows, x.h, "rows"), (columns, x.w, "columns")] {
        if let Some(tap) = taps.iter().find(|t| t.low >= len || t.high >= len || !t.weight.get().is_finite()) {
            return shape_err!("a mean of {} and {} by {} of the {axis} of {x}", tap.low, tap.high, tap.weight);
        }
    }
    Ok(Shape { h: rows.len(), w: columns.len(), ..x })
}
