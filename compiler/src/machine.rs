//! What one core of this machine can do, measured in a fraction of a second, and what bounds a job that is known by its arithmetic
//! and its traffic.
//!
//! # The rule
//! Every operand of a job is *moved* once: so many bytes, read or written, and so many bytes that the core touches between two uses
//! of the same byte (its *distance*). It comes from the nearest level that holds the distance, and passes all nearer ones. The
//! least time of a level is that of the bytes which come from there or from beyond, at the rate measured there: reads and writes
//! run side by side, so the longer of the two counts. The least time of the arithmetic is that at the peak of fused
//! multiply-adds. The longest of these times is the job's bound, and its resource the job's limit.
//!
//! It is a bound from below by intent: kernels read operands more than once, fill tiles, and wait. A job that takes less than
//! its bound found something nearer than the rule supposes.

use std::path::Path;

use mnc_runtime::isa::{Bandwidth, Isa, bandwidth, peak_fma};

/// What bounds a job: the order is that of distance from the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Fused multiply-adds.
    Compute,
    /// First level of cache.
    L1,
    /// Second level.
    L2,
    /// Third level.
    L3,
    /// Memory.
    Dram,
}

impl Resource {
    /// From the core outwards.
    pub const ALL: [Self; 5] = [Self::Compute, Self::L1, Self::L2, Self::L3, Self::Dram];

    /// For tables: `L2`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::Dram => "DRAM",
        }
    }

    /// For JSON: `l2`.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Compute => "compute",
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::L3 => "l3",
            Self::Dram => "dram",
        }
    }
}

/// A level of cache, or memory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Which.
    pub resource: Resource,
    /// Its size in bytes; [`usize::MAX`] for memory.
    pub bytes: usize,
    /// Its rates in GB/s.
    pub rates: Bandwidth,
}

/// One core with what it reaches.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Whose vectors were measured.
    pub isa: Isa,
    /// GFLOP/s of fused multiply-adds, two operations each.
    pub peak: f64,
    /// From the core outwards; the last one is memory.
    pub levels: Vec<Level>,
}

/// Bytes that a job moves once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// How many.
    pub bytes: usize,
    /// Bytes touched between two uses of the same byte, itself included.
    pub distance: usize,
    /// Written, not read.
    pub write: bool,
}

/// The least times of a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bound {
    /// Milliseconds by each resource, in the order of [`Resource::ALL`].
    pub ms: [f64; Resource::ALL.len()],
}

impl Bound {
    /// The resource whose least time is the longest; the nearest of several.
    #[must_use]
    pub fn limit(&self) -> Resource {
        let mut limit = (Resource::Compute, self.ms[0]);
        for (resource, ms) in Resource::ALL.into_iter().zip(self.ms) {
            if ms > limit.1 {
                limit = (resource, ms);
            }
        }
        limit.0
    }

    /// Of a job that `cores` such cores share evenly, each with caches and a way to memory of its own.
    #[must_use]
    pub fn shared(self, cores: usize) -> Self {
        Self { ms: self.ms.map(|ms| ms / cores.max(1) as f64) }
    }

    /// The longest of the least times, in milliseconds.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.ms.into_iter().fold(0.0, f64::max)
    }
}

/// Sizes where neither the system nor a probe tells: those of many cores of the last years.
const USUAL: [usize; 2] = [32 << 10, 512 << 10];
/// Working sets that a probe goes through, in bytes.
const PROBED: std::ops::RangeInclusive<u32> = 13..=26;
/// The part of a level's rate below which a working set no longer fits into it.
const DROP: f64 = 0.7;
/// The largest working set, in bytes.
const LARGEST: usize = 128 << 20;

impl Machine {
    /// Measures with the vectors of `isa` on the core that runs this: some tenths of a second.
    #[must_use]
    pub fn measure(isa: Isa) -> Self {
        let mut sizes = listed(Path::new("/sys/devices/system/cpu/cpu0/cache"));
        if sizes.is_empty() {
            sizes = probed(isa);
        }
        let last = sizes.last().copied().unwrap_or(0);
        let largest = last.saturating_mul(4).clamp(LARGEST / 4, LARGEST);
        let mut floats = vec![0.0f32; largest / 4];
        let mut levels = Vec::new();
        let mut inner = 0usize;
        for (&bytes, resource) in sizes.iter().zip([Resource::L1, Resource::L2, Resource::L3]) {
            // Well within the level and well beyond the one before; a share of the last one is what a guest gets of it.
            let set = (bytes / 2).min(inner.saturating_mul(8).max(bytes / 8)).min(largest);
            levels.push(Level { resource, bytes, rates: bandwidth(isa, &mut floats[..set / 4]) });
            inner = bytes;
        }
        levels.push(Level { resource: Resource::Dram, bytes: usize::MAX, rates: bandwidth(isa, &mut floats) });
        Self { isa, peak: peak_fma(isa), levels }
    }

    /// The nearest level that holds `distance` bytes.
    #[must_use]
    pub fn level(&self, distance: usize) -> Resource {
        self.levels.iter().find(|l| distance <= l.bytes).map_or(Resource::Dram, |l| l.resource)
    }

    /// The least times of a job of `flops` operations that makes `moves`; the rule stands at the top of this module.
    #[must_use]
    pub fn bound(&self, flops: f64, moves: &[Move]) -> Bound {
        let mut ms = [0.0; Resource::ALL.len()];
        ms[Resource::Compute as usize] = flops / (self.peak * 1e6);
        for level in &self.levels {
            let bytes = |write| -> f64 {
                let through = moves.iter().filter(|m| m.write == write && self.level(m.distance) >= level.resource);
                through.map(|m| m.bytes as f64).sum()
            };
            let (read, write) = (bytes(false) / level.rates.read, bytes(true) / level.rates.write);
            ms[level.resource as usize] = read.max(write) / 1e6;
        }
        Bound { ms }
    }
}

/// Sizes of the data caches that Linux lists below `folder`, the nearest first; empty where it does not.
fn listed(folder: &Path) -> Vec<usize> {
    let mut levels: Vec<(usize, usize)> = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(entry.path().join(file)).ok();
        let holds_data = read("type").is_some_and(|t| matches!(t.trim(), "Data" | "Unified"));
        let level = read("level").and_then(|l| l.trim().parse().ok());
        if let (true, Some(level), Some(size)) = (holds_data, level, read("size").and_then(|s| size(&s))) {
            levels.push((level, size));
        }
    }
    levels.sort_unstable();
    let mut sizes: Vec<usize> = levels.into_iter().map(|l| l.1).collect();
    sizes.truncate(3);
    // A guest may be told anything.
    if sizes.is_sorted() && sizes.iter().all(|&s| s >= 4 << 10) { sizes } else { Vec::new() }
}

/// The name that this CPU gives itself, else its architecture.
#[must_use]
pub fn cpu() -> String {
    let listed = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = listed.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    named.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// `48K` and `32M` in bytes.
fn size(text: &str) -> Option<usize> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

/// Sizes of caches by the rates of growing working sets.
fn probed(isa: Isa) -> Vec<usize> {
    let mut floats = vec![0.0f32; (1 << PROBED.end()) / 4];
    let rates: Vec<(usize, f64)> =
        PROBED.map(|n| 1usize << n).map(|bytes| (bytes, bandwidth(isa, &mut floats[..bytes / 4]).read)).collect();
    let mut sizes = drops(&rates);
    if sizes.is_empty() {
        sizes.extend(USUAL);
    }
    sizes
}

/// The largest working set of each plateau of `rates`, which are by growing working sets; that of the last one is memory's.
fn drops(rates: &[(usize, f64)]) -> Vec<usize> {
    let (mut sizes, mut plateau) = (Vec::new(), 0.0f64);
    for pair in rates.windows(2) {
        plateau = plateau.max(pair[0].1);
        // On the way down from one plateau to the next no size ends.
        if pair[1].1 < DROP * plateau {
            if sizes.last().is_none_or(|&s| pair[0].0 > 2 * s) {
                sizes.push(pair[0].0);
            }
            plateau = pair[1].1;
        }
    }
    sizes.truncate(3);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        let level = |resource, bytes, read, write| Level { resource, bytes, rates: Bandwidth { read, write } };
        let levels = vec![
            level(Resource::L1, 1_000, 100.0, 50.0),
            level(Resource::L2, 10_000, 50.0, 25.0),
            level(Resource::Dram, usize::MAX, 10.0, 5.0),
        ];
        Machine { isa: Isa::scalar(), peak: 100.0, levels }
    }

    fn read(bytes: usize, distance: usize) -> Move {
        Move { bytes, distance, write: false }
    }

    #[test]
    fn bytes_come_from_the_nearest_level_that_holds_their_distance() {
        let m = machine();
        assert_eq!(
            [0, 1_000, 1_001, 10_000, 10_001].map(|d| m.level(d)),
            [Resource::L1, Resource::L1, Resource::L2, Resource::L2, Resource::Dram]
        );
        // A machine without a third level has none to wait for.
        assert_eq!(m.bound(0.0, &[read(5_000, 20_000)]).ms[Resource::L3 as usize], 0.0);
    }

    #[test]
    fn the_longest_of_the_least_times_is_the_limit() {
        let m = machine();
        let ns = |b: Bound| b.ms.map(|ms| (ms * 1e6).round());
        // What comes from afar passes all levels.
        let far = m.bound(1_000.0, &[read(5_000, 20_000), read(500, 800)]);
        assert_eq!(ns(far), [10.0, 55.0, 100.0, 0.0, 500.0]);
        assert_eq!((far.limit(), (far.longest() * 1e6).round()), (Resource::Dram, 500.0));
        // Reads and writes side by side: the longer of the two.
        let written = [read(2_000, 5_000), Move { bytes: 2_000, distance: 5_000, write: true }];
        let both = m.bound(1_000.0, &written);
        assert_eq!(ns(both), [10.0, 40.0, 80.0, 0.0, 0.0]);
        assert_eq!(both.limit(), Resource::L2);
        assert_eq!(m.bound(1e6, &written).limit(), Resource::Compute);
        // Nothing to do is bound by nothing, which is called compute.
        assert_eq!((m.bound(0.0, &[]).limit(), m.bound(0.0, &[]).longest()), (Resource::Compute, 0.0));
    }

    #[test]
    fn sizes_are_read_and_probed() {
        assert_eq!(
            ["48K\n", "32768K", "2M", "12", "x", "1T"].map(size),
            [Some(48 << 10), Some(32 << 20), Some(2 << 20), Some(12), None, None]
        );
        assert!(listed(Path::new("no such folder")).is_empty());
        let rates = [
            (8, 100.0),
            (16, 101.0),
            (32, 99.0),
            (64, 60.0),
            (128, 50.0),
            (256, 51.0),
            (512, 48.0),
            (1024, 20.0),
            (2048, 9.0),
            (4096, 8.5),
        ];
        assert_eq!(drops(&rates), [32, 512]);
        assert_eq!(drops(&rates[..3]), [0; 0]);
    }

    /// Nearer levels are not slower, but for noise.
    #[test]
    fn this_machine_makes_sense() {
        let start = std::time::Instant::now();
        let m = Machine::measure(Isa::detect());
        assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
        assert!(m.peak > 0.1 && m.levels.len() >= 2, "{m:?}");
        assert_eq!(m.levels.last().map(|l| (l.resource, l.bytes)), Some((Resource::Dram, usize::MAX)));
        for pair in m.levels.windows(2) {
            assert!(pair[0].resource < pair[1].resource && pair[0].bytes < pair[1].bytes, "{m:?}");
            assert!(pair[0].rates.read > 0.7 * pair[1].rates.read, "{m:?}");
        }
    }
}
