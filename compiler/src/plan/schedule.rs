//! The order of stages with the least peak of live bytes: an exact search over sets of finished stages, with a limit.
//!
//! What is alive after a set of stages depends on the set, not on the order within it, so the sets (downsets of the graph) are
//! the nodes of a graph whose paths are the orders, and the best order is the path whose largest step is least: Dijkstra's
//! algorithm with `max` for `+`. Networks are near-chains, so there are few sets; two things make the search nearly linear
//! where the first order found is as good as any: every peak below a bound that no order can beat counts as that bound, and
//! among equals the set with the most of them done comes first. Beyond the limit: the better of a greedy order and the graph's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::rc::Rc;

use super::stages::Unit;

/// Sets looked at before giving up: some tens of milliseconds, and about a second in a macro that was built unoptimised.
const LIMIT: usize = 20_000;

/// An order of execution.
#[derive(Debug)]
pub(super) struct Order {
    /// Indices of units.
    pub(super) units: Vec<usize>,
    /// Whether no order has a lower peak.
    pub(super) is_best: bool,
}

/// The best order of `units` found.
pub(super) fn order(units: &[Unit]) -> Order {
    search(&Net::new(units), LIMIT)
}

fn search(net: &Net, limit: usize) -> Order {
    let n = net.units.len();
    let bound = (0..n).map(|l| net.least(l)).max().unwrap_or(0);
    let key = |s: &State, at: usize| Reverse((s.peak.max(bound), Reverse(s.count), at));
    let mut states = vec![net.start()];
    let mut known = HashMap::from([(Rc::clone(&states[0].done), 0)]);
    let mut heap = BinaryHeap::from([key(&states[0], 0)]);
    while let Some(Reverse((peak, _, at))) = heap.pop() {
        if states[at].count == n {
            return Order { units: path(&states, at), is_best: true };
        }
        if states.len() > limit {
            break;
        }
        if peak > states[at].peak.max(bound) {
            continue; // reached on a better way in the meantime
        }
        for &l in &states[at].ready.clone() {
            let next = net.run(&states[at], at, l);
            match known.get(&next.done) {
                None => {
                    heap.push(key(&next, states.len()));
                    known.insert(Rc::clone(&next.done), states.len());
                    states.push(next);
                }
                Some(&k) if next.peak.max(bound) < states[k].peak.max(bound) => {
                    heap.push(key(&next, k));
                    states[k] = next;
                }
                Some(_) => {}
            }
        }
    }
    let greedy = net.follow(|state| {
        let cost = |l: usize| (net.transient(state, l).max(state.peak), net.live_after(state, l), l);
        state.ready.iter().copied().min_by_key(|&l| cost(l))
    });
    let given = net.follow(|state| state.ready.iter().copied().min());
    let (units, peak) = if greedy.1 < given.1 { greedy } else { given };
    Order { units, is_best: peak <= bound }
}

/// The units from the start to state `at`.
fn path(states: &[State], mut at: usize) -> Vec<usize> {
    let mut units = Vec::with_capacity(states[at].count);
    while let Some((before, unit)) = states[at].from {
        units.push(unit);
        at = before;
    }
    units.reverse();
    units
}

/// A point of an order: which units are done.
struct State {
    /// One bit a unit.
    done: Rc<[u64]>,
    /// Units that could run next, ascending.
    ready: Vec<usize>,
    /// Bytes that are still to be read.
    live: usize,
    /// The most bytes alive at once so far.
    peak: usize,
    /// Units done.
    count: usize,
    /// The state before and the unit that led here.
    from: Option<(usize, usize)>,
}

fn has(set: &[u64], l: usize) -> bool {
    set[l / 64] >> (l % 64) & 1 == 1
}

/// What the search needs to know of the units.
struct Net<'u> {
    units: &'u [Unit],
    /// Bytes in the arena: none where the result is an output of the net.
    bytes: Vec<usize>,
    /// Units that read each unit, without repetition.
    users: Vec<Vec<usize>>,
    /// Units that each unit reads, without repetition.
    reads: Vec<Vec<usize>>,
}

impl<'u> Net<'u> {
    fn new(units: &'u [Unit]) -> Self {
        let n = units.len();
        let mut net = Self { units, bytes: Vec::with_capacity(n), users: vec![Vec::new(); n], reads: vec![Vec::new(); n] };
        for (l, unit) in units.iter().enumerate() {
            net.bytes.push(if unit.output.is_some() { 0 } else { unit.bytes });
            for &r in unit.reads.iter().flatten() {
                if !net.reads[l].contains(&r) {
                    net.reads[l].push(r);
                    net.users[r].push(l);
                }
            }
        }
        net
    }

    fn start(&self) -> State {
        let n = self.units.len();
        let ready = (0..n).filter(|&l| self.reads[l].is_empty()).collect();
        State { done: vec![0; n.div_ceil(64)].into(), ready, live: 0, peak: 0, count: 0, from: None }
    }

    /// Bytes alive while `l` runs, whatever the order.
    fn least(&self, l: usize) -> usize {
        let reads: usize = self.reads[l].iter().map(|&r| self.bytes[r]).sum();
        let unit = &self.units[l];
        let in_place = unit.overwritable.iter().any(|&p| unit.reads[p].is_some());
        reads + unit.ring_bytes() + if in_place { 0 } else { self.bytes[l] }
    }

    /// Whether `l` is the last to read `r` when it runs after `done`.
    fn dies(&self, done: &[u64], r: usize, l: usize) -> bool {
        self.users[r].iter().all(|&u| u == l || has(done, u))
    }

    /// Bytes alive while `l` runs after `state`.
    fn transient(&self, state: &State, l: usize) -> usize {
        let unit = &self.units[l];
        let in_place = unit.overwritable.iter().any(|&p| unit.reads[p].is_some_and(|r| self.dies(&state.done, r, l)));
        state.live + unit.ring_bytes() + if in_place { 0 } else { self.bytes[l] }
    }

    /// Bytes alive once `l` has run after `state`.
    fn live_after(&self, state: &State, l: usize) -> usize {
        let dead: usize = self.reads[l].iter().filter(|&&r| self.dies(&state.done, r, l)).map(|&r| self.bytes[r]).sum();
        state.live + self.bytes[l] - dead
    }

    fn run(&self, state: &State, at: usize, l: usize) -> State {
        let mut done = state.done.to_vec();
        done[l / 64] |= 1 << (l % 64);
        let mut ready: Vec<usize> = state.ready.iter().copied().filter(|&r| r != l).collect();
        ready.extend(self.users[l].iter().filter(|&&u| self.reads[u].iter().all(|&r| has(&done, r))));
        ready.sort_unstable();
        State {
            done: done.into(),
            ready,
            live: self.live_after(state, l),
            peak: state.peak.max(self.transient(state, l)),
            count: state.count + 1,
            from: Some((at, l)),
        }
    }

    /// The order that `choose` makes and its peak.
    fn follow(&self, choose: impl Fn(&State) -> Option<usize>) -> (Vec<usize>, usize) {
        let mut state = self.start();
        let mut units = Vec::with_capacity(self.units.len());
        while let Some(l) = choose(&state) {
            units.push(l);
            state = self.run(&state, 0, l);
        }
        (units, state.peak)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{select, stages};
    use super::*;
    use crate::ir::op::{self, Activation};
    use crate::ir::{Graph, NodeId, Op, Shape};

    fn pool(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
        let op =
            op::Pool { kind: op::PoolKind::Max, kernel: [1, 1], stride: [1, 1], pad: Default::default(), count_padding: false };
        g.add(name, Op::Pool(op), &[x]).unwrap()
    }

    fn dense(g: &mut Graph, name: &str, x: NodeId, out_c: usize) -> NodeId {
        let in_c = g.shape(x).c;
        let weight = g.consts.add(vec![0.5; in_c * out_c]);
        let op = op::Dense { in_c, out_c, weight, bias: None, act: Activation::None };
        g.add(name, Op::Dense(op), &[x]).unwrap()
    }

    /// Every order, by brute force.
    fn least_peak(net: &Net, state: &State) -> usize {
        let nexts = state.ready.iter().map(|&l| least_peak(net, &net.run(state, 0, l)));
        nexts.min().unwrap_or(state.peak)
    }

    /// Branches that widen and narrow again: each is best run to its narrow end before the next begins.
    fn branches(widths: &[(usize, usize)]) -> Graph {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(1, 1, 4));
        let mut ends = Vec::new();
        for (i, &(wide, narrow)) in widths.iter().enumerate() {
            let a = dense(&mut g, &format!("wide{i}"), x, wide);
            let b = dense(&mut g, &format!("narrow{i}"), a, narrow);
            ends.push(dense(&mut g, &format!("end{i}"), b, 16));
        }
        let mut sum = ends[0];
        for (i, &e) in ends.iter().enumerate().skip(1) {
            sum = g.add(format!("sum{i}"), Op::Add(Activation::None), &[sum, e]).unwrap();
        }
        g.outputs.push(sum);
        g
    }

    #[test]
    fn the_search_finds_the_least_peak_of_all_orders() {
        for widths in [&[(64, 32), (256, 16), (128, 64)][..], &[(512, 256), (64, 16)], &[(32, 32), (32, 16), (640, 16)]] {
            let g = branches(widths);
            let units = stages::layered(&select::layers(&g, &crate::plan::Options::default()).unwrap());
            let net = Net::new(&units);
            let order = search(&net, 100_000);
            let (_, peak) = net.follow(|s| order.units.get(s.count).copied());
            assert!(order.is_best);
            assert_eq!(peak, least_peak(&net, &net.start()), "{widths:?}");
        }
    }

    #[test]
    fn a_search_that_stops_still_gives_an_order_and_says_so() {
        let g = branches(&[(64, 32), (256, 16), (128, 64), (640, 32)]);
        let units = stages::layered(&select::layers(&g, &crate::plan::Options::default()).unwrap());
        let order = search(&Net::new(&units), 3);
        let mut sorted = order.units.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..units.len()).collect::<Vec<_>>());
        let at = |l| order.units.iter().position(|&x| x == l).unwrap();
        for (u, unit) in units.iter().enumerate() {
            assert!(unit.reads.iter().flatten().all(|&r| at(r) < at(u)));
        }
    }

    #[test]
    fn a_chain_keeps_the_order_of_the_graph() {
        let mut g = Graph::default();
        let mut x = g.add_input("x", Shape::hwc(4, 4, 4));
        for i in 0..200 {
            x = pool(&mut g, &format!("p{i}"), x);
        }
        g.outputs.push(x);
        let order = order(&stages::layered(&select::layers(&g, &crate::plan::Options::default()).unwrap()));
        assert!(order.is_best);
        assert_eq!(order.units, (0..200).collect::<Vec<_>>());
    }
}
