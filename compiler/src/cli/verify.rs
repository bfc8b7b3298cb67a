//! `mnc verify`: every engine against the reference on seeded inputs.
//!
//! The bound. A kernel adds `k` products in f32 where the reference adds them in f64; with fused multiply-adds and a rounding per
//! step the error of such a sum is near `sqrt(k) * u` relative to the sum of magnitudes, `u = 2^-24` (Higham & Mary 2019,
//! probabilistic error analysis; the worst case `k * u` does not occur). Errors of the layers add up along the deepest way at
//! most, so the whole is allowed `4 u * sum over layers of (1 + sqrt(k))` of the largest output magnitude: 4 for the cancellation
//! between terms and for batch norm folded into weights. For V1 this is 1.1e-4, and what is measured is 1e-6; a wrong weight or
//! border costs 1e-2 and more.

use mnc_runtime::isa::Isa;
use serde_json::json;

use super::Failure;
use super::args::Verify;
use super::console::Console;
use super::engine::Engine;
use super::table::table;
use crate::Compiled;
use crate::back::clif::JitOptions;
use crate::ir::random::Random;
use crate::ir::{Graph, Op, Shape};
use crate::plan::Plan;

/// Inputs that are tried.
const INPUTS: u64 = 3;

pub(super) fn run(args: &Verify, console: &mut Console) -> Result<(), Failure> {
    let mut net = console.load(&args.spec)?;
    args.threads.apply(&mut net)?;
    let net = console.compile_net(net)?;
    let mut engines: Vec<Engine<'_>> = Isa::available().map(|isa| Engine::native(&net, isa)).collect();
    console.spin("compiling");
    let jits = [false, true].map(|self_contained| Engine::jit(&net, JitOptions { self_contained }));
    console.progress_done();
    for jit in jits {
        engines.push(jit?);
    }

    console.progress(INPUTS as usize * (engines.len() + 1));
    let (mut inputs, mut answers) = (Vec::new(), Vec::new());
    for seed in 0..INPUTS {
        console.doing("reference");
        inputs.push(input(&net.plan, seed));
        answers.push(super::engine::reference(&net, &inputs[inputs.len() - 1]));
        console.step();
    }
    let bound = bound(&net.specified);
    let mut rows = table(&["engine", "largest error", "relative", "bound", ""], &[1, 2, 3]);
    let mut all_ok = true;
    for engine in &mut engines {
        console.doing(engine.name());
        let (mut abs, mut rel) = (0.0f64, 0.0f64);
        for (x, want) in inputs.iter().zip(&answers) {
            let (a, r) = errors(engine, x, want, &net)?;
            (abs, rel) = (abs.max(a), rel.max(r));
            console.step();
        }
        let ok = rel <= bound;
        all_ok &= ok;
        if args.json {
            console.json(&json!({
                "net": net.plan.name, "engine": engine.name(), "max_abs_err": finite(abs), "max_rel_err": finite(rel),
                "bound": bound, "ok": ok,
            }))?;
        }
        let verdict = if ok { "ok" } else { "BEYOND THE BOUND" };
        rows.add_row([engine.name(), format!("{abs:.2e}"), format!("{rel:.2e}"), format!("{bound:.2e}"), verdict.to_owned()]);
    }
    console.progress_done();
    if !args.json {
        console.line(format_args!("{}: {INPUTS} seeded inputs against the reference\n{rows}", net.plan.name))?;
    }
    if all_ok { Ok(()) } else { Err(Failure::Reported) }
}

/// Largest absolute error of `engine` at `x`, and the largest relative to the largest magnitude of its output in `want`; infinite
/// where the answer is not a number.
fn errors(engine: &mut Engine<'_>, x: &[f32], want: &[f32], net: &Compiled) -> Result<(f64, f64), Failure> {
    // Nothing that an engine leaves unwritten may pass for an answer.
    let mut y = vec![f32::NAN; net.plan.output_len()];
    engine.run(x, &mut y)?;
    let error =
        |(a, b): (&f32, &f32)| Some((f64::from(*a) - f64::from(*b)).abs()).filter(|e| e.is_finite()).unwrap_or(f64::INFINITY);
    let (mut worst, mut relative) = (0.0f64, 0.0f64);
    for port in &net.plan.outputs {
        let (y, want) = (&y[port.range()], &want[port.range()]);
        let abs = y.iter().zip(want).map(error).fold(0.0, f64::max);
        let most = want.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
        worst = worst.max(abs);
        relative = relative.max(if abs == 0.0 { 0.0 } else { abs / most });
    }
    Ok((worst, relative))
}

/// JSON has no infinity.
fn finite(v: f64) -> serde_json::Value {
    if v.is_finite() { json!(v) } else { json!(f64::MAX) }
}

/// A seeded random picture as the net wants it: uniform in the range of pixels, then normalised unless the graph does that itself.
/// Behind it whatever else the net takes: uniform numbers from -1 to 1.
pub(super) fn input(plan: &Plan, seed: u64) -> Vec<f32> {
    let (preprocess, shape) = (&plan.preprocess, plan.input_shape());
    let mut rng = Random::new(seed);
    let mut x: Vec<f32> = (0..shape.elements())
        .map(|i| {
            let p = f64::from(rng.uniform(0.0, 1.0));
            if preprocess.in_graph {
                return (p * 255.0).floor() as f32;
            }
            let c = i % shape.c;
            let or = |v: &[f64], default: f64| v.get(c).copied().unwrap_or(default);
            ((p - or(&preprocess.mean, 0.0)) / or(&preprocess.std, 1.0)) as f32
        })
        .collect();
    x.extend((x.len()..plan.input_len()).map(|_| rng.uniform(-1.0, 1.0)));
    x
}

/// The relative error that rounding may cause in `graph`: see the top of this file.
fn bound(graph: &Graph) -> f64 {
    let terms = |op: &Op, x: Shape| match op {
        Op::Conv(c) => c.kernel[0] * c.kernel[1] * c.in_c / c.groups,
        Op::Depthwise(d) => d.kernel[0] * d.kernel[1],
        Op::Dense(d) => d.in_c,
        Op::Pool(p) => p.kernel[0] * p.kernel[1],
        Op::GlobalPool => x.h * x.w,
        Op::Softmax => x.c,
        Op::ConvTranspose(c) => c.kernel[0] * c.kernel[1] * c.in_c / c.groups.max(1),
        Op::Mean { axes } => [x.h, x.w, x.c].into_iter().zip(axes).map(|(n, &over)| if over { n } else { 1 }).product(),
        Op::Interpolate { .. } => 4,
        Op::PRelu(_) | Op::Binary(_) => 1,
        Op::Concat(_) | Op::Gather(_) | Op::Reshape(_) | Op::Transpose(_) => 0,
        Op::Add(_) | Op::Scale(_) | Op::BatchNorm(_) | Op::Normalize(_) | Op::Act(_) => 1,
        Op::Input | Op::Constant(_) | Op::Pad(_) => 0,
    };
    let layer = |k: usize| if k == 0 { 0.0 } else { 1.0 + (k as f64).sqrt() };
    let sum: f64 = graph
        .topo()
        .into_iter()
        .filter(|&id| graph.op(id).arity() > 0)
        .map(|id| layer(terms(graph.op(id), graph.input_shapes(id)[0])))
        .sum();
    4.0 * 2f64.powi(-24) * sum
}
