//! Front ends: text in, a checked [`Net`] out. Parse, check, lower; every mistake of an input is collected before stopping.
//!
//! ```text
//! spec.toml | macro tokens  ->  Value tree   value.rs     spans kept; --set applied (sets.rs)
//!    -> Spec                                 check/       against the grammar, which ast.rs documents
//!    -> Graph                                lower.rs     bare ops; layer.rs lists what has weights
//!    with weights                            seed.rs, or checkpoint.rs + names.rs
//! with `[[layer]]` for `[[block]]` -> Graph  graph/       any graph of ops, and back: a net as a spec
//!                      Graph -> `[[block]]`  blocks/      the blocks of the family in such a graph, for `mnc import`
//! model.onnx                -> Graph         onnx/        layouts turned, shape arithmetic done; `[net]`, `[passes]`, `[plan]` by --set
//! model.tflite              -> the same      tflite/      operators written as ONNX's
//! ```
//! # Limits
//! A file cannot ask for more than this; what does is refused with the place, before anything of the size is allocated:
//!
//! | what | most | where |
//! |---|---|---|
//! | a spec; labels; measured stages | 1 MiB; 16 MiB; 1 MiB | here, `labels.rs`, `tune.rs` |
//! | rows or columns, channels, windows, nodes of a net | [`ast::MAX_SIDE`], [`ast::MAX_CHANNELS`], [`ast::MAX_KERNEL`], [`ast::MAX_NODES`] | `check/`, `lower.rs` |
//! | elements of a tensor, weights of a net | [`ast::MAX_ELEMENTS`], [`ast::MAX_WEIGHTS`] | the same, `graph/lower.rs`, `onnx/import.rs` |
//! | tables of the layers of a net; inputs or outputs | 64 MiB; 64 | `graph/lower.rs`, `check/frame.rs` |
//! | an ONNX or TFLite file; nodes, constants in it; what all nodes read and make; axes | 2 GiB; 100 000, 50 000; 400 000; 32 | `onnx/proto.rs`, `tflite/schema.rs` |
//! | constants of a model: read, computed, and in the graph | 64 MiB, and 32 bytes for each of its files | `onnx/budget.rs` |
//!
//! Tensors of a checkpoint or model are read only where they lie within the file and have the length that their shape needs. A seeded
//! spec alone makes weights of nothing: up to `MAX_WEIGHTS`, as it says. Pictures have limits of their own (`image.rs`).
//!
//! # Memory
//! So loading a file of `n` bytes never has more alive at one time than
//!
//! | file | most |
//! |---|---|
//! | ONNX, TFLite | 160 MiB + 64 `n`, with the files of its constants in `n` |
//! | safetensors | 1 MiB + 48 `n` |
//! | spec | 128 MiB + 768 `n` |
//! | either of these | and twice the weights that the spec asks for, 4 bytes each |
//!
//! Real models take 4 to 8 `n`. `tests/allocation` counts, on all kinds of files that ask for more.
//!
//! To add a block kind: a row of the grammar and a variant of [`ast::Body`]; then the compiler names every `match` that must
//! learn it; its word in `check/block.rs`. `blocks/mod.rs` says how imported models are taught to be written with it.

pub mod ast;
mod blocks;
mod check;
mod checkpoint;
mod graph;
mod half;
mod labels;
mod layer;
mod lower;
mod names;
mod onnx;
mod seed;
pub mod sets;
mod tflite;
pub mod tune;
pub mod value;
mod weights;

use std::io::Read;
use std::path::{Path, PathBuf};

pub use self::blocks::write;
pub use self::graph::{Written, write_layers};
use self::lower::{Ask, Lowered, lower};
use self::value::{Value, parse_toml};
use crate::diag::{Diagnostic, Diagnostics};
use crate::ir::Graph;

/// What every front end makes: the graph as specified, nothing fused, weights in place, and what goes around it.
#[derive(Debug, Clone)]
pub struct Net {
    /// The spec's name, a Rust and C identifier.
    pub name: String,
    /// The network.
    pub graph: Graph,
    /// How a picture becomes the input.
    pub preprocess: Preprocess,
    /// Class names in output order; empty where the spec has none.
    pub labels: Vec<String>,
    /// Where the weights came from, one line for the user ("seeded random weights (seed 1)").
    pub weights_from: String,
    /// Switches of the optional passes.
    pub passes: PassOptions,
    /// What the plan is made for.
    pub plan: PlanOptions,
    /// Stages that were measured on some machine; used where they fit.
    pub tuned: Option<tune::Tuned>,
    /// Files the net was made of (spec, checkpoint, labels, measured stages), for rebuild tracking.
    pub files: Vec<PathBuf>,
}

/// Resampling filter; both are Pillow's antialiased ones (support grows with the scale).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5.
    Bicubic,
}

/// How the original picture is brought to the input's height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side becomes this long (the longer one is truncated to an integer), then the centre is cropped.
    ShorterSide(usize),
    /// Straight to the input's size, ignoring the aspect ratio.
    Squash,
}

/// Order of colour channels in the input tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// How a picture becomes the input tensor: resize, crop, then `x[c] = (p / 255 - mean[c]) / std[c]` in channel order.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// Geometry. A picture that already has the input's size is taken as it is.
    pub resize: Resize,
    /// Resampling.
    pub filter: Filter,
    /// Channel order of the input tensor; ignored with one channel (grey, by the ITU-R 601 luma as Pillow's `convert("L")`).
    pub order: ColorOrder,
    /// One element an input channel, in the input tensor's channel order, in units of the pixel range 0..1.
    pub mean: Vec<f64>,
    /// One element an input channel.
    pub std: Vec<f64>,
    /// The graph itself starts with [`crate::ir::op::Normalize`] and takes raw RGB pixel values 0..255 as f32;
    /// otherwise the caller normalises.
    pub in_graph: bool,
}

/// What `separate` does to standard convolutions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Separate {
    /// Nothing.
    Off,
    /// Every k x k convolution becomes depthwise + BN + activation + pointwise with weights of its own (an untrained spec).
    Structure,
    /// This many terms of the singular value decomposition per input channel.
    Rank(usize),
    /// As few terms as keep the relative weight error (Frobenius) of every layer within this bound.
    MaxError(f64),
}

/// The `[passes]` table of a spec.
#[derive(Debug, Clone, PartialEq)]
pub struct PassOptions {
    /// Standard convolutions to depthwise + pointwise.
    pub separate: Separate,
    /// `separate` may also rewrite the first convolution (the paper leaves it alone).
    pub separate_stem: bool,
    /// Names of passes switched off.
    pub skip: Vec<String>,
}

impl Default for PassOptions {
    fn default() -> Self {
        Self { separate: Separate::Off, separate_stem: false, skip: Vec::new() }
    }
}

/// What a plan shall be good at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefer {
    /// Few cycles.
    Speed,
    /// The smallest memory, then few cycles within it.
    Memory,
}

/// Whether layers are streamed into one another, so that tensors between them never exist as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Where it serves what the plan prefers.
    Auto,
    /// Nowhere: layer by layer, every tensor whole and without gaps.
    Never,
    /// Wherever it is possible.
    Always,
}

/// The `[plan]` table of a spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PlanOptions {
    /// Most threads that share an inference.
    pub threads: usize,
    /// Speed or memory.
    pub prefer: Prefer,
    /// Which layers are streamed.
    pub stream: Stream,
    /// Whether kernels know groups of channels; else convolutions in groups are dense ones with zeros between groups. Not in a
    /// spec: back ends ask for it.
    pub grouped: bool,
    /// Whether 3x3 convolutions at stride 1 may be computed with fewer products, by `params::Method::Winograd2` or `Winograd4`, where that is faster.
    /// It rounds more, and a number that is not finite spreads to its neighbours. Needs `grouped`.
    pub winograd: bool,
    /// Whether pointwise convolutions may be computed with seven products of quarters in place of eight, by `params::Method::Strassen`, where
    /// that is faster. It rounds more, weights take 7/4 of their space, and a number that is not finite spreads to its neighbours.
    pub strassen: bool,
}

impl PlanOptions {
    /// One dense kernel at a time over whole tensors, by one thread.
    pub const LAYERED: Self =
        Self { threads: 1, prefer: Prefer::Speed, stream: Stream::Never, grouped: false, winograd: false, strassen: false };
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { threads: 1, prefer: Prefer::Speed, stream: Stream::Auto, grouped: true, winograd: true, strassen: false }
    }
}

/// A net and the warnings about it.
pub type Loaded = (Net, Diagnostics);

/// Longest spec that is read: a net of the most layers in a hundred bytes each. A key of two bytes takes a kilobyte while TOML is parsed.
const MAX_SPEC_BYTES: u64 = 1 << 20;

/// Whether the file at `path` is a model of another tool, by its name, and not a spec.
#[must_use]
pub fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx") || e.eq_ignore_ascii_case("tflite"))
}

/// Loads the spec or model at `path` with the tuning file beside it, changed by `sets` (see [`sets`]), with the checkpoint `weights` in place of what it says itself.
///
/// # Errors
/// Everything that is wrong with the spec, or else with its labels and checkpoint.
pub fn load(path: &Path, sets: &[(String, String)], weights: Option<&Path>) -> Result<Loaded, Diagnostics> {
    if is_model(path) {
        let is_onnx = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"));
        let (mut net, mut warnings) = if is_onnx { onnx::load(path, sets, weights)? } else { tflite::load(path, sets, weights)? };
        tune::attach(&mut net, path, &mut warnings);
        return Ok((net, warnings));
    }
    let shown = path.display().to_string();
    let text = read_text(path, MAX_SPEC_BYTES).map_err(|e| vec![Diagnostic::error(format!("cannot read {shown}: {e}"))])?;
    let root = parse_toml(&text, &shown)?;
    let base = path.parent().unwrap_or(Path::new(""));
    let (mut net, mut warnings) = check_and_lower(&root, base, sets, weights)?;
    net.files.insert(0, path.to_path_buf());
    tune::attach(&mut net, path, &mut warnings);
    Ok((net, warnings))
}

/// The same for a spec that is a tree already; paths in it are relative to `base_dir`.
///
/// # Errors
/// As [`load`].
pub fn check_and_lower(
    root: &Value,
    base_dir: &Path,
    sets: &[(String, String)],
    weights: Option<&Path>,
) -> Result<Loaded, Diagnostics> {
    let mut root = root.clone();
    sets::apply(&mut root, sets)?;
    if graph::is_layers(&root) {
        return graph::load(&root, base_dir, weights);
    }
    let check::Checked { spec, mut mistakes } = check::check(&root);
    let Some(spec) = spec else { return Err(mistakes) };
    // With mistakes the blocks before the first of them are still worth a look.
    let dry = match lower(&spec, &mut |_| Vec::new()) {
        Ok(dry) => dry,
        Err(d) => {
            mistakes.push(d);
            return Err(mistakes);
        }
    };
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut files = Vec::new();
    let labels = labels::read(spec.labels.as_ref(), spec.classes.as_ref(), base_dir, &dry.graph, &mut files, &mut mistakes);
    let lowered = with_weights(&spec, base_dir, weights, &dry, &mut files, &mut mistakes);
    let (Some((graph, weights_from)), []) = (lowered, mistakes.as_slice()) else { return Err(mistakes) };
    let (name, preprocess, passes, plan) = (spec.name, spec.preprocess, spec.passes, spec.plan);
    Ok((Net { name, graph, preprocess, labels, weights_from, passes, plan, tuned: None, files }, Diagnostics::new()))
}

/// The graph again, with weights in it, and where they came from.
fn with_weights(
    spec: &ast::Spec,
    base_dir: &Path,
    given: Option<&Path>,
    dry: &Lowered,
    files: &mut Vec<PathBuf>,
    mistakes: &mut Diagnostics,
) -> Option<(Graph, String)> {
    let own = spec.weights.file.as_ref();
    let (path, at) = match (given, own) {
        (Some(path), _) => (path.to_path_buf(), None),
        (None, Some((file, span))) => (base_dir.join(file), Some(span)),
        (None, None) => {
            let seed = spec.weights.seed;
            let lowered = lower(spec, &mut |ask| match ask {
                Ask::Block(_, layer, tensor, moments) => seed::draw(seed, layer, tensor, moments),
                Ask::Plain(wanted) => graph::drawn(seed, wanted),
            });
            return Some((lowered.map_err(|d| mistakes.push(d)).ok()?.graph, format!("seeded random weights (seed {seed})")));
        }
    };
    let fitted = weights::fit(spec, &path, at, dry).map_err(|d| mistakes.extend(d)).ok()?;
    let lowered = lower(spec, &mut |ask| match ask {
        Ask::Block(index, layer, tensor, _) => fitted.read(index, layer, tensor),
        Ask::Plain(wanted) => fitted.read_plain(wanted),
    });
    mistakes.extend(fitted.bad_numbers(&path));
    files.push(path);
    Some((lowered.map_err(|d| mistakes.push(d)).ok()?.graph, fitted.from))
}

/// Reads a text file of at most `max` bytes.
fn read_text(path: &Path, max: u64) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(max + 1).read_to_string(&mut text)?;
    if text.len() as u64 > max {
        return Err(std::io::Error::other(format!("it is longer than {max} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nets").join(name)
    }

    #[test]
    fn the_first_net_has_its_published_size() {
        let (net, warnings) = load(&shipped("mobilenet_v1.toml"), &[], None).unwrap();
        assert!(warnings.is_empty());
        assert_eq!((net.graph.macs(), net.graph.params()), (568_740_352, 4_231_976));
        crate::ir::verify::verify(&net.graph).unwrap();
        let half = [("alpha".into(), "0.5".into()), ("input.height".into(), "160".into()), ("input.width".into(), "160".into())];
        let (net, _) = load(&shipped("mobilenet_v1.toml"), &half, None).unwrap();
        assert_eq!(net.graph.params(), 1_331_592);
        assert_eq!(net.graph.shape(net.graph.inputs[0]).dims(), [1, 160, 160, 3]);
    }
}
