//! `mnc verify --input X.npy --against Y.npy`: how an output of another program compares with the reference and every engine.

use serde_json::json;

use super::args::Verify;
use super::console::Console;
use super::engine::Engine;
use super::npy;
use super::table::table;
use super::verify::place;
use super::{Failure, run as pictures};
use crate::Compiled;
use crate::diag::Diagnostic;
use crate::plan::Port;
use crate::validate::{self, Agreement, judge};

/// Classes that are listed.
const TOP: usize = 5;

/// What one output of one engine is against the user's.
struct Row {
    engine: String,
    of: Agreement,
    /// Place and values of the largest distance.
    at: usize,
    values: (f32, f32),
}

pub(super) fn run(args: &Verify, net: &Compiled, console: &mut Console) -> Result<(), Failure> {
    let plan = &net.plan;
    if let Some(tolerance) = args.tolerance.filter(|t| !(t.is_finite() && *t >= 0.0)) {
        let d = Diagnostic::error(format!("`--tolerance {tolerance}` is no tolerance")).help("for example 1e-4");
        return Err(Failure::input(d));
    }
    let x = npy::read_all(&args.input, &plan.inputs, &format!("`{}` takes", plan.name), "--input")?;
    let theirs = npy::read_all(&args.against, &plan.outputs, &format!("`{}` gives", plan.name), "--against")?;
    console.spin("running");
    let expected = validate::expected(net, &x);
    let mut answers = vec![("reference".to_owned(), expected.y.clone())];
    let engines = Engine::all(net);
    let ran = engines.and_then(|engines| {
        for mut engine in engines {
            let mut y = vec![0.0; plan.output_len()];
            engine.run(&x, &mut y)?;
            answers.push((engine.name(), y));
        }
        Ok(())
    });
    console.progress_done();
    ran?;

    let mut all_ok = true;
    for port in &plan.outputs {
        let theirs = &theirs[port.range()];
        let rounding = &expected.bound[port.range()];
        let rows: Vec<Row> = answers
            .iter()
            .map(|(engine, y)| {
                let y = &y[port.range()];
                let largest = y.iter().filter(|v| v.is_finite()).fold(0f32, |a, v| a.max(v.abs()));
                let bound: Vec<f64> = match args.tolerance {
                    Some(t) => vec![t * f64::from(largest); y.len()],
                    // Both computations round.
                    None if engine == "reference" => rounding.to_vec(),
                    None => rounding.iter().map(|b| 2.0 * b).collect(),
                };
                let off = |i: usize| (f64::from(y[i]) - f64::from(theirs[i])).abs();
                let worse = |a: usize, b: usize| off(b) > off(a) || off(b).is_nan() && !off(a).is_nan();
                let at = (1..y.len()).fold(0, |a, b| if worse(a, b) { b } else { a });
                Row { engine: engine.clone(), of: judge(y, &bound, theirs), at, values: (y[at], theirs[at]) }
            })
            .collect();
        all_ok &= rows.iter().all(|r| r.of.ok());
        let ours = &answers[0].1[port.range()];
        if args.json {
            rows.iter().try_for_each(|row| json(row, port, [ours, theirs], console))?;
        } else {
            text(&rows, port, [ours, theirs], args, net, console)?;
        }
    }
    if all_ok { Ok(()) } else { Err(Failure::Reported) }
}

fn is_vector(port: &Port) -> bool {
    (port.tensor.shape.h, port.tensor.shape.w) == (1, 1)
}

/// The classes of largest score, for a vector of several.
fn top(port: &Port, y: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = if is_vector(port) && y.len() > 1 { (0..y.len()).collect() } else { Vec::new() };
    order.sort_by(|&a, &b| y[b].total_cmp(&y[a]));
    order.truncate(TOP);
    order
}

/// JSON has no infinity and no NaN.
fn number(v: f64) -> serde_json::Value {
    if v.is_finite() { json!(v) } else { json!(v.to_string()) }
}

fn json(row: &Row, port: &Port, [ours, theirs]: [&[f32]; 2], console: &mut Console) -> Result<(), Failure> {
    let s = port.tensor.shape;
    console.json(&json!({
        "output": port.name, "engine": row.engine, "max_abs_err": number(row.of.error), "max_rel_err": number(row.of.relative()),
        "bound": number(row.of.bound), "of_bound": number(row.of.share), "ok": row.of.ok(),
        "at": [row.at / (s.w * s.c), row.at / s.c % s.w, row.at % s.c],
        "value": number(f64::from(row.values.0)), "against": number(f64::from(row.values.1)),
        "top": top(port, ours), "top_against": top(port, theirs),
    }))
}

fn text(
    rows: &[Row],
    port: &Port,
    [ours, theirs]: [&[f32]; 2],
    args: &Verify,
    net: &Compiled,
    console: &mut Console,
) -> Result<(), Failure> {
    let header = ["engine", "largest error", "relative", "of the bound", "where", "here", "theirs", ""];
    let mut shown = table(&header, &[1, 2, 3, 5, 6]);
    for row in rows {
        shown.add_row([
            row.engine.clone(),
            format!("{:.2e}", row.of.error),
            format!("{:.2e}", row.of.relative()),
            super::verify::percent(row.of.share),
            place(port, row.at),
            format!("{:.6e}", row.values.0),
            format!("{:.6e}", row.values.1),
            if row.of.ok() { "ok" } else { "BEYOND THE BOUND" }.to_owned(),
        ]);
    }
    let bound =
        args.tolerance.map_or("derived from the roundings in f32".to_owned(), |t| format!("{t:e} of the largest magnitude"));
    console.line(format_args!("{} {}: bound {bound}\n{shown}", port.name, port.tensor.shape))?;
    let (a, b) = (top(port, ours), top(port, theirs));
    if a.is_empty() {
        return Ok(());
    }
    let labels = pictures::labels(None, net)?;
    let label = |i: usize| labels.get(i).filter(|_| labels.len() == ours.len()).map_or(format!("class {i}"), String::clone);
    let mut ranks = table(&["rank", "here", "", "theirs", ""], &[0, 2, 4]);
    for (rank, (&a, &b)) in (1..).zip(a.iter().zip(&b)) {
        ranks.add_row([rank.to_string(), label(a), format!("{:.5}", ours[a]), label(b), format!("{:.5}", theirs[b])]);
    }
    console.line(ranks)
}
