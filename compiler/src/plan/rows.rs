//! Rows of streamed stages: which rows of its input a step needs, how many a ring must hold, and when the last step may write
//! over what another step of its stage reads.
//!
//! A thread computes the output rows of its band a strip at a time. For each strip the steps compute, first to last, the rows
//! that the rest of the strip needs and that they have not computed yet:
//!
//! ```text
//! done[last] = first row of the band;  done[i - 1] = first row that the window of step i reaches for row done[i]
//! for each strip:
//!     needed[last] = end of the strip;  needed[i - 1] = end of the rows that the windows of step i reach up to row needed[i]
//!     for each step i: compute rows done[i]..needed[i];  done[i] = needed[i]
//! ```
//!
//! A step may add a row of an older step's result, the very row that it computes: the ring between holds it until then.
//!
//! `needed` depends on the strip's end alone, and `done` on the end of the strip before, or on the first row where there is none. So
//! there are no more cases to look at than rows, whatever the bands are. A band that ends within a strip computes, and reads,
//! less of what that strip would.
//!
//! # In place
//! A block adds its input `x` to its output `y`, and `y` could be written over `x`, row by row: nobody reads `x` later. But the first
//! step of the same stage reads `x` too. By one thread this is sound where, after every strip, the first row of `x` that is
//! still to be read is not above the end of the rows of `y` that are written: `x`'s rows are read ahead, because the windows between
//! reach beyond the row being written, and the rows that a window reaches back to stand in rings. With several threads it is not:
//! the band below computes the rows at the border again, from rows of `x` that the band above may have written over.

/// How the output rows of a step depend on its input's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    /// Rows of a window, those between its taps included.
    pub(super) kernel: usize,
    /// Input rows from one window to the next.
    pub(super) stride: usize,
    /// Rows of padding above.
    pub(super) pad: usize,
    /// Rows of the input.
    pub(super) input: usize,
    /// Rows of the output.
    pub(super) output: usize,
    /// Output rows that are computed from the same input rows (`mnc_runtime::params::Method::tile`).
    pub(super) tile: usize,
}

impl Rows {
    /// The first input row in the windows of output row `row` and those of its tile.
    fn first(&self, row: usize) -> usize {
        (row / self.tile * self.tile * self.stride).saturating_sub(self.pad).min(self.input)
    }

    /// The end of the input rows in the windows of the output rows before `end`, and those of the last tile.
    fn end(&self, end: usize) -> usize {
        match end {
            0 => 0,
            _ => ((end.next_multiple_of(self.tile) - 1) * self.stride + self.kernel).saturating_sub(self.pad).min(self.input),
        }
    }
}

/// The end of the rows that each step has computed when the last one has computed the rows before `end`.
pub(super) fn needed(steps: &[Rows], end: usize) -> Vec<usize> {
    let mut rows = vec![end; steps.len()];
    for i in (1..steps.len()).rev() {
        rows[i - 1] = steps[i].end(rows[i]);
    }
    rows
}

/// The first row that each step computes where a band begins at row `first` of the last one.
pub(super) fn begin(steps: &[Rows], first: usize) -> Vec<usize> {
    let mut rows = vec![first; steps.len()];
    for i in (1..steps.len()).rev() {
        rows[i - 1] = steps[i].first(rows[i]);
    }
    rows
}

/// Rows of the rings between `steps`, one fewer than those. With `bands` a band may begin at any row, else there is only one. Step `i` adds
/// the rows of step `added[i]`.
pub(super) fn rings(steps: &[Rows], added: &[Option<usize>], strip: usize, bands: bool) -> Vec<usize> {
    let height = steps.last().map_or(0, |s| s.output);
    let mut rows = vec![1; steps.len().saturating_sub(1)];
    for from in (0..height).step_by(if bands { 1 } else { strip }) {
        let needed_now = needed(steps, (from + strip).min(height));
        let mut grow = |done: &[usize]| {
            for (i, ring) in rows.iter_mut().enumerate() {
                let adds = added.iter().zip(done).filter(|&(&a, _)| a == Some(i)).map(|(_, &row)| row).min();
                let lowest = steps[i + 1].first(done[i + 1]).min(done[i]).min(adds.unwrap_or(usize::MAX));
                *ring = (*ring).max(needed_now[i].saturating_sub(lowest));
            }
        };
        if bands || from == 0 {
            grow(&begin(steps, from));
        }
        if from > 0 {
            grow(&needed(steps, from));
        }
    }
    rows
}

/// Whether the last step of a single band may write its rows over those of a tensor that step `reader` reads too: by the windows
/// of its first operand, or (`exact`) the very row that it computes.
pub(super) fn may_overwrite(steps: &[Rows], strip: usize, reader: usize, exact: bool) -> bool {
    let height = steps.last().map_or(0, |s| s.output);
    let at_last = needed(steps, height)[reader];
    (strip..height).step_by(strip).all(|written| {
        let done = needed(steps, written)[reader];
        let next = if exact { done } else { steps[reader].first(done) };
        done >= at_last || next >= written
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kernel: usize, stride: usize, input: usize) -> Rows {
        let pad = kernel / 2;
        Rows { kernel, stride, pad, input, output: (input + 2 * pad - kernel) / stride + 1, tile: 1 }
    }

    /// An expand, a depthwise and a project step.
    fn block(kernel: usize, stride: usize, input: usize) -> Vec<Rows> {
        let deep = window(kernel, stride, input);
        vec![window(1, 1, input), deep, window(1, 1, deep.output)]
    }

    /// Rows of the rings by doing it: every row that is still to be read is kept in a set.
    fn simulated(steps: &[Rows], added: &[Option<usize>], strip: usize, first: usize) -> Vec<usize> {
        let n = steps.len();
        let reach = |step: &Rows, row: usize| {
            let first = row - row % step.tile;
            let top = (first * step.stride) as isize - step.pad as isize;
            (top..top + ((step.tile - 1) * step.stride + step.kernel) as isize)
                .filter(|&r| r >= 0 && r < step.input as isize)
                .map(|r| r as usize)
                .collect::<Vec<_>>()
        };
        let mut made: Vec<Vec<usize>> = vec![Vec::new(); n];
        let mut rings = vec![1; n - 1];
        let height = steps[n - 1].output;
        let mut at = first;
        while at < height {
            let end = (at + strip).min(height);
            let mut wanted = vec![Vec::new(); n];
            wanted[n - 1] = (at..end).collect();
            for i in (1..n).rev() {
                let mut rows: Vec<usize> = wanted[i].iter().flat_map(|&r| reach(&steps[i], r)).collect();
                rows.sort_unstable();
                rows.dedup();
                rows.retain(|r| !made[i - 1].contains(r));
                wanted[i - 1] = rows;
            }
            for i in 0..n - 1 {
                made[i].extend(&wanted[i]);
                let adds = (0..n).filter(|&j| added[j] == Some(i)).flat_map(|j| wanted[j].clone());
                let read = wanted[i + 1].iter().flat_map(|&r| reach(&steps[i + 1], r)).chain(adds);
                let lowest = read.chain(wanted[i].iter().copied()).min();
                let highest = made[i].iter().max();
                if let (Some(low), Some(high)) = (lowest, highest) {
                    rings[i] = rings[i].max(high + 1 - low);
                }
            }
            made[n - 1].extend(at..end);
            at = end;
        }
        rings
    }

    #[test]
    fn rings_hold_what_a_simulation_needs() {
        let mut long = block(3, 2, 33);
        long.splice(0..0, block(5, 1, 33));
        // A window of tiles of four rows: first, in the middle and last.
        let tiled = Rows { tile: 4, ..window(3, 1, 15) };
        let tiles = [vec![tiled, window(3, 2, 15)], vec![window(1, 1, 15), tiled, tiled], block(3, 1, 15)];
        let [first, between, mut behind] = tiles;
        behind.push(tiled);
        // A block that adds its input, which a pointwise step makes; one behind another.
        let mut two = block(3, 1, 14);
        two.extend(block(5, 1, 14));
        let mut after = two.clone();
        after.insert(0, window(3, 1, 14));
        let none = |steps: &Vec<Rows>| vec![None; steps.len()];
        let chains = [block(3, 1, 14), block(3, 2, 28), block(5, 2, 15), block(5, 1, 7), long, first, between, behind];
        let mut chains: Vec<_> = chains.into_iter().map(|steps| (none(&steps), steps)).collect();
        chains.push((vec![None, None, Some(0)], block(5, 1, 14)));
        chains.push((vec![None, None, None, None, None, Some(2)], two));
        chains.push((vec![None, None, None, Some(0), None, None, Some(3)], after));
        for (added, steps) in &chains {
            for strip in 1..=steps.last().unwrap().output {
                assert_eq!(rings(steps, added, strip, false), simulated(steps, added, strip, 0), "{steps:?} by {strip}");
                let any = rings(steps, added, strip, true);
                let mut most = vec![1; steps.len() - 1];
                for first in 0..steps.last().unwrap().output {
                    for (m, r) in most.iter_mut().zip(simulated(steps, added, strip, first)) {
                        *m = (*m).max(r);
                    }
                }
                assert!(any.iter().zip(&most).all(|(a, m)| a >= m), "{any:?} {most:?} {steps:?} by {strip}");
            }
        }
        assert_eq!(rings(&block(3, 1, 56), &[None; 3], 2, false), [4, 2]);
        assert_eq!(rings(&block(3, 2, 56), &[None; 3], 1, false), [3, 1]);
    }

    #[test]
    fn a_block_may_be_written_over_its_input_and_a_shrinking_one_not() {
        for strip in 1..14 {
            assert!(may_overwrite(&block(3, 1, 14), strip, 0, false));
            assert!(may_overwrite(&block(3, 1, 14), strip, 1, true));
        }
        // A window first: it reaches back no farther than the one behind it reaches ahead.
        let mut steps = block(3, 1, 14);
        steps.insert(0, window(3, 1, 14));
        assert!(may_overwrite(&steps, 2, 0, false));
        steps[0] = window(5, 1, 14);
        assert!(!may_overwrite(&steps, 2, 0, false));
        assert!(may_overwrite(&steps, 14, 0, false), "one strip has read everything");
    }
}
