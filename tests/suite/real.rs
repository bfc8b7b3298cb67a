//! Trained networks on photographs, by every engine, against logits that another library computed in double precision.
//!
//! From the crop that was given to that library: logits within 1e-4 of the largest magnitude and the same best class. From the
//! original photograph, through our own decoding, resizing and cropping: the same best class and probabilities within 0.01.
//! The reference vectors of public libraries, in the same way. (`macros` does it for nets that the macro made.)

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use mnc_compiler::back::clif::{ObjectOptions, RUNTIME_FILE, compile_jit, object};
use mnc_compiler::back::native;
use mnc_compiler::front::Net;
use mnc_compiler::plan::{Kernel, Plan, Step};
use mnc_compiler::{Compiled, compile, image, ir};
use mnc_runtime::isa::Isa;
use mnc_runtime::net::Net as _;
use mnc_runtime::params::Method;

use crate::checkpoints::{FAMILY, REAL, load, relative_error, tensor};
use crate::data;

/// A network, its inputs, and what each engine makes of them.
struct Case {
    name: &'static str,
    inputs: Vec<Vec<f32>>,
    outputs: Vec<(&'static str, Vec<Vec<f32>>)>,
}

/// Runs `inputs` through the network `name` with its checkpoint in `folder` on every engine.
fn run(name: &'static str, folder: &Path, inputs: impl FnOnce(&Net) -> Vec<Vec<f32>>) -> Case {
    run_net(name, load(name, folder), inputs)
}

/// The same with a network that is loaded.
fn run_net(name: &'static str, net: Net, inputs: impl FnOnce(&Net) -> Vec<Vec<f32>>) -> Case {
    let inputs = inputs(&net);
    let mut outputs = vec![("reference", inputs.iter().map(|x| ir::eval::eval(&net.graph, &[x]).remove(0)).collect())];
    let compiled = compile(net).unwrap_or_else(|e| panic!("{name}: {e}"));
    let plan = &compiled.plan;
    let mut arena = vec![0.0; plan.memory.arena_bytes / 4];
    let len = plan.output_len();
    for isa in Isa::available() {
        let mut one = |x: &Vec<f32>| {
            let mut y = vec![0.0; len];
            native::run(plan, isa, &mut arena, x, &mut y).expect("lengths fit");
            y
        };
        outputs.push((isa.name(), inputs.iter().map(&mut one).collect()));
    }
    let mut jit = compile_jit(plan).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut one = |x: &Vec<f32>| {
        let mut y = vec![0.0; len];
        jit.run(x, &mut y).expect("lengths fit");
        y
    };
    outputs.push(("jit", inputs.iter().map(&mut one).collect()));
    outputs.extend(by_object(&compiled, &inputs).map(|y| ("object", y)));
    Case { name, inputs, outputs }
}

/// The same by an object file in a C program that reads inputs and writes outputs, where there is a C compiler.
fn by_object(compiled: &Compiled, inputs: &[Vec<f32>]) -> Option<Vec<Vec<f32>>> {
    if !Command::new("cc").arg("--version").output().is_ok_and(|o| o.status.success()) {
        println!("{}: no object file, for there is no C compiler (`cc`) here", compiled.plan.name);
        return None;
    }
    let options = ObjectOptions::default();
    let layered = options.wants_layers().expect("this machine is a target").then(|| compiled.layered().expect("a plan"));
    let plan = layered.as_ref().unwrap_or(&compiled.plan);
    let object = object(plan, options).unwrap_or_else(|e| panic!("{}: {e}", plan.name));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (name, upper) = (&plan.name, plan.name.to_uppercase());
    let main = format!(
        r#"#include <stdio.h>
#include "{name}.h"
static float file[{upper}_WEIGHTS_FILE_BYTES / 4], input[{upper}_INPUT_LEN], output[{upper}_OUTPUT_LEN];
static float arena[{upper}_ARENA_BYTES / 4 + 1];
int main(void) {{
    FILE *f = fopen("{name}.weights", "rb");
    const float *weights;
    if (!f || fread(file, 1, sizeof file, f) != sizeof file || {name}_weights(file, sizeof file, &weights)) return 3;
    while (fread(input, sizeof input, 1, stdin) == 1) {{
        {name}_run(weights, input, output, arena);
        if (fwrite(output, sizeof output, 1, stdout) != 1) return 4;
    }}
    return 0;
}}
"#
    );
    let files = [
        (format!("{name}.o"), object.bytes),
        (format!("{name}.h"), object.header.into_bytes()),
        (format!("{name}.weights"), object.weights),
        ("main.c".to_owned(), main.into_bytes()),
    ];
    for (file, bytes) in &files {
        std::fs::write(dir.path().join(file), bytes).expect("writable");
    }
    let mut cc = Command::new("cc");
    cc.args(["-o", "main", "main.c", &files[0].0]).current_dir(dir.path());
    if let Some(library) = object.runtime {
        std::fs::write(dir.path().join(RUNTIME_FILE), library).expect("writable");
        cc.arg(RUNTIME_FILE);
    }
    let cc = cc.output().expect("cc starts");
    assert!(cc.status.success(), "{name}: {}", String::from_utf8_lossy(&cc.stderr));
    let mut child = Command::new(dir.path().join("main"))
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let out = std::thread::scope(|s| {
        s.spawn(move || {
            for x in inputs.iter().flatten() {
                stdin.write_all(&x.to_le_bytes()).expect("the program reads");
            }
        });
        child.wait_with_output().expect("the program ends")
    });
    assert!(out.status.success(), "{name}: {:?}", out.status);
    let values: Vec<f32> = out.stdout.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let outputs: Vec<Vec<f32>> = values.chunks_exact(plan.output_len()).map(<[f32]>::to_vec).collect();
    assert_eq!(outputs.len(), inputs.len(), "{name}");
    Some(outputs)
}

/// Runs `one` on every item, as many at a time as the machine has cores.
fn on_all_cores<T: Send>(items: impl IntoIterator<Item = T>, one: impl Fn(T) + Sync) {
    let queue = Mutex::new(items.into_iter().collect::<Vec<_>>());
    std::thread::scope(|s| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            s.spawn(|| {
                while let Some(item) = { queue.lock().expect("no panic while popping").pop() } {
                    one(item);
                }
            });
        }
    });
}

/// Position of the largest element.
fn best(values: impl IntoIterator<Item = f64>) -> usize {
    values.into_iter().enumerate().fold((0, f64::NEG_INFINITY), |b, (i, v)| if v > b.1 { (i, v) } else { b }).0
}

fn softmax(logits: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let most = logits.clone().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.clone().map(|l| (l - most).exp()).sum();
    logits.map(|l| (l - most).exp() / sum).collect()
}

/// The largest difference of probabilities that `got` and the true logits `want` stand for.
fn probability_error(got: &[f32], want: &[f64]) -> f64 {
    let (got, want) = (softmax(got.iter().map(|&g| f64::from(g))), softmax(want.iter().copied()));
    got.iter().zip(&want).fold(0.0, |m, (g, w)| m.max((g - w).abs()))
}

#[test]
fn photographs_are_recognised_by_every_engine() {
    let Some(dir) = data::dir("real::photographs_are_recognised_by_every_engine") else { return };
    let originals = data::json(&dir.join("images/images.json"));
    let failures = Mutex::new(Vec::new());
    on_all_cores(REAL, |(name, folder)| {
        let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
        let logits = tensor(&dir.join("expected").join(format!("{name}.safetensors")), "logits_f64");
        let mut pictures: Vec<&String> = expected["images"].as_object().expect("pictures").keys().collect();
        pictures.sort();
        let wants: Vec<&[f64]> = logits.chunks_exact(logits.len() / pictures.len()).collect();
        // All crops, then the originals of those that have one.
        let with_original: Vec<usize> = (0..pictures.len()).filter(|&i| originals.get(pictures[i]).is_some()).collect();
        let case = run(name, &dir.join("models"), |net| {
            let shape = net.graph.shape(net.graph.inputs[0]);
            let read = |path: &Path| {
                let picture = image::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                image::input(&picture, &net.preprocess, shape).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            };
            let crops = pictures.iter().map(|p| read(&dir.join("images").join(folder).join(format!("{p}.png"))));
            let photographs = with_original
                .iter()
                .map(|&i| read(&dir.join("images").join(originals[pictures[i]]["file"].as_str().expect("a file name"))));
            crops.chain(photographs).collect()
        });
        for (engine, outputs) in &case.outputs {
            assert_eq!(outputs.len(), case.inputs.len());
            let (crops, photographs) = outputs.split_at(pictures.len());
            let (mut worst_logit, mut worst_probability) = (0.0f64, 0.0f64);
            for (i, got) in crops.iter().enumerate() {
                let error = relative_error(got, wants[i]);
                worst_logit = worst_logit.max(error);
                let same = best(got.iter().map(|&g| f64::from(g))) == best(wants[i].iter().copied());
                if error > 1e-4 || !same {
                    failures
                        .lock()
                        .expect("unpoisoned")
                        .push(format!("{name} {engine} {}: {error:.2e}, top-1 same: {same}", pictures[i]));
                }
            }
            for (&i, got) in with_original.iter().zip(photographs) {
                let error = probability_error(got, wants[i]);
                worst_probability = worst_probability.max(error);
                let same = best(got.iter().map(|&g| f64::from(g))) == best(wants[i].iter().copied());
                if error > 0.01 || !same {
                    let line = format!("{name} {engine} {} from the original: {error:.4}, top-1 same: {same}", pictures[i]);
                    failures.lock().expect("unpoisoned").push(line);
                }
            }
            println!(
                "{:32} {engine:9} {} crops, logits within {worst_logit:.1e}; {} originals, probabilities within {worst_probability:.4}",
                case.name,
                crops.len(),
                photographs.len()
            );
        }
    });
    let failures = failures.into_inner().expect("unpoisoned");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Strassen's method, which a spec has to ask for, keeps the bound of all engines on a trained network.
#[test]
fn strassens_method_recognises_photographs() {
    let Some(dir) = data::dir("real::strassens_method_recognises_photographs") else { return };
    let name = "mobilenet_v1_1.0_224_qat";
    let expected = data::json(&dir.join("expected").join(format!("{name}.json")));
    let logits = tensor(&dir.join("expected").join(format!("{name}.safetensors")), "logits_f64");
    let mut pictures: Vec<&String> = expected["images"].as_object().expect("pictures").keys().collect();
    pictures.sort();
    let mut net = load(name, &dir.join("models"));
    net.plan.strassen = true;
    let by_quarters = |plan: &Plan| {
        let so = |s: &&Step| matches!(&s.kernel, Kernel::Pointwise { params, .. } if params.method == Method::Strassen);
        plan.steps().filter(so).count()
    };
    let case = run_net(name, net.clone(), |net| {
        let shape = net.graph.shape(net.graph.inputs[0]);
        let read = |p: &&String| {
            let picture = image::open(&dir.join("images/crop224").join(format!("{p}.png"))).expect("a picture");
            image::input(&picture, &net.preprocess, shape).expect("a picture of this size")
        };
        pictures.iter().map(read).collect()
    });
    assert_eq!(by_quarters(&compile(net).expect("a plan").plan), 9, "layers of 128 to 512 input channels on even rows");
    for (engine, outputs) in &case.outputs {
        let mut worst = 0.0f64;
        for (got, want) in outputs.iter().zip(logits.chunks_exact(logits.len() / pictures.len())) {
            worst = worst.max(relative_error(got, want));
            assert_eq!(best(got.iter().map(|&g| f64::from(g))), best(want.iter().copied()), "{engine}");
        }
        println!("{name} {engine:9} with Strassen's method: {} crops, logits within {worst:.1e}", outputs.len());
        assert!(worst <= 1e-4, "{engine}: {worst:.2e}");
    }
}

#[test]
fn reference_vectors_are_met_by_every_engine() {
    let Some(dir) = data::dir("real::reference_vectors_are_met_by_every_engine") else { return };
    let dir = dir.join("family");
    on_all_cores(FAMILY, |name| {
        let io = dir.join(format!("{name}.io.safetensors"));
        let case = run(name, &dir, |_| vec![tensor(&io, "input_nhwc").into_iter().map(|x| x as f32).collect()]);
        for (engine, outputs) in &case.outputs {
            let error = relative_error(&outputs[0], &tensor(&io, "output"));
            println!("{name:40} {engine:9} within {error:.1e}");
            assert!(error <= 1e-4, "{name}, {engine}: {error:.2e}");
        }
    });
}

/// No network of the test data is left out, but those that read text: they are no classifiers of photographs.
#[test]
fn every_network_of_the_data_is_listed() {
    let Some(dir) = data::dir("real::every_network_of_the_data_is_listed") else { return };
    let names = |folder: &str, ends: &str| -> Vec<String> {
        let files = std::fs::read_dir(dir.join(folder)).expect("a folder").map(|e| e.expect("an entry").file_name());
        let mut names: Vec<_> = files.filter_map(|f| Some(f.to_str()?.strip_suffix(ends)?.to_owned())).collect();
        names.retain(|n| !n.starts_with("ppocr"));
        names.sort();
        names
    };
    assert_eq!(names("family", ".json"), FAMILY);
    assert_eq!(names("models", ".onnx"), REAL.map(|(name, _)| name));
}
