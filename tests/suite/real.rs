//! Real checkpoints: photographs and reference vectors, by every engine that runs in this process.
//!
//! Each net has a spec at `tests/nets/<name>.toml`. From the publisher's crop the logits must lie within 1e-4 of the largest
//! magnitude of the float64 logits; from the original photograph, through our own decoding, resizing and cropping, the answer must
//! be the same with every probability within 0.01. The naive reference runs the crops only: on the same input the engines
//! agree with it, and it takes a second a picture.

use std::path::{Path, PathBuf};

use mnc_compiler::back::clif::compile_jit;
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::front::{self, Net};
use mnc_compiler::image;
use mnc_compiler::ir::{Graph, Op, eval};
use mnc_compiler::{Compiled, compile};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;
use safetensors::{Dtype, SafeTensors};

use crate::data;

/// The spec of `name` with its checkpoint, ending in logits.
fn load(name: &str, checkpoint: &Path) -> Net {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nets").join(format!("{name}.toml"));
    let (mut net, warnings) =
        front::load(&spec, &[], Some(checkpoint)).unwrap_or_else(|d| panic!("{}", mnc_compiler::diag::render(&d, false)));
    assert!(warnings.is_empty(), "{}", mnc_compiler::diag::render(&warnings, false));
    let output = net.graph.outputs[0];
    if *net.graph.op(output) == Op::Softmax {
        net.graph.outputs[0] = net.graph.inputs_of(output)[0];
        net.graph.remove(output);
    }
    net
}

/// The engines, in one face.
enum Engine {
    Native(Box<NativeNet>),
    Jit(Box<mnc_compiler::back::clif::JitNet>),
    Reference(Graph),
}

impl Engine {
    fn all(net: &Compiled) -> Vec<Engine> {
        let native = Isa::available().map(|isa| Engine::Native(Box::new(NativeNet::new(net.plan.clone(), isa))));
        let jit = compile_jit(&net.plan).expect("the JIT compiles it");
        native.chain([Engine::Jit(Box::new(jit)), Engine::Reference(net.specified.clone())]).collect()
    }

    fn name(&self) -> String {
        match self {
            Engine::Native(net) => format!("native {}", net.isa().name()),
            Engine::Jit(_) => "jit".into(),
            Engine::Reference(_) => "reference".into(),
        }
    }

    fn is_slow(&self) -> bool {
        match self {
            Engine::Native(net) => net.isa() == Isa::scalar(),
            Engine::Jit(_) => false,
            Engine::Reference(_) => true,
        }
    }

    fn run(&mut self, x: &[f32], len: usize) -> Vec<f64> {
        let mut y = vec![f32::NAN; len];
        match self {
            Engine::Native(net) => net.run(x, &mut y).expect("lengths fit"),
            Engine::Jit(net) => net.run(x, &mut y).expect("lengths fit"),
            Engine::Reference(graph) => y = eval::eval(graph, &[x]).swap_remove(0),
        }
        y.into_iter().map(f64::from).collect()
    }
}

/// A tensor of a safetensors file as f64, with its shape.
fn tensor(path: &Path, name: &str) -> (Vec<f64>, Vec<usize>) {
    let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
    let t = file.tensor(name).expect("the tensor is there");
    let data = match t.dtype() {
        Dtype::F64 => t.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect(),
        Dtype::F32 => t.data().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("4 bytes")))).collect(),
        other => panic!("{name} is {other:?}"),
    };
    (data, t.shape().to_vec())
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = x.iter().map(|v| (v - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

fn top(x: &[f64]) -> usize {
    (0..x.len()).max_by(|&a, &b| x[a].total_cmp(&x[b])).expect("there are classes")
}

/// The largest difference; infinite where one is not a number.
fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { f64::max(m, d) })
}

fn magnitude(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |m, v| f64::max(m, v.abs()))
}

/// Every picture of `expected/<name>.json`.
fn photographs(name: &str) {
    let Some(dir) = data::dir(&format!("real::{name}")) else { return };
    let net = load(name, &dir.join("models").join(format!("{name}.safetensors")));
    let net = compile(net).expect("it compiles");
    let shape = net.plan.input.shape;
    let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
    let originals = data::json(&dir.join("images/images.json"));
    let (logits, dims) = tensor(&dir.join("expected").join(format!("{name}.safetensors")), "logits_f64");
    let classes = dims[1];
    assert_eq!(net.plan.output.shape.elements(), classes);
    let order: Vec<&str> = expected["order"].as_array().expect("a list").iter().filter_map(|n| n.as_str()).collect();
    assert_eq!(order.len(), dims[0]);
    let scale = magnitude(&logits);
    let picture = |path: PathBuf| {
        let picture = image::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        image::input(&picture, &net.plan.preprocess, shape).expect("the net takes pictures")
    };
    let mut mistakes = Vec::new();
    for mut engine in Engine::all(&net) {
        let (mut worst_logit, mut worst_probability) = (0.0f64, 0.0f64);
        for (image, want) in order.iter().zip(logits.chunks_exact(classes)) {
            let file = expected["images"][image]["file"].as_str().expect("a file name");
            let got = engine.run(&picture(dir.join(file)), classes);
            let error = largest(&got, want) / scale;
            worst_logit = worst_logit.max(error);
            if error > 1e-4 || top(&got) != top(want) {
                mistakes.push(format!(
                    "{} {image} crop: relative error {error:.2e}, class {} for {}",
                    engine.name(),
                    top(&got),
                    top(want)
                ));
            }
            // A picture without an original is one that already had the input's size.
            let Some(original) = originals[image]["file"].as_str() else { continue };
            if engine.is_slow() {
                continue;
            }
            let got = engine.run(&picture(dir.join("images").join(original)), classes);
            let error = largest(&softmax(&got), &softmax(want));
            worst_probability = worst_probability.max(error);
            if error > 0.01 || top(&got) != top(want) {
                mistakes.push(format!(
                    "{} {image} original: probability off by {error:.4}, class {} for {}",
                    engine.name(),
                    top(&got),
                    top(want)
                ));
            }
        }
        let from_originals =
            if engine.is_slow() { String::new() } else { format!(", probabilities from originals {worst_probability:.1e}") };
        println!(
            "{name:32} {:14} {} pictures: logits {worst_logit:.1e} of the largest{from_originals}",
            engine.name(),
            order.len()
        );
    }
    assert!(mistakes.is_empty(), "{name}:\n{}", mistakes.join("\n"));
}

/// The one vector of `family/<name>.io.safetensors`.
fn family(name: &str) {
    let Some(dir) = data::dir(&format!("real::{name}")) else { return };
    let net = compile(load(name, &dir.join("family").join(format!("{name}.safetensors")))).expect("it compiles");
    let io = dir.join("family").join(format!("{name}.io.safetensors"));
    let (x, shape) = tensor(&io, "input_nhwc");
    assert_eq!(shape, net.plan.input.shape.dims());
    let x: Vec<f32> = x.into_iter().map(|v| v as f32).collect();
    let (want, _) = tensor(&io, "output");
    for mut engine in Engine::all(&net) {
        let error = largest(&engine.run(&x, want.len()), &want) / magnitude(&want);
        println!("{name:40} {:14} {error:.2e} of the largest output", engine.name());
        assert!(error <= 1e-4, "{name} {}: relative error {error:.2e}", engine.name());
    }
}

/// One test a net, so that they run side by side.
macro_rules! nets {
    ($check:ident: $($test:ident = $name:literal,)*) => { $(#[test] fn $test() { $check($name); })* };
}

nets! { photographs:
    v1_075 = "mobilenet_v1_0.75_224",
    v1_025_slim = "mobilenet_v1_0.25_224_slim",
    v1_100_qat = "mobilenet_v1_1.0_224_qat",
    v2_100_qat = "mobilenet_v2_1.0_224_qat",
    v2_100_torch_bnx = "mobilenet_v2_1.0_224_torch_bnx",
    v2_035_tm = "mobilenet_v2_0.35_224_tm",
    v3_small_bnx = "mobilenet_v3_small_1.0_224_bnx",
    vww = "vww_96",
    v1_025_gray_tm = "mobilenet_v1_0.25_96_gray_tm",
}

nets! { family:
    hf_v1 = "hf_mobilenet_v1_025_128",
    hf_v2 = "hf_mobilenet_v2_035_96",
    timm_v1 = "timm_mobilenetv1_025",
    timm_v2 = "timm_mobilenetv2_050",
    timm_v3_small = "timm_mobilenetv3_small_050",
    timm_v4_conv_small = "timm_mobilenetv4_conv_small_050",
    timm_tf_v3_small_minimal = "timm_tf_mobilenetv3_small_minimal_100",
    torchvision_v2 = "torchvision_mobilenet_v2_035",
    torchvision_v3_large = "torchvision_mobilenet_v3_large",
}

/// No network of the data is left out, except the two that read text: they come in through ONNX.
#[test]
fn every_net_of_the_data_is_tested() {
    let Some(dir) = data::dir("real::every_net_of_the_data_is_tested") else { return };
    let here = include_str!("real.rs");
    let names = |folder: &str, ending: &str| -> Vec<String> {
        let files = std::fs::read_dir(dir.join(folder)).expect("a folder").flatten();
        files.filter_map(|f| f.file_name().to_str()?.strip_suffix(ending).map(str::to_owned)).collect()
    };
    let models = names("models", ".safetensors").into_iter().filter(|n| !n.starts_with("ppocr_"));
    for name in models.chain(names("family", ".io.safetensors")) {
        assert!(here.contains(&format!("\"{name}\"")), "{name} has no test");
    }
}
