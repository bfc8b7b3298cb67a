//! Layers with what blocks are found by: who reads what, and of which shape it is.

use std::collections::{HashMap, HashSet};

use mnc_runtime::params::{Activation, BinaryKind};

use super::rules;
use crate::front::ast::PadRule;
use crate::front::graph::{Around, Body, Layer, last_node, layer_name};
use crate::front::layer::LayerKind;
use crate::ir::{Graph, NodeId, Padding, Shape};

/// The layers of a graph of one input.
pub(super) struct Chain<'a> {
    pub(super) graph: &'a Graph,
    pub(super) layers: &'a [Layer],
    /// By the name of a layer or the input.
    shapes: HashMap<&'a str, Shape>,
    readers: HashMap<&'a str, Vec<usize>>,
    /// Names of layers that are results.
    delivered: HashSet<String>,
}

/// A convolution or dense layer with what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) layer: usize,
    pub(super) kind: LayerKind,
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pad: Padding,
    pub(super) input: Shape,
    /// The constant of the batch norm behind it.
    norm: Option<f64>,
    pub(super) bias: bool,
    pub(super) act: Activation,
}

impl Part {
    /// Convolution of single pixels, every channel with every other.
    pub(super) fn is_pointwise(&self) -> bool {
        let plain = matches!(self.kind, LayerKind::Conv { kernel: [1, 1], groups: 1, .. });
        plain && self.stride == [1, 1] && self.pad.is_zero()
    }

    /// One filter a channel.
    pub(super) fn is_depthwise(&self) -> bool {
        matches!(self.kind, LayerKind::Depthwise { multiplier: 1, .. })
    }

    pub(super) fn out_c(&self) -> usize {
        self.kind.out_c()
    }
}

/// What the convolutions of a block have in common.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Glue {
    /// All rules that give their padding, at least one.
    pub(super) rules: Vec<PadRule>,
    /// The constant of batch norm, where it follows each.
    pub(super) norm: Option<f64>,
    /// They have a bias; one that lacks it gets zeros.
    pub(super) bias: bool,
}

impl Glue {
    /// Of nothing.
    pub(super) fn none() -> Self {
        Self { rules: rules(std::iter::empty()), norm: None, bias: false }
    }

    /// Of `parts`, if they are alike.
    pub(super) fn of(parts: &[Part]) -> Option<Self> {
        let norm = parts.first()?.norm;
        parts.iter().all(|p| p.norm == norm).then_some(())?;
        // What a spec of blocks can say.
        norm.is_none_or(|eps| eps > 0.0 && eps <= 1.0).then_some(())?;
        let mut rules = rules(parts.iter().map(|p| p.pad.top));
        let gives = |rule: PadRule, p: &Part| rule.resolve(p.input.h, p.input.w, p.kernel, p.stride) == p.pad;
        rules.retain(|&rule| parts.iter().all(|p| gives(rule, p)));
        (!rules.is_empty()).then_some(())?;
        Some(Self { rules, norm, bias: norm.is_none() || parts.iter().any(|p| p.bias) })
    }
}

impl<'a> Chain<'a> {
    /// `None` for a graph of several inputs, which no blocks can read.
    pub(super) fn of(graph: &'a Graph, layers: &'a [Layer]) -> Option<Self> {
        let [input] = graph.inputs[..] else { return None };
        let nodes: HashMap<&str, NodeId> = graph.nodes().into_iter().map(|id| (graph.node(id).name.as_str(), id)).collect();
        let mut shapes = HashMap::from([(graph.node(input).name.as_str(), graph.shape(input))]);
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, layer) in layers.iter().enumerate() {
            shapes.insert(&layer.name, graph.shape(last_node(&nodes, layer)?));
            for (name, _) in &layer.inputs {
                readers.entry(name).or_default().push(i);
            }
        }
        let delivered = graph.outputs.iter().map(|&id| layer_name(graph, id, layers)).collect();
        Some(Self { graph, layers, shapes, readers, delivered })
    }

    /// What layer `i` reads, if it is one thing.
    pub(super) fn input(&self, i: usize) -> Option<&'a str> {
        match &self.layers[i].inputs[..] {
            [(name, _)] => Some(name),
            _ => None,
        }
    }

    /// What a layer or the input gives.
    pub(super) fn shape(&self, name: &str) -> Shape {
        self.shapes.get(name).copied().unwrap_or(Shape::hwc(1, 1, 1))
    }

    /// What layer `i` gives.
    pub(super) fn shape_of(&self, i: usize) -> Shape {
        self.shape(&self.layers[i].name)
    }

    /// All that read layer `i`, once a reading; `None` where it is a result of the net too.
    pub(super) fn readers(&self, i: usize) -> Option<&[usize]> {
        let name = self.layers[i].name.as_str();
        (!self.delivered.contains(name)).then(|| self.readers.get(name).map_or(&[][..], Vec::as_slice))
    }

    /// The only layer that reads `i`, which reads nothing else.
    pub(super) fn next(&self, i: usize) -> Option<usize> {
        match self.readers(i)? {
            [next] if self.layers[*next].inputs.len() == 1 => Some(*next),
            _ => None,
        }
    }

    /// Layer `i` as a convolution or dense layer that blocks can have.
    pub(super) fn part(&self, i: usize) -> Option<Part> {
        let layer = &self.layers[i];
        let input = self.shape(self.input(i)?);
        let (kind, window, bias) = match &layer.body {
            Body::Conv { out, groups, window, bias, .. } => {
                let kind = LayerKind::Conv { kernel: window.kernel, in_c: input.c, out_c: *out, groups: *groups };
                (kind, Some(window), bias)
            }
            Body::Depthwise { multiplier, window, bias, .. } => {
                (LayerKind::Depthwise { kernel: window.kernel, channels: input.c, multiplier: *multiplier }, Some(window), bias)
            }
            Body::Dense { out, bias, .. } => (LayerKind::Dense { in_c: input.c, out_c: *out }, None, bias),
            Body::ConvTranspose { .. }
            | Body::BatchNorm(_)
            | Body::PRelu { .. }
            | Body::Activation
            | Body::Binary(_)
            | Body::Scale
            | Body::Concat(_)
            | Body::Gather { .. }
            | Body::Interpolate(_)
            | Body::Reshape(_)
            | Body::Transpose(_)
            | Body::Mean(_)
            | Body::Pad { .. }
            | Body::Pool { .. }
            | Body::GlobalAvgPool
            | Body::Softmax
            | Body::Constant { .. } => return None,
        };
        let pad = match window.map(|w| w.padding) {
            None => Padding::ZERO,
            Some(Around::Sides(pad)) => pad,
            Some(Around::Rule(_)) => return None,
        };
        window.is_none_or(|w| w.dilation == [1, 1]).then_some(())?;
        Some(Part {
            layer: i,
            kind,
            kernel: window.map_or([1, 1], |w| w.kernel),
            stride: window.map_or([1, 1], |w| w.stride),
            pad,
            input,
            norm: layer.batch_norm.as_ref().map(|n| n.eps),
            bias: bias.is_some(),
            act: layer.activation,
        })
    }

    /// The end of a block that reads `input` and whose last convolution is layer `i`: the addition of the input, if that is what follows,
    /// and what the key `residual` says of it. Where nothing would be added anyway it is true.
    pub(super) fn residual(&self, input: &str, i: usize, stride: [usize; 2]) -> (Option<usize>, bool) {
        if stride != [1, 1] || self.shape(input) != self.shape_of(i) {
            return (None, true);
        }
        let Some(&[add]) = self.readers(i) else { return (None, false) };
        let (layer, name) = (&self.layers[add], self.layers[i].name.as_str());
        let both = match &layer.inputs[..] {
            [(a, _), (b, _)] => (a == input && b == name) || (a == name && b == input),
            _ => false,
        };
        let plain = layer.body == Body::Binary(BinaryKind::Add) && layer.activation == Activation::None;
        if both && plain && input != name { (Some(add), true) } else { (None, false) }
    }
}
