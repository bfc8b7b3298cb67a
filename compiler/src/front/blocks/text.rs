//! Rows as the text of a spec: the same bytes for the same net.

use std::collections::HashMap;
use std::fmt::{Display, Write};

use mnc_runtime::params::{Activation, PoolKind};

use super::rows::{Block, Row};
use super::{Chain, Found};
use crate::front::Net;
use crate::front::ast::{Body, Expand, PadRule, Squeeze, SqueezeExcite};
use crate::front::graph::{activation, one_line, options, preprocess, quoted, write_layer};
use crate::front::tune::VERSION;

/// What `[net]` says to blocks that say nothing themselves.
struct Common {
    activation: Activation,
    padding: PadRule,
    /// Whether batch norm follows convolutions, and its constant.
    norm: (bool, f64),
}

/// The spec of `net`, which is `rows` with weights in the file `checkpoint` of this SHA-256; `from` is where it came from.
pub(super) fn spec(net: &Net, chain: &Chain<'_>, rows: &[Row], (checkpoint, sha256): (&str, &str), from: &str) -> String {
    let graph = chain.graph;
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(out, "# Made of {} by `mnc import` {VERSION}.", one_line(from));
    let _ = writeln!(
        out,
        "# {} parameters, {} multiply-adds. Behind `[[block]]` stands what it gives, rows x columns x channels, and the first of the\n\
         # model's layers in it.",
        graph.params(),
        graph.macs()
    );
    let common = common(rows);
    let _ = writeln!(
        out,
        "\n[net]\nname = {}\nmnc = \"{VERSION}\" # wrote this; an earlier one may not understand it",
        quoted(&net.name)
    );
    let mut keys = Keys { out: &mut out };
    keys.put("padding", rule(common.padding));
    keys.put("activation", activation(common.activation));
    if !common.norm.0 {
        keys.put("batch_norm", false);
    } else if common.norm.1 != 1e-5 {
        keys.put("bn_eps", format!("{:?}", common.norm.1));
    }
    let named = names(chain, rows);
    let called = |name: &str| named.get(name).map_or_else(|| name.to_owned(), Clone::clone);
    let results = graph.outputs.iter().enumerate().map(|(i, &id)| {
        let layer = crate::front::graph::layer_name(graph, id, chain.layers);
        let name = graph.output_names.get(i).cloned().unwrap_or_else(|| graph.node(id).name.clone());
        format!("{} = {}", quoted(&name), quoted(&called(&layer)))
    });
    keys.put("outputs", format!("{{ {} }}", results.collect::<Vec<_>>().join(", ")));
    if !net.labels.is_empty() {
        let all: Vec<String> = net.labels.iter().map(|l| quoted(l)).collect();
        keys.put("labels", format!("[\n    {},\n]", all.join(",\n    ")));
    }
    for &id in &graph.inputs {
        let shape = graph.shape(id);
        let name = quoted(&graph.node(id).name);
        let _ = writeln!(out, "\n[net.input]\nname = {name}\nheight = {}\nwidth = {}\nchannels = {}", shape.h, shape.w, shape.c);
        preprocess(&mut out, net, shape.h.max(shape.w));
    }
    let _ = writeln!(out, "\n[weights]\nfile = {}\nnames = \"spec\"", quoted(checkpoint));
    let _ = writeln!(out, "sha256 = \"{sha256}\" # remove this line where other weights shall do as well");
    options(&mut out, &net.passes, &net.plan);
    let mut before = graph.inputs.first().map(|&id| graph.node(id).name.clone()).unwrap_or_default();
    for row in rows {
        match row {
            Row::Layer(i) => {
                let mut layer = chain.layers[*i].clone();
                for (name, _) in &mut layer.inputs {
                    *name = called(name);
                }
                let shape = chain.shape_of(*i);
                write_layer(&mut out, &layer, &format!(" # {}x{}x{}", shape.h, shape.w, shape.c), &before);
                before = layer.name;
            }
            Row::Block(block) => {
                let (first, last) = (&block.found[0], &block.found[block.found.len() - 1]);
                let shape = chain.shape_of(last.last);
                let layer = one_line(&chain.layers[first.used[0]].name);
                let _ = writeln!(out, "\n[[block]] # {}x{}x{}, {layer}", shape.h, shape.w, shape.c);
                let input = called(chain.input(first.used[0]).unwrap_or_default());
                write_block(&mut out, block, &common, (input != before).then_some(input));
                before.clone_from(&block.name);
            }
        }
    }
    out
}

/// What the results of the blocks' last layers are called in the spec.
fn names(chain: &Chain<'_>, rows: &[Row]) -> HashMap<String, String> {
    let mut all = HashMap::new();
    for row in rows {
        if let Row::Block(block) = row {
            let last = &block.found[block.found.len() - 1];
            all.insert(chain.layers[last.last].name.clone(), block.name.clone());
        }
    }
    all
}

/// The most frequent of `all`, the first of equals; `or` if there are none.
fn most<T: Clone + PartialEq>(all: impl Iterator<Item = T>, or: T) -> T {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for x in all {
        match counts.iter_mut().find(|(y, _)| *y == x) {
            Some((_, n)) => *n += 1,
            None => counts.push((x, 1)),
        }
    }
    let most = counts.iter().map(|c| c.1).max();
    counts.into_iter().find(|c| Some(c.1) == most).map_or(or, |c| c.0)
}

/// What most rows agree on.
fn common(rows: &[Row]) -> Common {
    let blocks: Vec<&Block> = rows.iter().filter_map(|row| if let Row::Block(b) = row { Some(b) } else { None }).collect();
    let styled: Vec<&Block> = blocks.into_iter().filter(|b| is_styled(&b.found[0].body)).collect();
    let activations = styled.iter().map(|b| b.found[0].activation);
    let norms = || styled.iter().map(|b| b.found[0].glue.norm);
    Common {
        activation: most(activations.filter(|a| *a != Activation::None), Activation::Relu6),
        // Those that any rule fits say nothing, so the rule that fits most is the net's.
        padding: most(
            super::rules(std::iter::empty()).into_iter().flat_map(|rule| {
                let n = styled.iter().filter(|b| b.rules.contains(&rule)).count();
                std::iter::repeat_n(rule, n)
            }),
            PadRule::Torch,
        ),
        norm: (most(norms().map(|n| n.is_some()), true), most(norms().flatten(), 1e-5)),
    }
}

/// Whether activation, padding and batch norm of `[net]` apply.
fn is_styled(body: &Body) -> bool {
    match body {
        Body::Conv { .. }
        | Body::Depthwise { .. }
        | Body::Separable { .. }
        | Body::InvertedResidual { .. }
        | Body::Universal { .. }
        | Body::Fused { .. } => true,
        Body::SqueezeExcite(_)
        | Body::Pool { .. }
        | Body::GlobalAvgPool
        | Body::Dense { .. }
        | Body::Softmax
        | Body::Dropout
        | Body::Residual { .. } => false,
    }
}

/// `key = value` lines.
struct Keys<'a> {
    out: &'a mut String,
}

impl Keys<'_> {
    fn put(&mut self, key: &str, value: impl Display) {
        let _ = writeln!(self.out, "{key} = {value}");
    }

    fn pair(&mut self, key: &str, [y, x]: [usize; 2], default: [usize; 2]) {
        if [y, x] != default {
            if y == x { self.put(key, y) } else { self.put(key, format!("[{y}, {x}]")) }
        }
    }

    fn expand(&mut self, expand: Expand) {
        match expand {
            Expand::Ratio(ratio) if ratio.fract() == 0.0 => self.put("expand", ratio as usize),
            Expand::Ratio(ratio) => self.put("expand", format!("{ratio:?}")),
            Expand::Channels(n) => self.put("expand_channels", n),
        }
    }
}

fn rule(rule: PadRule) -> String {
    match rule {
        PadRule::Torch => "\"torch\"".into(),
        PadRule::Same => "\"same\"".into(),
        PadRule::Fixed(0) => "\"valid\"".into(),
        PadRule::Fixed(n) => n.to_string(),
    }
}

/// The keys of `squeeze_excite`.
fn squeeze(se: &SqueezeExcite) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    match se.squeeze {
        // Found ones have the usual ratio.
        Squeeze::Ratio(..) => {}
        Squeeze::Channels(n) => keys.push(("channels", n.to_string())),
    }
    if se.activation != Activation::Relu {
        keys.push(("activation", activation(se.activation)));
    }
    if se.gate != Activation::HSigmoid {
        keys.push(("gate", activation(se.gate)));
    }
    if se.before_activation {
        keys.push(("position", "\"before\"".into()));
    }
    keys
}

fn write_block(out: &mut String, block: &Block, common: &Common, input: Option<String>) {
    let mut keys = Keys { out };
    let Found { body, activation: act, glue, .. } = &block.found[0];
    keys.put("name", quoted(&block.name));
    keys.put("kind", quoted(kind(body)));
    if let Some(input) = input {
        keys.put("inputs", quoted(&input));
    }
    let mut adds = true;
    match body {
        Body::Conv { out, kernel, stride, groups } => {
            keys.pair("kernel", *kernel, [1, 1]);
            keys.put("out", out);
            keys.pair("stride", *stride, [1, 1]);
            if *groups != 1 {
                keys.put("groups", groups);
            }
        }
        Body::Depthwise { kernel, stride, multiplier } => {
            keys.pair("kernel", *kernel, [3, 3]);
            keys.pair("stride", *stride, [1, 1]);
            if *multiplier != 1 {
                keys.put("multiplier", multiplier);
            }
        }
        Body::Separable { out, kernel, stride } => {
            keys.pair("kernel", *kernel, [3, 3]);
            keys.put("out", out);
            keys.pair("stride", *stride, [1, 1]);
        }
        Body::InvertedResidual { out, expand, kernel, stride, se, residual } => {
            keys.pair("kernel", *kernel, [3, 3]);
            keys.expand(*expand);
            keys.put("out", out);
            keys.pair("stride", *stride, [1, 1]);
            let table = se.as_ref().map(squeeze);
            match table.as_deref() {
                None => {}
                Some([]) => keys.put("se", true),
                Some(table) => {
                    let all: Vec<String> = table.iter().map(|(key, value)| format!("{key} = {value}")).collect();
                    keys.put("se", format!("{{ {} }}", all.join(", ")));
                }
            }
            adds = *residual;
        }
        Body::Universal { out, expand, dw_start, dw_mid, stride, residual } => {
            keys.pair("dw_start", dw_start.unwrap_or([0, 0]), [0, 0]);
            keys.expand(*expand);
            keys.pair("dw_mid", dw_mid.unwrap_or([0, 0]), [0, 0]);
            keys.put("out", out);
            keys.pair("stride", *stride, [1, 1]);
            adds = *residual;
        }
        Body::Fused { out, expand, kernel, stride, group_size, residual } => {
            keys.pair("kernel", *kernel, [3, 3]);
            keys.expand(*expand);
            keys.put("out", out);
            keys.pair("stride", *stride, [1, 1]);
            if let Some(size) = group_size {
                keys.put("group_size", size);
            }
            adds = *residual;
        }
        Body::SqueezeExcite(se) => squeeze(se).into_iter().for_each(|(key, value)| keys.put(key, value)),
        Body::Pool { kernel, stride, .. } => {
            keys.pair("kernel", *kernel, [0, 0]);
            keys.pair("stride", *stride, *kernel);
            if !block.rules.contains(&PadRule::Fixed(0)) {
                keys.put("padding", rule(block.rules[0]));
            }
        }
        Body::Dense { out } => {
            keys.put("out", out);
            if !glue.bias {
                keys.put("bias", false);
            }
            if *act != Activation::None {
                keys.put("activation", activation(*act));
            }
        }
        Body::GlobalAvgPool | Body::Softmax | Body::Dropout | Body::Residual { .. } => {}
    }
    if !adds {
        keys.put("residual", false);
    }
    if block.found.len() > 1 {
        keys.put("repeat", block.found.len());
    }
    if is_styled(body) {
        if *act != common.activation {
            keys.put("activation", activation(*act));
        }
        if !block.rules.contains(&common.padding) {
            keys.put("padding", rule(block.rules[0]));
        }
        if glue.norm.is_some() != common.norm.0 {
            keys.put("batch_norm", glue.norm.is_some());
        }
        // Of `[net]`, or of the grammar where `[net]` says that there is none.
        let eps = if common.norm.0 { common.norm.1 } else { 1e-5 };
        if let Some(own) = glue.norm
            && own != eps
        {
            keys.put("bn_eps", format!("{own:?}"));
        }
        if glue.bias == glue.norm.is_some() {
            keys.put("bias", glue.bias);
        }
    }
}

/// The word of a block.
fn kind(body: &Body) -> &'static str {
    match body {
        Body::Conv { .. } => "conv",
        Body::Depthwise { .. } => "depthwise",
        Body::Separable { .. } => "separable",
        Body::InvertedResidual { .. } => "inverted_residual",
        Body::Universal { .. } => "universal_inverted_bottleneck",
        Body::Fused { .. } => "fused_inverted_bottleneck",
        Body::SqueezeExcite(_) => "squeeze_excite",
        Body::Pool { kind: PoolKind::Max, .. } => "max_pool",
        Body::Pool { kind: PoolKind::Average, .. } => "avg_pool",
        Body::GlobalAvgPool => "global_avg_pool",
        Body::Dense { .. } => "dense",
        Body::Softmax => "softmax",
        Body::Dropout => "dropout",
        Body::Residual { .. } => "residual",
    }
}
