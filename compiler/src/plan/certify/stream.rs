//! Runs a stage row by row, as every thread would, on row numbers instead of numbers.
//!
//! A ring is a list of the rows that its places hold. Every row that a window reads must be there, and it must be that row and not a
//! later one that was written over it. Where the last step writes over a tensor that the stage reads, no row may be read that
//! is written already.
//!
//! With several threads a band may begin at any row, so all are run, each to the last row: one that ends earlier does
//! the same but less of it.

use super::super::{Kernel, Place, Split, Stage, Step};

/// The rows of a step: output row `r` reads input rows `r * stride - pad` to `r * stride - pad + kernel`, those that there are, and those that the
/// other rows of its tile read.
#[derive(Debug, Clone, Copy)]
struct Window {
    kernel: usize,
    stride: usize,
    pad: usize,
    input: usize,
    tile: usize,
}

impl Window {
    fn of(&self, row: usize) -> std::ops::Range<usize> {
        let clip = |r: usize| r.saturating_sub(self.pad).min(self.input);
        let first = row - row % self.tile;
        clip(first * self.stride)..clip((first + self.tile - 1) * self.stride + self.kernel)
    }
}

/// How `step` works row by row, if it can.
fn window(step: &Step) -> Option<Window> {
    let (x, y) = (step.input_shape, step.output_shape);
    let each = (x.h == y.h && y.h * y.w > 1).then_some(Window { kernel: 1, stride: 1, pad: 0, input: x.h, tile: 1 });
    match &step.kernel {
        Kernel::Conv { params: p, .. } => {
            Some(Window { kernel: p.span_h(), stride: p.stride_h, pad: p.pad_top, input: p.in_h, tile: p.method.tile() })
        }
        Kernel::Depthwise { params: p, .. } => {
            Some(Window { kernel: p.span_h(), stride: p.stride_h, pad: p.pad_top, input: p.in_h, tile: 1 })
        }
        Kernel::Pool(p) => Some(Window { kernel: p.kernel_h, stride: p.stride_h, pad: p.pad_top, input: p.in_h, tile: 1 }),
        Kernel::Pointwise { params: p, .. } if p.pool => None,
        Kernel::Pointwise { .. }
        | Kernel::Add { .. }
        | Kernel::Scale { .. }
        | Kernel::Act { .. }
        | Kernel::PRelu { .. }
        | Kernel::Binary { .. } => each,
        Kernel::GlobalPool { .. }
        | Kernel::Softmax { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::Concat { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::ConvTranspose { .. }
        | Kernel::Copy { .. }
        | Kernel::Constant { .. } => None,
    }
}

/// Whether threads can share `step` by its output channels.
fn by_channels(step: &Step) -> bool {
    match &step.kernel {
        Kernel::Depthwise { params: p, .. } => p.multiplier == 1,
        // A unit of channels must not be of two groups.
        Kernel::Conv { params: p, .. } | Kernel::ConvTranspose { params: p, .. } => {
            p.groups == 1 || (p.out_c / p.groups).is_multiple_of(16)
        }
        Kernel::Pointwise { .. }
        | Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Add { .. }
        | Kernel::Scale { .. }
        | Kernel::Act { .. }
        | Kernel::PRelu { .. }
        | Kernel::Binary { .. } => true,
        Kernel::Softmax { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::Concat { .. }
        | Kernel::Gather { .. }
        | Kernel::Transpose { .. }
        | Kernel::Mean { .. }
        | Kernel::Interpolate { .. }
        | Kernel::Copy { .. }
        | Kernel::Constant { .. } => false,
    }
}

/// A step that reads the tensor which the last step of its stage writes over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Overwritten {
    /// Which step.
    pub(super) step: usize,
    /// It reads the row that it computes, not the windows of its first operand.
    pub(super) exact: bool,
}

/// A step that adds, row by row, what an older step of its stage wrote to a ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    /// Which step.
    pub(super) step: usize,
    /// Whose ring it reads.
    pub(super) from: usize,
}

/// Checks strips, split and rings of `stage`, whose parameters agree with its shapes.
pub(super) fn check(stage: &Stage, threads: usize, overwritten: &[Overwritten], added: &[Added]) -> Result<(), String> {
    let Some(last) = stage.steps.last() else { return Err("it has no steps".to_owned()) };
    let height = last.output_shape.h;
    let legal = match stage.split {
        Split::Alone => true,
        Split::Rows => stage.steps.iter().all(|s| window(s).is_some()),
        Split::Channels => stage.steps.len() == 1 && by_channels(last),
    };
    if !legal {
        return Err(format!("it cannot be split by {:?}", stage.split));
    }
    if stage.steps.len() == 1 {
        return if stage.strip_rows == height { Ok(()) } else { Err("it is not one step over all its rows".to_owned()) };
    }
    if stage.strip_rows == 0 || stage.strip_rows > height {
        return Err(format!("strips of {} rows of {height}", stage.strip_rows));
    }
    let Some(windows) = stage.steps.iter().map(window).collect::<Option<Vec<_>>>() else {
        return Err("it has a step that does not work row by row".to_owned());
    };
    let bands = stage.split == Split::Rows && threads > 1;
    if bands && !overwritten.is_empty() {
        return Err("a thread reads what another one overwrites".to_owned());
    }
    for first in 0..if bands { height } else { 1 } {
        band(stage, &windows, first..height, overwritten, added)?;
    }
    Ok(())
}

/// One thread computes the rows `rows` of the last step.
fn band(
    stage: &Stage,
    windows: &[Window],
    rows: std::ops::Range<usize>,
    overwritten: &[Overwritten],
    added: &[Added],
) -> Result<(), String> {
    let n = windows.len();
    let mut rings: Vec<Vec<Option<usize>>> = stage.steps.iter().map(|s| vec![None; ring_rows(s)]).collect();
    let mut written = vec![false; rows.end];
    let mut done = vec![rows.start; n];
    for i in (1..n).rev() {
        done[i - 1] = windows[i].of(done[i]).start;
    }
    while done[n - 1] < rows.end {
        let mut needed = vec![(done[n - 1] + stage.strip_rows).min(rows.end); n];
        for i in (1..n).rev() {
            // The window of the last row reaches farthest; there is none where nothing is needed yet.
            needed[i - 1] = needed[i].checked_sub(1).map_or(0, |row| windows[i].of(row).end).max(done[i - 1]);
        }
        for i in 0..n {
            for row in done[i]..needed[i] {
                let read = windows[i].of(row);
                if let Some(ring) = i.checked_sub(1).map(|before| &rings[before])
                    && let Some(lost) = read.clone().find(|&r| ring[r % ring.len()] != Some(r))
                {
                    return Err(format!("row {lost} is not in the ring when row {row} of {} is computed", stage.steps[i].name));
                }
                for a in added.iter().filter(|a| a.step == i) {
                    let ring = &rings[a.from];
                    if ring[row % ring.len()] != Some(row) {
                        return Err(format!("row {row} is not in the ring when {} adds it", stage.steps[i].name));
                    }
                }
                for o in overwritten.iter().filter(|o| o.step == i) {
                    let mut read = if o.exact { row..row + 1 } else { read.clone() };
                    if let Some(lost) = read.find(|&r| written.get(r) == Some(&true)) {
                        return Err(format!("row {lost} is overwritten when row {row} of {} is computed", stage.steps[i].name));
                    }
                }
                if i + 1 == n {
                    written[row] = true;
                } else {
                    let places = rings[i].len();
                    rings[i][row % places] = Some(row);
                }
            }
            done[i] = needed[i];
        }
    }
    Ok(())
}

/// Rows of the ring that a step writes; 1 for one that writes none.
fn ring_rows(step: &Step) -> usize {
    match step.output {
        Place::Ring { rows, .. } => rows.max(1),
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => 1,
    }
}
