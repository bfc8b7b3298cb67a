//! `mnc bench`: how long one inference takes, and how much of the machine that is.

use std::time::{Duration, Instant};

use mnc_runtime::isa::{self, Isa};
use serde_json::json;

use super::Failure;
use super::args::Bench;
use super::console::Console;
use super::engine::Engine;
use super::output::size;
use super::profile::Profile;
use super::table::{table, thousands};
use crate::Compiled;
use crate::validate::inputs::picture;

/// Runs before measuring start: until this time has passed, and two at least.
pub(super) const WARM_UP: Duration = Duration::from_millis(200);

pub(super) fn run(args: &Bench, console: &mut Console) -> Result<(), Failure> {
    let mut net = console.load(&args.spec)?;
    args.engine.apply(&mut net)?;
    let start = Instant::now();
    let net = console.compile_net(net)?;
    let mut engine = Engine::new(&args.engine, &net)?;
    let compile_ms = start.elapsed().as_secs_f64() * 1e3;

    let x = picture(&net.plan, 1);
    let mut y = vec![0.0; net.plan.output_len()];
    let runs = args.runs.get();
    console.progress(runs);
    console.doing(engine.name());
    let start = Instant::now();
    let mut warm = 0;
    while warm < 2 || start.elapsed() < WARM_UP {
        engine.run(&x, &mut y)?;
        warm += 1;
    }
    let mut ms = Vec::with_capacity(runs);
    for _ in 0..runs {
        ms.push(engine.run(&x, &mut y)?.as_secs_f64() * 1e3);
        console.step();
    }
    console.progress_done();
    let peak = isa::peak_fma(Isa::detect());
    let profile = if args.profile { Some(Profile::measure(&net, &x, &mut y, runs)?) } else { None };
    report(args, &net, Measured { engine: engine.name(), ms, compile_ms, peak, profile }, console)
}

/// The value below which a share `q` of the sorted `ms` lies (nearest rank).
pub(super) fn quantile(ms: &[f64], q: f64) -> f64 {
    ms[((ms.len() as f64 * q).ceil() as usize).clamp(1, ms.len()) - 1]
}

/// What was measured, in milliseconds and GFLOP/s; a multiply-add is two operations.
struct Measured {
    engine: String,
    ms: Vec<f64>,
    compile_ms: f64,
    peak: f64,
    profile: Option<Profile>,
}

fn report(args: &Bench, net: &Compiled, measured: Measured, console: &mut Console) -> Result<(), Failure> {
    let Measured { engine, mut ms, compile_ms, peak, profile } = measured;
    ms.sort_by(f64::total_cmp);
    let (min, median, p99) = (ms[0], quantile(&ms, 0.5), quantile(&ms, 0.99));
    let plan = &net.plan;
    let gflops = 2.0 * plan.macs as f64 / (median * 1e6);
    let whole = peak * plan.threads as f64;
    if args.json {
        let mut object = json!({
            "net": plan.name, "engine": engine, "threads": plan.threads, "runs": ms.len(),
            "min_ms": min, "median_ms": median, "p99_ms": p99, "macs": plan.macs, "gflops": gflops,
            "peak_gflops": peak, "peak_fraction": gflops / whole, "compile_ms": compile_ms,
            "arena_bytes": plan.memory.arena_bytes, "arena_lower_bound_bytes": plan.memory.lower_bound_bytes,
            "weight_bytes": plan.weights.bytes(),
        });
        if let Some(profile) = &profile {
            profile.add_to(&mut object);
        }
        return console.json(&object);
    }
    let mut rows =
        table(&["net", "engine", "threads", "runs", "min", "median", "p99", "GFLOP/s", "of peak"], &[2, 3, 4, 5, 6, 7, 8]);
    rows.add_row([
        plan.name.clone(),
        engine,
        plan.threads.to_string(),
        ms.len().to_string(),
        format!("{min:.3} ms"),
        format!("{median:.3} ms"),
        format!("{p99:.3} ms"),
        format!("{gflops:.1}"),
        format!("{:.0} %", 100.0 * gflops / whole),
    ]);
    console.line(rows)?;
    console.line(format_args!(
        "{} multiply-adds; peak of one core here {peak:.1} GFLOP/s; compiled in {compile_ms:.0} ms; arena {} (lower bound {}), weights {}",
        thousands(plan.macs),
        size(plan.memory.arena_bytes),
        size(plan.memory.lower_bound_bytes),
        size(plan.weights.bytes()),
    ))?;
    profile.map_or(Ok(()), |p| p.print(console))
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_by_nearest_rank() {
        let ms: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!([quantile(&ms, 0.5), quantile(&ms, 0.99), quantile(&ms, 1.0)], [100.0, 198.0, 200.0]);
        assert_eq!([quantile(&[7.0], 0.5), quantile(&[7.0], 0.99)], [7.0, 7.0]);
    }
}
