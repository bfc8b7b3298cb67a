//! The layers that have weights, in the order of the spec: what weight sources and name maps work on.

use mnc_runtime::params::Activation;

use super::ast::Body;
use crate::diag::Span;

/// One convolution or dense layer, with the batch norm that follows it.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The node's name, and that of the layer among the `spec` tensor names.
    pub name: String,
    /// The block it came from.
    pub span: Span,
    /// Index of its [`Unit`].
    pub unit: usize,
    /// Its part in the unit.
    pub role: Role,
    /// Sizes.
    pub kind: LayerKind,
    /// Whether it has a bias.
    pub bias: bool,
    /// Whether batch norm follows.
    pub batch_norm: bool,
}

/// What a layer is to its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The one convolution of a `conv` block.
    Conv,
    /// Depthwise.
    Depthwise,
    /// 1x1 after a depthwise layer of a `separable` block.
    Pointwise,
    /// The widening layer of an inverted block.
    Expand,
    /// Depthwise before the expansion.
    DwStart,
    /// Depthwise after the expansion.
    DwMid,
    /// The narrowing layer of an inverted block.
    Project,
    /// First layer of squeeze-and-excite.
    SeReduce,
    /// Second layer of squeeze-and-excite.
    SeExpand,
    /// Fully connected.
    Dense,
}

/// Sizes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    Conv { kernel: [usize; 2], in_c: usize, out_c: usize, groups: usize },
    Depthwise { kernel: [usize; 2], channels: usize, multiplier: usize },
    Dense { in_c: usize, out_c: usize },
}

impl LayerKind {
    /// Output channels.
    #[must_use]
    pub fn out_c(self) -> usize {
        match self {
            LayerKind::Conv { out_c, .. } | LayerKind::Dense { out_c, .. } => out_c,
            LayerKind::Depthwise { channels, multiplier, .. } => channels * multiplier,
        }
    }

    /// Inputs of one output element.
    #[must_use]
    pub fn fan_in(self) -> usize {
        match self {
            LayerKind::Conv { kernel, in_c, groups, .. } => kernel[0] * kernel[1] * (in_c / groups),
            LayerKind::Depthwise { kernel, .. } => kernel[0] * kernel[1],
            LayerKind::Dense { in_c, .. } => in_c,
        }
    }

    /// Elements of the weight tensor, or `None` where that overflows.
    #[must_use]
    pub fn weights(self) -> Option<usize> {
        self.fan_in().checked_mul(self.out_c())
    }

    /// The weight tensor's shape in PyTorch's order: OIHW, `[C * m, 1, kh, kw]`, `[out, in]`.
    #[must_use]
    pub fn torch_shape(self) -> Vec<usize> {
        match self {
            LayerKind::Conv { kernel, in_c, out_c, groups } => vec![out_c, in_c / groups, kernel[0], kernel[1]],
            LayerKind::Depthwise { kernel, .. } => vec![self.out_c(), 1, kernel[0], kernel[1]],
            LayerKind::Dense { in_c, out_c } => vec![out_c, in_c],
        }
    }

    /// The weight tensor's shape in Keras' order: HWIO, `[kh, kw, C, m]`, `[in, out]`.
    #[must_use]
    pub fn keras_shape(self) -> Vec<usize> {
        match self {
            LayerKind::Conv { kernel, in_c, out_c, groups } => vec![kernel[0], kernel[1], in_c / groups, out_c],
            LayerKind::Depthwise { kernel, channels, multiplier } => vec![kernel[0], kernel[1], channels, multiplier],
            LayerKind::Dense { in_c, out_c } => vec![in_c, out_c],
        }
    }
}

/// One repetition of a block.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its kind.
    pub tag: Tag,
    /// `out` as the spec states it, before scaling; 0 where the block has none.
    pub stated_out: usize,
    /// Whether its stride exceeds 1.
    pub strided: bool,
    /// The block's `stage` key.
    pub stage: Option<usize>,
    /// Whether a global pool came before it.
    pub pooled: bool,
}

/// Kinds of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Conv,
    Depthwise,
    Separable,
    Inverted,
    Universal,
    Fused,
    SqueezeExcite,
    Dense,
}

impl Tag {
    /// The tag of a block that has layers, with its stated width and stride.
    pub(super) fn of(body: &Body) -> Option<(Tag, usize, [usize; 2])> {
        Some(match body {
            Body::Conv { out, stride, .. } => (Tag::Conv, *out, *stride),
            Body::Depthwise { stride, .. } => (Tag::Depthwise, 0, *stride),
            Body::Separable { out, stride, .. } => (Tag::Separable, *out, *stride),
            Body::InvertedResidual { out, stride, .. } => (Tag::Inverted, *out, *stride),
            Body::Universal { out, stride, .. } => (Tag::Universal, *out, *stride),
            Body::Fused { out, stride, .. } => (Tag::Fused, *out, *stride),
            Body::SqueezeExcite(_) => (Tag::SqueezeExcite, 0, [1, 1]),
            Body::Dense { out } => (Tag::Dense, *out, [1, 1]),
            Body::Pool { .. } | Body::GlobalAvgPool | Body::Softmax | Body::Dropout | Body::Residual { .. } => return None,
        })
    }
}

/// One tensor of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensor {
    /// In the op's own layout: conv `[kh][kw][in / groups][out]`, depthwise `[kh][kw][C * m]`, dense `[in][out]`.
    Weight,
    /// `[out]`
    Bias,
    /// Batch norm's scale, `[out]`.
    Gamma,
    /// Batch norm's shift.
    Beta,
    /// Batch norm's running mean.
    Mean,
    /// Batch norm's running variance.
    Variance,
}

/// What a random weight source has to know to keep activations in range: second moments, the mean of `x^2`.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// Of the layer's input.
    pub input: f64,
    /// Of its output before batch norm, for weights of variance `2 / fan_in` where batch norm follows.
    pub output: f64,
}

impl Moments {
    /// The second moment after `act` of a roughly normal, centred input whose second moment is `q`.
    #[must_use]
    pub fn after(act: Activation, q: f64) -> f64 {
        match act {
            Activation::None => q,
            Activation::Relu => q / 2.0,
            Activation::Relu6 => (q / 2.0).min(12.0),
            Activation::HSwish => q * 0.4,
            Activation::HSigmoid | Activation::Sigmoid | Activation::HardSigmoid(..) => 0.3,
            Activation::Tanh => q.min(1.0) * 0.6,
            Activation::Silu => q * 0.4,
            Activation::LeakyRelu(slope) => q * f64::from(slope.get()).mul_add(f64::from(slope.get()), 1.0) / 2.0,
            Activation::Clip(least, most) => {
                let most = f64::from(least.get()).abs().max(f64::from(most.get()).abs());
                q.min(most * most)
            }
        }
    }
}
