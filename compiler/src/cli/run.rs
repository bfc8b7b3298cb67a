//! `mnc run`: pictures in, labels out; or raw tensors in, raw tensors out.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::Run;
use super::console::{Console, file_error};
use super::engine::Engine;
use super::npy::list;
use super::table::table;
use super::{Failure, npy, output};
use crate::Compiled;
use crate::diag::Diagnostic;
use crate::image;
use crate::ir::op::Activation;
use crate::ir::{Op, Shape};
use crate::plan::{Plan, Port};

/// With more pictures than this, or a slow engine, a progress bar is shown.
const MANY: usize = 4;

pub(super) fn run(args: &Run, console: &mut Console) -> Result<(), Failure> {
    let mut net = console.load(&args.spec)?;
    args.engine.apply(&mut net)?;
    let net = console.compile_net(net)?;
    if args.input.is_empty() { pictures(args, &net, console) } else { tensors(args, &net, console) }
}

/// Where every output goes.
fn targets(args: &Run, net: &Compiled) -> Result<Vec<PathBuf>, Failure> {
    let outputs = &net.plan.outputs;
    match &args.output[..] {
        all if all.len() == outputs.len() => Ok(all.to_vec()),
        [one] => {
            let named = |port: &Port| {
                let name: String =
                    port.name.chars().map(|c| if c.is_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' }).collect();
                let stem = one.file_stem().unwrap_or_default().to_string_lossy();
                one.with_file_name(format!("{stem}.{name}.npy"))
            };
            Ok(outputs.iter().map(named).collect())
        }
        all => {
            let message = format!("`{}` gives {} tensors, `--output` is there {} times", net.plan.name, outputs.len(), all.len());
            let d = Diagnostic::error(message).help(format!("say it once for each, in this order: {}", list(outputs)));
            Err(Failure::input(d))
        }
    }
}

fn tensors(args: &Run, net: &Compiled, console: &mut Console) -> Result<(), Failure> {
    let Plan { inputs, outputs, name, .. } = &net.plan;
    let x = npy::read_all(&args.input, inputs, &format!("`{name}` takes"), "--input")?;
    let targets = targets(args, net)?;
    let mut y = vec![0.0; net.plan.output_len()];
    let took = Engine::new(&args.engine, net)?.run(&x, &mut y)?;
    let (mut files, mut dims) = (Vec::new(), Vec::new());
    for (path, port) in targets.iter().zip(outputs) {
        let shape = port.tensor.shape;
        let class_vector = (shape.h, shape.w) == (1, 1);
        dims.push(if class_vector { vec![1, shape.c as u64] } else { shape.dims().map(|d| d as u64).to_vec() });
        let bytes = npy::bytes(&y[port.range()], &dims[dims.len() - 1]);
        files.push((path.clone(), bytes.map_err(|e| Failure::job(file_error("write", path, e)))?));
    }
    output::write_all(&files)?;
    let ms = took.as_secs_f64() * 1e3;
    if args.json {
        let paths = |all: &[PathBuf]| all.iter().map(|p| p.to_string_lossy().into_owned()).collect::<Vec<_>>();
        if let ([input], [output], [shape]) = (&args.input[..], &targets[..], &dims[..]) {
            return console.json(
                &json!({ "input": input.to_string_lossy(), "output": output.to_string_lossy(), "shape": shape, "ms": ms }),
            );
        }
        let files = outputs.iter().zip(&targets).zip(&dims);
        let outputs: Vec<_> = files
            .map(|((port, path), dims)| json!({ "name": port.name, "output": path.to_string_lossy(), "shape": dims }))
            .collect();
        return console.json(&json!({ "inputs": paths(&args.input), "outputs": outputs, "ms": ms }));
    }
    targets.iter().zip(&dims).try_for_each(|(path, dims)| console.line(format_args!("{}  {dims:?}  {ms:.3} ms", path.display())))
}

/// One class of an answer.
struct Guess {
    index: usize,
    label: Option<String>,
    score: f64,
}

/// What is said of an output that is no class vector, or not the one that is shown as such.
struct Summary {
    name: String,
    shape: Shape,
    min: f32,
    max: f32,
    mean: f64,
}

impl Summary {
    fn of(port: &Port, y: &[f32]) -> Self {
        let y = &y[port.range()];
        let (min, max) = y.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
        let mean = y.iter().map(|&v| f64::from(v)).sum::<f64>() / y.len() as f64;
        Self { name: port.name.clone(), shape: port.tensor.shape, min, max, mean }
    }

    fn json(&self) -> serde_json::Value {
        json!({ "name": self.name, "shape": self.shape.dims(), "min": self.min, "max": self.max, "mean": self.mean })
    }
}

/// The output of one score a class: one of as many as there are labels, rather one of probabilities, rather an earlier one.
fn class_output(net: &Compiled, labels: &[String]) -> Option<usize> {
    let outputs = &net.plan.outputs;
    let vectors = (0..outputs.len()).filter(|&i| (outputs[i].tensor.shape.h, outputs[i].tensor.shape.w) == (1, 1));
    let unlike = |&i: &usize| (outputs[i].tensor.shape.c != labels.len(), !probabilities(net, i));
    vectors.min_by_key(unlike)
}

fn pictures(args: &Run, net: &Compiled, console: &mut Console) -> Result<(), Failure> {
    let Plan { inputs, outputs, name, .. } = &net.plan;
    let refused = |message: String| {
        Err(Failure::input(Diagnostic::error(message).help("use --input x.npy --output y.npy for raw tensors")))
    };
    if inputs.len() > 1 {
        return refused(format!("`{name}` takes {} tensors, not one picture: {}", inputs.len(), list(inputs)));
    }
    let input = net.plan.input_shape();
    let labels = labels(args.labels.as_deref(), net)?;
    let class_output = class_output(net, &labels);
    if let (None, [output]) = (class_output, &outputs[..]) {
        return refused(format!("`{name}` gives a {} tensor, not one score a class", output.tensor.shape));
    }
    if !matches!(input.c, 1 | 3) {
        return refused(image::PictureError::Channels(input.c).to_string());
    }
    let mut engine = Engine::new(&args.engine, net)?;
    let mut y = vec![0.0; net.plan.output_len()];
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
            .and_then(|took| {
                let top = class_output.map(|i| Ok(best(&scores(net, i, &y, path)?, args.top.get(), &labels))).transpose()?;
                Ok((top, took))
            });
        match answer {
            Ok((top, took)) => {
                let others = outputs.iter().enumerate().filter(|&(i, _)| Some(i) != class_output);
                let others: Vec<Summary> = others.map(|(_, port)| Summary::of(port, &y)).collect();
                let answer = Answer { class_output: class_output.map(|i| outputs[i].name.as_str()), top, others };
                print(path, &answer, took.as_secs_f64() * 1e3, args.json, console)?;
            }
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

/// What is said of one picture.
struct Answer<'a> {
    /// The output that the guesses are of.
    class_output: Option<&'a str>,
    top: Option<Vec<Guess>>,
    others: Vec<Summary>,
}

/// Class names: those of the file, else the spec's, else none.
pub(super) fn labels(file: Option<&Path>, net: &Compiled) -> Result<Vec<String>, Failure> {
    let Some(path) = file else { return Ok(net.plan.labels.clone()) };
    let text = std::fs::read_to_string(path).map_err(|e| Failure::input(file_error("read", path, e)))?;
    let labels: Vec<String> = text.lines().map(|l| l.trim().to_owned()).collect();
    let Some(output) = class_output(net, &labels) else { return Ok(labels) };
    let classes = net.plan.outputs[output].tensor.shape.c;
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

/// Whether output `i` is made of probabilities: it ends in a softmax or sigmoid.
fn probabilities(net: &Compiled, i: usize) -> bool {
    let mut last = net.specified.op(net.specified.outputs[i]).clone();
    let last_act = if let Op::Act(a) = last { Some(a) } else { last.activation_mut().copied() };
    last == Op::Softmax || matches!(last_act, Some(Activation::Sigmoid | Activation::HSigmoid | Activation::HardSigmoid(..)))
}

/// Probabilities: output `i` as it is where it ends in a softmax or sigmoid, else its softmax.
fn scores(net: &Compiled, i: usize, y: &[f32], path: &Path) -> Result<Vec<f64>, Failure> {
    let y = &y[net.plan.outputs[i].range()];
    if let Some(bad) = y.iter().find(|v| !v.is_finite()) {
        return Err(Failure::job(file_error("classify", path, format_args!("the net answers {bad}"))));
    }
    let y: Vec<f64> = y.iter().map(|&v| f64::from(v)).collect();
    if probabilities(net, i) {
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

fn print(path: &Path, answer: &Answer<'_>, ms: f64, json: bool, console: &mut Console) -> Result<(), Failure> {
    let Answer { class_output, top, others } = answer;
    if json {
        let guess = |g: &Guess| json!({ "index": g.index, "label": g.label, "score": g.score });
        let mut object = json!({ "image": path.to_string_lossy(), "ms": ms });
        if let Some(top) = top {
            object["top"] = top.iter().map(guess).collect();
        }
        if !others.is_empty() {
            object["top_of"] = json!(class_output);
            object["others"] = others.iter().map(Summary::json).collect();
        }
        return console.json(&object);
    }
    let several = class_output.filter(|_| !others.is_empty()).map_or_else(String::new, |name| format!("  {name}"));
    console.line(format_args!("{}  ({ms:.2} ms){several}", path.display()))?;
    if let Some(top) = top {
        let mut rows = table(&["rank", "label", "score"], &[0, 2]);
        for (rank, g) in (1..).zip(top) {
            let label = g.label.clone().unwrap_or_else(|| format!("class {}", g.index));
            rows.add_row([format!("{rank}"), label, format!("{:.4}", g.score)]);
        }
        console.line(rows)?;
    }
    if others.is_empty() {
        return Ok(());
    }
    let mut rows = table(&["output", "shape", "least", "most", "mean"], &[2, 3, 4]);
    for o in others {
        rows.add_row([
            o.name.clone(),
            o.shape.to_string(),
            format!("{:.4}", o.min),
            format!("{:.4}", o.max),
            format!("{:.4}", o.mean),
        ]);
    }
    console.line(rows)
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
