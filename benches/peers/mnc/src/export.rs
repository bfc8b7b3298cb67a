//! Writes networks for the generators of the other engines' models: a list of layers (JSON) and their weights (raw f32).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use mnc::compiler::ir::{ConstId, Op, Padding};
use serde_json::{Value, json};

use crate::nets::{NETS, Spec};

/// Writes `NAME.json` and `NAME.weights` of every network into `folder`.
///
/// # Errors
/// A spec is wrong, a layer is of a kind that no network here had so far, or a file cannot be written.
pub fn export(folder: &Path) -> Result<(), String> {
    NETS.iter().try_for_each(|spec| one(spec, folder))
}

fn one(spec: &Spec, folder: &Path) -> Result<(), String> {
    let graph = spec.load(1)?.graph;
    let (mut weights, mut layers, mut places) = (Vec::new(), Vec::new(), HashMap::new());
    // An array is where it starts in the weights, and its shape.
    let mut array = |id: ConstId, shape: &[usize]| {
        let start = weights.len();
        weights.extend_from_slice(graph.consts.get(id));
        json!({ "start": start, "shape": shape })
    };
    for id in graph.topo() {
        let node = graph.node(id);
        let what = match &node.op {
            Op::Input | Op::GlobalPool => json!({}),
            Op::Pad(p) if p.value.is_none() => json!({ "pad": padding(p.pad) }),
            Op::Conv(c) => json!({
                "stride": c.stride,
                "groups": c.groups,
                "weight": array(c.weight, &[c.kernel[0], c.kernel[1], c.in_c / c.groups, c.out_c]), // HWIO
                "bias": c.bias.map(|b| array(b, &[c.out_c])),
            }),
            Op::Depthwise(d) => json!({
                "stride": d.stride,
                "weight": array(d.weight, &[d.kernel[0], d.kernel[1], d.channels, d.multiplier]), // HWCM
                "bias": d.bias.map(|b| array(b, &[d.channels * d.multiplier])),
            }),
            Op::BatchNorm(b) => json!({
                "gamma": array(b.gamma, &[node.shape.c]),
                "beta": array(b.beta, &[node.shape.c]),
                "mean": array(b.mean, &[node.shape.c]),
                "variance": array(b.variance, &[node.shape.c]),
                "eps": b.eps,
            }),
            Op::Act(a) | Op::Add(a) | Op::Scale(a) => json!({ "act": format!("{a:?}").to_lowercase() }),
            Op::Dense(d) => json!({
                "weight": array(d.weight, &[d.in_c, d.out_c]),
                "bias": d.bias.map(|b| array(b, &[d.out_c])),
            }),
            other => return Err(format!("{}: the export knows no layer `{}`", spec.name, other.name())),
        };
        places.insert(id, layers.len());
        let inputs: Vec<usize> = graph.inputs_of(id).iter().map(|i| places[i]).collect();
        let mut layer = json!({ "name": node.name, "op": kind(&node.op), "inputs": inputs, "shape": node.shape.dims() });
        merge(&mut layer, what);
        layers.push(layer);
    }
    let net = json!({ "name": spec.name, "macs": graph.macs(), "params": graph.params(), "layers": layers });
    let bytes: Vec<u8> = weights.iter().flat_map(|w| w.to_le_bytes()).collect();
    write(folder, &format!("{}.json", spec.name), net.to_string().as_bytes())?;
    write(folder, &format!("{}.weights", spec.name), &bytes)
}

/// A 1x1 convolution is no other kind to a generator.
fn kind(op: &Op) -> &'static str {
    if matches!(op, Op::Conv(_)) { "conv" } else { op.name() }
}

fn padding(p: Padding) -> [usize; 4] {
    [p.top, p.left, p.bottom, p.right]
}

fn merge(layer: &mut Value, more: Value) {
    if let (Value::Object(layer), Value::Object(more)) = (layer, more) {
        layer.extend(more);
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), String> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))
}
