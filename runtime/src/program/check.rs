//! Looks over a program once: every size, every place, and that nothing is written where it is read.

use core::ops::Range;

use super::{Added, Op, Place, Program, Split, Stage, Step, View};
use crate::kernel::Kernels;
use crate::pack::PANEL;
use crate::params;

/// The most steps of a stage.
pub(super) const MOST_STEPS: usize = 16;

/// A program whose every access lies in its memory, and none of whose threads disturbs another: what [`Checked::new`] let through.
///
/// Whether a ring holds a row until its last reader has seen it is for whoever makes the program: too small a ring gives wrong
/// numbers, never a wrong access.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a> {
    program: Program<'a>,
    /// At least those that the program calls.
    kernels: Kernels,
}

/// What is wrong with a program, and where: a mistake of whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramError {
    /// Index of the stage.
    pub stage: usize,
    /// Index of the step in it.
    pub step: usize,
    /// What is wrong.
    pub what: &'static str,
}

impl<'a> Checked<'a> {
    /// Looks over `program`.
    ///
    /// # Errors
    /// The first mistake.
    pub const fn new(program: Program<'a>) -> Result<Self, ProgramError> {
        let (mut i, mut first) = (0, 0);
        while i < program.stages.len() {
            let stage = &program.stages[i];
            if program.steps.len() - first < stage.steps {
                return Err(ProgramError { stage: i, step: 0, what: "a stage of more steps than there are" });
            }
            if let Some((step, what)) = check_stage(&program, stage, first) {
                return Err(ProgramError { stage: i, step, what });
            }
            first += stage.steps;
            i += 1;
        }
        if program.threads == 0 {
            return Err(ProgramError { stage: 0, step: 0, what: "a program without a thread" });
        }
        Ok(Self { kernels: Kernels::of(&program), program })
    }

    /// The same for a `const`: a mistake stops the build.
    ///
    /// ```
    /// use mnc_runtime::program::{Checked, Op, Place, Program, Split, Stage, Step, View};
    ///
    /// const X: View = View::whole(Place::Input(0), 2, 2, 3);
    /// static COPY: Checked<'static> = Checked::expect(Program {
    ///     stages: &[Stage { steps: 1, strip: 2, split: Split::Alone }],
    ///     steps: &[Step { op: Op::Copy, x: X, y: View { place: Place::Output(0), ..X } }],
    ///     orders: &[], input: 12, output: 12, arena: 0, weights: 0, threads: 1,
    /// });
    /// let (input, mut output) = ([7.0; 12], [0.0; 12]);
    /// COPY.run(mnc_runtime::isa::Isa::detect(), &[], &mut [], &input, &mut output).unwrap();
    /// assert_eq!(input, output);
    /// ```
    /// With an output of another length it does not compile:
    /// ```compile_fail,E0080
    /// # use mnc_runtime::program::{Checked, Op, Place, Program, Split, Stage, Step, View};
    /// # const X: View = View::whole(Place::Input(0), 2, 2, 3);
    /// static COPY: Checked<'static> = Checked::expect(Program {
    ///     stages: &[Stage { steps: 1, strip: 2, split: Split::Alone }],
    ///     steps: &[Step { op: Op::Copy, x: X, y: View { place: Place::Output(0), ..X } }],
    ///     orders: &[], input: 12, output: 11, arena: 0, weights: 0, threads: 1,
    /// });
    /// ```
    ///
    /// # Panics
    /// With what is wrong.
    #[must_use]
    pub const fn expect(program: Program<'a>) -> Self {
        match Self::new(program) {
            Ok(checked) => checked,
            Err(error) => panic!("{}", error.what),
        }
    }

    /// A program that [`Self::new`] let through before.
    pub(super) const fn known(program: Program<'a>) -> Self {
        Self { program, kernels: Kernels::ALL }
    }

    /// The program.
    #[must_use]
    pub const fn get(&self) -> &Program<'a> {
        &self.program
    }

    /// The kernels that its steps call.
    pub(super) const fn kernels(&self) -> &Kernels {
        &self.kernels
    }
}

/// Input rows that output rows `rows` of `op` read; of no rows, where the first would start.
pub(super) const fn reach(op: &Op, rows: Range<usize>) -> Range<usize> {
    let mut rows = rows;
    let (kernel, stride, pad, len) = match op {
        Op::Conv { params: p, .. } => {
            // Computed by tiles, from the first that a row is in to the last.
            let tile = p.method.tile();
            rows = rows.start / tile * tile..rows.end.div_ceil(tile) * tile;
            (p.span_h(), p.stride_h, p.pad_top, p.in_h)
        }
        Op::Depthwise { params: p, .. } => (p.span_h(), p.stride_h, p.pad_top, p.in_h),
        Op::Pool(p) => (p.kernel_h, p.stride_h, p.pad_top, p.in_h),
        Op::Pointwise { .. }
        | Op::GlobalPool
        | Op::Add { .. }
        | Op::Scale { .. }
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Binary { .. }
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => return rows,
    };
    let start = min((rows.start * stride).saturating_sub(pad), len);
    let end = if rows.end == 0 { 0 } else { min(((rows.end - 1) * stride + kernel).saturating_sub(pad), len) };
    start..max(start, end)
}

const fn min(a: usize, b: usize) -> usize {
    if a < b { a } else { b }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The product, or `usize::MAX`, which nothing is as long as.
const fn product<const N: usize>(factors: [usize; N]) -> usize {
    let (mut p, mut i) = (1usize, 0);
    while i < N {
        p = match p.checked_mul(factors[i]) {
            Some(p) => p,
            None => return usize::MAX,
        };
        i += 1;
    }
    p
}

/// Whether `len` floats from `at` on lie in `of`.
const fn inside(at: usize, len: usize, of: usize) -> bool {
    match at.checked_add(len) {
        Some(end) => end <= of && len != usize::MAX,
        None => false,
    }
}

macro_rules! ensure {
    ($($condition:expr => $what:literal),* $(,)?) => {
        {
            $(if !$condition {
                return Some($what);
            })*
        }
    };
}

mod rearrange;

/// The step at which a stage is wrong, and why.
const fn check_stage(program: &Program<'_>, stage: &Stage, first: usize) -> Option<(usize, &'static str)> {
    let n = stage.steps;
    if n == 0 || n > MOST_STEPS || stage.strip == 0 {
        return Some((0, "a stage without steps, with too many, or with strips of no rows"));
    }
    // Rows of the tensor between two steps, of which the ring holds some, and of those that the steps so far made.
    let mut height = program.steps[first].x.rows;
    let mut heights = [0; MOST_STEPS];
    let mut i = 0;
    while i < n {
        let step = &program.steps[first + i];
        let before = if i == 0 { None } else { Some(&program.steps[first + i - 1]) };
        if let Some(what) = check_step(program, stage, step, before, i + 1 == n) {
            return Some((i, what));
        }
        height = match out_height(step, height) {
            Some(height) if i + 1 < n || height == step.y.rows => height,
            _ => return Some((i, "rows that do not follow from those before")),
        };
        if let Some(view) = added_ring(step) {
            // What an older step of the stage makes, in as many rows.
            let mut k = 0;
            while k < i && !same_view(&program.steps[first + k].y, view) {
                k += 1;
            }
            if k == i || heights[k] != height {
                return Some((i, "a residual from a ring that no step before it wrote"));
            }
        }
        heights[i] = height;
        i += 1;
    }
    // Nothing that the stage reads or writes elsewhere may be where a step writes.
    i = 0;
    while i < n {
        let step = &program.steps[first + i];
        let mut j = 0;
        while j < n {
            if let Some(what) = check_apart(program, step, &program.steps[first + j], j as isize - i as isize, stage.split) {
                return Some((i, what));
            }
            j += 1;
        }
        i += 1;
    }
    None
}

/// The ring that a step adds rows of.
const fn added_ring(step: &Step) -> Option<&View> {
    match &step.op {
        Op::Conv { added: Added::From(view), .. } | Op::Pointwise { added: Added::From(view), .. } if is_ring(view) => Some(view),
        _ => None,
    }
}

/// What is wrong with a step by itself and with what it takes over from the one before.
const fn check_step(
    program: &Program<'_>,
    stage: &Stage,
    step: &Step,
    before: Option<&Step>,
    last: bool,
) -> Option<&'static str> {
    ensure! {
        in_memory(program, &step.x) || matches!(step.op, Op::Constant { .. }) => "an input outside of its memory",
        in_memory(program, &step.y) => "an output outside of its memory",
        !matches!(step.y.place, Place::Input(_)) => "a step that writes the input",
        last != matches!(step.y.place, Place::Ring { .. }) => "a ring that is no link between two steps",
    }
    match before {
        Some(before) => ensure! {
            same_view(&before.y, &step.x) => "a step that does not read what the one before wrote",
            by_rows(&step.op) && by_rows(&before.op) => "a chain through a kernel that needs all rows",
        },
        None => ensure! { !matches!(step.x.place, Place::Ring { .. }) => "a ring that nothing wrote" },
    }
    match stage.split {
        Split::Alone => {}
        Split::Rows => ensure! { by_rows(&step.op) => "bands of rows of a kernel that needs all rows" },
        Split::Channels => ensure! {
            stage.steps == 1 => "bands of channels of a chain",
            by_channels(&step.op) => "bands of channels of a kernel that needs all channels",
        },
    }
    check_op(program, step)
}

/// Rows of what a step writes where it reads `height` rows, rings taken as the tensors that pass through them; `None` where it is made
/// for others, or a further operand has others.
const fn out_height(step: &Step, height: usize) -> Option<usize> {
    let (input, output) = match &step.op {
        Op::Conv { params: p, .. } => (p.in_h, p.out_h),
        Op::Depthwise { params: p, .. } => (p.in_h, p.out_h),
        Op::Pool(p) => (p.in_h, p.out_h),
        Op::Pointwise { params: p, .. } => (p.h, if p.pool { 1 } else { p.h }),
        Op::Add { .. } | Op::Scale { .. } | Op::Act(_) | Op::PRelu { .. } => (height, height),
        // One row for all, outside of a chain; else as many as are read.
        Op::Binary { .. } if height == 1 && !is_ring(&step.x) && !is_ring(&step.y) => (height, step.y.rows),
        Op::Binary { .. } => (height, height),
        Op::GlobalPool
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => (height, step.y.rows),
    };
    let fits = match &step.op {
        Op::Conv { added: Added::From(view), .. } | Op::Pointwise { added: Added::From(view), .. } => {
            view.rows == output || is_ring(view)
        }
        Op::Add { other: view, .. } => view.rows == output,
        Op::Binary { other: view, .. } => view.rows == output || view.rows == 1,
        Op::Conv { .. }
        | Op::Pointwise { .. }
        | Op::Depthwise { .. }
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Scale { .. }
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => true,
    };
    if input == height && fits { Some(output) } else { None }
}

/// What is wrong with the parameters, weights and further operands of a step.
const fn check_op(program: &Program<'_>, step: &Step) -> Option<&'static str> {
    let (x, y) = (&step.x, &step.y);
    let blob = program.weights;
    match &step.op {
        Op::Conv { params: p, weight, bias, pad_value, added } => {
            ensure! {
                shaped(x, p.in_h, p.in_w, p.in_c) => "a convolution's input of another shape",
                shaped(y, p.out_h, p.out_w, p.out_c) => "a convolution's output of another shape",
                windows(p.out_h, p.span_h(), p.stride_h, p.pad_top) => "windows that make no sense",
                windows(p.out_w, p.span_w(), p.stride_w, p.pad_left) => "windows that make no sense",
            }
            let Some((in_c, out_c)) = p.group() else { return Some("groups that do not divide the channels") };
            let panels = out_c.div_ceil(PANEL);
            ensure! {
                p.has_method() && (matches!(p.method, params::Method::Direct) || pad_value.is_none()) => "a method that cannot compute its windows",
                inside(*weight, product([p.groups, panels, PANEL, p.taps(), in_c]), blob) => "weights outside of the blob",
                inside(*bias, product([p.groups, panels, PANEL]), blob) => "a bias outside of the blob",
                optional(*pad_value, p.in_c, blob) => "padding outside of the blob",
            }
            check_added(program, added, y)
        }
        Op::Depthwise { params: p, weight, bias, pad_value } => {
            let c = product([p.in_c, p.multiplier]);
            ensure! {
                shaped(x, p.in_h, p.in_w, p.in_c) => "a depthwise convolution's input of another shape",
                shaped(y, p.out_h, p.out_w, c) => "a depthwise convolution's output of another shape",
                windows(p.out_h, p.span_h(), p.stride_h, p.pad_top) => "windows that make no sense",
                windows(p.out_w, p.span_w(), p.stride_w, p.pad_left) => "windows that make no sense",
                inside(*weight, product([c.div_ceil(PANEL), PANEL, p.kernel_h, p.kernel_w]), blob) => "weights outside of the blob",
                inside(*bias, product([c.div_ceil(PANEL), PANEL]), blob) => "a bias outside of the blob",
                optional(*pad_value, p.in_c, blob) => "padding outside of the blob",
            }
            None
        }
        Op::Pointwise { params: p, weight, bias, added } => {
            let (rows, width) = if p.pool { (1, 1) } else { (p.h, p.w) };
            ensure! {
                shaped(x, p.h, p.w, p.in_c) => "a pointwise convolution's input of another shape",
                shaped(y, rows, width, p.out_c) => "a pointwise convolution's output of another shape",
                !p.pool || matches!(added, Added::Nothing) => "a fused pool with a residual",
                p.has_method() => "a method that cannot compute the layer",
                matches!(p.method, params::Method::Direct) || matches!(added, Added::Nothing) => "a method that takes no residual",
                inside(*weight, p.weights(), blob) => "weights outside of the blob",
                inside(*bias, product([p.out_c.div_ceil(PANEL), PANEL]), blob) => "a bias outside of the blob",
            }
            check_added(program, added, y)
        }
        Op::Pool(p) => {
            ensure! {
                shaped(x, p.in_h, p.in_w, p.c) => "a pool's input of another shape",
                shaped(y, p.out_h, p.out_w, p.c) => "a pool's output of another shape",
                windows(p.out_h, p.kernel_h, p.stride_h, p.pad_top) => "windows that make no sense",
                windows(p.out_w, p.kernel_w, p.stride_w, p.pad_left) => "windows that make no sense",
                touching(p) => "a pool's window outside of the input",
            }
            None
        }
        Op::GlobalPool => {
            ensure! {
                shaped(y, 1, 1, x.channels) && !is_ring(y) => "a mean of another shape",
                x.rows > 0 && x.width > 0 => "a mean of no pixels",
            }
            None
        }
        Op::Add { other, .. } => {
            ensure! {
                same_shape(x, y) && same_shape(other, y) => "addends of different shapes",
                in_memory(program, other) && !is_ring(other) => "an addend outside of its memory",
            }
            None
        }
        Op::Scale { scale, .. } => {
            ensure! {
                same_shape(x, y) && shaped(scale, 1, 1, y.channels) => "factors of another shape",
                in_memory(program, scale) && !is_ring(scale) => "factors outside of their memory",
            }
            None
        }
        Op::Act(_) => {
            ensure! { same_shape(x, y) => "an activation of another shape" }
            None
        }
        Op::PRelu { slope } => {
            ensure! {
                same_shape(x, y) => "an activation of another shape",
                inside(*slope, y.channels, blob) => "slopes outside of the blob",
            }
            None
        }
        Op::Binary { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. } => rearrange::check(program, step),
        Op::Softmax => {
            ensure! { same_shape(x, y) && dense(x) && dense(y) => "a softmax of another shape, or with gaps" }
            None
        }
        Op::Normalize { order, scale, shift } => {
            ensure! {
                same_shape(x, y) && dense(x) && dense(y) && inside(*order, y.channels, program.orders.len()) => "a normalisation of another shape, or with gaps",
                inside(*scale, y.channels, blob) && inside(*shift, y.channels, blob) => "constants outside of the blob",
            }
            let mut i = 0;
            while i < y.channels {
                ensure! { program.orders[*order + i] < y.channels => "a channel that is not there" }
                i += 1;
            }
            None
        }
        Op::Pad { top, left, value } => {
            ensure! {
                dense(x) && dense(y) && x.channels == y.channels => "padding of another shape, or with gaps",
                inside(*top, x.rows, y.rows) && inside(*left, x.width, y.width) => "padding that does not hold the input",
                optional(*value, x.channels, blob) => "padding outside of the blob",
            }
            None
        }
        Op::Copy => {
            ensure! { dense(x) && dense(y) && x.span() == y.span() => "a copy of another length, or with gaps" }
            None
        }
        Op::Constant { value } => {
            ensure! { dense(y) && inside(*value, y.span(), blob) => "a constant outside of the blob" }
            None
        }
    }
}

const fn check_added(program: &Program<'_>, added: &Added, y: &View) -> Option<&'static str> {
    match added {
        Added::Nothing => None,
        Added::InPlace => {
            ensure! { !is_ring(y) => "a residual in a ring" }
            None
        }
        Added::From(view) => {
            ensure! {
                in_memory(program, view) => "a residual outside of its memory",
                same_shape(view, y) => "a residual of another shape",
            }
            None
        }
    }
}

/// What is wrong with what `other` reads and writes where `step` writes; `distance` is how much later in the stage it comes.
const fn check_apart(program: &Program<'_>, step: &Step, other: &Step, distance: isize, split: Split) -> Option<&'static str> {
    let y = &step.y;
    // What the next step reads is what this one writes; its own input may be overwritten element by element.
    let takes_over = distance == 1 && same_view(y, &other.x);
    let in_place = distance == 0 && same_view(y, &other.x) && elementwise(&step.op);
    // Another shape of what is there already.
    let in_place = in_place || distance == 0 && matches!(step.op, Op::Copy) && rearrange::same_start(y, &other.x);
    // A block's output over its input: the first step has read a row before the last writes it, on one thread.
    let behind = distance < 0 && (program.threads == 1 || matches!(split, Split::Alone));
    let over_block = behind && same_view(y, &other.x);
    if !takes_over && !in_place && !over_block && !matches!(other.op, Op::Constant { .. }) && overlap(program, y, &other.x) {
        return Some("an input where the stage writes");
    }
    if distance != 0 && overlap(program, y, &other.y) {
        return Some("two steps that write the same place");
    }
    let second = match &other.op {
        Op::Conv { added: Added::From(view), .. }
        | Op::Pointwise { added: Added::From(view), .. }
        | Op::Add { other: view, .. }
        | Op::Binary { other: view, .. }
        | Op::Scale { scale: view, .. } => Some(view),
        Op::Concat { parts, count, .. } => {
            let mut i = 0;
            while i < *count {
                match rearrange::part(program, *parts, i) {
                    Some(view) => ensure! { !overlap(program, y, &view) => "an operand where the stage writes" },
                    None => return Some("parts that are not there"),
                }
                i += 1;
            }
            None
        }
        Op::Conv { .. }
        | Op::Pointwise { .. }
        | Op::Depthwise { .. }
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => None,
    };
    if let Some(view) = second {
        // An element of it is read just before the same element is written.
        let in_place = distance == 0 && elementwise(&step.op);
        // A ring holds what a later step adds until that has read it.
        let added = distance > 0 && added_ring(other).is_some();
        if !((in_place || behind || added) && same_view(y, view)) && overlap(program, y, view) {
            return Some("an operand where the stage writes");
        }
    }
    None
}

/// Whether two views have a float in common, on any threads.
const fn overlap(program: &Program<'_>, a: &View, b: &View) -> bool {
    match (extent(program, a), extent(program, b)) {
        (Some((a_space, a_first, a_end)), Some((b_space, b_first, b_end))) => {
            a_space == b_space && a_first < b_end && b_first < a_end
        }
        _ => false,
    }
}

/// The space and the floats that a view takes in it, all threads' rings together; `None` for the input, which nobody writes.
const fn extent(program: &Program<'_>, view: &View) -> Option<(u8, usize, usize)> {
    let span = product([view.rows, view.width, view.pitch]);
    match view.place {
        Place::Input(_) => None,
        Place::Output(at) => Some((0, at, at.saturating_add(span))),
        Place::Arena(at) => Some((1, at, at.saturating_add(span))),
        Place::Ring { first, apart } => {
            let others = product([program.threads - min(program.threads, 1), apart]);
            Some((1, first, first.saturating_add(others).saturating_add(span)))
        }
    }
}

/// Whether a view lies in its memory, on every thread, and threads' rings are apart.
const fn in_memory(program: &Program<'_>, view: &View) -> bool {
    let span = product([view.rows, view.width, view.pitch]);
    if view.pitch < view.channels || view.rows == 0 {
        return false;
    }
    match view.place {
        Place::Input(at) => view.pitch == view.channels && inside(at, span, program.input),
        Place::Output(at) => view.pitch == view.channels && inside(at, span, program.output),
        Place::Arena(at) => inside(at, span, program.arena),
        Place::Ring { first, apart } => {
            let others = product([program.threads - min(program.threads, 1), apart]);
            let end = match others.checked_add(span) {
                Some(end) => end,
                None => return false,
            };
            inside(first, end, program.arena) && (program.threads <= 1 || apart >= span)
        }
    }
}

/// Whether a view is a tensor of this shape, or a ring of its rows.
const fn shaped(view: &View, h: usize, w: usize, c: usize) -> bool {
    view.width == w && view.channels == c && (view.rows == h || is_ring(view))
}

const fn same_shape(a: &View, b: &View) -> bool {
    a.width == b.width && a.channels == b.channels && (a.rows == b.rows || is_ring(a) || is_ring(b))
}

const fn same_view(a: &View, b: &View) -> bool {
    let place = match (a.place, b.place) {
        (Place::Input(a), Place::Input(b)) | (Place::Output(a), Place::Output(b)) | (Place::Arena(a), Place::Arena(b)) => a == b,
        (Place::Ring { first: a, apart: c }, Place::Ring { first: b, apart: d }) => a == b && c == d,
        _ => false,
    };
    place && a.rows == b.rows && a.width == b.width && a.channels == b.channels && a.pitch == b.pitch
}

const fn is_ring(view: &View) -> bool {
    matches!(view.place, Place::Ring { .. })
}

/// A whole tensor without gaps.
const fn dense(view: &View) -> bool {
    !is_ring(view) && view.pitch == view.channels
}

/// Whether a kernel can compute some rows of its output from the rows that they reach.
const fn by_rows(op: &Op) -> bool {
    match op {
        Op::Conv { .. }
        | Op::Depthwise { .. }
        | Op::Pool(_)
        | Op::Add { .. }
        | Op::Scale { .. }
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Binary { .. } => true,
        Op::Pointwise { params: p, .. } => !p.pool,
        Op::GlobalPool
        | Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => false,
    }
}

/// Whether a kernel can compute some channels of its output.
const fn by_channels(op: &Op) -> bool {
    match op {
        Op::Conv { params: p, .. } | Op::ConvTranspose { params: p, .. } => p.aligned(),
        // Strassen's method joins channels across panels.
        Op::Pointwise { params: p, .. } => matches!(p.method, params::Method::Direct),
        Op::Depthwise { .. }
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Add { .. }
        | Op::Scale { .. }
        | Op::Act(_)
        | Op::PRelu { .. }
        | Op::Binary { .. } => true,
        Op::Softmax
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::Copy
        | Op::Constant { .. } => false,
    }
}

/// Whether an output element depends on the same element of the input alone.
const fn elementwise(op: &Op) -> bool {
    match op {
        Op::Add { .. } | Op::Scale { .. } | Op::Act(_) | Op::PRelu { .. } | Op::Binary { .. } | Op::Softmax => true,
        Op::Conv { .. }
        | Op::Depthwise { .. }
        | Op::Pointwise { .. }
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Normalize { .. }
        | Op::Pad { .. }
        | Op::Concat { .. }
        | Op::Gather { .. }
        | Op::Transpose { .. }
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose { .. }
        | Op::Copy
        | Op::Constant { .. } => false,
    }
}

const fn optional(at: Option<usize>, len: usize, blob: usize) -> bool {
    match at {
        Some(at) => inside(at, len, blob),
        None => true,
    }
}

/// Whether windows along one axis make sense and their coordinates fit an `isize`.
const fn windows(out: usize, kernel: usize, stride: usize, pad: usize) -> bool {
    let last = match out.checked_mul(stride) {
        Some(v) => v.saturating_add(kernel).saturating_add(pad),
        None => usize::MAX,
    };
    last <= isize::MAX as usize && kernel > 0 && stride > 0
}

/// Whether every window of a pool holds an element of the input.
const fn touching(p: &params::Pool) -> bool {
    axis_touches(p.out_h, p.kernel_h, p.stride_h, p.pad_top, p.in_h)
        && axis_touches(p.out_w, p.kernel_w, p.stride_w, p.pad_left, p.in_w)
}

const fn axis_touches(out: usize, kernel: usize, stride: usize, pad: usize, len: usize) -> bool {
    pad < kernel && (out == 0 || (out - 1) * stride < len + pad)
}

impl core::fmt::Display for ProgramError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "stage {}, step {}: {}", self.stage, self.step, self.what)
    }
}

impl core::error::Error for ProgramError {}
