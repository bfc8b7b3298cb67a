//! The macro and the Rust back end: what their code computes, in programs of its own and in this one.

use std::fs;
use std::path::{Path, PathBuf};

use mnc::Net as _;
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::back::rust::{self, WeightSource};
use mnc_compiler::ir::eval::eval;
use mnc_compiler::ir::random::Random;
use mnc_compiler::{front, image, pass, plan};
use mnc_runtime::isa::Isa;
use mnc_runtime::params::Method;

use crate::checkpoints::{self, FAMILY, REAL};
use crate::package::{NetCase, Package};
use crate::{data, r#gen};

mnc::mobilenet_net! {
    /// A net of this test, from a shipped spec.
    struct Shipped<alpha = 0.25, input.height = 64, input.width = 96, classes = 10> = "examples/nets/mobilenet_v1.toml";

    /// One of its layers is computed by Strassen's method.
    struct Quarters<alpha = 0.5, input.height = 112, input.width = 112, classes = 10, plan.strassen = true>
        = "examples/nets/mobilenet_v1.toml";

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
    let mut resident = Shipped::resident();
    assert_eq!((resident.inputs(), resident.outputs()), (Shipped::INPUTS, Shipped::OUTPUTS));
    let mut same = vec![0.0; Shipped::OUTPUT_LEN];
    resident.run(&x, &mut same).expect("lengths are those of the shapes");
    assert_eq!(same, got, "the same kernels on the same weights");
    same.fill(0.0);
    resident.run_on(&mut mnc::Team::new(2), &x, &mut same).expect("lengths are those of the shapes");
    assert_eq!(same, got);
    assert_eq!((Shipped::INPUT_SHAPE, Shipped::OUTPUT_SHAPE), ([1, 64, 96, 3], [1, 1, 1, 10]));
    assert_eq!(Shipped::PARAMS, net.graph.params());
}

#[test]
fn strassens_method_is_one_of_the_tables() {
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/nets/mobilenet_v1.toml");
    let [side, on] = ["112", "true"];
    let sets = [("alpha", "0.5"), ("input.height", side), ("input.width", side), ("classes", "10"), ("plan.strassen", on)];
    let sets = sets.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let net = mnc_compiler::compile(front::load(&spec, &sets, None).unwrap().0).unwrap();
    let by_it = |s: &plan::Step| matches!(&s.kernel, plan::Kernel::Pointwise { params, .. } if params.method == Method::Strassen);
    assert_eq!(net.plan.steps().filter(|s| by_it(s)).count(), 1);
    let x = input(Quarters::INPUT_LEN, 4);
    let (mut want, mut got) = (vec![0.0; 10], vec![0.0; 10]);
    NativeNet::new(net.plan, Isa::detect()).run(&x, &mut want).unwrap();
    mnc::Net::run(&mut *Quarters::boxed(), &x, &mut got).unwrap();
    assert_eq!(got, want, "the same bits");
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
    b.fill(0.0);
    AtRunTime::resident(weights).run(&x, &mut b).unwrap();
    assert_eq!(a, b);

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
    let package = Package::new("random-nets");
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
        // every way to plan: threads, streaming, for speed and for memory
        let stream = [plan::Stream::Auto, plan::Stream::Never, plan::Stream::Always][seed as usize % 3];
        let prefer = [plan::Prefer::Speed, plan::Prefer::Memory][seed as usize / 3 % 2];
        let plan = plan::build(
            &graph,
            meta,
            &plan::Options { threads: 1 + seed as usize % 4, prefer, stream, grouped: true, winograd: true, strassen: true },
        )
        .unwrap();
        let options = rust::Options {
            type_name: rust::type_name(&name),
            docs: Vec::new(),
            weights: WeightSource::Embedded(format!("{name}.weights")),
            weights_from: "a test".into(),
        };
        package.write(&format!("src/{name}.rs"), rust::source(&plan, &options));
        package.write(&format!("src/{name}.weights"), rust::weight_file(&plan, &options.weights).bytes);
        items += &format!("#[deny(warnings)]\nmod {name};\n");
        wanted.push((plan.outputs, r#gen::answer(&case.graph, &case.input)));
        cases.push(NetCase { path: format!("{name}::{}", options.type_name), inputs: vec![case.input] });
    }
    let got = package.run_nets(&items, &cases);
    for ((case, got), (outputs, want)) in cases.iter().zip(&got).zip(&wanted) {
        for port in outputs {
            assert_close(&case.path, &got[0][port.range()], &want[port.range()]);
        }
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
    let package = Package::new("shipped-nets");
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    for spec in files(&folder, "toml") {
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

/// Every checkpoint of the test data by the macro: reference vectors of public libraries, and the logits of photographs.
#[test]
fn macro_nets_of_real_checkpoints_give_the_publishers_outputs() {
    let Some(data) = data::dir("macros::macro_nets_of_real_checkpoints_give_the_publishers_outputs") else { return };
    let package = Package::new("checkpoints");
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    let mut add = |name: &str, folder: &str, inputs: Vec<Vec<f32>>, outputs: Vec<Vec<f64>>| {
        let (spec, checkpoint) = (checkpoints::spec(name), data.join(folder).join(format!("{name}.safetensors")));
        let type_name = rust::type_name(name);
        let (spec, checkpoint) = (spec.display().to_string(), checkpoint.display().to_string());
        items += &format!("mnc::mobilenet_net! {{ pub struct {type_name}<weights = {checkpoint:?}> = {spec:?}; }}\n");
        cases.push(NetCase { path: type_name, inputs });
        wanted.push(outputs);
    };
    for name in FAMILY {
        let io = data.join("family").join(format!("{name}.io.safetensors"));
        let input = checkpoints::tensor(&io, "input_nhwc").into_iter().map(|x| x as f32).collect();
        add(name, "family", vec![input], vec![checkpoints::tensor(&io, "output")]);
    }
    for (name, folder) in REAL {
        let net = checkpoints::load(name, &data.join("models"));
        let shape = net.graph.shape(net.graph.inputs[0]);
        let expected = data::json(&data.join("expected").join(format!("{name}.json")));
        let mut pictures: Vec<&String> = expected["images"].as_object().expect("pictures").keys().collect();
        pictures.sort();
        let input = |picture: &&String| {
            let picture = image::open(&data.join("images").join(folder).join(format!("{picture}.png"))).expect("a crop");
            image::input(&picture, &net.preprocess, shape).expect("an input")
        };
        let logits = checkpoints::tensor(&data.join("expected").join(format!("{name}.safetensors")), "logits_f64");
        let outputs = logits.chunks_exact(logits.len() / pictures.len()).map(<[f64]>::to_vec).collect();
        add(name, "models", pictures.iter().map(input).collect(), outputs);
    }
    let got = package.run_nets(&items, &cases);
    for ((case, got), want) in cases.iter().zip(&got).zip(&wanted) {
        for (got, want) in got.iter().zip(want) {
            let error = checkpoints::relative_error(got, want);
            assert!(error <= 1e-4, "{}: {error:.2e}", case.path);
            let best = |v: &[f64]| v.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map(|(i, _)| i);
            let got: Vec<f64> = got.iter().map(|&x| f64::from(x)).collect();
            assert_eq!(best(&got), best(want), "{}: top-1", case.path);
        }
    }
}

/// Model files by the macro: the small ones of this repository, and every ONNX and TFLite file of the test data.
#[test]
fn macro_nets_of_model_files_give_what_other_runtimes_give() {
    let package = Package::new("model-files");
    let (mut items, mut cases, mut wanted) = (String::new(), Vec::new(), Vec::new());
    let mut add = |prefix: &str, file: &Path, sets: &str, inputs: Vec<Vec<f32>>, outputs: Vec<Vec<f64>>| {
        let stem = file.file_stem().and_then(|s| s.to_str()).expect("a name");
        let type_name = rust::type_name(&format!("{prefix}_{stem}"));
        items += &format!("mnc::mobilenet_net! {{ pub struct {type_name}{sets} = {:?}; }}\n", file.display().to_string());
        cases.push(NetCase { path: type_name, inputs });
        wanted.push(outputs);
    };
    let floats = |v: Vec<f64>| v.into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let small = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx"), "onnx");
    assert!(small.len() >= 10, "{small:?}");
    for file in small {
        let io = file.with_extension("io.safetensors");
        let sets = if file.ends_with("open_sizes.onnx") { "<input.height = 7, input.width = 9>" } else { "" };
        let all = |prefix: &str| checkpoints::numbered(&io, prefix);
        add("small", &file, sets, vec![floats(all("x"))], vec![all("y")]);
    }
    if let Some(data) = data::dir("macros::macro_nets_of_model_files_give_what_other_runtimes_give (the large ones)") {
        for file in files(&data.join("onnx"), "onnx") {
            let stem = file.file_stem().and_then(|s| s.to_str()).expect("a name");
            let family = stem.trim_end_matches("_dynamo").trim_end_matches("_torchscript");
            let io = data.join("family").join(format!("{family}.io.safetensors"));
            let input = floats(checkpoints::tensor(&io, "input_nhwc"));
            add("onnx", &file, "", vec![input], vec![checkpoints::tensor(&io, "output")]);
        }
        for file in files(&data.join("tflite"), "tflite") {
            let io = file.with_extension("io.safetensors");
            let input = floats(checkpoints::tensor(&io, "input_nhwc"));
            add("tflite", &file, "", vec![input], vec![checkpoints::tensor(&io, "output")]);
        }
        for model in checkpoints::trained(&data, 2) {
            add("trained", &model.model, "", model.inputs, model.wants);
        }
    }
    let got = package.run_nets(&items, &cases);
    for ((case, got), want) in cases.iter().zip(&got).zip(&wanted) {
        for (got, want) in got.iter().zip(want) {
            let error = checkpoints::relative_error(got, want);
            assert!(error <= 1e-4, "{}: {error:.2e}", case.path);
        }
    }
}

/// What cargo and an editor rely on: a changed spec or checkpoint rebuilds the crate, an unchanged one costs nothing.
#[test]
fn a_changed_spec_rebuilds_the_program() {
    let package = Package::new("rebuilt");
    let spec = |out: usize| {
        format!(
            "[net]\nname = \"n\"\ninput = {{ height = 4, width = 4 }}\nlabels = \"labels.txt\"\n\
             [[block]]\nkind = \"global_avg_pool\"\n[[block]]\nkind = \"dense\"\nout = {out}\n"
        )
    };
    package.write("nets/n.toml", spec(2));
    package.write("nets/labels.txt", "a\nb\n");
    package.write(
        "src/main.rs",
        "mnc::mobilenet_net! { pub struct N = \"nets/n.toml\"; }\n\
         fn main() { std::fs::write(\"seen\", format!(\"{:?} {:?}\", N::OUTPUT_LEN, N::LABELS)).unwrap(); }\n",
    );
    let seen = || {
        package.run(&[]);
        package.read("seen")
    };
    assert_eq!(seen(), r#"2 ["a", "b"]"#);
    // cargo compares times of change
    std::thread::sleep(std::time::Duration::from_millis(50));
    package.write("nets/labels.txt", "a\nc\n");
    assert_eq!(seen(), r#"2 ["a", "c"]"#, "the labels changed");
    std::thread::sleep(std::time::Duration::from_millis(50));
    package.write("nets/labels.txt", "a\nb\nc\n");
    package.write("nets/n.toml", spec(3));
    assert_eq!(seen(), r#"3 ["a", "b", "c"]"#, "the spec changed");
    // Measured stages: read once the spec is looked at again, watched from then on.
    package.write("nets/n.tune.toml", "garbled");
    package.write("nets/n.toml", spec(3) + "\n");
    assert_eq!(seen(), r#"3 ["a", "b", "c"]"#, "they are ignored, with a warning");
    assert!(package.watches("n.tune.toml"), "a change of theirs rebuilds the crate");
}

/// The files of a folder that end in `.end`, by name; none where there is no folder.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|e| e == end)).collect();
    files.sort();
    files
}
