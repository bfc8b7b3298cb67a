//! What stages are thought to cost, and how threads share them: a model of one machine, so that choices can be made and explained.
//!
//! A kernel's cycles are those of its multiply-adds, in tiles that have to be filled and emptied, plus the part of its memory traffic that
//! the arithmetic does not hide: 15 % of it under sums of products, what exceeds half of the arithmetic under windows. Traffic
//! runs at the rate of the level of cache that the tensor fits into, taken by the share of one thread. A layer of its own reads
//! and writes whole tensors; streamed, it reads and writes rings, which stay in the second level, but reads its weights again
//! for every strip, and with several threads the rows at the borders of bands are computed twice.
//!
//! The numbers are of a Zen 3 core. They need only be right enough to tell a gain from a loss: on other machines with a second level
//! of this order the same choices are good ones.

use super::rows::{self, Rows};
use super::select::{Class, Layer};
use super::{Estimate, Split};
use mnc_runtime::pack::PANEL;
use mnc_runtime::params::Method;

/// What the model knows of a core.
struct Machine {
    /// Twice the multiply-adds.
    flops_per_cycle: f64,
    /// Bytes of the first and the second level of cache.
    l1: usize,
    l2: usize,
    /// Bytes a cycle from each level, and from the one behind.
    l1_rate: f64,
    l2_rate: f64,
    l3_rate: f64,
    /// Cycles to call a kernel.
    call: f64,
    /// Cycles to fill and empty one tile.
    tile: f64,
}

const ZEN3: Machine = Machine {
    flops_per_cycle: 32.0,
    l1: 32 << 10,
    l2: 512 << 10,
    l1_rate: 64.0,
    l2_rate: 24.0,
    l3_rate: 10.0,
    call: 150.0,
    tile: 12.0,
};

/// Lanes of the machine's vectors.
const LANES: usize = 8;
/// Part of the traffic that multiply-adds cannot hide.
const EXPOSED: f64 = 0.15;
/// Cycles below which threads would wait for one another longer than they work.
const TINY: f64 = 2_000.0;
/// Pixels from which a row is long enough to be a band's; the pass `split_pool` knows it too.
const BAND_WIDTH: usize = 14;
/// Rows of at most so many pixels are not streamed for speed: measured, weights read again cost more than is saved.
const SHORT_ROW: usize = 16;
/// What a stage must take at most of its layers' cycles to be worth it.
const GAIN: f64 = 0.99;
/// Pixels of a strip from which products fill their tiles.
const LONG_STRIP: usize = 56;

impl Machine {
    /// Bytes a cycle of a working set.
    fn rate(&self, bytes: f64) -> f64 {
        if bytes <= self.l1 as f64 / 2.0 {
            self.l1_rate
        } else if bytes <= self.l2 as f64 / 2.0 {
            self.l2_rate
        } else {
            self.l3_rate
        }
    }

    /// Bytes a cycle of rings: the more of the second level they take, the more of them is driven out by what flows through.
    fn ring_rate(&self, working_set: f64) -> f64 {
        let missed = (2.0 * working_set / self.l2 as f64 - 0.5).clamp(0.0, 1.0);
        1.0 / ((1.0 - missed) / self.l2_rate + missed / self.l3_rate)
    }

    /// Cycles of the arithmetic of `layer` for `rows` output rows, computed by one call.
    fn arithmetic(&self, layer: &Layer, rows: usize) -> f64 {
        let (width, channels) = (layer.shape.w, layer.shape.c);
        let pixels = rows * width;
        let work = match layer.class {
            Class::Product { taps, groups, pooled, method } => {
                let panels = groups * (channels / groups).div_ceil(PANEL);
                let pixels = if pooled { layer.input.h * layer.input.w } else { pixels };
                // A pixel of four outputs takes 16 products where the sum has 9, and a fourth of that for the transforms; one of sixteen
                // outputs 36, and half of that.
                let (pixels, taps) = match method {
                    Method::Direct => (pixels, taps),
                    Method::Winograd2 => (rows.div_ceil(2) * width.div_ceil(2), taps * 20 / 9),
                    Method::Winograd4 => (rows.div_ceil(4) * width.div_ceil(4), taps * 54 / 9),
                    // Seven eighths, and the sums around them.
                    Method::Strassen => (pixels, taps * 9 / 10),
                };
                let tiles = pixels.div_ceil(6);
                // Fewer than four pixels do not fill the pipes.
                let filled = pixels.max(4 * tiles) as f64;
                let products = 2.0 * filled * (taps * panels * PANEL) as f64 / self.flops_per_cycle;
                // A panel of weights that leaves the first level is read from the second for every tile.
                let panel = 4 * taps * PANEL;
                let again = if panel > self.l1 { EXPOSED * (tiles * panels * panel) as f64 / self.l2_rate } else { 0.0 };
                products + again + self.tile * (tiles * panels) as f64
            }
            Class::Window { taps, aligned: _ } => {
                // Tiles of two rows, four columns and a vector of channels; a row alone takes half a tile.
                let tile = 2.0 * (taps * 8 * LANES) as f64 / self.flops_per_cycle;
                let line = (width.div_ceil(4) * channels.div_ceil(LANES)) as f64;
                line * ((rows / 2) as f64 * (tile + self.tile) + (rows % 2) as f64 * (tile / 2.0 + self.tile))
            }
            Class::Elementwise { .. } => (pixels * channels) as f64 / 4.0,
            Class::Mean => (layer.input.h * layer.input.w * channels) as f64 / 8.0,
            Class::Whole => (pixels * channels) as f64,
        };
        work + self.call
    }

    /// Cycles of `traffic` that `arithmetic` does not hide.
    fn exposed(class: Class, arithmetic: f64, traffic: f64) -> f64 {
        match class {
            Class::Product { .. } => (EXPOSED * traffic).max(traffic - arithmetic),
            Class::Window { .. } | Class::Elementwise { .. } | Class::Mean | Class::Whole => {
                (traffic - arithmetic / 2.0).max(0.0)
            }
        }
    }
}

/// Bytes of the weights of `layer`.
fn weights(layer: &Layer) -> f64 {
    match layer.class {
        Class::Product { taps, method: Method::Direct, .. } => 4.0 * (taps * layer.shape.c) as f64,
        Class::Product { taps, method: Method::Strassen, .. } => 7.0 * (taps * layer.shape.c) as f64,
        Class::Product { taps, method: Method::Winograd2, .. } => 4.0 * (taps * 16 / 9 * layer.shape.c) as f64,
        Class::Product { taps, method: Method::Winograd4, .. } => 4.0 * (taps * 36 / 9 * layer.shape.c) as f64,
        Class::Window { taps, aligned: _ } => 4.0 * (taps * layer.shape.c) as f64,
        Class::Elementwise { .. } | Class::Mean | Class::Whole => 0.0,
    }
}

/// Bytes of the tensors that `layer` reads and writes, as (first operand, other operands of the output's shape, result).
fn tensors(layer: &Layer) -> (f64, f64, f64) {
    let bytes = |elements: usize| 4.0 * elements as f64;
    let (x, y) = (bytes(layer.input.elements()), bytes(layer.shape.elements()));
    let others = match layer.class {
        Class::Elementwise { tensors } => (tensors - 1) as f64 * y,
        // A residual.
        Class::Product { .. } => layer.overwritable.len() as f64 * y,
        Class::Window { .. } | Class::Mean | Class::Whole => 0.0,
    };
    (x, others, y)
}

/// How threads share a layer that is a stage of its own.
pub(super) fn split(layer: &Layer, threads: usize) -> Split {
    if threads == 1 || ZEN3.arithmetic(layer, layer.shape.h) < TINY {
        return Split::Alone;
    }
    let channels = if by_channels(layer, threads) { Split::Channels } else { Split::Alone };
    // Means of rows are as wide as those.
    let width = if layer.shape.w == 1 { layer.input.w } else { layer.shape.w };
    match (bands(layer, threads), channels) {
        (true, _) if width >= BAND_WIDTH => Split::Rows,
        (_, Split::Channels) => Split::Channels,
        (true, Split::Alone | Split::Rows) => Split::Rows,
        (false, Split::Alone | Split::Rows) => Split::Alone,
    }
}

/// All the ways in which threads could share a layer that is a stage of its own.
pub(super) fn splits(layer: &Layer, threads: usize) -> Vec<Split> {
    let rows = (threads > 1 && bands(layer, threads)).then_some(Split::Rows);
    let channels = (threads > 1 && by_channels(layer, threads)).then_some(Split::Channels);
    [Some(Split::Alone), rows, channels].into_iter().flatten().collect()
}

/// All the ways in which threads could share a stage of several layers that ends in `last`.
pub(super) fn splits_streamed(last: &Layer, threads: usize) -> Vec<Split> {
    match split_streamed(last, threads) {
        Split::Alone => vec![Split::Alone],
        split @ (Split::Rows | Split::Channels) => vec![Split::Alone, split],
    }
}

/// Whether there are channels enough for every thread, and each is computed apart.
fn by_channels(layer: &Layer, threads: usize) -> bool {
    let apart = match layer.class {
        // A panel must not be of two groups.
        // Channels are joined across panels.
        Class::Product { method: Method::Strassen, .. } => false,
        Class::Product { groups, .. } => groups == 1 || (layer.shape.c / groups).is_multiple_of(PANEL),
        Class::Elementwise { .. } | Class::Mean => true,
        Class::Window { taps: _, aligned } => aligned,
        Class::Whole => false,
    };
    apart && layer.shape.c.div_ceil(PANEL) >= 2 * threads
}

/// Whether there are rows enough for every thread.
fn bands(layer: &Layer, threads: usize) -> bool {
    layer.rows.is_some() && layer.shape.h >= 2 * threads
}

/// How threads share a stage of several layers that ends in `last`.
pub(super) fn split_streamed(last: &Layer, threads: usize) -> Split {
    if threads > 1 && bands(last, threads) { Split::Rows } else { Split::Alone }
}

/// The part of a layer that the slowest thread computes.
fn share(layer: &Layer, split: Split, threads: usize) -> f64 {
    let part = |units: usize| units.div_ceil(threads) as f64 / units.max(1) as f64;
    match split {
        Split::Alone => 1.0,
        Split::Rows => part(layer.shape.h),
        Split::Channels => part(layer.shape.c.div_ceil(PANEL)),
    }
}

/// Cycles of a layer that is a stage of its own.
pub(super) fn layered(layer: &Layer, split: Split, threads: usize) -> f64 {
    let share = share(layer, split, threads);
    let (x, others, y) = tensors(layer);
    // With bands of channels every thread of a sum of products reads the whole input.
    let x_share = match (split, layer.class) {
        (Split::Channels, Class::Product { .. }) => 1.0,
        (Split::Alone | Split::Rows | Split::Channels, _) => share,
    };
    let flow = |bytes: f64| bytes / ZEN3.rate(bytes);
    let arithmetic = share * ZEN3.arithmetic(layer, layer.shape.h);
    let weights = weights(layer) * if split == Split::Channels { share } else { 1.0 };
    let traffic = flow(x_share * x) + flow(share * others) + flow(share * y) + weights / ZEN3.l3_rate;
    arithmetic + Machine::exposed(layer.class, arithmetic, traffic)
}

/// A stage of several layers as it is weighed.
pub(super) struct Streamed<'a> {
    /// In order.
    pub(super) layers: &'a [&'a Layer],
    /// Their rows.
    pub(super) rows: &'a [Rows],
    /// Which of them adds the result of which other one.
    pub(super) added: &'a [Option<usize>],
    /// Bytes of the rings of one thread.
    pub(super) rings: usize,
    /// Output rows of the last one at a time.
    pub(super) strip: usize,
    /// How threads share it.
    pub(super) split: Split,
    /// How many there are.
    pub(super) threads: usize,
}

impl Streamed<'_> {
    /// Rows of the last layer that the slowest thread computes, and the strips they are cut into.
    fn band(&self) -> (usize, usize) {
        let height = self.rows.last().map_or(0, |r| r.output);
        let band = match self.split {
            Split::Rows => height.div_ceil(self.threads),
            Split::Alone | Split::Channels => height,
        };
        (band, band.div_ceil(self.strip))
    }

    /// Bytes that a thread keeps using: its rings and a panel of weights.
    fn working_set(&self) -> usize {
        let panel = |l: &&Layer| match l.class {
            Class::Product { taps, .. } => 4 * taps * PANEL,
            Class::Window { .. } | Class::Elementwise { .. } | Class::Mean | Class::Whole => 0,
        };
        self.rings + self.layers.iter().map(panel).max().unwrap_or(0)
    }

    /// Cycles of the slowest thread.
    pub(super) fn cycles(&self) -> f64 {
        let (band, strips) = self.band();
        let height = self.rows.last().map_or(0, |r| r.output);
        // The second band, where there is one: it has rows to compute again.
        let from = if band < height { (height - band).min(band) } else { 0 };
        let (begin, end) = (rows::begin(self.rows, from), rows::needed(self.rows, from + band));
        let ring_rate = ZEN3.ring_rate(self.working_set() as f64);
        let all_weights: f64 = self.layers.iter().map(|l| weights(l)).sum();
        let again = if all_weights + self.working_set() as f64 <= ZEN3.l2 as f64 { ZEN3.l2_rate } else { ZEN3.l3_rate };
        let mut cycles = 0.0;
        for (i, layer) in self.layers.iter().enumerate() {
            let made = end[i].saturating_sub(begin[i]);
            let a_strip = made.div_ceil(strips).max(1);
            let arithmetic = ZEN3.arithmetic(layer, a_strip) * made as f64 / a_strip as f64;
            let part = made as f64 / layer.shape.h as f64;
            let (x, others, y) = tensors(layer);
            let flow = |bytes: f64| part * bytes / ZEN3.rate(part * bytes);
            let inside = |bytes: f64| part * bytes / ring_rate;
            let read = if i == 0 { flow(x) } else { inside(x) };
            let write = if i + 1 == self.layers.len() { flow(y) } else { inside(y) };
            let w = weights(layer);
            let others = if self.added[i].is_some() { inside(others) } else { flow(others) };
            let traffic = read + others + write + w / ZEN3.l3_rate + (strips - 1) as f64 * w / again;
            cycles += arithmetic + Machine::exposed(layer.class, arithmetic, traffic);
        }
        cycles
    }

    /// Whether it is worth weighing for speed at `cycles` against those of its layers alone: a tensor between its steps would leave
    /// half of the second level, its own working set does not, its rows and strips are long enough for the kernels, and the
    /// gain is larger than the model's mistakes.
    pub(super) fn suits_speed(&self, cycles: f64, layered: f64) -> bool {
        let (band, strips) = self.band();
        let height = self.rows.last().map_or(1, |r| r.output).max(1);
        let half = ZEN3.l2 / 2;
        let (between, last) = match self.layers.split_last() {
            Some((last, between)) => (between, last),
            None => return false,
        };
        let leaves = between.iter().any(|l| l.bytes / height * band > half);
        let long = last.shape.w > SHORT_ROW
            && self.layers.iter().all(|l| {
                let a_strip = (l.shape.h * self.strip / height).max(1);
                match (l.class, l.rows) {
                    (Class::Product { .. }, _) => a_strip * l.shape.w >= LONG_STRIP,
                    (Class::Window { .. }, Some(rows)) => a_strip >= 2 || rows.stride > 1,
                    (Class::Window { .. } | Class::Elementwise { .. } | Class::Mean | Class::Whole, _) => true,
                }
            });
        cycles <= GAIN * layered && strips > 1 && leaves && long && self.working_set() <= half
    }
}

/// Both numbers as the plan shows them.
pub(super) fn estimate(cycles: f64, layered: f64) -> Estimate {
    Estimate { cycles: cycles.round() as u64, layered: layered.round() as u64 }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::select::layers;
    use super::*;
    use crate::ir::op::{self, Activation};
    use crate::ir::{Graph, Op, Padding, Shape};

    fn pointwise(side: usize, in_c: usize, out_c: usize) -> Layer {
        grouped(side, in_c, out_c, 1, false)
    }

    fn grouped(side: usize, in_c: usize, out_c: usize, groups: usize, by_groups: bool) -> Layer {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(side, side, in_c));
        let weight = g.consts.add(vec![0.0; in_c / groups * out_c]);
        let conv = op::Conv {
            in_c,
            out_c,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            groups,
            pad: Padding::default(),
            pad_value: None,
            weight,
            bias: None,
            act: Activation::Relu6,
            residual: false,
            pool: false,
        };
        let y = g.add("y", Op::Conv(conv), &[x]).unwrap();
        g.outputs.push(y);
        layers(&g, &Options { grouped: by_groups, ..Options::LAYERED }).unwrap().remove(0)
    }

    /// Cycles at the 3.22 GHz of the machine that was measured, from the rates that a prototype reached there.
    #[test]
    fn products_take_what_was_measured() {
        for (side, in_c, out_c, gflops) in
            [(56, 128, 128, 97.1), (28, 256, 256, 100.2), (14, 512, 512, 99.7), (7, 1024, 1024, 91.4)]
        {
            let layer = pointwise(side, in_c, out_c);
            let measured = 2.0 * (side * side * in_c * out_c) as f64 / gflops * 3.22;
            let model = layered(&layer, Split::Alone, 1);
            assert!((model / measured - 1.0).abs() < 0.08, "{side}: {model} against {measured}");
        }
    }

    /// A group multiplies its own channels alone, and pads its own panels.
    #[test]
    fn groups_take_their_part() {
        let cycles = |layer: &Layer| layered(layer, Split::Alone, 1);
        let [by_groups, dense] = [true, false].map(|by_groups| cycles(&grouped(28, 512, 512, 4, by_groups)));
        assert!((dense / by_groups / 4.0 - 1.0).abs() < 0.15, "{dense} against {by_groups}");
        assert!((cycles(&pointwise(28, 512, 512)) / dense - 1.0).abs() < 1e-9);
        let [padded, whole] = [120, 128].map(|n| ZEN3.arithmetic(&grouped(28, 512, 4 * n, 4, true), 28));
        assert!(padded == whole);
    }

    #[test]
    fn threads_share_rows_then_channels_then_nothing() {
        assert_eq!(split(&pointwise(14, 512, 512), 1), Split::Alone);
        assert_eq!(split(&pointwise(14, 512, 512), 2), Split::Rows);
        assert_eq!(split(&pointwise(14, 512, 512), 8), Split::Channels);
        assert_eq!(split(&pointwise(7, 512, 512), 2), Split::Channels);
        assert_eq!(split(&pointwise(7, 512, 24), 2), Split::Rows);
        assert_eq!(split(&pointwise(7, 512, 24), 4), Split::Alone);
        assert_eq!(split(&pointwise(1, 72, 24), 2), Split::Alone);
        assert_eq!(split(&pointwise(1, 1024, 1000), 2), Split::Channels);
        // Groups of whole panels may be cut, others not.
        assert_eq!(split(&grouped(7, 512, 512, 4, true), 2), Split::Channels);
        assert_eq!(split(&grouped(7, 512, 480, 4, true), 2), Split::Rows);
        assert_eq!(split(&grouped(7, 512, 480, 4, false), 2), Split::Channels);
        // Seven rows by two threads: the slower one computes four of them.
        let layer = pointwise(7, 512, 24);
        assert!(layered(&layer, Split::Rows, 2) > 4.0 / 7.0 * ZEN3.arithmetic(&layer, 7));
    }
}
