//! Threads that wait for work: a [`Team`] runs one closure on all of them at once.
//!
//! One parallel region an inference: workers are woken once, meet at a barrier behind every stage, and then wait again. They spin
//! for [`SPIN`] first, so that back-to-back inferences find them awake, and then sleep: an idle team costs nothing. The caller is
//! thread 0. A team of one spawns nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};
use std::vec::Vec;

use crate::net::{Net, RunError};

/// How long a waiting worker spins before it sleeps.
pub const SPIN: Duration = Duration::from_micros(100);

/// What a region runs: thread number, and the barrier of its threads.
type Region<'a> = &'a (dyn Fn(usize, &Barrier) + Sync);

/// Threads that share the work of a net, or of many pictures. Made once, used by any number of nets, one after another.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Counts regions; a change wakes the workers.
    epoch: AtomicUsize,
    /// Threads of the present region; workers beyond it have no part.
    threads: AtomicUsize,
    /// Where the present region stands: a [`Region`] on the stack of `Team::run`.
    region: AtomicPtr<()>,
    /// Workers that are not done with the present region.
    running: AtomicUsize,
    /// Which workers sleep, or are about to.
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    barrier: Barrier,
}

/// Where threads wait for each other: sense-reversing, so it can be used again at once.
#[derive(Debug, Default)]
pub struct Barrier {
    threads: AtomicUsize,
    arrived: AtomicUsize,
    turn: AtomicUsize,
}

impl Barrier {
    /// Returns when all threads of the region have called it; what they wrote before is visible behind it.
    pub fn wait(&self) {
        let threads = self.threads.load(Ordering::Relaxed);
        let turn = self.turn.load(Ordering::Relaxed);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0usize;
        while self.turn.load(Ordering::Acquire) == turn {
            core::hint::spin_loop();
            spins = spins.wrapping_add(1);
            // More threads than cores: the one waited for may want this one's.
            if spins.is_multiple_of(4096) {
                thread::yield_now();
            }
        }
    }
}

impl Team {
    /// A team of `threads`, of which the caller is one; at least one.
    ///
    /// # Panics
    /// If the system refuses a thread.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let workers = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            threads: AtomicUsize::new(0),
            region: AtomicPtr::new(core::ptr::null_mut()),
            running: AtomicUsize::new(0),
            asleep: (0..workers).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            barrier: Barrier::default(),
        });
        let workers = (0..workers)
            .map(|i| {
                let shared = Arc::clone(&shared);
                let name = std::format!("mnc-{}", i + 1);
                thread::Builder::new().name(name).spawn(move || shared.work(i)).expect("a thread of a team")
            })
            .collect();
        Self { shared, workers }
    }

    /// A thread for every core that this process may use.
    #[must_use]
    pub fn of_all_cores() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }

    /// How many threads it has, the caller's included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `region` once for every thread number below `threads` (at most the team's), all at the same time; returns when all
    /// have. The region must not panic on one thread while another waits at the barrier.
    pub fn run(&mut self, threads: usize, region: &(dyn Fn(usize, &Barrier) + Sync)) {
        let threads = threads.clamp(1, self.threads());
        let shared = &*self.shared;
        shared.barrier.threads.store(threads, Ordering::Relaxed);
        if threads > 1 {
            // A pointer to the reference, as that is one word, and keeps what it may point at, which integers do not.
            let place: *const Region<'_> = &raw const region;
            shared.region.store(place.cast_mut().cast(), Ordering::Relaxed);
            shared.threads.store(threads, Ordering::Relaxed);
            shared.running.store(self.workers.len(), Ordering::Relaxed);
            // With the workers' look at the epoch before they sleep: either they see it, or this sees them asleep.
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            for (worker, asleep) in self.workers.iter().zip(&shared.asleep) {
                if asleep.swap(false, Ordering::SeqCst) {
                    worker.thread().unpark();
                }
            }
        }
        let done = Done { shared, wait: threads > 1 };
        region(0, &shared.barrier);
        drop(done);
    }
}

/// Waits for the workers, also where the caller's part panicked: they use what it borrowed.
struct Done<'a> {
    shared: &'a Shared,
    wait: bool,
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        let mut spins = 0usize;
        while self.wait && self.shared.running.load(Ordering::Acquire) > 0 {
            core::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(4096) {
                thread::yield_now();
            }
        }
    }
}

impl Shared {
    /// The life of worker `i`.
    fn work(&self, i: usize) {
        let mut seen = 0;
        loop {
            seen = self.next(i, seen);
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            if i + 1 < self.threads.load(Ordering::Relaxed) {
                let place = self.region.load(Ordering::Relaxed).cast::<Region<'_>>();
                // SAFETY: there stands the reference that `Team::run` was called with; it stored the place before it raised the epoch,
                // and does not return before `running` is counted down below.
                let region = unsafe { *place };
                region(i + 1, &self.barrier);
            }
            self.running.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits for another epoch than `seen` and returns it.
    fn next(&self, i: usize, seen: usize) -> usize {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                let epoch = self.epoch.load(Ordering::Acquire);
                if epoch != seen {
                    return epoch;
                }
                core::hint::spin_loop();
            }
            if start.elapsed() > SPIN {
                // Said again before every sleep: a late call that woke it for the last region took it back.
                loop {
                    self.asleep[i].store(true, Ordering::SeqCst);
                    if self.epoch.load(Ordering::SeqCst) != seen {
                        break;
                    }
                    thread::park();
                }
                self.asleep[i].store(false, Ordering::SeqCst);
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            Thread::unpark(worker.thread());
            // A worker that panicked has said so.
            drop(worker.join());
        }
    }
}

/// Many pictures, each on one core: picture `i` is `inputs[i * n..][..n]` with `n` elements of the input, its answer stands at the
/// same place of `outputs`. Every net of `nets` (the same one, several times) serves one thread, as many as the team has; whoever
/// is free takes the next picture.
///
/// # Errors
/// No net, `inputs` is not a number of whole pictures, or `outputs` is not as many answers; nothing was computed then.
pub fn run_batch<N: Net + Send>(team: &mut Team, nets: &mut [N], inputs: &[f32], outputs: &mut [f32]) -> Result<(), RunError> {
    let Some(net) = nets.first() else {
        return Err(RunError::Nets);
    };
    let [n_in, n_out] = [net.input_len(), net.output_len()].map(|n| n.max(1));
    let pictures = inputs.len() / n_in;
    RunError::check(inputs.len(), pictures * n_in, outputs.len(), pictures * n_out)?;
    let next = AtomicUsize::new(0);
    let failed = std::sync::Mutex::new(None);
    let threads = nets.len().min(team.threads());
    let nets: Vec<_> = nets.iter_mut().map(std::sync::Mutex::new).collect();
    let outputs: Vec<_> = outputs.chunks_exact_mut(n_out).map(std::sync::Mutex::new).collect();
    team.run(threads, &|thread, _| {
        // Each lock has one taker; they only tell the compiler so.
        let Ok(mut net) = nets[thread].lock() else { return };
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(output) = outputs.get(i) else { return };
            let Ok(mut output) = output.lock() else { return };
            if let Err(error) = net.run(&inputs[i * n_in..][..n_in], &mut output)
                && let Ok(mut failed) = failed.lock()
            {
                *failed = Some(error);
            }
        }
    });
    match failed.into_inner() {
        Ok(Some(error)) => Err(error),
        Ok(None) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_runs_once_a_region() {
        for size in 1..=5 {
            let mut team = Team::new(size);
            assert_eq!(team.threads(), size);
            for threads in [1, 2, 3, size, size + 3].repeat(if cfg!(miri) { 2 } else { 50 }) {
                let seen: Vec<AtomicUsize> = (0..size).map(|_| AtomicUsize::new(0)).collect();
                team.run(threads, &|thread, _| {
                    seen[thread].fetch_add(1, Ordering::Relaxed);
                });
                for (i, seen) in seen.iter().enumerate() {
                    assert_eq!(seen.load(Ordering::Relaxed), usize::from(i < threads), "thread {i} of {threads}");
                }
            }
        }
    }

    /// What is written before a barrier is read behind it, many times over.
    #[test]
    fn barriers_hold() {
        let mut team = Team::new(3);
        let cells: Vec<AtomicUsize> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        let wrong = AtomicUsize::new(0);
        team.run(3, &|thread, barrier| {
            for round in 1..if cfg!(miri) { 20 } else { 2000 } {
                cells[thread].store(round, Ordering::Relaxed);
                barrier.wait();
                let ahead = cells.iter().filter(|c| c.load(Ordering::Relaxed) != round).count();
                wrong.fetch_add(ahead, Ordering::Relaxed);
                barrier.wait();
            }
        });
        assert_eq!(wrong.into_inner(), 0);
    }

    /// Regions just as workers fall asleep: none is left asleep.
    #[test]
    fn falling_asleep_misses_nothing() {
        let mut team = Team::new(4);
        for i in 0..if cfg!(miri) { 16 } else { 2000 } {
            let start = Instant::now();
            while start.elapsed() < SPIN / 4 * (i % 8) {
                core::hint::spin_loop();
            }
            let count = AtomicUsize::new(0);
            team.run(2 + i as usize % 3, &|_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(count.into_inner(), 2 + i as usize % 3);
        }
    }

    /// Workers that have gone to sleep wake up again.
    #[test]
    fn sleepers_wake() {
        let mut team = Team::new(2);
        for _ in 0..if cfg!(miri) { 3 } else { 20 } {
            thread::sleep(SPIN * 3);
            let count = AtomicUsize::new(0);
            team.run(2, &|_, barrier| {
                count.fetch_add(1, Ordering::Relaxed);
                barrier.wait();
            });
            assert_eq!(count.into_inner(), 2);
        }
    }
}
