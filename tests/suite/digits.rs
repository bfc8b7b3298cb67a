//! The net that ships with the repository: its checkpoint gives the training framework's numbers, and reads handwriting.

use std::path::{Path, PathBuf};

use mnc_compiler::back::clif::compile_jit;
use mnc_compiler::back::native::NativeNet;

use mnc_compiler::front::{self, Net};
use mnc_compiler::{compile, diag, image, ir};
use mnc_runtime::isa::Isa;

use crate::checkpoints::tensor;

/// Pictures of each digit in the sheet.
pub const COLUMNS: usize = 36;
/// Height and width of a picture.
const SIDE: usize = 32;

mnc::mobilenet_net! {
    /// The net inside this program.
    struct Digits = "examples/digits/digits.toml";
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/digits").join(name)
}

pub fn net() -> Net {
    let (net, warnings) =
        front::load(&file("digits.toml"), &[], None).unwrap_or_else(|d| panic!("digits:\n{}", diag::render(&d, false)));
    assert!(warnings.is_empty(), "{}", diag::render(&warnings, false));
    assert_eq!(net.labels, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    net
}

fn evaluate(net: &Net, x: &[f32]) -> Vec<f32> {
    ir::eval::eval(&net.graph, &[x]).swap_remove(0)
}

pub fn argmax(y: &[f32]) -> usize {
    (0..y.len()).max_by(|&a, &b| y[a].total_cmp(&y[b])).expect("ten scores")
}

/// The held-out pictures, cut from their sheet, as inputs; picture `i` shows the digit `i / COLUMNS`.
pub fn held_out(net: &Net) -> Vec<Vec<f32>> {
    let sheet = image::open(&file("heldout.png")).expect("the sheet");
    assert_eq!((sheet.height, sheet.width), (10 * SIDE, COLUMNS * SIDE));
    let shape = net.graph.shape(net.graph.inputs[0]);
    let mut all = Vec::new();
    for (row, column) in (0..10).flat_map(|r| (0..COLUMNS).map(move |c| (r, c))) {
        let lines = (0..SIDE).flat_map(|y| {
            let start = ((row * SIDE + y) * sheet.width + column * SIDE) * 3;
            &sheet.rgb[start..start + SIDE * 3]
        });
        let tile = image::Picture { width: SIDE, height: SIDE, rgb: lines.copied().collect() };
        all.push(image::input(&tile, &net.preprocess, shape).expect("a grey input"));
    }
    all
}

/// `network(input, output)` gives the training framework's logits within 1e-4 of the largest.
fn assert_reproduces_training(who: &str, mut network: impl FnMut(&[f32]) -> Vec<f32>) {
    let (x, want) = (tensor(&file("reference.safetensors"), "input"), tensor(&file("reference.safetensors"), "output"));
    let largest = want.iter().fold(0f64, |a, b| a.max(b.abs()));
    let mut worst = 0f64;
    for (x, want) in x.chunks(SIDE * SIDE).zip(want.chunks(10)) {
        let x: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        for (y, w) in network(&x).iter().zip(want) {
            let off = (f64::from(*y) - w).abs() / largest;
            assert!(off <= 1e-4, "{who}: {y}, not {w}: off by {off:e} of {largest}");
            worst = worst.max(off);
        }
    }
    println!("{who}: off by {worst:.1e} of the largest logit");
}

/// At least 98 % of the held-out pictures are read right.
fn assert_reads_handwriting(who: &str, net: &Net, mut network: impl FnMut(&[f32]) -> Vec<f32>) {
    let inputs = held_out(net);
    let right = inputs.iter().enumerate().filter(|&(i, x)| argmax(&network(x)) == i / COLUMNS).count();
    println!("{who}: {right} of {} right", inputs.len());
    assert_eq!(inputs.len(), 360);
    assert!(right * 100 >= inputs.len() * 98, "{who}: {right} of {} right", inputs.len());
}

#[test]
fn the_reference_reads_handwriting_as_trained() {
    let net = net();
    assert_reproduces_training("reference", |x| evaluate(&net, x));
    assert_reads_handwriting("reference", &net, |x| evaluate(&net, x));
}

#[test]
fn compiled_engines_read_handwriting_as_trained() {
    let net = net();
    let plan = compile(net.clone()).expect("a plan").plan;
    let mut engines: Vec<(String, Box<dyn mnc_runtime::net::Net>)> = vec![
        ("JIT".to_owned(), Box::new(compile_jit(&plan).expect("machine code"))),
        ("macro".to_owned(), Digits::boxed()),
        ("resident".to_owned(), Box::new(Digits::resident())),
    ];
    for isa in Isa::available() {
        engines.push((format!("kernels on {}", isa.name()), Box::new(NativeNet::new(plan.clone(), isa))));
    }
    for (who, engine) in &mut engines {
        let mut network = |x: &[f32]| {
            let mut y = vec![0.0; 10];
            engine.run(x, &mut y).expect("the right lengths");
            y
        };
        assert_reproduces_training(who, &mut network);
        assert_reads_handwriting(who, &net, &mut network);
    }
}

/// All twenty pictures of the README's first command, by their file names: `7-2.png` is the second seven.
#[test]
fn the_samples_are_read_right() {
    let net = net();
    let mut seen = [0; 10];
    for entry in std::fs::read_dir(file("samples")).expect("the samples") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name").to_owned();
        let digit = name[..1].parse::<usize>().expect("a digit in front");
        let picture = image::open(&path).expect("a picture");
        let x = image::input(&picture, &net.preprocess, net.graph.shape(net.graph.inputs[0])).expect("a grey input");
        assert_eq!(argmax(&evaluate(&net, &x)), digit, "{name}");
        seen[digit] += 1;
    }
    assert_eq!(seen, [2; 10], "two samples of each digit");
}
