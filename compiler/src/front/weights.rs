//! Weights from a checkpoint: every tensor of the net is found under the publisher's name, its shape compared, its layout
//! brought to the ops' own; whatever does not fit is named before anything is compiled.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::ast::{Layout, Spec};
use super::checkpoint::{Checkpoint, Info};
use super::graph::{self, Wanted};
use super::layer::{Layer, LayerKind, Tensor};
use super::lower::{Lowered, Plain};
use super::names::{Candidate, candidates, leaves};
use crate::diag::{Diagnostic, Diagnostics, Span, nearest};

/// A checkpoint that fits the net.
pub(super) struct Fitted {
    file: Checkpoint,
    /// For every layer, the names of its tensors in the file.
    found: Found,
    keras: bool,
    /// One line for the user.
    pub(super) from: String,
    /// Names of tensors with infinite or undefined elements or negative variances, found while reading.
    bad: RefCell<Vec<String>>,
}

/// The tensors a layer has.
fn tensors_of(layer: &Layer) -> Vec<Tensor> {
    let mut all = vec![Tensor::Weight];
    if layer.bias {
        all.push(Tensor::Bias);
    }
    if layer.batch_norm {
        all.extend([Tensor::Gamma, Tensor::Beta, Tensor::Mean, Tensor::Variance]);
    }
    all
}

/// Opens the checkpoint at `path` and fits it to the layers of `dry`; `at` is the place in the spec that names it.
///
/// # Errors
/// Everything about the file that does not fit.
pub(super) fn fit(spec: &Spec, path: &Path, at: Option<&Span>, dry: &Lowered) -> Result<Fitted, Diagnostics> {
    let place = |d: Diagnostic| match at {
        Some(span) => d.at(span, ""),
        None => d,
    };
    let mut out = Diagnostics::new();
    check_map(spec, &dry.layers, &mut out);
    // One that the command line names need not be the spec's.
    let mut file = match Checkpoint::open(path, at.and(spec.weights.sha256.as_ref())) {
        Ok(file) => file,
        Err(d) => {
            out.push(if d.label.is_some() { d } else { place(d) });
            return Err(out);
        }
    };

    let mut best = match_names(spec, &file, dry);
    while matched(&best.0) == 0 && file.strip_wrapper() {
        best = match_names(spec, &file, dry);
    }
    let (found, candidate) = best;
    let check = Check { path, layers: &dry.layers, file: &file, found: &found, candidate: &candidate };
    let mut problems = Diagnostics::new();
    let keras = check.shapes(spec, &mut problems);
    if let Some(d) = check.folded() {
        problems.push(d);
    } else if !check.missing(&mut problems) && !spec.weights.ignore_extra {
        check.extra(&dry.plain, &mut problems);
    }
    check.plain(&dry.plain, &mut problems);
    out.extend(problems.into_iter().map(|d| if d.label.is_some() { d } else { place(d) }));
    if !out.is_empty() {
        return Err(out);
    }
    let from = format!("{} ({} names, {} tensors)", path.display(), candidate.who, matched(&found) + dry.plain.len());
    Ok(Fitted { file, found, keras, from, bad: RefCell::default() })
}

/// The names in the file of every layer's tensors.
type Found = Vec<BTreeMap<u8, String>>;

fn matched(found: &Found) -> usize {
    found.iter().map(BTreeMap::len).sum()
}

/// The naming that finds most tensors, the first of equals, and what it finds.
fn match_names(spec: &Spec, file: &Checkpoint, dry: &Lowered) -> (Found, Candidate) {
    let mapped = |l: &Layer| spec.weights.map.keys().any(|k| *k == l.name || k.strip_prefix(&l.name) == Some(".weight"));
    let names = file.tensors.keys().map(String::as_str);
    let mut all = candidates(spec.weights.names, &dry.units, &dry.layers, names, &mapped).into_iter();
    let first = all.next().expect("every naming has a candidate");
    let mut best = (find_all(spec, file, &dry.layers, &first), first);
    for candidate in all {
        let found = find_all(spec, file, &dry.layers, &candidate);
        if matched(&found) > matched(&best.0) {
            best = (found, candidate);
        }
    }
    best
}

impl Fitted {
    /// The elements of `tensor` of the layer at `index`, in the op's layout.
    pub(super) fn read(&self, index: usize, layer: &Layer, tensor: Tensor) -> Vec<f32> {
        let Some((name, info)) = self.found[index].get(&(tensor as u8)).and_then(|n| Some((n, self.file.tensors.get(n)?))) else {
            return Vec::new();
        };
        let data = self.file.read(info);
        let negative = tensor == Tensor::Variance && data.iter().any(|x| *x < 0.0);
        if negative || !data.iter().all(|x| x.is_finite()) {
            self.bad.borrow_mut().push(name.clone());
        }
        match tensor {
            Tensor::Weight if !self.keras => to_op_layout(&data, layer.kind),
            Tensor::Weight | Tensor::Bias | Tensor::Gamma | Tensor::Beta | Tensor::Mean | Tensor::Variance => data,
        }
    }

    /// The elements of a tensor of a layer among the blocks, in the checkpoint's order.
    pub(super) fn read_plain(&self, wanted: &Wanted<'_>) -> Vec<f32> {
        let Some(info) = self.file.tensors.get(&wanted.tensor.name) else { return Vec::new() };
        let data = self.file.read(info);
        let negative = wanted.role == graph::Role::Variance && data.iter().any(|x| *x < 0.0);
        if negative || (wanted.role != graph::Role::Constant && !data.iter().all(|x| x.is_finite())) {
            self.bad.borrow_mut().push(wanted.tensor.name.clone());
        }
        data
    }

    /// The mistake of having tensors with infinite or undefined elements or negative variances, if so.
    pub(super) fn bad_numbers(&self, path: &Path) -> Option<Diagnostic> {
        let bad = self.bad.borrow();
        if bad.is_empty() {
            return None;
        }
        let what = format!(
            "infinite, undefined or (in a variance) negative elements in {} of {}: {}",
            tensors(bad.len()),
            path.display(),
            some(&bad)
        );
        Some(Diagnostic::error(what).help("was the training run healthy, and the file copied whole?"))
    }
}

/// OIHW to HWIO; `[C * m, 1, kh, kw]` to `[kh][kw][C * m]`; `[out, in]` to `[in][out]`.
pub(super) fn to_op_layout(data: &[f32], kind: LayerKind) -> Vec<f32> {
    let (inputs, taps) = match kind {
        LayerKind::Conv { kernel, in_c, groups, .. } => (in_c / groups, kernel[0] * kernel[1]),
        LayerKind::Depthwise { kernel, .. } => (1, kernel[0] * kernel[1]),
        LayerKind::Dense { in_c, .. } => (in_c, 1),
    };
    let mut out = Vec::with_capacity(data.len());
    for tap in 0..taps {
        for input in 0..inputs {
            let first = (input * taps + tap).min(data.len());
            out.extend(data[first..].iter().step_by(inputs * taps));
        }
    }
    out
}

/// Keys of `[weights.map]` that name nothing.
fn check_map(spec: &Spec, layers: &[Layer], out: &mut Diagnostics) {
    let known = |key: &str| {
        layers.iter().any(|l| {
            key.strip_prefix(&l.name).is_some_and(|rest| {
                rest.is_empty() || (l.batch_norm && rest == ".bn") || tensors_of(l).into_iter().any(|t| rest == spec_leaf(t))
            })
        })
    };
    for (key, (_, span)) in &spec.weights.map {
        if !known(key) {
            let d = Diagnostic::error(format!("the net has no layer or tensor `{key}`")).at(span, "nothing to map");
            out.push(match nearest(key, layers.iter().map(|l| l.name.as_str())) {
                Some(near) => d.help(format!("did you mean `{near}`?")),
                None => d.help(format!("its first layer is `{}`", layers.first().map_or("", |l| &l.name))),
            });
        }
    }
}

/// What the `spec` naming appends to a layer's name.
pub(super) fn spec_leaf(tensor: Tensor) -> &'static str {
    match tensor {
        Tensor::Weight => ".weight",
        Tensor::Bias => ".bias",
        Tensor::Gamma => ".bn.weight",
        Tensor::Beta => ".bn.bias",
        Tensor::Mean => ".bn.running_mean",
        Tensor::Variance => ".bn.running_var",
    }
}

/// The names in the file of every tensor of every layer, where they are there.
fn find_all(spec: &Spec, file: &Checkpoint, layers: &[Layer], candidate: &Candidate) -> Found {
    let map = |key: &str| spec.weights.map.get(key).map(|(name, _)| name.as_str());
    layers
        .iter()
        .zip(&candidate.prefixes)
        .map(|(layer, prefix)| {
            let mut found = BTreeMap::new();
            for tensor in tensors_of(layer) {
                let norm = !matches!(tensor, Tensor::Weight | Tensor::Bias);
                let exact = map(&format!("{}{}", layer.name, spec_leaf(tensor)));
                let own = if norm { map(&format!("{}.bn", layer.name)) } else { map(&layer.name) };
                let given = prefix.as_ref().map(|(conv, bn)| if norm { bn.as_str() } else { conv.as_str() });
                let name = match (exact, own.or(given)) {
                    (Some(name), _) => file.tensors.contains_key(name).then(|| name.to_string()),
                    (None, Some(prefix)) => find(file, prefix, tensor),
                    (None, None) => None,
                };
                if let Some(name) = name {
                    found.insert(tensor as u8, name);
                }
            }
            found
        })
        .collect()
}

/// The tensor of the file under `prefix`.
fn find(file: &Checkpoint, prefix: &str, tensor: Tensor) -> Option<String> {
    leaves(tensor).iter().find_map(|leaf| {
        let name = format!("{prefix}{leaf}");
        if file.tensors.contains_key(&name) {
            return Some(name);
        }
        let name = format!("{name}:0");
        file.tensors.contains_key(&name).then_some(name)
    })
}

/// The first few of `names`, and how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0..=SHOWN => names.join(", "),
        n => format!("{} and {} more", names[..SHOWN].join(", "), n - SHOWN),
    }
}

/// `1 tensor`, `2 tensors`
fn tensors(n: usize) -> String {
    if n == 1 { "1 tensor".into() } else { format!("{n} tensors") }
}

/// What is compared.
struct Check<'a> {
    path: &'a Path,
    layers: &'a [Layer],
    file: &'a Checkpoint,
    found: &'a Found,
    candidate: &'a Candidate,
}

impl Check<'_> {
    fn info(&self, index: usize, tensor: Tensor) -> Option<(&str, &Info)> {
        let name = self.found[index].get(&(tensor as u8))?;
        Some((name, self.file.tensors.get(name)?))
    }

    /// Compares shapes and element types, and returns whether the file has Keras' layout.
    fn shapes(&self, spec: &Spec, out: &mut Diagnostics) -> bool {
        let weights = || (0..self.layers.len()).filter_map(|i| Some((&self.layers[i], self.info(i, Tensor::Weight)?.1)));
        let keras = match spec.weights.layout {
            Layout::Torch => false,
            Layout::Keras => true,
            Layout::Auto => {
                let (mut torch, mut keras) = (0, 0);
                for (layer, info) in weights() {
                    let (t, k) = (same(&info.shape, &layer.kind.torch_shape()), same(&info.shape, &layer.kind.keras_shape()));
                    torch += usize::from(t && !k);
                    keras += usize::from(k && !t);
                }
                keras > torch
            }
        };
        let mut wrong = Vec::new();
        let mut types = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            for tensor in tensors_of(layer) {
                let Some((name, info)) = self.info(index, tensor) else { continue };
                let want = match tensor {
                    Tensor::Weight if keras => layer.kind.keras_shape(),
                    Tensor::Weight => layer.kind.torch_shape(),
                    Tensor::Bias | Tensor::Gamma | Tensor::Beta | Tensor::Mean | Tensor::Variance => vec![layer.kind.out_c()],
                };
                if !info.is_float() {
                    types.push(format!("{name} ({})", info.dtype()));
                }
                if !same(&info.shape, &want) {
                    wrong.push(format!("{name} is {:?}, the spec needs {want:?}", info.shape));
                }
            }
        }
        if !types.is_empty() {
            let what = format!("no floats in {} of {}: {}", tensors(types.len()), self.path.display(), some(&types));
            out.push(Diagnostic::error(what).help("f32, f16, bf16 and f64 are read"));
        }
        if !wrong.is_empty() {
            let what = format!("another shape in {} of {}: {}", tensors(wrong.len()), self.path.display(), some(&wrong));
            let d = Diagnostic::error(what);
            out.push(match self.classes(keras, wrong.len()) {
                Some(help) => d.help(help),
                None => d.help("compare `alpha`, `round_to`, `out`, `kernel` and `classes` with the checkpoint's"),
            });
        }
        keras
    }

    /// The mend where only the number of classes differs.
    fn classes(&self, keras: bool, wrong: usize) -> Option<String> {
        let last = self.layers.len().checked_sub(1)?;
        let layer = &self.layers[last];
        let (_, info) = self.info(last, Tensor::Weight)?;
        let stripped: Vec<usize> = info.shape.iter().copied().filter(|&d| d != 1).collect();
        let found = *if keras { stripped.last() } else { stripped.first() }?;
        let want = layer.kind.out_c();
        if found == want || wrong > self.found[last].len() {
            return None;
        }
        let background = match (want, found) {
            (1000, 1001) => " (the first one is the background)",
            (1001, 1000) => " (it has no background class)",
            _ => "",
        };
        Some(format!("the checkpoint has {found} classes{background}, the spec {want}: write `classes = {found}`"))
    }

    /// Reports tensors that are not there; returns whether that is all of them.
    fn missing(&self, out: &mut Diagnostics) -> bool {
        let mut missing = Vec::new();
        let mut total = 0;
        for (index, layer) in self.layers.iter().enumerate() {
            for tensor in tensors_of(layer) {
                total += 1;
                if !self.found[index].contains_key(&(tensor as u8)) {
                    missing.push(self.expected(index, layer, tensor));
                }
            }
        }
        if missing.is_empty() {
            return false;
        }
        let n = missing.len();
        let what = format!("{} lacks {n} of the {total} tensors that the net needs: {}", self.path.display(), some(&missing));
        let names: Vec<String> = self.file.tensors.keys().take(4).cloned().collect();
        let help = match n == total {
            true => format!("its tensors are called {}, …: no naming fits; write a table `[weights.map]`", names.join(", ")),
            false => {
                format!("compared by {} names; another naming or a table `[weights.map]` may fit better", self.candidate.who)
            }
        };
        out.push(Diagnostic::error(what).help(help));
        n == total
    }

    /// What a missing tensor would be called.
    fn expected(&self, index: usize, layer: &Layer, tensor: Tensor) -> String {
        let norm = !matches!(tensor, Tensor::Weight | Tensor::Bias);
        match &self.candidate.prefixes[index] {
            Some((conv, bn)) => {
                let all = leaves(tensor);
                let leaf = all.iter().find(|l| l.starts_with(self.candidate.separator)).unwrap_or(&all[0]);
                format!("{}{leaf}", if norm { bn } else { conv })
            }
            None => format!("{}{}", layer.name, spec_leaf(tensor)),
        }
    }

    /// What is wrong with the tensors of layers among the blocks.
    fn plain(&self, plain: &[Plain], out: &mut Diagnostics) {
        for Plain { tensor, shape } in plain {
            let (name, path) = (&tensor.name, self.path.display());
            let Some(info) = self.file.tensors.get(name) else {
                let d = Diagnostic::error(format!("{path} has no tensor `{name}`")).at(&tensor.span, "needed here");
                out.push(match nearest(name, self.file.tensors.keys().map(String::as_str)) {
                    Some(near) => d.help(format!("did you mean `{near}`?")),
                    None => d.help("a tensor is called after its layer unless a key of the layer names it"),
                });
                continue;
            };
            if !info.is_float() || info.shape != *shape {
                let message = format!("`{name}` is {} {:?}, not floats {shape:?}", info.dtype(), info.shape);
                out.push(Diagnostic::error(message).at(&tensor.span, "by this layer"));
            }
        }
    }

    /// Tensors that nothing reads.
    fn extra(&self, plain: &[Plain], out: &mut Diagnostics) {
        let mut used: HashSet<&str> = self.found.iter().flat_map(|f| f.values().map(String::as_str)).collect();
        used.extend(plain.iter().map(|p| p.tensor.name.as_str()));
        let extra: Vec<String> = self
            .file
            .tensors
            .keys()
            .filter(|n| !used.contains(n.as_str()) && !n.ends_with("num_batches_tracked"))
            .cloned()
            .collect();
        if !extra.is_empty() {
            let what =
                format!("{} has {} that the net does not use: {}", self.path.display(), tensors(extra.len()), some(&extra));
            out.push(Diagnostic::error(what).help("if that is as it should be, write `extra = \"ignore\"` in `[weights]`"));
        }
    }

    /// One sentence where the file has biases for all the batch norm that the spec wants, or the other way round.
    fn folded(&self) -> Option<Diagnostic> {
        let pairs = || self.layers.iter().zip(&self.candidate.prefixes).filter_map(|(l, p)| Some((l, p.as_ref()?)));
        let path = self.path.display();
        let norms = pairs().filter(|(l, _)| l.batch_norm);
        let none = self.found.iter().all(|f| !f.contains_key(&(Tensor::Gamma as u8)));
        let mut biases = norms.clone().map(|(_, (conv, _))| find(self.file, conv, Tensor::Bias).is_some());
        if none && norms.count() > 0 && biases.all(|b| b) {
            let d = Diagnostic::error(format!("in {path} batch norm is folded into the convolutions"));
            return Some(d.help("write `batch_norm = false` and `bias = true` in `[net]`"));
        }
        let bare = pairs().filter(|(l, (_, bn))| !l.batch_norm && !matches!(l.kind, LayerKind::Dense { .. }) && !bn.is_empty());
        let mut norms = bare.clone().map(|(_, (_, bn))| find(self.file, bn, Tensor::Mean).is_some());
        if bare.count() > 0 && norms.all(|n| n) {
            let d = Diagnostic::error(format!("in {path} the convolutions are followed by batch norm"));
            return Some(d.help("write `batch_norm = true` in `[net]`, and `bias = false` unless there are biases too"));
        }
        None
    }
}

/// Whether two shapes agree up to dimensions of 1.
fn same(a: &[usize], b: &[usize]) -> bool {
    a == b || a.iter().filter(|&&d| d != 1).eq(b.iter().filter(|&&d| d != 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_transposed() {
        let oihw: Vec<f32> = (0..2 * 3 * 2).map(|x| x as f32).collect(); // 2 out, 3 in, 1x2
        let conv = LayerKind::Conv { kernel: [1, 2], in_c: 3, out_c: 2, groups: 1 };
        let want = [0.0, 6.0, 2.0, 8.0, 4.0, 10.0, 1.0, 7.0, 3.0, 9.0, 5.0, 11.0];
        assert_eq!(to_op_layout(&oihw, conv), want);
        let dense = LayerKind::Dense { in_c: 3, out_c: 2 };
        assert_eq!(to_op_layout(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], dense), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let depthwise = LayerKind::Depthwise { kernel: [1, 2], channels: 3, multiplier: 1 };
        assert_eq!(to_op_layout(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], depthwise), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }
}
