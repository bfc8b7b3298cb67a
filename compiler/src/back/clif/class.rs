//! Shape classes: all that makes the code of two kernel calls different. Calls of one class share one function, so a net of
//! repeated blocks stays small.

use mnc_runtime::params::{Activation, Conv, Depthwise, Pointwise, Pool};

use super::ClifError;
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
            Class::Add { .. } | Class::Scale { .. } | Class::Act { .. } | Class::Normalize { .. } | Class::Copy { .. } => vec![],
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
