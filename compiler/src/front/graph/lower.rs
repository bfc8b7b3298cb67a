//! Layers to a graph of bare ops, as blocks are lowered: padding, batch norm and activation are nodes of their own, called `x.pad`,
//! `x.bn` and `x.act` around the layer `x`.

use std::collections::{HashMap, HashSet};

use mnc_runtime::params::{Activation, BinaryKind, PoolKind, Real};

use super::{Align, Around, Body, Layer, MAX_TABLES, Norm, Table, Taps, TensorName, Window, table_bytes};
use crate::diag::{Diagnostic, Diagnostics, Span, nearest};
use crate::front::ast::{MAX_CHANNELS, MAX_ELEMENTS, MAX_NODES, MAX_WEIGHTS};
use crate::front::check::Frame;
use crate::front::lower::normalize;
use crate::ir::op::{BatchNorm, Binary, Conv, ConvTranspose, Dense, Depthwise, Gather, Pad, Pool};
use crate::ir::{ConstId, Graph, NodeId, Op, Padding, Shape};

/// What a tensor is to its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) enum Role {
    /// Products with so many inputs are summed up.
    Weight {
        fan_in: usize,
    },
    Bias,
    Gamma,
    Beta,
    Mean,
    Variance,
    Constant,
}

/// A tensor that a layer asks for.
#[derive(Debug)]
pub(in crate::front) struct Wanted<'a> {
    pub(in crate::front) tensor: &'a TensorName,
    /// As it stands in a checkpoint.
    pub(in crate::front) shape: Vec<usize>,
    /// The same elements with the dimensions that are turned to the op's order.
    pub(super) dims: Vec<usize>,
    pub(in crate::front) role: Role,
}

/// Gives the elements of a tensor in the order of the checkpoint.
pub(in crate::front) type Source<'a> = dyn FnMut(&Wanted<'_>) -> Result<Vec<f32>, Diagnostic> + 'a;

/// The order of a checkpoint's dimensions in the op: `[out, in, h, w]` to `[h, w, in, out]`.
pub(super) const CONV: [usize; 4] = [2, 3, 1, 0];
/// `[groups, in / groups, out / groups, h, w]`, which a checkpoint has as `[in, out / groups, h, w]`, to
/// `[h, w, in / groups, groups, out / groups]`.
pub(super) const TRANSPOSED: [usize; 5] = [3, 4, 1, 0, 2];
/// `[out, in]` to `[in, out]`.
pub(super) const DENSE: [usize; 2] = [1, 0];

/// Elements of a tensor of `dims` with its dimensions in the order `perm`.
pub(super) fn turned(data: &[f32], dims: &[usize], perm: &[usize]) -> Vec<f32> {
    let mut steps = vec![1; dims.len()];
    for i in (0..dims.len().saturating_sub(1)).rev() {
        steps[i] = steps[i + 1] * dims[i + 1];
    }
    let order: Vec<(usize, usize)> = perm.iter().map(|&p| (dims[p], steps[p])).collect();
    let mut places = vec![0];
    for (n, step) in order {
        places = places.iter().flat_map(|&p| (0..n).map(move |i| p + i * step)).collect();
    }
    places.into_iter().map(|p| data[p]).collect()
}

/// Lowers `layers` with weights from `source`.
///
/// # Errors
/// All layers that do not fit, but for those that read such layers.
pub(in crate::front) fn lower(frame: &Frame, layers: &[Layer], source: &mut Source<'_>) -> Result<Graph, Diagnostics> {
    let mut state = Lower {
        graph: Graph::default(),
        source,
        shared: HashMap::new(),
        weights: 0,
        tables: 0,
        names: HashMap::new(),
        taken: HashSet::new(),
    };
    for (i, (name, shape)) in frame.inputs.iter().enumerate() {
        let mut id = state.graph.add_input(name.clone(), *shape);
        state.taken.insert(name.clone());
        if i == 0 && frame.preprocess.in_graph {
            let op = normalize(&frame.preprocess, shape.c, &mut state.graph.consts);
            id = state.graph.add("normalize", op, &[id]).map_err(|e| vec![Diagnostic::error(e.to_string())])?;
            state.taken.insert("normalize".into());
        }
        state.names.insert(name.clone(), Some(id));
    }
    let mut mistakes = Diagnostics::new();
    for layer in layers {
        let made = match state.inputs(layer) {
            // It reads what could not be made: nothing to say.
            Ok(None) => None,
            Ok(Some(inputs)) => state.layer(layer, &inputs).map_err(|d| mistakes.push(d)).ok(),
            Err(d) => {
                mistakes.push(d);
                None
            }
        };
        if state.names.insert(layer.name.clone(), made).is_some() {
            let d = Diagnostic::error(format!("two layers or inputs are called `{}`", layer.name));
            mistakes.push(d.at(&layer.span, "the second one").help("give it another `name`"));
        }
    }
    let last = layers.last().map(|l| (l.name.clone(), l.name.clone(), l.span.clone()));
    let outputs = frame.outputs.clone().unwrap_or_else(|| last.into_iter().collect());
    for (called, layer, span) in outputs {
        match state.names.get(&layer) {
            Some(Some(id)) => {
                state.graph.outputs.push(*id);
                state.graph.output_names.push(called);
            }
            Some(None) => {}
            None => mistakes.push(state.unknown(&layer, &span)),
        }
    }
    if mistakes.is_empty() { Ok(state.graph) } else { Err(mistakes) }
}

/// What is kept from one layer to the next where layers stand among blocks.
#[derive(Debug, Default)]
pub(in crate::front) struct Kept {
    shared: HashMap<(String, Vec<usize>, Vec<usize>), ConstId>,
    /// Elements of all weights so far.
    pub(in crate::front) weights: usize,
    /// Bytes of all tables so far.
    tables: usize,
    /// Names of nodes.
    pub(in crate::front) taken: HashSet<String>,
}

/// Adds the nodes of one `layer` that reads `inputs` to `graph`; gives the last of them.
///
/// # Errors
/// The layer does not fit; the graph may have some of its nodes.
pub(in crate::front) fn one(
    graph: &mut Graph,
    kept: &mut Kept,
    layer: &Layer,
    inputs: &[NodeId],
    source: &mut Source<'_>,
) -> Result<NodeId, Diagnostic> {
    let take = std::mem::take::<Graph>;
    let Kept { shared, weights, tables, taken } = std::mem::take(kept);
    let mut state = Lower { graph: take(graph), source, shared, weights, tables, names: HashMap::new(), taken };
    let made = state.layer(layer, inputs);
    *graph = state.graph;
    *kept = Kept { shared: state.shared, weights: state.weights, tables: state.tables, taken: state.taken };
    made
}

struct Lower<'s, 'f> {
    graph: Graph,
    source: &'s mut Source<'f>,
    /// Tensors that layers share: name, shape and order.
    shared: HashMap<(String, Vec<usize>, Vec<usize>), ConstId>,
    /// Elements of all weights so far.
    weights: usize,
    /// Bytes of all tables so far.
    tables: usize,
    /// The last node of every layer; `None` for one that could not be made.
    names: HashMap<String, Option<NodeId>>,
    /// Names of nodes.
    taken: HashSet<String>,
}

/// `name` as wanted with a shape.
fn wanted(tensor: &TensorName, shape: Vec<usize>, role: Role) -> Wanted<'_> {
    Wanted { tensor, dims: shape.clone(), shape, role }
}

impl Lower<'_, '_> {
    fn unknown(&self, name: &str, span: &Span) -> Diagnostic {
        let d = Diagnostic::error(format!("no layer above is called `{name}`")).at(span, "unknown layer");
        match nearest(name, self.names.keys().map(String::as_str)) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help("a layer reads only what stands above it, and the net's inputs"),
        }
    }

    fn inputs(&self, layer: &Layer) -> Result<Option<Vec<NodeId>>, Diagnostic> {
        let mut all = Some(Vec::new());
        for (name, span) in &layer.inputs {
            match self.names.get(name) {
                None => return Err(self.unknown(name, span)),
                Some(None) => all = None,
                Some(Some(id)) => {
                    if let Some(all) = &mut all {
                        all.push(*id);
                    }
                }
            }
        }
        Ok(all)
    }

    fn add(&mut self, layer: &Layer, part: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId, Diagnostic> {
        let at = |message: String| Diagnostic::error(message).at(&layer.span, "in this layer");
        if self.graph.len() >= MAX_NODES {
            return Err(at(format!("the net has more than {MAX_NODES} nodes")));
        }
        self.tables = self.tables.saturating_add(table_bytes(&op));
        if self.tables > MAX_TABLES {
            return Err(at(format!("the tables of the net's layers are longer than {MAX_TABLES} bytes")));
        }
        let name = format!("{}{part}", layer.name);
        if !self.taken.insert(name.clone()) {
            return Err(at(format!("the name `{name}` is taken")).help("give the layer another `name`"));
        }
        let id = self.graph.add(name, op, inputs).map_err(|e| at(e.to_string()))?;
        self.fits(layer, self.graph.shape(id))?;
        Ok(id)
    }

    fn fits(&self, layer: &Layer, shape: Shape) -> Result<(), Diagnostic> {
        match shape.checked_elements() {
            Some(n) if n <= MAX_ELEMENTS => Ok(()),
            _ => Err(Diagnostic::error(format!("a tensor of {shape} is too large")).at(&layer.span, "made by this layer")),
        }
    }

    /// Counts `n` weights that `span` asks for.
    fn weigh(&mut self, n: usize, span: &Span) -> Result<(), Diagnostic> {
        self.weights = self.weights.saturating_add(n);
        if self.weights <= MAX_WEIGHTS {
            return Ok(());
        }
        Err(Diagnostic::error(format!("the net has more than {MAX_WEIGHTS} weights")).at(span, "reached here"))
    }

    /// A tensor in the op's order `perm` of dimensions.
    fn tensor(&mut self, wanted: &Wanted<'_>, perm: &[usize]) -> Result<ConstId, Diagnostic> {
        let key = (wanted.tensor.name.clone(), wanted.shape.clone(), perm.to_vec());
        if let Some(&id) = self.shared.get(&key) {
            return Ok(id);
        }
        let n = wanted.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        self.weigh(n.unwrap_or(usize::MAX), &wanted.tensor.span)?;
        let data = (self.source)(wanted)?;
        let sorted = perm.iter().enumerate().all(|(i, &p)| i == p);
        // A dry run has shapes and no data.
        let id = self.graph.consts.add(if sorted || data.is_empty() { data } else { turned(&data, &wanted.dims, perm) });
        self.shared.insert(key, id);
        Ok(id)
    }

    fn vector(&mut self, tensor: &TensorName, n: usize, role: Role) -> Result<ConstId, Diagnostic> {
        self.tensor(&wanted(tensor, vec![n], role), &[0])
    }

    fn bias(&mut self, bias: Option<&TensorName>, n: usize) -> Result<Option<ConstId>, Diagnostic> {
        bias.map(|b| self.vector(b, n, Role::Bias)).transpose()
    }

    /// Adds rows and columns of zeros in front of a convolution.
    fn padded(&mut self, layer: &Layer, window: &Window, x: NodeId) -> Result<NodeId, Diagnostic> {
        let pad = self.padding(window, x);
        if pad.is_zero() { Ok(x) } else { self.add(layer, ".pad", Op::Pad(Pad { pad, value: None }), &[x]) }
    }

    fn padding(&self, window: &Window, x: NodeId) -> Padding {
        let extent = [0, 1].map(|i| (window.kernel[i] - 1) * window.dilation[i] + 1);
        let shape = self.graph.shape(x);
        match window.padding {
            Around::Sides(pad) => pad,
            Around::Rule(rule) => rule.resolve(shape.h, shape.w, extent, window.stride),
        }
    }

    fn norm(&mut self, layer: &Layer, part: &str, norm: &Norm, x: NodeId) -> Result<NodeId, Diagnostic> {
        let c = self.graph.shape(x).c;
        let [gamma, beta, mean, variance] = &norm.tensors;
        let op = BatchNorm {
            gamma: self.vector(gamma, c, Role::Gamma)?,
            beta: self.vector(beta, c, Role::Beta)?,
            mean: self.vector(mean, c, Role::Mean)?,
            variance: self.vector(variance, c, Role::Variance)?,
            eps: norm.eps,
        };
        self.add(layer, part, Op::BatchNorm(op), &[x])
    }

    /// All nodes of `layer`.
    fn layer(&mut self, layer: &Layer, inputs: &[NodeId]) -> Result<NodeId, Diagnostic> {
        let mut y = self.body(layer, inputs)?;
        if let Some(norm) = &layer.batch_norm {
            y = self.norm(layer, ".bn", norm, y)?;
        }
        match (&layer.body, layer.activation) {
            (Body::Activation, _) | (_, Activation::None) => Ok(y),
            (_, act) => self.add(layer, ".act", Op::Act(act), &[y]),
        }
    }

    fn body(&mut self, layer: &Layer, inputs: &[NodeId]) -> Result<NodeId, Diagnostic> {
        let one = || match inputs {
            [x] => Ok(*x),
            _ => {
                let d = Diagnostic::error(format!("`{}` takes one input, not {}", layer.name, inputs.len()));
                Err(d.at(&layer.span, "in this layer"))
            }
        };
        let wrong = |message: String| Err(Diagnostic::error(message).at(&layer.span, "in this layer"));
        let (pad, act) = (Padding::ZERO, Activation::None);
        match &layer.body {
            Body::Conv { out, groups, window, weight, bias } => {
                let x = one()?;
                let in_c = self.graph.shape(x).c;
                let (out_c, groups, kernel) = (*out, *groups, window.kernel);
                if !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
                    return wrong(format!("{groups} groups do not divide {in_c} input and {out_c} output channels"));
                }
                let group_in = in_c / groups;
                let role = Role::Weight { fan_in: group_in * kernel[0] * kernel[1] };
                let weight = self.tensor(&wanted(weight, vec![out_c, group_in, kernel[0], kernel[1]], role), &CONV)?;
                let bias = self.bias(bias.as_ref(), out_c)?;
                let x = self.padded(layer, window, x)?;
                let op = Conv {
                    in_c,
                    out_c,
                    kernel,
                    stride: window.stride,
                    dilation: window.dilation,
                    groups,
                    pad,
                    pad_value: None,
                    weight,
                    bias,
                    act,
                    residual: false,
                    pool: false,
                };
                self.add(layer, "", Op::Conv(op), &[x])
            }
            Body::Depthwise { multiplier, window, weight, bias } => {
                let x = one()?;
                let (channels, multiplier, kernel) = (self.graph.shape(x).c, *multiplier, window.kernel);
                let Some(out_c) = channels.checked_mul(multiplier).filter(|&c| c <= MAX_CHANNELS) else {
                    return wrong(format!("{channels} channels times {multiplier} are too many"));
                };
                let role = Role::Weight { fan_in: kernel[0] * kernel[1] };
                let weight = self.tensor(&wanted(weight, vec![out_c, 1, kernel[0], kernel[1]], role), &CONV)?;
                let bias = self.bias(bias.as_ref(), out_c)?;
                let x = self.padded(layer, window, x)?;
                let (stride, dilation, pad_value) = (window.stride, window.dilation, None);
                let op = Depthwise { channels, multiplier, kernel, stride, dilation, pad, pad_value, weight, bias, act };
                self.add(layer, "", Op::Depthwise(op), &[x])
            }
            Body::ConvTranspose { out, groups, window, output_padding, weight, bias } => {
                let x = one()?;
                let in_c = self.graph.shape(x).c;
                let (out_c, groups, kernel) = (*out, *groups, window.kernel);
                if !in_c.is_multiple_of(groups) || !out_c.is_multiple_of(groups) {
                    return wrong(format!("{groups} groups do not divide {in_c} input and {out_c} output channels"));
                }
                let (group_in, group_out) = (in_c / groups, out_c / groups);
                let mut wanted = wanted(weight, vec![in_c, group_out, kernel[0], kernel[1]], Role::Weight { fan_in: group_in });
                wanted.dims = vec![groups, group_in, group_out, kernel[0], kernel[1]];
                let weight = self.tensor(&wanted, &TRANSPOSED)?;
                let bias = self.bias(bias.as_ref(), out_c)?;
                let pad = self.padding(window, x);
                let (stride, dilation, output_padding) = (window.stride, window.dilation, *output_padding);
                let op = ConvTranspose { in_c, out_c, kernel, stride, dilation, groups, pad, output_padding, weight, bias, act };
                self.add(layer, "", Op::ConvTranspose(op), &[x])
            }
            Body::PRelu { weight } => {
                let c = self.graph.shape(one()?).c;
                let slope = self.vector(weight, c, Role::Bias)?;
                self.add(layer, "", Op::PRelu(slope), inputs)
            }
            Body::Dense { out, weight, bias } => {
                let x = one()?;
                let (in_c, out_c) = (self.graph.shape(x).c, *out);
                let weight = self.tensor(&wanted(weight, vec![out_c, in_c], Role::Weight { fan_in: in_c }), &DENSE)?;
                let bias = self.bias(bias.as_ref(), out_c)?;
                self.add(layer, "", Op::Dense(Dense { in_c, out_c, weight, bias, act }), &[x])
            }
            Body::BatchNorm(norm) => {
                let x = one()?;
                self.norm(layer, "", norm, x)
            }
            Body::Activation => self.add(layer, "", Op::Act(layer.activation), inputs),
            Body::Binary(kind) => {
                let alike = matches!(inputs, [a, b] if self.graph.shape(*a) == self.graph.shape(*b));
                let op = if *kind == BinaryKind::Add && alike { Op::Add(act) } else { Op::Binary(Binary { kind: *kind, act }) };
                self.add(layer, "", op, inputs)
            }
            Body::Concat(axis) => self.add(layer, "", Op::Concat(*axis), inputs),
            Body::Gather { tables, fill } => {
                let x = self.graph.shape(one()?);
                let of = |table: &Option<Table>, n: usize| table.as_ref().map(|t| t.of(n)).transpose();
                match (of(&tables[0], x.h), of(&tables[1], x.w), of(&tables[2], x.c)) {
                    (Ok(rows), Ok(columns), Ok(channels)) => {
                        let gather = Gather { rows, columns, channels, fill: Real::new(*fill) };
                        self.add(layer, "", Op::Gather(gather), inputs)
                    }
                    (Err(e), ..) | (_, Err(e), _) | (.., Err(e)) => wrong(e),
                }
            }
            Body::Interpolate([rows, columns]) => {
                let x = self.graph.shape(one()?);
                let same = |n: usize| Taps::Size(n, Align::Start).of(n);
                let rows = rows.as_ref().map_or_else(|| same(x.h), |t| t.of(x.h));
                let columns = columns.as_ref().map_or_else(|| same(x.w), |t| t.of(x.w));
                self.add(layer, "", Op::Interpolate { rows, columns }, inputs)
            }
            Body::Reshape(shape) => self.add(layer, "", Op::Reshape(*shape), inputs),
            Body::Transpose(order) => self.add(layer, "", Op::Transpose(*order), inputs),
            Body::Mean(axes) => self.add(layer, "", Op::Mean { axes: *axes }, inputs),
            Body::Scale => self.add(layer, "", Op::Scale(act), inputs),
            Body::Pad { padding, value } => {
                let c = self.graph.shape(one()?).c;
                self.weigh(if *value == 0.0 { 0 } else { c }, &layer.span)?;
                let value = (*value != 0.0).then(|| self.graph.consts.add(vec![*value; c]));
                self.add(layer, "", Op::Pad(Pad { pad: *padding, value }), inputs)
            }
            Body::Pool { kind, window, count_padding } => {
                let pad = self.padding(window, one()?);
                let (kernel, stride) = (window.kernel, window.stride);
                let count_padding = *count_padding && *kind == PoolKind::Average;
                self.add(layer, "", Op::Pool(Pool { kind: *kind, kernel, stride, pad, count_padding }), inputs)
            }
            Body::GlobalAvgPool => self.add(layer, "", Op::GlobalPool, inputs),
            Body::Softmax => self.add(layer, "", Op::Softmax, inputs),
            Body::Constant { shape, value } => {
                self.fits(layer, *shape)?;
                let id = self.tensor(&wanted(value, vec![shape.h, shape.w, shape.c], Role::Constant), &[0, 1, 2])?;
                if !self.taken.insert(layer.name.clone()) {
                    return wrong(format!("the name `{}` is taken", layer.name));
                }
                Ok(self.graph.add_const(layer.name.clone(), *shape, id))
            }
        }
    }
}
