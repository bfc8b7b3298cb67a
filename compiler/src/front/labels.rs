//! Class names: from the spec or a file beside it, one for every output.

use std::path::{Path, PathBuf};

use super::ast::{Labels, LabelsFrom};
use super::read_text;
use crate::diag::{Diagnostic, Diagnostics, Span};
use crate::ir::Graph;

/// Longest label file that is read.
const MAX_BYTES: u64 = 16 << 20;

/// The names that `labels` stands for, and whether `classes` and their number agree with the outputs of `graph`.
pub(super) fn read(
    labels: Option<&Labels>,
    classes: Option<&(usize, Span)>,
    base: &Path,
    graph: &Graph,
    files: &mut Vec<PathBuf>,
    out: &mut Diagnostics,
) -> Vec<String> {
    // Of several outputs one has a number a class.
    let is_there = |n: usize| graph.outputs.iter().any(|&id| graph.shape(id).c == n);
    let outputs = graph.shape(graph.outputs[0]).c;
    if let Some((classes, span)) = classes
        && !is_there(*classes)
    {
        let message = format!("the net has {outputs} outputs, `classes` says {classes}");
        out.push(
            Diagnostic::error(message)
                .at(span, "not what the last block gives")
                .help("leave `out` of the last `dense` block away"),
        );
        return Vec::new();
    }
    let Some(labels) = labels else { return Vec::new() };
    let names: Vec<String> = match &labels.from {
        LabelsFrom::Inline(names) => names.clone(),
        LabelsFrom::File(path) => {
            let path = base.join(path);
            match read_text(&path, MAX_BYTES) {
                Ok(text) => {
                    files.push(path);
                    text.trim_start_matches('\u{feff}').trim_end().lines().map(|l| l.trim().to_string()).collect()
                }
                Err(e) => {
                    let message = format!("cannot read the labels {}: {e}", path.display());
                    out.push(Diagnostic::error(message).at(&labels.span, "").help("the path is relative to the spec"));
                    return Vec::new();
                }
            }
        }
    };
    if !is_there(names.len()) {
        let d = Diagnostic::error(format!("{} labels for {outputs} outputs", names.len())).at(&labels.span, "");
        out.push(match (names.len(), outputs) {
            (1001, 1000) => d.help("the list begins with a background class that this net has not"),
            (1000, 1001) => d.help("this net has a background class in front, the list has none"),
            _ => d,
        });
    }
    names
}
