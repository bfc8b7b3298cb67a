//! The tensors of a checkpoint that a spec of blocks reads, under the `spec` names.

use std::collections::BTreeMap;

use super::rows::Row;
use super::{Chain, Found};
use crate::front::ast;
use crate::front::graph::{Body, Layer, Stored, TensorName};

/// Shape and elements.
type Entry = (Vec<usize>, Vec<f32>);
/// Those of every tensor by its name.
pub(super) type Tensors = BTreeMap<String, Entry>;

/// The tensors of `rows`; those of the layers are `stored`.
pub(super) fn of_rows(chain: &Chain<'_>, stored: &BTreeMap<String, Stored>, rows: &[Row]) -> Tensors {
    let mut collect = Collect { chain, stored, out: Tensors::new() };
    for row in rows {
        match row {
            Row::Layer(i) => {
                for tensor in tensors(&chain.layers[*i]) {
                    collect.copy(tensor, tensor.name.clone());
                }
            }
            Row::Block(block) => {
                for (repetition, found) in block.found.iter().enumerate() {
                    let base = match block.found.len() {
                        1 => block.name.clone(),
                        _ => format!("{}.{repetition}", block.name),
                    };
                    for &(part, layer) in &found.parts {
                        collect.part(&chain.layers[layer], &format!("{base}.{part}"), found, part);
                    }
                }
            }
        }
    }
    collect.out
}

struct Collect<'a> {
    chain: &'a Chain<'a>,
    stored: &'a BTreeMap<String, Stored>,
    out: Tensors,
}

impl Collect<'_> {
    fn given(&self, tensor: &TensorName) -> Option<Entry> {
        self.stored.get(&tensor.name).map(|s| (s.shape.clone(), s.data(self.chain.graph)))
    }

    /// `tensor` under `name`. What is not there is missed when the spec is read.
    fn copy(&mut self, tensor: &TensorName, name: String) {
        let entry = self.given(tensor);
        self.out.extend(entry.map(|entry| (name, entry)));
    }

    /// The tensors of `layer`, which is the `part` of a block and called `name` now.
    fn part(&mut self, layer: &Layer, name: &str, found: &Found, part: &str) {
        let squeezes = part.starts_with("se.");
        let (Body::Conv { weight, bias, .. } | Body::Depthwise { weight, bias, .. } | Body::Dense { weight, bias, .. }) =
            &layer.body
        else {
            return;
        };
        let Some((mut shape, data)) = self.given(weight) else { return };
        let width = shape[0];
        if squeezes || matches!(found.body, ast::Body::Dense { .. }) {
            shape.truncate(2);
        }
        self.out.insert(format!("{name}.weight"), (shape, data));
        if squeezes || found.glue.bias {
            let zeros = || (vec![width], vec![0.0; width]);
            let entry = bias.as_ref().and_then(|b| self.given(b)).unwrap_or_else(zeros);
            self.out.insert(format!("{name}.bias"), entry);
        }
        if let Some(norm) = &layer.batch_norm {
            for (leaf, tensor) in ["weight", "bias", "running_mean", "running_var"].into_iter().zip(&norm.tensors) {
                self.copy(tensor, format!("{name}.bn.{leaf}"));
            }
        }
    }
}

/// All that a plain layer names.
fn tensors(layer: &Layer) -> Vec<&TensorName> {
    let mut all: Vec<&TensorName> = match &layer.body {
        Body::Conv { weight, bias, .. }
        | Body::Depthwise { weight, bias, .. }
        | Body::ConvTranspose { weight, bias, .. }
        | Body::Dense { weight, bias, .. } => std::iter::once(weight).chain(bias).collect(),
        Body::BatchNorm(norm) => norm.tensors.iter().collect(),
        Body::PRelu { weight } => vec![weight],
        Body::Constant { value, .. } => vec![value],
        Body::Activation
        | Body::Binary(_)
        | Body::Scale
        | Body::Concat(_)
        | Body::Gather { .. }
        | Body::Interpolate(_)
        | Body::Reshape(_)
        | Body::Transpose(_)
        | Body::Mean(_)
        | Body::Pad { .. }
        | Body::Pool { .. }
        | Body::GlobalAvgPool
        | Body::Softmax => Vec::new(),
    };
    all.extend(layer.batch_norm.iter().flat_map(|n| &n.tensors));
    all
}
