//! Groups steps into stages. So far every stage is one kernel over all its rows.
//!
//! How streaming will enter. A chain conv -> depthwise -> pointwise (or expand -> depthwise -> project) becomes one stage when
//! each link has a single reader: the stage computes `strip_rows` output rows of its last step at a time, and asks every
//! earlier step for just the rows that the next one's window needs. All kernels already take the range of output rows they
//! are to compute, so that a stage is the loop
//!
//! ```text
//! for strip in output rows of the last step, strip_rows at a time:
//!     for each step: compute the input rows that the rest of this strip needs and that no earlier strip has computed
//! ```
//!
//! Between two steps of a stage stands a ring of `kernel_h + (strip_rows - 1) * stride_h` rows instead of the whole tensor. A
//! ring is an ordinary buffer that lives for the stage's one point in time, so `memory` then counts time in stages and
//! `select::step` gives it the ring's size; the offsets, the bound and the certificate stay as they are. What must be added:
//! a `Place` for a ring (a buffer and its number of rows), the choice of chains here (before `memory`, since it decides what
//! is a ring), and the loop in the back ends. The last step of a stage may still accumulate in place on a residual.

use super::{Estimate, Split, Stage, Step};

/// One stage a step, all rows in one strip.
pub(super) fn group(steps: Vec<Step>) -> Vec<Stage> {
    steps
        .into_iter()
        .map(|step| Stage {
            name: step.name.clone(),
            strip_rows: step.output_shape.h,
            split: Split::Alone,
            estimate: Estimate::default(),
            steps: vec![step],
        })
        .collect()
}
