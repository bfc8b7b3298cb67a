//! TFLite models of floats: a file in, a [`super::Net`] out.
//!
//! ```text
//! bytes -> tables         schema.rs           borrowed from the file
//!       -> nodes          ops.rs, nodes.rs    every operator as a few of ONNX's, constants where they stand
//!       -> graph          ../onnx             as ONNX models go
//! ```
//! So what holds of ONNX models holds of these: shape arithmetic is done, layouts cost nothing, what the file leaves open is said
//! by `--set`, one diagnostic names everything that is not supported. Pictures are `[1, h, w, c]`, as in the net. Inputs and outputs
//! are called as the model's signature calls them, else as its tensors.
//!
//! So do the bounds of memory and time: 160 MiB and 64 bytes for each of the file, however many tensors and operators share one
//! buffer, name or table of it.
//!
//! Only the first graph is read. Quantised models are refused: what they compute is not what floats do.

mod names;
mod nodes;
mod ops;
mod schema;

use std::collections::BTreeSet;
use std::path::Path;

use self::nodes::{Attr, INT4, INT8, INT16, Ints, Name, Node, UINT8, Writer, onnx_kind, shown};
use self::schema::Model;
use super::onnx::proto;
use super::{Loaded, onnx};
use crate::diag::{Diagnostic, Diagnostics};

/// Version of ONNX's operators in which nodes are written: axes of reductions are inputs, `Split` knows a number of parts.
const OPSET: i64 = 18;
/// ONNX's number of 64-bit integers.
const INT: i64 = 7;

/// Loads the model at `path`, changed by `sets`.
///
/// # Errors
/// Everything that is wrong with it or not supported.
pub(super) fn load(path: &Path, set: &[(String, String)], weights: Option<&Path>) -> Result<Loaded, Diagnostics> {
    let one = |d: Diagnostic| vec![d];
    if weights.is_some() {
        let d = Diagnostic::error("a TFLite model has its own weights: another checkpoint cannot be given");
        return Err(one(d.help("`mnc import MODEL -o DIR` writes a spec whose checkpoint can be replaced")));
    }
    let shown = path.display().to_string();
    let bytes = onnx::read(path).map_err(|e| one(Diagnostic::error(format!("cannot read {shown}: {e}"))))?;
    let malformed = |e: schema::Malformed| {
        let d = Diagnostic::error(format!("{shown} is not a whole TFLite model: {e}"));
        one(d.help("it may be cut off: compare its size with the original's"))
    };
    let model = Model::read(&bytes).map_err(malformed)?;
    of_floats(&model, &shown).map_err(one)?;
    let mut writer = Writer::new(&model);
    for op in &model.operators {
        writer.operator(op).map_err(malformed)?;
    }
    let Writer { names, nodes, ints, .. } = writer;
    let little: Vec<Vec<u8>> = ints.iter().map(|i| i.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let written = proto::Model { bytes: bytes.len(), ..written(&model, &names, &nodes, &ints, &little) };
    let by = if model.description.is_empty() { String::new() } else { format!(", {}", model.description) };
    Ok((onnx::net(&written, path, set, &format!("TFLite{by}"))?, Diagnostics::new()))
}

/// Whether nothing that the operators work on is quantised or sparse.
fn of_floats(model: &Model<'_>, shown: &str) -> Result<(), Diagnostic> {
    let used: BTreeSet<usize> =
        model.operators.iter().flat_map(|op| op.inputs.iter().flatten().chain(&op.outputs)).copied().collect();
    let mut quantised: Vec<&str> = Vec::new();
    for tensor in used {
        let t = &model.tensors[tensor];
        if t.sparse {
            let d = Diagnostic::error(format!("{shown} has sparse constants, `{}` for one", t.name));
            return Err(d.help("convert the model without pruning of weights"));
        }
        if matches!(t.kind, UINT8 | INT8 | INT16 | INT4) && t.quantised {
            quantised.push(&t.name);
        }
    }
    let Some(first) = quantised.first() else { return Ok(()) };
    let message =
        format!("{shown} is quantised: {} of its tensors are integers with a scale, `{first}` for one", quantised.len());
    Err(Diagnostic::error(message)
        .help("mnc computes floats: convert the model without `optimizations`, or take its float version"))
}

/// The model in ONNX's terms; `little` are the bytes of `ints`.
fn written<'a>(
    model: &Model<'a>,
    names: &'a [Name],
    nodes: &'a [Node],
    ints: &'a [Ints],
    little: &'a [Vec<u8>],
) -> proto::Model<'a> {
    let data = |kind: i64, dims: Vec<i64>, raw: &'a [u8]| {
        proto::Constant::Given(proto::TensorData { dims, kind, raw: Some(raw), ..proto::TensorData::default() })
    };
    let mut initializers: Vec<(&str, proto::Constant<'_>)> = Vec::new();
    for (tensor, name) in model.tensors.iter().zip(names) {
        if let Some(raw) = tensor.data {
            let dims = tensor.dims.iter().map(|&d| d.into()).collect();
            initializers.push((&**name, data(onnx_kind(tensor.kind), dims, raw)));
        }
    }
    initializers.extend(ints.iter().zip(little).map(|(i, raw)| (&*i.name, data(INT, i.dims.clone(), raw))));
    let end = |&(tensor, _): &(usize, Option<String>)| {
        let t = &model.tensors[tensor];
        let dims = t.signature.iter().map(|&d| (d >= 0).then_some(d.into())).collect();
        proto::ValueInfo { name: &names[tensor], kind: onnx_kind(t.kind), dims: Some(dims) }
    };
    let graph = proto::Graph {
        nodes: nodes.iter().map(|n| node(n, names)).collect(),
        initializers,
        inputs: model.inputs.iter().map(end).collect(),
        outputs: model.outputs.iter().map(end).collect(),
        ..proto::Graph::default()
    };
    proto::Model { opset: OPSET, graph, has_graph: true, channels_last: true, ..proto::Model::default() }
}

fn node<'a>(node: &'a Node, names: &'a [Name]) -> proto::Node<'a> {
    let given = node.attrs.iter().map(|(name, value)| {
        let mut attribute = proto::Attribute { name, ..proto::Attribute::default() };
        match value {
            Attr::Int(i) => attribute.i = Some(*i),
            Attr::Ints(list) => attribute.ints.clone_from(list),
            Attr::Float(f) => attribute.f = Some(*f),
            Attr::Text(text) => attribute.s = Some(text.as_bytes()),
        }
        attribute
    });
    proto::Node {
        name: shown(names, node.result),
        op: &node.op,
        called: &node.called,
        inputs: node.inputs.iter().map(|n| &**n).collect(),
        outputs: node.outputs.iter().map(|n| &**n).collect(),
        given: given.collect(),
        ..proto::Node::default()
    }
}
