//! Shape classes: all that makes the code of two kernel calls different. Calls of one class share one function, so a net of
//! repeated blocks stays small.

use mnc_runtime::kernel::FILL;
use mnc_runtime::params::{Activation, Axis, BinaryKind, Conv, Depthwise, Pointwise, Pool, Real, Tap};

use super::ClifError;
use super::lower::rearrange;
use crate::ir::Shape;
use crate::plan::{Kernel, Place, Plan, Residual, Step, WeightId};

/// A kernel with its sizes and options and without its operands. The order of a function's pointers stands at each variant;
/// those
/// in brackets are there if the flag is set. After the pointers every function takes a range of output rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// `x, weight, bias, [pad_value], [residual], y`, by rows.
    Conv { params: Conv, pad_value: bool, residual: bool },
    /// `x, weight, bias, [pad_value], y`, by rows.
    Depthwise { params: Depthwise, pad_value: bool },
    /// `x, weight, bias, [residual], y`, by rows.
    Pointwise { params: Pointwise, residual: bool },
    /// `x, y`, by rows.
    Pool(Pool),
    /// `x, y`
    GlobalPool { pixels: usize, c: usize },
    /// `a, b, y`
    Add { len: usize, act: Activation },
    /// `x, scale, y`
    Scale { pixels: usize, c: usize, act: Activation },
    /// `x, y`
    Act { len: usize, act: Activation },
    /// `x, y`
    Softmax { pixels: usize, c: usize },
    /// `x, scale, shift, y`
    Normalize { pixels: usize, order: Vec<usize> },
    /// `x, [value], y`; sizes are rows and columns.
    Pad { input: [usize; 2], output: [usize; 2], c: usize, top: usize, left: usize, value: bool },
    /// `x, slope, y`
    PRelu { pixels: usize, c: usize },
    /// `a, b, y`; `a` and `b` are as long as `shape` along every axis, or one.
    Binary { kind: BinaryKind, act: Activation, shape: [usize; 3], a: [usize; 3], b: [usize; 3] },
    /// `parts…, y`: of each block of `y`, the floats of each part.
    Concat { blocks: usize, block: usize, lens: Vec<usize> },
    /// `x, y`; `shape` is the input's.
    Gather { shape: [usize; 3], tables: [Option<Vec<usize>>; 3], fill: Real },
    /// `x, y`; `shape` is the input's.
    Transpose { shape: [usize; 3], order: [usize; 3] },
    /// `x, y`; `shape` is the input's.
    Mean { shape: [usize; 3], axes: [bool; 3] },
    /// `x, y`; `shape` is the input's.
    Interpolate { shape: [usize; 3], rows: Vec<Tap>, columns: Vec<Tap> },
    /// `x, weight, bias, y`
    ConvTranspose(Conv),
    /// `x, y`
    Copy { len: usize },
}

/// What a pointer argument points at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand {
    /// A tensor.
    Place(Place),
    /// A constant.
    Weight(WeightId),
}

/// One step as a call.
pub(super) struct Call {
    /// Which function.
    pub class: Class,
    /// Its pointers, in the class's order.
    pub operands: Vec<Operand>,
}

impl Class {
    /// A word for symbols.
    pub fn name(&self) -> &'static str {
        match self {
            Class::Conv { .. } => "conv",
            Class::Depthwise { .. } => "depthwise",
            Class::Pointwise { .. } => "pointwise",
            Class::Pool(_) => "pool",
            Class::GlobalPool { .. } => "global_pool",
            Class::Add { .. } => "add",
            Class::Scale { .. } => "scale",
            Class::Act { .. } => "act",
            Class::Softmax { .. } => "softmax",
            Class::Normalize { .. } => "normalize",
            Class::Pad { .. } => "pad",
            Class::PRelu { .. } => "prelu",
            Class::Binary { .. } => "binary",
            Class::Concat { .. } => "concat",
            Class::Gather { .. } => "gather",
            Class::Transpose { .. } => "transpose",
            Class::Mean { .. } => "mean",
            Class::Interpolate { .. } => "interpolate",
            Class::ConvTranspose(_) => "conv_transpose",
            Class::Copy { .. } => "copy",
        }
    }

    /// How many pointers the function takes.
    pub fn pointers(&self) -> usize {
        self.lengths().len()
    }

    /// How many floats the function reads or writes behind each pointer, whatever its other sizes are: windows are clipped to
    /// the input, rows to the output.
    pub fn lengths(&self) -> Vec<usize> {
        match self {
            Class::Conv { params: p, pad_value, residual } => {
                let (k, y) = (product([p.kernel_h, p.kernel_w, p.in_c]), product([p.out_h, p.out_w, p.out_c]));
                let mut all = vec![product([p.in_h, p.in_w, p.in_c]), panels(k, p.out_c), panels(1, p.out_c)];
                all.extend(pad_value.then_some(p.in_c));
                all.extend(residual.then_some(y));
                all.push(y);
                all
            }
            Class::Depthwise { params: p, pad_value } => {
                let out_c = product([p.in_c, p.multiplier, 1]);
                let taps = product([p.kernel_h, p.kernel_w, 1]);
                let mut all = vec![product([p.in_h, p.in_w, p.in_c]), panels(taps, out_c), panels(1, out_c)];
                all.extend(pad_value.then_some(p.in_c));
                all.push(product([p.out_h, p.out_w, out_c]));
                all
            }
            Class::Pointwise { params: p, residual } => {
                let full = product([p.h, p.w, p.out_c]);
                let mut all = vec![product([p.h, p.w, p.in_c]), panels(p.in_c, p.out_c), panels(1, p.out_c)];
                all.extend(residual.then_some(full));
                all.push(if p.pool { p.out_c } else { full });
                all
            }
            Class::Pool(p) => vec![product([p.in_h, p.in_w, p.c]), product([p.out_h, p.out_w, p.c])],
            Class::GlobalPool { pixels, c } => vec![product([*pixels, *c, 1]), *c],
            Class::Add { len, .. } => vec![*len; 3],
            Class::Scale { pixels, c, .. } => vec![product([*pixels, *c, 1]), *c, product([*pixels, *c, 1])],
            Class::Act { len, .. } | Class::Copy { len } => vec![*len; 2],
            Class::Softmax { pixels, c } => vec![product([*pixels, *c, 1]); 2],
            Class::Normalize { pixels, order } => {
                // An order that names a channel beyond the last would read on.
                let c = order.iter().map(|&c| c.saturating_add(1)).max().unwrap_or(0).max(order.len());
                let x = product([*pixels, c, 1]);
                vec![x, order.len(), order.len(), product([*pixels, order.len(), 1])]
            }
            Class::PRelu { pixels, c } => vec![product([*pixels, *c, 1]), *c, product([*pixels, *c, 1])],
            Class::Binary { shape, a, b, .. } => [a, b, shape].map(|s| product(*s)).to_vec(),
            Class::Concat { blocks, block, lens } => lens.iter().chain([block]).map(|&len| product([*blocks, len, 1])).collect(),
            Class::Gather { shape, tables, .. } => {
                let named: [usize; 3] = std::array::from_fn(|i| {
                    let table = tables[i].iter().flatten().filter(|&&at| at != FILL);
                    table.max().map_or(shape[i], |&last| last.saturating_add(1).max(shape[i]))
                });
                vec![reached(*shape, named), product(std::array::from_fn(|i| tables[i].as_ref().map_or(shape[i], Vec::len)))]
            }
            Class::Transpose { shape, .. } => vec![product(*shape); 2],
            Class::Mean { shape, axes } => {
                vec![product(*shape), product(std::array::from_fn(|i| if axes[i] { 1 } else { shape[i] }))]
            }
            Class::Interpolate { shape, rows, columns } => {
                let named = |taps: &[Tap], len: usize| taps.iter().fold(len, |n, t| n.max(t.low.max(t.high).saturating_add(1)));
                let x = reached(*shape, [named(rows, shape[0]), named(columns, shape[1]), shape[2]]);
                vec![x, product([rows.len(), columns.len(), shape[2]])]
            }
            Class::ConvTranspose(p) => {
                let (in_c, out_c) = p.group().unwrap_or((p.in_c, p.out_c));
                let k = product([p.kernel_h, p.kernel_w, in_c]);
                let weights = [panels(k, out_c), panels(1, out_c)].map(|len| len.saturating_mul(p.groups));
                vec![product([p.in_h, p.in_w, p.in_c]), weights[0], weights[1], product([p.out_h, p.out_w, p.out_c])]
            }
            Class::Pad { input, output, c, value, .. } => {
                let mut all = vec![product([input[0], input[1], *c])];
                all.extend(value.then_some(*c));
                all.push(product([output[0], output[1], *c]));
                all
            }
        }
    }

    /// Sizes that must be at least 1 and fit in 31 bits for the emitters' arithmetic to hold.
    fn counts(&self) -> Vec<usize> {
        let window =
            |kernel: [usize; 2], stride: [usize; 2], pad: [usize; 2]| [kernel, stride, pad.map(|n| n.saturating_add(1))].concat();
        match self {
            Class::Conv { params: p, .. } => {
                let mut all = window([p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w], [p.pad_top, p.pad_left]);
                all.extend([p.in_c, p.dilation_h, p.dilation_w]);
                all
            }
            Class::Depthwise { params: p, .. } => {
                let mut all = window([p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w], [p.pad_top, p.pad_left]);
                all.extend([p.in_c, p.multiplier, p.dilation_h, p.dilation_w]);
                all
            }
            Class::Pool(p) => window([p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w], [p.pad_top, p.pad_left]),
            Class::Pointwise { params: p, .. } => vec![p.h, p.w, p.in_c],
            Class::GlobalPool { pixels, .. } => vec![*pixels],
            Class::Softmax { pixels, c } => vec![*pixels, *c],
            Class::Pad { input, output, top, left, .. } => {
                // What the output has for the input and does not need, and one.
                let room = |axis: usize, before: usize| {
                    output[axis].saturating_add(1).saturating_sub(before.saturating_add(input[axis]))
                };
                vec![room(0, *top), room(1, *left)]
            }
            Class::ConvTranspose(p) => {
                let mut all = window([p.kernel_h, p.kernel_w], [p.stride_h, p.stride_w], [p.pad_top, p.pad_left]);
                all.extend([p.in_c, p.dilation_h, p.dilation_w, usize::from(p.group().is_some())]);
                all
            }
            // What must hold is counted as one, and nothing where it does not.
            Class::Binary { shape, a, b, .. } => {
                let spread = |x: &[usize; 3]| (0..3).all(|i| x[i] == shape[i] || x[i] == 1);
                vec![usize::from(spread(a) && spread(b))]
            }
            Class::Concat { block, lens, .. } => {
                vec![usize::from(lens.iter().fold(0usize, |n, &len| n.saturating_add(len)) == *block)]
            }
            Class::Transpose { order, .. } => vec![usize::from((0..3).all(|axis| order.contains(&axis)))],
            Class::Mean { shape, .. } => shape.to_vec(),
            Class::Add { .. }
            | Class::Scale { .. }
            | Class::Act { .. }
            | Class::Normalize { .. }
            | Class::PRelu { .. }
            | Class::Gather { .. }
            | Class::Interpolate { .. }
            | Class::Copy { .. } => vec![],
        }
    }

    /// Numbers that the function reads beside its pointers.
    pub fn table(&self) -> Vec<i64> {
        match self {
            Class::Gather { shape, tables, .. } => {
                let steps = [product([shape[1], shape[2], 1]), shape[2], 1];
                let named = tables.iter().zip(steps);
                named.flat_map(|(table, step)| table.iter().flat_map(move |t| rearrange::offsets(t, step))).collect()
            }
            Class::Interpolate { shape, rows, columns } => {
                rearrange::taps(rows, product([shape[1], shape[2], 1])).chain(rearrange::taps(columns, shape[2])).collect()
            }
            Class::Conv { .. }
            | Class::Depthwise { .. }
            | Class::Pointwise { .. }
            | Class::Pool(_)
            | Class::GlobalPool { .. }
            | Class::Add { .. }
            | Class::Scale { .. }
            | Class::Act { .. }
            | Class::Softmax { .. }
            | Class::Normalize { .. }
            | Class::Pad { .. }
            | Class::PRelu { .. }
            | Class::Binary { .. }
            | Class::Concat { .. }
            | Class::Transpose { .. }
            | Class::Mean { .. }
            | Class::ConvTranspose(_)
            | Class::Copy { .. } => Vec::new(),
        }
    }

    /// Output rows that can be computed on their own; one for classes that compute everything at once.
    pub fn rows(&self) -> usize {
        match self {
            Class::Conv { params, .. } => params.out_h,
            Class::Depthwise { params, .. } => params.out_h,
            Class::Pointwise { params, .. } if params.pool => 1,
            Class::Pointwise { params, .. } => params.h,
            Class::Pool(params) => params.out_h,
            Class::GlobalPool { .. }
            | Class::Add { .. }
            | Class::Scale { .. }
            | Class::Act { .. }
            | Class::Softmax { .. }
            | Class::Normalize { .. }
            | Class::Pad { .. }
            | Class::PRelu { .. }
            | Class::Binary { .. }
            | Class::Concat { .. }
            | Class::Gather { .. }
            | Class::Transpose { .. }
            | Class::Mean { .. }
            | Class::Interpolate { .. }
            | Class::ConvTranspose(_)
            | Class::Copy { .. } => 1,
        }
    }
}

impl Call {
    /// The call that does `step`.
    pub fn of(step: &Step) -> Self {
        use Operand::{Place as At, Weight as Const};
        let (x, y) = (At(step.input), At(step.output));
        let mut operands = vec![x];
        let class = match &step.kernel {
            Kernel::Conv { params, weight, bias, pad_value, residual } => {
                operands.extend([Const(*weight), Const(*bias)]);
                operands.extend(pad_value.map(Const));
                operands.extend(residual_place(*residual, step.output).map(At));
                Class::Conv { params: *params, pad_value: pad_value.is_some(), residual: *residual != Residual::None }
            }
            Kernel::Depthwise { params, weight, bias, pad_value } => {
                operands.extend([Const(*weight), Const(*bias)]);
                operands.extend(pad_value.map(Const));
                Class::Depthwise { params: *params, pad_value: pad_value.is_some() }
            }
            Kernel::Pointwise { params, weight, bias, residual } => {
                operands.extend([Const(*weight), Const(*bias)]);
                operands.extend(residual_place(*residual, step.output).map(At));
                Class::Pointwise { params: *params, residual: *residual != Residual::None }
            }
            Kernel::Pool(params) => Class::Pool(*params),
            Kernel::GlobalPool { pixels, c } => Class::GlobalPool { pixels: *pixels, c: *c },
            Kernel::Add { other, len, act } => {
                operands.push(At(*other));
                Class::Add { len: *len, act: *act }
            }
            Kernel::Scale { scale, pixels, c, act } => {
                operands.push(At(*scale));
                Class::Scale { pixels: *pixels, c: *c, act: *act }
            }
            Kernel::Act { len, act } => Class::Act { len: *len, act: *act },
            Kernel::Softmax { pixels, c } => Class::Softmax { pixels: *pixels, c: *c },
            Kernel::Normalize { pixels, order, scale, shift } => {
                operands.extend([Const(*scale), Const(*shift)]);
                Class::Normalize { pixels: *pixels, order: order.clone() }
            }
            Kernel::Pad { top, left, value } => {
                operands.extend(value.map(Const));
                Class::Pad {
                    input: [step.input_shape.h, step.input_shape.w],
                    output: [step.output_shape.h, step.output_shape.w],
                    c: step.input_shape.c,
                    top: *top,
                    left: *left,
                    value: value.is_some(),
                }
            }
            Kernel::PRelu { slope, pixels, c } => {
                operands.push(Const(*slope));
                Class::PRelu { pixels: *pixels, c: *c }
            }
            Kernel::Binary { kind, other, other_shape, act } => {
                operands.push(At(*other));
                let [a, b, shape] = [step.input_shape, *other_shape, step.output_shape].map(hwc);
                Class::Binary { kind: *kind, act: *act, shape, a, b }
            }
            Kernel::Concat { axis, parts } => {
                operands = parts.iter().map(|p| At(p.0)).collect();
                let along = match axis {
                    Axis::H => 0,
                    Axis::W => 1,
                    Axis::C => 2,
                };
                let inner = |shape: Shape| hwc(shape)[along..].iter().fold(1, |n: usize, &len| n.saturating_mul(len));
                Class::Concat {
                    blocks: hwc(step.output_shape)[..along].iter().fold(1, |n: usize, &len| n.saturating_mul(len)),
                    block: inner(step.output_shape),
                    lens: parts.iter().map(|p| inner(p.1)).collect(),
                }
            }
            Kernel::Gather { tables, fill } => {
                Class::Gather { shape: hwc(step.input_shape), tables: tables.clone(), fill: *fill }
            }
            Kernel::Transpose { order } => Class::Transpose { shape: hwc(step.input_shape), order: *order },
            Kernel::Mean { axes } => Class::Mean { shape: hwc(step.input_shape), axes: *axes },
            Kernel::Interpolate { rows, columns } => {
                Class::Interpolate { shape: hwc(step.input_shape), rows: rows.clone(), columns: columns.clone() }
            }
            Kernel::ConvTranspose { params, weight, bias } => {
                operands.extend([Const(*weight), Const(*bias)]);
                Class::ConvTranspose(*params)
            }
            Kernel::Copy { len } => Class::Copy { len: *len },
            Kernel::Constant { value, len } => {
                operands = vec![Const(*value)];
                Class::Copy { len: *len }
            }
        };
        operands.push(y);
        Self { class, operands }
    }
}

fn residual_place(residual: Residual, output: Place) -> Option<Place> {
    match residual {
        Residual::None => None,
        Residual::InPlace => Some(output),
        Residual::From(place) => Some(place),
    }
}

fn hwc(shape: Shape) -> [usize; 3] {
    [shape.h, shape.w, shape.c]
}

/// Floats up to the last element that indices below `named` reach in a tensor of `shape`.
fn reached(shape: [usize; 3], named: [usize; 3]) -> usize {
    let steps = [product([shape[1], shape[2], 1]), shape[2], 1];
    let before = named.iter().zip(steps).map(|(n, step)| n.saturating_sub(1).saturating_mul(step));
    before.fold(1, usize::saturating_add)
}

fn product(sizes: [usize; 3]) -> usize {
    sizes.into_iter().fold(1, usize::saturating_mul)
}

/// Length of packed `[k][n]` weights.
fn panels(k: usize, n: usize) -> usize {
    n.div_ceil(16).saturating_mul(16).saturating_mul(k)
}

impl Call {
    /// Checks that every pointer has behind it what the function reads and writes: no plan, right or wrong, may reach beyond
    /// its arrays.
    ///
    /// # Errors
    /// The operand that is too short, or longer than an instruction's 32-bit offset can span.
    pub fn check(&self, plan: &Plan, step: &Step) -> Result<(), ClifError> {
        let broken = |why: String| ClifError::Code(format!("step `{}`: {why}", step.name));
        if let Some(n) = self.class.counts().into_iter().find(|&n| n == 0 || i32::try_from(n).is_err()) {
            return Err(broken(format!("a window, stride, padding, multiplier or size of {n} cannot be")));
        }
        for (&operand, len) in self.operands.iter().zip(self.class.lengths()) {
            if len.checked_mul(size_of::<f32>()).is_none_or(|bytes| i32::try_from(bytes).is_err()) {
                return Err(ClifError::TooLarge { step: step.name.clone(), floats: len });
            }
            match room(plan, operand) {
                Some(room) if room >= len => {}
                Some(room) => return Err(broken(format!("{operand:?} has {room} floats, the kernel needs {len}"))),
                None => return Err(broken(format!("{operand:?} does not exist"))),
            }
        }
        Ok(())
    }
}

/// Floats from an operand's start to the end of the array that it stands in.
fn room(plan: &Plan, operand: Operand) -> Option<usize> {
    match operand {
        Operand::Weight(id) => plan.weights.data.len().checked_sub(plan.weights.entries.get(id.0)?.offset),
        Operand::Place(Place::Input(at)) => plan.input_len().checked_sub(at),
        Operand::Place(Place::Output(at)) => plan.output_len().checked_sub(at),
        Operand::Place(Place::Arena(id) | Place::Ring { buffer: id, .. }) => {
            let offset = plan.memory.buffers.get(id.0)?.offset;
            Some(plan.memory.arena_bytes.checked_sub(offset)? / size_of::<f32>())
        }
    }
}
