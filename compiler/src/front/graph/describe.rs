//! A graph of bare ops as layers: the way back from [`super::lower()`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use mnc_runtime::params::{Activation, BinaryKind, Tap};

use super::lower::{CONV, DENSE, TRANSPOSED, lower};
use super::{Align, Around, Body, Layer, Norm, Table, Taps, TensorName, Window};
use crate::diag::{Diagnostics, Source, Span};
use crate::front::check::Frame;
use crate::ir::op::BatchNorm;
use crate::ir::{ConstId, Graph, NodeId, Op, Padding};

/// A constant of the graph as a tensor of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::front) struct Stored {
    /// The elements, in the op's order.
    pub(super) id: ConstId,
    /// In the checkpoint.
    pub(in crate::front) shape: Vec<usize>,
    /// The same elements with the dimensions that are turned to the op's order.
    pub(super) dims: Vec<usize>,
    /// The dimension among `dims` that each of the op's is.
    pub(super) perm: Vec<usize>,
}

/// The layers and tensors that `graph` consists of.
///
/// # Errors
/// The graph has parts that only passes make.
pub(in crate::front) fn described(graph: &Graph) -> Result<(Vec<Layer>, BTreeMap<String, Stored>), String> {
    let mut state =
        Describe { graph, span: nowhere(), tensors: BTreeMap::new(), named: HashMap::new(), layer_of: HashMap::new() };
    let mut layers = Vec::new();
    let mut done: HashSet<NodeId> = HashSet::new();
    for id in graph.topo() {
        if done.contains(&id) {
            continue;
        }
        if let Op::Input = graph.op(id) {
            state.layer_of.insert(id, graph.node(id).name.clone());
            continue;
        }
        if let Op::Normalize(_) = graph.op(id) {
            // Made by the input's `pixels`.
            let x = graph.inputs_of(id)[0];
            state.layer_of.insert(id, graph.node(x).name.clone());
            continue;
        }
        let mut chain = vec![id];
        let main = state.behind_padding(id).inspect(|&main| chain.push(main)).unwrap_or(id);
        let layer = state.layer(main, (main != id).then_some(id), &mut chain)?;
        for node in &chain {
            state.layer_of.insert(*node, layer.name.clone());
        }
        done.extend(chain);
        layers.push(layer);
    }
    Ok((layers, state.tensors))
}

/// `graph` as it is when its layers are written and read again: what a model gives at once is what its spec gives.
///
/// # Errors
/// As [`described`] and [`lower`].
pub(in crate::front) fn canonical(graph: &Graph, frame: &Frame) -> Result<Graph, Diagnostics> {
    let one = |e: String| vec![crate::diag::Diagnostic::error(e)];
    let (layers, tensors) = described(graph).map_err(one)?;
    let layer_of = |id: NodeId| layer_name(graph, id, &layers);
    let mut frame = frame.clone();
    let named = graph.outputs.iter().zip(&graph.output_names);
    frame.outputs = Some(named.map(|(&id, name)| (name.clone(), layer_of(id), nowhere())).collect());
    lower(&frame, &layers, &mut |w| Ok(tensors.get(&w.tensor.name).map(|t| t.data(graph)).unwrap_or_default()))
}

/// The layer (or input) whose last node is `id`.
pub(in crate::front) fn layer_name(graph: &Graph, id: NodeId, layers: &[Layer]) -> String {
    let name = &graph.node(id).name;
    let ends = |l: &&Layer| {
        let end = match (&l.body, l.activation, &l.batch_norm) {
            (Body::Activation, ..) | (_, Activation::None, None) => "",
            (_, Activation::None, Some(_)) => ".bn",
            (_, _, _) => ".act",
        };
        name.strip_suffix(end) == Some(&l.name)
    };
    if let Op::Normalize(_) = graph.op(id) {
        return graph.node(graph.inputs_of(id)[0]).name.clone();
    }
    layers.iter().find(ends).map_or_else(|| name.clone(), |l| l.name.clone())
}

/// The place of what nobody wrote.
fn nowhere() -> Span {
    Span { source: Arc::new(Source { name: "the model".into(), text: String::new() }), range: 0..0 }
}

struct Describe<'g> {
    graph: &'g Graph,
    span: Span,
    tensors: BTreeMap<String, Stored>,
    /// Names of constants that have one.
    named: HashMap<ConstId, String>,
    /// The layer that each node belongs to.
    layer_of: HashMap<NodeId, String>,
}

impl Describe<'_> {
    /// The convolution that the padding `id` belongs to, if it is one of zeros that only a convolution called accordingly reads.
    fn behind_padding(&self, id: NodeId) -> Option<NodeId> {
        let Op::Pad(pad) = self.graph.op(id) else { return None };
        let user = self.graph.single_user(id)?;
        let windowed = matches!(self.graph.op(user), Op::Conv(_) | Op::Depthwise(_));
        let name = self.graph.node(id).name.strip_suffix(".pad")?;
        (pad.value.is_none() && windowed && self.graph.node(user).name == name).then_some(user)
    }

    /// What only reads `id` and is called after it with `part` behind.
    fn follower(&self, id: NodeId, name: &str, part: &str) -> Option<NodeId> {
        let user = self.graph.single_user(id)?;
        (self.graph.inputs_of(user).len() == 1 && self.graph.node(user).name.strip_suffix(part) == Some(name)).then_some(user)
    }

    /// The tensor of `id`, called `name` unless it has a name.
    fn tensor(&mut self, id: ConstId, name: String, shape: Vec<usize>, perm: &[usize]) -> TensorName {
        self.turned(id, name, shape.clone(), shape, perm)
    }

    fn turned(&mut self, id: ConstId, name: String, shape: Vec<usize>, dims: Vec<usize>, perm: &[usize]) -> TensorName {
        let stored = Stored { id, shape, dims, perm: perm.to_vec() };
        let name = match self.named.get(&id) {
            // One that is read in two orders is there twice.
            Some(known) if self.tensors.get(known) == Some(&stored) => known.clone(),
            _ => {
                let mut unique = name.clone();
                let mut n = 1;
                while self.tensors.contains_key(&unique) {
                    n += 1;
                    unique = format!("{name}.{n}");
                }
                self.named.insert(id, unique.clone());
                self.tensors.insert(unique.clone(), stored);
                unique
            }
        };
        TensorName { name, span: self.span.clone() }
    }

    fn vector(&mut self, id: ConstId, name: String) -> TensorName {
        let n = self.graph.consts.get(id).len();
        self.tensor(id, name, vec![n], &[0])
    }

    fn norm(&mut self, norm: &BatchNorm, base: &str, leaves: [&str; 4]) -> Norm {
        let ids = [norm.gamma, norm.beta, norm.mean, norm.variance];
        let mut i = 0;
        let tensors = ids.map(|id| {
            i += 1;
            self.vector(id, format!("{base}.{}", leaves[i - 1]))
        });
        Norm { eps: norm.eps, tensors }
    }

    fn bias(&mut self, bias: Option<ConstId>, name: &str) -> Option<TensorName> {
        bias.map(|b| self.vector(b, format!("{name}.bias")))
    }

    /// The layer around the node `id` and, if there is one, the padding in front; the nodes behind it that belong to it join `chain`.
    fn layer(&mut self, id: NodeId, pad: Option<NodeId>, chain: &mut Vec<NodeId>) -> Result<Layer, String> {
        let graph = self.graph;
        let name = graph.node(id).name.clone();
        let padding = |own: Padding| {
            let pad = pad.map_or(own, |p| if let Op::Pad(p) = graph.op(p) { p.pad } else { own });
            Around::Sides(pad)
        };
        let refuse = |what: &str| Err(format!("`{name}` has {what}, which no spec can say"));
        let mut activation = Activation::None;
        let body = match graph.op(id) {
            Op::Input | Op::Normalize(_) => return refuse("a place of its own"),
            Op::Conv(c) => {
                if c.residual || c.pool || c.pad_value.is_some() || !c.pad.is_zero() || c.act != Activation::None {
                    return refuse("fused parts");
                }
                let shape = vec![c.out_c, c.in_c / c.groups, c.kernel[0], c.kernel[1]];
                let weight = self.tensor(c.weight, format!("{name}.weight"), shape, &CONV);
                let window = Window { kernel: c.kernel, stride: c.stride, dilation: c.dilation, padding: padding(c.pad) };
                Body::Conv { out: c.out_c, groups: c.groups, window, weight, bias: self.bias(c.bias, &name) }
            }
            Op::Depthwise(d) => {
                if d.pad_value.is_some() || !d.pad.is_zero() || d.act != Activation::None {
                    return refuse("fused parts");
                }
                let shape = vec![d.channels * d.multiplier, 1, d.kernel[0], d.kernel[1]];
                let weight = self.tensor(d.weight, format!("{name}.weight"), shape, &CONV);
                let window = Window { kernel: d.kernel, stride: d.stride, dilation: d.dilation, padding: padding(d.pad) };
                Body::Depthwise { multiplier: d.multiplier, window, weight, bias: self.bias(d.bias, &name) }
            }
            Op::Dense(d) => {
                if d.act != Activation::None {
                    return refuse("fused parts");
                }
                let weight = self.tensor(d.weight, format!("{name}.weight"), vec![d.out_c, d.in_c], &DENSE);
                Body::Dense { out: d.out_c, weight, bias: self.bias(d.bias, &name) }
            }
            Op::ConvTranspose(c) => {
                if c.act != Activation::None {
                    return refuse("fused parts");
                }
                let [h, w] = c.kernel;
                let (group_in, group_out) = (c.in_c / c.groups, c.out_c / c.groups);
                let dims = vec![c.groups, group_in, group_out, h, w];
                let weight = self.turned(c.weight, format!("{name}.weight"), vec![c.in_c, group_out, h, w], dims, &TRANSPOSED);
                let window = Window { kernel: c.kernel, stride: c.stride, dilation: c.dilation, padding: Around::Sides(c.pad) };
                let (groups, output_padding, bias) = (c.groups, c.output_padding, self.bias(c.bias, &name));
                Body::ConvTranspose { out: c.out_c, groups, window, output_padding, weight, bias }
            }
            Op::PRelu(slope) => Body::PRelu { weight: self.vector(*slope, format!("{name}.weight")) },
            Op::BatchNorm(b) => Body::BatchNorm(self.norm(b, &name, ["weight", "bias", "mean", "variance"])),
            Op::Act(act) => {
                activation = *act;
                Body::Activation
            }
            Op::Add(Activation::None) => Body::Binary(BinaryKind::Add),
            Op::Scale(Activation::None) => Body::Scale,
            Op::Binary(b) if b.act == Activation::None => Body::Binary(b.kind),
            Op::Add(_) | Op::Scale(_) | Op::Binary(_) => return refuse("a fused activation"),
            Op::Concat(axis) => Body::Concat(*axis),
            Op::Gather(g) => {
                let x = graph.input_shapes(id)[0];
                let table = |table: &Option<Vec<i32>>, n: usize| table.as_ref().map(|t| Table::shortest(t, n));
                let tables = [table(&g.rows, x.h), table(&g.columns, x.w), table(&g.channels, x.c)];
                Body::Gather { tables, fill: g.fill.get() }
            }
            Op::Interpolate { rows, columns } => {
                let x = graph.input_shapes(id)[0];
                let same = |taps: &[Tap], n: usize| Taps::Size(n, Align::Start).of(n) == taps;
                let taps = |taps: &[Tap], n: usize| (!same(taps, n)).then(|| Taps::shortest(taps, n));
                Body::Interpolate([taps(rows, x.h), taps(columns, x.w)])
            }
            Op::Reshape(shape) => Body::Reshape(*shape),
            Op::Transpose(order) => Body::Transpose(*order),
            Op::Mean { axes } => Body::Mean(*axes),
            Op::Pad(p) => {
                let value = match p.value.map(|v| graph.consts.get(v)) {
                    None => 0.0,
                    Some([first, rest @ ..]) if rest.iter().all(|v| v == first) => *first,
                    Some(_) => return refuse("padding that differs from channel to channel"),
                };
                Body::Pad { padding: p.pad, value }
            }
            Op::Pool(p) => {
                let window = Window { kernel: p.kernel, stride: p.stride, dilation: [1, 1], padding: Around::Sides(p.pad) };
                Body::Pool { kind: p.kind, window, count_padding: p.count_padding }
            }
            Op::GlobalPool => Body::GlobalAvgPool,
            Op::Softmax => Body::Softmax,
            Op::Constant(value) => {
                let shape = graph.shape(id);
                let value = self.tensor(*value, format!("{name}.value"), vec![shape.h, shape.w, shape.c], &[0, 1, 2]);
                Body::Constant { shape, value }
            }
        };
        let mut last = id;
        let mut batch_norm = None;
        if let Body::Conv { .. } | Body::Depthwise { .. } | Body::ConvTranspose { .. } | Body::Dense { .. } = body
            && let Some(next) = self.follower(last, &name, ".bn")
            && let Op::BatchNorm(b) = graph.op(next)
        {
            batch_norm = Some(self.norm(b, &format!("{name}.bn"), ["weight", "bias", "running_mean", "running_var"]));
            chain.push(next);
            last = next;
        }
        if !matches!(body, Body::Activation | Body::Softmax | Body::Constant { .. })
            && let Some(next) = self.follower(last, &name, ".act")
            && let Op::Act(act) = graph.op(next)
            && *act != Activation::None
        {
            activation = *act;
            chain.push(next);
        }
        let first = pad.unwrap_or(id);
        let inputs = graph.inputs_of(first).iter().map(|x| (self.layer_of[x].clone(), self.span.clone())).collect();
        Ok(Layer { name, span: self.span.clone(), inputs, body, batch_norm, activation })
    }
}

/// Names the nodes behind convolutions and the like after them, so that a spec can say them in one layer: `x.bn`, `x.act`.
pub(in crate::front) fn name_chains(graph: &mut Graph) {
    let mut names: HashSet<String> = graph.nodes().into_iter().map(|id| graph.node(id).name.clone()).collect();
    let mut rename = |graph: &mut Graph, id: NodeId, name: String| {
        if graph.node(id).name == name {
            return true;
        }
        let free = names.insert(name.clone());
        if free {
            names.remove(&graph.node(id).name);
            graph.rename(id, name);
        }
        free
    };
    for id in graph.topo() {
        let name = graph.node(id).name.clone();
        let only = |graph: &Graph, id: NodeId| graph.single_user(id).filter(|&u| graph.inputs_of(u).len() == 1);
        let weighted = matches!(graph.op(id), Op::Conv(_) | Op::Depthwise(_) | Op::ConvTranspose(_) | Op::Dense(_));
        let leads = weighted
            || matches!(graph.op(id), Op::BatchNorm(_) | Op::Add(_) | Op::Scale(_) | Op::Binary(_) | Op::Pool(_) | Op::Concat(_));
        if !leads || name.ends_with(".bn") {
            continue;
        }
        if matches!(graph.op(id), Op::Conv(_) | Op::Depthwise(_))
            && let x = graph.inputs_of(id)[0]
            && matches!(graph.op(x), Op::Pad(pad) if pad.value.is_none())
            && graph.single_user(x) == Some(id)
        {
            rename(graph, x, format!("{name}.pad"));
        }
        let mut last = id;
        if weighted
            && let Some(next) = only(graph, last)
            && matches!(graph.op(next), Op::BatchNorm(_))
            && rename(graph, next, format!("{name}.bn"))
        {
            last = next;
        }
        if let Some(next) = only(graph, last)
            && matches!(graph.op(next), Op::Act(_))
        {
            rename(graph, next, format!("{name}.act"));
        }
    }
}

/// Whether padding on `pad` sides is a rule's that a spec may say in a word.
pub(super) fn is_even(pad: Padding) -> Option<usize> {
    (pad.top == pad.left && pad.top == pad.bottom && pad.top == pad.right).then_some(pad.top)
}
