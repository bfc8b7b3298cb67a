//! The macro's net beside the JIT's code, in turns in this one process: what processes differ in, as where their memory lies, is a few
//! per cent of a time, more than the two differ in.

use std::time::Instant;

use mnc::{Net, Team};

use crate::jit;
use crate::nets::Spec;

/// Inferences of each net before the measured ones.
const WARM_UP: usize = 5;
/// Of the measured times, sorted, where those that are printed stand.
const QUANTILES: [(&str, f64); 4] = [("least", 0.0), ("5 %", 0.05), ("25 %", 0.25), ("median", 0.5)];

/// Prints times of `rounds` inferences of `net` by `threads` threads, 1 or 2: of the macro's net and of the JIT's code, two of each, which
/// differ in their memory alone, in ms and as ratios to the first.
///
/// # Errors
/// No such net, or outputs that are not the same to the bit.
pub fn pair(net: &str, threads: &str, rounds: &str) -> Result<(), String> {
    let spec = Spec::find(net)?;
    let threads: usize = threads.parse().ok().filter(|t| (1..=2).contains(t)).ok_or("threads are 1 or 2")?;
    let rounds: usize = rounds.parse().ok().filter(|&r| r > 0).ok_or_else(|| format!("`{rounds}` is no number of rounds"))?;
    let mut nets: Vec<(&str, Box<dyn Net + Send>)> = Vec::new();
    for _ in 0..2 {
        nets.push(("macro", (spec.boxed[threads - 1])()));
        nets.push(("jit", jit(spec, threads, false)?));
    }
    let mut team = Team::new(threads);
    let input: Vec<f32> = (0..nets[0].1.input_len()).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
    let mut outputs = vec![vec![0.0; nets[0].1.output_len()]; nets.len()];
    let mut times = vec![Vec::with_capacity(rounds); nets.len()];
    for round in 0..WARM_UP + rounds {
        for i in 0..nets.len() {
            let at = (i + round) % nets.len();
            let start = Instant::now();
            nets[at].1.run_on(&mut team, &input, &mut outputs[at]).map_err(|e| e.to_string())?;
            if round >= WARM_UP {
                times[at].push(start.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    if outputs.iter().any(|y| y.iter().zip(&outputs[0]).any(|(a, b)| a.to_bits() != b.to_bits())) {
        return Err(format!("{net}: the outputs differ"));
    }
    times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
    let quantiles = |t: &[f64]| QUANTILES.map(|(_, q)| t[(t.len() as f64 * q) as usize]);
    let first = quantiles(&times[0]);
    println!("{net}, threads: {threads}, {rounds} inferences of each in turns, ms (ratio to the first)");
    println!("{:8}{}", "", QUANTILES.map(|(name, _)| format!("{name:>18}")).concat());
    for ((name, _), t) in nets.iter().zip(&times) {
        let cells = quantiles(t).into_iter().zip(first).map(|(t, first)| format!("{:>18}", format!("{t:.3} ({:.3})", t / first)));
        println!("{name:8}{}", cells.collect::<String>());
    }
    Ok(())
}
