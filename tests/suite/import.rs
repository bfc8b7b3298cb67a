//! ONNX models against what other libraries computed from them.

use std::path::{Path, PathBuf};

use mnc_compiler::back::clif::compile_jit;
use mnc_compiler::back::native;
use mnc_compiler::front::{self, Net};
use mnc_compiler::{compile, diag, image, ir};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;

use crate::checkpoints::{REAL, relative_error, tensor};
use crate::data;

/// The model at `path` with `sets`.
fn load(path: &Path, sets: &[(&str, &str)]) -> Net {
    let sets: Vec<_> = sets.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match front::load(path, &sets, None) {
        Ok((net, warnings)) => {
            assert!(warnings.is_empty(), "{}: {}", path.display(), diag::render(&warnings, false));
            net
        }
        Err(d) => panic!("{}:\n{}", path.display(), diag::render(&d, false)),
    }
}

/// What every engine makes of `inputs`: the reference first.
fn outputs(net: Net, inputs: &[Vec<f32>]) -> Vec<(&'static str, Vec<Vec<f32>>)> {
    let name = net.name.clone();
    let mut all = vec![("reference", inputs.iter().map(|x| ir::eval::eval(&net.graph, &[x]).concat()).collect::<Vec<_>>())];
    let len = all[0].1[0].len();
    let compiled = compile(net).unwrap_or_else(|e| panic!("{name}: {e}"));
    let plan = &compiled.plan;
    let mut arena = vec![0.0; plan.memory.arena_bytes / 4];
    let mut native = |x: &Vec<f32>| {
        let mut y = vec![f32::NAN; len];
        native::run(plan, Isa::detect(), &mut arena, x, &mut y).expect("lengths fit");
        y
    };
    all.push(("native", inputs.iter().map(&mut native).collect()));
    let mut jit = compile_jit(plan).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut jitted = |x: &Vec<f32>| {
        let mut y = vec![f32::NAN; len];
        jit.run(x, &mut y).expect("lengths fit");
        y
    };
    all.push(("jit", inputs.iter().map(&mut jitted).collect()));
    all
}

/// The files in `folder` of the data that end in `.onnx`, sorted.
fn models(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|e| e.expect("an entry").path()).collect();
    all.retain(|p| p.extension().is_some_and(|e| e == "onnx"));
    all.sort();
    assert!(!all.is_empty());
    all
}

/// What `mnc import` writes of `net`, read again: the same graph to the bit, and the same files if it is written again.
pub fn written(net: &Net, dir: &Path) -> Net {
    let files = front::write(net, dir, "a test").unwrap_or_else(|e| panic!("{}: {e}", net.name));
    for (path, bytes) in [&files.spec, &files.weights] {
        std::fs::write(path, bytes).expect("writable");
    }
    let again = load(&files.spec.0, &[]);
    let (a, b) = (&net.graph, &again.graph);
    assert_eq!(ir::print::text(a), ir::print::text(b), "{}", net.name);
    for (a_id, b_id) in a.topo().into_iter().zip(b.topo()) {
        let shapes = a.input_shapes(a_id);
        let bits = |graph: &ir::Graph, id| -> Vec<Vec<u32>> {
            let all = graph.op(id).constants(&shapes).into_iter();
            all.map(|(c, _)| graph.consts.get(c).iter().map(|x| x.to_bits()).collect()).collect()
        };
        assert_eq!(bits(a, a_id), bits(b, b_id), "{}: {}", net.name, a.node(a_id).name);
    }
    assert_eq!((&net.preprocess, &net.labels, &a.output_names), (&again.preprocess, &again.labels, &b.output_names));
    assert_eq!(front::write(&again, dir, "a test").expect("written once already"), files, "{}", net.name);
    again
}

/// Networks of public libraries by both of PyTorch's exporters give what the libraries gave.
#[test]
fn exported_networks_give_their_reference_outputs() {
    let Some(dir) = data::dir("import::exported_networks_give_their_reference_outputs") else { return };
    for path in models(&dir.join("onnx")) {
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let family = stem.trim_end_matches("_dynamo").trim_end_matches("_torchscript");
        let io = dir.join("family").join(format!("{family}.io.safetensors"));
        let input: Vec<f32> = tensor(&io, "input_nhwc").into_iter().map(|x| x as f32).collect();
        let want = tensor(&io, "output");
        let net = load(&path, &[]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let spec = written(&net, folder.path());
        let inputs = [input];
        let all = outputs(net, &inputs);
        assert_eq!(all, outputs(spec, &inputs), "{stem}: the spec that is written of it answers otherwise");
        for (engine, got) in all {
            let error = relative_error(&got[0], &want);
            println!("{stem:45} {engine:9} within {error:.1e}");
            assert!(error <= 1e-4, "{stem}, {engine}: {error:.2e}");
        }
    }
}

/// Trained networks, their weights in a file beside them, recognise photographs.
#[test]
fn trained_models_recognise_photographs() {
    let Some(dir) = data::dir("import::trained_models_recognise_photographs") else { return };
    for (name, folder) in REAL {
        let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
        let logits = tensor(&dir.join("expected").join(format!("{name}.safetensors")), "logits_f64");
        let mut names: Vec<&String> = expected["images"].as_object().expect("pictures").keys().collect();
        names.sort();
        // The spec knows how the pictures become the input; the model does not.
        let preprocess = crate::checkpoints::load(name, &dir.join("models")).preprocess;
        let path = dir.join("models").join(format!("{name}.onnx"));
        let net = load(&path, &[]);
        assert_eq!(net.graph.output_names, ["logits", "probs"], "{name}");
        let alone = load(&path, &[("outputs", "logits")]);
        assert_eq!(ir::print::text(&alone.graph).lines().count() + 1, ir::print::text(&net.graph).lines().count(), "{name}");
        let shape = net.graph.shape(net.graph.inputs[0]);
        let (mut inputs, mut wants) = (Vec::new(), Vec::new());
        for (index, want) in logits.chunks_exact(logits.len() / names.len()).enumerate().step_by(names.len().div_ceil(3)) {
            let file = dir.join("images").join(folder).join(format!("{}.png", names[index]));
            let picture = image::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            inputs.push(image::input(&picture, &preprocess, shape).unwrap_or_else(|e| panic!("{}: {e}", file.display())));
            wants.push(want);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(outputs(written(&net, folder.path()), &inputs[..1]), outputs(net.clone(), &inputs[..1]), "{name}");
        for (engine, got) in outputs(net, &inputs) {
            let mut error = 0.0f64;
            for (got, logits) in got.iter().zip(&wants) {
                let (got_logits, got_probs) = got.split_at(logits.len());
                error = error.max(relative_error(got_logits, logits)).max(relative_error(got_probs, &softmax(logits)));
            }
            println!("{name:45} {engine:9} within {error:.1e}");
            assert!(error <= 1e-4, "{name}, {engine}: {error:.2e}");
        }
    }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|l| (l - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}
