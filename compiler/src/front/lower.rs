//! A checked spec to a graph of bare ops: explicit padding, convolution, batch norm, activation and addition nodes.
//!
//! The same code runs twice: first with a weight source that gives nothing, to find every layer and all shapes that do not
//! fit before anything large is allocated; then with the real one.
//!
//! Names: `<block>[.<repetition>].<layer>`, the layers as listed in [`super::ast`]; around a layer `x` stand `x.pad`, `x.bn`
//! and `x.act`. A block inside a `residual` has the name of that in front. Layers that stand among the blocks are lowered by
//! [`super::graph`].

use std::collections::HashMap;

use mnc_runtime::params::Activation;

use super::ast::{
    Block, Body, Expand, MAX_CHANNELS, MAX_ELEMENTS, MAX_NODES, MAX_WEIGHTS, PadRule, Spec, Squeeze, SqueezeExcite,
};
use super::graph::{self, Kept, TensorName, Wanted};
use super::layer::{Layer, LayerKind, Moments, Role, Tag, Tensor, Unit};
use super::{ColorOrder, Preprocess};
use crate::diag::{Diagnostic, Span, nearest};
use crate::ir::op::{BatchNorm, Conv, Dense, Depthwise, Normalize, Pad, Pool};
use crate::ir::{ConstId, Consts, Graph, NodeId, Op, Padding};

/// A tensor that is asked for.
pub(super) enum Ask<'a> {
    /// One of a block's layer, which is at this position of [`Lowered::layers`].
    Block(usize, &'a Layer, Tensor, Moments),
    /// One of a layer among the blocks.
    Plain(&'a Wanted<'a>),
}

/// Gives the elements of a tensor: of a block's in the op's order, of a plain layer's in the checkpoint's.
pub(super) type Source<'a> = dyn FnMut(Ask<'_>) -> Vec<f32> + 'a;

/// A tensor of a layer among the blocks.
pub(super) struct Plain {
    pub(super) tensor: TensorName,
    /// As it stands in a checkpoint.
    pub(super) shape: Vec<usize>,
}

/// The result of lowering.
pub(super) struct Lowered {
    pub(super) graph: Graph,
    pub(super) layers: Vec<Layer>,
    pub(super) units: Vec<Unit>,
    /// Tensors of layers among the blocks.
    pub(super) plain: Vec<Plain>,
}

/// Lowers `spec` with weights from `source`.
///
/// # Errors
/// The first block that does not fit: behind it no shape is known.
pub(super) fn lower(spec: &Spec, source: &mut Source<'_>) -> Result<Lowered, Diagnostic> {
    let lowered = Lowered { graph: Graph::default(), layers: Vec::new(), units: Vec::new(), plain: Vec::new() };
    let (moments, kept, names) = (vec![1.0], Kept::default(), HashMap::new());
    let mut state = Lower { spec, out: lowered, source, moments, kept, names, pooled: false };
    let mut x = state.out.graph.add_input(&spec.input_name, spec.input);
    state.kept.taken.insert(spec.input_name.clone());
    if spec.preprocess.in_graph {
        x = state.normalize(&spec.preprocess, x)?;
    }
    state.name(&spec.input_name, &spec.span, x)?;
    let mut layers = spec.layers.iter().peekable();
    for (i, block) in spec.blocks.iter().enumerate() {
        while let Some((_, layer)) = layers.next_if(|(n, _)| *n <= i) {
            x = state.plain(layer)?;
        }
        if let Some((name, span)) = &block.input {
            x = state.named(name, span)?;
        }
        x = state.block(block, "", x)?;
        state.name(&block.name, &block.span, x)?;
    }
    for (_, layer) in layers {
        x = state.plain(layer)?;
    }
    match &spec.outputs {
        None => state.out.graph.outputs.push(x),
        Some(outputs) => {
            for (called, name, span) in outputs {
                let id = state.named(name, span)?;
                state.out.graph.outputs.push(id);
                state.out.graph.output_names.push(called.clone());
            }
        }
    }
    Ok(state.out)
}

struct Lower<'a, 's> {
    spec: &'a Spec,
    out: Lowered,
    source: &'a mut Source<'s>,
    /// Estimated second moment of every node's output, by index.
    moments: Vec<f64>,
    /// Names of nodes, and how many weights there are so far.
    kept: Kept,
    /// What blocks, layers and the input give.
    names: HashMap<String, NodeId>,
    /// A global pool came before.
    pooled: bool,
}

/// A unit being lowered.
struct At<'b> {
    block: &'b Block,
    name: String,
    unit: usize,
}

/// A convolution to be made.
struct Make {
    role: Role,
    kind: LayerKind,
    stride: [usize; 2],
}

/// Raw RGB pixels of `n` channels to the net's scale: `(p / 255 - mean) / std`.
pub(super) fn normalize(p: &Preprocess, n: usize, consts: &mut Consts) -> Op {
    let order = match p.order {
        ColorOrder::Rgb => (0..n).collect(),
        ColorOrder::Bgr => (0..n).rev().collect(),
    };
    let scale = p.std.iter().map(|s| (1.0 / (255.0 * s)) as f32).collect::<Vec<_>>();
    let shift = p.mean.iter().zip(&p.std).map(|(m, s)| (-m / s) as f32).collect::<Vec<_>>();
    Op::Normalize(Normalize { order, scale: consts.add(scale), shift: consts.add(shift) })
}

impl Lower<'_, '_> {
    /// Adds a node whose output has second moment `moment`.
    fn add(&mut self, span: &Span, name: String, op: Op, inputs: &[NodeId], moment: f64) -> Result<NodeId, Diagnostic> {
        if self.out.graph.len() >= MAX_NODES {
            return Err(Diagnostic::error(format!("the net has more than {MAX_NODES} nodes")).at(span, "reached here"));
        }
        if !self.kept.taken.insert(name.clone()) {
            let d = Diagnostic::error(format!("the name `{name}` is taken")).at(span, "in this block");
            return Err(d.help("give the block another `name`"));
        }
        let id = match self.out.graph.add(name, op, inputs) {
            Ok(id) => id,
            Err(e) => return Err(Diagnostic::error(e.to_string()).at(span, "in this block")),
        };
        let shape = self.out.graph.shape(id);
        if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(Diagnostic::error(format!("a tensor of {shape} is too large")).at(span, "made by this block"));
        }
        self.moments.resize(id.index() + 1, 1.0);
        self.moments[id.index()] = moment;
        Ok(id)
    }

    /// What is called `name`.
    fn named(&self, name: &str, span: &Span) -> Result<NodeId, Diagnostic> {
        self.names.get(name).copied().ok_or_else(|| {
            let d = Diagnostic::error(format!("nothing above is called `{name}`")).at(span, "unknown name");
            match nearest(name, self.names.keys().map(String::as_str)) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None => d.help("it is the name of the input, or of a block or layer that stands above"),
            }
        })
    }

    /// Calls what `id` gives `name`.
    fn name(&mut self, name: &str, span: &Span, id: NodeId) -> Result<(), Diagnostic> {
        match self.names.insert(name.to_owned(), id) {
            None => Ok(()),
            // A block may be called as the input is, which then cannot be named.
            Some(old) if matches!(self.out.graph.op(old), Op::Input | Op::Normalize(_)) => Ok(()),
            Some(_) => {
                let d = Diagnostic::error(format!("two of the input, the blocks and the layers are called `{name}`"));
                Err(d.at(span, "the second one").help("give it another `name`"))
            }
        }
    }

    /// A layer among the blocks.
    fn plain(&mut self, layer: &graph::Layer) -> Result<NodeId, Diagnostic> {
        let inputs = layer.inputs.iter().map(|(name, span)| self.named(name, span)).collect::<Result<Vec<_>, _>>()?;
        let (plain, source) = (&mut self.out.plain, &mut *self.source);
        let id = graph::one(&mut self.out.graph, &mut self.kept, layer, &inputs, &mut |wanted| {
            plain.push(Plain { tensor: wanted.tensor.clone(), shape: wanted.shape.clone() });
            Ok(source(Ask::Plain(wanted)))
        })?;
        self.moments.resize(id.index() + 1, 1.0);
        self.pooled |= self.out.graph.op(id) == &Op::GlobalPool;
        self.name(&layer.name, &layer.span, id)?;
        Ok(id)
    }

    fn moment(&self, id: NodeId) -> f64 {
        self.moments[id.index()]
    }

    fn channels(&self, id: NodeId) -> usize {
        self.out.graph.shape(id).c
    }

    /// Raw pixels to the net's scale: `(p / 255 - mean) / std`.
    fn normalize(&mut self, p: &Preprocess, x: NodeId) -> Result<NodeId, Diagnostic> {
        let n = self.channels(x);
        let op = normalize(p, n, &mut self.out.graph.consts);
        let span = self.spec.span.clone();
        self.add(&span, "normalize".into(), op, &[x], 1.0)
    }

    /// All repetitions of `block`, whose name is prefixed by `prefix`.
    fn block(&mut self, block: &Block, prefix: &str, mut x: NodeId) -> Result<NodeId, Diagnostic> {
        for repetition in 0..block.repeat {
            let name = match block.repeat {
                1 => format!("{prefix}{}", block.name),
                _ => format!("{prefix}{}.{repetition}", block.name),
            };
            let unit = self.out.units.len();
            let first = repetition == 0;
            if let Some((tag, stated_out, stride)) = Tag::of(&block.body) {
                let strided = first && stride != [1, 1];
                self.out.units.push(Unit { tag, stated_out, strided, stage: block.stage, pooled: self.pooled });
            }
            x = self.unit(&At { block, name, unit }, first, x)?;
        }
        Ok(x)
    }

    fn unit(&mut self, at: &At<'_>, first: bool, x: NodeId) -> Result<NodeId, Diagnostic> {
        let span = &at.block.span;
        let act = at.block.style.activation;
        let width = |out: usize| self.spec.widths.scale(out, at.block.alpha);
        let once = |stride: [usize; 2]| if first { stride } else { [1, 1] };
        let in_c = self.channels(x);
        match &at.block.body {
            Body::Conv { out, kernel, stride, groups } => {
                let kind = LayerKind::Conv { kernel: *kernel, in_c, out_c: width(*out), groups: *groups };
                self.conv(at, "conv", Make { role: Role::Conv, kind, stride: once(*stride) }, act, x)
            }
            Body::Depthwise { kernel, stride, multiplier } => {
                let kind = LayerKind::Depthwise { kernel: *kernel, channels: in_c, multiplier: *multiplier };
                self.conv(at, "depthwise", Make { role: Role::Depthwise, kind, stride: once(*stride) }, act, x)
            }
            Body::Separable { out, kernel, stride } => {
                let out_c = width(*out);
                let x = self.conv(at, "depthwise", depthwise(Role::Depthwise, *kernel, in_c, once(*stride)), act, x)?;
                self.conv(at, "pointwise", pointwise(Role::Pointwise, in_c, out_c), act, x)
            }
            Body::InvertedResidual { out, expand, kernel, stride, se, residual } => {
                let (inner, out_c) = (self.inner(at, *expand, in_c)?, width(*out));
                let mut y = x;
                if inner != in_c {
                    y = self.conv(at, "expand", pointwise(Role::Expand, in_c, inner), act, y)?;
                }
                let make = depthwise(Role::Depthwise, *kernel, inner, once(*stride));
                y = match se {
                    None => self.conv(at, "depthwise", make, act, y)?,
                    Some(se) if se.before_activation => {
                        y = self.conv(at, "depthwise", make, Activation::None, y)?;
                        y = self.squeeze_excite(at, "se.", se, y)?;
                        self.act(span, format!("{}.depthwise.act", at.name), act, y)?
                    }
                    Some(se) => {
                        y = self.conv(at, "depthwise", make, act, y)?;
                        self.squeeze_excite(at, "se.", se, y)?
                    }
                };
                y = self.conv(at, "project", pointwise(Role::Project, inner, out_c), Activation::None, y)?;
                self.residual(at, *residual && once(*stride) == [1, 1], x, y)
            }
            Body::Universal { out, expand, dw_start, dw_mid, stride, residual } => {
                let (inner, out_c, stride) = (self.inner(at, *expand, in_c)?, width(*out), once(*stride));
                let mut y = x;
                if let Some(kernel) = dw_start {
                    let stride = if dw_mid.is_some() { [1, 1] } else { stride };
                    y = self.conv(at, "dw_start", depthwise(Role::DwStart, *kernel, in_c, stride), Activation::None, y)?;
                }
                y = self.conv(at, "expand", pointwise(Role::Expand, in_c, inner), act, y)?;
                if let Some(kernel) = dw_mid {
                    y = self.conv(at, "dw_mid", depthwise(Role::DwMid, *kernel, inner, stride), act, y)?;
                }
                y = self.conv(at, "project", pointwise(Role::Project, inner, out_c), Activation::None, y)?;
                self.residual(at, *residual && stride == [1, 1], x, y)
            }
            Body::Fused { out, expand, kernel, stride, group_size, residual } => {
                let (inner, out_c, stride) = (self.inner(at, *expand, in_c)?, width(*out), once(*stride));
                let groups = match group_size {
                    Some(size) if !inner.is_multiple_of(*size) => {
                        let message = format!("groups of {size} do not divide the inner width of {inner}");
                        return Err(Diagnostic::error(message).at(span, "in this block"));
                    }
                    Some(size) => inner / size,
                    None => 1,
                };
                let kind = LayerKind::Conv { kernel: *kernel, in_c, out_c: inner, groups };
                let y = self.conv(at, "expand", Make { role: Role::Expand, kind, stride }, act, x)?;
                let y = self.conv(at, "project", pointwise(Role::Project, inner, out_c), Activation::None, y)?;
                self.residual(at, *residual && stride == [1, 1], x, y)
            }
            Body::SqueezeExcite(se) => self.squeeze_excite(at, "se.", se, x),
            Body::Pool { kind, kernel, stride } => {
                let shape = self.out.graph.shape(x);
                let pad = at.block.style.padding.resolve(shape.h, shape.w, *kernel, *stride);
                let op = Pool { kind: *kind, kernel: *kernel, stride: *stride, pad, count_padding: false };
                self.add(span, format!("{}.pool", at.name), Op::Pool(op), &[x], self.moment(x))
            }
            Body::GlobalAvgPool => {
                self.pooled = true;
                self.add(span, format!("{}.pool", at.name), Op::GlobalPool, &[x], self.moment(x) * 0.4)
            }
            Body::Dense { out } => {
                let make = Make { role: Role::Dense, kind: LayerKind::Dense { in_c, out_c: width(*out) }, stride: [1, 1] };
                self.conv(at, "dense", make, act, x)
            }
            Body::Softmax => {
                let classes = in_c as f64;
                self.add(span, format!("{}.softmax", at.name), Op::Softmax, &[x], 1.0 / (classes * classes))
            }
            Body::Dropout => Ok(x),
            Body::Residual { blocks } => {
                let mut y = x;
                for inner in blocks {
                    y = self.block(inner, &format!("{}.", at.name), y)?;
                }
                let (from, to) = (self.out.graph.shape(x), self.out.graph.shape(y));
                if from != to {
                    let message = format!("a residual of {from} cannot be added to {to}");
                    let d = Diagnostic::error(message).at(span, "its blocks change the shape");
                    return Err(d.help("the blocks of a residual must keep height, width and channels"));
                }
                let y = self.add(
                    span,
                    format!("{}.add", at.name),
                    Op::Add(Activation::None),
                    &[x, y],
                    self.moment(x) + self.moment(y),
                )?;
                self.act(span, format!("{}.act", at.name), act, y)
            }
        }
    }

    /// Inner width of an inverted block.
    fn inner(&self, at: &At<'_>, expand: Expand, in_c: usize) -> Result<usize, Diagnostic> {
        let inner = match expand {
            Expand::Channels(c) => self.spec.widths.scale(c, at.block.alpha),
            Expand::Ratio(ratio) => {
                let inner = in_c as f64 * ratio;
                if ratio.fract() == 0.0 { inner as usize } else { self.spec.widths.round(inner) }
            }
        };
        if (1..=MAX_CHANNELS).contains(&inner) {
            return Ok(inner);
        }
        let message = format!("an inner width of {inner} channels is not within 1 to {MAX_CHANNELS}");
        Err(Diagnostic::error(message).at(&at.block.span, "in this block"))
    }

    /// Pad, convolution, batch norm, activation; each where there is one.
    fn conv(&mut self, at: &At<'_>, part: &str, make: Make, act: Activation, x: NodeId) -> Result<NodeId, Diagnostic> {
        let span = &at.block.span;
        let dense = matches!(make.kind, LayerKind::Dense { .. });
        let squeeze = matches!(make.role, Role::SeReduce | Role::SeExpand);
        let layer = Layer {
            name: format!("{}.{part}", at.name),
            span: span.clone(),
            unit: at.unit,
            role: make.role,
            kind: make.kind,
            bias: squeeze || at.block.style.bias,
            batch_norm: !dense && at.block.style.batch_norm.is_some(),
        };
        self.check_width(span, layer.kind)?;
        let shape = self.out.graph.shape(x);
        if dense && (shape.h, shape.w) != (1, 1) {
            let message = format!("a dense layer takes 1x1xC, not {}x{}x{}", shape.h, shape.w, shape.c);
            return Err(Diagnostic::error(message).at(span, "").help("put a `global_avg_pool` block before it"));
        }
        let name = layer.name.clone();
        let x = match make.kind {
            LayerKind::Conv { kernel, .. } | LayerKind::Depthwise { kernel, .. } => {
                self.pad(span, &name, at.block.style.padding, kernel, make.stride, x)?
            }
            LayerKind::Dense { .. } => x,
        };
        // He initialisation doubles the second moment; without batch norm the weights are drawn to keep it at 1.
        let input = self.moment(x);
        let moments = Moments { input, output: if layer.batch_norm { 2.0 * input } else { 1.0 } };
        let weight = self.tensor(&layer, Tensor::Weight, moments)?;
        let bias = if layer.bias { Some(self.tensor(&layer, Tensor::Bias, moments)?) } else { None };
        let op = op(make, weight, bias);
        let mut y = self.add(span, name.clone(), op, &[x], moments.output)?;
        if layer.batch_norm {
            let gamma = self.tensor(&layer, Tensor::Gamma, moments)?;
            let beta = self.tensor(&layer, Tensor::Beta, moments)?;
            let mean = self.tensor(&layer, Tensor::Mean, moments)?;
            let variance = self.tensor(&layer, Tensor::Variance, moments)?;
            let op = BatchNorm { gamma, beta, mean, variance, eps: at.block.style.batch_norm.unwrap_or(0.0) };
            y = self.add(span, format!("{name}.bn"), Op::BatchNorm(op), &[y], 1.0)?;
        }
        self.out.layers.push(layer);
        self.act(span, format!("{name}.act"), act, y)
    }

    fn check_width(&self, span: &Span, kind: LayerKind) -> Result<(), Diagnostic> {
        if let LayerKind::Conv { in_c, out_c, groups, .. } = kind
            && (!in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups))
        {
            let message = format!("{groups} groups do not divide {in_c} input and {out_c} output channels");
            return Err(Diagnostic::error(message).at(span, "in this block"));
        }
        if kind.out_c() > MAX_CHANNELS {
            let message = format!("{} channels are more than {MAX_CHANNELS}", kind.out_c());
            return Err(Diagnostic::error(message).at(span, "in this block"));
        }
        Ok(())
    }

    /// Adds one tensor of `layer` to the constants.
    fn tensor(&mut self, layer: &Layer, tensor: Tensor, moments: Moments) -> Result<ConstId, Diagnostic> {
        let len = if tensor == Tensor::Weight { layer.kind.weights() } else { Some(layer.kind.out_c()) };
        self.kept.weights = self.kept.weights.saturating_add(len.unwrap_or(usize::MAX));
        if self.kept.weights > MAX_WEIGHTS {
            let d = Diagnostic::error(format!("the net has more than {} million weights", MAX_WEIGHTS / 1_000_000));
            return Err(d.at(&layer.span, "reached here"));
        }
        let data = (self.source)(Ask::Block(self.out.layers.len(), layer, tensor, moments));
        Ok(self.out.graph.consts.add(data))
    }

    /// A padding node where padding is needed.
    fn pad(
        &mut self,
        span: &Span,
        name: &str,
        rule: PadRule,
        kernel: [usize; 2],
        stride: [usize; 2],
        x: NodeId,
    ) -> Result<NodeId, Diagnostic> {
        let shape = self.out.graph.shape(x);
        let pad: Padding = rule.resolve(shape.h, shape.w, kernel, stride);
        let fits = |i: usize, before: usize, after: usize, k: usize| i + before + after >= k;
        if !fits(shape.h, pad.top, pad.bottom, kernel[0]) || !fits(shape.w, pad.left, pad.right, kernel[1]) {
            let message = format!("a {}x{} window does not fit into {}x{}", kernel[0], kernel[1], shape.h, shape.w);
            let d = Diagnostic::error(message).at(span, "in this block");
            return Err(d.help("use a larger input, a smaller kernel, fewer strides or `padding = \"same\"`"));
        }
        if pad.is_zero() {
            return Ok(x);
        }
        self.add(span, format!("{name}.pad"), Op::Pad(Pad { pad, value: None }), &[x], self.moment(x))
    }

    fn act(&mut self, span: &Span, name: String, act: Activation, x: NodeId) -> Result<NodeId, Diagnostic> {
        if act == Activation::None {
            return Ok(x);
        }
        self.add(span, name, Op::Act(act), &[x], Moments::after(act, self.moment(x)))
    }

    /// `x * gate(W2 act(W1 mean(x)))`
    fn squeeze_excite(&mut self, at: &At<'_>, part: &str, se: &SqueezeExcite, x: NodeId) -> Result<NodeId, Diagnostic> {
        let span = &at.block.span;
        let c = self.channels(x);
        let squeezed = match se.squeeze {
            Squeeze::Channels(n) => n,
            Squeeze::Ratio(ratio, widths) => widths.round(c as f64 * ratio),
        };
        let dense = |role, in_c, out_c| Make { role, kind: LayerKind::Dense { in_c, out_c }, stride: [1, 1] };
        let s = self.add(span, format!("{}.{part}pool", at.name), Op::GlobalPool, &[x], self.moment(x) * 0.4)?;
        let s = self.conv(at, &format!("{part}reduce"), dense(Role::SeReduce, c, squeezed), se.activation, s)?;
        let s = self.conv(at, &format!("{part}expand"), dense(Role::SeExpand, squeezed, c), se.gate, s)?;
        let moment = self.moment(x) * self.moment(s);
        self.add(span, format!("{}.{part}scale", at.name), Op::Scale(Activation::None), &[x, s], moment)
    }

    /// The sum of an inverted block's input and output, where `wanted` and of one shape.
    fn residual(&mut self, at: &At<'_>, wanted: bool, x: NodeId, y: NodeId) -> Result<NodeId, Diagnostic> {
        if !wanted || self.out.graph.shape(x) != self.out.graph.shape(y) {
            return Ok(y);
        }
        let moment = self.moment(x) + self.moment(y);
        self.add(&at.block.span, format!("{}.add", at.name), Op::Add(Activation::None), &[x, y], moment)
    }
}

fn pointwise(role: Role, in_c: usize, out_c: usize) -> Make {
    Make { role, kind: LayerKind::Conv { kernel: [1, 1], in_c, out_c, groups: 1 }, stride: [1, 1] }
}

fn depthwise(role: Role, kernel: [usize; 2], channels: usize, stride: [usize; 2]) -> Make {
    Make { role, kind: LayerKind::Depthwise { kernel, channels, multiplier: 1 }, stride }
}

/// The bare op.
fn op(make: Make, weight: ConstId, bias: Option<ConstId>) -> Op {
    let (stride, pad, pad_value, act) = (make.stride, Padding::ZERO, None, Activation::None);
    match make.kind {
        LayerKind::Conv { kernel, in_c, out_c, groups } => {
            let (residual, pool) = (false, false);
            Op::Conv(Conv {
                in_c,
                out_c,
                kernel,
                stride,
                dilation: [1, 1],
                groups,
                pad,
                pad_value,
                weight,
                bias,
                act,
                residual,
                pool,
            })
        }
        LayerKind::Depthwise { kernel, channels, multiplier } => {
            Op::Depthwise(Depthwise { channels, multiplier, kernel, stride, dilation: [1, 1], pad, pad_value, weight, bias, act })
        }
        LayerKind::Dense { in_c, out_c } => Op::Dense(Dense { in_c, out_c, weight, bias, act }),
    }
}
