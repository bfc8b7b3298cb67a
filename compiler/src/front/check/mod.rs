//! Checks a tree against the grammar ([`super::ast`]) and makes the typed spec; every mistake is collected.

mod block;
mod frame;
mod layer;
mod reader;
mod tune;

pub(super) use self::frame::{Frame, MAX_ENDS, as_identifier, check_frame};
pub(super) use self::layer::check_layers;
pub(super) use self::tune::tuned;

use std::collections::BTreeMap;

use mnc_runtime::params::Activation;

use self::layer::check_activation;
use self::reader::{Reader, array, boolean, int, number, string, table, word};
use super::ast::{
    Labels, LabelsFrom, Layout, MAX_CHANNELS, MAX_ELEMENTS, MAX_KERNEL, MAX_SIDE, MAX_THREADS, Naming, PadRule, Sha256, Spec,
    Style, Weights, Widths,
};
use super::tune::VERSION;
use super::value::{Kind, Table, Value};
use super::{ColorOrder, Filter, PassOptions, PlanOptions, Prefer, Preprocess, Resize, Separate, Stream};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::ir::Shape;

/// Activations as a spec writes them.
const ACTIVATIONS: [(&str, Activation); 8] = [
    ("none", Activation::None),
    ("relu", Activation::Relu),
    ("relu6", Activation::Relu6),
    ("hswish", Activation::HSwish),
    ("hsigmoid", Activation::HSigmoid),
    ("sigmoid", Activation::Sigmoid),
    ("tanh", Activation::Tanh),
    ("silu", Activation::Silu),
];

/// What `[net]` says to blocks that say nothing themselves.
pub(crate) struct Defaults {
    pub(crate) alpha: f64,
    pub(crate) activation: Activation,
    pub(crate) padding: PadRule,
    pub(crate) batch_norm: bool,
    pub(crate) bn_eps: f64,
    pub(crate) bias: Option<bool>,
    pub(crate) classes: Option<usize>,
}

/// The result of checking: a spec as far as it could be understood, and what is wrong with the rest.
pub(crate) struct Checked {
    /// `None` where the input's size is unknown. Its blocks end before the first one that is wrong.
    pub(crate) spec: Option<Spec>,
    /// Mistakes; the spec holds only if there are none.
    pub(crate) mistakes: Diagnostics,
}

/// Checks `root`.
pub(crate) fn check(root: &Value) -> Checked {
    let mut out = Diagnostics::new();
    let empty = Table::default();
    let top = table(root, &mut out).unwrap_or(&empty);
    let mut r = Reader::new(top, &root.span, "the spec");
    let net = r.need("net", "[net]", &mut out);
    let weights = r.get("weights");
    let passes = r.get("passes");
    let plan = r.get("plan");
    let blocks = r.need("block", "[[block]]", &mut out);
    let layers = r.get("layer");
    r.finish(&mut out);

    let weights = weights.map_or_else(default_weights, |v| check_weights(v, &mut out));
    let passes = passes.map_or_else(PassOptions::default, |v| check_passes(v, &mut out));
    let plan = plan.map_or_else(PlanOptions::default, |v| check_plan(v, &mut out));
    let net = net.and_then(|v| check_net(v, &mut out));
    let plain = default_defaults();
    let defaults = net.as_ref().map_or(&plain, |n| &n.defaults);
    let places = blocks;
    let blocks = blocks.map(|v| block::check_list(v, defaults, 0, &mut out)).unwrap_or_default();
    let input = net.as_ref().and_then(|n| Some(n.input.as_ref()?.name.as_str())).unwrap_or("input");
    let layers = layers.map(|v| layer::check_among(v, places, &blocks, input, &mut out)).unwrap_or_default();
    let spec = net.and_then(|net| {
        let input = net.input?;
        Some(Spec {
            name: net.name,
            input: input.shape,
            input_name: input.name,
            outputs: net.outputs,
            preprocess: input.preprocess,
            widths: net.widths,
            classes: net.classes,
            labels: net.labels,
            weights,
            passes,
            plan,
            blocks,
            layers,
            span: net.span,
        })
    });
    // In the order of the text; what points elsewhere (into a `--set`) comes first.
    out.sort_by_key(|d| match &d.label {
        Some((span, _)) if span.source == root.span.source => span.range.start + 1,
        _ => 0,
    });
    Checked { spec, mistakes: out }
}

/// `[net]` as far as it could be read.
struct NetTable {
    name: String,
    input: Option<Input>,
    outputs: Option<Vec<(String, String, Span)>>,
    widths: Widths,
    classes: Option<(usize, Span)>,
    labels: Option<Labels>,
    defaults: Defaults,
    span: Span,
}

fn default_defaults() -> Defaults {
    Defaults {
        alpha: 1.0,
        activation: Activation::Relu6,
        padding: PadRule::Torch,
        batch_norm: true,
        bn_eps: 1e-5,
        bias: None,
        classes: None,
    }
}

fn check_net(value: &Value, out: &mut Diagnostics) -> Option<NetTable> {
    let mut r = Reader::new(table(value, out)?, &value.span, "`[net]`");
    let name = r.need("name", "name = \"my_net\"", out).and_then(|v| identifier(v, out)).unwrap_or_else(|| "net".into());
    if let Some(v) = r.get("mnc") {
        check_version(v, out);
    }
    let input = r.need("input", "input = { height = 224, width = 224 }", out).and_then(|v| check_input(v, MAX_COLOURS, out));
    let outputs = r.get("outputs").and_then(|v| frame::check_outputs(v, out));
    let plain = default_defaults();
    let alpha = r.get("alpha").and_then(|v| check_alpha(v, out)).unwrap_or(plain.alpha);
    let round_to = r.get("round_to").and_then(|v| int(v, 1..=1024, out)).unwrap_or(8);
    let min = r.get("min_width").and_then(|v| int(v, 1..=MAX_CHANNELS, out)).unwrap_or(round_to);
    let padding = r.get("padding").and_then(|v| check_padding(v, out)).unwrap_or(plain.padding);
    let activation = r.get("activation").and_then(|v| check_activation(v, out)).unwrap_or(plain.activation);
    let batch_norm = r.get("batch_norm").and_then(|v| boolean(v, out)).unwrap_or(plain.batch_norm);
    let bn_eps = check_eps(&mut r, out);
    let bias = r.get("bias").and_then(|v| boolean(v, out));
    let classes = r.get("classes").and_then(|v| Some((int(v, 1..=MAX_CHANNELS, out)?, v.span.clone())));
    let labels = r.get("labels").and_then(|v| check_labels(v, out));
    r.finish(out);
    let defaults = Defaults {
        alpha,
        activation,
        padding,
        batch_norm,
        bn_eps: bn_eps.unwrap_or(plain.bn_eps),
        bias,
        classes: classes.as_ref().map(|c| c.0),
    };
    Some(NetTable { name, input, outputs, widths: Widths { round_to, min }, classes, labels, defaults, span: value.span.clone() })
}

/// A name that Rust and C accept.
fn identifier(value: &Value, out: &mut Diagnostics) -> Option<String> {
    let text = string(value, out)?;
    let mut chars = text.chars();
    let shape = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && text != "_";
    if shape
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() <= 100
        && syn::parse_str::<syn::Ident>(text).is_ok()
    {
        return Some(text.into());
    }
    let d = Diagnostic::error(format!("`{text}` is no identifier")).at(&value.span, "");
    out.push(d.help("use letters, digits and `_`, a letter first, and no keyword of Rust"));
    None
}

fn check_alpha(value: &Value, out: &mut Diagnostics) -> Option<f64> {
    number(value, "a width multiplier above 0 and up to 16", |a| a > 0.0 && a <= 16.0, out)
}

fn check_padding(value: &Value, out: &mut Diagnostics) -> Option<PadRule> {
    if let Kind::Integer(_) = value.kind {
        return int(value, 0..=MAX_KERNEL, out).map(PadRule::Fixed);
    }
    word(value, &[("torch", PadRule::Torch), ("same", PadRule::Same), ("valid", PadRule::Fixed(0))], out)
}

/// A checked `input`.
struct Input {
    name: String,
    shape: Shape,
    preprocess: Preprocess,
}

/// Most channels of an input of blocks: what they are made for is pictures.
const MAX_COLOURS: usize = 1024;

/// `input`, of up to `most` channels.
fn check_input(value: &Value, most: usize, out: &mut Diagnostics) -> Option<Input> {
    let mut r = Reader::new(table(value, out)?, &value.span, "`input`");
    let name = r.get("name").and_then(|v| layer::name(v, out)).unwrap_or_else(|| "input".to_owned());
    let height = r.need("height", "height = 224", out).and_then(|v| int(v, 1..=MAX_SIDE, out));
    let width = r.need("width", "width = 224", out).and_then(|v| int(v, 1..=MAX_SIDE, out));
    let channels = r.get("channels").map_or(Some(3), |v| int(v, 1..=most, out));
    let mean = r.get("mean");
    let std = r.get("std");
    let order = r.get("order").and_then(|v| word(v, &[("rgb", ColorOrder::Rgb), ("bgr", ColorOrder::Bgr)], out));
    let resize = r.get("resize");
    let filter = r.get("filter").and_then(|v| word(v, &[("bilinear", Filter::Bilinear), ("bicubic", Filter::Bicubic)], out));
    let pixels = r.get("pixels").and_then(|v| boolean(v, out)).unwrap_or(false);
    r.finish(out);
    let per_channel = channels.unwrap_or(3);
    let mean = mean.map_or(vec![0.0; per_channel], |v| {
        let ok = |m: f64| (-1e6..=1e6).contains(&m);
        check_channels(v, per_channel, "a mean in units of 0..1", ok, out)
    });
    let std = std.map_or(vec![1.0; per_channel], |v| {
        let ok = |s: f64| (1e-6..=1e6).contains(&s);
        check_channels(v, per_channel, "a standard deviation above 0", ok, out)
    });
    let (height, width, channels) = (height?, width?, channels?);
    let longer = height.max(width);
    let resize = match resize {
        None => Resize::ShorterSide((longer * 256 + 112) / 224),
        Some(v) => check_resize(v, longer, out)?,
    };
    let shape = Shape::hwc(height, width, channels);
    if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
        out.push(Diagnostic::error(format!("an input of {shape} is too large")).at(&value.span, ""));
        return None;
    }
    let (order, filter) = (order.unwrap_or(ColorOrder::Rgb), filter.unwrap_or(Filter::Bilinear));
    if order == ColorOrder::Bgr && channels != 3 {
        out.push(Diagnostic::error(format!("an input of {channels} channels has no colour order")).at(&value.span, ""));
    }
    Some(Input { name, shape, preprocess: Preprocess { resize, filter, order, mean, std, in_graph: pixels } })
}

fn check_resize(value: &Value, longer: usize, out: &mut Diagnostics) -> Option<Resize> {
    if let Kind::Integer(_) = value.kind {
        let side = int(value, 1..=2 * MAX_SIDE, out)?;
        if side < longer {
            let message = format!("a picture with a shorter side of {side} does not cover an input of {longer}");
            out.push(Diagnostic::error(message).at(&value.span, "too small").help(format!("use {longer} or more")));
            return None;
        }
        return Some(Resize::ShorterSide(side));
    }
    word(value, &[("squash", Resize::Squash)], out)
}

/// A number for all channels, or one a channel.
fn check_channels(value: &Value, n: usize, expected: &str, ok: impl Fn(f64) -> bool, out: &mut Diagnostics) -> Vec<f64> {
    let items = match &value.kind {
        Kind::Array(items) => items.as_slice(),
        _ => return vec![number(value, expected, &ok, out).unwrap_or(1.0); n],
    };
    if items.len() != n {
        let message = format!("{} numbers for {n} channels", items.len());
        out.push(Diagnostic::error(message).at(&value.span, format!("expected {n}")).help("one number stands for all channels"));
        return vec![1.0; n];
    }
    items.iter().map(|v| number(v, expected, &ok, out).unwrap_or(1.0)).collect()
}

fn check_labels(value: &Value, out: &mut Diagnostics) -> Option<Labels> {
    let from = match &value.kind {
        Kind::String(path) => LabelsFrom::File(path.clone()),
        Kind::Array(items) => LabelsFrom::Inline(items.iter().filter_map(|v| string(v, out)).map(String::from).collect()),
        _ => {
            let d = Diagnostic::error(format!("expected a path or a list of names, found {}", value.kind.name()));
            out.push(d.at(&value.span, ""));
            return None;
        }
    };
    Some(Labels { span: value.span.clone(), from })
}

fn default_weights() -> Weights {
    let (names, layout) = (Naming::Auto, Layout::Auto);
    Weights { seed: 1, file: None, sha256: None, names, layout, ignore_extra: false, map: BTreeMap::new() }
}

fn check_weights(value: &Value, out: &mut Diagnostics) -> Weights {
    let mut weights = default_weights();
    let Some(table) = table(value, out) else { return weights };
    let mut r = Reader::new(table, &value.span, "`[weights]`");
    let seed = r.get("seed");
    let file = r.get("file");
    if let (Some(seed), Some(_)) = (seed, file) {
        let d = Diagnostic::error("weights come either from a file or from a seed").at(&seed.span, "and here is the seed");
        out.push(d.help("remove `seed` or `file`"));
    }
    weights.seed = seed.and_then(|v| int(v, 0..=i64::MAX as usize, out)).unwrap_or(1) as u64;
    weights.file = file.and_then(|v| Some((string(v, out)?.to_string(), v.span.clone())));
    weights.sha256 = r.get("sha256").and_then(|v| check_sha256(v, out));
    let names = [
        ("auto", Naming::Auto),
        ("timm", Naming::Timm),
        ("torchvision", Naming::Torchvision),
        ("hf", Naming::Hf),
        ("keras", Naming::Keras),
        ("tf_slim", Naming::TfSlim),
        ("d_li14", Naming::DLi14),
        ("spec", Naming::Spec),
    ];
    weights.names = r.get("names").and_then(|v| word(v, &names, out)).unwrap_or(Naming::Auto);
    let layouts = [("auto", Layout::Auto), ("torch", Layout::Torch), ("keras", Layout::Keras)];
    weights.layout = r.get("layout").and_then(|v| word(v, &layouts, out)).unwrap_or(Layout::Auto);
    let extra = r.get("extra").and_then(|v| word(v, &[("error", false), ("ignore", true)], out));
    weights.ignore_extra = extra.unwrap_or(false);
    if let Some(map) = r.get("map").and_then(|v| self::reader::table(v, out)) {
        for entry in &map.entries {
            if let Some(name) = string(&entry.value, out) {
                let line = (name.to_string(), entry.key_span.clone());
                if weights.map.insert(entry.key.clone(), line).is_some() {
                    let message = format!("`{}` is there twice", entry.key);
                    out.push(Diagnostic::error(message).at(&entry.key_span, "again here"));
                }
            }
        }
    }
    r.finish(out);
    weights
}

/// `sha256`: 64 hexadecimal digits.
fn check_sha256(value: &Value, out: &mut Diagnostics) -> Option<Sha256> {
    let text = string(value, out)?;
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Some(Sha256 { digits: text.to_ascii_lowercase(), span: value.span.clone() });
    }
    let d = Diagnostic::error("this is no SHA-256").at(&value.span, "64 hexadecimal digits");
    out.push(d.help("`sha256sum FILE` prints it"));
    None
}

/// `mnc`: the version that wrote the spec. A later one may mean by it what this one does not know.
fn check_version(value: &Value, out: &mut Diagnostics) {
    let Some(text) = string(value, out) else { return };
    let numbers = |text: &str| {
        let all: Option<Vec<u32>> = text.split('.').map(|n| n.parse().ok()).collect();
        all.filter(|n| n.len() == 3)
    };
    let (Some(theirs), Some(ours)) = (numbers(text), numbers(VERSION)) else {
        let d = Diagnostic::error(format!("`{text}` is no version of mnc")).at(&value.span, "");
        out.push(d.help(format!("this is \"{VERSION}\"; a spec need not say one")));
        return;
    };
    if theirs > ours {
        let d = Diagnostic::error(format!("this spec is for mnc {text}, and this is mnc {VERSION}"));
        let d = d.at(&value.span, "written by a later version, or for one");
        out.push(d.help("use that version, or remove the line to see whether this one understands the spec"));
    }
}

fn check_passes(value: &Value, out: &mut Diagnostics) -> PassOptions {
    let mut passes = PassOptions::default();
    let Some(table) = table(value, out) else { return passes };
    let mut r = Reader::new(table, &value.span, "`[passes]`");
    passes.separate = r.get("separate").and_then(|v| check_separate(v, out)).unwrap_or(Separate::Off);
    passes.separate_stem = r.get("separate_stem").and_then(|v| boolean(v, out)).unwrap_or(false);
    if let Some(items) = r.get("skip").and_then(|v| array(v, "a list of pass names", out)) {
        let names: Vec<(&'static str, &'static str)> = crate::pass::PIPELINE.iter().map(|p| (p.name, p.name)).collect();
        passes.skip = items.iter().filter_map(|v| word(v, &names, out)).map(String::from).collect();
    }
    r.finish(out);
    passes
}

fn check_plan(value: &Value, out: &mut Diagnostics) -> PlanOptions {
    let mut plan = PlanOptions::default();
    let Some(table) = table(value, out) else { return plan };
    let mut r = Reader::new(table, &value.span, "`[plan]`");
    plan.threads = r.get("threads").and_then(|v| int(v, 1..=MAX_THREADS, out)).unwrap_or(plan.threads);
    let prefers = [("speed", Prefer::Speed), ("memory", Prefer::Memory)];
    plan.prefer = r.get("prefer").and_then(|v| word(v, &prefers, out)).unwrap_or(plan.prefer);
    let streams = [("auto", Stream::Auto), ("never", Stream::Never), ("always", Stream::Always)];
    plan.stream = r.get("stream").and_then(|v| word(v, &streams, out)).unwrap_or(plan.stream);
    plan.strassen = r.get("strassen").and_then(|v| boolean(v, out)).unwrap_or(plan.strassen);
    plan.winograd = r.get("winograd").and_then(|v| boolean(v, out)).unwrap_or(plan.winograd);
    r.finish(out);
    plan
}

fn check_separate(value: &Value, out: &mut Diagnostics) -> Option<Separate> {
    let table = match &value.kind {
        Kind::String(_) => return word(value, &[("off", Separate::Off), ("structure", Separate::Structure)], out),
        Kind::Table(table) => table,
        other => {
            let message = format!("`separate` cannot be {}", other.name());
            let d = Diagnostic::error(message).at(&value.span, "expected a word or a table");
            out.push(d.help("write \"off\", \"structure\", { rank = 2 } or { max_error = 0.05 }"));
            return None;
        }
    };
    let mut r = Reader::new(table, &value.span, "`separate`");
    let rank = r.get("rank");
    let error = r.get("max_error");
    let one = table.entries.len() == 1;
    r.finish(out);
    match (rank, error) {
        (Some(v), None) => int(v, 1..=MAX_KERNEL * MAX_KERNEL, out).map(Separate::Rank),
        (None, Some(v)) => number(v, "a relative error from 0 to 1", |e| (0.0..=1.0).contains(&e), out).map(Separate::MaxError),
        _ if one => None,
        _ => {
            let d = Diagnostic::error("`separate` takes either `rank` or `max_error`").at(&value.span, "");
            out.push(d.help("for example `separate = { rank = 2 }`"));
            None
        }
    }
}

/// The style of a block: its own keys over the net's.
fn check_style(r: &mut Reader<'_>, d: &Defaults, out: &mut Diagnostics) -> Style {
    let activation = r.get("activation").and_then(|v| check_activation(v, out)).unwrap_or(d.activation);
    let padding = r.get("padding").and_then(|v| check_padding(v, out)).unwrap_or(d.padding);
    let eps = check_eps(r, out).unwrap_or(d.bn_eps);
    let batch_norm = r.get("batch_norm").and_then(|v| boolean(v, out)).unwrap_or(d.batch_norm);
    let bias = r.get("bias").and_then(|v| boolean(v, out)).or(d.bias).unwrap_or(!batch_norm);
    Style { activation, padding, batch_norm: batch_norm.then_some(eps), bias }
}

fn check_eps(r: &mut Reader<'_>, out: &mut Diagnostics) -> Option<f64> {
    r.get("bn_eps").and_then(|v| number(v, "a number above 0 and up to 1", |e| e > 0.0 && e <= 1.0, out))
}
