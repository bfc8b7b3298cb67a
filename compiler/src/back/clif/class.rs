//! Shape classes: all that makes the code of two kernel calls different. Calls of one class share one function, so a net of
//! repeated blocks stays small.

use mnc_runtime::params::{Activation, Conv, Depthwise, Pointwise, Pool};

use super::ClifError;
use crate::plan::{Kernel, Place, Residual, Step, WeightId};

/// A kernel with its sizes and options and without its operands. The order of a function's pointers stands at each variant;
/// those
/// in brackets are there if the flag is set. After the pointers every function takes a range of output rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Class {
    /// `x, weight, bias, [pad_value], [residual], y`, by rows.
    Conv { params: Conv, pad_value: bool, residual: bool },
    /// `x, weight, bias, [pad_value], y`, by rows.
    Depthwise { params: Depthwise, pad_value: bool },
    /// `x, weight, bias, [scale], [residual], y`, by rows.
    Pointwise { params: Pointwise, scale: bool, residual: bool },
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
    Softmax { c: usize },
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
        match self {
            Class::Conv { pad_value, residual, .. } => 4 + usize::from(*pad_value) + usize::from(*residual),
            Class::Depthwise { pad_value, .. } => 4 + usize::from(*pad_value),
            Class::Pointwise { scale, residual, .. } => 4 + usize::from(*scale) + usize::from(*residual),
            Class::Normalize { .. } => 4,
            Class::Add { .. } | Class::Scale { .. } => 3,
            Class::Pad { value, .. } => 2 + usize::from(*value),
            Class::Pool(_) | Class::GlobalPool { .. } | Class::Act { .. } | Class::Softmax { .. } | Class::Copy { .. } => 2,
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
            Kernel::Pointwise { params, weight, bias, scale, residual } => {
                operands.extend([Const(*weight), Const(*bias)]);
                operands.extend(scale.map(At));
                operands.extend(residual_place(*residual, step.output).map(At));
                Class::Pointwise { params: *params, scale: scale.is_some(), residual: *residual != Residual::None }
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
            Kernel::Softmax { c } => Class::Softmax { c: *c },
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

/// Refuses tensors that an instruction's 32-bit offset cannot span.
pub(super) fn check(step: &Step) -> Result<(), ClifError> {
    for shape in [step.input_shape, step.output_shape] {
        let bytes = shape.checked_elements().and_then(|n| n.checked_mul(size_of::<f32>()));
        if bytes.is_none_or(|b| i32::try_from(b).is_err()) {
            return Err(ClifError::TooLarge { step: step.name.clone(), shape: shape.to_string() });
        }
    }
    Ok(())
}
