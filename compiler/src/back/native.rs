//! Runs a plan from data: one call of a runtime kernel a step, no code generated.
//!
//! The simplest back end and the one that the others are compared with: what a step means is written out here once. Safe code
//! throughout: a step's places become disjoint slices, which a certified plan always has.

use std::ops::Range;

use mnc_runtime::arena;
use mnc_runtime::isa::Isa;
use mnc_runtime::kernel;
use mnc_runtime::net::{Net, RunError};

use crate::plan::{Kernel, Place, Plan, Residual, Stage, Step, WeightId};

/// One inference. `arena` holds at least `plan.memory.arena_bytes` (of any content and alignment), `input` and `output` the
/// whole NHWC tensors.
///
/// # Errors
/// A slice has the wrong length; nothing was computed then.
pub fn run(plan: &Plan, isa: Isa, arena: &mut [f32], input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
    RunError::check(input.len(), plan.input.shape.elements(), output.len(), plan.output.shape.elements())?;
    let expected = plan.memory.arena_bytes / 4;
    if arena.len() < expected {
        return Err(RunError::Arena { expected, actual: arena.len() });
    }
    for s in &plan.stages {
        stage(plan, isa, s, arena, input, output);
    }
    Ok(())
}

/// One stage of an inference, for measuring; the stages before it have left their results in `arena`.
///
/// # Panics
/// If a slice is shorter than [`run`] wants it.
pub fn stage(plan: &Plan, isa: Isa, stage: &Stage, arena: &mut [f32], input: &[f32], output: &mut [f32]) {
    for step in &stage.steps {
        call(plan, isa, step, arena, input, output);
    }
}

/// A plan with an arena: the engine behind tests and tools where nothing need be compiled.
#[derive(Debug, Clone)]
pub struct NativeNet {
    plan: Plan,
    isa: Isa,
    arena: Vec<f32>,
}

/// Floats in a cache line.
const LINE: usize = crate::plan::ALIGN / 4;

impl NativeNet {
    /// A net that computes with `isa`.
    #[must_use]
    pub fn new(plan: Plan, isa: Isa) -> Self {
        // Room to start at a cache line.
        let arena = vec![0.0; plan.memory.arena_bytes / 4 + LINE - 1];
        Self { plan, isa, arena }
    }

    /// Whose kernels run it.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The plan that is run.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

impl Net for NativeNet {
    fn input_shape(&self) -> [usize; 4] {
        self.plan.input.shape.dims()
    }

    fn output_shape(&self) -> [usize; 4] {
        self.plan.output.shape.dims()
    }

    fn arena_bytes(&self) -> usize {
        self.plan.memory.arena_bytes
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        let start = self.arena.as_ptr().align_offset(crate::plan::ALIGN).min(LINE - 1);
        run(&self.plan, self.isa, &mut self.arena[start..], input, output)
    }
}

/// The slices of one step. A place may be read twice; what is overwritten in place is only in `y`.
struct Slices<'a> {
    reads: [&'a [f32]; 3],
    y: &'a mut [f32],
}

/// Where `step` writes and where the places `reads` are, each with its number of elements.
fn slices<'a>(
    plan: &Plan,
    step: &Step,
    reads: [Option<(Place, usize)>; 3],
    memory: &'a mut [f32],
    input: &'a [f32],
    output: &'a mut [f32],
) -> Slices<'a> {
    let range = |place: Place, len: usize| match place {
        Place::Arena(id) | Place::Ring { buffer: id, .. } => {
            let start = plan.memory.buffers[id.0].offset / 4;
            start..start + len
        }
        Place::Input | Place::Output => 0..0,
    };
    // A range only once, or the views would overlap; an empty one stands for what is not in the arena.
    let mut ranges: [Range<usize>; 4] = [const { 0..0 }; 4];
    ranges[3] = range(step.output, step.output_shape.elements());
    for (i, read) in reads.iter().enumerate() {
        let Some((place, len)) = *read else { continue };
        if reads[..i].iter().flatten().all(|r| r.0 != place) {
            ranges[i] = range(place, len);
        }
    }
    let [a, b, c, y] = arena::views(memory, ranges);
    let views: [&'a [f32]; 3] = [a, b, c];
    let (output_read, y): (&'a [f32], &'a mut [f32]) = match step.output {
        Place::Output => (&[], output),
        Place::Input | Place::Arena(_) | Place::Ring { .. } => (output, y),
    };
    let found = std::array::from_fn(|i| match reads[i] {
        None => &[][..],
        Some((Place::Input, _)) => input,
        Some((Place::Output, _)) => output_read,
        Some((place, _)) => {
            let first = reads.iter().position(|r| r.is_some_and(|r| r.0 == place)).unwrap_or(i);
            views[first]
        }
    });
    Slices { reads: found, y }
}

/// What `step` reads apart from what it overwrites in place: its input, its second operand, a pointwise convolution's scale.
fn reads(step: &Step) -> [Option<(Place, usize)>; 3] {
    let x = Some((step.input, step.input_shape.elements()));
    let residual = |r: Residual| match r {
        Residual::None | Residual::InPlace => None,
        Residual::From(place) => Some((place, step.output_shape.elements())),
    };
    let unless_in_place = x.filter(|_| step.input != step.output);
    match &step.kernel {
        Kernel::Conv { residual: r, .. } => [x, residual(*r), None],
        Kernel::Pointwise { params, residual: r, scale, .. } => [x, residual(*r), scale.map(|s| (s, params.in_c))],
        Kernel::Add { other, len, .. } => [unless_in_place, Some((*other, *len)), None],
        Kernel::Scale { scale, c, .. } => [unless_in_place, Some((*scale, *c)), None],
        Kernel::Act { .. } | Kernel::Softmax { .. } => [unless_in_place, None, None],
        Kernel::Constant { .. } => [None; 3],
        Kernel::Depthwise { .. }
        | Kernel::Pool(_)
        | Kernel::GlobalPool { .. }
        | Kernel::Normalize { .. }
        | Kernel::Pad { .. }
        | Kernel::Copy { .. } => [x, None, None],
    }
}

fn call(plan: &Plan, isa: Isa, step: &Step, arena: &mut [f32], input: &[f32], output: &mut [f32]) {
    let Slices { reads: [x, second, scale], y } = slices(plan, step, reads(step), arena, input, output);
    let w = |id: WeightId| plan.weights.get(id);
    let in_place = step.input == step.output;
    let added = |r: Residual| match r {
        Residual::None => kernel::Residual::None,
        Residual::InPlace => kernel::Residual::InPlace,
        Residual::From(_) => kernel::Residual::From(second),
    };
    match &step.kernel {
        Kernel::Conv { params: p, weight, bias, pad_value, residual } => {
            kernel::conv(isa, p, 0..p.out_h, x, w(*weight), w(*bias), pad_value.map(w), added(*residual), y);
        }
        Kernel::Depthwise { params: p, weight, bias, pad_value } => {
            kernel::depthwise(isa, p, 0..p.out_h, x, w(*weight), w(*bias), pad_value.map(w), y);
        }
        Kernel::Pointwise { params: p, weight, bias, scale: s, residual } => {
            kernel::pointwise(isa, p, 0..p.h, x, w(*weight), w(*bias), s.map(|_| scale), added(*residual), y);
        }
        Kernel::Pool(p) => kernel::pool(isa, p, 0..p.out_h, x, y),
        Kernel::GlobalPool { pixels, c } => kernel::global_pool(isa, *pixels, *c, x, y),
        Kernel::Add { act, .. } if in_place => kernel::add_in_place(isa, *act, second, y),
        Kernel::Add { act, .. } => kernel::add(isa, *act, x, second, y),
        Kernel::Scale { pixels, c, act, .. } if in_place => kernel::scale_in_place(isa, *act, *pixels, *c, second, y),
        Kernel::Scale { pixels, c, act, .. } => kernel::scale(isa, *act, *pixels, *c, x, second, y),
        Kernel::Act { act, .. } if in_place => kernel::act_in_place(isa, *act, y),
        Kernel::Act { act, .. } => kernel::act(isa, *act, x, y),
        Kernel::Softmax { .. } if in_place => kernel::softmax_in_place(y),
        Kernel::Softmax { .. } => kernel::softmax(x, y),
        Kernel::Normalize { pixels, order, scale, shift } => {
            kernel::normalize(*pixels, order, w(*scale), w(*shift), x, y);
        }
        Kernel::Pad { top, left, value } => {
            let (s, out) = (step.input_shape, step.output_shape);
            kernel::pad(s.h, s.w, s.c, *top, *left, out.h, out.w, value.map(w), x, y);
        }
        Kernel::Copy { .. } => y.copy_from_slice(x),
        Kernel::Constant { value, .. } => y.copy_from_slice(w(*value)),
    }
}
