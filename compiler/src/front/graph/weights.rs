//! Tensors of a spec of layers: drawn, or read by name; and written.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::describe::Stored;
use super::lower::{Role, Wanted, lower, turned};
use super::{Source, Spec};
use crate::diag::{Diagnostic, Diagnostics, Span, nearest};
use crate::front::checkpoint::Checkpoint;
use crate::front::seed;
use crate::ir::Graph;

/// The graph with weights in it, and where they came from.
pub(super) fn lowered(
    spec: &Spec,
    base: &Path,
    given: Option<&Path>,
    files: &mut Vec<PathBuf>,
) -> Result<(Graph, String), Diagnostics> {
    let (path, at, sha256, ignore_extra) = match (given, &spec.source) {
        (Some(path), Source::File { ignore_extra, .. }) => (path.to_path_buf(), None, None, *ignore_extra),
        (Some(path), Source::Seed(_)) => (path.to_path_buf(), None, None, false),
        (None, Source::File { path, span, sha256, ignore_extra }) => {
            (base.join(path), Some(span), sha256.as_ref(), *ignore_extra)
        }
        (None, Source::Seed(seed)) => {
            let graph = lower(&spec.frame, &spec.layers, &mut |w| Ok(drawn(*seed, w)))?;
            return Ok((graph, format!("seeded random weights (seed {seed})")));
        }
    };
    let place = |d: Diagnostic| at.map_or_else(|| d.clone(), |span: &Span| d.clone().at(span, ""));
    let file = Checkpoint::open(&path, sha256).map_err(|d| vec![if d.label.is_some() { d } else { place(d) }])?;
    let mut used = std::collections::BTreeSet::new();
    let mut bad = Vec::new();
    let graph = lower(&spec.frame, &spec.layers, &mut |w| {
        used.insert(w.tensor.name.clone());
        let data = read(&file, w, &path)?;
        let negative = w.role == Role::Variance && data.iter().any(|x| *x < 0.0);
        if negative || (w.role != Role::Constant && !data.iter().all(|x| x.is_finite())) {
            bad.push(w.tensor.name.clone());
        }
        Ok(data)
    })?;
    let mut mistakes = Diagnostics::new();
    let list = |names: &[String]| names.iter().take(10).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if !bad.is_empty() {
        let what = format!("infinite, undefined or (in a variance) negative elements in {}", list(&bad));
        mistakes.push(place(Diagnostic::error(what).help("was the training run healthy, and the file copied whole?")));
    }
    let extra: Vec<String> = file.tensors.keys().filter(|n| !used.contains(*n)).cloned().collect();
    if !extra.is_empty() && !ignore_extra {
        let what = format!(
            "the net has no use for {} of the {} tensors in {}: {}",
            extra.len(),
            file.tensors.len(),
            path.display(),
            list(&extra)
        );
        mistakes.push(place(Diagnostic::error(what).help("`extra = \"ignore\"` in `[weights]` passes over them")));
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let from = format!("{} ({} tensors)", path.display(), used.len());
    files.push(path);
    Ok((graph, from))
}

/// Random elements, by the tensor's name.
pub(in crate::front) fn drawn(seed: u64, wanted: &Wanted<'_>) -> Vec<f32> {
    let n = wanted.shape.iter().product();
    // A uniform number from -a to a has the variance a^2 / 3; weights have 2 / fan_in, which relu halves again.
    let (centre, half) = match wanted.role {
        Role::Weight { fan_in } => (0.0, (6.0 / fan_in as f64).sqrt()),
        Role::Bias => (0.0, 0.1),
        Role::Gamma => (1.0, 0.2),
        Role::Beta | Role::Mean => (0.0, 0.2),
        Role::Variance => (1.0, 0.2),
        Role::Constant => (0.0, 1.0),
    };
    seed::named(seed, &wanted.tensor.name, n, centre, half)
}

/// A tensor of the checkpoint.
fn read(file: &Checkpoint, wanted: &Wanted<'_>, path: &Path) -> Result<Vec<f32>, Diagnostic> {
    let (name, span) = (&wanted.tensor.name, &wanted.tensor.span);
    let Some(info) = file.tensors.get(name) else {
        let d = Diagnostic::error(format!("{} has no tensor `{name}`", path.display())).at(span, "needed here");
        return Err(match nearest(name, file.tensors.keys().map(String::as_str)) {
            Some(near) => d.help(format!("did you mean `{near}`?")),
            None => d.help("a tensor is called after its layer unless a key of the layer names it"),
        });
    };
    if !info.is_float() {
        return Err(
            Diagnostic::error(format!("`{name}` has elements of type {}, not floats", info.dtype())).at(span, "needed here")
        );
    }
    if info.shape != wanted.shape {
        let message = format!("`{name}` has the shape {:?}, {:?} is needed", info.shape, wanted.shape);
        return Err(Diagnostic::error(message).at(span, "by this layer"));
    }
    Ok(file.read(info))
}

/// A safetensors file of tensors, each with its name, shape and elements.
pub(in crate::front) fn serialized<'t>(
    tensors: impl Iterator<Item = (&'t str, Vec<usize>, Cow<'t, [f32]>)>,
) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (name, shape, elements) in tensors {
        let data: Vec<u8> = elements.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.push((name, shape, data));
    }
    let views: Result<Vec<_>, _> =
        bytes.iter().map(|(name, shape, data)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), data)?))).collect();
    let views = views.map_err(|e: safetensors::SafeTensorError| e.to_string())?;
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

impl Stored {
    /// The elements in the order of the checkpoint.
    pub(in crate::front) fn data(&self, graph: &Graph) -> Vec<f32> {
        let data = graph.consts.get(self.id);
        if self.perm.iter().enumerate().all(|(i, &p)| i == p) {
            return data.to_vec();
        }
        // The op has dimension `perm[i]` of the checkpoint at `i`: back again.
        let dims: Vec<usize> = self.perm.iter().map(|&p| self.dims[p]).collect();
        let back: Vec<usize> = (0..dims.len()).map(|p| self.perm.iter().position(|&q| q == p).expect("a permutation")).collect();
        turned(data, &dims, &back)
    }
}
