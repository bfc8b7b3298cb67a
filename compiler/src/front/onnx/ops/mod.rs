//! ONNX's operators as nodes of the graph, one file a kind.
//!
//! To add one: its name and function in [`convert`]. Attribute names and defaults are those of ONNX's operator document; versions
//! since 9 differ mostly in where an argument stands (attribute or input), which each function reads both ways.

mod axes;
mod elementwise;
mod linear;
mod pool;
mod resize;
mod window;

use super::import::{At, Import, Refusal, Value};
use super::view::View;

/// Converts a node.
type Convert = for<'i, 'a, 'n> fn(&'i mut Import<'a>, &At<'n, 'a>) -> Result<View, Refusal>;

/// Operators with one result.
const SINGLE: &[(&str, Convert)] = &[
    ("Add", elementwise::binary),
    ("AveragePool", pool::pool),
    ("BatchNormalization", linear::batch_norm),
    ("Cast", elementwise::cast),
    ("CastLike", elementwise::cast),
    ("Clip", elementwise::clipped),
    ("Concat", axes::concat),
    ("Conv", window::conv),
    ("ConvTranspose", window::conv_transpose),
    ("Div", elementwise::binary),
    ("Dropout", elementwise::dropout),
    ("Expand", axes::expand),
    ("Flatten", axes::reshape),
    ("Gather", axes::gather),
    ("Gemm", linear::gemm),
    ("GlobalAveragePool", axes::global_average),
    ("GlobalMaxPool", pool::global_max),
    ("HardSigmoid", elementwise::hard_sigmoid),
    ("HardSwish", elementwise::hard_swish),
    ("Identity", elementwise::identity),
    ("LeakyRelu", elementwise::leaky_relu),
    ("MatMul", linear::mat_mul),
    ("Max", elementwise::bound),
    ("MaxPool", pool::pool),
    ("Min", elementwise::bound),
    ("Mul", elementwise::binary),
    ("Neg", elementwise::neg),
    ("PRelu", elementwise::prelu),
    ("Pad", axes::pad),
    ("ReduceMean", axes::mean),
    ("Relu", elementwise::relu),
    ("Reshape", axes::reshape),
    ("Resize", resize::resize),
    ("Sigmoid", elementwise::sigmoid),
    ("Slice", axes::slice),
    ("Softmax", axes::softmax),
    ("Squeeze", axes::reshape),
    ("Sub", elementwise::binary),
    ("Sum", elementwise::sum),
    ("Swish", elementwise::swish),
    ("Tanh", elementwise::tanh),
    ("Transpose", axes::transpose),
    ("Unsqueeze", axes::reshape),
    ("Upsample", resize::resize),
];

/// Operators of constants only; what they are of computed tensors is not supported.
const FOLDED: &[&str] = &[
    "Abs",
    "And",
    "Ceil",
    "Constant",
    "ConstantOfShape",
    "Equal",
    "Exp",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Log",
    "Mod",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "Round",
    "Sign",
    "Sqrt",
    "Tile",
    "Where",
];

/// Whether anything is known of the operator.
pub(super) fn known(op: &str) -> bool {
    op == "Split" || matches!(op, "Shape" | "Size") || FOLDED.contains(&op) || SINGLE.iter().any(|(name, _)| *name == op)
}

/// Converts a node of whose inputs at least one is computed, or which folding does not know.
pub(super) fn convert<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<Vec<Value>, Refusal> {
    let op = at.node.op;
    if op == "Split" {
        return Ok(axes::split(import, at)?.into_iter().map(Value::Computed).collect());
    }
    if let Some((_, convert)) = SINGLE.iter().find(|(name, _)| *name == op) {
        return Ok(vec![Value::Computed(convert(import, at)?)]);
    }
    Err(Refusal::Unsupported("of computed tensors".into()))
}
