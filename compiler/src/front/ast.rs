//! The grammar of a spec, and its typed form after checking.
//!
//! A spec is TOML: one `[net]`, optional `[weights]`, `[passes]` and `[plan]`, and a list of `[[block]]`, executed in order. What is
//! no block can stand among them as a `[[layer]]`, below. The macro accepts the same keys. Every unknown key, wrong type and impossible value is an error with its place.
//!
//! # `[net]`
//! | key | value | default |
//! |---|---|---|
//! | `name` | an identifier | required |
//! | `mnc` | version of mnc that it is written for, `"0.1.0"`: an earlier one refuses it | any |
//! | `input` | table, below | required |
//! | `alpha` | width multiplier, 0 < alpha <= 16 | 1.0 |
//! | `round_to` | scaled widths are rounded to a multiple, `make_divisible` of the reference code: `n = max(min_width, (w + r/2) // r * r)`, one step more if `n < 0.9 w`; with 1 the integer part is taken | 8 |
//! | `min_width` | least scaled width | `round_to` |
//! | `padding` | `"torch"` (k/2 on every side), `"same"` (TensorFlow's, from the layer's actual input size), `"valid"` (none), or a number for every side | `"torch"` |
//! | `activation` | `relu`, `relu6`, `hswish`, `hsigmoid`, `sigmoid`, `tanh`, `silu`, `none`, or a table such as `{ clip = [-1, 1] }` that a layer may have | `"relu6"` |
//! | `batch_norm` | convolutions are followed by batch norm | true |
//! | `bn_eps` | added to its variance, above 0 | 1e-5 |
//! | `bias` | convolutions have a bias | where there is no batch norm |
//! | `classes` | outputs of a `dense` block without `out` | none |
//! | `labels` | path of a file with one class name a line, relative to the spec, or a list of names | none |
//! | `outputs` | the blocks or layers whose results are the net's, a list or a table from what a result is called to what makes it | the last one |
//!
//! A width is scaled only by an `alpha` other than 1; at 1 it is taken as written.
//!
//! ## `input`
//! `height`, `width` (required), `channels` (3), `mean` (0.0) and `std` (1.0): a number or one a channel, as in
//! `x = (p / 255 - mean) / std`; `order` (`"rgb"` or `"bgr"`: the tensor's, and that of `mean` and `std`); `resize` (the
//! shorter side's length before the centre crop, or `"squash"`; 256 for an input of 224, others in proportion); `filter`
//! (`"bilinear"` or `"bicubic"`); `pixels` (false; true: the net itself takes RGB pixel values 0..255 and normalises them); `name`
//! (`"input"`), by which `inputs` below know it.
//!
//! # `[[block]]`
//! Every block has `kind`, and may have `name` (an identifier; `block` and its position from 0 otherwise).
//! A block reads what stands before it, or what its `inputs` names.
//! Blocks with convolutions also take `activation`, `padding`, `batch_norm`, `bn_eps`, `bias`, `alpha` (false: do not scale `out`;
//! `"at_least_one"`: scale by max(1, alpha); a number: by this), `repeat` (1; only the first repetition has the stride) and
//! `stage` (timm's stage number, where counting new widths and strides does not give it). `kernel` and `stride` are a
//! number or `[rows, columns]`.
//!
//! | kind | keys (default) | layers |
//! |---|---|---|
//! | `conv` | `out`, `kernel` (1), `stride` (1), `groups` (1) | `conv` |
//! | `depthwise` | `kernel` (3), `stride` (1), `multiplier` (1) | `depthwise` |
//! | `separable` | `out`, `kernel` (3), `stride` (1) | `depthwise`, `pointwise`, both activated |
//! | `inverted_residual` | `out`, `expand` or `expand_channels`, `kernel` (3), `stride` (1), `se` (false), `residual` (true) | `expand` (left out where it would not widen), `depthwise`, `se`, `project` without activation; the input is added where stride is 1 and widths agree |
//! | `universal_inverted_bottleneck` | `out`, `expand` or `expand_channels`, `dw_start` (0), `dw_mid` (0), `stride` (1), `residual` (true) | `dw_start` without activation, `expand`, `dw_mid`, `project`; kernel 0 leaves a depthwise layer out; `dw_mid` has the stride if it is there |
//! | `fused_inverted_bottleneck` | `out`, `expand` or `expand_channels`, `kernel` (3), `stride` (1), `group_size`, `residual` (true) | `expand` (k x k), `project` (1 x 1) without activation |
//! | `squeeze_excite` | the keys of `se` | `se.reduce`, `se.expand` |
//! | `max_pool`, `avg_pool` | `kernel`, `stride` (kernel), `padding` (`"valid"`) | |
//! | `global_avg_pool` | | |
//! | `dense` | `out` (`classes`; not scaled unless `alpha = true`), `bias` (true), `activation` (none) | `dense` |
//! | `softmax`, `dropout` | (`rate`, ignored) | |
//! | `residual` | `block`: a list of blocks (`[[block.block]]` below the header), `activation` (none), `repeat` | the input is added to their result |
//!
//! `expand` times the input width is the inner width, rounded by `round_to` unless `expand` is whole; `expand_channels` states
//! it and is scaled by `alpha`. `se` is true or a table: `ratio` (0.25) of the inner width rounded to `round_to` (8), or
//! `channels`; `activation` (relu), `gate` (hsigmoid, sigmoid or `{ hard_sigmoid = [alpha, beta] }`), `position` (`"after"` or
//! `"before"` the activation).
//!
//! # `[[layer]]` among blocks
//! A layer of the other grammar, that of any graph of ops (its page is in `front/graph/mod.rs`; `mnc import` shows it): it has `op`
//! and `inputs`, the names of blocks, layers or the input; without them it reads what stands before it in the text, as a block does.
//! Nothing of `[net]` applies to it. Its tensors are called as it says, whatever the `names` of the others are. A spec without any
//! `[[block]]` is one of layers only.
//!
//! # `[weights]`
//! | key | value |
//! |---|---|
//! | `seed` | random weights; what a spec without `file` has, with seed 1 |
//! | `file` | a safetensors checkpoint, relative to the spec |
//! | `sha256` | of the file, 64 hexadecimal digits: another file in its place is an error (`--weights` names one that need not fit) |
//! | `names` | whose tensor names it has: `timm`, `torchvision`, `hf`, `keras`, `tf_slim`, `d_li14`, `spec`; `auto` (default) takes the one that fits best |
//! | `layout` | `torch` (OIHW, `[out, in]`), `keras` (HWIO, `[in, out]`), `auto` (default, by the shapes) |
//! | `extra` | `error` (default) or `ignore`: tensors that the net has no use for |
//! | `map` | table: a layer (`"stem.conv"`, `"stem.conv.bn"`) or a tensor (`"stem.conv.weight"`) and its name in the checkpoint |
//!
//! The `spec` names: `<block>.<layer>.weight` and `.bias`, `<block>.<layer>.bn.weight`, `.bias`, `.running_mean`,
//! `.running_var`; `<block>` is the block's name and, where `repeat` exceeds 1, the repetition from 0: `block3.1.expand.weight`.
//!
//! # `[passes]`
//! `separate` (`"off"`, `"structure"`, `{ rank = 2 }`, `{ max_error = 0.05 }`), `separate_stem` (false), `skip` (a list of
//! pass names).
//!
//! # `[plan]`
//! | key | value | default |
//! |---|---|---|
//! | `threads` | the most threads that share an inference | 1 |
//! | `prefer` | `"speed"`, or `"memory"`: the smallest memory, then speed within it | `"speed"` |
//! | `stream` | `"auto"`: layers are computed row by row into one another where that serves what is preferred; `"never"`, `"always"` | `"auto"` |
//! | `winograd` | whether 3x3 convolutions at stride 1 may be computed with fewer products where speed is preferred: a third to four fifths of the time, 16/9 or four times the weights, an error of up to 2.6 times (rms) | `true` |
//! | `strassen` | whether wide pointwise convolutions may be computed with seven products where there are eight, where speed is preferred: 0.9 of their time, 7/4 of their weights, more rounding | `false` |

use std::collections::BTreeMap;

use mnc_runtime::params::{Activation, PoolKind};

use super::graph::Layer;
use super::{PassOptions, PlanOptions, Preprocess};
use crate::diag::Span;
use crate::ir::{Padding, Shape};

/// Most rows or columns of the input.
pub const MAX_SIDE: usize = 16_384;
/// Most channels of any tensor.
pub const MAX_CHANNELS: usize = 65_536;
/// Largest window and step.
pub const MAX_KERNEL: usize = 255;
/// Most repetitions of a block.
pub const MAX_REPEAT: usize = 1_000;
/// Most nodes of a net.
pub const MAX_NODES: usize = 10_000;
/// Most elements of an activation tensor (2 GiB of f32).
pub const MAX_ELEMENTS: usize = 1 << 29;
/// Most weights of a net (512 MiB of f32; the largest shipped net has 33 million).
pub const MAX_WEIGHTS: usize = 1 << 27;
/// Most threads that a plan is made for.
pub const MAX_THREADS: usize = 64;
/// Deepest nesting of `residual` blocks.
pub const MAX_DEPTH: usize = 8;

/// A checked spec.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The net's name.
    pub name: String,
    /// `[1, height, width, channels]`
    pub input: Shape,
    /// What blocks and layers call it.
    pub input_name: String,
    /// The results: what each is called, what makes it, and the place that says so; `None` for what the last block gives.
    pub outputs: Option<Vec<(String, String, Span)>>,
    /// How a picture becomes the input.
    pub preprocess: Preprocess,
    /// How widths are scaled.
    pub widths: Widths,
    /// Outputs of a classifier, with the place that says so.
    pub classes: Option<(usize, Span)>,
    /// Where class names come from.
    pub labels: Option<Labels>,
    /// Where weights come from.
    pub weights: Weights,
    /// Switches of optional passes.
    pub passes: PassOptions,
    /// What the plan is made for.
    pub plan: PlanOptions,
    /// In order of execution.
    pub blocks: Vec<Block>,
    /// Layers among them, in order, each with the number of blocks that stand before it.
    pub(super) layers: Vec<(usize, Layer)>,
    /// The place of the net as a whole.
    pub span: Span,
}

/// Rounding of scaled widths.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Widths {
    /// A multiple of this; 1 takes the integer part.
    pub round_to: usize,
    /// At least this.
    pub min: usize,
}

impl Widths {
    /// `make_divisible` of the reference implementations; the result is at least 1.
    #[must_use]
    pub fn round(self, width: f64) -> usize {
        let least = self.min.max(1);
        if self.round_to <= 1 {
            return (width as usize).max(least);
        }
        let r = self.round_to;
        let n = ((width + r as f64 / 2.0) as usize / r).saturating_mul(r).max(least);
        if (n as f64) < 0.9 * width { n.saturating_add(r) } else { n }
    }

    /// `width` times `alpha`, rounded; as written where `alpha` is 1.
    #[must_use]
    pub fn scale(self, width: usize, alpha: f64) -> usize {
        if alpha == 1.0 { width } else { self.round(width as f64 * alpha) }
    }
}

/// Where class names come from.
#[derive(Debug, Clone)]
pub struct Labels {
    /// The place in the spec.
    pub span: Span,
    /// The names, or the path of a file with one a line.
    pub from: LabelsFrom,
}

/// See [`Labels`].
#[derive(Debug, Clone)]
pub enum LabelsFrom {
    /// Written in the spec.
    Inline(Vec<String>),
    /// A file, relative to the spec.
    File(String),
}

/// What a checkpoint's SHA-256 must be, in small hexadecimal digits, and the place that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sha256 {
    /// 64 digits.
    pub digits: String,
    /// The place.
    pub span: Span,
}

/// The `[weights]` table.
#[derive(Debug, Clone)]
pub struct Weights {
    /// Seed of random weights.
    pub seed: u64,
    /// A checkpoint, relative to the spec.
    pub file: Option<(String, Span)>,
    /// The file's SHA-256 in small hexadecimal digits, where the spec says it.
    pub sha256: Option<Sha256>,
    /// Whose tensor names it has.
    pub names: Naming,
    /// Order of dimensions in its tensors.
    pub layout: Layout,
    /// Tensors the net has no use for are no mistake.
    pub ignore_extra: bool,
    /// Our layer or tensor name to the checkpoint's, with the place of the line.
    pub map: BTreeMap<String, (String, Span)>,
}

/// Whose tensor names a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The one that fits best.
    Auto,
    /// pytorch-image-models.
    Timm,
    /// torchvision.
    Torchvision,
    /// Hugging Face transformers.
    Hf,
    /// Keras applications, and Keras' automatic names.
    Keras,
    /// TensorFlow-slim.
    TfSlim,
    /// The PyTorch repositories of d-li14.
    DLi14,
    /// Our own.
    Spec,
}

/// Order of dimensions in a checkpoint's tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// By the shapes.
    Auto,
    /// OIHW, `[C * m, 1, kh, kw]`, `[out, in]`.
    Torch,
    /// HWIO, `[kh, kw, C, m]`, `[in, out]`.
    Keras,
}

/// Padding of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PadRule {
    /// `kernel / 2` on every side.
    Torch,
    /// TensorFlow's SAME.
    Same,
    /// So much on every side.
    Fixed(usize),
}

impl PadRule {
    /// The padding for a window over an `h x w` input.
    #[must_use]
    pub fn resolve(self, h: usize, w: usize, kernel: [usize; 2], stride: [usize; 2]) -> Padding {
        match self {
            PadRule::Torch => Padding::torch(kernel),
            PadRule::Same => Padding::same(h, w, kernel, stride),
            PadRule::Fixed(p) => Padding { top: p, left: p, bottom: p, right: p },
        }
    }
}

/// What surrounds the convolutions of a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Style {
    /// After batch norm.
    pub activation: Activation,
    /// Around the input.
    pub padding: PadRule,
    /// `Some(eps)` where batch norm follows.
    pub batch_norm: Option<f64>,
    /// Whether there is a bias.
    pub bias: bool,
}

/// One `[[block]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Unique among its siblings.
    pub name: String,
    /// Its `kind = …`.
    pub span: Span,
    /// What it reads, if not what stands before it.
    pub input: Option<(String, Span)>,
    /// How often it is repeated.
    pub repeat: usize,
    /// timm's stage number.
    pub stage: Option<usize>,
    /// Factor of its widths.
    pub alpha: f64,
    /// What surrounds its convolutions.
    pub style: Style,
    /// What it is.
    pub body: Body,
}

/// Inner width of an inverted block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expand {
    /// Times the input width.
    Ratio(f64),
    /// Absolute, before scaling.
    Channels(usize),
}

/// Squeeze-and-excite (arXiv 1709.01507).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SqueezeExcite {
    /// Width of the squeeze.
    pub squeeze: Squeeze,
    /// After the squeeze.
    pub activation: Activation,
    /// Makes the factors.
    pub gate: Activation,
    /// Before the depthwise layer's activation.
    pub before_activation: bool,
}

/// Width of a squeeze.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Squeeze {
    /// A part of the width that is squeezed, rounded.
    Ratio(f64, Widths),
    /// Absolute.
    Channels(usize),
}

/// What a block is; the fields are the keys of the grammar above.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the grammar above says what each field is")]
pub enum Body {
    Conv {
        out: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        groups: usize,
    },
    Depthwise {
        kernel: [usize; 2],
        stride: [usize; 2],
        multiplier: usize,
    },
    Separable {
        out: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
    },
    InvertedResidual {
        out: usize,
        expand: Expand,
        kernel: [usize; 2],
        stride: [usize; 2],
        se: Option<SqueezeExcite>,
        residual: bool,
    },
    Universal {
        out: usize,
        expand: Expand,
        dw_start: Option<[usize; 2]>,
        dw_mid: Option<[usize; 2]>,
        stride: [usize; 2],
        residual: bool,
    },
    Fused {
        out: usize,
        expand: Expand,
        kernel: [usize; 2],
        stride: [usize; 2],
        group_size: Option<usize>,
        residual: bool,
    },
    SqueezeExcite(SqueezeExcite),
    Pool {
        kind: PoolKind,
        kernel: [usize; 2],
        stride: [usize; 2],
    },
    GlobalAvgPool,
    Dense {
        out: usize,
    },
    Softmax,
    Dropout,
    Residual {
        blocks: Vec<Block>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_round_as_the_reference_code_does() {
        let eight = Widths { round_to: 8, min: 8 };
        for (width, alpha, want) in [(32, 0.35, 16), (24, 0.35, 8), (1280, 1.4, 1792), (40, 0.5, 24), (72, 0.25, 24), (3, 1.0, 3)]
        {
            assert_eq!(eight.scale(width, alpha), want, "{width} x {alpha}");
        }
        assert_eq!(Widths { round_to: 1, min: 1 }.scale(32, 0.33), 10);
        assert_eq!(eight.round(f64::MAX), usize::MAX);
    }
}
