//! The inputs of a model: how they lie in the graph, and what `[net]` of a spec says of them.

use super::fold::few;
use super::import::{Port, clean};
use super::proto::{Model, Node, ValueInfo};
use super::tensor::{count, kind_name};
use super::view::{View, row_major};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::front::check::{Frame, MAX_ENDS};
use crate::front::value::{Kind, Table, Value};
use crate::ir::{NodeId, Shape};

/// Keys of `input`, by ONNX axis.
const NCHW: [&str; 4] = ["", "channels", "height", "width"];
const NHWC: [&str; 4] = ["", "height", "width", "channels"];

/// How an input lies in the graph.
enum Layout {
    /// `[1, c, h, w]`
    Channels,
    /// `[1, h, w, c]`
    Pixels,
    /// In its own order, these dimensions.
    Plain(Vec<usize>),
}

/// An input of the model.
pub(super) struct Input<'a> {
    /// In the model.
    name: &'a str,
    /// In the graph.
    shown: String,
    layout: Layout,
    /// What is known of `height`, `width` and `channels`.
    sizes: Vec<(&'static str, usize)>,
}

/// The inputs that are no constants.
pub(super) fn inputs<'a>(model: &Model<'a>) -> Result<Vec<Input<'a>>, Diagnostic> {
    let constants: std::collections::HashSet<&str> = model.graph.initializers.iter().map(|(n, _)| *n).collect();
    let all: Vec<_> = model.graph.inputs.iter().filter(|i| !constants.contains(i.name)).collect();
    if all.is_empty() {
        return Err(Diagnostic::error("the model has no input"));
    }
    if all.len() > MAX_ENDS {
        return Err(Diagnostic::error(format!("the model has {} inputs, more than {MAX_ENDS}", all.len())));
    }
    let mut inputs: Vec<Input<'a>> = Vec::new();
    for info in all {
        let mut input = input(info, model)?;
        if inputs.iter().any(|i| i.shown == input.shown) {
            input.shown = format!("{}_{}", input.shown, inputs.len());
        }
        inputs.push(input);
    }
    Ok(inputs)
}

fn input<'a>(info: &ValueInfo<'a>, model: &Model<'a>) -> Result<Input<'a>, Diagnostic> {
    let name = info.name;
    if !matches!(info.kind, 1 | 10 | 11 | 16) {
        let d = Diagnostic::error(format!("the model's input `{name}` has elements of type {}", kind_name(info.kind)));
        return Err(d.help("only inputs of floats are supported"));
    }
    let Some(dims) = &info.dims else {
        return Err(Diagnostic::error(format!("the model does not say how many axes its input `{name}` has")));
    };
    few(dims.len()).map_err(|e| Diagnostic::error(format!("the model's input `{name}`: {e}")))?;
    let mut sizes = Vec::with_capacity(dims.len());
    for (i, d) in dims.iter().enumerate() {
        sizes.push(match d {
            Some(d) if *d > 0 => Some(usize::try_from(*d).map_err(|_| Diagnostic::error(format!("`{name}` is too large")))?),
            Some(0) => return Err(Diagnostic::error(format!("the model's input `{name}` is empty (axis {i})"))),
            // A batch that is left open is 1.
            _ if i == 0 => Some(1),
            _ => None,
        });
    }
    let shown = clean(name);
    if let [Some(1), a, _, c] = sizes[..] {
        let few = |n: Option<usize>| matches!(n, Some(1 | 3 | 4));
        let mut readers = model.graph.nodes.iter().filter(|n| n.inputs.contains(&name)).peekable();
        let turned = readers.peek().is_some() && readers.all(turns_to_channels);
        let (layout, keys) =
            if model.channels_last || turned || !few(a) && few(c) { (Layout::Pixels, NHWC) } else { (Layout::Channels, NCHW) };
        let sizes = keys.into_iter().zip(sizes).skip(1).filter_map(|(key, n)| Some((key, n?))).collect();
        return Ok(Input { name, shown, layout, sizes });
    }
    let Some(dims) = sizes.into_iter().collect::<Option<Vec<usize>>>() else {
        let d = Diagnostic::error(format!("the model leaves sizes of its input `{name}` open, which is no picture of four axes"));
        return Err(d.help("export it with fixed sizes"));
    };
    if count(&dims).is_none() {
        return Err(Diagnostic::error(format!("the model's input `{name}` of shape {dims:?} is too large")));
    }
    let shape = row_major(&dims);
    let sizes = vec![("height", shape.h), ("width", shape.w), ("channels", shape.c)];
    Ok(Input { name, shown, layout: Layout::Plain(dims), sizes })
}

/// Whether the node is a `Transpose` of rows, columns, channels to channels, rows, columns.
fn turns_to_channels(node: &Node<'_>) -> bool {
    node.op == "Transpose" && super::attrs::Attrs::of(node).is_ok_and(|a| a.ints("perm") == Some(&[0, 3, 1, 2]))
}

/// The spec that a model is: a tree of `[net]` with what the file knows, for settings to change. Its places are all `span`.
pub(super) fn describe(inputs: &[Input<'_>], name: &str, span: &Span) -> Value {
    let table = |input: &Input<'_>| {
        let mut table = Table::default();
        table.push("name", span.clone(), Value::string(span.clone(), &*input.shown));
        for (key, n) in &input.sizes {
            table.push(*key, span.clone(), Value::integer(span.clone(), *n as i64));
        }
        Value::table(span.clone(), table)
    };
    let mut net = Table::default();
    net.push("name", span.clone(), Value::string(span.clone(), name));
    match inputs {
        [one] => net.push("input", span.clone(), table(one)),
        _ => net.push("inputs", span.clone(), Value::array(span.clone(), inputs.iter().map(table).collect())),
    }
    let mut root = Table::default();
    root.push("net", span.clone(), Value::table(span.clone(), net));
    Value::table(span.clone(), root)
}

/// Sizes that neither the model nor a setting states.
pub(super) fn still_open(root: &Value, inputs: &[Input<'_>]) -> Diagnostics {
    let net = root.as_table().and_then(|t| t.get("net")).and_then(Value::as_table);
    let tables: Vec<(String, Option<&Value>)> = match (net.and_then(|n| n.get("input")), net.and_then(|n| n.get("inputs"))) {
        (_, Some(Value { kind: Kind::Array(items), .. })) => {
            (0..inputs.len()).map(|i| (format!("inputs.{i}"), items.get(i))).collect()
        }
        (one, _) => vec![("input".to_owned(), one)],
    };
    let mut out = Diagnostics::new();
    for ((path, table), input) in tables.into_iter().zip(inputs) {
        let Some(table) = table.and_then(Value::as_table) else { continue };
        let missing: Vec<&str> = NCHW[1..].iter().copied().filter(|key| table.get(key).is_none()).collect();
        if !missing.is_empty() {
            let d = Diagnostic::error(format!("the model leaves the {} of its input `{}` open", missing.join(", "), input.name));
            let size = |key: &str| if key == "channels" { 3 } else { 224 };
            let example: Vec<String> = missing.iter().map(|key| format!("--set {path}.{key}={}", size(key))).collect();
            out.push(d.help(format!("choose: `{}`", example.join(" "))));
        }
    }
    out
}

/// What makes the view of an input of its node, shape and the model's own sizes.
type Viewed = fn(NodeId, Shape, &[usize]) -> View;

/// The graph inputs, sizes and preprocessing as `frame` has them.
pub(super) fn fixed<'p>(inputs: Vec<Input<'p>>, frame: &'p Frame) -> Result<Vec<Port<'p>>, Diagnostic> {
    if inputs.len() != frame.inputs.len() {
        let message = format!("the model has {} inputs, the settings name {}", inputs.len(), frame.inputs.len());
        return Err(Diagnostic::error(message));
    }
    let mut ports = Vec::with_capacity(inputs.len());
    for (i, (input, (shown, shape))) in inputs.into_iter().zip(&frame.inputs).enumerate() {
        let (view, dims): (Viewed, Vec<usize>) = match input.layout {
            Layout::Channels => (|id, shape, _| View::nchw(id, shape), Vec::new()),
            Layout::Pixels => (|id, shape, _| View::nchw(id, shape).transposed(&[0, 2, 3, 1]), Vec::new()),
            Layout::Plain(dims) if *shape == row_major(&dims) => (|id, _, dims| View::plain(id, dims), dims),
            Layout::Plain(dims) => {
                let d = Diagnostic::error(format!("the model's input `{}` has the fixed shape {dims:?}", input.name));
                return Err(d.help("leave its `height`, `width` and `channels` as they are"));
            }
        };
        let normalize = (i == 0 && frame.preprocess.in_graph).then_some(&frame.preprocess);
        ports.push(Port { name: input.name, shown: shown.clone(), shape: *shape, view, dims, normalize });
    }
    Ok(ports)
}
