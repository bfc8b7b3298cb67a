//! Choosing stages by measurement: where the model of `plan/cost` is unsure, this machine decides.
//!
//! Starts from the fastest of what the model chooses, of layers by themselves and of streams wherever possible; then tries every
//! change of [`variants`], those of the most expensive layers first, until none is left or the time is up. Two plans are measured
//! in turns within one process, whole inferences stage by stage; what counts is the time of the stages that differ and of the
//! one behind them, which finds its input elsewhere in the cache. A change is kept if its best time wins by more than [`GAIN`] in
//! both halves of the rounds, and does so again, so that neither a drift nor luck decides. With several threads, which meet behind every
//! stage, whole inferences are compared. At last the whole of what was kept must beat what the model chose, in both halves too.

use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net as _, RunError};

use crate::Compiled;
use crate::back::native::NativeNet;
use crate::front::tune::{Tuned, VERSION, network};
use crate::machine;
use crate::plan::variants::variants;
use crate::plan::{self, Decisions, Meta, Options, Plan, PlanError, Stream};

/// What a change must win.
pub const GAIN: f64 = 0.01;
/// Rounds of a half.
const ROUNDS: usize = 6;

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The decisions with what is known of them, for the file.
    pub tuned: Tuned,
    /// Changes that were measured.
    pub tried: usize,
    /// Those that were kept.
    pub kept: Vec<String>,
    /// How many won one by one, but were given up because all of them together did not.
    pub withdrawn: usize,
    /// Whether the time was up before all were tried.
    pub cut_short: bool,
}

/// How far the search is: a share of the time limit, and what is tried now.
pub type Progress<'a> = &'a mut dyn FnMut(f64, &str);

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TuneError {
    /// There is no plan to start from.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// An inference failed: a mistake in the planner, never in the input.
    #[error("a planned net does not run: {0}")]
    Run(RunError),
}

/// A net with room for its input and output.
struct Runner {
    net: NativeNet,
    decisions: Decisions,
    x: Vec<f32>,
    y: Vec<f32>,
}

impl Runner {
    fn new(plan: Plan, decisions: Decisions, isa: Isa) -> Self {
        let (x, y) = (vec![0.5; plan.input_len()], vec![0.0; plan.output_len()]);
        Self { net: NativeNet::new(plan, isa), decisions, x, y }
    }

    /// Which stages have one of `layers`, all of them where none are named; with the ones behind them.
    fn stages(&self, layers: &[String]) -> Vec<bool> {
        let stages = &self.net.plan().stages;
        let has = |s: &plan::Stage| layers.is_empty() || s.steps.iter().any(|step| layers.contains(&step.name));
        let with: Vec<bool> = stages.iter().map(has).collect();
        (0..with.len()).map(|s| with[s] || s > 0 && with[s - 1]).collect()
    }

    /// Milliseconds of the stages marked in `counted` in the course of one inference; of all where threads share it.
    fn time(&mut self, counted: &[bool]) -> Result<f64, TuneError> {
        if self.net.plan().threads > 1 {
            let start = Instant::now();
            self.net.run(&self.x, &mut self.y).map_err(TuneError::Run)?;
            return Ok(start.elapsed().as_secs_f64() * 1e3);
        }
        let mut ms = 0.0;
        for (stage, &counts) in counted.iter().enumerate() {
            let start = Instant::now();
            self.net.run_stage(stage, 1, &self.x, &mut self.y).map_err(TuneError::Run)?;
            if counts {
                ms += start.elapsed().as_secs_f64() * 1e3;
            }
        }
        Ok(ms)
    }
}

/// Compares two plans in turns by the stages of `layers`: whether `new` wins by more than `gain` in both halves, and the best times of both.
fn compare(old: &mut Runner, new: &mut Runner, layers: &[String], gain: f64) -> Result<(bool, f64, f64), TuneError> {
    let counted = [old.stages(layers), new.stages(layers)];
    // The first round only warms up.
    old.time(&counted[0])?;
    new.time(&counted[1])?;
    let (mut wins, mut best) = (true, [f64::INFINITY; 2]);
    for _ in 0..2 {
        let mut half = [f64::INFINITY; 2];
        for _ in 0..ROUNDS {
            half[0] = half[0].min(old.time(&counted[0])?);
            half[1] = half[1].min(new.time(&counted[1])?);
        }
        wins &= half[1] < (1.0 - gain) * half[0];
        best = [best[0].min(half[0]), best[1].min(half[1])];
        if !wins {
            break;
        }
    }
    Ok((wins, best[0], best[1]))
}

/// Looks for the fastest stages of `net` on this machine with the kernels of `isa`, for about `limit`. The plan of `net` says how
/// many threads there are; it must prefer speed.
///
/// # Errors
/// [`TuneError`]: the net cannot be planned or run.
pub fn tune(net: &Compiled, isa: Isa, limit: Duration, progress: Progress<'_>) -> Result<Outcome, TuneError> {
    let begin = Instant::now();
    let Plan { name, preprocess, labels, params, threads, .. } = &net.plan;
    let meta = Meta { name: name.clone(), preprocess: preprocess.clone(), labels: labels.clone(), params: *params };
    let auto = Options { threads: *threads, ..Options::default() };
    let start = |stream| -> Result<Runner, TuneError> {
        let options = Options { stream, ..auto };
        let plan = plan::build(&net.graph, meta.clone(), &options)?;
        let decisions = Decisions::of(&plan, &options);
        Ok(Runner::new(plan, decisions, isa))
    };
    let mut model = start(Stream::Auto)?;
    let mut best = start(Stream::Auto)?;
    let (mut tried, mut kept, mut cut_short) = (0, Vec::new(), false);
    let mut share = |what: &str| progress((begin.elapsed().as_secs_f64() / limit.as_secs_f64()).min(1.0), what);
    for (stream, what) in [(Stream::Never, "layer by layer"), (Stream::Always, "streamed wherever possible")] {
        share(what);
        let mut other = start(stream)?;
        tried += 1;
        if compare(&mut best, &mut other, &[], GAIN)?.0 {
            best = other;
            kept = vec![what.to_owned()];
        }
    }
    let mut seen: HashSet<(Vec<String>, Decisions)> = HashSet::new();
    'search: loop {
        let mut changed = false;
        for variant in variants(&net.graph, &auto, &best.decisions)? {
            if !seen.insert(within(&variant.decisions, &variant.layers)) {
                continue;
            }
            if begin.elapsed() >= limit {
                cut_short = true;
                break 'search;
            }
            share(&variant.what);
            let Ok(plan) = plan::decided(&net.graph, meta.clone(), &auto, &variant.decisions) else { continue };
            let mut other = Runner::new(plan, variant.decisions, isa);
            tried += 1;
            let mut wins = || Ok::<_, TuneError>(compare(&mut best, &mut other, &variant.layers, GAIN)?.0);
            // Of so many tried some win by luck: they have to win again.
            if wins()? && wins()? {
                // What it was before has lost.
                seen.insert(within(&best.decisions, &variant.layers));
                kept.push(variant.what);
                best = other;
                changed = true;
                break;
            }
        }
        if !changed {
            break;
        }
    }
    // Stages one by one may win what the whole does not.
    let (wins, mut before_ms, mut after_ms) = compare(&mut model, &mut best, &[], 0.0)?;
    let mut withdrawn = 0;
    if !wins {
        withdrawn = kept.len();
        (best, kept) = (model, Vec::new());
        before_ms = before_ms.min(after_ms);
        after_ms = before_ms;
    }
    let tuned = Tuned {
        mnc: VERSION.to_owned(),
        network: network(&net.graph),
        cpu: machine::cpu(),
        isa: isa.name().to_owned(),
        threads: *threads,
        date: date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())),
        before_ms,
        after_ms,
        decisions: best.decisions,
    };
    Ok(Outcome { tuned, tried, kept, withdrawn, cut_short })
}

/// What `decisions` say of `layers`, or as a whole where none are named.
fn within(decisions: &Decisions, layers: &[String]) -> (Vec<String>, Decisions) {
    let stages = decisions.stages.iter().filter(|d| layers.contains(&d.last)).cloned().collect();
    (layers.to_vec(), Decisions { gaps: decisions.gaps, stages })
}

/// The day of `seconds` after the beginning of 1970, `2026-11-23`.
fn date(seconds: u64) -> String {
    let mut day = seconds / 86_400;
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let months = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= months[month] {
        day -= months[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (seconds, want) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
        ] {
            assert_eq!(date(seconds), want);
        }
    }
}
