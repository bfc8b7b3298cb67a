//! A net as the text of a spec of layers: the same bytes for the same net.

use std::collections::HashMap;
use std::fmt::Write;

use mnc_runtime::params::{Activation, Axis, BinaryKind, PoolKind};

use super::describe::{is_even, layer_name};
use super::{Around, Body, Layer, Norm, Table, Taps, TensorName, Window};
use crate::front::ast::PadRule;
use crate::front::tune::VERSION;
use crate::front::{ColorOrder, Filter, Net, PassOptions, PlanOptions, Prefer, Resize, Separate, Stream};
use crate::ir::{Graph, NodeId};

/// The spec of `net`, whose layers are `layers` and whose weights are in the file `checkpoint` of this SHA-256; `from` is where it came from.
pub(super) fn spec(net: &Net, layers: &[Layer], (checkpoint, sha256): (&str, &str), from: &str) -> String {
    let graph = &net.graph;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "# Made of {} by `mnc import` {VERSION}.", one_line(from));
    let _ = writeln!(
        out,
        "# {} parameters, {} multiply-adds. Behind `[[layer]]` stands what the layer gives: rows x columns x channels.",
        graph.params(),
        graph.macs()
    );
    let _ = writeln!(
        out,
        "\n[net]\nname = {}\nmnc = \"{VERSION}\" # wrote this; an earlier one may not understand it",
        quoted(&net.name)
    );
    outputs(&mut out, graph, layers);
    if !net.labels.is_empty() {
        let all: Vec<String> = net.labels.iter().map(|l| quoted(l)).collect();
        let _ = writeln!(out, "labels = [\n    {},\n]", all.join(",\n    "));
    }
    for (i, &id) in graph.inputs.iter().enumerate() {
        let shape = graph.shape(id);
        let header = if graph.inputs.len() == 1 { "[net.input]" } else { "[[net.inputs]]" };
        let name = quoted(&graph.node(id).name);
        let _ = writeln!(out, "\n{header}\nname = {name}\nheight = {}\nwidth = {}\nchannels = {}", shape.h, shape.w, shape.c);
        if i == 0 {
            preprocess(&mut out, net, shape.h.max(shape.w));
        }
    }
    let _ = writeln!(out, "\n[weights]\nfile = {}", quoted(checkpoint));
    let _ = writeln!(out, "sha256 = \"{sha256}\" # remove this line where other weights shall do as well");
    options(&mut out, &net.passes, &net.plan);
    let mut before = graph.inputs.first().map(|&id| graph.node(id).name.clone()).unwrap_or_default();
    let nodes: HashMap<&str, NodeId> = graph.nodes().into_iter().map(|id| (graph.node(id).name.as_str(), id)).collect();
    for layer in layers {
        let shape = last_node(&nodes, layer).map(|id| graph.shape(id));
        let shape = shape.map(|s| format!(" # {}x{}x{}", s.h, s.w, s.c)).unwrap_or_default();
        write_layer(&mut out, layer, &shape, &before);
        before.clone_from(&layer.name);
    }
    out
}

/// What a comment may hold.
pub(in crate::front) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Text as TOML.
pub(in crate::front) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A number that is read back as the same f32, but for the bits of what is no number.
fn real(x: f32) -> String {
    if x.is_nan() {
        return "nan".into();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf".into() } else { "-inf".into() };
    }
    let short = format!("{x:?}");
    if short.parse::<f64>().is_ok_and(|v| (v as f32).to_bits() == x.to_bits()) { short } else { format!("{:?}", f64::from(x)) }
}

fn outputs(out: &mut String, graph: &Graph, layers: &[Layer]) {
    let named: Vec<(String, String)> = graph
        .outputs
        .iter()
        .enumerate()
        .map(|(i, &id)| {
            let layer = layer_name(graph, id, layers);
            (graph.output_names.get(i).cloned().unwrap_or_else(|| layer.clone()), layer)
        })
        .collect();
    let text = if named.iter().all(|(name, layer)| name == layer) {
        let all: Vec<String> = named.iter().map(|(_, layer)| quoted(layer)).collect();
        format!("[{}]", all.join(", "))
    } else {
        let all: Vec<String> = named.iter().map(|(name, layer)| format!("{} = {}", quoted(name), quoted(layer))).collect();
        format!("{{ {} }}", all.join(", "))
    };
    let _ = writeln!(out, "outputs = {text}");
}

pub(in crate::front) fn preprocess(out: &mut String, net: &Net, longer: usize) {
    let p = &net.preprocess;
    let numbers = |v: &[f64]| match v {
        [first, rest @ ..] if rest.iter().all(|x| x == first) => format!("{first:?}"),
        _ => format!("{v:?}"),
    };
    let _ = writeln!(out, "mean = {} # of pixels from 0 to 1: x = (p / 255 - mean) / std", numbers(&p.mean));
    let _ = writeln!(out, "std = {}", numbers(&p.std));
    if p.order == ColorOrder::Bgr {
        let _ = writeln!(out, "order = \"bgr\"");
    }
    match p.resize {
        Resize::Squash => {
            let _ = writeln!(out, "resize = \"squash\"");
        }
        Resize::ShorterSide(side) if side != (longer * 256 + 112) / 224 => {
            let _ = writeln!(out, "resize = {side}");
        }
        Resize::ShorterSide(_) => {}
    }
    if p.filter == Filter::Bicubic {
        let _ = writeln!(out, "filter = \"bicubic\"");
    }
    if p.in_graph {
        let _ = writeln!(out, "pixels = true");
    }
}

/// What differs from the defaults.
pub(in crate::front) fn options(out: &mut String, passes: &PassOptions, plan: &PlanOptions) {
    if *passes != PassOptions::default() {
        let _ = writeln!(out, "\n[passes]");
        let separate = match passes.separate {
            Separate::Off => "\"off\"".to_owned(),
            Separate::Structure => "\"structure\"".to_owned(),
            Separate::Rank(rank) => format!("{{ rank = {rank} }}"),
            Separate::MaxError(e) => format!("{{ max_error = {e:?} }}"),
        };
        let skip: Vec<String> = passes.skip.iter().map(|s| quoted(s)).collect();
        let _ = writeln!(out, "separate = {separate}\nseparate_stem = {}\nskip = [{}]", passes.separate_stem, skip.join(", "));
    }
    let plain = PlanOptions { grouped: plan.grouped, ..PlanOptions::default() };
    if *plan != plain {
        let prefer = match plan.prefer {
            Prefer::Speed => "speed",
            Prefer::Memory => "memory",
        };
        let stream = match plan.stream {
            Stream::Auto => "auto",
            Stream::Never => "never",
            Stream::Always => "always",
        };
        let _ = writeln!(out, "\n[plan]\nthreads = {}\nprefer = \"{prefer}\"\nstream = \"{stream}\"", plan.threads);
        let _ = writeln!(out, "winograd = {}\nstrassen = {}", plan.winograd, plan.strassen);
    }
}

/// `key = value` lines under a `[[layer]]`.
struct Keys<'a> {
    out: &'a mut String,
    layer: &'a str,
}

impl Keys<'_> {
    fn put(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{key} = {value}");
    }

    fn pair(&mut self, key: &str, [y, x]: [usize; 2], default: [usize; 2]) {
        if [y, x] != default {
            if y == x { self.put(key, y) } else { self.put(key, format!("[{y}, {x}]")) }
        }
    }

    fn window(&mut self, window: &Window, pool: bool) {
        self.pair("kernel", window.kernel, if pool { [0, 0] } else { [1, 1] });
        self.pair("stride", window.stride, if pool { window.kernel } else { [1, 1] });
        self.pair("dilation", window.dilation, [1, 1]);
        match window.padding {
            Around::Sides(pad) => match is_even(pad) {
                Some(0) => {}
                Some(n) => self.put("padding", n),
                None => self.put("padding", format!("[{}, {}, {}, {}]", pad.top, pad.left, pad.bottom, pad.right)),
            },
            Around::Rule(PadRule::Torch) => self.put("padding", "\"torch\""),
            Around::Rule(PadRule::Same) => self.put("padding", "\"same\""),
            Around::Rule(PadRule::Fixed(0)) => {}
            Around::Rule(PadRule::Fixed(n)) => self.put("padding", n),
        }
    }

    /// Whether `tensor` has the name it has where nothing is said.
    fn usual(&self, tensor: &TensorName, leaf: &str) -> bool {
        tensor.name.strip_prefix(self.layer).and_then(|n| n.strip_prefix('.')) == Some(leaf)
    }

    fn tensor(&mut self, key: &str, tensor: &TensorName, leaf: &str) {
        if !self.usual(tensor, leaf) {
            self.put(key, quoted(&tensor.name));
        }
    }

    fn weights(&mut self, weight: &TensorName, bias: Option<&TensorName>) {
        self.tensor("weight", weight, "weight");
        match bias {
            None => {}
            Some(bias) if self.usual(bias, "bias") => self.put("bias", true),
            Some(bias) => self.put("bias", quoted(&bias.name)),
        }
    }

    fn batch_norm(&mut self, norm: &Norm) {
        let leaves = [("weight", "bn.weight"), ("bias", "bn.bias"), ("mean", "bn.running_mean"), ("variance", "bn.running_var")];
        let mut keys = vec![format!("eps = {:?}", norm.eps)];
        for ((key, leaf), tensor) in leaves.into_iter().zip(&norm.tensors) {
            if !self.usual(tensor, leaf) {
                keys.push(format!("{key} = {}", quoted(&tensor.name)));
            }
        }
        self.put("batch_norm", format!("{{ {} }}", keys.join(", ")));
    }
}

/// Axes in words.
const AXES: [&str; 3] = ["rows", "columns", "channels"];

/// A table of a `gather`: runs as ranges.
fn positions(table: &Table) -> String {
    let list = match table {
        Table::Repeat(times) => return format!("{{ repeat = {times} }}"),
        Table::Groups(groups) => return format!("{{ groups = {groups} }}"),
        Table::List(list) => list,
    };
    let mut parts = Vec::new();
    let mut at = 0;
    while at < list.len() {
        let run = list[at..]
            .iter()
            .enumerate()
            .take_while(|&(i, &p)| list[at] >= 0 && i64::from(p) == i64::from(list[at]) + i as i64)
            .count();
        if run >= 3 {
            parts.push(format!("\"{}..{}\"", list[at], i64::from(list[at]) + run as i64));
            at += run;
        } else {
            parts.push(list[at].to_string());
            at += 1;
        }
    }
    format!("[{}]", parts.join(", "))
}

/// An activation as `activation = …` says it.
pub(in crate::front) fn activation(act: Activation) -> String {
    match act {
        Activation::None
        | Activation::Relu
        | Activation::Relu6
        | Activation::HSwish
        | Activation::HSigmoid
        | Activation::Sigmoid
        | Activation::Tanh
        | Activation::Silu => format!("\"{act}\""),
        Activation::LeakyRelu(slope) => format!("{{ leaky_relu = {} }}", real(slope.get())),
        Activation::Clip(least, most) => format!("{{ clip = [{}, {}] }}", real(least.get()), real(most.get())),
        Activation::HardSigmoid(alpha, beta) => format!("{{ hard_sigmoid = [{}, {}] }}", real(alpha.get()), real(beta.get())),
    }
}

pub(in crate::front) fn write_layer(out: &mut String, layer: &Layer, shape: &str, before: &str) {
    let _ = writeln!(out, "\n[[layer]]{shape}\nop = \"{}\"\nname = {}", op(&layer.body), quoted(&layer.name));
    let mut keys = Keys { out, layer: &layer.name };
    let follows = matches!(&layer.inputs[..], [(one, _)] if one == before);
    if !follows && !matches!(layer.body, Body::Constant { .. }) {
        let names: Vec<String> = layer.inputs.iter().map(|(name, _)| quoted(name)).collect();
        keys.put("inputs", format!("[{}]", names.join(", ")));
    }
    match &layer.body {
        Body::Conv { out, groups, window, weight, bias } => {
            keys.put("out", out);
            keys.window(window, false);
            if *groups != 1 {
                keys.put("groups", groups);
            }
            keys.weights(weight, bias.as_ref());
        }
        Body::Depthwise { multiplier, window, weight, bias } => {
            keys.window(window, false);
            if *multiplier != 1 {
                keys.put("multiplier", multiplier);
            }
            keys.weights(weight, bias.as_ref());
        }
        Body::ConvTranspose { out, groups, window, output_padding, weight, bias } => {
            keys.put("out", out);
            keys.window(window, false);
            keys.pair("output_padding", *output_padding, [0, 0]);
            if *groups != 1 {
                keys.put("groups", groups);
            }
            keys.weights(weight, bias.as_ref());
        }
        Body::PRelu { weight } => keys.tensor("weight", weight, "weight"),
        Body::Concat(Axis::C) => {}
        Body::Concat(Axis::H) => keys.put("axis", "\"rows\""),
        Body::Concat(Axis::W) => keys.put("axis", "\"columns\""),
        Body::Gather { tables, fill } => {
            for (key, table) in AXES.into_iter().zip(tables) {
                if let Some(table) = table {
                    keys.put(key, positions(table));
                }
            }
            if *fill != 0.0 {
                keys.put("fill", real(*fill));
            }
        }
        Body::Interpolate(taps) => {
            for (key, taps) in AXES.into_iter().zip(taps) {
                match taps {
                    None => {}
                    Some(Taps::Size(size, align)) => keys.put(key, format!("{{ size = {size}, align = \"{}\" }}", align.word())),
                    Some(Taps::List(list)) => {
                        let all: Vec<String> =
                            list.iter().map(|t| format!("[{}, {}, {}]", t.low, t.high, real(t.weight.get()))).collect();
                        keys.put(key, format!("[{}]", all.join(", ")));
                    }
                }
            }
        }
        Body::Reshape(shape) => {
            for (key, n) in [("height", shape.h), ("width", shape.w), ("channels", shape.c)] {
                if n != 1 {
                    keys.put(key, n);
                }
            }
        }
        Body::Transpose(order) => {
            let words = order.map(|axis| quoted(AXES[axis]));
            keys.put("order", format!("[{}]", words.join(", ")));
        }
        Body::Mean(axes) => {
            let words: Vec<String> = AXES.into_iter().zip(axes).filter(|(_, on)| **on).map(|(word, _)| quoted(word)).collect();
            keys.put("axes", format!("[{}]", words.join(", ")));
        }
        Body::Dense { out, weight, bias } => {
            keys.put("out", out);
            keys.weights(weight, bias.as_ref());
        }
        Body::BatchNorm(norm) => {
            keys.put("eps", format!("{:?}", norm.eps));
            for (key, tensor) in ["weight", "bias", "mean", "variance"].into_iter().zip(&norm.tensors) {
                keys.tensor(key, tensor, key);
            }
        }
        Body::Pad { padding, value } => {
            match is_even(*padding) {
                Some(n) => keys.put("padding", n),
                None => {
                    keys.put("padding", format!("[{}, {}, {}, {}]", padding.top, padding.left, padding.bottom, padding.right))
                }
            }
            if *value != 0.0 {
                keys.put("value", real(*value));
            }
        }
        Body::Pool { window, count_padding, .. } => {
            keys.window(window, true);
            if *count_padding {
                keys.put("count_padding", true);
            }
        }
        Body::Constant { shape, value } => {
            keys.put("height", shape.h);
            keys.put("width", shape.w);
            keys.put("channels", shape.c);
            keys.tensor("value", value, "value");
        }
        Body::Activation | Body::Binary(_) | Body::Scale | Body::GlobalAvgPool | Body::Softmax => {}
    }
    if let Some(norm) = &layer.batch_norm {
        keys.batch_norm(norm);
    }
    if layer.activation != Activation::None || layer.body == Body::Activation {
        keys.put("activation", activation(layer.activation));
    }
}

/// The last node of `layer`.
pub(in crate::front) fn last_node(nodes: &HashMap<&str, NodeId>, layer: &Layer) -> Option<NodeId> {
    let find = |part: &str| nodes.get(format!("{}{part}", layer.name).as_str()).copied();
    let act = (layer.activation != Activation::None && layer.body != Body::Activation).then_some(".act");
    find(act.or(layer.batch_norm.as_ref().map(|_| ".bn")).unwrap_or(""))
}

/// The word of an op.
fn op(body: &Body) -> &'static str {
    match body {
        Body::Conv { .. } => "conv",
        Body::Depthwise { .. } => "depthwise",
        Body::Dense { .. } => "dense",
        Body::BatchNorm(_) => "batch_norm",
        Body::Activation => "activation",
        Body::Binary(BinaryKind::Add) => "add",
        Body::Binary(BinaryKind::Sub) => "sub",
        Body::Binary(BinaryKind::Mul) => "mul",
        Body::Binary(BinaryKind::Div) => "div",
        Body::Scale => "scale",
        Body::Concat(_) => "concat",
        Body::Gather { .. } => "gather",
        Body::Interpolate(_) => "interpolate",
        Body::Reshape(_) => "reshape",
        Body::Transpose(_) => "transpose",
        Body::Mean(_) => "mean",
        Body::PRelu { .. } => "prelu",
        Body::ConvTranspose { .. } => "conv_transpose",
        Body::Pad { .. } => "pad",
        Body::Pool { kind: PoolKind::Max, .. } => "max_pool",
        Body::Pool { kind: PoolKind::Average, .. } => "avg_pool",
        Body::GlobalAvgPool => "global_avg_pool",
        Body::Softmax => "softmax",
        Body::Constant { .. } => "constant",
    }
}
