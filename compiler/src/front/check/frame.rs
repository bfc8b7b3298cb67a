//! What stands around a network that is not made of blocks: `[net]` without the defaults of blocks, `[passes]`, `[plan]`.

use super::reader::{Reader, array, string, table};
use super::{Input, check_input, check_labels, check_passes, check_plan, check_version, identifier};
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::front::ast::{Labels, MAX_CHANNELS};
use crate::front::value::{Kind, Table, Value};
use crate::front::{PassOptions, PlanOptions, Preprocess};
use crate::ir::Shape;

/// Most inputs or outputs of a net.
pub(crate) const MAX_ENDS: usize = 64;

/// Everything about a net but its layers and weights.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// The net's name.
    pub(crate) name: String,
    /// The inputs by name, at least one.
    pub(crate) inputs: Vec<(String, Shape)>,
    /// How a picture becomes the first input.
    pub(crate) preprocess: Preprocess,
    /// Where class names come from.
    pub(crate) labels: Option<Labels>,
    /// The results: what each is called, what makes it, and the place that says so; `None` for all (of a model) or the last layer's
    /// (of a spec).
    pub(crate) outputs: Option<Vec<(String, String, Span)>>,
    /// Switches of optional passes.
    pub(crate) passes: PassOptions,
    /// What the plan is made for.
    pub(crate) plan: PlanOptions,
}

/// Checks `[net]` as one of a net without blocks, `[passes]` and `[plan]`; what else stands in `root` is `rest`'s to read.
pub(crate) fn check_frame<'a>(
    root: &'a Value,
    out: &mut Diagnostics,
    rest: impl FnOnce(&mut Reader<'a>, &mut Diagnostics),
) -> Option<Frame> {
    static EMPTY: Table = Table { entries: Vec::new() };
    let top = table(root, out).unwrap_or(&EMPTY);
    let mut r = Reader::new(top, &root.span, "the spec");
    let net = r.need("net", "[net]", out);
    let passes = r.get("passes");
    let plan = r.get("plan");
    rest(&mut r, out);
    r.finish(out);
    let passes = passes.map_or_else(PassOptions::default, |v| check_passes(v, out));
    let plan = plan.map_or_else(PlanOptions::default, |v| check_plan(v, out));
    let net = net?;
    let mut r = Reader::new(table(net, out)?, &net.span, "`[net]`");
    let name = r.need("name", "name = \"my_net\"", out).and_then(|v| identifier(v, out)).unwrap_or_else(|| "net".into());
    if let Some(v) = r.get("mnc") {
        check_version(v, out);
    }
    let inputs = match r.get("inputs") {
        Some(list) => check_inputs(list, out),
        None => r
            .need("input", "input = { height = 224, width = 224 }", out)
            .and_then(|v| check_input(v, MAX_CHANNELS, out))
            .map(|i| vec![i]),
    };
    let labels = r.get("labels").and_then(|v| check_labels(v, out));
    let outputs = r.get("outputs").and_then(|v| check_outputs(v, out));
    r.finish(out);
    let inputs = inputs?;
    let preprocess = inputs.first()?.preprocess.clone();
    let inputs = inputs.into_iter().map(|i| (i.name, i.shape)).collect();
    Some(Frame { name, inputs, preprocess, labels, outputs, passes, plan })
}

/// `inputs`: a list of tables, each as `input` is with a `name`.
fn check_inputs(value: &Value, out: &mut Diagnostics) -> Option<Vec<Input>> {
    let items = array(value, "a list of tables", out)?;
    if items.is_empty() || items.len() > MAX_ENDS {
        let d = Diagnostic::error(format!("{} inputs are not possible", items.len()));
        out.push(d.at(&value.span, format!("from 1 to {MAX_ENDS}")));
    }
    let inputs: Vec<Input> = items.iter().take(MAX_ENDS).filter_map(|v| check_input(v, MAX_CHANNELS, out)).collect();
    for (i, input) in inputs.iter().enumerate() {
        if inputs[..i].iter().any(|other| other.name == input.name) {
            let d = Diagnostic::error(format!("two inputs are called `{}`", input.name));
            out.push(d.at(&items[i].span, "the second one").help("give each a `name`"));
        }
    }
    (inputs.len() == items.len()).then_some(inputs)
}

/// A list of names, or one, or a table from what a result is called to what makes it.
pub(super) fn check_outputs(value: &Value, out: &mut Diagnostics) -> Option<Vec<(String, String, Span)>> {
    let one = |called: Option<&str>, v: &Value, out: &mut Diagnostics| {
        let name = string(v, out)?;
        Some((called.unwrap_or(name).to_owned(), name.to_owned(), v.span.clone()))
    };
    let all: Vec<_> = match &value.kind {
        Kind::String(_) => one(None, value, out).into_iter().collect(),
        Kind::Table(table) => table.entries.iter().filter_map(|e| one(Some(&e.key), &e.value, out)).collect(),
        _ => array(value, "a list of names", out)?.iter().filter_map(|v| one(None, v, out)).collect(),
    };
    if all.is_empty() || all.len() > MAX_ENDS {
        let d = Diagnostic::error(format!("{} outputs are not possible", all.len()));
        out.push(d.at(&value.span, format!("from 1 to {MAX_ENDS}")));
    }
    for (i, (called, _, span)) in all.iter().enumerate() {
        if all[..i].iter().any(|other| other.0 == *called) {
            out.push(Diagnostic::error(format!("two outputs are called `{called}`")).at(span, "the second one"));
        }
    }
    Some(all)
}

/// An identifier made of `text`, which may be anything.
pub(crate) fn as_identifier(text: &str) -> String {
    let mut name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).take(100).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "net_");
        name.truncate(100);
    }
    if syn::parse_str::<syn::Ident>(&name).is_err() {
        name.push('_');
    }
    name
}
