//! The exact search for a placement within a limit, in the manner of MiniMalloc (Moffitt, ASPLOS 2023).
//!
//! Every placement can be pushed down until each buffer stands on the ground or on another; it is then reached by placing
//! buffers in order of address, each upon the highest placed buffer of its time. The search goes through exactly these
//! *canonical* orders:
//!
//! ```text
//! place any buffer upon the skyline of its time, at an address not below the last one placed
//! give up where, at some time, max(skyline, last address) + the bytes still to be placed exceed the limit
//! skip a buffer beneath which another one would still fit: it would have come first
//! ```
//!
//! Before that two reductions that lose nothing: buffers that fit wherever the others stand are set aside until the end, which
//! in a network is most of them (all but those near the peak); and what remains is split where no life crosses.

use super::{ALIGN, Rect, first_fit};

/// What a search came to.
pub(super) enum Outcome {
    /// Offsets within the limit.
    Found(Vec<usize>),
    /// There are none.
    None,
    /// The work ran out.
    Limit,
}

/// Looks for offsets that end nowhere above `limit`. `work` is what is left of the (buffer, time) pairs to look at.
pub(super) fn fit(rects: &[Rect], limit: usize, work: &mut u64) -> Outcome {
    let (core, easy) = peel(rects, limit, work);
    let mut offsets = vec![None; rects.len()];
    for part in parts(rects, core) {
        let start = part.iter().map(|&i| rects[i].first).min().unwrap_or(0);
        let shifted = |r: Rect| Rect { first: r.first - start, last: r.last - start, ..r };
        let some: Vec<Rect> = part.iter().map(|&i| shifted(rects[i])).collect();
        match Search::new(&some, limit, work).run() {
            Outcome::Found(found) => part.into_iter().zip(found).for_each(|(i, offset)| offsets[i] = Some(offset)),
            other @ (Outcome::None | Outcome::Limit) => return other,
        }
    }
    first_fit(rects, &easy, &mut offsets);
    Outcome::Found(offsets.into_iter().flatten().collect())
}

/// Buffers that must be searched for, and those that will fit wherever all others stand, in the order to place them.
///
/// `k` buffers of its time leave a buffer of `b` bytes at most `k + 1` gaps. If none of them were large enough, they would be
/// `(k + 1) * (b - ALIGN)` bytes together at most; if more is free, it fits. A buffer set aside no longer stands in the way
/// of others, which may make them easy too.
fn peel(rects: &[Rect], limit: usize, work: &mut u64) -> (Vec<usize>, Vec<usize>) {
    let neighbours = |i: usize| (0..rects.len()).filter(move |&j| j != i && rects[j].meets(&rects[i]));
    let mut around: Vec<(usize, usize)> =
        (0..rects.len()).map(|i| neighbours(i).fold((0, 0), |(k, sum), j| (k + 1, sum + rects[j].bytes))).collect();
    let mut todo: Vec<usize> = (0..rects.len()).collect();
    let mut is_easy = vec![false; rects.len()];
    let mut easy = Vec::new();
    let mut looks = rects.len();
    while let Some(i) = todo.pop() {
        let (k, taken) = around[i];
        let wasted = (k + 1).saturating_mul(rects[i].bytes - ALIGN);
        if is_easy[i] || limit.checked_sub(taken).is_none_or(|free| free <= wasted) {
            continue;
        }
        is_easy[i] = true;
        easy.push(i);
        looks += 1;
        for j in neighbours(i).filter(|&j| !is_easy[j]) {
            around[j].0 -= 1;
            around[j].1 -= rects[i].bytes;
            todo.push(j);
        }
    }
    *work = work.saturating_sub((looks * rects.len()) as u64);
    easy.reverse();
    ((0..rects.len()).filter(|&i| !is_easy[i]).collect(), easy)
}

/// Splits `core` where no life crosses.
fn parts(rects: &[Rect], mut core: Vec<usize>) -> Vec<Vec<usize>> {
    core.sort_by_key(|&i| (rects[i].first, i));
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut end = None;
    for i in core {
        match parts.last_mut() {
            Some(part) if end >= Some(rects[i].first) => part.push(i),
            _ => parts.push(vec![i]),
        }
        end = end.max(Some(rects[i].last));
    }
    parts
}

/// One exact search for a placement no higher than `limit`.
struct Search<'r> {
    rects: &'r [Rect],
    limit: usize,
    /// Top of what is placed, at each time.
    skyline: Vec<usize>,
    /// Bytes not yet placed, at each time.
    rest: Vec<usize>,
    offsets: Vec<Option<usize>>,
    work: &'r mut u64,
}

/// A placement that can be taken back.
struct Choice {
    /// Buffers worth trying at this depth, best last, with their offsets.
    options: Vec<(usize, usize)>,
    /// The one placed now, and the skyline beneath it.
    placed: Option<(usize, Vec<usize>)>,
}

impl<'r> Search<'r> {
    fn new(rects: &'r [Rect], limit: usize, work: &'r mut u64) -> Self {
        let times = rects.iter().map(|r| r.last + 1).max().unwrap_or(0);
        let mut rest = vec![0; times];
        for r in rects {
            rest[r.first..=r.last].iter_mut().for_each(|b| *b += r.bytes);
        }
        Self { rects, limit, skyline: vec![0; times], rest, offsets: vec![None; rects.len()], work }
    }

    fn run(mut self) -> Outcome {
        let mut stack = vec![Choice { options: self.options((0, 0)), placed: None }];
        while let Some(mut choice) = stack.pop() {
            if let Some((i, beneath)) = choice.placed.take() {
                self.take_back(i, &beneath);
            }
            if *self.work == 0 {
                return Outcome::Limit;
            }
            let Some((offset, i)) = choice.options.pop() else { continue };
            choice.placed = Some((i, self.put(i, offset)));
            stack.push(choice);
            if stack.len() == self.rects.len() {
                return Outcome::Found(self.offsets.into_iter().flatten().collect());
            }
            if self.is_possible(offset) {
                stack.push(Choice { options: self.options((offset, i)), placed: None });
            }
        }
        Outcome::None
    }

    fn spend(&mut self, looks: usize) {
        *self.work = self.work.saturating_sub(looks as u64);
    }

    fn put(&mut self, i: usize, offset: usize) -> Vec<usize> {
        let r = self.rects[i];
        let span = r.first..=r.last;
        let beneath = self.skyline[span.clone()].to_vec();
        self.skyline[span.clone()].fill(offset + r.bytes);
        self.rest[span].iter_mut().for_each(|b| *b -= r.bytes);
        self.offsets[i] = Some(offset);
        self.spend(beneath.len());
        beneath
    }

    fn take_back(&mut self, i: usize, beneath: &[usize]) {
        let r = self.rects[i];
        self.skyline[r.first..=r.last].copy_from_slice(beneath);
        self.rest[r.first..=r.last].iter_mut().for_each(|b| *b += r.bytes);
        self.offsets[i] = None;
    }

    /// Whether everything still to be placed could fit, all of it at `last` or above.
    fn is_possible(&mut self, last: usize) -> bool {
        self.spend(self.rest.len());
        self.skyline.iter().zip(&self.rest).all(|(&top, &rest)| rest == 0 || top.max(last) + rest <= self.limit)
    }

    /// The buffers that may follow the placement `(offset, buffer)` in canonical order, the most promising last.
    fn options(&mut self, last: (usize, usize)) -> Vec<(usize, usize)> {
        let mut all = Vec::new();
        let (mut lowest_end, mut looks) = (usize::MAX, 0);
        for (i, r) in self.rects.iter().enumerate() {
            if self.offsets[i].is_none() {
                let offset = self.skyline[r.first..=r.last].iter().copied().max().unwrap_or(0);
                lowest_end = lowest_end.min(offset + r.bytes);
                all.push((offset, i));
                looks += r.last - r.first + 1;
            }
        }
        self.spend(looks);
        let start = self.offsets.iter().all(Option::is_none);
        all.retain(|&(offset, i)| {
            offset < lowest_end && offset + self.rects[i].bytes <= self.limit && (start || (offset, i) > last)
        });
        let area = |i: usize| self.rects[i].bytes.saturating_mul(self.rects[i].last - self.rects[i].first + 1);
        all.sort_by_key(|&(offset, i)| (std::cmp::Reverse(offset), area(i), std::cmp::Reverse(i)));
        all
    }
}
