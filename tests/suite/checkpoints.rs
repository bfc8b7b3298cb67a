//! Real checkpoints and reference vectors of public libraries, evaluated by the oracle: within 1e-4 of the largest output.

use std::path::{Path, PathBuf};

use mnc_compiler::front::{self, Net};
use mnc_compiler::{diag, image, ir};
use safetensors::SafeTensors;

use crate::data;

/// The nine public networks.
pub const FAMILY: [&str; 9] = [
    "hf_mobilenet_v1_025_128",
    "hf_mobilenet_v2_035_96",
    "timm_mobilenetv1_025",
    "timm_mobilenetv2_050",
    "timm_mobilenetv3_small_050",
    "timm_mobilenetv4_conv_small_050",
    "timm_tf_mobilenetv3_small_minimal_100",
    "torchvision_mobilenet_v2_035",
    "torchvision_mobilenet_v3_large",
];

/// The real networks, with the folder their crops are in.
pub const REAL: [(&str, &str); 9] = [
    ("mobilenet_v1_0.25_224_slim", "crop224"),
    ("mobilenet_v1_0.25_96_gray_tm", "crop96"),
    ("mobilenet_v1_0.75_224", "crop224"),
    ("mobilenet_v1_1.0_224_qat", "crop224"),
    ("mobilenet_v2_0.35_224_tm", "tm"),
    ("mobilenet_v2_1.0_224_qat", "crop224"),
    ("mobilenet_v2_1.0_224_torch_bnx", "crop224"),
    ("mobilenet_v3_small_1.0_224_bnx", "crop224"),
    ("vww_96", "crop96"),
];

/// The spec of a network of the test data.
pub fn spec(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nets").join(format!("{name}.toml"))
}

/// The spec of `name` with its checkpoint in `folder`.
pub fn load(name: &str, folder: &Path) -> Net {
    let weights = folder.join(format!("{name}.safetensors"));
    match front::load(&spec(name), &[], Some(&weights)) {
        Ok((net, warnings)) => {
            assert!(warnings.is_empty(), "{name}: {}", diag::render(&warnings, false));
            net
        }
        Err(d) => panic!("{name}:\n{}", diag::render(&d, false)),
    }
}

/// Elements of a tensor of a safetensors file, as f64.
pub fn tensor(path: &Path, name: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let view = file.tensor(name).expect("the tensor");
    match view.dtype() {
        safetensors::Dtype::F32 => view.data().as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        safetensors::Dtype::F64 => view.data().as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// The largest difference in terms of the largest magnitude of `want`.
pub fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let most = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    got.iter().zip(want).fold(0.0, |m: f64, (g, w)| m.max((f64::from(*g) - w).abs())) / most
}

#[test]
fn public_networks_give_their_reference_outputs() {
    let Some(dir) = data::dir("checkpoints::public_networks_give_their_reference_outputs") else { return };
    let dir = dir.join("family");
    for name in FAMILY {
        let net = load(name, &dir);
        let io = dir.join(format!("{name}.io.safetensors"));
        let input: Vec<f32> = tensor(&io, "input_nhwc").into_iter().map(|x| x as f32).collect();
        let params = data::json(&dir.join(format!("{name}.json")))["params"].as_u64().expect("a count");
        assert_eq!(net.graph.params(), params, "{name}");
        let got = &ir::eval::eval(&net.graph, &[&input])[0];
        let error = relative_error(got, &tensor(&io, "output"));
        println!("{name:40} {error:.2e}");
        assert!(error <= 1e-4, "{name}: {error:.2e}");
    }
}

#[test]
fn real_networks_recognise_photographs() {
    let Some(dir) = data::dir("checkpoints::real_networks_recognise_photographs") else { return };
    for (name, folder) in REAL {
        let net = load(name, &dir.join("models"));
        let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
        let logits = tensor(&dir.join("expected").join(format!("{name}.safetensors")), "logits_f64");
        let mut names: Vec<&String> = expected["images"].as_object().expect("pictures").keys().collect();
        names.sort();
        let shape = net.graph.shape(net.graph.inputs[0]);
        for (index, want) in logits.chunks_exact(logits.len() / names.len()).enumerate().step_by(names.len().div_ceil(3)) {
            let picture = image::open(&dir.join("images").join(folder).join(format!("{}.png", names[index]))).expect("a crop");
            let input = image::input(&picture, &net.preprocess, shape).expect("an input");
            let got = &ir::eval::eval(&net.graph, &[&input])[0];
            let error = relative_error(got, want);
            println!("{name:32} {:16} {error:.2e}", names[index]);
            assert!(error <= 1e-4, "{name}, {}: {error:.2e}", names[index]);
        }
    }
}

/// Without being told whose names a checkpoint has, the right ones are found.
#[test]
fn namings_are_recognised() {
    let Some(dir) = data::dir("checkpoints::namings_are_recognised") else { return };
    let auto = [("weights.names".to_string(), "auto".to_string())];
    for (name, who) in FAMILY.iter().map(|n| (*n, n.split('_').next().expect("a prefix"))) {
        let weights = dir.join("family").join(format!("{name}.safetensors"));
        let (net, _) = front::load(&spec(name), &auto, Some(&weights)).unwrap_or_else(|d| panic!("{}", diag::render(&d, false)));
        let who = if who == "hf" { "Hugging Face" } else { who };
        assert!(net.weights_from.contains(who), "{name}: {}", net.weights_from);
    }
}
