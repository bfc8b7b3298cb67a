//! The plan: HOW a graph is computed. Every number that a back end needs is decided here; back ends read only [`Plan`].
//!
//! Made by [`build`]: `select` (op to kernel), `pitch` (distances between pixels), `stages` (chains streamed over row strips, by
//! the model of `cost` and the arithmetic of `rows`), `schedule` (order with the least peak), `memory` (what shares a buffer,
//! and offsets by `search`), `pack` (weights), then checked by [`certify`], which shares no code with the planner. [`mod@print`]
//! and [`svg`] show it, [`traffic`] counts what it moves.
//!
//! Invariants, checked by `certify`: buffers that live at the same time do not overlap; every offset is a multiple of
//! [`ALIGN`]; every read is of something written before; nothing reaches beyond the arena or the weight blob.

pub use crate::front::tune::{Decision, Decisions, Split};
pub use crate::front::{PlanOptions as Options, Prefer, Stream};

use crate::front::Preprocess;
use crate::ir::{DType, Graph, Shape};
use mnc_runtime::params;

pub mod certify;
mod cost;
mod memory;
mod pack;
mod pitch;
pub mod print;
mod rows;
mod schedule;
mod search;
mod select;
mod stages;
pub mod svg;
pub mod traffic;
pub mod variants;

/// Alignment of buffers and weights in bytes: a cache line, and the widest vector.
pub const ALIGN: usize = 64;

/// A whole compiled net.
#[derive(Debug, Clone)]
pub struct Plan {
    /// A Rust and C identifier.
    pub name: String,
    /// The caller's input: at least one tensor, one behind the other in one array.
    pub inputs: Vec<Port>,
    /// The caller's output: at least one tensor, one behind the other in another array.
    pub outputs: Vec<Port>,
    /// How a picture becomes the input.
    pub preprocess: Preprocess,
    /// Class names; may be empty.
    pub labels: Vec<String>,
    /// In order of execution; the position is the time that [`Buffer::first`] and `last` count.
    pub stages: Vec<Stage>,
    /// The most threads that may run it: there are rings for that many.
    pub threads: usize,
    /// What it was made to be good at.
    pub prefer: Prefer,
    /// The CPU on which its stages were chosen by measurement, if they were.
    pub tuned_on: Option<String>,
    /// The arena.
    pub memory: Memory,
    /// All constants as kernels read them.
    pub weights: Weights,
    /// Multiply-adds of one inference as executed.
    pub macs: u64,
    /// Parameters of the network as specified (before batch norm is folded).
    pub params: u64,
}

/// Shape and element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor {
    /// NHWC; `n` is the batch.
    pub shape: Shape,
    /// Element type.
    pub dtype: DType,
}

impl Tensor {
    /// Size in bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        self.shape.elements() * self.dtype.bytes()
    }
}

/// One of the tensors that the caller gives or gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Unique among the inputs, or among the outputs.
    pub name: String,
    /// Shape and element type.
    pub tensor: Tensor,
    /// Elements of the caller's array before it: those of the ports before it.
    pub offset: usize,
}

impl Port {
    /// Ports of `tensors`, one behind the other; a name that an earlier one has gets a number.
    #[must_use]
    pub fn list(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Vec<Self> {
        let mut ports: Vec<Self> = Vec::new();
        for (name, tensor) in tensors {
            let taken = |n: &str| ports.iter().any(|p| p.name == n);
            let numbered = (2..).map(|i| format!("{name}.{i}")).find(|n| !taken(n));
            let name = if taken(&name) { numbered.unwrap_or(name) } else { name };
            let offset = Self::total(&ports);
            ports.push(Self { name, tensor, offset });
        }
        ports
    }

    /// Elements of the array that `ports` stand in.
    #[must_use]
    pub fn total(ports: &[Self]) -> usize {
        ports.iter().map(|p| p.tensor.shape.elements()).sum()
    }

    /// Its elements of the array.
    #[must_use]
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.tensor.shape.elements()
    }

    /// As the runtime has it.
    #[must_use]
    pub fn runtime(&self) -> mnc_runtime::net::Port {
        mnc_runtime::net::Port::named(self.name.clone(), self.tensor.shape.dims(), self.offset)
    }
}

/// A chain of kernels streamed over strips of output rows, each handing its strip to the next through a ring of rows.
/// A stage of one kernel has no rings and one strip of all rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Name of its last step.
    pub name: String,
    /// In order; step `i + 1` reads what step `i` writes. All but the last write to rings.
    pub steps: Vec<Step>,
    /// Output rows of the last step computed at a time.
    pub strip_rows: usize,
    /// How threads share it.
    pub split: Split,
    /// What it was thought to take when it was chosen.
    pub estimate: Estimate,
}

/// Cycles of a stage by the model of machines in `cost`, those of the slowest thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Estimate {
    /// As it is planned.
    pub cycles: u64,
    /// If its steps were stages of their own.
    pub layered: u64,
}

/// One kernel call.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The graph node it came from.
    pub name: String,
    /// What is called.
    pub kernel: Kernel,
    /// The tensor it reads.
    pub input: Place,
    /// Shape of the input.
    pub input_shape: Shape,
    /// Where the result goes.
    pub output: Place,
    /// Shape of the result.
    pub output_shape: Shape,
    /// Multiply-adds.
    pub macs: u64,
}

impl Step {
    /// Rows of the ring that it writes, if it writes one.
    #[must_use]
    pub fn ring_rows(&self) -> Option<usize> {
        match self.output {
            Place::Ring { rows, .. } => Some(rows),
            Place::Input(_) | Place::Output(_) | Place::Arena(_) => None,
        }
    }
}

/// Where a tensor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The caller's input slice (read only), from this element on: one of [`Plan::inputs`].
    Input(usize),
    /// The caller's output slice, from this element on: one of [`Plan::outputs`]. Steps may read it too: what a later one overwrites
    /// in place already stands there, and an output that others are made of is read from where it stands.
    Output(usize),
    /// A buffer of the arena, one for all threads.
    Arena(BufferId),
    /// A ring of rows in the arena, one for each thread: row `r` of the tensor stands at row `r % rows` of the ring.
    Ring {
        /// The rings of all threads together, [`Buffer::apart`] from one another.
        buffer: BufferId,
        /// Rows of the ring, at most the tensor's.
        rows: usize,
    },
}

/// Index into [`Memory::buffers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// Index into [`Weights::entries`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(pub usize);

/// Where a fused residual comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Residual {
    /// There is none.
    None,
    /// The output place already holds it; the kernel accumulates on top.
    InPlace,
    /// It stands elsewhere: whole, or row by row in the ring of an older step of the stage.
    From(Place),
}

/// A kernel with its parameters and operands besides input and output.
#[derive(Debug, Clone, PartialEq)]
pub enum Kernel {
    /// Convolution.
    Conv {
        /// Sizes.
        params: params::Conv,
        /// Packed by `mnc_runtime::pack::grouped`.
        weight: WeightId,
        /// Each group's padded to whole panels; all zeros where the layer has none.
        bias: WeightId,
        /// Padding content, `in_c` elements; zero where absent.
        pad_value: Option<WeightId>,
        /// Added before the activation.
        residual: Residual,
    },
    /// Depthwise convolution.
    Depthwise {
        /// Sizes.
        params: params::Depthwise,
        /// Packed by `mnc_runtime::pack::depthwise`.
        weight: WeightId,
        /// Padded to whole vectors.
        bias: WeightId,
        /// Padding content, `in_c` elements.
        pad_value: Option<WeightId>,
    },
    /// 1x1 convolution or dense layer.
    Pointwise {
        /// Sizes.
        params: params::Pointwise,
        /// Packed by `mnc_runtime::pack::panels`.
        weight: WeightId,
        /// Padded to whole panels.
        bias: WeightId,
        /// Added before the activation.
        residual: Residual,
    },
    /// Windows of max or mean.
    Pool(params::Pool),
    /// Mean over `h * w` pixels of `c` channels.
    GlobalPool {
        /// Pixels.
        pixels: usize,
        /// Channels.
        c: usize,
    },
    /// `act(input + other)`; where `output == input` it is done in place.
    Add {
        /// The second addend.
        other: Place,
        /// Elements.
        len: usize,
        /// Applied to the sum.
        act: params::Activation,
    },
    /// `act(input * scale[c])`; where `output == input` it is done in place.
    Scale {
        /// `c` factors.
        scale: Place,
        /// Pixels.
        pixels: usize,
        /// Channels.
        c: usize,
        /// Applied to the product.
        act: params::Activation,
    },
    /// An activation alone; where `output == input` it is done in place.
    Act {
        /// Elements.
        len: usize,
        /// Which.
        act: params::Activation,
    },
    /// Softmax over the channels of every pixel; where `output == input` it is done in place.
    Softmax {
        /// Pixels.
        pixels: usize,
        /// Channels.
        c: usize,
    },
    /// `y[c] = x[order[c]] * scale[c] + shift[c]`
    Normalize {
        /// Pixels.
        pixels: usize,
        /// Input channel of each output channel.
        order: Vec<usize>,
        /// `c` factors.
        scale: WeightId,
        /// `c` addends.
        shift: WeightId,
    },
    /// Rows and columns around the input.
    Pad {
        /// Rows above.
        top: usize,
        /// Columns left.
        left: usize,
        /// Content, one element a channel; zero where absent.
        value: Option<WeightId>,
    },
    /// The input and other tensors, joined along an axis.
    Concat {
        /// Along which.
        axis: params::Axis,
        /// All of them, the input first.
        parts: Vec<(Place, Shape)>,
    },
    /// Elements picked by tables of indices.
    Gather {
        /// An input row, column, channel for each of the output's, or [`mnc_runtime::kernel::FILL`]; absent where all stay as they are.
        tables: [Option<Vec<usize>>; 3],
        /// What stands where there is no element.
        fill: params::Real,
    },
    /// `act(f(input, other))`, where either may have one row, column or channel for many; where `output == input` it is done in place.
    Binary {
        /// What is computed.
        kind: params::BinaryKind,
        /// The second operand.
        other: Place,
        /// Its shape.
        other_shape: Shape,
        /// Applied to the result.
        act: params::Activation,
    },
    /// `x < 0 ? slope[c] * x : x`; where `output == input` it is done in place.
    PRelu {
        /// `c` factors.
        slope: WeightId,
        /// Pixels.
        pixels: usize,
        /// Channels.
        c: usize,
    },
    /// Output axis `i` is input axis `order[i]`.
    Transpose {
        /// Of rows, columns, channels.
        order: [usize; 3],
    },
    /// The mean over the axes that are set.
    Mean {
        /// Of rows, columns, channels.
        axes: [bool; 3],
    },
    /// Linear interpolation.
    Interpolate {
        /// One an output row.
        rows: Vec<params::Tap>,
        /// One an output column.
        columns: Vec<params::Tap>,
    },
    /// Transposed convolution.
    ConvTranspose {
        /// Sizes.
        params: params::Conv,
        /// Packed by `mnc_runtime::pack::grouped`.
        weight: WeightId,
        /// Each group's padded to whole panels; all zeros where the layer has none.
        bias: WeightId,
    },
    /// The input's elements in their order, in a shape of as many: a reshaped tensor, or an output that is an input of the net or
    /// another output of it. Where `output == input` there is nothing to do.
    Copy {
        /// Elements.
        len: usize,
    },
    /// A constant written to the output place. It reads nothing: the step's `input` is the caller's, to be ignored.
    Constant {
        /// Its elements.
        value: WeightId,
        /// How many.
        len: usize,
    },
}

/// The arena: every intermediate tensor, placed once for all time. Input and output belong to the caller and are not in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// Every buffer.
    pub buffers: Vec<Buffer>,
    /// Size of the arena in bytes.
    pub arena_bytes: usize,
    /// The most bytes alive at one stage: no placement of these stages in this order can use less.
    pub lower_bound_bytes: usize,
    /// The same for the best order found of the steps one by one, each with whole tensors without gaps.
    pub layerwise_bound_bytes: usize,
    /// The most bytes alive at one stage together with those of the caller's inputs that are still to be read.
    pub peak_with_input_bytes: usize,
    /// How the planner knows that it is done.
    pub proof: Proof,
    /// Whether no other order of the stages has a lower peak (the search over orders came to its end).
    pub order_is_best: bool,
}

/// A range of the arena and its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// The graph node whose output it first held.
    pub name: String,
    /// Size, rounded up to [`ALIGN`]; all threads' rings together. With what stays empty behind the tensor, or each ring, where
    /// several threads shall not take one another's memory when they ask ahead.
    pub bytes: usize,
    /// From the start of the arena.
    pub offset: usize,
    /// First stage that writes it.
    pub first: usize,
    /// Last stage that reads or writes it.
    pub last: usize,
    /// Floats from a pixel to the next; more than there are channels where a power of two would make pixels fight for the
    /// same lines of the cache.
    /// 0 where it holds tensors of several widths, one after the other, none with gaps.
    pub pitch: usize,
    /// Rows of a ring; `None` for a whole tensor.
    pub ring_rows: Option<usize>,
    /// Bytes from one thread's ring to the next one's, a multiple of [`ALIGN`]; 0 for a whole tensor.
    pub apart: usize,
}

/// What is known of the arena's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It equals the lower bound.
    MeetsBound,
    /// The exact search went through every placement: nothing smaller exists for this order and
    /// these choices of what is written in place.
    Exhausted,
    /// The search stopped at its limit; the gap to the bound is what `Memory` shows.
    Stopped,
}

/// The packed weight blob: little-endian f32, every entry at a multiple of [`ALIGN`] bytes.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    /// All elements with padding between entries zero.
    pub data: Vec<f32>,
    /// In the order of the steps that read them.
    pub entries: Vec<Entry>,
}

/// One constant of the blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `block3.expand.weight`
    pub name: String,
    /// In elements from the start of the blob.
    pub offset: usize,
    /// In elements.
    pub len: usize,
}

impl Weights {
    /// The elements of one entry.
    #[must_use]
    pub fn get(&self, id: WeightId) -> &[f32] {
        let e = &self.entries[id.0];
        &self.data[e.offset..e.offset + e.len]
    }

    /// Size of the blob in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len() * 4
    }
}

impl Plan {
    /// Elements of all inputs together.
    #[must_use]
    pub fn input_len(&self) -> usize {
        Port::total(&self.inputs)
    }

    /// Elements of all outputs together.
    #[must_use]
    pub fn output_len(&self) -> usize {
        Port::total(&self.outputs)
    }

    /// Shape of the first input.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        self.inputs[0].tensor.shape
    }

    /// Shape of the first output.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.outputs[0].tensor.shape
    }

    /// All steps in order of execution.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flat_map(|s| &s.steps)
    }
}

/// What surrounds the graph and goes into the plan as it is.
#[derive(Debug, Clone)]
pub struct Meta {
    /// See [`Plan::name`].
    pub name: String,
    /// See [`Plan::preprocess`].
    pub preprocess: Preprocess,
    /// See [`Plan::labels`].
    pub labels: Vec<String>,
    /// See [`Plan::params`].
    pub params: u64,
}

/// Why a graph has no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// No input, or no output.
    #[error("a plan has at least one input and one output; this graph has {inputs} and {outputs}")]
    Ends {
        /// Graph inputs.
        inputs: usize,
        /// Graph outputs.
        outputs: usize,
    },
    /// A batch other than 1.
    #[error("{node} has shape {shape}; only batch 1 can be planned")]
    Batch {
        /// The node.
        node: String,
        /// Its shape.
        shape: Shape,
    },
    /// Sizes that this machine's addresses cannot count.
    #[error("{node} makes the plan too large to address")]
    TooLarge {
        /// The node at which the count overflowed.
        node: String,
    },
    /// The output hangs on a cycle.
    #[error("the graph has a cycle")]
    Cycle,
    /// Decisions that are not of this graph.
    #[error("the stages that were decided do not fit the net: {0}")]
    Decided(String),
    /// The checker found the plan wrong: a mistake in the planner, never in the input.
    #[error("the planner made a wrong plan, please report it: {}", .0.join("; "))]
    Uncertified(Vec<String>),
}

/// Plans `graph`, which must have passed [`crate::ir::verify::verify`]. Any such graph will do: no pass need have run. Nodes that the
/// outputs do not depend on are left out, but for inputs.
///
/// # Errors
/// [`PlanError`]: no input or no output, a batch other than 1, or sizes beyond the address space.
pub fn build(graph: &Graph, meta: Meta, options: &Options) -> Result<Plan, PlanError> {
    build_as(graph, meta, options, None)
}

/// As [`build`], with the stages of `decisions` in place of those that the model would choose.
///
/// # Errors
/// As [`build`]; [`PlanError::Decided`] where `decisions` are not of this graph.
pub fn decided(graph: &Graph, meta: Meta, options: &Options, decisions: &Decisions) -> Result<Plan, PlanError> {
    build_as(graph, meta, options, Some(decisions))
}

/// Whether the planner puts gaps between pixels by `options`.
fn gaps(options: &Options) -> bool {
    options.prefer == Prefer::Speed && options.stream != Stream::Never
}

impl Decisions {
    /// Those that a plan by `options` was made by: what [`decided`] needs to make it again.
    #[must_use]
    pub fn of(plan: &Plan, options: &Options) -> Self {
        let listed = plan.stages.iter().filter(|s| s.steps.len() > 1 || plan.threads > 1);
        let stages = listed
            .map(|s| Decision { last: s.name.clone(), layers: s.steps.len(), strip: s.strip_rows.max(1), split: s.split })
            .collect();
        Self { gaps: gaps(options), stages }
    }
}

/// The caller's tensors.
fn ports(graph: &Graph) -> (Vec<Port>, Vec<Port>) {
    let tensor = |id| Tensor { shape: graph.shape(id), dtype: DType::F32 };
    let inputs = graph.inputs.iter().map(|&id| (graph.node(id).name.clone(), tensor(id)));
    let outputs = graph.outputs.iter().enumerate().map(|(i, &id)| {
        let name = graph.output_names.get(i).unwrap_or(&graph.node(id).name);
        (name.clone(), tensor(id))
    });
    (Port::list(inputs), Port::list(outputs))
}

fn build_as(graph: &Graph, meta: Meta, options: &Options, decisions: Option<&Decisions>) -> Result<Plan, PlanError> {
    let mut layers = select::layers(graph, options)?;
    let (inputs, outputs) = ports(graph);
    let input_bytes: Vec<usize> = inputs.iter().map(|p| p.tensor.bytes()).collect();
    let layerwise = match options.stream {
        Stream::Never if options.threads <= 1 => None,
        Stream::Never | Stream::Auto | Stream::Always => Some(memory::bound(&stages::layered(&layers))),
    };
    if decisions.map_or(gaps(options), |d| d.gaps) {
        pitch::apply(&mut layers);
    }
    let planned = |units: Vec<stages::Unit>| {
        let order = schedule::order(&units);
        let memory = memory::assign(&layers, &units, &order, &inputs, &outputs, layerwise);
        (units, order, memory)
    };
    let chosen = match decisions {
        Some(decisions) => stages::decided(&layers, &input_bytes, options, decisions).map_err(PlanError::Decided)?,
        None => stages::choose(&layers, &input_bytes, options),
    };
    let (mut units, mut order, mut memory) = planned(chosen);
    if decisions.is_none() && options.prefer == Prefer::Memory && options.stream == Stream::Auto {
        // Stages were chosen as if they ran in the graph's order. Where branches make the best one another, that can be a loss.
        let layered = planned(stages::choose(&layers, &input_bytes, &Options { stream: Stream::Never, ..*options }));
        let need = |m: &memory::Assignment| (m.memory.peak_with_input_bytes, m.memory.arena_bytes);
        if need(&layered.2) < need(&memory) {
            (units, order, memory) = layered;
        }
    }
    let mut packer = pack::Packer::new(&graph.consts);
    let mut stages = Vec::with_capacity(units.len());
    for &u in &order.units {
        let unit = &units[u];
        let mut steps = Vec::with_capacity(unit.layers.len());
        for (&l, &streamed) in unit.layers.iter().zip(&unit.streamed) {
            let over = memory.overwritten[u].filter(|_| steps.len() + 1 == unit.layers.len());
            let operands = select::Operands { inputs: &inputs, homes: &memory.homes, over, streamed };
            steps.push(select::step(graph, &layers, l, operands, &mut packer)?);
        }
        let name = steps.last().map_or_else(String::new, |s: &Step| s.name.clone());
        stages.push(Stage { name, steps, strip_rows: unit.strip, split: unit.split, estimate: unit.estimate });
    }
    let plan = Plan {
        name: meta.name,
        inputs,
        outputs,
        preprocess: meta.preprocess,
        labels: meta.labels,
        macs: stages.iter().flat_map(|s| &s.steps).map(|s| s.macs).sum(),
        stages,
        threads: options.threads.max(1),
        prefer: options.prefer,
        tuned_on: None,
        memory: memory.memory,
        weights: packer.finish(),
        params: meta.params,
    };
    certify::certify(&plan).map_err(PlanError::Uncertified)?;
    Ok(plan)
}
