//! Translation validation: whether passes and engines compute what the naive reference does, within what rounding explains.
//!
//! [`cases`] makes inputs, [`rounding::expect`] says for each what the network as specified answers and how far rounding may take
//! another computation from that, element by element; [`Expected::judge`] compares. [`passes`] runs every pass and compares the
//! graphs before and after it; engines are whatever fills a slice.

pub mod inputs;
pub mod rounding;

use std::sync::atomic::{AtomicUsize, Ordering};

use mnc_runtime::params::Method;

use crate::Compiled;
use crate::front::Net;
use crate::ir::eval::eval;
use crate::ir::{Graph, NodeId};
use crate::pass::{self, PIPELINE, PassError};
use crate::plan::{Kernel, Step};

pub use inputs::{Case, cases};
pub use rounding::{Expected, Sums};

/// How an answer compares with the one expected.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Agreement {
    /// Finite elements that were compared.
    pub finite: usize,
    /// Elements that had to be NaN or the same infinity.
    pub not_finite: usize,
    /// Elements that were not compared, as their value is not determined: see [`rounding`].
    pub open: usize,
    /// The largest distance of a finite element.
    pub error: f64,
    /// The largest magnitude expected of a compared finite element.
    pub largest: f64,
    /// The largest distance relative to the element's own bound; infinite where something is not a number, or ought to be none.
    pub share: f64,
    /// The largest bound of a compared finite element.
    pub bound: f64,
    /// The element of the largest share.
    pub worst: Option<Element>,
}

/// One element of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Element {
    /// Its place among all outputs.
    pub at: usize,
    /// What it should be.
    pub want: f32,
    /// What it is.
    pub got: f32,
    /// How far it may be off.
    pub bound: f64,
}

impl Agreement {
    /// Whether every element is within its bound.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.share <= 1.0
    }

    /// The largest distance relative to the largest magnitude.
    #[must_use]
    pub fn relative(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { self.error / self.largest }
    }

    /// The worse of both, counted together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        let worse = if other.share > self.share || self.worst.is_none() { other } else { self };
        Self {
            finite: self.finite + other.finite,
            not_finite: self.not_finite + other.not_finite,
            open: self.open + other.open,
            error: self.error.max(other.error),
            largest: self.largest.max(other.largest),
            share: worse.share,
            bound: self.bound.max(other.bound),
            worst: worse.worst,
        }
    }
}

impl Expected {
    /// Compares `got` with what is expected.
    ///
    /// # Panics
    /// If it has another length.
    #[must_use]
    pub fn judge(&self, got: &[f32]) -> Agreement {
        judge(&self.y, &self.bound, got)
    }
}

/// What the engines of `net` should answer to `input`, which holds all inputs one behind the other: what the network as specified answers,
/// within the bound of kernels that add up in f32. Where its plan computes by Strassen's method, what rounding may do to that in
/// the planned graph comes on top.
///
/// # Panics
/// As [`rounding::expect`].
#[must_use]
pub fn expected(net: &Compiled, input: &[f32]) -> Expected {
    let mut expected = rounding::expect(&net.specified, input, Sums::F32);
    let joined = |step: &Step| matches!(&step.kernel, Kernel::Pointwise { params, .. } if params.method == Method::Strassen);
    if net.plan.steps().any(joined) {
        let more = rounding::expect(&net.graph, input, Sums::Strassen).bound;
        expected.bound.iter_mut().zip(more).for_each(|(bound, more)| *bound += more);
    }
    expected
}

/// Compares `got` with `want`, element by element within `bound`.
///
/// # Panics
/// If their lengths differ.
#[must_use]
pub fn judge(want: &[f32], bound: &[f64], got: &[f32]) -> Agreement {
    assert!(want.len() == got.len() && bound.len() == got.len(), "{} elements and {}", want.len(), got.len());
    let mut all = Agreement::default();
    for (at, ((&want, &bound), &got)) in want.iter().zip(bound).zip(got).enumerate() {
        let share = if !bound.is_finite() {
            all.open += 1;
            continue;
        } else if want.is_finite() {
            all.finite += 1;
            let off = (f64::from(want) - f64::from(got)).abs();
            let off = if off.is_finite() { off } else { f64::INFINITY };
            all.error = all.error.max(off);
            all.largest = all.largest.max(f64::from(want.abs()));
            all.bound = all.bound.max(bound);
            if off == 0.0 { 0.0 } else { off / bound }
        } else {
            all.not_finite += 1;
            let same = want.is_nan() && got.is_nan() || want == got;
            if same { 0.0 } else { f64::INFINITY }
        };
        if share > all.share || all.worst.is_none() {
            all.worst = Some(Element { at, want, got, bound });
            all.share = share;
        }
    }
    all
}

/// What one pass did to a net.
#[derive(Debug, Clone, PartialEq)]
pub struct PassCheck {
    /// The pass.
    pub pass: &'static str,
    /// What was found.
    pub outcome: Outcome,
}

/// How the graphs before and after a pass compare.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// `passes.skip` leaves it out.
    Skipped,
    /// It changed nothing.
    Unchanged,
    /// It changed the graph; one comparison a case.
    Compared(Vec<Agreement>),
    /// It changed the graph and what it computes, as the spec asks; one comparison a case, which no bound judges.
    Approximated(Vec<Agreement>),
}

impl PassCheck {
    /// Whether the pass kept the function, or was to change it.
    #[must_use]
    pub fn ok(&self) -> bool {
        match &self.outcome {
            Outcome::Skipped | Outcome::Unchanged | Outcome::Approximated(_) => true,
            Outcome::Compared(all) => all.iter().all(Agreement::ok),
        }
    }
}

/// Runs every pass over `net` and compares, by the reference, the graph after it with the graph before, on every case. `done` is
/// called after each pass.
///
/// # Errors
/// As [`pass::run`].
pub fn passes(net: &Net, cases: &[Case], mut done: impl FnMut(&PassCheck)) -> Result<Vec<PassCheck>, PassError> {
    let mut graph = net.graph.clone();
    graph.name_outputs();
    let answers = |graph: &Graph| each(cases, |case| answer(graph, &case.input));
    let bounds = |graph: &Graph| each(cases, |case| rounding::expect(graph, &case.input, Sums::F64).bound);
    let mut before = answers(&graph);
    // What the passes so far must not have changed by more, once they are rounded.
    let mut limits: Option<Vec<Vec<f64>>> = None;
    let mut all = Vec::new();
    let skipped = net.passes.skip.iter().map(|name| pass::position(name)).collect::<Result<Vec<_>, _>>()?;
    for (at, pass) in PIPELINE.iter().enumerate() {
        let mut next = graph.clone();
        let remarks = pass::run(&mut next, &net.passes, Some(pass.name), Some(pass.name))?;
        let outcome = if skipped.contains(&at) {
            Outcome::Skipped
        } else if !remarks.ran.iter().any(|r| r.changed) {
            Outcome::Unchanged
        } else {
            let was = std::mem::replace(&mut before, answers(&next));
            let pairs = was.iter().zip(&before);
            if pass.exact {
                let limits = limits.get_or_insert_with(|| bounds(&graph));
                Outcome::Compared(pairs.zip(limits).map(|((a, b), limit)| judge(a, limit, b)).collect())
            } else {
                limits = None;
                Outcome::Approximated(pairs.map(|(a, b)| judge(a, &vec![f64::MAX; a.len()], b)).collect())
            }
        };
        graph = next;
        let check = PassCheck { pass: pass.name, outcome };
        done(&check);
        all.push(check);
    }
    Ok(all)
}

/// What `graph` answers to `input`, which holds all inputs one behind the other: all outputs one behind the other.
#[must_use]
pub fn answer(graph: &Graph, input: &[f32]) -> Vec<f32> {
    let mut rest = input;
    let mut part = |id: &NodeId| {
        let (one, after) = rest.split_at(graph.shape(*id).elements());
        rest = after;
        one
    };
    let inputs: Vec<&[f32]> = graph.inputs.iter().map(&mut part).collect();
    eval(graph, &inputs).concat()
}

/// `f` of every case, by as many threads as the machine has.
pub fn each<T: Send>(cases: &[Case], f: impl Fn(&Case) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut mine = Vec::new();
        while let Some((i, case)) = Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, cases.get(i)?))) {
            mine.push((i, f(case)));
        }
        mine
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(cases.len());
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let others = others.into_iter().flat_map(|t| t.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        mine.into_iter().chain(others).collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, t)| t).collect()
}
