//! A plan as the runtime's [`Program`]: the same stages and steps with places turned into positions.
//!
//! What the interpreter runs, what the Rust back end writes down as constants, and what the JIT and objects for wide targets
//! carry as a table.

use mnc_runtime::program::{Added, Op, Owned, Place, Program, Split, Stage, Step, View};

use crate::ir::Shape;
use crate::plan::{self, Kernel, Plan, Residual, WeightId};

/// The tables of a plan's program.
#[derive(Debug, Clone, PartialEq)]
pub struct Tables {
    /// [`Program::stages`]
    pub stages: Vec<Stage>,
    /// [`Program::steps`]
    pub steps: Vec<Step>,
    /// [`Program::orders`]
    pub orders: Vec<usize>,
    input: usize,
    output: usize,
    arena: usize,
    weights: usize,
    threads: usize,
}

impl Tables {
    /// Of a certified plan.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let mut tables = Self {
            stages: Vec::with_capacity(plan.stages.len()),
            steps: Vec::new(),
            orders: Vec::new(),
            input: plan.input_len(),
            output: plan.output_len(),
            arena: plan.memory.arena_bytes.div_ceil(4),
            weights: plan.weights.data.len(),
            threads: plan.threads,
        };
        for stage in &plan.stages {
            let split = match stage.split {
                plan::Split::Alone => Split::Alone,
                plan::Split::Rows => Split::Rows,
                plan::Split::Channels => Split::Channels,
            };
            tables.stages.push(Stage { steps: stage.steps.len(), strip: stage.strip_rows.max(1), split });
            for step in &stage.steps {
                let step = tables.step(plan, step);
                tables.steps.push(step);
            }
        }
        tables
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> Program<'_> {
        let Self { stages, steps, orders, input, output, arena, weights, threads } = self;
        Program { stages, steps, orders, input: *input, output: *output, arena: *arena, weights: *weights, threads: *threads }
    }

    /// The position of a table of numbers; equal ones stand there once.
    fn table(&mut self, numbers: &[usize]) -> usize {
        let known = self.orders.windows(numbers.len().max(1)).position(|w| w == numbers);
        known.unwrap_or_else(|| {
            self.orders.extend(numbers);
            self.orders.len() - numbers.len()
        })
    }

    fn step(&mut self, plan: &Plan, step: &plan::Step) -> Step {
        let at = |id: WeightId| plan.weights.entries[id.0].offset;
        let view = |place: plan::Place, shape: Shape| view(plan, place, shape);
        let added = |residual: &Residual| match residual {
            Residual::None => Added::Nothing,
            Residual::InPlace => Added::InPlace,
            Residual::From(place) => Added::From(view(*place, step.output_shape)),
        };
        let op = match &step.kernel {
            Kernel::Conv { params, weight, bias, pad_value, residual } => Op::Conv {
                params: *params,
                weight: at(*weight),
                bias: at(*bias),
                pad_value: pad_value.map(at),
                added: added(residual),
            },
            Kernel::Depthwise { params, weight, bias, pad_value } => {
                Op::Depthwise { params: *params, weight: at(*weight), bias: at(*bias), pad_value: pad_value.map(at) }
            }
            Kernel::Pointwise { params, weight, bias, residual } => {
                Op::Pointwise { params: *params, weight: at(*weight), bias: at(*bias), added: added(residual) }
            }
            Kernel::Pool(params) => Op::Pool(*params),
            Kernel::GlobalPool { .. } => Op::GlobalPool,
            Kernel::Add { other, act, .. } => Op::Add { other: view(*other, step.output_shape), act: *act },
            Kernel::Scale { scale, c, act, .. } => Op::Scale { scale: view(*scale, Shape::hwc(1, 1, *c)), act: *act },
            Kernel::Act { act, .. } => Op::Act(*act),
            Kernel::Softmax { .. } => Op::Softmax,
            Kernel::Normalize { order, scale, shift, .. } => {
                Op::Normalize { order: self.table(order), scale: at(*scale), shift: at(*shift) }
            }
            Kernel::Pad { top, left, value } => Op::Pad { top: *top, left: *left, value: value.map(at) },
            Kernel::Concat { axis, parts } => {
                let words: Vec<usize> = parts.iter().flat_map(|&(place, shape)| view(place, shape).words()).collect();
                Op::Concat { axis: *axis, parts: self.table(&words), count: parts.len() }
            }
            Kernel::Gather { tables: [rows, columns, channels], fill } => {
                let [rows, columns, channels] = [rows, columns, channels].map(|t| t.as_ref().map(|t| self.table(t)));
                Op::Gather { rows, columns, channels, fill: *fill }
            }
            Kernel::Binary { kind, other, other_shape, act } => {
                Op::Binary { kind: *kind, other: view(*other, *other_shape), act: *act }
            }
            Kernel::PRelu { slope, .. } => Op::PRelu { slope: at(*slope) },
            Kernel::Transpose { order } => Op::Transpose { order: *order },
            Kernel::Mean { axes } => Op::Mean { axes: *axes },
            Kernel::Interpolate { rows, columns } => {
                let [rows, columns] = [rows, columns].map(|taps| {
                    let words: Vec<usize> = taps.iter().flat_map(|t| t.words()).collect();
                    self.table(&words)
                });
                Op::Interpolate { rows, columns }
            }
            Kernel::ConvTranspose { params, weight, bias } => {
                Op::ConvTranspose { params: *params, weight: at(*weight), bias: at(*bias) }
            }
            Kernel::Copy { .. } => Op::Copy,
            Kernel::Constant { value, .. } => Op::Constant { value: at(*value) },
        };
        Step { op, x: view(step.input, step.input_shape), y: view(step.output, step.output_shape) }
    }
}

/// The program of a certified plan, checked once more by the runtime.
///
/// # Panics
/// If the runtime refuses it: a mistake in the planner that `certify` missed, never in the input.
#[must_use]
pub fn owned(plan: &Plan) -> Owned {
    match Owned::new(Tables::new(plan).program()) {
        Ok(owned) => owned,
        Err(error) => panic!("the runtime refuses the plan of {}: {error}", plan.name),
    }
}

/// A tensor of `shape` at `place`.
fn view(plan: &Plan, place: plan::Place, shape: Shape) -> View {
    let whole = |place| View::whole(place, shape.h, shape.w, shape.c);
    match place {
        plan::Place::Input(at) => whole(Place::Input(at)),
        plan::Place::Output(at) => whole(Place::Output(at)),
        plan::Place::Arena(id) => {
            let buffer = &plan.memory.buffers[id.0];
            View { pitch: buffer.pitch.max(shape.c), ..whole(Place::Arena(buffer.offset / 4)) }
        }
        plan::Place::Ring { buffer, rows } => {
            let buffer = &plan.memory.buffers[buffer.0];
            let place = Place::Ring { first: buffer.offset / 4, apart: buffer.apart / 4 };
            View { rows, pitch: buffer.pitch.max(shape.c), ..whole(place) }
        }
    }
}
