//! The loop over stages, strips and steps.

use core::ops::Range;

use super::check::{Checked, MOST_STEPS, reach};
use super::record::Record;
use super::{Added, Op, Place, Program, Split, Stage, Step, VIEW_WORDS, View};
use crate::isa::Isa;
use crate::kernel::bands::{Broadcast, Conv, ConvTranspose, Depthwise, Later, Map, Mean, Pointwise, Strided, Window};
use crate::kernel::{self, Binary, Rows};
use crate::net::RunError;
use crate::pack::PANEL;
use crate::params::{Activation, Axis};
use crate::team::Team;

/// Where an inference reads and writes: the start of each operand.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Memory {
    pub isa: Isa,
    pub weights: *const f32,
    pub arena: *mut f32,
    pub input: *const f32,
    pub output: *mut f32,
}

/// One inference's operands, as long as the program says, for all of its threads.
pub(crate) struct Inference<'a> {
    program: Checked<'a>,
    memory: Memory,
}

// SAFETY: the pointers come from slices that the inference borrows, and a checked program's threads never touch the same float in
// one stage, unless all only read it.
unsafe impl Sync for Inference<'_> {}

impl<'a> Inference<'a> {
    /// Borrows the operands. The caller keeps them borrowed while the inference lives.
    fn new(
        program: Checked<'a>,
        isa: Isa,
        weights: &[f32],
        arena: &mut [f32],
        input: &[f32],
        output: &mut [f32],
    ) -> Result<Self, RunError> {
        let p = program.get();
        RunError::check(input.len(), p.input, output.len(), p.output)?;
        if arena.len() < p.arena {
            return Err(RunError::Arena { expected: p.arena, actual: arena.len() });
        }
        if weights.len() < p.weights {
            return Err(RunError::Weights { expected: p.weights, actual: weights.len() });
        }
        let memory = Memory {
            isa,
            weights: weights.as_ptr(),
            arena: arena.as_mut_ptr(),
            input: input.as_ptr(),
            output: output.as_mut_ptr(),
        };
        Ok(Self { program, memory })
    }

    /// The part of thread `thread` of `threads` of one stage that was written down by itself.
    ///
    /// # Safety
    /// The record is of a checked program, `memory` holds operands of its sizes, `threads` is at most the program's, every
    /// thread below it does its part once, all before any goes on, and nothing else uses the operands meanwhile.
    pub(crate) unsafe fn stage_alone(record: &'a Record<'a>, memory: Memory, thread: usize, threads: usize) {
        let (stages, steps) = (core::slice::from_ref(&record.stage), record.steps());
        let (orders, most) = (record.orders, record.threads);
        let program = Program { stages, steps, orders, input: 0, output: 0, arena: 0, weights: 0, threads: most };
        let inference = Self { program: Checked::known(program), memory };
        // SAFETY: the caller's promise.
        unsafe { inference.stage(&record.stage, steps, thread, threads) };
    }

    /// The part of thread `thread` of `threads` of stage `stage`, whose steps are those from `first` on. Nothing where there is none.
    ///
    /// # Safety
    /// `memory` holds operands of the program's sizes, `threads` is at most the program's, every thread below it does its part once,
    /// all before any goes on, and nothing else uses the operands meanwhile.
    #[cfg(feature = "std")]
    pub(crate) unsafe fn stage_of(
        program: Checked<'a>,
        (stage, first): (usize, usize),
        memory: Memory,
        thread: usize,
        threads: usize,
    ) {
        let Program { stages, steps, .. } = *program.get();
        let Some(stage) = stages.get(stage) else { return };
        let Some(steps) = steps.get(first..).and_then(|s| s.get(..stage.steps)) else { return };
        // SAFETY: the caller's promise.
        unsafe { Self { program, memory }.stage(stage, steps, thread, threads) };
    }

    /// The part of thread `thread` of `threads`; `wait` returns when all threads have called it.
    ///
    /// # Safety
    /// `threads` is at most the program's, every thread below it runs once, and nothing else uses the operands meanwhile.
    unsafe fn part(&self, thread: usize, threads: usize, wait: impl Fn()) {
        let Program { stages, mut steps, .. } = *self.program.get();
        for stage in stages {
            let these;
            (these, steps) = steps.split_at(stage.steps);
            // SAFETY: as the caller keeps it; no thread is in another stage, for all of them wait behind each.
            unsafe { self.stage(stage, these, thread, threads) };
            wait();
        }
    }

    /// # Safety
    /// As for [`Self::part`], with all threads in this stage.
    unsafe fn stage(&self, stage: &Stage, steps: &[Step], thread: usize, threads: usize) {
        let Some(last) = steps.last() else { return };
        let share = |n: usize| n * thread / threads..n * (thread + 1) / threads;
        let (rows, channels) = (0..out_rows(last), 0..last.y.channels);
        let (rows, channels) = match stage.split {
            Split::Alone if thread > 0 => return,
            Split::Alone => (rows, channels),
            Split::Rows => (share(rows.end), channels),
            Split::Channels => {
                let units = share(channels.end.div_ceil(PANEL));
                (rows, (units.start * PANEL).min(channels.end)..(units.end * PANEL).min(channels.end))
            }
        };
        if rows.is_empty() || channels.is_empty() {
            return;
        }
        // SAFETY: bands of different threads are apart.
        unsafe { self.band(stage.strip, steps, rows, channels, thread) };
    }

    /// The rows `rows` of the last step, strip by strip.
    ///
    /// # Safety
    /// No other thread computes these rows and channels.
    unsafe fn band(&self, strip: usize, steps: &[Step], rows: Range<usize>, channels: Range<usize>, thread: usize) {
        let last = steps.len() - 1;
        let mut done = [0; MOST_STEPS];
        done[last] = rows.start;
        for i in (1..=last).rev() {
            done[i - 1] = reach(&steps[i].op, done[i]..done[i]).start;
        }
        let mut needed = [0; MOST_STEPS];
        while done[last] < rows.end {
            needed[last] = done[last].saturating_add(strip).min(rows.end);
            for i in (1..=last).rev() {
                needed[i - 1] = reach(&steps[i].op, done[i]..needed[i]).end;
            }
            for (i, step) in steps.iter().enumerate() {
                while done[i] < needed[i] {
                    let end = needed[i].min(piece_end(step, done[i]));
                    let channels = if i == last { channels.clone() } else { 0..step.y.channels };
                    // SAFETY: rows of the step that stand one behind the other in all its views.
                    unsafe { self.call(step, done[i]..end, channels, thread, last == 0) };
                    done[i] = end;
                }
            }
        }
    }

    /// The start of a place.
    fn base(&self, place: Place, thread: usize) -> *mut f32 {
        let m = &self.memory;
        match place {
            Place::Input(at) => m.input.cast_mut().wrapping_add(at),
            Place::Output(at) => m.output.wrapping_add(at),
            Place::Arena(at) => m.arena.wrapping_add(at),
            Place::Ring { first, apart } => m.arena.wrapping_add(first + thread * apart),
        }
    }

    /// The start of row `r` of a view.
    fn row(&self, view: &View, r: usize, thread: usize) -> *mut f32 {
        self.base(view.place, thread).wrapping_add(r % view.rows.max(1) * view.width * view.pitch)
    }

    fn rows(&self, view: &View, thread: usize) -> Rows {
        Rows { first: self.base(view.place, thread), rows: view.rows, width: view.width, pitch: view.pitch }
    }

    /// A view without gaps as a slice.
    ///
    /// # Safety
    /// Nothing writes it while the slice lives.
    unsafe fn slice(&self, view: &View, thread: usize) -> &[f32] {
        // SAFETY: a checked view lies in its memory, whose floats are initialised.
        unsafe { core::slice::from_raw_parts(self.base(view.place, thread), view.span()) }
    }

    /// A view without gaps as a slice to write.
    ///
    /// # Safety
    /// Nothing else uses it while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the arena is shared among threads; the caller keeps parts of it apart")]
    unsafe fn slice_mut(&self, view: &View, thread: usize) -> &mut [f32] {
        // SAFETY: a checked view lies in its memory, whose floats are initialised.
        unsafe { core::slice::from_raw_parts_mut(self.base(view.place, thread), view.span()) }
    }

    /// Weights from float `at` on for a step that is its stage: one of several would ask for them at every strip.
    fn later(&self, at: usize, thread: usize) -> Later {
        let Program { weights, threads, .. } = *self.program.get();
        Later::part(self.memory.weights.wrapping_add(at), weights.saturating_sub(at), thread, threads)
    }

    /// Rows `rows` and channels `channels` of a step, which may be `alone` in its stage; the rows stand one behind the other in all
    /// its views.
    ///
    /// # Safety
    /// No other thread computes them, and none writes what they read.
    unsafe fn call(&self, step: &Step, rows: Range<usize>, channels: Range<usize>, thread: usize, alone: bool) {
        let Memory { isa, weights, .. } = self.memory;
        let weight = |at: usize| weights.wrapping_add(at);
        let first = rows.start;
        let y = self.row(&step.y, first, thread);
        let y_pitch = step.y.pitch;
        let added = |added: &Added| match added {
            Added::Nothing => None,
            Added::InPlace => Some((y.cast_const(), y_pitch)),
            Added::From(view) => Some((self.row(view, first, thread).cast_const(), view.pitch)),
        };
        let map = |f: Binary, act: Activation, b: Option<&View>, per_pixel: bool| Map {
            f,
            act,
            pixels: rows.len() * step.y.width,
            channels: channels.clone(),
            a: self.row(&step.x, first, thread),
            a_pitch: step.x.pitch,
            b: b.map_or(core::ptr::null(), |b| self.row(b, if per_pixel { first } else { 0 }, thread)),
            b_pitch: b.map_or(0, |b| if per_pixel { b.pitch } else { 0 }),
            y,
            y_pitch,
        };
        let kernels = self.program.kernels();
        // SAFETY: the caller's promise.
        let mapped = |band: Map| unsafe { kernels.map(band.f)(isa, band) };
        // SAFETY: the program was checked: every view lies in its memory and has the size that the parameters say, packed weights
        // and biases lie in the blob, and what is written is nothing that is read, but in place; bands are the caller's.
        unsafe {
            match &step.op {
                Op::Conv { params: p, weight: w, bias, pad_value, added: r } => kernels.conv(p)(
                    isa,
                    Conv {
                        p,
                        rows,
                        columns: channels,
                        x: self.rows(&step.x, thread),
                        w: weight(*w),
                        bias: weight(*bias),
                        pad_value: pad_value.map(weight),
                        residual: added(r),
                        y,
                        y_pitch,
                    },
                ),
                Op::Depthwise { params: p, weight: w, bias, pad_value } => kernels.depthwise(p)(
                    isa,
                    Depthwise {
                        p,
                        rows,
                        channels,
                        x: self.rows(&step.x, thread),
                        w: weight(*w),
                        bias: weight(*bias),
                        pad_value: pad_value.map(weight),
                        y,
                        y_pitch,
                    },
                ),
                Op::Pointwise { params: p, weight: w, bias, added: r } => kernels.pointwise(p)(
                    isa,
                    Pointwise {
                        p,
                        pixels: if p.pool { p.h * p.w } else { rows.len() * p.w },
                        columns: channels,
                        x: self.row(&step.x, if p.pool { 0 } else { first }, thread),
                        x_pitch: step.x.pitch,
                        w: weight(*w),
                        bias: weight(*bias),
                        residual: added(r),
                        y,
                        y_pitch,
                        later: if alone { self.later(w + p.weights(), thread) } else { Later::nothing() },
                    },
                ),
                Op::Pool(p) => kernels.window()(isa, Window { p, rows, channels, x: self.rows(&step.x, thread), y, y_pitch }),
                Op::GlobalPool => kernels.mean()(
                    isa,
                    Mean {
                        pixels: step.x.rows * step.x.width,
                        channels,
                        x: self.base(step.x.place, thread),
                        x_pitch: step.x.pitch,
                        y,
                    },
                ),
                Op::Add { other, act } => mapped(map(Binary::Sum, *act, Some(other), true)),
                Op::Scale { scale, act } => mapped(map(Binary::Product, *act, Some(scale), false)),
                Op::Act(act) => mapped(map(Binary::First, *act, None, true)),
                Op::Softmax if step.x == step.y => kernel::softmax_in_place(step.y.channels, self.slice_mut(&step.y, thread)),
                Op::Softmax => {
                    kernel::softmax(step.y.channels, self.slice(&step.x, thread), self.slice_mut(&step.y, thread));
                }
                Op::Normalize { order, scale, shift } => {
                    let order = &self.program.get().orders[*order..][..step.y.channels];
                    let constants = |at| core::slice::from_raw_parts(weight(at), order.len());
                    let (x, y) = (self.slice(&step.x, thread), self.slice_mut(&step.y, thread));
                    kernel::normalize(step.y.rows * step.y.width, order, constants(*scale), constants(*shift), x, y);
                }
                Op::Pad { top, left, value } => {
                    let (i, o) = (&step.x, &step.y);
                    let value = value.map(|v| core::slice::from_raw_parts(weight(v), i.channels));
                    let (x, y) = (self.slice(i, thread), self.slice_mut(o, thread));
                    kernel::pad(i.rows, i.width, i.channels, *top, *left, o.rows, o.width, value, x, y);
                }
                Op::Copy if step.x.place == step.y.place => {}
                Op::Copy => self.slice_mut(&step.y, thread).copy_from_slice(self.slice(&step.x, thread)),
                Op::PRelu { slope } => {
                    let slope = Map { b: weight(*slope), ..map(Binary::Slope, Activation::None, None, false) };
                    mapped(slope);
                }
                Op::Binary { kind, other, act } => {
                    // Rings are gone through piece by piece, so that rows stand one behind the other.
                    let strided = |view: &View| {
                        let shape = [view.rows, view.width, view.channels];
                        Strided::new(self.row(view, first, thread).cast_const(), shape, view.pitch)
                    };
                    let shape = [step.y.rows, step.y.width, step.y.channels];
                    let band = Broadcast {
                        kind: *kind,
                        act: *act,
                        rows: 0..rows.len(),
                        width: step.y.width,
                        channels,
                        a: strided(&step.x),
                        b: strided(other),
                        y: Strided::new(y, shape, y_pitch),
                    };
                    kernels.broadcast()(isa, band);
                }
                Op::ConvTranspose { params: p, weight: w, bias } => kernels.conv_transpose()(
                    isa,
                    ConvTranspose {
                        p,
                        columns: channels,
                        x: self.rows(&step.x, thread),
                        w: weight(*w),
                        bias: weight(*bias),
                        y,
                        y_pitch,
                    },
                ),
                Op::Concat { .. } | Op::Gather { .. } | Op::Transpose { .. } | Op::Mean { .. } | Op::Interpolate { .. } => {
                    self.rearrange(step, thread);
                }
                Op::Constant { value } => {
                    let value = core::slice::from_raw_parts(weight(*value), step.y.span());
                    self.slice_mut(&step.y, thread).copy_from_slice(value);
                }
            }
        }
    }
}

impl Inference<'_> {
    /// A step that moves whole tensors without gaps.
    ///
    /// # Safety
    /// No other thread computes it, and none writes what it reads.
    unsafe fn rearrange(&self, step: &Step, thread: usize) {
        let (i, o) = (&step.x, &step.y);
        let orders = self.program.get().orders;
        let shape = [i.rows, i.width, i.channels];
        // SAFETY: the program was checked: views lie in their memory, have no gaps, and what is written is nothing that is read.
        let (x, y) = unsafe { (self.slice(i, thread), self.slice_mut(o, thread)) };
        match &step.op {
            Op::Concat { axis, parts, count } => {
                let (blocks, block) = match axis {
                    Axis::H => (1, o.rows * o.width * o.channels),
                    Axis::W => (o.rows, o.width * o.channels),
                    Axis::C => (o.rows * o.width, o.channels),
                };
                let mut first = 0;
                for part in orders[*parts..][..*count * VIEW_WORDS].as_chunks().0 {
                    let Some(view) = View::from_words(*part) else { continue };
                    // SAFETY: as above, of every part.
                    kernel::concat_part(blocks, block, first, unsafe { self.slice(&view, thread) }, y);
                    first += view.span().checked_div(blocks).unwrap_or(0);
                }
            }
            Op::Gather { rows, columns, channels, fill } => {
                let table = |at: &Option<usize>, len: usize| at.map(|at| &orders[at..][..len]);
                let tables = [table(rows, o.rows), table(columns, o.width), table(channels, o.channels)];
                kernel::gather(shape, tables, fill.get(), x, y);
            }
            Op::Transpose { order } => kernel::transpose(shape, *order, x, y),
            Op::Mean { axes } => kernel::mean(shape, *axes, x, y),
            Op::Interpolate { rows, columns } => {
                let taps = |at: usize, len: usize| orders[at..][..3 * len].as_chunks().0;
                kernel::interpolate(taps(*rows, o.rows), taps(*columns, o.width), i.width, i.channels, x, y);
            }
            Op::Conv { .. }
            | Op::Depthwise { .. }
            | Op::Pointwise { .. }
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Add { .. }
            | Op::Scale { .. }
            | Op::Act(_)
            | Op::PRelu { .. }
            | Op::Binary { .. }
            | Op::Softmax
            | Op::Normalize { .. }
            | Op::Pad { .. }
            | Op::ConvTranspose { .. }
            | Op::Copy
            | Op::Constant { .. } => {}
        }
    }
}

/// Output rows by which a step is banded; one for what needs all of its input.
fn out_rows(step: &Step) -> usize {
    step.y.rows
}

/// The first row behind `row` at which one of the rings that a step goes through row by row starts again.
fn piece_end(step: &Step, row: usize) -> usize {
    let end = |view: &View| match view.place {
        Place::Ring { .. } => (row / view.rows.max(1) + 1) * view.rows.max(1),
        Place::Input(_) | Place::Output(_) | Place::Arena(_) => usize::MAX,
    };
    match &step.op {
        // Windows find their rows in a ring themselves.
        Op::Conv { added: Added::From(view), .. } => end(&step.y).min(end(view)),
        Op::Conv { .. } | Op::Depthwise { .. } | Op::Pool(_) => end(&step.y),
        Op::Pointwise { added: Added::From(view), .. } => end(&step.x).min(end(&step.y)).min(end(view)),
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
        | Op::Constant { .. } => end(&step.x).min(end(&step.y)),
    }
}

impl Checked<'_> {
    /// One inference on this thread alone. Slices: the whole weight blob, at least the arena's floats of any content (best at the
    /// alignment of a cache line), the whole NHWC tensors.
    ///
    /// # Errors
    /// A slice has the wrong length; nothing was computed then.
    pub fn run(self, isa: Isa, weights: &[f32], arena: &mut [f32], input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        let inference = Inference::new(self, isa, weights, arena, input, output)?;
        // SAFETY: one thread; the slices stay borrowed.
        unsafe { inference.part(0, 1, || {}) };
        Ok(())
    }

    /// Stage `stage` alone, for measuring, by `threads` of `team`, at most as many as the program has rings for; the stages before it
    /// have left their results in `arena`. Where there is no such stage, nothing is computed.
    ///
    /// # Errors
    /// A slice has the wrong length; nothing was computed then.
    #[expect(clippy::too_many_arguments, reason = "one slice an operand")]
    pub fn run_stage(
        self,
        stage: usize,
        team: &mut Team,
        threads: usize,
        isa: Isa,
        weights: &[f32],
        arena: &mut [f32],
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), RunError> {
        let inference = Inference::new(self, isa, weights, arena, input, output)?;
        let Program { stages, steps, threads: most, .. } = *self.get();
        let threads = threads.min(most).clamp(1, team.threads());
        if let Some((before, [stage, ..])) = stages.split_at_checked(stage) {
            let first = before.iter().map(|s| s.steps).sum::<usize>();
            let steps = &steps[first..][..stage.steps];
            // SAFETY: the team runs every thread below `threads` once and returns when all are done; the slices stay borrowed.
            team.run(threads, &|thread, _| unsafe { inference.stage(stage, steps, thread, threads) });
        }
        Ok(())
    }

    /// One inference by as many threads of `team` as the program has rings for; the same bits as [`Self::run`].
    ///
    /// # Errors
    /// A slice has the wrong length; nothing was computed then.
    pub fn run_on(
        self,
        team: &mut Team,
        isa: Isa,
        weights: &[f32],
        arena: &mut [f32],
        input: &[f32],
        output: &mut [f32],
    ) -> Result<(), RunError> {
        let threads = self.get().threads.min(team.threads());
        if threads <= 1 {
            return self.run(isa, weights, arena, input, output);
        }
        let inference = Inference::new(self, isa, weights, arena, input, output)?;
        // SAFETY: the team runs every thread below `threads` once and returns when all are done; the slices stay borrowed.
        team.run(threads, &|thread, barrier| unsafe { inference.part(thread, threads, || barrier.wait()) });
        Ok(())
    }
}
