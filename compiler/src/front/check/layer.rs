//! Checks `[[layer]]`.

use mnc_runtime::params::{Activation, Axis, BinaryKind, PoolKind, Real, Tap};

use super::frame::check_frame;
use super::reader::{Reader, array, boolean, int, list, number, pair, string, table, word};
use super::{ACTIVATIONS, check_padding, check_sha256};
use crate::diag::{Diagnostic, Diagnostics, Span, nearest};
use crate::front::ast::{Block, MAX_CHANNELS, MAX_ELEMENTS, MAX_NODES, MAX_SIDE, PadRule};
use crate::front::graph::{Align, Around, Body, Layer, MAX_TABLE, Norm, Source, Spec, Table, Taps, TensorName, Window};
use crate::front::value::{Kind, Value};
use crate::ir::{Padding, Shape};

/// Ops as a spec writes them.
const OPS: [&str; 24] = [
    "conv",
    "depthwise",
    "conv_transpose",
    "dense",
    "batch_norm",
    "activation",
    "prelu",
    "add",
    "sub",
    "mul",
    "div",
    "scale",
    "concat",
    "gather",
    "interpolate",
    "reshape",
    "transpose",
    "mean",
    "pad",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "softmax",
    "constant",
];
/// Longest name.
const MAX_NAME: usize = 200;

/// Checks a spec of layers; the spec holds only if there are no mistakes.
pub(crate) fn check_layers(root: &Value) -> (Option<Spec>, Diagnostics) {
    let mut out = Diagnostics::new();
    let (mut weights, mut layers) = (None, None);
    let frame = check_frame(root, &mut out, |r, out| {
        weights = r.get("weights");
        layers = r.need("layer", "[[layer]]", out);
    });
    let source = weights.map_or(Source::Seed(1), |v| check_source(v, &mut out));
    let inputs: Vec<String> = frame.as_ref().map(|f| f.inputs.iter().map(|(n, _)| n.clone()).collect()).unwrap_or_default();
    let layers = layers.map(|v| check_list(v, &inputs, &mut out)).unwrap_or_default();
    // In the order of the text; what points elsewhere (into a `--set`) comes first.
    out.sort_by_key(|d| match &d.label {
        Some((span, _)) if span.source == root.span.source => span.range.start + 1,
        _ => 0,
    });
    (frame.map(|frame| Spec { frame, source, layers }), out)
}

fn check_source(value: &Value, out: &mut Diagnostics) -> Source {
    let Some(t) = table(value, out) else { return Source::Seed(1) };
    let mut r = Reader::new(t, &value.span, "`[weights]` of a spec of layers");
    let (seed, file) = (r.get("seed"), r.get("file"));
    if let (Some(seed), Some(_)) = (seed, file) {
        let d = Diagnostic::error("weights come either from a file or from a seed").at(&seed.span, "and here is the seed");
        out.push(d.help("remove `seed` or `file`"));
    }
    let seed = seed.and_then(|v| int(v, 0..=i64::MAX as usize, out)).unwrap_or(1) as u64;
    let sha256 = r.get("sha256").and_then(|v| check_sha256(v, out));
    let extra = r.get("extra").and_then(|v| word(v, &[("error", false), ("ignore", true)], out));
    r.finish(out);
    match file.and_then(|v| Some((string(v, out)?.to_owned(), v.span.clone()))) {
        Some((path, span)) => Source::File { path, span, sha256, ignore_extra: extra.unwrap_or(false) },
        None => Source::Seed(seed),
    }
}

fn check_list(value: &Value, inputs: &[String], out: &mut Diagnostics) -> Vec<Layer> {
    let Some(items) = array(value, "a list of layers", out) else {
        if let Some(last) = out.last_mut() {
            last.help = Some("write each layer under a header of its own, `[[layer]]`".into());
        }
        return Vec::new();
    };
    if items.is_empty() || items.len() > MAX_NODES {
        let d = Diagnostic::error(format!("a net of {} layers is not possible", items.len()));
        out.push(d.at(&value.span, format!("from 1 to {MAX_NODES}")));
        return Vec::new();
    }
    let mut before = inputs.first().cloned().unwrap_or_else(|| "input".into());
    let mut layers = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        if let Some(layer) = check_layer(item, index, &before, out) {
            before.clone_from(&layer.name);
            layers.push(layer);
        }
    }
    layers
}

/// Layers among the blocks of the list `places`, which `blocks` are: each with the number of blocks that stand before it.
pub(super) fn check_among(
    value: &Value,
    places: Option<&Value>,
    blocks: &[Block],
    input: &str,
    out: &mut Diagnostics,
) -> Vec<(usize, Layer)> {
    let Some(items) = array(value, "a list of layers", out) else { return Vec::new() };
    let starts: Vec<usize> = match places.map(|v| &v.kind) {
        Some(Kind::Array(all)) => all.iter().map(|v| v.span.range.start).collect(),
        _ => Vec::new(),
    };
    if items.len() > MAX_NODES {
        let d = Diagnostic::error(format!("a net of {} layers is not possible", items.len()));
        out.push(d.at(&value.span, format!("up to {MAX_NODES}")));
        return Vec::new();
    }
    let mut layers: Vec<(usize, Layer)> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let n = starts.iter().filter(|&&s| s < item.span.range.start).count();
        let before = match layers.last() {
            Some((m, layer)) if *m == n => layer.name.clone(),
            // A block that is wrong has said so.
            _ => n.checked_sub(1).map_or(input, |i| blocks.get(i).map_or(input, |b| &b.name)).to_owned(),
        };
        layers.extend(check_layer(item, index, &before, out).map(|layer| (n, layer)));
    }
    layers
}

/// A name of a layer, an input or a result.
pub(super) fn name(value: &Value, out: &mut Diagnostics) -> Option<String> {
    let text = string(value, out)?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if !text.is_empty() && text.len() <= MAX_NAME && text.chars().all(fits) {
        return Some(text.to_owned());
    }
    let d = Diagnostic::error(format!("`{text}` cannot be a name")).at(&value.span, "");
    out.push(d.help(format!("use up to {MAX_NAME} letters, digits, `_`, `-` and `.`")));
    None
}

fn check_layer(value: &Value, index: usize, before: &str, out: &mut Diagnostics) -> Option<Layer> {
    let mut r = Reader::new(table(value, out)?, &value.span, "this layer");
    let op = r.need("op", "op = \"conv\"", out)?;
    let said = string(op, out)?;
    let Some(&said) = OPS.iter().find(|&&o| o == said) else {
        let d = Diagnostic::error(format!("there is no op `{said}`")).at(&op.span, "unknown op");
        out.push(match nearest(said, OPS) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help(format!("the ops are {}", list(&OPS))),
        });
        return None;
    };
    r.what = format!("{} `{said}` layer", if said.starts_with('a') { "an" } else { "a" });
    let name = r.get("name").and_then(|v| name(v, out)).unwrap_or_else(|| format!("layer{index}"));
    let inputs = match r.get("inputs") {
        Some(v) => check_inputs(v, out),
        None if said == "constant" => Vec::new(),
        None => vec![(before.to_owned(), op.span.clone())],
    };
    let at = Named { name: &name, span: &op.span };
    let body = check_body(said, &mut r, &at, out);
    let batch_norm = match said {
        "conv" | "depthwise" | "conv_transpose" | "dense" => r.get("batch_norm").and_then(|v| check_batch_norm(v, &at, out)),
        _ => None,
    };
    let activation = match said {
        "softmax" | "constant" => None,
        "activation" => r.need("activation", "activation = \"relu\"", out).and_then(|v| check_activation(v, out)),
        _ => r.get("activation").and_then(|v| check_activation(v, out)),
    };
    r.finish(out);
    let activation = activation.unwrap_or_default();
    Some(Layer { name, span: op.span.clone(), inputs, body: body?, batch_norm, activation })
}

pub(super) fn check_inputs(value: &Value, out: &mut Diagnostics) -> Vec<(String, Span)> {
    let one = |v: &Value, out: &mut Diagnostics| Some((string(v, out)?.to_owned(), v.span.clone()));
    if let Kind::String(_) = value.kind {
        return one(value, out).into_iter().collect();
    }
    let items = array(value, "the name of a layer, or a list of names", out).unwrap_or(&[]);
    items.iter().filter_map(|v| one(v, out)).collect()
}

/// The layer being read.
struct Named<'a> {
    name: &'a str,
    span: &'a Span,
}

impl Named<'_> {
    /// `<layer>.<leaf>`
    fn tensor(&self, leaf: &str) -> TensorName {
        TensorName { name: format!("{}.{leaf}", self.name), span: self.span.clone() }
    }

    /// What `value` names, or the tensor called after the layer.
    fn tensor_or(&self, value: Option<&Value>, leaf: &str, out: &mut Diagnostics) -> TensorName {
        let named = value.and_then(|v| Some(TensorName { name: string(v, out)?.to_owned(), span: v.span.clone() }));
        named.unwrap_or_else(|| self.tensor(leaf))
    }
}

fn check_body(said: &str, r: &mut Reader<'_>, at: &Named<'_>, out: &mut Diagnostics) -> Option<Body> {
    let weights = |r: &mut Reader<'_>, out: &mut Diagnostics| {
        let weight = at.tensor_or(r.get("weight"), "weight", out);
        let bias = match r.get("bias") {
            None | Some(Value { kind: Kind::Bool(false), .. }) => None,
            Some(Value { kind: Kind::Bool(true), .. }) => Some(at.tensor("bias")),
            some => Some(at.tensor_or(some, "bias", out)),
        };
        (weight, bias)
    };
    let width =
        |r: &mut Reader<'_>, out: &mut Diagnostics| r.need("out", "out = 32", out).and_then(|v| int(v, 1..=MAX_CHANNELS, out));
    Some(match said {
        "conv" => {
            let out_c = width(r, out);
            let groups = r.get("groups").map_or(Some(1), |v| int(v, 1..=MAX_CHANNELS, out));
            let window = check_window(r, Some([1, 1]), true, out);
            let (weight, bias) = weights(r, out);
            Body::Conv { out: out_c?, groups: groups?, window: window?, weight, bias }
        }
        "depthwise" => {
            let multiplier = r.get("multiplier").map_or(Some(1), |v| int(v, 1..=1024, out));
            let window = check_window(r, Some([1, 1]), true, out);
            let (weight, bias) = weights(r, out);
            Body::Depthwise { multiplier: multiplier?, window: window?, weight, bias }
        }
        "conv_transpose" => {
            let out_c = width(r, out);
            let groups = r.get("groups").map_or(Some(1), |v| int(v, 1..=MAX_CHANNELS, out));
            let window = check_window(r, Some([1, 1]), true, out);
            if let Some(Window { padding: Around::Rule(PadRule::Torch | PadRule::Same), .. }) = window {
                let d = Diagnostic::error("a transposed convolution takes padding in numbers").at(r.span, "");
                out.push(d.help("for example `padding = 1`"));
            }
            let output_padding = r.get("output_padding").map_or(Some([0, 0]), |v| pair(v, 0..=MAX_SIDE, out));
            let (weight, bias) = weights(r, out);
            Body::ConvTranspose { out: out_c?, groups: groups?, window: window?, output_padding: output_padding?, weight, bias }
        }
        "dense" => {
            let out_c = width(r, out);
            let (weight, bias) = weights(r, out);
            Body::Dense { out: out_c?, weight, bias }
        }
        "batch_norm" => {
            let eps = r.get("eps").map_or(Some(1e-5), |v| number(v, EPS, eps_fits, out));
            let tensors = ["weight", "bias", "mean", "variance"].map(|key| at.tensor_or(r.get(key), key, out));
            Body::BatchNorm(Norm { eps: eps?, tensors })
        }
        "activation" => Body::Activation,
        "prelu" => Body::PRelu { weight: at.tensor_or(r.get("weight"), "weight", out) },
        "add" => Body::Binary(BinaryKind::Add),
        "sub" => Body::Binary(BinaryKind::Sub),
        "mul" => Body::Binary(BinaryKind::Mul),
        "div" => Body::Binary(BinaryKind::Div),
        "scale" => Body::Scale,
        "concat" => {
            let axes = [("channels", Axis::C), ("rows", Axis::H), ("columns", Axis::W)];
            Body::Concat(r.get("axis").map_or(Some(Axis::C), |v| word(v, &axes, out))?)
        }
        "gather" => {
            let tables = ["rows", "columns", "channels"].map(|key| r.get(key).map(|v| check_table(v, out)));
            let fill = r.get("fill").map_or(Some(0.0), |v| any_number(v, out));
            let whole = tables.iter().all(|t| t.as_ref().is_none_or(Option::is_some));
            whole.then_some(())?;
            Body::Gather { tables: tables.map(Option::flatten), fill: fill? as f32 }
        }
        "interpolate" => {
            let taps = ["rows", "columns"].map(|key| r.get(key).map(|v| check_taps(v, out)));
            let whole = taps.iter().all(|t| t.as_ref().is_none_or(Option::is_some));
            whole.then_some(())?;
            Body::Interpolate(taps.map(Option::flatten))
        }
        "reshape" => {
            let mut size = |key: &'static str, max: usize| r.get(key).map_or(Some(1), |v| int(v, 1..=max, out));
            let (height, width, channels) =
                (size("height", MAX_ELEMENTS), size("width", MAX_ELEMENTS), size("channels", MAX_ELEMENTS));
            Body::Reshape(Shape::hwc(height?, width?, channels?))
        }
        "transpose" => {
            let value = r.need("order", "order = [\"columns\", \"rows\", \"channels\"]", out)?;
            let order: Vec<usize> = array(value, "a list of axes", out)?.iter().filter_map(|v| word(v, &AXES, out)).collect();
            let Ok(order) = <[usize; 3]>::try_from(order) else {
                out.push(
                    Diagnostic::error("an order has three axes")
                        .at(&value.span, "")
                        .help("rows, columns and channels, each once"),
                );
                return None;
            };
            Body::Transpose(order)
        }
        "mean" => {
            let value = r.need("axes", "axes = [\"rows\"]", out)?;
            let mut axes = [false; 3];
            array(value, "a list of axes", out)?.iter().filter_map(|v| word(v, &AXES, out)).for_each(|axis| axes[axis] = true);
            Body::Mean(axes)
        }
        "pad" => {
            let padding = r.need("padding", "padding = [1, 1, 1, 1]", out).and_then(|v| sides(v, out));
            let value = r.get("value").map_or(Some(0.0), |v| number(v, "a finite number", |x| (x as f32).is_finite(), out));
            Body::Pad { padding: padding?, value: value? as f32 }
        }
        "max_pool" | "avg_pool" => {
            let window = check_window(r, None, false, out);
            let kind = if said == "max_pool" { PoolKind::Max } else { PoolKind::Average };
            let count = if kind == PoolKind::Average { r.get("count_padding") } else { None };
            let count_padding = count.and_then(|v| boolean(v, out)).unwrap_or(false);
            Body::Pool { kind, window: window?, count_padding }
        }
        "global_avg_pool" => Body::GlobalAvgPool,
        "softmax" => Body::Softmax,
        _ => {
            let mut size = |key: &'static str, max: usize| r.get(key).map_or(Some(1), |v| int(v, 1..=max, out));
            let (height, width, channels) = (size("height", MAX_SIDE), size("width", MAX_SIDE), size("channels", 1 << 29));
            let value = at.tensor_or(r.get("value"), "value", out);
            Body::Constant { shape: Shape::hwc(height?, width?, channels?), value }
        }
    })
}

/// Axes as a spec writes them.
const AXES: [(&str, usize); 3] = [("rows", 0), ("columns", 1), ("channels", 2)];

/// What a `gather` takes of an axis.
fn check_table(value: &Value, out: &mut Diagnostics) -> Option<Table> {
    if let Kind::Table(t) = &value.kind {
        let mut r = Reader::new(t, &value.span, "this table");
        let (repeat, groups) = (r.get("repeat"), r.get("groups"));
        r.finish(out);
        return match (repeat, groups) {
            (Some(v), None) => int(v, 1..=MAX_TABLE, out).map(Table::Repeat),
            (None, Some(v)) => int(v, 1..=MAX_TABLE, out).map(Table::Groups),
            _ => {
                let d = Diagnostic::error("a table is a list, `{ repeat = … }` or `{ groups = … }`").at(&value.span, "");
                out.push(d.help("for example `rows = { repeat = 2 }`"));
                None
            }
        };
    }
    let items = array(value, "a list of positions", out)?;
    let mut list = Vec::new();
    for item in items {
        let range = match &item.kind {
            Kind::Integer(i) => i32::try_from(*i).ok().filter(|&i| i >= -1).map(|i| i..i + 1),
            Kind::String(text) => {
                text.split_once("..").and_then(|(a, b)| Some(a.parse::<u16>().ok()?.into()..b.parse::<i32>().ok()?))
            }
            _ => None,
        };
        match range {
            Some(range) if range.len() + list.len() <= MAX_TABLE => list.extend(range),
            _ => {
                let d = Diagnostic::error("this is no position of an axis").at(&item.span, "a number from -1, or a range");
                out.push(d.help("for example `[0, 0, \"4..8\"]`"));
                return None;
            }
        }
    }
    Some(Table::List(list))
}

/// What an `interpolate` makes of an axis.
fn check_taps(value: &Value, out: &mut Diagnostics) -> Option<Taps> {
    if let Kind::Table(t) = &value.kind {
        let mut r = Reader::new(t, &value.span, "this table");
        let size = r.need("size", "size = 8", out).and_then(|v| int(v, 1..=MAX_SIDE, out));
        let align = r.get("align").map_or(Some(Align::Centers), |v| word(v, &Align::WORDS, out));
        r.finish(out);
        return Some(Taps::Size(size?, align?));
    }
    let mut all = Vec::new();
    for item in array(value, "a table or a list of [low, high, weight]", out)? {
        let [low, high, weight] = array(item, "[low, high, weight]", out)? else {
            out.push(Diagnostic::error("expected [low, high, weight of high]").at(&item.span, ""));
            return None;
        };
        let (low, high) = (int(low, 0..=MAX_SIDE, out), int(high, 0..=MAX_SIDE, out));
        let weight = number(weight, "a finite number", |x| (x as f32).is_finite(), out);
        all.push(Tap { low: low?, high: high?, weight: Real::new(weight? as f32) });
    }
    Some(Taps::List(all))
}

/// What is said of a variance's constant.
const EPS: &str = "a number from 0 to 1";

fn eps_fits(eps: f64) -> bool {
    (0.0..=1.0).contains(&eps)
}

/// `batch_norm` of a layer: true, false or a table.
fn check_batch_norm(value: &Value, at: &Named<'_>, out: &mut Diagnostics) -> Option<Norm> {
    let empty = crate::front::value::Table::default();
    let t = match &value.kind {
        Kind::Bool(false) => return None,
        Kind::Bool(true) => &empty,
        _ => table(value, out)?,
    };
    let mut r = Reader::new(t, &value.span, "`batch_norm`");
    let eps = r.get("eps").map_or(Some(1e-5), |v| number(v, EPS, eps_fits, out));
    let keys = [("weight", "bn.weight"), ("bias", "bn.bias"), ("mean", "bn.running_mean"), ("variance", "bn.running_var")];
    let tensors = keys.map(|(key, leaf)| at.tensor_or(r.get(key), leaf, out));
    r.finish(out);
    Some(Norm { eps: eps?, tensors })
}

/// `kernel`, `stride`, `padding` and, where that is `allowed`, `dilation`; a pool has no default `kernel`, and steps by it.
fn check_window(r: &mut Reader<'_>, default: Option<[usize; 2]>, allowed: bool, out: &mut Diagnostics) -> Option<Window> {
    let kernel = match (r.get("kernel"), default) {
        (Some(v), _) => pair(v, 1..=MAX_SIDE, out),
        (None, Some(kernel)) => Some(kernel),
        (None, None) => {
            r.need("kernel", "kernel = 2", out);
            None
        }
    };
    let stride = match r.get("stride") {
        Some(v) => pair(v, 1..=MAX_SIDE, out),
        None if default.is_none() => kernel,
        None => Some([1, 1]),
    };
    let dilation = if allowed { r.get("dilation") } else { None }.map_or(Some([1, 1]), |v| pair(v, 1..=MAX_SIDE, out));
    let padding = match r.get("padding") {
        None => Some(Around::Rule(PadRule::Fixed(0))),
        Some(v) => match &v.kind {
            Kind::Array(_) => sides(v, out).map(Around::Sides),
            Kind::Integer(_) => int(v, 0..=MAX_SIDE, out).map(|n| Around::Rule(PadRule::Fixed(n))),
            _ => check_padding(v, out).map(Around::Rule),
        },
    };
    Some(Window { kernel: kernel?, stride: stride?, dilation: dilation?, padding: padding? })
}

/// `[top, left, bottom, right]`, or a number for every side.
fn sides(value: &Value, out: &mut Diagnostics) -> Option<Padding> {
    if let Kind::Integer(_) = value.kind {
        return int(value, 0..=MAX_SIDE, out).map(|n| Padding { top: n, left: n, bottom: n, right: n });
    }
    let items = array(value, "a number or [top, left, bottom, right]", out)?;
    let [top, left, bottom, right] = items else {
        let d = Diagnostic::error(format!("{} numbers are no padding", items.len()));
        out.push(d.at(&value.span, "expected [top, left, bottom, right]"));
        return None;
    };
    let mut side = |v: &Value| int(v, 0..=MAX_SIDE, out);
    let (top, left, bottom, right) = (side(top), side(left), side(bottom), side(right));
    Some(Padding { top: top?, left: left?, bottom: bottom?, right: right? })
}

/// A word, or a table of one key with numbers.
pub(super) fn check_activation(value: &Value, out: &mut Diagnostics) -> Option<Activation> {
    let t = match &value.kind {
        Kind::Table(t) => t,
        _ => return word(value, &ACTIVATIONS, out),
    };
    let mut r = Reader::new(t, &value.span, "`activation`");
    let (leaky, clip, hard) = (r.get("leaky_relu"), r.get("clip"), r.get("hard_sigmoid"));
    r.finish(out);
    let finite = |x: f64| (x as f32).is_finite();
    match (leaky, clip, hard) {
        (Some(v), None, None) => number(v, "a slope", finite, out).map(|slope| Activation::LeakyRelu(Real::new(slope as f32))),
        (None, Some(v), None) => {
            let [least, most] = two(v, |x| !x.is_nan(), out)?;
            Some(Activation::Clip(Real::new(least), Real::new(most)))
        }
        (None, None, Some(v)) => {
            let [alpha, beta] = two(v, finite, out)?;
            Some(Activation::HardSigmoid(Real::new(alpha), Real::new(beta)))
        }
        _ => {
            let d = Diagnostic::error("`activation` is a word or a table of one key").at(&value.span, "");
            out.push(d.help("for example `activation = { leaky_relu = 0.1 }`"));
            None
        }
    }
}

/// A number, infinite ones included.
fn any_number(value: &Value, out: &mut Diagnostics) -> Option<f64> {
    match value.kind {
        Kind::Float(f) if !f.is_finite() => Some(f),
        _ => number(value, "a number", |x| (x as f32).is_finite(), out),
    }
}

/// Two numbers, infinite ones included.
fn two(value: &Value, fits: impl Fn(f64) -> bool, out: &mut Diagnostics) -> Option<[f32; 2]> {
    let items = array(value, "a list of two numbers", out)?;
    let read = |v: &Value| match v.kind {
        Kind::Integer(i) => Some(i as f64),
        Kind::Float(f) if fits(f) => Some(f),
        _ => None,
    };
    if let [a, b] = items
        && let (Some(a), Some(b)) = (read(a), read(b))
    {
        return Some([a as f32, b as f32]);
    }
    out.push(Diagnostic::error("expected two numbers").at(&value.span, "such as [0.0, 1.0]"));
    None
}
