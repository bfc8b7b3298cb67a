//! How fast one core reads and writes memory: the other yardstick of `mnc bench`.

use std::hint::black_box;
use std::time::Instant;

use super::simd::{MOST_LANES, Simd};
use super::{Isa, Job};

/// Vectors of a step, each with a sum of its own: as many loads as can be on their way.
const STEP: usize = 8;
/// Bytes of a line of cache, and of the widest vector.
const LINE: usize = 64;
/// Bytes moved between two looks at the clock, at least: some 50 us from the first level of cache.
const LOOK: usize = 4 << 20;
/// Looks at the clock, of which the best counts.
const LOOKS: usize = 6;

/// Bytes per nanosecond, which is GB/s, of a working set that is gone through again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bandwidth {
    /// Reading alone.
    pub read: f64,
    /// Writing alone, what it takes to fetch and to return the lines included.
    pub write: f64,
}

/// Reads `floats` so many times, or writes them if `WRITE`.
struct Stream<'a, const WRITE: bool> {
    floats: &'a mut [f32],
    times: usize,
    sum: &'a mut [f32; MOST_LANES],
}

impl<const WRITE: bool> Job for Stream<'_, WRITE> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let zero = s.splat(black_box(0.0));
        let mut sums = [zero; STEP];
        let (steps, lanes) = (self.floats.len() / (STEP * S::LANES), S::LANES);
        for _ in 0..self.times {
            // Unseen by the compiler, so that no two passes become one.
            let first = black_box(self.floats.as_mut_ptr());
            for step in 0..steps {
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the slice has `steps * STEP` vectors, and this is the number of one of them.
                    unsafe {
                        let at = first.add((step * STEP + i) * lanes);
                        if WRITE {
                            s.store(zero, at);
                        } else {
                            *sum = s.add(*sum, s.load(at));
                        }
                    }
                }
            }
        }
        let sum = sums.into_iter().fold(zero, |a, b| s.add(a, b));
        // SAFETY: no instruction set has more lanes than the array has elements.
        unsafe { s.store(sum, self.sum.as_mut_ptr()) };
    }
}

/// The rates at which `isa`'s vectors stream over `floats`, whose content is lost: the best of a few short runs, so that an
/// interruption does not count. Which level of cache is measured, the length says; a thousand floats are the least that make sense.
#[must_use]
pub fn bandwidth(isa: Isa, floats: &mut [f32]) -> Bandwidth {
    // From a boundary of lines on, for no vector shall cross one.
    let skip = floats.as_ptr().align_offset(LINE).min(floats.len());
    let floats = &mut floats[skip..];
    // Written first: memory that nobody has written yet is one page of zeros, which the first level of cache holds.
    let write = rate::<true>(isa, floats);
    Bandwidth { read: rate::<false>(isa, floats), write }
}

/// GB/s of one direction.
fn rate<const WRITE: bool>(isa: Isa, floats: &mut [f32]) -> f64 {
    let bytes = size_of_val(floats).max(1);
    let times = LOOK.div_ceil(bytes);
    let mut best = 0.0f64;
    for _ in 0..LOOKS {
        let mut sum = [0.0; MOST_LANES];
        let start = Instant::now();
        isa.run(Stream::<WRITE> { floats, times, sum: &mut sum });
        let took = start.elapsed().as_secs_f64();
        black_box(sum);
        best = best.max((times * bytes) as f64 / (took * 1e9));
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "measures time")]
    fn every_instruction_set_streams() {
        for isa in Isa::available() {
            let mut floats = std::vec![1.0; 4096];
            let Bandwidth { read, write } = bandwidth(isa, &mut floats);
            assert!(read > 0.1 && read < 10_000.0 && write > 0.1 && write < 10_000.0, "{isa:?}: {read}, {write}");
            assert!(floats[128..3968].iter().all(|&x| x == 0.0));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "measures time, by megabytes")]
    fn short_ones_are_no_mistake() {
        for len in [0, 1, 7] {
            assert!(bandwidth(Isa::scalar(), &mut std::vec![0.0; len]).read >= 0.0);
        }
    }
}
