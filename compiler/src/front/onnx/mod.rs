//! ONNX models: a file in, a [`Net`] out.
//!
//! ```text
//! bytes -> messages       proto.rs            borrowed from the file
//!       -> values         import.rs           node by node: constants computed (fold.rs, tensor.rs), the rest to the graph
//!                         ops/                one operator family a file
//!       -> graph          view.rs, layout.rs  which axis lies where; moves.rs moves data where that cannot be avoided
//! ```
//! What the file does not say, `[net]`, `[passes]` and `[plan]` of a spec say by `--set`: `input.height` and `input.width` where the
//! model leaves them open, `input.mean` and the other keys of [`super::ast`]'s `input` (an ONNX model says nothing of pictures: mean 0
//! and standard deviation 1 by default), `outputs` to choose among results or to cut the model at any value, `labels`, `name`.
//!
//! # Inputs and outputs
//! A batch that is left open is 1. An input of four axes is a picture: `[1, c, h, w]`, or `[1, h, w, c]` if its last axis has 1, 3 or
//! 4 elements and its second has not; the net takes it as rows, columns, channels. So does it give results of four axes, but for those
//! that the model itself has turned to `[1, h, w, c]`, which stay as they are. Every other input or result has the model's own order
//! of elements. Several inputs are the list `inputs` of `[net]`, each with the keys of `input` (`--set inputs.1.height=64`).
//!
//! # Memory and time
//! A small file can ask for much. Constants, from whatever they come, take at most 64 MiB and 32 bytes for each of the model's files,
//! and going through them has a bound too ([`budget`]); with all else that is at most 160 MiB and 64 bytes for each.

mod attrs;
mod budget;
mod fold;
mod import;
mod layout;
mod moves;
mod ops;
mod ports;
pub(super) mod proto;
mod tensor;
mod view;

use std::path::Path;
use std::sync::Arc;

use self::proto::Model;
use self::tensor::External;
use super::check::{MAX_ENDS, as_identifier, check_frame};
use super::{Loaded, Net, graph, labels, sets};
use crate::diag::{Diagnostic, Diagnostics, Source, Span};
use crate::ir::verify;

/// Longest model that is read: protobuf has no longer ones.
const MAX_BYTES: u64 = 1 << 31;
/// Versions of ONNX's operators that are understood. Newer ones are tried: most of them change nothing for these operators.
const OLDEST: i64 = 7;
const NEWEST: i64 = 28;

/// Loads the model at `path`, changed by `sets`.
///
/// # Errors
/// Everything that is wrong with it or not supported.
pub(super) fn load(path: &Path, set: &[(String, String)], weights: Option<&Path>) -> Result<Loaded, Diagnostics> {
    let one = |d: Diagnostic| vec![d];
    if weights.is_some() {
        let d = Diagnostic::error("an ONNX model has its own weights: another checkpoint cannot be given");
        return Err(one(d.help("`mnc import MODEL -o DIR` writes a spec whose checkpoint can be replaced")));
    }
    let shown = path.display().to_string();
    let bytes = read(path).map_err(|e| one(Diagnostic::error(format!("cannot read {shown}: {e}"))))?;
    let mut warnings = Diagnostics::new();
    let model = open(&bytes, &shown, &mut warnings).map_err(one)?;
    let by = if model.producer.is_empty() { String::new() } else { format!(" by {}", model.producer) };
    Ok((net(&model, path, set, &format!("ONNX{by}, opset {}", model.opset))?, warnings))
}

/// The net of `model`, which stands in the file at `path`, changed by `set`; `kind` says what file it is.
///
/// # Errors
/// Everything that is wrong with it or not supported.
pub(super) fn net(model: &Model<'_>, path: &Path, set: &[(String, String)], kind: &str) -> Result<Net, Diagnostics> {
    let one = |d: Diagnostic| vec![d];
    let shown = path.display().to_string();
    let inputs = ports::inputs(model).map_err(one)?;

    let source = Arc::new(Source { name: shown.clone(), text: String::new() });
    let span = Span { source, range: 0..0 };
    let stem = path.file_stem().map_or_else(String::new, |s| s.to_string_lossy().into_owned());
    let mut root = ports::describe(&inputs, &as_identifier(&stem), &span);
    sets::apply(&mut root, set)?;
    let mut mistakes = ports::still_open(&root, &inputs);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let frame = check_frame(&root, &mut mistakes, |_, _| {});
    let (Some(frame), []) = (frame, mistakes.as_slice()) else { return Err(mistakes) };

    let outputs = wanted(model, frame.outputs.as_deref()).map_err(one)?;
    let inputs = ports::fixed(inputs, &frame).map_err(one)?;
    let imported = import::import(model, &inputs, &outputs, External::beside(path))?;
    let graph = graph::canonical(&imported.graph, &frame)?;
    verify::verify(&graph).map_err(|e| one(Diagnostic::error(format!("the model cannot be used: {}", e[0]))))?;
    let mut files = vec![path.to_path_buf()];
    files.extend(imported.files);
    let base = path.parent().unwrap_or(Path::new(""));
    let labels = labels::read(frame.labels.as_ref(), None, base, &graph, &mut files, &mut mistakes);
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let weights_from = format!("{shown} ({kind}, {} weights)", imported.read);
    let (name, preprocess, passes, plan) = (frame.name, frame.preprocess, frame.passes, frame.plan);
    Ok(Net { name, graph, preprocess, labels, weights_from, passes, plan, tuned: None, files })
}

/// The bytes of the model at `path`.
pub(super) fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    // Without it the last piece of a file could double the memory of all before it.
    let len = file.metadata()?.len().min(MAX_BYTES + 1);
    bytes.try_reserve_exact(usize::try_from(len).unwrap_or(usize::MAX)).map_err(std::io::Error::other)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(std::io::Error::other("it is longer than 2 GiB"));
    }
    Ok(bytes)
}

/// The messages of the file `shown`.
fn open<'a>(bytes: &'a [u8], shown: &str, warnings: &mut Diagnostics) -> Result<Model<'a>, Diagnostic> {
    let model = Model::read(bytes).map_err(|e| {
        let d = Diagnostic::error(format!("{shown} is not a whole ONNX model: {e}"));
        d.help("it may be cut off: compare its size with the original's")
    })?;
    if !model.has_graph || model.ir_version < 3 {
        return Err(Diagnostic::error(format!("{shown} is not an ONNX model: there is no graph in it")));
    }
    if model.opset < OLDEST {
        let d = Diagnostic::error(format!("{shown} uses version {} of ONNX's operators, before {OLDEST}", model.opset));
        return Err(d.help("convert it with `onnx.version_converter`, or export it anew"));
    }
    if model.opset > NEWEST {
        let message = format!("{shown} uses version {} of ONNX's operators; mnc knows them up to {NEWEST}", model.opset);
        warnings.push(Diagnostic::warning(message).help("compare results with another tool's"));
    }
    if model.graph.sparse > 0 {
        return Err(Diagnostic::error(format!("{shown} has sparse constants, which mnc does not support")));
    }
    Ok(model)
}

/// The names of the results that are wanted.
fn wanted<'a>(model: &Model<'a>, chosen: Option<&[(String, String, Span)]>) -> Result<Vec<(String, &'a str)>, Diagnostic> {
    let own: Vec<&str> = model.graph.outputs.iter().map(|o| o.name).collect();
    if own.len() > MAX_ENDS && chosen.is_none() {
        let d = Diagnostic::error(format!("the model has {} outputs, more than {MAX_ENDS}", own.len()));
        return Err(d.help("choose among them: `--set outputs=[\"NAME\"]`"));
    }
    let Some(chosen) = chosen else {
        // Two names may be one when they are cleaned, or from the start.
        let mut all: Vec<(String, &str)> = Vec::new();
        for &name in &own {
            let called = import::clean(name);
            let taken = |called: &str| all.iter().any(|(c, _)| c == called);
            let numbered = || (2..).map(|i| format!("{called}_{i}")).find(|c| !taken(c)).unwrap_or_default();
            let called = if taken(&called) { numbered() } else { called };
            all.push((called, name));
        }
        return if own.is_empty() { Err(Diagnostic::error("the model has no output")) } else { Ok(all) };
    };
    let made = |name: &str| model.graph.nodes.iter().flat_map(|n| &n.outputs).copied().find(|o| *o == name);
    let mut all = Vec::new();
    for (called, name, span) in chosen {
        if let Some(name) = made(name) {
            all.push((import::clean(called), name));
        } else {
            let d = Diagnostic::error(format!("no node of the model makes a value `{name}`")).at(span, "unknown value");
            return Err(match crate::diag::nearest(name, own.iter().copied()) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None => d.help(format!("its outputs are {}", own.join(", "))),
            });
        }
    }
    Ok(all)
}
