//! TFLite's operators, each as a few nodes of ONNX's.
//!
//! TFLite has pictures as `[n, h, w, c]`, ONNX as `[n, c, h, w]`: a window stands between two `Transpose`s, which cost nothing, for
//! the import only writes down which axis lies where. Weights are turned the same way, once, when constants are computed. The
//! semantics are those of TFLite's reference kernels (github.com/tensorflow/tensorflow, `tensorflow/lite/kernels`).
//!
//! To add one: an arm in [`convert`]. What needs two arms or more has a function here or in `window` and `axes`.

mod axes;
mod window;

use super::nodes::{At, Attr, FLOAT16, FLOAT32, Name, Refusal, Writer, onnx_kind, unsupported};
use super::schema::Malformed;

/// The names of an operator's results.
type Results = Result<Vec<Name>, Refusal>;

/// The axes of a picture as TFLite has them, for ONNX, and back.
const TO_NCHW: [i64; 4] = [0, 3, 1, 2];
const TO_NHWC: [i64; 4] = [0, 2, 3, 1];

/// Writes the operator called `name`.
pub(super) fn convert<'a>(w: &mut Writer<'_, 'a>, at: &At<'_, 'a>, name: &str) -> Results {
    match name {
        "CONV_2D" => window::conv(w, at),
        "DEPTHWISE_CONV_2D" => window::depthwise(w, at),
        "TRANSPOSE_CONV" => window::transposed(w, at),
        "AVERAGE_POOL_2D" => window::pool(w, at, "AveragePool"),
        "MAX_POOL_2D" => window::pool(w, at, "MaxPool"),
        "RESIZE_BILINEAR" => window::resize(w, at, true),
        "RESIZE_NEAREST_NEIGHBOR" => window::resize(w, at, false),
        "FULLY_CONNECTED" => fully_connected(w, at),
        "BATCH_MATMUL" => mat_mul(w, at),
        "ADD" => fused(w, at, "Add"),
        "SUB" => fused(w, at, "Sub"),
        "MUL" => fused(w, at, "Mul"),
        "DIV" => fused(w, at, "Div"),
        "ADD_N" => one(w, at, "Sum"),
        "SQUARE" => {
            let x = w.input(at, 0)?;
            Ok(vec![w.node(at, "Mul", vec![x.clone(), x], Vec::new())])
        }
        "MAXIMUM" => limit(w, at, "min", "Max"),
        "MINIMUM" => limit(w, at, "max", "Min"),
        "RELU" => one(w, at, "Relu"),
        "RELU6" => activation(w, at, 3),
        "RELU_N1_TO_1" => activation(w, at, 2),
        "RELU_0_TO_1" => clip(w, at, 0.0, 1.0),
        "LOGISTIC" => one(w, at, "Sigmoid"),
        "TANH" => one(w, at, "Tanh"),
        "HARD_SWISH" => one(w, at, "HardSwish"),
        "LEAKY_RELU" => {
            let alpha = at.options.float(0, 0.0)?;
            single(w, at, "LeakyRelu", vec![("alpha", Attr::Float(alpha))])
        }
        "PRELU" => prelu(w, at),
        "NEG" => one(w, at, "Neg"),
        "SOFTMAX" => softmax(w, at),
        "PAD" | "PADV2" => axes::pad(w, at, "constant"),
        "MIRROR_PAD" => axes::mirror_pad(w, at),
        "RESHAPE" => axes::reshape(w, at),
        "SQUEEZE" => axes::squeeze(w, at),
        "EXPAND_DIMS" => axes::expand_dims(w, at),
        "TRANSPOSE" => axes::transpose(w, at),
        "CONCATENATION" => axes::concatenation(w, at),
        "SPLIT" => axes::split(w, at),
        "SPLIT_V" => axes::split_v(w, at),
        "SLICE" => axes::slice(w, at),
        "STRIDED_SLICE" => axes::strided_slice(w, at),
        "GATHER" => axes::gather(w, at),
        "PACK" => axes::pack(w, at),
        "UNPACK" => axes::unpack(w, at),
        "SPACE_TO_DEPTH" => axes::space_to_depth(w, at),
        "DEPTH_TO_SPACE" => axes::depth_to_space(w, at),
        "MEAN" => axes::reduce(w, at, "ReduceMean"),
        "SUM" => axes::reduce(w, at, "ReduceSum"),
        "REDUCE_PROD" => axes::reduce(w, at, "ReduceProd"),
        "REDUCE_MAX" => axes::reduce(w, at, "ReduceMax"),
        "REDUCE_MIN" => axes::reduce(w, at, "ReduceMin"),
        "SHAPE" => one(w, at, "Shape"),
        "CAST" => cast(w, at),
        "DEQUANTIZE" => dequantize(w, at),
        // What converters leave of arithmetic with sizes; only constants of it are computed.
        "FILL" => {
            let (dims, value) = (w.input(at, 0)?, w.input(at, 1)?);
            Ok(vec![w.node(at, "Expand", vec![value, dims], Vec::new())])
        }
        "BROADCAST_TO" => one(w, at, "Expand"),
        "TILE" => one(w, at, "Tile"),
        "RANGE" => one(w, at, "Range"),
        "SELECT" | "SELECT_V2" => one(w, at, "Where"),
        "POW" => one(w, at, "Pow"),
        "FLOOR_DIV" => one(w, at, "Div"),
        "FLOOR_MOD" => one(w, at, "Mod"),
        "EQUAL" => one(w, at, "Equal"),
        "LESS" => one(w, at, "Less"),
        "LESS_EQUAL" => one(w, at, "LessOrEqual"),
        "GREATER" => one(w, at, "Greater"),
        "GREATER_EQUAL" => one(w, at, "GreaterOrEqual"),
        "LOGICAL_AND" => one(w, at, "And"),
        "LOGICAL_OR" => one(w, at, "Or"),
        "LOGICAL_NOT" => one(w, at, "Not"),
        "ABS" => one(w, at, "Abs"),
        "EXP" => one(w, at, "Exp"),
        "LOG" => one(w, at, "Log"),
        "SQRT" => one(w, at, "Sqrt"),
        "RSQRT" => {
            let x = w.input(at, 0)?;
            let root = w.node(at, "Sqrt", vec![x], Vec::new());
            Ok(vec![w.node(at, "Reciprocal", vec![root], Vec::new())])
        }
        "FLOOR" => one(w, at, "Floor"),
        "CEIL" => one(w, at, "Ceil"),
        "ROUND" => one(w, at, "Round"),
        "SIGN" => one(w, at, "Sign"),
        _ => unsupported!(""),
    }
}

/// One node of all inputs.
fn one(w: &mut Writer<'_, '_>, at: &At<'_, '_>, op: &str) -> Results {
    single(w, at, op, Vec::new())
}

fn single(w: &mut Writer<'_, '_>, at: &At<'_, '_>, op: &str, attrs: Vec<(&'static str, Attr)>) -> Results {
    let inputs = w.inputs(at);
    Ok(vec![w.node(at, op, inputs, attrs)])
}

fn permuted(w: &mut Writer<'_, '_>, at: &At<'_, '_>, x: Name, order: &[i64]) -> Name {
    w.node(at, "Transpose", vec![x], vec![("perm", Attr::Ints(order.to_vec()))])
}

/// `x` between its lower and upper bound.
fn clip(w: &mut Writer<'_, '_>, at: &At<'_, '_>, min: f32, max: f32) -> Results {
    let x = w.input(at, 0)?;
    Ok(vec![clipped(w, at, x, min, max)])
}

fn clipped(w: &mut Writer<'_, '_>, at: &At<'_, '_>, x: Name, min: f32, max: f32) -> Name {
    w.node(at, "Clip", vec![x], vec![("min", Attr::Float(min)), ("max", Attr::Float(max))])
}

/// An operator that is a fused activation's number.
fn activation(w: &mut Writer<'_, '_>, at: &At<'_, '_>, number: i8) -> Results {
    let x = w.input(at, 0)?;
    Ok(vec![activated(w, at, x, number)?])
}

/// `x` with the `ActivationFunctionType` of this number behind it.
fn activated(w: &mut Writer<'_, '_>, at: &At<'_, '_>, x: Name, number: i8) -> Result<Name, Refusal> {
    Ok(match number {
        0 => x,
        1 => w.node(at, "Relu", vec![x], Vec::new()),
        2 => clipped(w, at, x, -1.0, 1.0),
        3 => clipped(w, at, x, 0.0, 6.0),
        // TensorFlow's kernels take no notice of a hyperbolic tangent here, and its converter never makes one.
        4 => return unsupported!("with a fused hyperbolic tangent"),
        _ => return unsupported!("with fused activation number {number}"),
    })
}

/// Arithmetic of two tensors with an activation.
fn fused(w: &mut Writer<'_, '_>, at: &At<'_, '_>, op: &str) -> Results {
    let (a, b) = (w.given(at, 0)?, w.given(at, 1)?);
    let pictures = [a, b].iter().all(|&t| w.dims(t).len() == 4);
    let mut x = [w.names[a].clone(), w.names[b].clone()];
    if pictures {
        x = x.map(|x| permuted(w, at, x, &TO_NCHW));
    }
    let y = w.node(at, op, x.to_vec(), Vec::new());
    let y = activated(w, at, y, at.options.byte(0)?)?;
    Ok(vec![if pictures { permuted(w, at, y, &TO_NHWC) } else { y }])
}

/// `MAXIMUM` or `MINIMUM`: with one constant number it is a bound.
fn limit(w: &mut Writer<'_, '_>, at: &At<'_, '_>, bound: &'static str, op: &str) -> Results {
    let (a, b) = (w.given(at, 0)?, w.given(at, 1)?);
    for (x, limit) in [(a, b), (b, a)] {
        let tensor = &w.model.tensors[limit];
        if let (FLOAT32, Some(&[p, q, r, s]), false) = (tensor.kind, tensor.data, w.model.is_constant(x)) {
            let value = f32::from_le_bytes([p, q, r, s]);
            return Ok(vec![w.node(at, "Clip", vec![w.names[x].clone()], vec![(bound, Attr::Float(value))])]);
        }
    }
    one(w, at, op)
}

/// `FULLY_CONNECTED`: `[out, in]` weights, whatever the number of the input's axes.
fn fully_connected(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    if at.options.byte(1)? != 0 {
        return unsupported!("with shuffled weights");
    }
    let (x, weight, bias) = (w.given(at, 0)?, w.given(at, 1)?, w.optional(at, 2));
    let [_, in_c] = w.dims(weight)[..] else {
        return Err(Malformed(format!("weights of a {} have {} axes", at.called, w.dims(weight).len())).into());
    };
    let (name, weights) = (w.names[x].clone(), w.names[weight].clone());
    let y = if at.options.flag(2)? && w.dims(x).len() != 2 {
        let turned = permuted(w, at, weights, &[1, 0]);
        let y = w.node(at, "MatMul", vec![name, turned], Vec::new());
        if bias.is_empty() { y } else { w.node(at, "Add", vec![y, bias], Vec::new()) }
    } else {
        let flat = w.list(vec![-1, i64::from(in_c)]);
        let flat = w.node(at, "Reshape", vec![name, flat], Vec::new());
        w.node(at, "Gemm", vec![flat, weights, bias], vec![("transB", Attr::Int(1))])
    };
    Ok(vec![activated(w, at, y, at.options.byte(0)?)?])
}

/// `BATCH_MATMUL`
fn mat_mul(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let mut x = [Name::from(""), Name::from("")];
    for (i, x) in x.iter_mut().enumerate() {
        let tensor = w.given(at, i)?;
        let rank = w.dims(tensor).len() as i64;
        *x = w.names[tensor].clone();
        if at.options.flag(i)? {
            if rank < 2 {
                return Err(Malformed(format!("{} of {rank} axes", at.called)).into());
            }
            let order: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            *x = permuted(w, at, x.clone(), &order);
        }
    }
    Ok(vec![w.node(at, "MatMul", x.to_vec(), Vec::new())])
}

/// `PRELU`: the slope has one number a channel.
fn prelu(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, slope) = (w.given(at, 0)?, w.given(at, 1)?);
    let (dims, name) = (w.dims(slope), w.names[slope].clone());
    let channels = dims.split_last().is_none_or(|(_, rest)| rest.iter().all(|&n| n == 1));
    if w.dims(x).len() != 4 || !channels {
        return unsupported!("with a slope of shape {dims:?}");
    }
    let shape = w.list(vec![-1, 1, 1]);
    let slope = w.node(at, "Reshape", vec![name, shape], Vec::new());
    let x = permuted(w, at, w.names[x].clone(), &TO_NCHW);
    let y = w.node(at, "PRelu", vec![x, slope], Vec::new());
    Ok(vec![permuted(w, at, y, &TO_NHWC)])
}

/// `SOFTMAX` over the last axis
fn softmax(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let beta = at.options.float(0, 1.0)?;
    if beta != 1.0 {
        return unsupported!("with beta {beta}");
    }
    single(w, at, "Softmax", vec![("axis", Attr::Int(-1))])
}

/// `CAST` to the result's element type
fn cast(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let kind = at.op.outputs.first().map_or(FLOAT32, |&o| w.model.tensors[o].kind);
    match onnx_kind(kind) {
        0 => unsupported!("to element type {kind}"),
        kind => single(w, at, "Cast", vec![("to", Attr::Int(kind))]),
    }
}

/// `DEQUANTIZE`: of halves, as which some models keep their weights
fn dequantize(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let kind = w.model.tensors[w.given(at, 0)?].kind;
    if kind != FLOAT16 {
        return unsupported!("of integers");
    }
    single(w, at, "Cast", vec![("to", Attr::Int(1))])
}
