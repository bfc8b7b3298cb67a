//! `mnc bench --profile`: the time of every stage, and what of the machine bounds it.

use std::time::Instant;

use mnc_runtime::isa::Isa;
use serde_json::{Value, json};

use super::Failure;
use super::bench::{WARM_UP, quantile};
use super::console::Console;
use super::table::table;
use crate::Compiled;
use crate::back::native::NativeNet;
use crate::diag::Diagnostic;
use crate::machine::{Bound, Level, Machine, Move, Resource};
use crate::plan::traffic::{Traffic, traffic};
use crate::plan::{Split, Stage};

/// Columns of a stage's name at most.
const NAME: usize = 38;

/// The stages of a net on as many threads as its plan is made for.
pub(super) struct Profile {
    machine: Machine,
    threads: usize,
    stages: Vec<Row>,
}

/// One stage.
struct Row {
    name: String,
    steps: Vec<String>,
    macs: u64,
    /// Milliseconds, sorted.
    ms: Vec<f64>,
    /// The same on one thread; empty where there is but one.
    alone: Vec<f64>,
    traffic: Traffic,
    bound: Bound,
}

impl Row {
    fn median(&self) -> f64 {
        quantile(&self.ms, 0.5)
    }

    fn min(&self) -> f64 {
        self.ms[0]
    }

    /// At the median.
    fn gflops(&self) -> f64 {
        2.0 * self.macs as f64 / (self.median() * 1e6)
    }

    /// How many times faster all threads are than one, at the medians.
    fn speed_up(&self) -> Option<f64> {
        (!self.alone.is_empty()).then(|| quantile(&self.alone, 0.5) / self.median())
    }

    fn bytes(&self, write: bool) -> usize {
        self.traffic.outside.iter().filter(|m| m.write == write).map(|m| m.bytes).sum()
    }
}

impl Profile {
    /// Runs every stage `runs` times, in the order of an inference, by the runtime's kernels: on all threads, and where they are several
    /// then on this one alone.
    pub(super) fn measure(net: &Compiled, x: &[f32], y: &mut [f32], runs: usize) -> Result<Self, Failure> {
        let isa = Isa::detect();
        let machine = Machine::measure(isa);
        let mut native = NativeNet::new(net.plan.clone(), isa);
        let (stages, threads) = (&net.plan.stages, net.plan.threads);
        let mut times = vec![[Vec::new(), Vec::new()]; stages.len()];
        let kinds: &[usize] = if threads > 1 { &[threads, 1] } else { &[1] };
        // Not in turns: threads that slept between runs may be woken on the core of the one that waits for them, again and again.
        for (kind, &threads) in kinds.iter().enumerate() {
            let (start, mut counted) = (Instant::now(), 0);
            while counted < runs {
                let warm = start.elapsed() >= WARM_UP;
                for (stage, times) in times.iter_mut().enumerate() {
                    let start = Instant::now();
                    native.run_stage(stage, threads, x, y).map_err(|e| Failure::job(Diagnostic::error(e.to_string())))?;
                    if warm {
                        times[kind].push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
                counted += usize::from(warm);
            }
        }
        let row = |((stage, mut times), traffic): ((&Stage, [Vec<f64>; 2]), Traffic)| {
            times.iter_mut().for_each(|ms| ms.sort_by(f64::total_cmp));
            let [ms, alone] = times;
            let steps: Vec<String> = stage.steps.iter().map(|s| s.name.clone()).collect();
            let macs = stage.steps.iter().map(|s| s.macs).sum();
            let moves: Vec<Move> = traffic.outside.iter().chain(&traffic.inside).copied().collect();
            let cores = if stage.split == Split::Alone { 1 } else { threads };
            let bound = machine.bound(2.0 * macs as f64, &moves).shared(cores);
            Row { name: stage.name.clone(), steps, macs, ms, alone, traffic, bound }
        };
        let stages = stages.iter().zip(times).zip(traffic(&net.plan)).map(row).collect();
        Ok(Self { machine, threads, stages })
    }

    /// The peak of all cores that the threads may have, in GFLOP/s.
    fn peak(&self) -> f64 {
        self.machine.peak * self.threads as f64
    }

    /// Milliseconds of all stages: the medians, and the bounds.
    fn sums(&self) -> (f64, f64) {
        (self.stages.iter().map(Row::median).sum(), self.stages.iter().map(|r| r.bound.longest()).sum())
    }

    /// The table for people.
    pub(super) fn print(&self, console: &mut Console) -> Result<(), Failure> {
        let (sum, bounds) = self.sums();
        // In place of the multiply-adds, which the rate tells as well.
        let fourth = if self.threads > 1 { "speed-up" } else { "M MACs" };
        let header = ["stage", "min ms", "median", "share", fourth, "GFLOP/s", "peak", "MB", "limit", "of bound"];
        let mut rows = table(&header, &[1, 2, 3, 4, 5, 6, 7, 9]);
        for row in &self.stages {
            let products = |text: String| if row.macs == 0 { String::new() } else { text };
            rows.add_row([
                shown(&row.steps),
                format!("{:.3}", row.min()),
                format!("{:.3}", row.median()),
                format!("{:.1} %", 100.0 * row.median() / sum),
                row.speed_up().map_or_else(|| products(format!("{:.2}", row.macs as f64 / 1e6)), |times| format!("{times:.2}")),
                products(format!("{:.1}", row.gflops())),
                products(format!("{:.0} %", 100.0 * row.gflops() / self.peak())),
                format!("{:.2}", row.traffic.bytes() as f64 / 1e6),
                row.bound.limit().name().to_owned(),
                format!("{:.0} %", 100.0 * row.bound.longest() / row.median()),
            ]);
        }
        let isa = self.machine.isa.name();
        let threads = if self.threads > 1 { format!("{} threads", self.threads) } else { "one thread".to_owned() };
        console.line(format_args!("stages by the runtime's kernels ({isa}) on {threads}, {sum:.3} ms together\n{rows}"))?;
        let levels: Vec<String> = self.machine.levels.iter().map(level_text).collect();
        console.line(format_args!("this core: {:.1} GFLOP/s; reads/writes in GB/s: {}", self.machine.peak, levels.join(", ")))?;
        let cores = if self.threads > 1 { format!(" of {} such cores", self.threads) } else { String::new() };
        console.line(format_args!("time at the bounds{cores}: {bounds:.3} ms = {:.0} % of measured", 100.0 * bounds / sum))
    }

    /// Adds `stages`, `machine` (one core), `bound_ms` and `bound_fraction` to `object`; stages have a `speed_up` on several threads.
    pub(super) fn add_to(&self, object: &mut Value) {
        let (sum, bounds) = self.sums();
        let stage = |row: &Row| {
            let least: serde_json::Map<String, Value> =
                Resource::ALL.into_iter().zip(row.bound.ms).map(|(r, ms)| (r.key().to_owned(), json!(ms))).collect();
            let mut stage = json!({
                "name": row.name, "steps": row.steps, "macs": row.macs, "min_ms": row.min(), "median_ms": row.median(),
                "share": row.median() / sum, "gflops": row.gflops(), "peak_fraction": row.gflops() / self.peak(),
                "read_bytes": row.bytes(false), "written_bytes": row.bytes(true), "inside_bytes": row.traffic.inside_bytes(),
                "least_ms": least, "limit": row.bound.limit().key(), "bound_ms": row.bound.longest(),
                "bound_fraction": row.bound.longest() / row.median(),
            });
            if let Some(times) = row.speed_up() {
                stage["speed_up"] = json!(times);
            }
            stage
        };
        object["stages"] = json!(self.stages.iter().map(stage).collect::<Vec<_>>());
        let level = |l: &Level| {
            let bytes = (l.bytes != usize::MAX).then_some(l.bytes);
            json!({ "name": l.resource.key(), "bytes": bytes, "read_gb_s": l.rates.read, "write_gb_s": l.rates.write })
        };
        object["machine"] = json!({
            "isa": self.machine.isa.name(), "peak_gflops": self.machine.peak,
            "levels": self.machine.levels.iter().map(level).collect::<Vec<_>>(),
        });
        object["bound_ms"] = json!(bounds);
        object["bound_fraction"] = json!(bounds / sum);
    }
}

/// `L2 (1 MiB) 160/90`
fn level_text(level: &Level) -> String {
    let size = match level.bytes {
        usize::MAX => String::new(),
        bytes if bytes >= 1 << 20 => format!(" ({} MiB)", bytes >> 20),
        bytes => format!(" ({} KiB)", bytes >> 10),
    };
    format!("{}{size} {:.0}/{:.0}", level.resource.name(), level.rates.read, level.rates.write)
}

/// A stage by its steps, what their names begin with said once: `block2.0: expand, depthwise, project`. What would be too long is
/// `block1.project … block3.project (7)`, or only its end.
fn shown(steps: &[String]) -> String {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return String::new() };
    if steps.len() == 1 {
        return first.clone();
    }
    let parts = |name: &str| name.split('.').map(str::to_owned).collect::<Vec<_>>();
    let all: Vec<Vec<String>> = steps.iter().map(|s| parts(s)).collect();
    let least = all.iter().map(Vec::len).min().unwrap_or(1);
    let common = (0..least - 1).take_while(|&i| all.iter().all(|p| p[i] == all[0][i])).count();
    let rest: Vec<String> = all.iter().map(|p| p[common..].join(".")).collect();
    let prefix = if common == 0 { String::new() } else { format!("{}: ", all[0][..common].join(".")) };
    let whole = format!("{prefix}{}", rest.join(", "));
    let ends = format!("{first} … {last} ({})", steps.len());
    let fits = |text: &String| text.chars().count() <= NAME;
    [whole, ends].into_iter().find(fits).unwrap_or_else(|| format!("… {last} ({})", steps.len()))
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn stages_are_named_by_their_steps() {
        let name = |steps: &[&str]| shown(&steps.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(name(&["block2.depthwise"]), "block2.depthwise");
        assert_eq!(name(&["block2.0.expand", "block2.0.project"]), "block2.0: expand, project");
        assert_eq!(name(&["stem", "block1.depthwise"]), "stem, block1.depthwise");
        assert_eq!(name(&["a.b", "a.b"]), "a: b, b");
        let long = ["block1.depthwise", "block1.pointwise", "block2.depthwise", "block2.pointwise"];
        assert_eq!(name(&long), "… block2.pointwise (4)");
        assert_eq!(name(&["stem.conv", "block1.depthwise", "block1.project"]), "stem.conv … block1.project (3)");
    }
}
