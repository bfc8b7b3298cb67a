//! Compiles a spec with its checkpoint in memory, while the program runs, and classifies pictures.
//!
//! ```sh
//! cargo run --release --features jit --example jit
//! cargo run --release --features jit --example jit -- examples/digits/digits.toml examples/digits/samples/*.png
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use mnc::Net;
use mnc::compiler::back::clif::compile_jit;
use mnc::compiler::{compile, diag, front, image};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let spec = paths.next().unwrap_or_else(|| root.join("examples/digits/digits.toml"));
    let mut pictures: Vec<PathBuf> = paths.collect();
    if pictures.is_empty() {
        pictures.push(root.join("examples/digits/samples/7-1.png"));
    }

    // From text to machine code. Mistakes in the spec come back all at once, ready to be shown.
    let start = Instant::now();
    let (net, _warnings) = front::load(&spec, &[], None).map_err(|d| diag::render(&d, false))?;
    let plan = compile(net)?.plan;
    let mut jit = compile_jit(&plan)?;
    println!("{}: {} multiply-adds, compiled in {:.1?}", plan.name, plan.macs, start.elapsed());

    let mut scores = vec![0.0; plan.output_len()];
    for path in pictures {
        let picture = image::open(&path)?;
        let input = image::input(&picture, &plan.preprocess, plan.input_shape())?;

        let start = Instant::now();
        jit.run(&input, &mut scores)?; // allocates nothing
        let time = start.elapsed();

        // This spec ends in a dense layer, so its scores are logits. Softmax makes probabilities of them.
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = scores.iter().map(|s| (s - highest).exp()).sum();
        let mut best: Vec<usize> = (0..scores.len()).collect();
        best.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        println!("{} ({time:.1?})", path.display());
        for &class in best.iter().take(3) {
            let label = plan.labels.get(class).map_or("?", String::as_str);
            println!("  {label:20} {:5.1} %", 100.0 * (scores[class] - highest).exp() / sum);
        }
    }
    Ok(())
}
