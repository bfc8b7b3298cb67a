//! Specs made of layers: any graph of the ops, where blocks only make chains.
//!
//! ```toml
//! [net]
//! name = "two_ways"
//! input = { height = 32, width = 32 }
//!
//! [[layer]]
//! op = "conv"
//! name = "stem"
//! out = 8
//! kernel = 3
//! stride = 2
//! padding = 1
//! batch_norm = true
//! activation = "relu6"
//!
//! [[layer]]
//! op = "max_pool"
//! name = "pool"
//! kernel = 3
//! padding = 1
//! stride = 1
//!
//! [[layer]]
//! op = "concat"
//! inputs = ["stem", "pool"]
//! ```
//! The macro takes the same as `layer conv { name: stem, out: 8, … }`. `mnc import` writes such specs.
//!
//! # `[net]`
//! `name`, `input`, `labels` as in a spec of blocks ([`super::ast`]). An `input` may have a `name` (`"input"`), by which layers know it;
//! several inputs are a list, `inputs = [{ name = "left", height = 8, … }, …]`. `outputs` are the names of the layers that are
//! results, or a table from what a result is called to its layer (`outputs = { logits = "dense" }`); without it the last layer is the
//! one result. `[passes]` and `[plan]` are as ever.
//!
//! # `[weights]`
//! `file`, a safetensors checkpoint, with its `sha256` where another file in its place shall be an error, or `seed` (1) for random weights; `extra` (`"error"` or `"ignore"`). Tensors are found by the names
//! that layers give, in PyTorch's order of dimensions.
//!
//! # `[[layer]]`
//! Every layer has `op`, and may have `name` (letters, digits, `_`, `-` and `.`; `layer` and its position from 0 otherwise) and `inputs`:
//! the names of what it reads, one or a list; without it what stands just before it. It reads only what stands above it. `activation`
//! goes behind any of them but `softmax` and `constant`: a word of a spec of blocks, `tanh`, `silu`, or one of
//! `{ leaky_relu = slope }`, `{ clip = [least, most] }`, `{ hard_sigmoid = [alpha, beta] }` (`max(0, min(1, alpha x + beta))`).
//!
//! | op | keys (default) | tensors (name), shape |
//! |---|---|---|
//! | `conv` | `out`, `kernel` (1), `stride` (1), `dilation` (1), `groups` (1), `padding` (0), `bias` (false), `batch_norm` (false) | `weight` (`<layer>.weight`) `[out, in / groups, h, w]`, `bias` `[out]` |
//! | `depthwise` | the same without `out` and `groups`; `multiplier` (1) | `[in * multiplier, 1, h, w]` |
//! | `conv_transpose` | those of `conv`; `padding` (0) is cut off the result, `output_padding` (0) added to it below and on the right | `[in, out / groups, h, w]` |
//! | `dense` | `out`, `bias`, `batch_norm` | `[out, in]` |
//! | `batch_norm` | `eps` (1e-5) | `weight`, `bias`, `mean`, `variance`, each `[c]` |
//! | `activation` | `activation` | |
//! | `prelu` | | `weight` `[c]`: the slope below 0 |
//! | `add`, `sub`, `mul`, `div` | two inputs, either of which may have one row, column or channel for many | |
//! | `scale` | the first input times the second, one number a channel | |
//! | `concat` | `axis` (`"channels"`, `"rows"` or `"columns"`) of any number of inputs | |
//! | `gather` | `rows`, `columns`, `channels` (all): which are taken, and `fill` (0); below | |
//! | `interpolate` | `rows`, `columns` (as they are): linear resizing; below | |
//! | `reshape` | `height`, `width`, `channels` (1): the same elements in the same order | |
//! | `transpose` | `order`: which axis of the input each of the result's is, `["columns", "rows", "channels"]` say | |
//! | `mean` | `axes`, such as `["rows"]` | |
//! | `pad` | `padding`, `value` (0) | |
//! | `max_pool`, `avg_pool` | `kernel`, `stride` (`kernel`), `padding` (0); `count_padding` (false) of `avg_pool` | |
//! | `global_avg_pool`, `softmax` | | |
//! | `constant` | `height`, `width`, `channels` | `value` (`<layer>.value`) `[h, w, c]` |
//!
//! `kernel`, `stride`, `dilation` are a number or `[rows, columns]`. `padding` is `"torch"`, `"same"`, `"valid"`, a number for every side, or
//! `[top, left, bottom, right]`. A tensor key is true for the name in brackets or the name itself. `batch_norm` is true or a table of
//! the keys of `batch_norm`; its tensors are `<layer>.bn.weight`, `.bias`, `.running_mean`, `.running_var` unless it says otherwise.
//! Layers that name the same tensor share it.
//!
//! What a `gather` takes of an axis is a list of positions and ranges without their ends (`[0, 0, "4..8"]`), -1 being the `fill`; or
//! `{ repeat = 2 }`, each so many times in a row; or `{ groups = 2 }`, one of each group in turn (a channel shuffle). What an
//! `interpolate` makes of one is `{ size = 8, align = "centers" }` (or `"corners"`: first and last elements stay, or `"start"`: the
//! first do), or a list of `[low, high, weight of high]`.

mod describe;
mod lower;
mod simplify;
mod tables;
mod text;
mod weights;

use std::path::{Path, PathBuf};

use mnc_runtime::params::{Activation, Axis, BinaryKind, PoolKind};

pub(super) use self::describe::{Stored, canonical, described, layer_name, name_chains};
pub(super) use self::lower::{Kept, Role, Wanted, one};
pub(super) use self::simplify::{clip, is_sixth, simplify};
pub(super) use self::tables::{Align, Table, Taps, table_bytes, tap};
pub(super) use self::text::{activation, last_node, one_line, options, preprocess, quoted, write_layer};
pub(super) use self::weights::{drawn, serialized};
use super::ast::{PadRule, Sha256};
use super::check::Frame;
use super::checkpoint::sha256;
use super::value::Value;
use super::{Loaded, Net, check, labels};
use crate::diag::{Diagnostics, Span};
use crate::ir::{Padding, Shape, verify};

/// Longest table of a `gather`.
pub(super) const MAX_TABLE: usize = super::ast::MAX_CHANNELS;
/// Most bytes of the tables of all layers: a word of a spec can ask for a long one.
const MAX_TABLES: usize = 64 << 20;

/// A tensor of the checkpoint, and where the spec names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TensorName {
    pub(super) name: String,
    pub(super) span: Span,
}

/// Padding of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Around {
    /// By a rule.
    Rule(PadRule),
    /// Every side.
    Sides(Padding),
}

/// The window of a convolution or pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    pub(super) padding: Around,
}

/// Batch norm behind a layer, or as one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Norm {
    pub(super) eps: f64,
    /// Scale, shift, mean, variance.
    pub(super) tensors: [TensorName; 4],
}

/// What a layer is; the fields are the keys of the grammar above.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Body {
    Conv {
        out: usize,
        groups: usize,
        window: Window,
        weight: TensorName,
        bias: Option<TensorName>,
    },
    Depthwise {
        multiplier: usize,
        window: Window,
        weight: TensorName,
        bias: Option<TensorName>,
    },
    Dense {
        out: usize,
        weight: TensorName,
        bias: Option<TensorName>,
    },
    ConvTranspose {
        out: usize,
        groups: usize,
        window: Window,
        output_padding: [usize; 2],
        weight: TensorName,
        bias: Option<TensorName>,
    },
    BatchNorm(Norm),
    PRelu {
        weight: TensorName,
    },
    /// The layer's `activation` is all there is to it.
    Activation,
    Binary(BinaryKind),
    Scale,
    Concat(Axis),
    /// Rows, columns, channels.
    Gather {
        tables: [Option<Table>; 3],
        fill: f32,
    },
    /// Rows, columns.
    Interpolate([Option<Taps>; 2]),
    Reshape(Shape),
    Transpose([usize; 3]),
    Mean([bool; 3]),
    Pad {
        padding: Padding,
        value: f32,
    },
    Pool {
        kind: PoolKind,
        window: Window,
        count_padding: bool,
    },
    GlobalAvgPool,
    Softmax,
    Constant {
        shape: Shape,
        value: TensorName,
    },
}

/// One `[[layer]]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layer {
    /// Unique.
    pub(super) name: String,
    /// Its `op = …`.
    pub(super) span: Span,
    /// What it reads.
    pub(super) inputs: Vec<(String, Span)>,
    pub(super) body: Body,
    /// Behind a convolution or dense layer.
    pub(super) batch_norm: Option<Norm>,
    /// Last of all.
    pub(super) activation: Activation,
}

/// Where the weights are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Source {
    Seed(u64),
    File { path: String, span: Span, sha256: Option<Sha256>, ignore_extra: bool },
}

/// A checked spec of layers.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) frame: Frame,
    pub(super) source: Source,
    pub(super) layers: Vec<Layer>,
}

/// Whether `root` is a spec of layers.
pub(super) fn is_layers(root: &Value) -> bool {
    root.as_table().is_some_and(|t| t.get("layer").is_some() && t.get("block").is_none())
}

/// [`super::check_and_lower`] for a spec of layers.
pub(super) fn load(root: &Value, base: &Path, given: Option<&Path>) -> Result<Loaded, Diagnostics> {
    let (spec, mut mistakes) = check::check_layers(root);
    let Some(spec) = spec else { return Err(mistakes) };
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut files = Vec::new();
    let (graph, weights_from) = weights::lowered(&spec, base, given, &mut files)?;
    if let Err(errors) = verify::verify(&graph) {
        return Err(errors.into_iter().map(|e| crate::diag::Diagnostic::error(e.to_string())).collect());
    }
    let labels = labels::read(spec.frame.labels.as_ref(), None, base, &graph, &mut files, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let Frame { name, preprocess, passes, plan, .. } = spec.frame;
    Ok((Net { name, graph, preprocess, labels, weights_from, passes, plan, tuned: None, files }, Diagnostics::new()))
}

/// A net as files: a spec and its checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// `NAME.toml`
    pub spec: (PathBuf, Vec<u8>),
    /// `NAME.safetensors`
    pub weights: (PathBuf, Vec<u8>),
    /// Blocks of the spec, repetitions not counted; 0 for one of plain layers.
    pub blocks: usize,
}

/// `net` as a spec of layers and a checkpoint beside it, both in `folder`; `from` says in a comment where it comes from.
///
/// # Errors
/// The graph has parts that only passes make, or nothing but inputs.
pub fn write_layers(net: &Net, folder: &Path, from: &str) -> Result<Written, String> {
    let (layers, tensors) = described(&net.graph)?;
    if layers.is_empty() {
        return Err("the net computes nothing: there is no layer to write".into());
    }
    let checkpoint = format!("{}.safetensors", net.name);
    let stored = tensors.iter().map(|(name, stored)| (name.as_str(), stored.shape.clone(), stored.data(&net.graph).into()));
    let weights = weights::serialized(stored)?;
    let spec = text::spec(net, &layers, (&checkpoint, &sha256(&weights)), from);
    Ok(Written {
        spec: (folder.join(format!("{}.toml", net.name)), spec.into_bytes()),
        weights: (folder.join(checkpoint), weights),
        blocks: 0,
    })
}
