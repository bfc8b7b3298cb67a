//! The closed set of ops. One struct an op in its own file: attributes, shape rule, multiply-adds, evaluation.
//!
//! To add an op: a file here with its struct; a variant of [`Op`]; then the compiler names every `match` that must learn it
//! (`infer`, `macs`, `constants`, the evaluator, the printer, `plan/select.rs`). If no kernel does it yet, see
//! `mnc_runtime::kernel`. No `_ =>` arms over `Op`: a new op must fail to compile where it matters.
//!
//! Order of inputs: the tensor first; then, for [`Op::Conv`], the residual (if `residual`).

mod batch_norm;
mod binary;
mod conv;
mod conv_transpose;
mod dense;
mod depthwise;
mod gather;
mod interpolate;
mod normalize;
mod pad;
mod pool;

pub use batch_norm::BatchNorm;
pub use binary::Binary;
pub use conv::Conv;
pub use conv_transpose::ConvTranspose;
pub use dense::Dense;
pub use depthwise::Depthwise;
pub use gather::Gather;
pub use mnc_runtime::params::{Activation, Axis, BinaryKind, PoolKind, Real, Tap};
pub use normalize::Normalize;
pub use pad::Pad;
pub use pool::Pool;

use super::{ConstId, Consts, Shape};

/// What a node computes.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A graph input; its shape is given, not inferred.
    Input,
    /// A constant tensor; its shape is given.
    Constant(ConstId),
    /// Per-channel affine map with a channel permutation: raw pixels to the net's own scale.
    Normalize(Normalize),
    /// Rows and columns added around the input.
    Pad(Pad),
    /// Dense convolution, with the parts that passes fuse into it.
    Conv(Conv),
    /// Depthwise convolution with multiplier.
    Depthwise(Depthwise),
    /// Inference-time batch normalisation.
    BatchNorm(BatchNorm),
    /// An activation on its own.
    Act(Activation),
    /// `act(a + b)` of two tensors of one shape (the residual).
    Add(Activation),
    /// `act(x * s)`: `x` is `[1, h, w, c]`, `s` is `[1, 1, 1, c]` (the end of squeeze-and-excite).
    Scale(Activation),
    /// Max or average pooling by windows.
    Pool(Pool),
    /// Mean over all rows and columns: `[1, 1, 1, c]`.
    GlobalPool,
    /// Fully connected layer on `[1, 1, 1, c]`.
    Dense(Dense),
    /// Softmax over the channels of every pixel.
    Softmax,
    /// `x < 0 ? slope[c] * x : x`, the slope one element a channel.
    PRelu(ConstId),
    /// Sum, difference, product or quotient with broadcasting.
    Binary(Binary),
    /// All inputs, one or more, joined along an axis.
    Concat(Axis),
    /// Elements picked by tables of indices.
    Gather(Gather),
    /// The same elements in the same order (NHWC), in a shape of as many.
    Reshape(Shape),
    /// Output axis `i` of rows, columns, channels is input axis `order[i]`.
    Transpose([usize; 3]),
    /// The mean over the axes of rows, columns, channels that are set; they become one.
    Mean {
        /// Which.
        axes: [bool; 3],
    },
    /// Linear interpolation along rows and columns.
    Interpolate {
        /// One an output row.
        rows: Vec<Tap>,
        /// One an output column.
        columns: Vec<Tap>,
    },
    /// Transposed convolution.
    ConvTranspose(ConvTranspose),
}

/// Why a node cannot have the inputs it was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ShapeError(pub String);

/// `Err` with a formatted [`ShapeError`].
macro_rules! shape_err { ($($t:tt)*) => { Err($crate::ir::op::ShapeError(format!($($t)*))) } }
pub(crate) use shape_err;

impl Op {
    /// The name used in tables, text forms and remarks.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "input",
            Op::Constant(_) => "constant",
            Op::Normalize(_) => "normalize",
            Op::Pad(_) => "pad",
            Op::Conv(c) if c.is_pointwise() => "pointwise",
            Op::Conv(_) => "conv",
            Op::Depthwise(_) => "depthwise",
            Op::BatchNorm(_) => "batch_norm",
            Op::Act(_) => "act",
            Op::Add(_) => "add",
            Op::Scale(_) => "scale",
            Op::Pool(p) => match p.kind {
                PoolKind::Max => "max_pool",
                PoolKind::Average => "avg_pool",
            },
            Op::GlobalPool => "global_pool",
            Op::Dense(_) => "dense",
            Op::Softmax => "softmax",
            Op::PRelu(_) => "prelu",
            Op::Binary(b) => match b.kind {
                BinaryKind::Add => "sum",
                BinaryKind::Sub => "difference",
                BinaryKind::Mul => "product",
                BinaryKind::Div => "quotient",
            },
            Op::Concat(_) => "concat",
            Op::Gather(_) => "gather",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Mean { .. } => "mean",
            Op::Interpolate { .. } => "interpolate",
            Op::ConvTranspose(_) => "conv_transpose",
        }
    }

    /// The output shape for `inputs`. `Input` and `Constant` have none to infer from: the caller gives theirs.
    ///
    /// # Errors
    /// Names what does not fit: number of inputs, channels, window, overflow.
    pub fn infer(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let arity = self.arity();
        let any = matches!(self, Op::Concat(_));
        if inputs.len() < arity || inputs.len() > arity && !any {
            return shape_err!("{} takes {arity} inputs, not {}", self.name(), inputs.len());
        }
        let out = match self {
            Op::Input | Op::Constant(_) => return shape_err!("{} has a given shape", self.name()),
            Op::Normalize(n) => n.infer(inputs[0])?,
            Op::Pad(p) => p.infer(inputs[0])?,
            Op::Conv(c) => c.infer(inputs)?,
            Op::Depthwise(d) => d.infer(inputs[0])?,
            Op::BatchNorm(_) | Op::Act(_) | Op::Softmax | Op::PRelu(_) => inputs[0],
            Op::Add(_) => {
                if inputs[0] != inputs[1] {
                    return shape_err!("add of {} and {}", inputs[0], inputs[1]);
                }
                inputs[0]
            }
            Op::Scale(_) => {
                if inputs[1] != Shape::hwc(1, 1, inputs[0].c) {
                    return shape_err!("scale of {} by {}", inputs[0], inputs[1]);
                }
                inputs[0]
            }
            Op::Pool(p) => p.infer(inputs[0])?,
            Op::GlobalPool => Shape::hwc(1, 1, inputs[0].c),
            Op::Dense(d) => d.infer(inputs[0])?,
            Op::Binary(b) => b.infer(inputs[0], inputs[1])?,
            Op::Concat(axis) => joined(*axis, inputs)?,
            Op::Gather(g) => g.infer(inputs[0])?,
            Op::Reshape(shape) => {
                if shape.n != inputs[0].n || shape.checked_elements() != inputs[0].checked_elements() {
                    return shape_err!("{} as {shape}", inputs[0]);
                }
                *shape
            }
            Op::Transpose(order) => {
                let dims = [inputs[0].h, inputs[0].w, inputs[0].c];
                if !(0..3).all(|axis| order.contains(&axis)) {
                    return shape_err!("{order:?} is no order of rows, columns and channels");
                }
                let [h, w, c] = order.map(|axis| dims[axis]);
                Shape { h, w, c, ..inputs[0] }
            }
            Op::Mean { axes } => {
                let of = |axis: usize, len: usize| if axes[axis] { 1 } else { len };
                Shape { h: of(0, inputs[0].h), w: of(1, inputs[0].w), c: of(2, inputs[0].c), ..inputs[0] }
            }
            Op::Interpolate { rows, columns } => interpolate::infer(rows, columns, inputs[0])?,
            Op::ConvTranspose(c) => c.infer(inputs[0])?,
        };
        match out.checked_elements() {
            Some(1..) => Ok(out),
            _ => shape_err!("{} gives the impossible shape {out}", self.name()),
        }
    }

    /// Number of inputs; the least of [`Op::Concat`], which takes any.
    #[must_use]
    pub fn arity(&self) -> usize {
        match self {
            Op::Input | Op::Constant(_) => 0,
            Op::Add(_) | Op::Scale(_) | Op::Binary(_) => 2,
            Op::Conv(c) => 1 + usize::from(c.residual),
            Op::Normalize(_)
            | Op::Pad(_)
            | Op::Depthwise(_)
            | Op::BatchNorm(_)
            | Op::Act(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Dense(_)
            | Op::PRelu(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::ConvTranspose(_)
            | Op::Softmax => 1,
        }
    }

    /// Multiply-adds of convolutions and dense layers, as the papers count them; 0 for everything else.
    /// `out` is the node's shape (for a convolution with a fused pool: the shape is pooled, so the input's is needed).
    #[must_use]
    pub fn macs(&self, inputs: &[Shape], out: Shape) -> u64 {
        match self {
            Op::Conv(c) => c.macs(inputs[0]),
            Op::Depthwise(d) => (out.elements() * d.kernel[0] * d.kernel[1]) as u64,
            Op::Dense(d) => (d.in_c * d.out_c) as u64,
            Op::ConvTranspose(c) => c.macs(inputs[0]),
            Op::Input
            | Op::Constant(_)
            | Op::Normalize(_)
            | Op::Pad(_)
            | Op::BatchNorm(_)
            | Op::Act(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::PRelu(_)
            | Op::Binary(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Softmax => 0,
        }
    }

    /// Every constant the op names with the length it must have.
    #[must_use]
    pub fn constants(&self, inputs: &[Shape]) -> Vec<(ConstId, usize)> {
        let c = inputs.first().map_or(0, |s| s.c);
        match self {
            Op::Constant(_) => vec![],
            Op::Normalize(n) => vec![(n.scale, c), (n.shift, c)],
            Op::Pad(p) => p.value.iter().map(|&v| (v, c)).collect(),
            Op::Conv(o) => {
                let mut all = vec![(o.weight, o.kernel[0] * o.kernel[1] * (o.in_c / o.groups) * o.out_c)];
                all.extend(o.bias.map(|b| (b, o.out_c)));
                all.extend(o.pad_value.map(|v| (v, o.in_c)));
                all
            }
            Op::Depthwise(o) => {
                let out_c = o.channels * o.multiplier;
                let mut all = vec![(o.weight, o.kernel[0] * o.kernel[1] * out_c)];
                all.extend(o.bias.map(|b| (b, out_c)));
                all.extend(o.pad_value.map(|v| (v, o.channels)));
                all
            }
            Op::BatchNorm(b) => [b.gamma, b.beta, b.mean, b.variance].map(|id| (id, c)).to_vec(),
            Op::Dense(d) => {
                let mut all = vec![(d.weight, d.in_c * d.out_c)];
                all.extend(d.bias.map(|b| (b, d.out_c)));
                all
            }
            Op::ConvTranspose(o) => {
                let mut all = vec![(o.weight, o.kernel[0] * o.kernel[1] * (o.in_c / o.groups) * o.out_c)];
                all.extend(o.bias.map(|b| (b, o.out_c)));
                all
            }
            Op::PRelu(slope) => vec![(*slope, c)],
            Op::Input
            | Op::Act(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Binary(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Softmax => vec![],
        }
    }

    /// Trainable parameters: weights, biases, batch-norm scale and shift (running statistics are not parameters).
    #[must_use]
    pub fn params(&self, consts: &Consts) -> u64 {
        let len = |id: ConstId| consts.get(id).len() as u64;
        match self {
            Op::Conv(o) => len(o.weight) + o.bias.map_or(0, len),
            Op::Depthwise(o) => len(o.weight) + o.bias.map_or(0, len),
            Op::Dense(o) => len(o.weight) + o.bias.map_or(0, len),
            Op::BatchNorm(b) => len(b.gamma) + len(b.beta),
            Op::ConvTranspose(o) => len(o.weight) + o.bias.map_or(0, len),
            Op::PRelu(slope) => len(*slope),
            Op::Input
            | Op::Constant(_)
            | Op::Normalize(_)
            | Op::Pad(_)
            | Op::Act(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Binary(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Softmax => 0,
        }
    }

    /// The activation fused at the end of this op, if the op can carry one.
    pub fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            Op::Conv(o) => Some(&mut o.act),
            Op::Depthwise(o) => Some(&mut o.act),
            Op::Dense(o) => Some(&mut o.act),
            Op::Add(a) | Op::Scale(a) => Some(a),
            Op::Binary(o) => Some(&mut o.act),
            Op::ConvTranspose(o) => Some(&mut o.act),
            Op::Input
            | Op::Constant(_)
            | Op::Normalize(_)
            | Op::Pad(_)
            | Op::BatchNorm(_)
            | Op::Act(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::PRelu(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::Softmax => None,
        }
    }
}

/// The shape of `inputs` joined along `axis`.
fn joined(axis: Axis, inputs: &[Shape]) -> Result<Shape, ShapeError> {
    let mut out = inputs[0];
    for &x in &inputs[1..] {
        let (long, fits) = match axis {
            Axis::H => (out.h.checked_add(x.h), Shape { h: out.h, ..x } == out),
            Axis::W => (out.w.checked_add(x.w), Shape { w: out.w, ..x } == out),
            Axis::C => (out.c.checked_add(x.c), Shape { c: out.c, ..x } == out),
        };
        let (Some(long), true) = (long, fits) else { return shape_err!("{out} and {x} cannot be joined along {axis:?}") };
        match axis {
            Axis::H => out.h = long,
            Axis::W => out.w = long,
            Axis::C => out.c = long,
        }
    }
    Ok(out)
}
