//! Blocks of the family in a graph of another tool: what `mnc import` writes instead of plain layers where it finds them.
//!
//! ```text
//! graph -> layers      graph/describe.rs  convolution, batch norm and activation in one
//!       -> found       here, a kind a file: the longest block that begins at each layer
//!       -> rows        rows.rs            equal ones in a row are repetitions; what is no block stays a layer
//!       -> spec        text.rs            `[net]` says what most of the rows have in common
//!       -> checkpoint  tensors.rs         under the `spec` names
//!       -> graph       here               the text is read again;
//!                      same.rs            and must compute the very same as the model, else plain layers are written
//! ```
//! A net is written as blocks where at least half of its layers with weights are in blocks that only the family has
//! ([`Found::family`]): MobileNets and their like, also as the backbone of something larger, but not every net with convolutions.
//!
//! To teach it a kind of block: a file here with a function from a chain and the layer where the block would begin to a [`Found`], in
//! [`KINDS`]; the compiler then names `text.rs`, where its keys are written. Of blocks of one length the first kind of the list wins.

mod chain;
mod fused;
mod inverted;
mod rows;
mod same;
mod separable;
mod single;
mod squeeze;
mod tensors;
mod text;
mod universal;

use std::path::Path;

use mnc_runtime::params::Activation;

use self::chain::{Chain, Glue};
use self::rows::Row;
use super::ast::{Body, PadRule};
use super::checkpoint::sha256;
use super::graph::{self, Written};
use super::lower::{Ask, lower};
use super::value::parse_toml;
use super::{Net, check, weights, write_layers};
use crate::ir::Graph;

/// Kinds of blocks; what is more special stands before what is less.
const KINDS: [fn(&Chain<'_>, usize) -> Option<Found>; 6] =
    [separable::at, inverted::at, universal::at, fused::at, squeeze::alone, single::at];

/// A block that was found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its kind and sizes.
    body: Body,
    /// Behind its convolutions.
    activation: Activation,
    /// What its convolutions have in common.
    glue: Glue,
    /// Its layers with weights, by their names in the block.
    parts: Vec<(&'static str, usize)>,
    /// All layers it consists of. The first one reads what the block reads.
    used: Vec<usize>,
    /// The layer whose result is the block's.
    last: usize,
    /// Whether only the family has such blocks.
    family: bool,
}

/// `net` as a spec and a checkpoint beside it, both in `folder`: as blocks where it is recognised as a net of the family, otherwise as
/// [`write_layers`] does. `from` says in a comment where it comes from.
///
/// # Errors
/// As [`write_layers`].
pub fn write(net: &Net, folder: &Path, from: &str) -> Result<Written, String> {
    match recognised(net, folder, from) {
        Some(written) => Ok(written),
        None => write_layers(net, folder, from),
    }
}

fn recognised(net: &Net, folder: &Path, from: &str) -> Option<Written> {
    // What follows a convolution is called after it, so that it becomes one layer.
    let mut named = net.graph.clone();
    named.name_outputs();
    graph::name_chains(&mut named);
    let (layers, stored) = graph::described(&named).ok()?;
    let chain = Chain::of(&named, &layers)?;
    let rows = rows::rows(&chain)?;
    let tensors = tensors::of_rows(&chain, &stored, &rows);
    let checkpoint = format!("{}.safetensors", net.name);
    let bytes = tensors.iter().map(|(name, (shape, data))| (name.as_str(), shape.clone(), data.as_slice().into()));
    let bytes = graph::serialized(bytes).ok()?;
    let text = text::spec(net, &chain, &rows, (&checkpoint, &sha256(&bytes)), from);
    let again = read(&text, &tensors)?;
    same::same(&named, &again).then_some(())?;
    Some(Written {
        spec: (folder.join(format!("{}.toml", net.name)), text.into_bytes()),
        weights: (folder.join(checkpoint), bytes),
        blocks: rows.iter().filter(|row| matches!(row, Row::Block(_))).count(),
    })
}

/// The graph that the spec `text` describes with exactly these `tensors`; `None` if they are not what it needs.
fn read(text: &str, tensors: &tensors::Tensors) -> Option<Graph> {
    let check::Checked { spec, mistakes } = check::check(&parse_toml(text, "the spec").ok()?);
    let spec = spec.filter(|_| mistakes.is_empty())?;
    let mut read = std::collections::HashSet::new();
    let mut whole = true;
    let mut given = |name: String, len: Option<usize>| {
        let data = tensors.get(&name).map(|(_, data)| data).filter(|data| Some(data.len()) == len);
        whole &= data.is_some();
        read.insert(name);
        data.cloned().unwrap_or_default()
    };
    let lowered = lower(&spec, &mut |ask| match ask {
        Ask::Block(_, layer, tensor, _) => {
            let name = format!("{}{}", layer.name, weights::spec_leaf(tensor));
            match tensor {
                super::layer::Tensor::Weight => weights::to_op_layout(&given(name, layer.kind.weights()), layer.kind),
                _ => given(name, Some(layer.kind.out_c())),
            }
        }
        Ask::Plain(wanted) => given(wanted.tensor.name.clone(), Some(wanted.shape.iter().product())),
    });
    let graph = lowered.ok()?.graph;
    (whole && read.len() == tensors.len()).then_some(graph)
}

/// Rules of padding in the order in which they are preferred.
fn rules(fixed: impl Iterator<Item = usize>) -> Vec<PadRule> {
    let mut all = vec![PadRule::Torch, PadRule::Same, PadRule::Fixed(0)];
    all.extend(fixed.map(PadRule::Fixed));
    all.dedup();
    all
}
