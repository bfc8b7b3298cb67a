//! `mnc run`: pictures in, labels out; or one raw tensor in, one out.

use std::path::Path;

use serde_json::json;

use super::args::Run;
use super::console::{Console, file_error};
use super::engine::Engine;
use super::table::table;
use super::{Failure, npy, output};
use crate::Compiled;
use crate::diag::Diagnostic;
use crate::image;
use crate::ir::Op;
use crate::ir::op::Activation;

/// With more pictures than this, or a slow engine, a progress bar is shown.
const MANY: usize = 4;

pub(super) fn run(args: &Run, console: &mut Console) -> Result<(), Failure> {
    let mut net = console.load(&args.spec)?;
    args.engine.apply(&mut net)?;
    let net = console.compile_net(net)?;
    match (&args.input, &args.output) {
        (Some(input), Some(output)) => tensor(args, &net, input, output, console),
        _ => pictures(args, &net, console),
    }
}

fn tensor(args: &Run, net: &Compiled, input: &Path, target: &Path, console: &mut Console) -> Result<(), Failure> {
    let x = npy::read(input, net.plan.input.shape)?;
    let mut y = vec![0.0; net.plan.output.shape.elements()];
    let took = Engine::new(&args.engine, net)?.run(&x, &mut y)?;
    let shape = net.plan.output.shape;
    let dims: Vec<u64> =
        if (shape.h, shape.w) == (1, 1) { vec![1, shape.c as u64] } else { shape.dims().map(|d| d as u64).to_vec() };
    let bytes = npy::bytes(&y, &dims).map_err(|e| Failure::job(file_error("write", target, e)))?;
    output::write_all(&[(target.to_owned(), bytes)])?;
    let ms = took.as_secs_f64() * 1e3;
    if args.json {
        return console
            .json(&json!({ "input": input.to_string_lossy(), "output": target.to_string_lossy(), "shape": dims, "ms": ms }));
    }
    console.line(format_args!("{}  {dims:?}  {ms:.3} ms", target.display()))
}

/// One class of an answer.
struct Guess {
    index: usize,
    label: Option<String>,
    score: f64,
}

fn pictures(args: &Run, net: &Compiled, console: &mut Console) -> Result<(), Failure> {
    let (input, output) = (net.plan.input.shape, net.plan.output.shape);
    if (output.h, output.w) != (1, 1) {
        return Err(Failure::input(
            Diagnostic::error(format!("`{}` gives a {output} tensor, not one score a class", net.plan.name))
                .help("use --input x.npy --output y.npy for its raw output"),
        ));
    }
    if !matches!(input.c, 1 | 3) {
        return Err(Failure::input(
            Diagnostic::error(image::PictureError::Channels(input.c).to_string()).help("use --input x.npy --output y.npy"),
        ));
    }
    let labels = labels(args.labels.as_deref(), net)?;
    let mut engine = Engine::new(&args.engine, net)?;
    let mut y = vec![0.0; output.elements()];
    let mut failed = false;
    if args.images.len() > MANY || matches!(engine, Engine::Reference(_)) {
        console.progress(args.images.len());
    }
    for path in &args.images {
        console.doing(path.display().to_string());
        let answer = image::open(path)
            .and_then(|picture| image::input(&picture, &net.plan.preprocess, input))
            .map_err(|e| Failure::job(file_error("classify", path, e)))
            .and_then(|x| engine.run(&x, &mut y))
            .and_then(|took| Ok((best(&scores(net, &y, path)?, args.top.get(), &labels), took)));
        match answer {
            Ok((top, took)) => print(path, &top, took.as_secs_f64() * 1e3, args.json, console)?,
            Err(Failure::Job(d)) => {
                failed = true;
                console.diagnostics(&d);
            }
            Err(other) => return Err(other),
        }
        console.step();
    }
    console.progress_done();
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

/// Class names: those of the file, else the spec's, else none.
fn labels(file: Option<&Path>, net: &Compiled) -> Result<Vec<String>, Failure> {
    let Some(path) = file else { return Ok(net.plan.labels.clone()) };
    let text = std::fs::read_to_string(path).map_err(|e| Failure::input(file_error("read", path, e)))?;
    let labels: Vec<String> = text.lines().map(|l| l.trim().to_owned()).collect();
    let classes = net.plan.output.shape.c;
    if labels.len() == classes {
        return Ok(labels);
    }
    let d = Diagnostic::error(format!("`{}` has {} labels, the net {classes} classes", path.display(), labels.len()));
    Err(Failure::input(if labels.len().abs_diff(classes) == 1 {
        d.help("networks of 1001 classes have `background` before the thousand of ImageNet")
    } else {
        d.help("one class name a line, in the order of the net's outputs")
    }))
}

/// Probabilities: the net's own where it ends in a softmax or sigmoid, else the softmax of its output.
fn scores(net: &Compiled, y: &[f32], path: &Path) -> Result<Vec<f64>, Failure> {
    if let Some(bad) = y.iter().find(|v| !v.is_finite()) {
        return Err(Failure::job(file_error("classify", path, format_args!("the net answers {bad}"))));
    }
    let y: Vec<f64> = y.iter().map(|&v| f64::from(v)).collect();
    let mut last = net.specified.op(net.specified.outputs[0]).clone();
    let last_act = if let Op::Act(a) = last { Some(a) } else { last.activation_mut().copied() };
    if last == Op::Softmax || matches!(last_act, Some(Activation::Sigmoid | Activation::HSigmoid | Activation::HardSigmoid(..))) {
        return Ok(y);
    }
    let most = y.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = y.iter().map(|v| (v - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    Ok(powers.into_iter().map(|v| v / sum).collect())
}

/// The `top` classes of largest score, the largest first; of equal ones the lower index.
fn best(scores: &[f64], top: usize, labels: &[String]) -> Vec<Guess> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let guess = |index: usize| Guess { index, label: labels.get(index).cloned(), score: scores[index] };
    order.into_iter().take(top).map(guess).collect()
}

fn print(path: &Path, top: &[Guess], ms: f64, json: bool, console: &mut Console) -> Result<(), Failure> {
    if json {
        let top: Vec<_> = top.iter().map(|g| json!({ "index": g.index, "label": g.label, "score": g.score })).collect();
        return console.json(&json!({ "image": path.to_string_lossy(), "top": top, "ms": ms }));
    }
    let mut rows = table(&["rank", "label", "score"], &[0, 2]);
    for (rank, g) in (1..).zip(top) {
        let label = g.label.clone().unwrap_or_else(|| format!("class {}", g.index));
        rows.add_row([format!("{rank}"), label, format!("{:.4}", g.score)]);
    }
    console.line(format_args!("{}  ({ms:.2} ms)\n{rows}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_is_sorted_and_stable() {
        let top = best(&[0.1, 0.4, 0.4, 0.05], 3, &["a".into(), "b".into(), "c".into(), "d".into()]);
        assert_eq!(top.iter().map(|g| g.index).collect::<Vec<_>>(), [1, 2, 0]);
        assert_eq!(top[0].label.as_deref(), Some("b"));
        assert_eq!(best(&[1.0], 5, &[]).len(), 1);
    }
}
