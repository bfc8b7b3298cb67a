//! Raw pixels to the net's own scale: `y[c] = x[order[c]] * scale[c] + shift[c]`.

use super::{ShapeError, shape_err};
use crate::ir::{ConstId, Shape};

/// Attributes of [`crate::ir::Op::Normalize`].
#[derive(Debug, Clone, PartialEq)]
pub struct Normalize {
    /// Input channel that output channel `c` reads: `[0, 1, 2]`, or `[2, 1, 0]` for a BGR net fed with RGB.
    pub order: Vec<usize>,
    /// `[c]`, indexed by output channel.
    pub scale: ConstId,
    /// `[c]`, indexed by output channel.
    pub shift: ConstId,
}

impl Normalize {
    pub(super) fn infer(&self, x: Shape) -> Result<Shape, ShapeError> {
        let mut seen = vec![false; x.c];
        for &c in &self.order {
            match seen.get_mut(c) {
                Some(s) if !*s => *s = true,
                _ => return shape_err!("channel order {:?} is not a permutation of {} channels", self.order, x.c),
            }
        }
        if self.order.len() == x.c { Ok(x) } else { shape_err!("channel order of {} for {x}", self.order.len()) }
    }
}
