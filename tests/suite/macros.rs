//! The macro and the Rust back end: what their code computes, in programs of its own and in this one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mnc::Net as _;
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::back::rust::{self, WeightSource};
use mnc_compiler::ir::eval::eval;
use mnc_compiler::ir::random::Random;
use mnc_compiler::{front, pass, plan};

use crate::package::{NetCase, Package};
use crate::{data, r#gen};

mnc::mobilenet_net! {
    /// A net of this test, from a shipped spec.
    struct Shipped<alpha = 0.25, input.height = 64, input.width = 96, classes = 10> = "examples/nets/mobilenet_v1.toml";

    struct Inline {
        net { input: { height: 17, width: 9, channels: 3, mean: [0.5, 0.4, 0.3], std: [0.2, 0.3, 0.4] }, activation: hswish, padding: same }
        weights { seed: 7 }
        block conv { kernel: 3, stride: 2, out: 12 }
        block inverted_residual { expand: 3, out: 12 }
        block global_avg_pool {}
        block dense { out: 5 }
        block softmax {}
    }

    struct AtRunTime<weights = "extern"> {
        net { input: { height: 8, width: 8 } }
        weights { seed: 3 }
        block conv { kernel: 3, stride: 2, out: 8 }
        block separable { out: 20 }
        block global_avg_pool {}
        block dense { out: 4 }
    }
}

/// Within a ten-thousandth of the largest element: emitted code and graph differ by rounding alone.
fn assert_close(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= 1e-4 * largest, "{what}: element {i} is {g}, not {w} (largest {largest})");
    }
}

fn input(len: usize, seed: u64) -> Vec<f32> {
    r#gen::uniform(&mut Random::new(seed), len, -1.0, 1.0)
}

#[test]
fn macro_net_computes_what_the_spec_says() {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets/mobilenet_v1.toml");
    let sets = [("alpha", "0.25"), ("input.height", "64"), ("input.width", "96"), ("classes", "10")];
    let sets = sets.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let (net, _) = front::load(&spec, &sets, None).unwrap();
    let x = input(Shipped::INPUT_LEN, 1);
    let want = eval(&net.graph, &[&x]);
    let mut got = vec![0.0; Shipped::OUTPUT_LEN];
    Shipped::boxed().run(x.as_slice().try_into().unwrap(), got.as_mut_slice().try_into().unwrap());
    assert_close("Shipped", &got, &want[0]);
    assert_eq!((Shipped::INPUT_SHAPE, Shipped::OUTPUT_SHAPE), ([1, 64, 96, 3], [1, 1, 1, 10]));
    assert_eq!(Shipped::PARAMS, net.graph.params());
}

#[test]
fn a_net_can_be_a_static_and_its_lengths_are_checked() {
    static NET: std::sync::Mutex<Inline> = std::sync::Mutex::new(Inline::new());
    let mut net = NET.lock().unwrap();
    let mut pixels = [0; Inline::INPUT_LEN];
    pixels.iter_mut().enumerate().for_each(|(i, p)| *p = (i * 7 % 256) as u8);
    let mut x = [0.0; Inline::INPUT_LEN];
    Inline::normalize(&pixels, &mut x);
    assert_eq!(x[1], ((7.0 / 255.0 - Inline::MEAN[1]) / Inline::STD[1]) as f32);
    let mut y = [0.0; Inline::OUTPUT_LEN];
    net.run(&x, &mut y);
    assert!((y.iter().sum::<f32>() - 1.0).abs() < 1e-5, "softmax: {y:?}");
    let error = mnc::Net::run(&mut *net, &x[1..], &mut y).unwrap_err();
    assert_eq!(error, mnc::RunError::Input { expected: Inline::INPUT_LEN, actual: Inline::INPUT_LEN - 1 });
    assert_eq!(net.arena_bytes(), Inline::ARENA_BYTES);
    assert_eq!(size_of::<Inline>(), Inline::ARENA_BYTES, "the net is its arena");
}

#[test]
fn weights_given_at_run_time_are_checked_and_used() {
    let file = fs::read(AtRunTime::WEIGHT_FILE).unwrap();
    // at an address that f32 can be read from
    let mut room = vec![0u64; file.len() / 8 + 1];
    let mut aligned: Vec<u8> = Vec::new();
    let bytes: &[u8] = {
        room.iter_mut().zip(file.chunks(8)).for_each(|(r, c)| {
            let mut b = [0; 8];
            b[..c.len()].copy_from_slice(c);
            *r = u64::from_le_bytes(b);
        });
        aligned.extend(room.iter().flat_map(|r| r.to_le_bytes()));
        &aligned[..file.len()]
    };
    let weights = AtRunTime::weights(bytes).unwrap();
    let x: [f32; AtRunTime::INPUT_LEN] = input(AtRunTime::INPUT_LEN, 5).try_into().unwrap();
    let (mut a, mut b) = ([0.0; AtRunTime::OUTPUT_LEN], [0.0; AtRunTime::OUTPUT_LEN]);
    let mut net = AtRunTime::new();
    net.run(weights, &x, &mut a);
    net.with(weights).run(&x, &mut b).unwrap();
    assert_eq!(a, b);
    assert!(a.iter().any(|&v| v != 0.0));

    let mut other = file.clone();
    let key = other.windows(32).position(|w| w == AtRunTime::WEIGHT_LAYOUT.as_bytes()).unwrap();
    other[key] ^= 1;
    assert_eq!(AtRunTime::weights(&other).unwrap_err(), mnc::WeightError::OtherNet);
    assert!(matches!(AtRunTime::weights(&file[..file.len() - 1]).unwrap_err(), mnc::WeightError::Truncated));
}

/// Nets drawn at random: their emitted modules in one program, against the graph.
#[test]
fn emitted_code_of_random_nets_computes_what_the_graphs_do() {
    const NETS: u64 = 60;
    let package = Package::new("random-nets", true);
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    for seed in 0..NETS {
        let case = r#gen::seeded(1000 + seed);
        let mut graph = case.graph.clone();
        // every other net as the front end makes it, the rest through all passes
        if seed % 2 == 0 {
            pass::run(&mut graph, &front::PassOptions::default(), None, None).unwrap();
        }
        let name = format!("net{seed}");
        let meta = plan::Meta { name: name.clone(), preprocess: no_preprocess(), labels: Vec::new(), params: 0 };
        let plan = plan::build(&graph, meta).unwrap();
        let options = rust::Options {
            type_name: rust::type_name(&name),
            docs: Vec::new(),
            weights: WeightSource::Embedded(format!("{name}.weights")),
            weights_from: "a test".into(),
        };
        package.write(&format!("src/{name}.rs"), rust::source(&plan, &options));
        package.write(&format!("src/{name}.weights"), rust::weight_file(&plan, &options.weights).bytes);
        items += &format!("#[deny(warnings)]\nmod {name};\n");
        wanted.push(eval(&case.graph, &[&case.input]).remove(0));
        cases.push(NetCase { path: format!("{name}::{}", options.type_name), inputs: vec![case.input] });
    }
    let got = package.run_nets(&items, &cases);
    for ((case, got), want) in cases.iter().zip(&got).zip(&wanted) {
        assert_close(&case.path, &got[0], want);
    }
}

fn no_preprocess() -> front::Preprocess {
    front::Preprocess {
        resize: front::Resize::Squash,
        filter: front::Filter::Bilinear,
        order: front::ColorOrder::Rgb,
        mean: Vec::new(),
        std: Vec::new(),
        in_graph: false,
    }
}

/// Every shipped spec by the macro, narrow and small, against the graph.
#[test]
fn macro_nets_of_all_shipped_specs_compute_what_the_graphs_do() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets");
    let package = Package::new("shipped-nets", false);
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    for spec in toml_files(&folder) {
        let name = rust::type_name(spec.file_stem().unwrap().to_str().unwrap());
        // the groups of EdgeTPU's blocks do not divide a narrow net
        let alpha = if name.contains("Edgetpu") { "1.0" } else { "0.25" };
        let sets = [("alpha", alpha), ("input.height", "65"), ("input.width", "96"), ("classes", "12")];
        let list = sets.map(|(k, v)| format!("{k} = {v}")).join(", ");
        let sets = sets.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let (net, _) = front::load(&spec, &sets, None).unwrap_or_else(|d| panic!("{}", mnc_compiler::diag::render(&d, false)));
        let x = input(net.graph.shape(net.graph.inputs[0]).elements(), 3);
        wanted.push(eval(&net.graph, &[&x]).remove(0));
        items += &format!("mnc::mobilenet_net! {{ pub struct {name}<{list}> = {:?}; }}\n", spec.display().to_string());
        cases.push(NetCase { path: name, inputs: vec![x] });
    }
    let got = package.run_nets(&items, &cases);
    for ((case, got), want) in cases.iter().zip(&got).zip(&wanted) {
        assert_close(&case.path, &got[0], want);
    }
}

/// Every checkpoint of the test data by the macro: reference vectors of public libraries, and photographs' crops.
#[test]
fn macro_nets_of_real_checkpoints_give_the_publishers_outputs() {
    let Some(data) = data::dir("macro nets of real checkpoints") else { return };
    let specs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nets");
    let package = Package::new("checkpoints", false);
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    for spec in toml_files(&specs) {
        let stem = spec.file_stem().unwrap().to_str().unwrap().to_owned();
        let family = data.join("family").join(format!("{stem}.safetensors"));
        let model = data.join("models").join(format!("{stem}.safetensors"));
        let (checkpoint, pairs) = if family.is_file() {
            (family, vec![family_pair(&data, &stem)])
        } else if model.is_file() {
            (model.clone(), vec![native_pair(&spec, &model)])
        } else {
            continue;
        };
        let name = rust::type_name(&stem);
        let (spec, checkpoint) = (spec.display().to_string(), checkpoint.display().to_string());
        items += &format!("mnc::mobilenet_net! {{ pub struct {name}<weights = {checkpoint:?}> = {spec:?}; }}\n");
        let (inputs, outputs): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        cases.push(NetCase { path: name, inputs });
        wanted.push(outputs);
    }
    assert!(!cases.is_empty(), "no spec of {} has a checkpoint in {}", specs.display(), data.display());
    let got = package.run_nets(&items, &cases);
    for ((case, got), want) in cases.iter().zip(&got).zip(&wanted) {
        for (got, want) in got.iter().zip(want) {
            assert_close(&case.path, got, want);
        }
    }
}

/// Input and output of a reference vector.
fn family_pair(data: &Path, stem: &str) -> (Vec<f32>, Vec<f32>) {
    let tensors = read_tensors(&data.join("family").join(format!("{stem}.io.safetensors")));
    (tensors["input_nhwc"].clone(), tensors["output"].clone())
}

/// An input, and what the plan computes of it call by call; that this is the publisher's output is tested elsewhere.
fn native_pair(spec: &Path, checkpoint: &Path) -> (Vec<f32>, Vec<f32>) {
    let (net, _) =
        front::load(spec, &[], Some(checkpoint)).unwrap_or_else(|d| panic!("{}", mnc_compiler::diag::render(&d, false)));
    let plan = mnc_compiler::compile(net).unwrap().plan;
    let (x, mut y) = (input(plan.input.shape.elements(), 9), vec![0.0; plan.output.shape.elements()]);
    let mut native = NativeNet::new(plan, mnc::runtime::isa::Isa::detect());
    mnc::Net::run(&mut native, &x, &mut y).unwrap();
    (x, y)
}

fn read_tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let floats = |b: &[u8]| b.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    file.tensors().into_iter().map(|(name, t)| (name, floats(t.data()))).collect()
}

/// The specs of a folder, by name; none where there is no folder.
fn toml_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    files
}
