//! `mnc verify`: every pass and every engine against the reference, on seeded inputs and at the edges of f32.
//!
//! What may differ and why is derived in [`crate::validate::rounding`]. With `--against`, see [`super::against`].

use serde_json::json;

use super::args::Verify;
use super::console::Console;
use super::engine::Engine;
use super::table::table;
use super::{Failure, against};
use crate::diag::Diagnostic;
use crate::ir::Graph;
use crate::plan::Plan;
use crate::validate::{self, Agreement, Case, Expected, Outcome, PassCheck};

pub(super) fn run(args: &Verify, console: &mut Console) -> Result<(), Failure> {
    let mut net = console.load(&args.spec)?;
    args.threads.apply(&mut net)?;
    let passes_of = net.clone();
    let net = console.compile_net(net)?;
    if !args.against.is_empty() {
        return against::run(args, &net, console);
    }
    let cases = validate::cases(&net.plan, u64::from(args.seeds.get()));
    console.spin("compiling");
    let engines = Engine::all(&net).and_then(|all| Ok((all, Engine::objects(&net)?)));
    console.progress_done();
    let (mut engines, (objects, no_objects)) = engines?;
    engines.extend(objects);

    console.progress(crate::pass::PIPELINE.len() + cases.len() * (1 + engines.len()));
    console.doing("passes");
    let passes = validate::passes(&passes_of, &cases, |_| console.step());
    let passes = passes.map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
    console.doing("reference");
    let expected = validate::each(&cases, |case| {
        let expected = validate::expected(&net, &case.input);
        console.step();
        expected
    });
    let mut results = Vec::new();
    for engine in &mut engines {
        console.doing(engine.name());
        let mut all = Vec::new();
        for (case, expected) in cases.iter().zip(&expected) {
            // Nothing that an engine leaves unwritten may pass for an answer.
            let mut y = vec![f32::from_bits(UNWRITTEN); net.plan.output_len()];
            engine.run(&case.input, &mut y)?;
            let missed = y.iter().any(|v| v.to_bits() == UNWRITTEN);
            all.push(Answer::new(&net.plan, expected, &y, missed));
            console.step();
        }
        results.push(EngineCheck { name: engine.name(), all });
    }
    console.progress_done();
    let report = Report {
        net: &net.plan,
        specified: &net.specified,
        cases: &cases,
        expected: &expected,
        passes,
        engines: results,
        no_objects,
    };
    if args.json {
        report.json(console)?
    } else {
        report.text(console)?
    }
    if report.ok() { Ok(()) } else { Err(Failure::Reported) }
}

/// A NaN that no computation makes: what is still there was not written.
const UNWRITTEN: u32 = 0x7fd5_5aa5;

/// An engine's answer to one case.
struct Answer {
    whole: Agreement,
    /// The largest error of an output relative to its largest magnitude, and the largest bound so.
    relative: f64,
    bound: f64,
    /// Whether something was left unwritten.
    missed: bool,
}

impl Answer {
    fn new(plan: &Plan, expected: &Expected, y: &[f32], missed: bool) -> Self {
        let (mut relative, mut bound) = (0f64, 0f64);
        for port in &plan.outputs {
            let one = validate::judge(&expected.y[port.range()], &expected.bound[port.range()], &y[port.range()]);
            relative = relative.max(one.relative());
            bound = bound.max(if one.largest > 0.0 { one.bound / one.largest } else { 0.0 });
        }
        Self { whole: expected.judge(y), relative, bound, missed }
    }

    fn ok(&self) -> bool {
        self.whole.ok() && !self.missed
    }
}

struct EngineCheck {
    name: String,
    all: Vec<Answer>,
}

impl EngineCheck {
    fn ok(&self) -> bool {
        self.all.iter().all(Answer::ok)
    }
}

struct Report<'a> {
    net: &'a Plan,
    specified: &'a Graph,
    cases: &'a [Case],
    expected: &'a [Expected],
    passes: Vec<PassCheck>,
    engines: Vec<EngineCheck>,
    /// Why object files were not run, if they were not.
    no_objects: Option<String>,
}

/// The comparisons of one kind of input, counted together.
fn together<'a>(cases: &[Case], usual: bool, all: impl Iterator<Item = &'a Agreement>) -> Agreement {
    cases.iter().zip(all).filter(|(case, _)| case.usual == usual).fold(Agreement::default(), |a, (_, b)| a.with(*b))
}

/// `12 %`, for a part of the bound.
pub(super) fn percent(share: f64) -> String {
    match share {
        s if !s.is_finite() => "∞".to_owned(),
        0.0 => "0 %".to_owned(),
        s if s < 0.01 => format!("{:.1} %", s * 100.0),
        s => format!("{:.0} %", s * 100.0),
    }
}

/// JSON has no infinity.
fn finite(v: f64) -> serde_json::Value {
    if v.is_finite() { json!(v) } else { json!(f64::MAX) }
}

fn verdict(ok: bool) -> String {
    if ok { "ok" } else { "BEYOND THE BOUND" }.to_owned()
}

impl Report<'_> {
    fn ok(&self) -> bool {
        self.passes.iter().all(PassCheck::ok) && self.engines.iter().all(EngineCheck::ok)
    }

    fn json(&self, console: &mut Console) -> Result<(), Failure> {
        let net = &self.net.name;
        for (case, expected) in self.cases.iter().zip(self.expected) {
            let of = expected.judge(&expected.y);
            console.json(&json!({
                "net": net, "input": case.name, "finite": of.finite, "not_finite": of.not_finite, "open": of.open,
                "max_abs": of.largest, "bound": of.bound,
            }))?;
        }
        for pass in &self.passes {
            let (outcome, of) = match &pass.outcome {
                Outcome::Skipped => ("skipped", None),
                Outcome::Unchanged => ("unchanged", None),
                Outcome::Compared(all) => ("compared", Some(all)),
                Outcome::Approximated(all) => ("approximated", Some(all)),
            };
            let usual = of.map(|all| together(self.cases, true, all.iter())).unwrap_or_default();
            let edge = of.map(|all| together(self.cases, false, all.iter())).unwrap_or_default();
            console.json(&json!({
                "net": net, "pass": pass.pass, "outcome": outcome, "max_abs_err": finite(usual.error),
                "of_bound": finite(usual.share), "of_bound_at_edges": finite(edge.share), "ok": pass.ok(),
            }))?;
        }
        for engine in &self.engines {
            let usual = together(self.cases, true, engine.all.iter().map(|a| &a.whole));
            let edge = together(self.cases, false, engine.all.iter().map(|a| &a.whole));
            let (relative, bound) = self.relative(engine);
            console.json(&json!({
                "net": net, "engine": engine.name, "max_abs_err": finite(usual.error), "max_rel_err": finite(relative),
                "bound": bound, "of_bound": finite(usual.share), "of_bound_at_edges": finite(edge.share), "ok": engine.ok(),
            }))?;
        }
        match &self.no_objects {
            Some(why) => console.json(&json!({ "net": net, "skipped": "object", "why": why })),
            None => Ok(()),
        }
    }

    /// The largest relative error at usual inputs, and the largest bound relative to the outputs.
    fn relative(&self, engine: &EngineCheck) -> (f64, f64) {
        let usual = self.cases.iter().zip(&engine.all).filter(|(case, _)| case.usual);
        usual.fold((0f64, 0f64), |(r, b), (_, one)| (r.max(one.relative), b.max(one.bound)))
    }

    fn text(&self, console: &mut Console) -> Result<(), Failure> {
        let mut inputs = table(&["input", "finite", "NaN or infinite", "open", "largest", "bound"], &[1, 2, 3, 4, 5]);
        for (case, expected) in self.cases.iter().zip(self.expected) {
            let of = expected.judge(&expected.y);
            let counts = [of.finite, of.not_finite, of.open].map(|n| n.to_string());
            let [finite, not_finite, open] = counts;
            inputs.add_row([
                case.name.clone(),
                finite,
                not_finite,
                open,
                format!("{:.2e}", of.largest),
                format!("{:.2e}", of.bound),
            ]);
        }
        let mut passes = table(&["pass", "", "largest error", "of the bound", "at the edges", ""], &[2, 3, 4]);
        for pass in &self.passes {
            let row = |what: &str, all: Option<&Vec<Agreement>>, verdict: String| {
                let of = |usual| all.map(|all| together(self.cases, usual, all.iter()));
                let (usual, edge) = (of(true), of(false));
                let error = usual.map_or_else(String::new, |a| format!("{:.2e}", a.error));
                let share = |a: Option<Agreement>| match pass.outcome {
                    Outcome::Compared(_) => a.map_or_else(String::new, |a| percent(a.share)),
                    Outcome::Skipped | Outcome::Unchanged | Outcome::Approximated(_) => String::new(),
                };
                [pass.pass.to_owned(), what.to_owned(), error, share(usual), share(edge), verdict]
            };
            passes.add_row(match &pass.outcome {
                Outcome::Skipped => row("left out", None, String::new()),
                Outcome::Unchanged => row("changed nothing", None, String::new()),
                Outcome::Compared(all) => row("same function", Some(all), verdict(pass.ok())),
                Outcome::Approximated(all) => row("approximates", Some(all), "as asked".to_owned()),
            });
        }
        let mut engines =
            table(&["engine", "largest error", "relative", "bound", "of the bound", "at the edges", ""], &[1, 2, 3, 4, 5]);
        for engine in &self.engines {
            let usual = together(self.cases, true, engine.all.iter().map(|a| &a.whole));
            let edge = together(self.cases, false, engine.all.iter().map(|a| &a.whole));
            let (relative, bound) = self.relative(engine);
            engines.add_row([
                engine.name.clone(),
                format!("{:.2e}", usual.error),
                format!("{relative:.2e}"),
                format!("{bound:.2e}"),
                percent(usual.share),
                percent(edge.share),
                verdict(engine.ok()),
            ]);
        }
        let elements = self.net.output_len();
        console.line(format_args!(
            "{}: {} inputs, {elements} output element{} each, by the reference (naive sums in f64 over {} nodes)\n{inputs}",
            self.net.name,
            self.cases.len(),
            if elements == 1 { "" } else { "s" },
            self.specified.len(),
        ))?;
        console.line(format_args!("\nPasses: the graph after each against the graph before it\n{passes}"))?;
        console.line(format_args!("\nEngines: against the reference\n{engines}"))?;
        if let Some(why) = &self.no_objects {
            console.line(format_args!("Object files were not run: {why}."))?;
        }
        for failure in self.failures() {
            console.line(failure)?;
        }
        console.line(
            "\nOpen elements depend on the order of sums beyond f32 and are not compared; NaN must be NaN, and an infinity the same. \
             Macro nets run the same code as `native-…`; `cargo test` runs them.",
        )
    }

    /// Where something is wrong, a line each.
    fn failures(&self) -> Vec<String> {
        let line = |who: &str, case: &Case, of: &Agreement| {
            let element = of.worst.filter(|_| !of.ok())?;
            let port = self.net.outputs.iter().find(|p| p.range().contains(&element.at))?;
            let at = place(port, element.at - port.offset);
            let (got, want, bound) = (element.got, element.want, element.bound);
            Some(format!("{who} at input `{}`: {} {at} is {got:e}, not {want:e} within {bound:.1e}", case.name, port.name))
        };
        let mut all = Vec::new();
        for pass in &self.passes {
            if let Outcome::Compared(of) = &pass.outcome {
                all.extend(self.cases.iter().zip(of).filter_map(|(case, of)| line(pass.pass, case, of)));
            }
        }
        for engine in &self.engines {
            for (case, answer) in self.cases.iter().zip(&engine.all) {
                all.extend(line(&engine.name, case, &answer.whole));
                all.extend(answer.missed.then(|| format!("{} at input `{}`: elements are not written", engine.name, case.name)));
            }
        }
        all
    }
}

/// `[y, x, c]` of element `at` of an output, or `[c]` of a vector.
pub(super) fn place(port: &crate::plan::Port, at: usize) -> String {
    let s = port.tensor.shape;
    if (s.h, s.w) == (1, 1) { format!("[{at}]") } else { format!("[{}, {}, {}]", at / (s.w * s.c), at / s.c % s.w, at % s.c) }
}
