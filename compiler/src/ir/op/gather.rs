//! Elements picked by tables of indices: slices, splits, nearest resizing, shuffled channels, padding by what is there.

use super::{Real, ShapeError, shape_err};
use crate::ir::Shape;

/// Attributes of [`crate::ir::Op::Gather`]. An absent table takes all as they are, [`Gather::FILL`] is no element but `fill`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gather {
    /// The input row of every output row.
    pub rows: Option<Vec<i32>>,
    /// The input column of every output column.
    pub columns: Option<Vec<i32>>,
    /// The input channel of every output channel.
    pub channels: Option<Vec<i32>>,
    /// What stands where a table has [`Gather::FILL`].
    pub fill: Real,
}

impl Gather {
    /// In a table: no element of the input.
    pub const FILL: i32 = -1;

    /// The tables of rows, columns and channels.
    #[must_use]
    pub fn tables(&self) -> [Option<&[i32]>; 3] {
        [&self.rows, &self.columns, &self.channels].map(Option::as_deref)
    }

    /// Whether it takes all of a tensor of shape `x` as it is.
    #[must_use]
    pub fn is_identity(&self, x: Shape) -> bool {
        let all = |table: &[i32], len: usize| {
            table.len() == len && table.iter().enumerate().all(|(i, &at)| usize::try_from(at) == Ok(i))
        };
        self.tables().into_iter().zip([x.h, x.w, x.c]).all(|(table, len)| table.is_none_or(|t| all(t, len)))
    }

    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        let mut out = [x.h, x.w, x.c];
        for ((out, table), axis) in out.iter_mut().zip(self.tables()).zip(["rows", "columns", "channels"]) {
            let Some(table) = table else { continue };
            let odd = |&&at: &&i32| at != Self::FILL && usize::try_from(at).map_or(true, |at| at >= *out);
            if let Some(at) = table.iter().find(odd) {
                return shape_err!("index {at} into the {axis} of {x}");
            }
            *out = table.len();
        }
        let [h, w, c] = out;
        Ok(Shape { h, w, c, ..x })
    }
}
