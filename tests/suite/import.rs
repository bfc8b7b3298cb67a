//! ONNX models against what other libraries computed from them.

use std::path::{Path, PathBuf};

use mnc_compiler::back::clif::compile_jit;
use mnc_compiler::back::native;
use mnc_compiler::front::{self, Net};
use mnc_compiler::{compile, diag, ir};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;

use crate::checkpoints::{Trained, relative_error, tensor, trained};
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
    let lengths: Vec<usize> = net.graph.inputs.iter().map(|&id| net.graph.shape(id).elements()).collect();
    let reference = |x: &Vec<f32>| {
        let mut rest = x.as_slice();
        let parts: Vec<&[f32]> = lengths.iter().map(|&n| rest.split_off(..n).expect("lengths fit")).collect();
        ir::eval::eval(&net.graph, &parts).concat()
    };
    let mut all = vec![("reference", inputs.iter().map(reference).collect::<Vec<_>>())];
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
    let files = front::write_layers(net, dir, "a test").unwrap_or_else(|e| panic!("{}: {e}", net.name));
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
    assert_eq!(front::write_layers(&again, dir, "a test").expect("written once already"), files, "{}", net.name);
    again
}

/// Small models of what exporters do (`tests/onnx/make.py`) give what onnxruntime gave, and so does the spec written of each.
#[test]
fn small_models_give_what_another_runtime_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let all = models(&folder);
    assert!(all.len() >= 9);
    for path in all {
        let name = path.file_stem().and_then(|s| s.to_str()).expect("a name").to_owned();
        let sets: &[_] = if name == "open_sizes" { &[("input.height", "7"), ("input.width", "9")] } else { &[] };
        let net = load(&path, sets);
        let io = path.with_extension("io.safetensors");
        let read = |prefix: &str, n: usize| -> Vec<f64> { (0..n).flat_map(|i| tensor(&io, &format!("{prefix}{i}"))).collect() };
        let input: Vec<f32> = read("x", net.graph.inputs.len()).into_iter().map(|x| x as f32).collect();
        let want = read("y", net.graph.outputs.len());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let again = written(&net, dir.path());
        for net in [net, again] {
            for (engine, got) in outputs(net, std::slice::from_ref(&input)) {
                let error = relative_error(&got[0], &want);
                assert!(error <= 1e-5, "{name}, {engine}: {error:.2e}");
            }
        }
    }
}

/// What exporters write in pieces is one op, and where nothing need move nothing does.
#[test]
fn pieces_are_put_together() {
    let ops = |name: &str| {
        let net = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx").join(name), &[]);
        ir::print::text(&net.graph)
    };
    let gates = ops("gates.onnx");
    for (what, times) in
        [("act hswish", 1), ("act silu", 1), ("act hsigmoid", 1), ("scale", 1), ("global_pool", 1), ("batch_norm", 2)]
    {
        assert_eq!(gates.lines().filter(|l| l.contains(what)).count(), times, "{what} in\n{gates}");
    }
    let pixels = ops("pixels.onnx");
    assert!(!pixels.contains("transpose"), "{pixels}");
    let shuffle = ops("shuffle.onnx");
    assert!(shuffle.contains("gather") && !shuffle.contains("transpose"), "{shuffle}");
    let flatten = ops("flatten.onnx");
    assert!(flatten.contains("reshape") && !flatten.contains("transpose"), "{flatten}");
}

/// Every unsupported node is named at once.
#[test]
fn unsupported_nodes_are_listed_together() {
    let node = |op: &str, name: &str, from: &str, to: &str| {
        let mut node = Vec::new();
        for (field, text) in [(1, from), (2, to), (3, name), (4, op)] {
            bytes_field(&mut node, field, text.as_bytes());
        }
        node
    };
    let nodes = vec![node("Erf", "n1", "x", "a"), node("NonZero", "n2", "a", "b"), node("Erf", "", "b", "y")];
    let model = Model { nodes, ..Model::default() };
    let mistakes = front::load(&model.save(), &[], None).expect_err("unsupported");
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].message, "the model has 3 nodes that mnc does not support: Erf (at `n1`, `y`); NonZero (at `n2`)");
}

/// What a model makes its reader allocate is bounded, and what it names outside its folder is not read.
#[test]
fn hostile_models_are_refused() {
    let attribute = |name: &str, number: i64| {
        let mut a = Vec::new();
        bytes_field(&mut a, 1, name.as_bytes());
        varint_field(&mut a, 3, number.cast_unsigned());
        varint_field(&mut a, 20, 2);
        a
    };
    let node = |op: &str, inputs: &[&str], attributes: &[Vec<u8>]| {
        let mut node = Vec::new();
        inputs.iter().for_each(|i| bytes_field(&mut node, 1, i.as_bytes()));
        bytes_field(&mut node, 2, b"y");
        bytes_field(&mut node, 4, op.as_bytes());
        attributes.iter().for_each(|a| bytes_field(&mut node, 5, a));
        node
    };
    let ints = |name: &str, values: &[i64]| {
        let mut t = Vec::new();
        varint_field(&mut t, 1, values.len() as u64);
        varint_field(&mut t, 2, 7);
        bytes_field(&mut t, 8, name.as_bytes());
        bytes_field(&mut t, 9, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>());
        t
    };
    let external = |location: &str, offset: &str| {
        let mut t = Vec::new();
        varint_field(&mut t, 1, 4);
        varint_field(&mut t, 2, 1);
        bytes_field(&mut t, 8, b"c");
        for (key, value) in [("location", location), ("offset", offset), ("length", "16")] {
            let mut entry = Vec::new();
            bytes_field(&mut entry, 1, key.as_bytes());
            bytes_field(&mut entry, 2, value.as_bytes());
            bytes_field(&mut t, 13, &entry);
        }
        varint_field(&mut t, 14, 1);
        t
    };
    let huge = 1 << 40;
    type Messages = Vec<Vec<u8>>;
    let cases: Vec<(Messages, Messages, &str)> = vec![
        (vec![node("ConstantOfShape", &["c"], &[])], vec![ints("c", &[huge, huge])], "too large"),
        (vec![node("Expand", &["x", "c"], &[])], vec![ints("c", &[huge, 3, 4, 4])], "too large"),
        (vec![node("Range", &["c", "d", "e"], &[])], vec![ints("c", &[0]), ints("d", &[i64::MAX]), ints("e", &[1])], "too large"),
        (vec![node("Tile", &["c", "d"], &[])], vec![ints("c", &[1, 2]), ints("d", &[huge])], "too large"),
        (vec![node("Reshape", &["x", "c"], &[])], vec![ints("c", &[huge, huge, huge, 0])], "too large"),
        (vec![node("Pad", &["x", "c"], &[])], vec![ints("c", &[0, 0, huge, 0, 0, 0, 0, 0])], "not within"),
        (vec![node("Gather", &["x", "c"], &[attribute("axis", 2)])], vec![ints("c", &[7])], "index 7 is not within"),
        (vec![node("Add", &["x", "c"], &[])], vec![external("../c.data", "0")], "not below the model's folder"),
        (vec![node("Add", &["x", "c"], &[])], vec![external("/etc/hostname", "0")], "not below the model's folder"),
        (vec![node("Add", &["x", "c"], &[])], vec![external("model.onnx", "99999")], "ends behind the end"),
        (vec![node("Add", &["x", "c"], &[])], vec![external("model.onnx", "-1")], "is no number"),
        (vec![node("Add", &["x", "missing"], &[])], vec![], "which no node before it makes"),
        (vec![node("Softmax", &["x"], &[attribute("axis", i64::MIN)])], vec![], "there is no axis"),
        (vec![node("Flatten", &["x"], &[attribute("axis", i64::MAX)])], vec![], "there is no axis"),
    ];
    for (nodes, initializers, message) in cases {
        let model = Model { nodes, initializers, ..Model::default() };
        let mistakes = front::load(&model.save(), &[], None).expect_err(message);
        let shown = diag::render(&mistakes, false);
        assert!(shown.contains(message), "want {message}, got {shown}");
    }
}

/// Models that are cut off or changed anywhere are diagnosed or read; nothing panics.
#[test]
fn broken_models_are_diagnosed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx");
    let mut all = models(&folder);
    if let Some(dir) = data::dir("import::broken_models_are_diagnosed (large models)") {
        all.push(dir.join("models/vww_96.onnx"));
        all.push(dir.join("onnx/timm_mobilenetv3_small_050_dynamo.onnx"));
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("model.onnx");
    let mut rng = ir::random::Random::new(3);
    let (mut whole, mut refused) = (0, 0);
    for model in all {
        let bytes = std::fs::read(&model).expect("a model");
        let mut attempt = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("writable");
            match front::load(&path, &[], None) {
                Ok(_) => whole += 1,
                Err(mistakes) => {
                    assert!(!mistakes.is_empty() && mistakes.iter().all(|d| !d.message.is_empty()));
                    refused += 1;
                }
            }
        };
        for part in 0..64 {
            attempt(&bytes[..bytes.len() * part / 64]);
        }
        for _ in 0..200 {
            let mut changed = bytes.clone();
            for _ in 0..1 + (rng.uniform(0.0, 3.0) as usize) {
                let at = (rng.uniform(0.0, bytes.len() as f32) as usize).min(bytes.len() - 1);
                changed[at] ^= 1 << (rng.uniform(0.0, 8.0) as u32).min(7);
            }
            attempt(&changed);
        }
    }
    println!("{whole} could still be read, {refused} were refused");
    assert!(refused > whole / 4);
}

/// A model by its messages' bytes: an input `x` of `[1, 3, 4, 4]`, an output `y`.
struct Model {
    nodes: Vec<Vec<u8>>,
    initializers: Vec<Vec<u8>>,
    dir: tempfile::TempDir,
}

impl Default for Model {
    fn default() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        Self { nodes: Vec::new(), initializers: Vec::new(), dir }
    }
}

impl Model {
    /// Writes it to a folder that stays as long as the model.
    fn save(&self) -> PathBuf {
        let value = |name: &str, dims: &[u64]| {
            let mut shape = Vec::new();
            for &d in dims {
                let mut dim = Vec::new();
                varint_field(&mut dim, 1, d);
                bytes_field(&mut shape, 1, &dim);
            }
            let (mut tensor, mut kind, mut info) = (Vec::new(), Vec::new(), Vec::new());
            varint_field(&mut tensor, 1, 1);
            bytes_field(&mut tensor, 2, &shape);
            bytes_field(&mut kind, 1, &tensor);
            bytes_field(&mut info, 1, name.as_bytes());
            bytes_field(&mut info, 2, &kind);
            info
        };
        let mut graph = Vec::new();
        self.nodes.iter().for_each(|n| bytes_field(&mut graph, 1, n));
        self.initializers.iter().for_each(|t| bytes_field(&mut graph, 5, t));
        bytes_field(&mut graph, 11, &value("x", &[1, 3, 4, 4]));
        bytes_field(&mut graph, 12, &value("y", &[]));
        let (mut opset, mut model) = (Vec::new(), Vec::new());
        varint_field(&mut opset, 2, 17);
        varint_field(&mut model, 1, 8);
        bytes_field(&mut model, 7, &graph);
        bytes_field(&mut model, 8, &opset);
        let path = self.dir.path().join("model.onnx");
        std::fs::write(&path, model).expect("writable");
        path
    }
}

/// Protobuf's variable-length integer.
fn varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 128 {
        out.push(v as u8 | 128);
        v >>= 7;
    }
    out.push(v as u8);
}

fn varint_field(out: &mut Vec<u8>, field: u64, v: u64) {
    varint(out, field << 3);
    varint(out, v);
}

fn bytes_field(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
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

/// Trained networks, their weights in a file beside them: classifiers of photographs and of text, and one that finds text.
#[test]
fn trained_models_give_what_another_runtime_gives() {
    let Some(dir) = data::dir("import::trained_models_give_what_another_runtime_gives") else { return };
    for Trained { name, model, outputs: names, inputs, wants } in trained(&dir, 3) {
        let net = load(&model, &[]);
        assert_eq!(net.graph.output_names, names, "{name}");
        let lengths: Vec<usize> = net.graph.outputs.iter().map(|&id| net.graph.shape(id).elements()).collect();
        if names.len() > 1 {
            let alone = load(&model, &[("outputs", "logits")]);
            assert_eq!(ir::print::text(&alone.graph).lines().count() + 1, ir::print::text(&net.graph).lines().count(), "{name}");
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert_eq!(outputs(written(&net, folder.path()), &inputs[..1]), outputs(net.clone(), &inputs[..1]), "{name}");
        for (engine, got) in outputs(net, &inputs) {
            let mut error = 0.0f64;
            for (mut got, mut want) in got.iter().map(Vec::as_slice).zip(wants.iter().map(Vec::as_slice)) {
                for &n in &lengths {
                    let (this, that) = (got.split_off(..n).expect("all"), want.split_off(..n).expect("all"));
                    error = error.max(relative_error(this, that));
                }
                assert!(got.is_empty() && want.is_empty(), "{name}, {engine}");
            }
            println!("{name:45} {engine:9} within {error:.1e}");
            assert!(error <= 1e-4, "{name}, {engine}: {error:.2e}");
        }
    }
}
