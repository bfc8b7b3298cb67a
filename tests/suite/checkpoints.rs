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

/// The tensors `prefix0`, `prefix1`, … of a safetensors file, one behind the other.
pub fn numbered(path: &Path, prefix: &str) -> Vec<f64> {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let all = (0..).map(|i| format!("{prefix}{i}")).take_while(|name| file.tensor(name).is_ok());
    all.flat_map(|name| tensor(path, &name)).collect()
}

/// The largest difference in terms of the largest magnitude of `want`.
pub fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let most = want.iter().fold(0.0, |m: f64, w| m.max(w.abs()));
    got.iter().zip(want).fold(0.0, |m: f64, (g, w)| m.max((f64::from(*g) - w).abs())) / most
}

/// A trained model of the test data, with pictures and what was computed of them.
pub struct Trained {
    /// Its name there.
    pub name: String,
    /// The ONNX file.
    pub model: PathBuf,
    /// Names of its results.
    pub outputs: Vec<String>,
    /// Pictures as its input.
    pub inputs: Vec<Vec<f32>>,
    /// All results of each picture, one behind the other.
    pub wants: Vec<Vec<f64>>,
}

/// Every trained model of the data, with at most `most` pictures each.
pub fn trained(dir: &Path, most: usize) -> Vec<Trained> {
    let mut names: Vec<String> = std::fs::read_dir(dir.join("models"))
        .expect("a folder")
        .filter_map(|e| Some(e.expect("an entry").file_name().to_str()?.strip_suffix(".onnx")?.to_owned()))
        .collect();
    names.sort();
    assert!(REAL.iter().all(|(name, _)| names.iter().any(|n| n == name)), "{names:?}");
    names.into_iter().map(|name| one_trained(dir, name, most)).collect()
}

fn one_trained(dir: &Path, name: String, most: usize) -> Trained {
    let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
    let text = |v: &serde_json::Value| v.as_str().expect("text").to_owned();
    let outputs: Vec<String> = expected["outputs"].as_array().expect("names").iter().map(text).collect();
    let pictures: Vec<String> = expected["order"].as_array().expect("names").iter().map(text).collect();
    let answers = dir.join("expected").join(format!("{name}.safetensors"));
    let first = if outputs[0] == "logits" { tensor(&answers, "logits_f64") } else { tensor(&answers, &outputs[0]) };
    let model = dir.join("models").join(format!("{name}.onnx"));
    let preprocess = preprocessing(&text(&expected["preprocessing"]));
    let (net, _) = front::load(&model, &[], None).unwrap_or_else(|d| panic!("{name}: {}", diag::render(&d, false)));
    let shape = net.graph.shape(net.graph.inputs[0]);
    let (mut inputs, mut wants) = (Vec::new(), Vec::new());
    let each = first.chunks_exact(first.len() / pictures.len());
    for (picture, want) in pictures.iter().zip(each).step_by(pictures.len().div_ceil(most)) {
        let mut crop = image::open(&dir.join(text(&expected["images"][picture]["file"]))).expect("a crop");
        if picture.ends_with("_rot180") {
            crop.rgb = crop.rgb.rchunks_exact(3).flatten().copied().collect();
        }
        inputs.push(image::input(&crop, &preprocess, shape).expect("an input"));
        let mut all = want.to_vec();
        if outputs.len() == 2 {
            assert_eq!(outputs, ["logits", "probs"], "{name}");
            all.extend(softmax(want));
        }
        wants.push(all);
    }
    Trained { name, model, outputs, inputs, wants }
}

/// How pixels become the input, by the data's word for it.
fn preprocessing(word: &str) -> front::Preprocess {
    let imagenet = || (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]);
    // `p / scale - 1`, and so on, as means and deviations of `p / 255`
    let even = |mean: f64, std: f64| (vec![mean; 3], vec![std; 3]);
    let (mean, std) = match word {
        "tf" | "gray_tf" | "half_bgr" => even(0.5, 0.5),
        "q128" => even(128.0 / 255.0, 128.0 / 255.0),
        "tm" => even(127.0 / 255.0, 127.0 / 255.0),
        "unit" => even(0.0, 1.0),
        "torch" | "torch_bgr" => imagenet(),
        other => panic!("unknown preprocessing `{other}`"),
    };
    let order = if word.ends_with("_bgr") { front::ColorOrder::Bgr } else { front::ColorOrder::Rgb };
    front::Preprocess { resize: front::Resize::Squash, filter: front::Filter::Bilinear, order, mean, std, in_graph: false }
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|l| (l - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
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
