//! Stages to be: which layers become one, how many rows they hand on at a time, and how threads share them.
//!
//! Layer `b` may follow layer `a` in a stage where `b` alone reads the result of `a`, and both work row by row: convolutions, depthwise
//! and pointwise ones, pools and elementwise layers are such; a mean, a softmax or a dense layer is not. One layer more may read it, as the
//! residual that it adds, if it follows behind `b` and the stage has all three. Such links make *runs* of layers, and a run is cut
//! into stages. A squeeze-and-excite block has two runs, for the mean and the scaled product both
//! read the depthwise layer's result: it is written as a whole.
//!
//! The cuts are found exactly, by dynamic programming over each run:
//!
//! * for **speed** those with the fewest cycles by the model of [`super::cost`], of stages that suit it
//!   ([`Streamed::suits_speed`]) and of single layers;
//! * for **memory** first the least peak of live bytes with the caller's input, then, within it, the least peak of the arena,
//!   then, within both, the fewest cycles. Alive beside a stage is what the graph's own order leaves alive.
//! * **always**: as few stages as there can be.
//!
//! Candidates for the strip are 1, 2, 4 and what divides the height.
//!
//! No stage can wait for itself: nothing but the last result of a stage is read outside it, and what its layers read beside
//! the one before them is finished first.

use std::collections::BTreeMap;

use super::cost::{self, Streamed};
use super::rows::{self, Rows};
use super::select::{Layer, Source};
use super::{ALIGN, Decisions, Estimate, Options, Prefer, Split, Stream};

/// Most layers of a stage: beyond this the bands of threads would compute too many rows twice.
const LONGEST: usize = 12;
/// Pixels whose room stays empty behind a tensor or a thread's ring, for speed on several threads. A core that goes from pixel to pixel
/// asks ahead for up to so many beyond its part, and takes them from the core that writes there: a thread whose part of a depthwise
/// layer's output stood right behind the other thread's part of its input took 1.8 times as long for it.
const GAP_PIXELS: usize = 64;
/// The most bytes of such a gap, so that no sum of them overflows.
const MOST_GAP: usize = 1 << 20;
/// A strip has fewer rows.
const TALLEST: usize = 32;

/// A stage to be.
#[derive(Debug)]
pub(super) struct Unit {
    /// Indices of its layers; all but the last are read within the unit alone.
    pub(super) layers: Vec<usize>,
    /// For each layer the operand that comes from the one before it; for the first the one it calls its input.
    pub(super) streamed: Vec<usize>,
    /// Between the layers. What a layer adds of another one of the unit's comes from a ring too.
    pub(super) rings: Vec<Ring>,
    /// What it reads, as often as it does: the number of a unit, `None` for one of the caller's inputs.
    pub(super) reads: Vec<Option<usize>>,
    /// The caller's inputs that it reads.
    pub(super) inputs: Vec<usize>,
    /// The output of the net that its result is.
    pub(super) output: Option<usize>,
    /// The operand of its last layer that each of `reads` is, if it is one.
    pub(super) operands: Vec<Option<usize>>,
    /// Positions in `reads` of what the result may be written over, if nobody else reads it later.
    pub(super) overwritable: Vec<usize>,
    /// Size of the result, and of what stays empty behind it.
    pub(super) bytes: usize,
    /// Rows of the last layer computed at a time.
    pub(super) strip: usize,
    /// How threads share it.
    pub(super) split: Split,
    /// What it is thought to take.
    pub(super) estimate: Estimate,
}

/// A ring to be, in the pitch of the tensor that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ring {
    /// Rows.
    pub(super) rows: usize,
    /// Size of one thread's ring, a multiple of [`ALIGN`].
    pub(super) apart: usize,
    /// Size of all of them.
    pub(super) bytes: usize,
}

impl Unit {
    /// Bytes of all rings.
    pub(super) fn ring_bytes(&self) -> usize {
        self.rings.iter().map(|r| r.bytes).sum()
    }
}

/// One unit a layer, for one thread.
pub(super) fn layered(layers: &[Layer]) -> Vec<Unit> {
    let net = Net::new(layers, &[], &Options::LAYERED);
    net.units((0..layers.len()).map(|l| net.alone(l, Split::Alone)).collect())
}

/// The units of `layers` by `options`, in an order in which every one comes after those it reads. `input_bytes` are those of the
/// caller's inputs.
pub(super) fn choose(layers: &[Layer], input_bytes: &[usize], options: &Options) -> Vec<Unit> {
    let net = Net::new(layers, input_bytes, options);
    let chosen = match options.stream {
        Stream::Never => (0..layers.len()).map(|l| net.alone(l, cost::split(&layers[l], net.threads))).collect(),
        Stream::Auto | Stream::Always => net.cut(),
    };
    net.units(chosen)
}

/// The units of `layers` as `decisions` have them, or why that is not possible.
pub(super) fn decided(
    layers: &[Layer],
    input_bytes: &[usize],
    options: &Options,
    decisions: &Decisions,
) -> Result<Vec<Unit>, String> {
    let net = Net::new(layers, input_bytes, options);
    let runs = net.runs();
    let mut taken = vec![false; layers.len()];
    let mut chosen = Vec::new();
    for d in &decisions.stages {
        let at = |run: &Vec<(usize, usize)>| run.iter().position(|&(l, _)| layers[l].name == d.last);
        let Some((run, end)) = runs.iter().find_map(|run| Some((run, at(run)?))) else {
            return Err(format!("there is no layer `{}`", d.last));
        };
        let Some(begin) = (end + 1).checked_sub(d.layers).filter(|_| (1..=LONGEST).contains(&d.layers)) else {
            return Err(format!("{} layers that end in `{}` cannot be one stage", d.layers, d.last));
        };
        let part = &run[begin..=end];
        if net.added(part).is_none() {
            return Err(format!("{} layers that end in `{}` are without the one that adds what they make", d.layers, d.last));
        }
        let last = part[d.layers - 1].0;
        let possible = |splits: Vec<Split>| splits.contains(&d.split);
        let candidate = match part {
            [_] if possible(cost::splits(&layers[last], net.threads)) => Some(net.alone(last, d.split)),
            [_, _, ..] if d.strip < layers[last].shape.h && possible(cost::splits_streamed(&layers[last], net.threads)) => {
                net.streamed(part, d.strip, d.split)
            }
            [] | [_] | [_, _, ..] => None,
        };
        let Some(candidate) = candidate else {
            let split = d.split.word();
            return Err(format!("the stage of `{}` cannot have strips of {} rows with the split `{split}`", d.last, d.strip));
        };
        if candidate.layers.iter().any(|&l| std::mem::replace(&mut taken[l], true)) {
            return Err(format!("a layer of the stage of `{}` is in another stage too", d.last));
        }
        chosen.push(candidate);
    }
    chosen.extend((0..layers.len()).filter(|&l| !taken[l]).map(|l| net.alone(l, cost::split(&layers[l], net.threads))));
    Ok(net.units(chosen))
}

/// The runs of `layers`: chains of indices that may be cut into stages anywhere.
pub(super) fn runs(layers: &[Layer], options: &Options) -> Vec<Vec<usize>> {
    Net::new(layers, &[], options).runs().into_iter().map(|run| run.into_iter().map(|p| p.0).collect()).collect()
}

/// A possible stage: part of a run, and how.
#[derive(Debug, Clone)]
struct Candidate {
    layers: Vec<usize>,
    streamed: Vec<usize>,
    rings: Vec<Ring>,
    strip: usize,
    split: Split,
    /// Cycles as it is, and layer by layer.
    cycles: f64,
    layered: f64,
    suits_speed: bool,
    /// Bytes alive while it runs, in the arena and with the caller's input; 0 where nobody asks.
    arena: usize,
    with_input: usize,
}

/// Bytes of the result of `layer` in the arena: none where it is an output of the net.
fn arena_bytes(layer: &Layer) -> usize {
    if layer.output.is_some() { 0 } else { layer.bytes }
}

/// Whether what `layer` makes can go to the next one row by row: no output, which the caller reads.
fn may_stream(layer: &Layer) -> bool {
    layer.rows.is_some() && layer.output.is_none()
}

/// The candidates of a run: those from its layer `i` on for `j + 1` layers stand at `[i][j]`.
type Candidates = Vec<Vec<Vec<Candidate>>>;

/// Layers with what is asked of them often.
struct Net<'l> {
    layers: &'l [Layer],
    options: &'l Options,
    threads: usize,
    input_bytes: &'l [usize],
    /// The last layer to read each layer, itself if there is none.
    last_read: Vec<usize>,
    /// The last layer to read each of the caller's inputs that are read.
    input_read: BTreeMap<usize, usize>,
    /// Bytes of the results of the layers before each.
    written_before: Vec<usize>,
    /// Bytes of those that are read for the last time before each.
    dead_before: Vec<usize>,
    /// The layer that may follow each in a stage, and as which operand it takes it.
    next: Vec<Option<(usize, usize)>>,
    /// The other layer that reads each, as a residual, where that one must be in a stage with it and the next one.
    adder: Vec<Option<usize>>,
}

impl<'l> Net<'l> {
    fn new(layers: &'l [Layer], input_bytes: &'l [usize], options: &'l Options) -> Self {
        let n = layers.len();
        let mut last_read: Vec<usize> = (0..n).collect();
        let mut input_read = BTreeMap::new();
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); n];
        for (l, layer) in layers.iter().enumerate() {
            for r in &layer.reads {
                match *r {
                    Source::Input(i) => {
                        input_read.insert(i, l);
                    }
                    Source::Layer(r) => {
                        last_read[r] = l;
                        readers[r].push(l);
                    }
                }
            }
        }
        let mut next = vec![None; n];
        for (l, layer) in layers.iter().enumerate() {
            let link = layer.streamed().into_iter().find_map(|p| match layer.reads[p] {
                Source::Layer(r) if readers[r].len() == 1 && may_stream(&layers[r]) => Some((r, p)),
                Source::Layer(_) | Source::Input(_) => None,
            });
            if let Some((before, p)) = link {
                next[before] = Some((l, p));
            }
        }
        // From the last one on, for the way to the layer that adds leads through later links.
        let mut adder = vec![None; n];
        let mut follows = vec![false; n];
        next.iter().flatten().for_each(|&(l, _): &(usize, usize)| follows[l] = true);
        for r in (0..n).rev().filter(|&r| may_stream(&layers[r])) {
            let &[l, adds] = &readers[r][..] else { continue };
            let of_r = |l: usize, p: &usize| layers[l].reads[*p] == Source::Layer(r);
            let Some(p) = layers[l].streamed().into_iter().find(|p| of_r(l, p)) else { continue };
            let residual = matches!(layers[adds].class, super::select::Class::Product { .. })
                && layers[adds].overwritable.iter().any(|p| of_r(adds, p) && !layers[adds].streamed().contains(p));
            let mut way = std::iter::successors(Some(l), |&l| next[l].map(|next| next.0)).take(LONGEST);
            if residual && l != adds && !follows[l] && way.any(|l| l == adds) {
                (next[r], adder[r], follows[l]) = (Some((l, p)), Some(adds), true);
            }
        }
        let (mut written_before, mut dead_before) = (vec![0; n + 1], vec![0; n + 1]);
        for (l, layer) in layers.iter().enumerate() {
            written_before[l + 1] = written_before[l] + arena_bytes(layer);
            dead_before[last_read[l] + 1] += arena_bytes(layer);
        }
        (0..n).for_each(|l| dead_before[l + 1] += dead_before[l]);
        let threads = options.threads.max(1);
        Self { layers, options, threads, input_bytes, last_read, input_read, written_before, dead_before, next, adder }
    }

    /// A stage of one layer.
    fn alone(&self, l: usize, split: Split) -> Candidate {
        let layer = &self.layers[l];
        let cycles = cost::layered(layer, split, self.threads);
        let (layers, streamed, rings) = (vec![l], vec![0], Vec::new());
        let (strip, layered) = (layer.shape.h, cycles);
        let one =
            Candidate { layers, streamed, rings, strip, split, cycles, layered, suits_speed: true, arena: 0, with_input: 0 };
        self.with_peaks(one)
    }

    /// For each layer of `part` the position of the one among them whose result it adds; `None` where one between them is added by a layer
    /// outside.
    fn added(&self, part: &[(usize, usize)]) -> Option<Vec<Option<usize>>> {
        let mut added = vec![None; part.len()];
        for (i, &(l, _)) in part.iter().enumerate().take(part.len().saturating_sub(1)) {
            if let Some(adder) = self.adder[l] {
                added[part.iter().position(|p| p.0 == adder)?] = Some(i);
            }
        }
        Some(added)
    }

    /// The layers `part` of a run as one stage of strips of `strip` rows, if it can be one and its rings have a size.
    fn streamed(&self, part: &[(usize, usize)], strip: usize, split: Split) -> Option<Candidate> {
        let layers: Vec<&Layer> = part.iter().map(|&(l, _)| &self.layers[l]).collect();
        let rows: Vec<Rows> = layers.iter().map(|l| l.rows).collect::<Option<_>>()?;
        let added = self.added(part)?;
        let (mut rings, mut mine) = (Vec::new(), 0);
        for (layer, held) in layers.iter().zip(rows::rings(&rows, &added, strip, split == Split::Rows)) {
            let apart = held.checked_mul(layer.shape.w)?.checked_mul(layer.pitch)?.checked_mul(4)?;
            let size = apart.checked_next_multiple_of(ALIGN)?;
            let apart = size.checked_add(self.gap(layer))?;
            let bytes = apart.checked_mul(self.threads).filter(|&b| b < isize::MAX as usize / (4 * LONGEST))?;
            rings.push(Ring { rows: held, apart, bytes });
            mine += size;
        }
        let threads = self.threads;
        let weighed = Streamed { layers: &layers, rows: &rows, added: &added, rings: mine, strip, split, threads };
        let cycles = weighed.cycles();
        let layered = layers.iter().map(|l| cost::layered(l, cost::split(l, threads), threads)).sum();
        Some(self.with_peaks(Candidate {
            layers: part.iter().map(|p| p.0).collect(),
            streamed: part.iter().map(|p| p.1).collect(),
            cycles,
            layered,
            suits_speed: weighed.suits_speed(cycles, layered),
            rings,
            strip,
            split,
            arena: 0,
            with_input: 0,
        }))
    }

    /// The layer operands that the result of `c` may be written over, as positions among its last layer's: none that comes from a ring,
    /// no output, none that the same layer reads twice, and none that a layer before still has to read.
    fn overwritable(&self, c: &Candidate) -> Vec<usize> {
        let Some((&last, before)) = c.layers.split_last() else { return Vec::new() };
        let layer = &self.layers[last];
        let rows: Vec<Rows> = c.layers.iter().filter_map(|&l| self.layers[l].rows).collect();
        let one_band = c.split == Split::Alone;
        let free = |&p: &usize| {
            let source = layer.reads[p];
            // Elementwise kernels that take their input from a ring write elsewhere.
            let accumulates =
                before.is_empty() || p != c.streamed[before.len()] && matches!(layer.class, super::select::Class::Product { .. });
            let read_once = layer.reads.iter().filter(|&&r| r == source).count() == 1;
            let behind =
                before.iter().enumerate().all(|(i, &b)| {
                    self.layers[b].reads.iter().enumerate().all(|(q, &r)| {
                        r != source || one_band && rows::may_overwrite(&rows, c.strip, i, i > 0 || q != c.streamed[0])
                    })
                });
            let kept = matches!(source, Source::Layer(r) if self.layers[r].output.is_some() || c.layers.contains(&r));
            accumulates && read_once && behind && !kept
        };
        layer.overwritable.iter().copied().filter(free).collect()
    }

    /// Bytes that stay empty behind the result of a layer, or behind a thread's ring of it: a multiple of [`ALIGN`].
    fn gap(&self, layer: &Layer) -> usize {
        let wanted = self.threads > 1 && self.options.prefer == Prefer::Speed;
        // Of a tensor of fewer pixels as many.
        if wanted { layer.pitch.saturating_mul(4 * GAP_PIXELS).min(layer.bytes).min(MOST_GAP) } else { 0 }
    }

    /// Adds the bytes alive while `c` runs if the layers run in the graph's order.
    fn with_peaks(&self, mut c: Candidate) -> Candidate {
        if self.options.prefer == Prefer::Speed {
            return c;
        }
        let (Some(&first), Some(&last)) = (c.layers.first(), c.layers.last()) else { return c };
        // What is written before it ends and not read for the last time before it begins, but for what it keeps to itself.
        let inside: usize = c.layers.iter().filter(|&&l| l != last).map(|&l| arena_bytes(&self.layers[l])).sum();
        let before = (self.written_before[last] - self.dead_before[first]).saturating_sub(inside);
        let in_place = self.overwritable(&c).into_iter().any(|p| match self.layers[last].reads[p] {
            Source::Layer(r) => self.last_read[r] <= last,
            Source::Input(_) => false,
        });
        let result = if in_place { 0 } else { arena_bytes(&self.layers[last]) };
        c.arena = before + result + c.rings.iter().map(|r| r.bytes).sum::<usize>();
        let unread = self.input_read.iter().filter(|&(_, &read)| read >= first);
        c.with_input = c.arena + unread.filter_map(|(&i, _)| self.input_bytes.get(i)).sum::<usize>();
        c
    }

    /// Maximal chains of layers that may follow one another, with the operand that each takes from the one before.
    fn runs(&self) -> Vec<Vec<(usize, usize)>> {
        let mut follows = vec![false; self.layers.len()];
        self.next.iter().flatten().for_each(|&(l, _)| follows[l] = true);
        let heads = (0..self.layers.len()).filter(|&l| !follows[l]);
        heads.map(|head| std::iter::successors(Some((head, 0)), |&(l, _)| self.next[l]).collect()).collect()
    }

    /// Numbers of rows to try for a strip of a layer of `height` rows: fewer than all of them.
    fn strips(height: usize) -> impl Iterator<Item = usize> {
        let tried = move |&s: &usize| s <= 2 || s == 4 || height.is_multiple_of(s);
        (1..height.clamp(2, TALLEST)).filter(tried)
    }

    fn candidates(&self, run: &[(usize, usize)]) -> Candidates {
        let from = |i: usize| {
            let most = (run.len() - i).min(LONGEST);
            (1..=most)
                .map(|n| match (n, run[i + n - 1].0) {
                    (1, l) => vec![self.alone(l, cost::split(&self.layers[l], self.threads))],
                    (_, l) => {
                        let split = cost::split_streamed(&self.layers[l], self.threads);
                        let strips = Self::strips(self.layers[l].shape.h);
                        strips.filter_map(|s| self.streamed(&run[i..i + n], s, split)).collect()
                    }
                })
                .collect()
        };
        (0..run.len()).map(from).collect()
    }

    /// All runs cut into stages.
    fn cut(&self) -> Vec<Candidate> {
        let runs: Vec<Candidates> = self.runs().iter().map(|run| self.candidates(run)).collect();
        let least = |allowed: &dyn Fn(&Candidate) -> bool, bytes: fn(&Candidate) -> usize| {
            let worst = |run| best(run, allowed, |c| bytes(c) as f64, f64::max).0 as usize;
            runs.iter().map(worst).max().unwrap_or(0)
        };
        let (prefer, stream) = (self.options.prefer, self.options.stream);
        let (with_input, arena) = match (stream, prefer) {
            (Stream::Auto, Prefer::Memory) => {
                let with_input = least(&|_| true, |c| c.with_input);
                (with_input, least(&|c| c.with_input <= with_input, |c| c.arena))
            }
            (Stream::Auto | Stream::Always | Stream::Never, Prefer::Speed | Prefer::Memory) => (usize::MAX, usize::MAX),
        };
        let allowed = |c: &Candidate| match (stream, prefer) {
            (Stream::Never, _) => c.layers.len() == 1,
            (Stream::Always, _) => true,
            (Stream::Auto, Prefer::Speed) => c.layers.len() == 1 || c.suits_speed,
            (Stream::Auto, Prefer::Memory) => c.with_input <= with_input && c.arena <= arena,
        };
        // More than any net takes, so that the number of stages comes first.
        const A_STAGE: f64 = 1e15;
        let score = |c: &Candidate| match (stream, prefer) {
            (Stream::Auto | Stream::Never, _) => c.cycles,
            (Stream::Always, Prefer::Speed) => A_STAGE + c.cycles,
            (Stream::Always, Prefer::Memory) => A_STAGE + c.arena as f64,
        };
        runs.iter().flat_map(|run| best(run, &allowed, score, |a, b| a + b).1).collect()
    }

    /// Candidates that cover every layer, as units.
    fn units(&self, mut chosen: Vec<Candidate>) -> Vec<Unit> {
        chosen.sort_by_key(|c| c.layers.last().copied());
        let mut unit_of = vec![0; self.layers.len()];
        for (u, c) in chosen.iter().enumerate() {
            c.layers.iter().for_each(|&l| unit_of[l] = u);
        }
        chosen.into_iter().map(|c| self.unit(c, &unit_of)).collect()
    }

    fn unit(&self, c: Candidate, unit_of: &[usize]) -> Unit {
        let over = self.overwritable(&c);
        let (mut reads, mut inputs, mut operands, mut overwritable) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (i, &l) in c.layers.iter().enumerate() {
            let last = i + 1 == c.layers.len();
            for (p, r) in self.layers[l].reads.iter().enumerate() {
                if matches!(*r, Source::Layer(r) if c.layers.contains(&r)) {
                    continue;
                }
                if last && over.contains(&p) {
                    overwritable.push(reads.len());
                }
                operands.push(last.then_some(p));
                reads.push(match *r {
                    Source::Input(i) => {
                        inputs.push(i);
                        None
                    }
                    Source::Layer(r) => Some(unit_of[r]),
                });
            }
        }
        let result = c.layers.last().map(|&l| &self.layers[l]);
        let (bytes, output) = result.map_or((0, None), |l| (l.bytes + self.gap(l), l.output));
        let Candidate { layers, streamed, rings, strip, split, cycles, layered, .. } = c;
        let estimate = cost::estimate(cycles, layered);
        Unit { layers, streamed, rings, reads, inputs, output, operands, overwritable, bytes, strip, split, estimate }
    }
}

/// The cuts of a run into `allowed` candidates whose scores, joined by `join`, are least; with that score. A run that has none is
/// cut into single layers.
fn best(
    run: &Candidates,
    allowed: &dyn Fn(&Candidate) -> bool,
    score: impl Fn(&Candidate) -> f64,
    join: impl Fn(f64, f64) -> f64,
) -> (f64, Vec<Candidate>) {
    let n = run.len();
    let mut to: Vec<Option<(f64, &Candidate)>> = vec![None; n + 1];
    let reached = |to: &[Option<(f64, &Candidate)>], i: usize| if i == 0 { Some(0.0) } else { to[i].map(|t| t.0) };
    for (i, from) in run.iter().enumerate() {
        let Some(so_far) = reached(&to, i) else { continue };
        for (j, candidates) in from.iter().enumerate() {
            for c in candidates.iter().filter(|c| allowed(c)) {
                let total = join(so_far, score(c));
                if to[i + j + 1].is_none_or(|t| total < t.0) {
                    to[i + j + 1] = Some((total, c));
                }
            }
        }
    }
    let Some(total) = reached(&to, n) else {
        let singles = run.iter().filter_map(|from| from.first()?.first()).cloned().collect();
        return (f64::INFINITY, singles);
    };
    let (mut cuts, mut at) = (Vec::new(), n);
    while let Some((_, c)) = to[at].filter(|_| at > 0) {
        cuts.push(c.clone());
        at -= c.layers.len();
    }
    cuts.reverse();
    (total, cuts)
}

#[cfg(test)]
mod tests {
    use super::super::select;
    use super::*;
    use crate::ir::op::{self, Activation};
    use crate::ir::{Graph, Op, Shape};

    fn candidate(first: usize, layers: usize, cycles: f64) -> Candidate {
        let (rings, split) = (Vec::new(), Split::Alone);
        let layers: Vec<usize> = (first..first + layers).collect();
        let streamed = vec![0; layers.len()];
        let (strip, layered, suits_speed, arena, with_input) = (1, 0.0, true, 0, 0);
        Candidate { layers, streamed, rings, strip, split, cycles, layered, suits_speed, arena, with_input }
    }

    /// The least cost of the layers from `at` on, by trying every cut.
    fn brute(run: &Candidates, at: usize, join: fn(f64, f64) -> f64) -> f64 {
        if at == run.len() {
            return 0.0;
        }
        let cuts = run[at].iter().enumerate().flat_map(|(j, all)| all.iter().map(move |c| (j + 1, c.cycles)));
        cuts.map(|(n, cycles)| join(cycles, brute(run, at + n, join))).fold(f64::INFINITY, f64::min)
    }

    #[test]
    fn the_cuts_are_the_best_ones() {
        let mut state = 1u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f64
        };
        let join: [fn(f64, f64) -> f64; 2] = [|a, b| a + b, f64::max];
        for n in 1..9 {
            let run: Candidates = (0..n)
                .map(|i| (1..=(n - i).min(4)).map(|k| (0..2).map(|_| candidate(i, k, random())).collect()).collect())
                .collect();
            for join in join {
                let (total, cuts) = best(&run, &|_| true, |c| c.cycles, join);
                assert_eq!(total, brute(&run, 0, join));
                assert_eq!(cuts.iter().flat_map(|c| c.layers.clone()).collect::<Vec<_>>(), (0..n).collect::<Vec<_>>());
                assert_eq!(cuts.iter().map(|c| c.cycles).fold(0.0, join), total);
            }
            // What is not allowed is not taken; where nothing is, there are single layers.
            assert!(best(&run, &|c| c.layers.len() < 3, |c| c.cycles, join[0]).1.iter().all(|c| c.layers.len() < 3));
            assert_eq!(best(&run, &|_| false, |c| c.cycles, join[0]).1.len(), n);
        }
    }

    /// Two pools, a sum of the second and a third of the input, a pool: one chain, in which the third pool is read as a whole.
    #[test]
    fn a_sum_takes_one_addend_row_by_row() {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(16, 16, 4));
        let pool = |g: &mut Graph, name: &str, x| {
            let op = op::Pool {
                kind: op::PoolKind::Max,
                kernel: [1, 1],
                stride: [1, 1],
                pad: Default::default(),
                count_padding: false,
            };
            g.add(name, Op::Pool(op), &[x]).unwrap()
        };
        let a = pool(&mut g, "a", x);
        let b = pool(&mut g, "b", a);
        let c = pool(&mut g, "c", x);
        let sum = g.add("sum", Op::Add(Activation::None), &[b, c]).unwrap();
        let end = pool(&mut g, "end", sum);
        g.outputs.push(end);
        let layers = select::layers(&g, &crate::plan::Options::default()).unwrap();
        let options = Options { stream: Stream::Always, ..Options::default() };
        let units = choose(&layers, &[4096], &options);
        let names: Vec<Vec<&str>> = units.iter().map(|u| u.layers.iter().map(|&l| layers[l].name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["c"], vec!["a", "b", "sum", "end"]]);
        assert_eq!(units[1].reads, [None, Some(0)]);
        assert!(units[1].overwritable.is_empty() && units[1].rings.len() == 3);
        assert!(layered(&layers).iter().all(|u| u.layers.len() == 1));
    }
}
