//! TFLite models against what TensorFlow's own interpreter computed from them, and files that are none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mnc_compiler::back::clif::compile_jit;
use mnc_compiler::back::native::NativeNet;
use mnc_compiler::front::{self, Net};
use mnc_compiler::ir::random::Random;
use mnc_compiler::{compile, diag};
use mnc_runtime::isa::Isa;
use safetensors::SafeTensors;

use crate::checkpoints::{relative_error, tensor};
use crate::data;
use crate::r#gen::answer;
use crate::import::written;

/// The net of a file, or the text of what is wrong with it.
pub fn load(path: &Path) -> Result<Net, String> {
    let shown = |d: diag::Diagnostics| diag::render(&d, false);
    let (net, warnings) = front::load(path, &[], None).map_err(shown)?;
    assert!(warnings.is_empty(), "{}", shown(warnings));
    Ok(net)
}

/// What every engine makes of `input`, the reference first; all inputs and all outputs stand one behind the other.
pub fn outputs(net: Net, input: &[f32]) -> Vec<(&'static str, Vec<f32>)> {
    let name = net.name.clone();
    let mut all = vec![("reference", answer(&net.graph, input))];
    let compiled = compile(net).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut run = |engine, net: &mut dyn mnc_runtime::net::Net| {
        let mut y = vec![f32::NAN; net.output_len()];
        net.run(input, &mut y).expect("lengths fit");
        all.push((engine, y));
    };
    run("native", &mut NativeNet::new(compiled.plan.clone(), Isa::detect()));
    run("jit", &mut compile_jit(&compiled.plan).unwrap_or_else(|e| panic!("{name}: {e}")));
    all
}

/// The files of the test data.
fn models(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("tflite")).expect("a folder").map(|e| e.expect("an entry").path());
    let mut all: Vec<PathBuf> = files.filter(|p| p.extension().is_some_and(|e| e == "tflite")).collect();
    all.sort();
    all
}

/// Every network of the data, by Keras through TensorFlow's converter; as a spec it is the same graph.
#[test]
fn converted_networks_give_their_reference_outputs() {
    let Some(dir) = data::dir("tflite::converted_networks_give_their_reference_outputs") else { return };
    let models = models(&dir);
    assert!(models.len() >= 4, "{models:?}");
    for path in models {
        let io = path.with_extension("io.safetensors");
        let input: Vec<f32> = tensor(&io, "input_nhwc").into_iter().map(|x| x as f32).collect();
        let want = tensor(&io, "output");
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
        let net = load(&path).unwrap_or_else(|e| panic!("{e}"));
        written(&net, tempfile::tempdir().expect("a folder").path());
        for (engine, got) in outputs(net, &input) {
            let error = relative_error(&got, &want);
            println!("{stem:45} {engine:9} within {error:.1e}");
            assert!(error <= 1e-4, "{stem}, {engine}: {error:.2e}");
        }
    }
}

/// What `tests/tflite/make.py` writes.
const CASES: &str = "tflite/cases.safetensors";

/// A model with its inputs, one behind the other, and the answers.
pub struct Case {
    /// The bytes of its file.
    pub model: Vec<u8>,
    /// All inputs.
    pub input: Vec<f32>,
    /// Each output.
    pub wants: Vec<Vec<f64>>,
}

/// The cases of a file below `tests`.
pub fn cases(file: &str) -> BTreeMap<String, Case> {
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file)).expect("the cases");
    let tensors = SafeTensors::deserialize(&file).expect("tensors");
    let floats = |name: &str| -> Option<Vec<f32>> {
        let data = tensors.tensor(name).ok()?.data().to_vec();
        Some(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    };
    let all = |name: &str, end: &str| (0..).map_while(|i| floats(&format!("{name}.{end}.{i}"))).collect::<Vec<_>>();
    let names = tensors.names().into_iter().filter_map(|n| n.strip_suffix(".model")).map(str::to_owned).collect::<Vec<_>>();
    let case = |name: &str| Case {
        model: tensors.tensor(&format!("{name}.model")).expect("listed").data().to_vec(),
        input: all(name, "in").concat(),
        wants: all(name, "out").into_iter().map(|y| y.into_iter().map(f64::from).collect()).collect(),
    };
    names.into_iter().map(|name| (name.clone(), case(&name))).collect()
}

/// What is refused of the cases, and a part of why.
const REFUSED: [(&str, &str); 2] = [("refused_exp", "EXP of computed tensors"), ("refused_integers", "is quantised: 1")];

/// Every operator with its options, against TensorFlow's reference kernels.
#[test]
fn operators_compute_what_tensorflow_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut refused = Vec::new();
    let mut wrong = Vec::new();
    for (name, case) in cases(CASES) {
        let path = folder.path().join(format!("{name}.tflite"));
        std::fs::write(&path, &case.model).expect("written");
        let net = match load(&path) {
            Ok(net) => net,
            Err(why) => {
                refused.push((name, why));
                continue;
            }
        };
        // What computes nothing is no spec.
        if net.graph.len() > net.graph.inputs.len() {
            written(&net, folder.path());
        } else {
            assert!(front::write_layers(&net, folder.path(), "a test").is_err(), "{name}");
        }
        for (engine, got) in outputs(net, &case.input) {
            let mut rest = &got[..];
            for (i, want) in case.wants.iter().enumerate() {
                let Some((got, behind)) = rest.split_at_checked(want.len()) else {
                    wrong.push(format!("{name}, {engine}: {} elements", got.len()));
                    break;
                };
                rest = behind;
                let error = relative_error(got, want);
                if error.is_nan() || error > 1e-5 {
                    wrong.push(format!("{name}, {engine}, output {i}: {error:.2e}: {got:?}, not {want:?}"));
                }
            }
            if !rest.is_empty() {
                wrong.push(format!("{name}, {engine}: {} elements too many", rest.len()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let unexpected: Vec<_> =
        refused.iter().filter(|(name, why)| !REFUSED.iter().any(|(n, part)| n == name && why.contains(part))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert!(REFUSED.iter().all(|(name, _)| refused.iter().any(|(n, _)| n == name)), "{refused:?}");
}

/// Every cut and many changed bytes of many models: a diagnostic or a net, never a panic, never a long while.
#[test]
fn broken_files_are_diagnosed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("broken.tflite");
    let mut random = Random::new(3);
    let (mut errors, mut nets) = (0, 0);
    let mut open = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        match load(&path) {
            Ok(_) => nets += 1,
            Err(text) => {
                assert!(text.starts_with("error: ") && text.len() < 20_000, "{} characters: {text:.300}", text.len());
                errors += 1;
            }
        }
    };
    let cases = cases(CASES);
    for (name, Case { model, .. }) in &cases {
        let every = if matches!(name.as_str(), "branches") { 1 } else { 113 };
        (0..model.len()).step_by(every).for_each(|cut| open(&model[..cut]));
        for at in (0..model.len()).step_by(every) {
            for change in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = model.clone();
                bytes[at] = if change == 1 { bytes[at].wrapping_add(1) } else { change };
                open(&bytes);
            }
        }
        for _ in 0..8 {
            let mut bytes = model.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() / 4) * 4;
                let word = [0, 1, 4, 0x7fff_ffff, 0xffff_ffff, 0x4000_0000, random.below(256) as u32][random.below(7)];
                bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
            }
            open(&bytes);
        }
    }
    println!("{errors} refused, {nets} loaded");
    assert!(errors > 3000 && nets > 500, "{errors} refused, {nets} loaded");
}

/// What a user is told of files that are no such models.
#[test]
fn other_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.tflite");
    let told = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("written");
        load(&path).expect_err("it is none")
    };
    assert!(told(b"").contains("is not a whole TFLite model: it does not begin as such files do"));
    assert!(told(b"PK\x03\x04 and so on").contains("is not a whole TFLite model"));
    let case = cases(CASES).remove("conv").expect("a case");
    let cut = told(&case.model[..case.model.len() / 2]);
    assert!(cut.contains("is not a whole TFLite model") && cut.contains("compare its size"), "{cut}");
    let quantised = told(&cases(CASES)["refused_integers"].model);
    assert!(quantised.contains("is quantised") && quantised.contains("take its float version"), "{quantised}");
    let missing = front::load(&folder.path().join("none.tflite"), &[], None).expect_err("no file");
    assert!(diag::render(&missing, false).contains("cannot read"));
}
