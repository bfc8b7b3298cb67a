//! Checkpoints that fit in every element type and layout, and the diagnostics for those that do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use mnc_compiler::diag::{Diagnostics, render};
use mnc_compiler::front::{self, Loaded, Net, value};
use mnc_compiler::ir::Op;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// One tensor of a checkpoint to be written.
#[derive(Clone)]
struct Tensor {
    shape: Vec<usize>,
    data: Vec<f32>,
}

const SPEC: &str = r#"
[net]
name = "small"
input = { height = 8, width = 8 }
classes = 1000
[[block]]
name = "stem"
kind = "conv"
kernel = [3, 5]
out = 6
[[block]]
name = "body"
kind = "inverted_residual"
expand = 2
out = 6
se = { channels = 4 }
[[block]]
name = "pool"
kind = "global_avg_pool"
[[block]]
name = "last"
kind = "dense"
"#;

fn load(spec: &str, weights: Option<&Path>) -> Result<Loaded, Diagnostics> {
    front::check_and_lower(&value::parse_toml(spec, "small.toml")?, Path::new(""), &[], weights)
}

/// `[a][b][c]` to `[c][b][a]`.
fn swap(data: &[f32], [a, b, c]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(data.len());
    for z in 0..c {
        for y in 0..b {
            for x in 0..a {
                out.push(data[(x * b + y) * c + z]);
            }
        }
    }
    out
}

/// The net's weights under the `spec` names, in PyTorch's layout or in Keras'.
fn export(net: &Net, keras: bool) -> BTreeMap<String, Tensor> {
    let graph = &net.graph;
    let mut all = BTreeMap::new();
    for id in graph.topo() {
        let name = &graph.node(id).name;
        let mut put = |leaf: &str, shape: &[usize], data: Vec<f32>| {
            all.insert(format!("{name}.{leaf}"), Tensor { shape: shape.to_vec(), data });
        };
        let get = |id| graph.consts.get(id).to_vec();
        match graph.op(id) {
            Op::Conv(c) => {
                let [h, w] = c.kernel;
                let data = get(c.weight);
                if keras {
                    put("weight", &[h, w, c.in_c, c.out_c], data);
                } else {
                    // HWIO to OIHW: first O(HW)I -> ..., element by element, independently of the code under test.
                    let mut torch = vec![0.0; data.len()];
                    for (index, x) in data.iter().enumerate() {
                        let (o, i, tap) = (index % c.out_c, index / c.out_c % c.in_c, index / c.out_c / c.in_c);
                        torch[(o * c.in_c + i) * h * w + tap] = *x;
                    }
                    put("weight", &[c.out_c, c.in_c, h, w], torch);
                }
                c.bias.into_iter().for_each(|b| put("bias", &[c.out_c], get(b)));
            }
            Op::Depthwise(d) => {
                let [h, w] = d.kernel;
                let data = get(d.weight);
                if keras {
                    put("weight", &[h, w, d.channels, 1], data);
                } else {
                    put("weight", &[d.channels, 1, h, w], swap(&data, [h * w, 1, d.channels]));
                }
            }
            Op::Dense(d) => {
                let data = get(d.weight);
                if keras {
                    put("weight", &[d.in_c, d.out_c], data);
                } else {
                    put("weight", &[d.out_c, d.in_c], swap(&data, [d.in_c, 1, d.out_c]));
                }
                d.bias.into_iter().for_each(|b| put("bias", &[d.out_c], get(b)));
            }
            Op::BatchNorm(b) => {
                let leaves = [("weight", b.gamma), ("bias", b.beta), ("running_mean", b.mean), ("running_var", b.variance)];
                for (leaf, id) in leaves {
                    put(leaf, &[get(id).len()], get(id));
                }
            }
            _ => {}
        }
    }
    all
}

fn bytes(data: &[f32], dtype: Dtype) -> Vec<u8> {
    match dtype {
        Dtype::F16 => data.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::BF16 => data.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        Dtype::F64 => data.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect(),
        Dtype::I32 => data.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
        _ => data.iter().flat_map(|x| x.to_le_bytes()).collect(),
    }
}

/// Writes a checkpoint into a folder of its own.
fn write(folder: &tempfile::TempDir, tensors: &BTreeMap<String, Tensor>, dtype: Dtype) -> PathBuf {
    let raw: Vec<(&String, Vec<u8>)> = tensors.iter().map(|(n, t)| (n, bytes(&t.data, dtype))).collect();
    let views = raw.iter().map(|(n, b)| (*n, TensorView::new(dtype, tensors[*n].shape.clone(), b).expect("a tensor")));
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, safetensors::serialize(views, None).expect("a file")).expect("a written file");
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn seeded() -> Net {
    load(SPEC, None).unwrap_or_else(|d| panic!("{}", render(&d, false))).0
}

/// The largest difference of weights of two nets.
fn difference(a: &Net, b: &Net) -> f32 {
    let (a, b) = (export(a, true), export(b, true));
    assert!(a.keys().eq(b.keys()));
    let pairs = a.values().zip(b.values()).flat_map(|(a, b)| a.data.iter().zip(&b.data));
    pairs.fold(0.0, |m, (a, b)| m.max((a - b).abs()))
}

#[test]
fn every_element_type_and_layout_is_read() {
    let net = seeded();
    for keras in [false, true] {
        for (dtype, bound) in [(Dtype::F32, 0.0), (Dtype::F64, 0.0), (Dtype::F16, 2e-3), (Dtype::BF16, 2e-2)] {
            let folder = folder();
            let path = write(&folder, &export(&net, keras), dtype);
            let (loaded, _) = load(SPEC, Some(&path)).unwrap_or_else(|d| panic!("{}", render(&d, false)));
            let difference = difference(&net, &loaded);
            assert!(difference <= bound, "{dtype:?}, keras {keras}: {difference}");
            assert!(dtype == Dtype::F32 || dtype == Dtype::F64 || difference > 0.0, "the rounding must show");
            assert!(loaded.weights_from.contains("(spec names, "), "{}", loaded.weights_from);
            assert_eq!(loaded.files, [path]);
        }
    }
}

#[test]
fn the_mapping_table_renames_layers_and_tensors() {
    let net = seeded();
    let renamed = export(&net, false).into_iter().map(|(name, t)| {
        let name = match name.strip_prefix("stem.conv.bn.") {
            Some(leaf) => {
                format!("norm/{}", leaf.replace("running_mean", "moving_mean").replace("running_var", "moving_variance"))
            }
            None => name.replace("stem.conv.", "first/"),
        };
        let name = name.replace("norm/weight", "norm/gamma").replace("norm/bias", "norm/beta");
        (if name == "last.dense.bias" { "offsets".to_string() } else { name }, t)
    });
    let folder = folder();
    let path = write(&folder, &renamed.collect(), Dtype::F32);
    let map = "[weights]\nnames = \"spec\"\n[weights.map]\n\"stem.conv\" = \"first\"\n\"stem.conv.bn\" = \"norm\"\n\"last.dense.bias\" = \"offsets\"\n";
    let (loaded, _) = load(&format!("{SPEC}{map}"), Some(&path)).unwrap_or_else(|d| panic!("{}", render(&d, false)));
    assert_eq!(difference(&net, &loaded), 0.0);
}

#[test]
fn prefixes_of_training_wrappers_are_taken_off() {
    let net = seeded();
    let wrapped = export(&net, false).into_iter().map(|(n, t)| (format!("module.model.{n}"), t)).collect();
    let folder = folder();
    let (loaded, _) = load(SPEC, Some(&write(&folder, &wrapped, Dtype::F32))).unwrap_or_else(|d| panic!("{}", render(&d, false)));
    assert_eq!(difference(&net, &loaded), 0.0);
}

/// What is said about `tensors`, with the folder's name replaced.
fn complaint(spec: &str, tensors: &BTreeMap<String, Tensor>, dtype: Dtype) -> String {
    let folder = folder();
    let path = write(&folder, tensors, dtype);
    about(spec, &folder, &path)
}

fn about(spec: &str, folder: &tempfile::TempDir, path: &Path) -> String {
    let Err(diagnostics) = load(spec, Some(path)) else { panic!("a checkpoint that does not fit was accepted") };
    render(&diagnostics, false).replace(&format!("{}", folder.path().display()), "DIR")
}

fn snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../specs/checkpoints");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn tensors_that_do_not_fit_are_named() {
    let good = export(&seeded(), false);
    let with = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let mut changed = good.clone();
        change(&mut changed);
        complaint(SPEC, &changed, Dtype::F32)
    };
    snapshot("missing", &with(&|t| t.retain(|n, _| n != "body.project.weight" && n != "stem.conv.bn.running_var")));
    snapshot("extra", &with(&|t| drop(t.insert("head.weight".into(), Tensor { shape: vec![1], data: vec![0.0] }))));
    snapshot(
        "misshapen",
        &with(&|t| {
            let weight = t.get_mut("body.expand.weight").expect("a tensor");
            weight.shape = vec![3, 24];
        }),
    );
    snapshot(
        "not_finite",
        &with(&|t| {
            t.get_mut("body.project.weight").expect("a tensor").data[3] = f32::NAN;
            t.get_mut("last.dense.bias").expect("a tensor").data[999] = f32::INFINITY;
            t.get_mut("stem.conv.bn.running_var").expect("a tensor").data[0] = -1.0;
        }),
    );
    snapshot(
        "background_class",
        &with(&|t| {
            t.insert("last.dense.weight".into(), Tensor { shape: vec![1001, 6], data: vec![0.0; 6006] });
            t.insert("last.dense.bias".into(), Tensor { shape: vec![1001], data: vec![0.0; 1001] });
        }),
    );
    snapshot(
        "folded",
        &with(&|t| {
            t.retain(|n, _| !n.contains(".bn."));
            for (name, c) in [("stem.conv", 6), ("body.expand", 12), ("body.depthwise", 12), ("body.project", 6)] {
                t.insert(format!("{name}.bias"), Tensor { shape: vec![c], data: vec![0.0; c] });
            }
        }),
    );
    snapshot("foreign", &with(&|t| *t = std::mem::take(t).into_iter().map(|(n, v)| (format!("encoder.{n}"), v)).collect()));
    let folded = SPEC.replace("classes", "batch_norm = false\nclasses");
    snapshot("not_folded", &complaint(&folded, &good, Dtype::F32));
    snapshot("integers", &complaint(SPEC, &good, Dtype::I32));
    snapshot(
        "map",
        &complaint(&format!("{SPEC}[weights.map]\n\"stem.convv\" = \"x\"\n\"last.dense\" = \"nowhere\"\n"), &good, Dtype::F32),
    );
    let ignored = format!("{SPEC}[weights]\nextra = \"ignore\"\n");
    let mut extra = good.clone();
    extra.insert("ema.weight".into(), Tensor { shape: vec![1], data: vec![0.0] });
    extra.insert("stem.conv.bn.num_batches_tracked".into(), Tensor { shape: vec![], data: vec![0.0] });
    let folder = folder();
    load(&ignored, Some(&write(&folder, &extra, Dtype::F32))).unwrap_or_else(|d| panic!("{}", render(&d, false)));
}

#[test]
fn files_that_are_no_checkpoints_are_refused() {
    let folder = folder();
    let path = write(&folder, &export(&seeded(), false), Dtype::F32);
    let whole = std::fs::read(&path).expect("the checkpoint");
    let with = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("a written file");
        about(SPEC, &folder, &path)
    };
    snapshot("cut_off", &with(&whole[..whole.len() - 4]));
    snapshot("empty", &with(&[]));
    snapshot("zip", &with(b"PK\x03\x04 and more"));
    // Cut anywhere, or with any byte of the header changed, it is an error or a sound net, never a panic.
    for end in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..end]).expect("a written file");
        assert!(load(SPEC, Some(&path)).is_err(), "cut at {end}");
    }
    for at in (0..1500).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x15;
        std::fs::write(&path, &damaged).expect("a written file");
        if let Err(d) = load(SPEC, Some(&path)) {
            assert!(!render(&d, false).is_empty());
        }
    }
    snapshot("folder", &about(SPEC, &folder, folder.path()));
}
