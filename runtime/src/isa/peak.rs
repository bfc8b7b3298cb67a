//! What one core can compute at most: the yardstick of `mnc bench`.

use std::hint::black_box;
use std::time::Instant;

use super::simd::{MOST_LANES, Simd};
use super::{Isa, Job};

/// Independent chains of multiply-adds: latency (4 or 5 cycles) times throughput (2 a cycle) is at most 10.
const CHAINS: usize = 10;
/// Multiply-adds of a chain between two looks at the clock: about 0.1 ms.
const STEPS: usize = 40_000;

struct Chains<'a> {
    sum: &'a mut [f32; MOST_LANES],
    lanes: &'a mut usize,
}

impl Job for Chains<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (factor, addend) = (s.splat(black_box(0.999)), s.splat(black_box(0.001)));
        let mut chains = [s.splat(black_box(1.0)); CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = s.mul_add(*chain, factor, addend);
            }
        }
        let mut sum = s.splat(0.0);
        for chain in chains {
            sum = s.add(sum, chain);
        }
        *self.lanes = S::LANES;
        // SAFETY: no instruction set has more lanes than the array has elements.
        unsafe { s.store(sum, self.sum.as_mut_ptr()) };
    }
}

/// GFLOP/s of `isa`'s multiply-adds (two operations each) in registers on this core: the best of many short runs, so that neither
/// an interruption nor a slow start of the clock counts.
#[must_use]
pub fn peak_fma(isa: Isa) -> f64 {
    let mut best = 0.0f64;
    let begin = Instant::now();
    while begin.elapsed().as_millis() < 60 {
        let (mut sum, mut lanes) = ([0.0; MOST_LANES], 0);
        let start = Instant::now();
        isa.run(Chains { sum: &mut sum, lanes: &mut lanes });
        let took = start.elapsed().as_secs_f64();
        black_box(sum);
        let flops = (2 * lanes * CHAINS * STEPS) as f64;
        best = best.max(flops / (took * 1e9));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "measures time")]
    fn every_instruction_set_has_a_peak() {
        // Which is higher is no question for a test: cores that do a wide vector in two halves have two equal ones, and others work too.
        let peaks: Vec<f64> = Isa::available().map(peak_fma).collect();
        assert!(peaks.iter().all(|&p| p > 0.1 && p < 1000.0), "{peaks:?}");
    }
}
