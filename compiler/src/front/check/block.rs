//! Checks `[[block]]`.

use std::collections::HashSet;

use mnc_runtime::params::{Activation, PoolKind};

use super::layer::{check_activation, check_inputs};
use super::reader::{Reader, array, boolean, int, list, number, pair, string, table, word};
use super::{Defaults, check_alpha, check_padding, check_style, identifier};
use crate::diag::{Diagnostic, Diagnostics, nearest};
use crate::front::ast::{
    Block, Body, Expand, MAX_CHANNELS, MAX_DEPTH, MAX_KERNEL, MAX_REPEAT, PadRule, Squeeze, SqueezeExcite, Style, Widths,
};
use crate::front::value::{Kind, Value};

/// Kinds of blocks as a spec writes them.
const KINDS: [&str; 14] = [
    "conv",
    "depthwise",
    "separable",
    "inverted_residual",
    "universal_inverted_bottleneck",
    "fused_inverted_bottleneck",
    "squeeze_excite",
    "max_pool",
    "avg_pool",
    "global_avg_pool",
    "dense",
    "softmax",
    "dropout",
    "residual",
];

/// Checks a list of blocks. The result ends before the first block that is wrong.
pub(super) fn check_list(value: &Value, d: &Defaults, depth: usize, out: &mut Diagnostics) -> Vec<Block> {
    let Some(items) = array(value, "a list of blocks", out) else {
        if let Some(last) = out.last_mut() {
            last.help = Some("write each block under a header of its own, `[[block]]`".into());
        }
        return Vec::new();
    };
    if items.is_empty() {
        out.push(Diagnostic::error("there are no blocks").at(&value.span, ""));
    }
    let mut blocks = Vec::new();
    let mut names = HashSet::new();
    let mut whole = true;
    for (index, item) in items.iter().enumerate() {
        let before = out.len();
        let block = check_block(item, index, d, depth, &mut names, out);
        whole &= out.len() == before;
        if whole {
            blocks.extend(block);
        }
    }
    blocks
}

fn check_block(
    value: &Value,
    index: usize,
    d: &Defaults,
    depth: usize,
    names: &mut HashSet<String>,
    out: &mut Diagnostics,
) -> Option<Block> {
    let mut r = Reader::new(table(value, out)?, &value.span, "this block");
    let kind = r.need("kind", "kind = \"conv\"", out)?;
    let word = string(kind, out)?;
    let Some(&word) = KINDS.iter().find(|&&k| k == word) else {
        let d = Diagnostic::error(format!("there is no block kind `{word}`")).at(&kind.span, "unknown kind");
        out.push(match nearest(word, KINDS) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help(format!("the kinds are {}", list(&KINDS))),
        });
        return None;
    };
    r.what = format!("{} `{word}` block", if word.starts_with(['a', 'i']) { "an" } else { "a" });
    let named = r.get("name");
    let name = named.and_then(|v| identifier(v, out)).unwrap_or_else(|| format!("block{index}"));
    if !names.insert(name.clone()) {
        let d = Diagnostic::error(format!("two blocks are called `{name}`")).at(&named.unwrap_or(kind).span, "the second one");
        out.push(d.help("give it another `name`"));
    }
    let mut block = Block {
        name,
        span: kind.span.clone(),
        input: None,
        repeat: 1,
        stage: None,
        alpha: 1.0,
        style: Style { activation: Activation::None, padding: PadRule::Fixed(0), batch_norm: None, bias: false },
        body: Body::Softmax,
    };
    // What stands within a residual is a chain.
    if depth == 0
        && let Some(v) = r.get("inputs")
    {
        let mut names = check_inputs(v, out);
        if names.len() > 1 {
            out.push(Diagnostic::error("a block reads one input").at(&v.span, "").help("a `[[layer]]` can read several"));
        }
        block.input = names.pop();
    }
    let body = match word {
        "conv"
        | "depthwise"
        | "separable"
        | "inverted_residual"
        | "universal_inverted_bottleneck"
        | "fused_inverted_bottleneck" => {
            block.style = check_style(&mut r, d, out);
            block.alpha = block_alpha(&mut r, d.alpha, d.alpha, out);
            block.repeat = repeat(&mut r, out);
            block.stage = r.get("stage").and_then(|v| int(v, 0..=1000, out));
            convolutions(word, &mut r, out)
        }
        "squeeze_excite" => Some(Body::SqueezeExcite(squeeze_keys(&mut r, false, out))),
        "max_pool" | "avg_pool" => {
            block.style.padding = r.get("padding").and_then(|v| check_padding(v, out)).unwrap_or(PadRule::Fixed(0));
            let kernel = r.need("kernel", "kernel = 2", out).and_then(|v| pair(v, 1..=MAX_KERNEL, out));
            let stride = r.get("stride").map_or(kernel, |v| pair(v, 1..=MAX_KERNEL, out));
            let kind = if word == "max_pool" { PoolKind::Max } else { PoolKind::Average };
            kernel.zip(stride).map(|(kernel, stride)| Body::Pool { kind, kernel, stride })
        }
        "global_avg_pool" => Some(Body::GlobalAvgPool),
        "dense" => {
            block.style.activation = r.get("activation").and_then(|v| check_activation(v, out)).unwrap_or_default();
            block.style.bias = r.get("bias").and_then(|v| boolean(v, out)).unwrap_or(true);
            block.alpha = block_alpha(&mut r, d.alpha, 1.0, out);
            match r.get("out") {
                Some(v) => int(v, 1..=MAX_CHANNELS, out),
                None if d.classes.is_some() => d.classes,
                None => {
                    let d = Diagnostic::error("this `dense` block needs `out`, or `[net]` needs `classes`").at(&kind.span, "");
                    out.push(d.help("for example `out = 1000`"));
                    None
                }
            }
            .map(|out| Body::Dense { out })
        }
        "softmax" => Some(Body::Softmax),
        "dropout" => {
            r.get("rate").and_then(|v| number(v, "a rate from 0 to 1", |p| (0.0..=1.0).contains(&p), out));
            Some(Body::Dropout)
        }
        _ => {
            block.style.activation = r.get("activation").and_then(|v| check_activation(v, out)).unwrap_or_default();
            block.repeat = repeat(&mut r, out);
            let inner = r.need("block", "[[block.block]]", out);
            match inner {
                Some(v) if depth + 1 >= MAX_DEPTH => {
                    out.push(Diagnostic::error(format!("blocks are nested deeper than {MAX_DEPTH}")).at(&v.span, ""));
                    None
                }
                Some(v) => Some(Body::Residual { blocks: check_list(v, d, depth + 1, out) }),
                None => None,
            }
        }
    };
    r.finish(out);
    block.body = body?;
    Some(block)
}

/// The keys of blocks that are made of convolutions.
fn convolutions(word: &str, r: &mut Reader<'_>, out: &mut Diagnostics) -> Option<Body> {
    let width = match word {
        "depthwise" => Some(0),
        _ => r.need("out", "out = 32", out).and_then(|v| int(v, 1..=MAX_CHANNELS, out)),
    };
    let stride = match r.get("stride") {
        None => Some([1, 1]),
        Some(v) => pair(v, 1..=MAX_KERNEL, out),
    };
    let default = if word == "conv" { 1 } else { 3 };
    let kernel = match word {
        "universal_inverted_bottleneck" => Some([1, 1]),
        _ => r.get("kernel").map_or(Some([default; 2]), |v| pair(v, 1..=MAX_KERNEL, out)),
    };
    match word {
        "conv" => {
            let groups = r.get("groups").map_or(Some(1), |v| int(v, 1..=MAX_CHANNELS, out));
            Some(Body::Conv { out: width?, kernel: kernel?, stride: stride?, groups: groups? })
        }
        "depthwise" => {
            let multiplier = r.get("multiplier").map_or(Some(1), |v| int(v, 1..=1024, out));
            Some(Body::Depthwise { kernel: kernel?, stride: stride?, multiplier: multiplier? })
        }
        "separable" => Some(Body::Separable { out: width?, kernel: kernel?, stride: stride? }),
        "inverted_residual" => {
            let expand = expand(r, out);
            let se = r.get("se").and_then(|v| squeeze_value(v, out));
            let residual = residual(r, out);
            Some(Body::InvertedResidual { out: width?, expand: expand?, kernel: kernel?, stride: stride?, se, residual })
        }
        "universal_inverted_bottleneck" => {
            let expand = expand(r, out);
            let dw_start = optional_kernel(r, "dw_start", out);
            let dw_mid = optional_kernel(r, "dw_mid", out);
            let residual = residual(r, out);
            if dw_start.is_none() && dw_mid.is_none() && stride.is_some_and(|s| s != [1, 1]) {
                let d = Diagnostic::error("a block without depthwise layers cannot have a stride").at(r.span, "");
                out.push(d.help("give it `dw_start` or `dw_mid`"));
            }
            Some(Body::Universal { out: width?, expand: expand?, dw_start, dw_mid, stride: stride?, residual })
        }
        _ => {
            let expand = expand(r, out);
            let group_size = r.get("group_size").and_then(|v| int(v, 1..=MAX_CHANNELS, out));
            let residual = residual(r, out);
            Some(Body::Fused { out: width?, expand: expand?, kernel: kernel?, stride: stride?, group_size, residual })
        }
    }
}

fn repeat(r: &mut Reader<'_>, out: &mut Diagnostics) -> usize {
    r.get("repeat").and_then(|v| int(v, 1..=MAX_REPEAT, out)).unwrap_or(1)
}

fn residual(r: &mut Reader<'_>, out: &mut Diagnostics) -> bool {
    r.get("residual").and_then(|v| boolean(v, out)).unwrap_or(true)
}

/// A window, or 0 for none.
fn optional_kernel(r: &mut Reader<'_>, key: &'static str, out: &mut Diagnostics) -> Option<[usize; 2]> {
    match r.get(key)? {
        Value { kind: Kind::Integer(0), .. } => None,
        v => pair(v, 1..=MAX_KERNEL, out),
    }
}

/// `expand` or `expand_channels`.
fn expand(r: &mut Reader<'_>, out: &mut Diagnostics) -> Option<Expand> {
    let ratio = r.get("expand");
    let channels = r.get("expand_channels");
    match (ratio, channels) {
        (Some(v), None) => number(v, "an expansion above 0 and up to 256", |e| e > 0.0 && e <= 256.0, out).map(Expand::Ratio),
        (None, Some(v)) => int(v, 1..=MAX_CHANNELS, out).map(Expand::Channels),
        (Some(_), Some(v)) => {
            let d = Diagnostic::error("`expand` and `expand_channels` say the same thing").at(&v.span, "and here again");
            out.push(d.help("keep one of them"));
            None
        }
        (None, None) => {
            let d = Diagnostic::error(format!("{} needs the key `expand`", r.what)).at(r.span, "");
            out.push(d.help("for example `expand = 6`"));
            None
        }
    }
}

/// `alpha` of a block: the factor of its widths.
fn block_alpha(r: &mut Reader<'_>, net: f64, default: f64, out: &mut Diagnostics) -> f64 {
    let Some(value) = r.get("alpha") else { return default };
    match &value.kind {
        Kind::Bool(true) => net,
        Kind::Bool(false) => 1.0,
        Kind::String(_) => word(value, &[("at_least_one", net.max(1.0))], out).unwrap_or(1.0),
        _ => check_alpha(value, out).unwrap_or(1.0),
    }
}

/// `se` of an inverted residual.
fn squeeze_value(value: &Value, out: &mut Diagnostics) -> Option<SqueezeExcite> {
    let empty = crate::front::value::Table::default();
    let table = match &value.kind {
        Kind::Bool(false) => return None,
        Kind::Bool(true) => &empty,
        _ => table(value, out)?,
    };
    let mut r = Reader::new(table, &value.span, "`se`");
    let se = squeeze_keys(&mut r, true, out);
    r.finish(out);
    Some(se)
}

fn squeeze_keys(r: &mut Reader<'_>, inside: bool, out: &mut Diagnostics) -> SqueezeExcite {
    let ratio = r.get("ratio");
    let channels = r.get("channels");
    if let (Some(_), Some(v)) = (ratio, channels) {
        out.push(
            Diagnostic::error("`ratio` and `channels` say the same thing").at(&v.span, "and here again").help("keep one of them"),
        );
    }
    let ratio = ratio.and_then(|v| number(v, "a ratio above 0 and up to 16", |r| r > 0.0 && r <= 16.0, out)).unwrap_or(0.25);
    let channels = channels.and_then(|v| int(v, 1..=MAX_CHANNELS, out));
    let round_to = r.get("round_to").and_then(|v| int(v, 1..=1024, out)).unwrap_or(8);
    let activation = r.get("activation").and_then(|v| check_activation(v, out)).unwrap_or(Activation::Relu);
    let gate = r.get("gate").and_then(|v| check_gate(v, out)).unwrap_or(Activation::HSigmoid);
    let position = if inside { r.get("position") } else { None };
    let before = position.and_then(|v| word(v, &[("after", false), ("before", true)], out)).unwrap_or(false);
    let squeeze = channels.map_or(Squeeze::Ratio(ratio, Widths { round_to, min: round_to }), Squeeze::Channels);
    SqueezeExcite { squeeze, activation, gate, before_activation: before }
}

/// `gate` of a squeeze-and-excite.
fn check_gate(value: &Value, out: &mut Diagnostics) -> Option<Activation> {
    let Kind::Table(_) = value.kind else {
        return word(value, &[("hsigmoid", Activation::HSigmoid), ("sigmoid", Activation::Sigmoid)], out);
    };
    let gate = check_activation(value, out)?;
    if let Activation::HardSigmoid(..) = gate {
        return Some(gate);
    }
    let d = Diagnostic::error("a gate gives factors from 0 to 1").at(&value.span, "this does not");
    out.push(d.help("for example `gate = { hard_sigmoid = [0.2, 0.5] }`"));
    None
}
