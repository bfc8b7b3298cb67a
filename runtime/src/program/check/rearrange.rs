//! Looks over the steps that move elements by tables, join tensors, or take means over axes.

use super::{dense, in_memory, inside, is_ring, product, shaped};
use crate::pack::PANEL;
use crate::params::{Axis, Conv};
use crate::program::{Op, Place, Program, Step, VIEW_WORDS, View};

/// What is wrong with one of these steps; nothing with any other.
pub(super) const fn check(program: &Program<'_>, step: &Step) -> Option<&'static str> {
    let (x, y) = (&step.x, &step.y);
    match &step.op {
        Op::Concat { axis, parts, count } => concat(program, step, *axis, *parts, *count),
        Op::Gather { rows, columns, channels, fill: _ } => {
            ensure! {
                dense(x) && dense(y) => "a gathering with gaps",
                indices(program, *rows, y.rows, x.rows) => "row indices that are not there, or name rows that are not",
                indices(program, *columns, y.width, x.width) => "column indices that are not there, or name columns that are not",
                indices(program, *channels, y.channels, x.channels) => "channel indices that are not there, or name channels that are not",
            }
            None
        }
        Op::Binary { other, .. } => {
            ensure! {
                spread(x, y) && spread(other, y) => "operands that cannot be spread over the result",
                in_memory(program, other) && !is_ring(other) => "an operand outside of its memory",
            }
            None
        }
        Op::Transpose { order } => {
            let dims = [x.rows, x.width, x.channels];
            let permutation = order[0] < 3 && order[1] < 3 && order[2] < 3 && order[0] + order[1] + order[2] == 3;
            ensure! {
                permutation && order[0] != order[1] && order[1] != order[2] => "an order of axes that is no permutation",
                dense(x) && dense(y) && shaped(y, dims[order[0]], dims[order[1]], dims[order[2]]) => "a transposition of another shape, or with gaps",
            }
            None
        }
        Op::Mean { axes } => {
            let [h, w, c] = [x.rows, x.width, x.channels];
            let (h, w, c) = (if axes[0] { 1 } else { h }, if axes[1] { 1 } else { w }, if axes[2] { 1 } else { c });
            ensure! {
                dense(x) && dense(y) && shaped(y, h, w, c) => "a mean of another shape, or with gaps",
                x.rows > 0 && x.width > 0 && x.channels > 0 => "a mean of no elements",
            }
            None
        }
        Op::Interpolate { rows, columns } => {
            ensure! {
                dense(x) && dense(y) && x.channels == y.channels => "an interpolation of another shape, or with gaps",
                taps(program, *rows, y.rows, x.rows) => "taps that are not there, or name rows that are not",
                taps(program, *columns, y.width, x.width) => "taps that are not there, or name columns that are not",
            }
            None
        }
        Op::ConvTranspose { params, weight, bias } => transposed(program, step, params, *weight, *bias),
        Op::Conv { .. }
        | Op::Depthwise { .. }
        | Op::Pointwise { .. }
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Add { .. }
        | Op::Scale { .. }
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Copy
        | Op::Constant { .. } => None,
    }
}

/// Part `i` of a joined tensor; `None` where there is none.
pub(super) const fn part(program: &Program<'_>, parts: usize, i: usize) -> Option<View> {
    let at = match i.checked_mul(VIEW_WORDS) {
        Some(offset) => parts.saturating_add(offset),
        None => return None,
    };
    if !inside(at, VIEW_WORDS, program.orders.len()) {
        return None;
    }
    let mut words = [0; VIEW_WORDS];
    let mut word = 0;
    while word < VIEW_WORDS {
        words[word] = program.orders[at + word];
        word += 1;
    }
    View::from_words(words)
}

const fn concat(program: &Program<'_>, step: &Step, axis: Axis, parts: usize, count: usize) -> Option<&'static str> {
    let (x, y) = (&step.x, &step.y);
    ensure! { dense(x) && dense(y) => "a joined tensor with gaps" }
    let (mut long, mut i) = (0usize, 0);
    // The input is the first part, and stands in the list too.
    while i < count {
        let Some(view) = part(program, parts, i) else { return Some("parts that are not there") };
        ensure! {
            in_memory(program, &view) && dense(&view) => "a part outside of its memory, or with gaps",
            matches!(axis, Axis::H) || view.rows == y.rows => "a part of other rows",
            matches!(axis, Axis::W) || view.width == y.width => "a part of other columns",
            matches!(axis, Axis::C) || view.channels == y.channels => "a part of other channels",
        }
        long = long.saturating_add(match axis {
            Axis::H => view.rows,
            Axis::W => view.width,
            Axis::C => view.channels,
        });
        i += 1;
    }
    let whole = match axis {
        Axis::H => y.rows,
        Axis::W => y.width,
        Axis::C => y.channels,
    };
    ensure! { long == whole => "parts that are not the whole" }
    None
}

/// Whether along every axis an operand is as long as the result, or one.
const fn spread(x: &View, y: &View) -> bool {
    let rows = x.rows == y.rows || x.rows == 1 || is_ring(x) || is_ring(y);
    rows && (x.width == y.width || x.width == 1) && (x.channels == y.channels || x.channels == 1)
}

/// Whether a table of `out` indices is there and names elements of an axis of `len`, or the fill value; without one the axis stays
/// as it is.
const fn indices(program: &Program<'_>, table: Option<usize>, out: usize, len: usize) -> bool {
    let Some(at) = table else { return out == len };
    if !inside(at, out, program.orders.len()) {
        return false;
    }
    let mut i = 0;
    while i < out {
        let index = program.orders[at + i];
        if index >= len && index != crate::kernel::FILL {
            return false;
        }
        i += 1;
    }
    true
}

/// Whether `out` taps are there and name elements of an axis of `len`.
const fn taps(program: &Program<'_>, at: usize, out: usize, len: usize) -> bool {
    if !inside(at, product([3, out]), program.orders.len()) {
        return false;
    }
    let mut i = 0;
    while i < out {
        let (low, high, weight) = (program.orders[at + 3 * i], program.orders[at + 3 * i + 1], program.orders[at + 3 * i + 2]);
        if low >= len || high >= len || weight > u32::MAX as usize {
            return false;
        }
        i += 1;
    }
    true
}

const fn transposed(program: &Program<'_>, step: &Step, p: &Conv, weight: usize, bias: usize) -> Option<&'static str> {
    let (x, y) = (&step.x, &step.y);
    let Some((in_c, out_c)) = p.group() else { return Some("groups that do not divide the channels") };
    let panels = out_c.div_ceil(PANEL);
    ensure! {
        shaped(x, p.in_h, p.in_w, p.in_c) && !is_ring(x) => "a transposed convolution's input of another shape",
        shaped(y, p.out_h, p.out_w, p.out_c) && !is_ring(y) => "a transposed convolution's output of another shape",
        super::windows(p.in_h, p.span_h(), p.stride_h, p.pad_top) => "windows that make no sense",
        super::windows(p.in_w, p.span_w(), p.stride_w, p.pad_left) => "windows that make no sense",
        super::windows(p.out_h, 1, 1, p.pad_top) && super::windows(p.out_w, 1, 1, p.pad_left) => "windows that make no sense",
        inside(weight, product([p.groups, panels, PANEL, p.kernel_h, p.kernel_w, in_c]), program.weights) => "weights outside of the blob",
        inside(bias, product([p.groups, panels, PANEL]), program.weights) => "a bias outside of the blob",
    }
    None
}

/// Whether two views start at the same place in a tensor, whatever their shapes.
pub(super) const fn same_start(a: &View, b: &View) -> bool {
    match (a.place, b.place) {
        (Place::Output(a), Place::Output(b)) | (Place::Arena(a), Place::Arena(b)) => a == b,
        (Place::Input(_) | Place::Output(_) | Place::Arena(_) | Place::Ring { .. }, _) => false,
    }
}
