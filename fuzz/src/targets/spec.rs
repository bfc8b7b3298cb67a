//! Text of specs, and checkpoints for specs that are known.

use std::path::Path;

use mnc_compiler::front::value::{Kind, Value, parse_toml};
use mnc_compiler::front::{check_and_lower, sets};

use super::{Scratch, is_small, planned, rewritten, shown};

/// A file that is not there, so that no weights are drawn.
const NOWHERE: &str = "nowhere.safetensors";

/// A spec's text: with its own numbers up to where weights would be drawn, then with small ones the whole way to a plan.
pub fn spec(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match parse_toml(&text, "spec.toml") {
        Err(mistakes) => shown(&mistakes),
        Ok(root) => tree(&root, &[]),
    }
}

/// The same for a spec that is a tree already, with `--set`s.
pub(super) fn tree(root: &Value, set: &[(String, String)]) {
    let base = Path::new("fuzzing");
    if let Err(mistakes) = check_and_lower(root, base, set, Some(Path::new(NOWHERE))) {
        shown(&mistakes);
    }
    let mut small = root.clone();
    if let Err(mistakes) = sets::apply(&mut small, set) {
        return shown(&mistakes);
    }
    shrink(&mut small);
    match check_and_lower(&small, base, &[], None) {
        Err(mistakes) => shown(&mistakes),
        Ok((net, warnings)) => {
            shown(&warnings);
            if is_small(&net) {
                planned(net);
            }
        }
    }
}

/// Makes every number small, so that most nets that pass the checks are small.
fn shrink(value: &mut Value) {
    match &mut value.kind {
        Kind::Table(table) => table.entries.iter_mut().for_each(|e| shrink(&mut e.value)),
        Kind::Array(items) => items.iter_mut().for_each(shrink),
        Kind::Integer(n) if *n > 20 => *n = *n % 20 + 1,
        Kind::Float(f) if *f > 4.0 => *f = 4.0,
        Kind::Integer(_) | Kind::Float(_) | Kind::String(_) | Kind::Bool(_) => {}
    }
}

/// Two nets that a checkpoint may be for: one of blocks, one of layers.
const NETS: [&str; 2] = [
    r#"
[net]
name = "blocks"
input = { height = 9, width = 7, channels = 3 }
activation = "relu6"
[weights]
file = "weights.safetensors"
names = "spec"
extra = "ignore"
[[block]]
kind = "conv"
name = "a"
kernel = 3
out = 2
[[block]]
kind = "separable"
name = "b"
out = 3
[[block]]
kind = "global_avg_pool"
[[block]]
kind = "dense"
name = "d"
out = 2
"#,
    r#"
[net]
name = "layers"
input = { height = 4, width = 4, channels = 2 }
[weights]
file = "weights.safetensors"
[[layer]]
op = "conv"
name = "a"
kernel = 3
out = 2
bias = true
batch_norm = true
[[layer]]
op = "constant"
name = "k"
height = 2
width = 2
channels = 2
[[layer]]
op = "add"
inputs = ["a", "k"]
"#,
];

/// A checkpoint. The first byte chooses the net, and whether the rest is the file or its header alone, with its length put
/// before it and data behind it: mutations of a header seldom keep its length right.
pub fn checkpoint(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let root = parse_toml(NETS[usize::from(first & 1)], "spec.toml").expect("it is written above");
    let mut file = Vec::new();
    if first & 2 == 0 {
        file.extend((rest.len() as u64).to_le_bytes());
        file.extend(rest);
        file.resize(file.len() + usize::from(first >> 2) * 16, first >> 3);
    } else {
        file.extend(rest);
    }
    let scratch = Scratch::take();
    let path = scratch.file("given.safetensors", &file);
    match check_and_lower(&root, Path::new("fuzzing"), &[], Some(&path)) {
        Err(mistakes) => shown(&mistakes),
        Ok((net, _)) => {
            rewritten(&net, &scratch);
            planned(net);
        }
    }
}
