//! Chains of layers, as a program layer by layer and as one that is streamed.

use mnc_runtime::isa::Isa;
use mnc_runtime::params::{Activation, Conv, Depthwise, Method, Pointwise, Pool, PoolKind};
use mnc_runtime::program::{Added, Checked, Op, Place, Program, Split, Stage, Step, View};
use mnc_runtime::team::Team;

/// Small numbers, the same on every machine (splitmix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In -1..1.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Rows, columns, channels.
pub type Shape = [usize; 3];

/// A chain of layers with their weights; views and residuals are put in by [`Chain::layered`] and [`Chain::streamed`].
pub struct Chain {
    /// Of the input and of what each op writes.
    pub shapes: Vec<Shape>,
    /// Which shapes' tensor an op adds (its own output's shape) or scales by.
    pub second: Vec<Option<Second>>,
    pub ops: Vec<Op>,
    pub weights: Vec<f32>,
}

/// The second operand of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Second {
    /// The chain's input tensor.
    Start,
    /// What an older layer made: tensor number this of the chain's shapes.
    Older(usize),
    /// One pixel of factors: the first of the input tensor.
    Factors,
}

/// A program with its tables, and what it needs to run.
pub struct Tables {
    pub stages: Vec<Stage>,
    pub steps: Vec<Step>,
    pub orders: Vec<usize>,
    pub input: usize,
    pub output: usize,
    pub arena: usize,
    pub weights: usize,
    pub threads: usize,
}

impl Tables {
    pub fn program(&self) -> Program<'_> {
        let Self { stages, steps, orders, input, output, arena, weights, threads } = self;
        let [input, output, arena, weights, threads] = [*input, *output, *arena, *weights, *threads];
        Program { stages, steps, orders, input, output, arena, weights, threads }
    }

    /// The answer, from an arena of rubbish.
    pub fn run(&self, team: &mut Team, weights: &[f32], input: &[f32]) -> Vec<u32> {
        let checked = Checked::new(self.program()).unwrap_or_else(|e| panic!("{e}: {:#?}", self.steps));
        let (mut arena, mut output) = (vec![f32::NAN; self.arena], vec![f32::NAN; self.output]);
        checked.run_on(team, Isa::detect(), weights, &mut arena, input, &mut output).unwrap();
        output.iter().map(|v| v.to_bits()).collect()
    }
}

/// Rows of a window: kernel, stride, padding above, input rows.
pub fn rows(op: &Op, height: usize) -> [usize; 4] {
    match op {
        Op::Conv { params: p, .. } => [p.kernel_h, p.stride_h, p.pad_top, p.in_h],
        Op::Depthwise { params: p, .. } => [p.kernel_h, p.stride_h, p.pad_top, p.in_h],
        Op::Pool(p) => [p.kernel_h, p.stride_h, p.pad_top, p.in_h],
        _ => [1, 1, 0, height],
    }
}

impl Chain {
    /// One to `most` layers that can be streamed, behind one that writes the chain's start into the arena.
    pub fn random(random: &mut Random, most: usize) -> Self {
        let [h, w, c] = if cfg!(miri) { [3, 3, 5] } else { [18, 9, 20] }.map(|n| random.below(n));
        let start = [4 + h, 1 + w, 1 + c];
        let mut chain = Self { shapes: vec![start], second: Vec::new(), ops: Vec::new(), weights: Vec::new() };
        let first = chain.pointwise(random, start[2]);
        chain.push(first, start, None);
        for _ in 0..1 + random.below(most) {
            chain.layer(random);
        }
        chain
    }

    fn push(&mut self, op: Op, shape: Shape, second: Option<Second>) {
        self.ops.push(op);
        self.shapes.push(shape);
        self.second.push(second);
    }

    fn last(&self) -> Shape {
        self.shapes[self.shapes.len() - 1]
    }

    /// Random floats at the end of the blob.
    fn blob(&mut self, random: &mut Random, n: usize) -> usize {
        let at = self.weights.len();
        self.weights.extend(random.floats(n.next_multiple_of(16)));
        at
    }

    fn act(random: &mut Random) -> Activation {
        [Activation::None, Activation::Relu, Activation::Relu6, Activation::HSwish, Activation::Sigmoid][random.below(5)]
    }

    fn pointwise(&mut self, random: &mut Random, out_c: usize) -> Op {
        let [h, w, in_c] = self.last();
        let panels = out_c.next_multiple_of(16);
        Op::Pointwise {
            params: Pointwise { h, w, in_c, out_c, act: Self::act(random), pool: false, method: Method::Direct },
            weight: self.blob(random, in_c * panels),
            bias: self.blob(random, panels),
            added: Added::Nothing,
        }
    }

    fn layer(&mut self, random: &mut Random) {
        let shape @ [in_h, in_w, in_c] = self.last();
        let [kernel_h, kernel_w] = [1 + random.below(5), 1 + random.below(5)];
        let [stride_h, stride_w] = [1 + random.below(3), 1 + random.below(2)];
        let [pad_top, pad_left] = [random.below(kernel_h), random.below(kernel_w)];
        let below = random.below(kernel_h);
        let out = |n: usize, pad: usize, kernel: usize, stride: usize| (n + pad).checked_sub(kernel).map(|n| n / stride + 1);
        let window = (out(in_h, pad_top + below, kernel_h, stride_h), out(in_w, 2 * pad_left, kernel_w, stride_w));
        let (op, shape, second) = match (random.below(8), window) {
            (0 | 1, (Some(out_h), Some(out_w))) => {
                // Groups of whole panels: threads shall share them by channels too.
                let groups = [1, 2, 3, 4, 5][random.below(5)];
                let (groups, out_c) = match groups {
                    2.. if in_c.is_multiple_of(groups) => (groups, groups * 16),
                    _ => (1, 1 + random.below(20)),
                };
                let panels = groups * (out_c / groups).next_multiple_of(16);
                let pad_value = (random.below(2) == 0).then(|| self.blob(random, in_c));
                let weight = self.blob(random, panels * kernel_h * kernel_w * in_c / groups);
                let bias = self.blob(random, panels);
                let act = Self::act(random);
                #[rustfmt::skip]
                let params = Conv {
                    in_h, in_w, in_c, out_h, out_w, out_c, groups, kernel_h, kernel_w, stride_h, stride_w, dilation_h: 1, dilation_w: 1, pad_top, pad_left, act, method: mnc_runtime::params::Method::Direct };
                let shape = [out_h, out_w, out_c];
                let second = self.addend(random, shape);
                (Op::Conv { params, weight, bias, pad_value, added: Added::Nothing }, shape, second)
            }
            (2 | 3, (Some(out_h), Some(out_w))) => {
                let multiplier = if random.below(3) == 0 { 2 } else { 1 };
                let c = in_c * multiplier;
                let pad_value = (random.below(2) == 0).then(|| self.blob(random, in_c));
                let weight = self.blob(random, c.next_multiple_of(16) * kernel_h * kernel_w);
                let bias = self.blob(random, c.next_multiple_of(16));
                let act = Self::act(random);
                #[rustfmt::skip]
                let params = Depthwise {
                    in_h, in_w, in_c, multiplier, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, dilation_h: 1, dilation_w: 1, pad_top, pad_left, act,
                };
                (Op::Depthwise { params, weight, bias, pad_value }, [out_h, out_w, c], None)
            }
            (4, (Some(out_h), Some(out_w))) => {
                let kind = if random.below(2) == 0 { PoolKind::Max } else { PoolKind::Average };
                #[rustfmt::skip]
                let params = Pool {
                    kind, in_h, in_w, c: in_c, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, count_padding: false,
                };
                (Op::Pool(params), [out_h, out_w, in_c], None)
            }
            (5, _) => (Op::Act(Self::act(random)), shape, None),
            // A whole tensor or a pixel of the chain's start, where it fits.
            (6, _) if self.shapes[1] == shape => {
                let nowhere = View::whole(Place::Input(0), 0, 0, 0);
                (Op::Add { other: nowhere, act: Self::act(random) }, shape, Some(Second::Start))
            }
            (6 | 7, _) if self.shapes[1][2] == in_c => {
                let nowhere = View::whole(Place::Input(0), 0, 0, 0);
                (Op::Scale { scale: nowhere, act: Self::act(random) }, shape, Some(Second::Factors))
            }
            _ => {
                let out_c = [1 + random.below(if cfg!(miri) { 18 } else { 40 }), self.shapes[1][2], in_c][random.below(3)];
                let op = self.pointwise(random, out_c);
                let shape = [in_h, in_w, out_c];
                let second = self.addend(random, shape);
                (op, shape, second)
            }
        };
        self.push(op, shape, second);
    }

    /// An older tensor of this shape that a product may add; none in half of the cases.
    fn addend(&self, random: &mut Random, shape: Shape) -> Option<Second> {
        let fits: Vec<usize> = (1..self.shapes.len()).filter(|&i| self.shapes[i] == shape).collect();
        if fits.is_empty() || random.below(2) == 0 {
            return None;
        }
        match fits[random.below(fits.len())] {
            1 => Some(Second::Start),
            i => Some(Second::Older(i)),
        }
    }

    /// The op of layer `i` with its second operand, where the chain's tensors stand at `views`.
    fn op(&self, i: usize, views: &[View]) -> Op {
        let mut op = self.ops[i];
        let second = match self.second[i] {
            Some(Second::Older(k)) => views[k],
            Some(Second::Start | Second::Factors) | None => views[1],
        };
        let factors = View { rows: 1, width: 1, ..second };
        match (&mut op, self.second[i]) {
            (Op::Add { other, .. }, Some(_)) => *other = second,
            (Op::Scale { scale, .. }, Some(_)) => *scale = factors,
            (Op::Conv { added, .. } | Op::Pointwise { added, .. }, Some(_)) => *added = Added::From(second),
            _ => {}
        }
        op
    }

    /// A whole tensor at the arena's end, with a pitch of `gap` more than there are channels.
    fn tensor(&self, i: usize, gap: usize, arena: &mut usize) -> View {
        let [rows, width, channels] = self.shapes[i];
        let view = View { place: Place::Arena(*arena), rows, width, channels, pitch: channels + gap };
        *arena += view.span() + 5;
        view
    }

    fn end(&self, place: Place, i: usize) -> View {
        let [rows, width, channels] = self.shapes[i];
        View::whole(place, rows, width, channels)
    }

    fn tables(&self, stages: Vec<Stage>, steps: Vec<Step>, arena: usize, threads: usize) -> Tables {
        let elements = |s: &Shape| s.iter().product();
        let (input, output) = (elements(&self.shapes[0]), elements(&self.last()));
        Tables { stages, steps, orders: Vec::new(), input, output, arena, weights: self.weights.len(), threads }
    }

    /// Every layer a stage, every tensor whole and apart.
    pub fn layered(&self, threads: usize, split: Split) -> Tables {
        let n = self.ops.len();
        let mut arena = 0;
        let mut views = vec![self.end(Place::Input(0), 0)];
        views.extend((1..n).map(|i| self.tensor(i, 0, &mut arena)));
        views.push(self.end(Place::Output(0), n));
        let steps = (0..n).map(|i| Step { op: self.op(i, &views), x: views[i], y: views[i + 1] }).collect();
        let stages = (0..n).map(|i| Stage { steps: 1, strip: self.shapes[i + 1][0], split }).collect();
        self.tables(stages, steps, arena, threads)
    }

    /// All layers but the first in one stage of strips of `strip` rows; pixels `gap` floats further apart than they need be, rings
    /// of `more` rows than they need.
    pub fn streamed(&self, strip: usize, threads: usize, split: Split, gap: usize, more: usize) -> Tables {
        let n = self.ops.len();
        let mut arena = 0;
        let start = self.tensor(1, gap, &mut arena);
        let rings = self.rings(strip, threads > 1 && split == Split::Rows);
        let mut views = vec![self.end(Place::Input(0), 0), start];
        for (&[height, width, channels], &least) in self.shapes[..n].iter().zip(&rings).skip(2) {
            let rows = (least + more).min(height.max(least));
            let mut view = View { place: Place::Input(0), rows, width, channels, pitch: channels + gap };
            let apart = view.span() + 3;
            view.place = Place::Ring { first: arena, apart };
            arena += apart * threads;
            views.push(view);
        }
        views.push(self.end(Place::Output(0), n));
        let steps = (0..n).map(|i| Step { op: self.op(i, &views), x: views[i], y: views[i + 1] }).collect();
        let alone = Stage { steps: 1, strip: self.shapes[1][0], split: Split::Channels };
        self.tables(vec![alone, Stage { steps: n - 1, strip, split }], steps, arena, threads)
    }

    /// Rows that the ring of each tensor must hold, counted row by row: see the loop of `mnc_runtime::program`.
    pub fn rings(&self, strip: usize, any_start: bool) -> Vec<usize> {
        let n = self.ops.len();
        let height = self.last()[0];
        let mut rings = vec![1; n + 1];
        // Tensor `i` is written by layer `i - 1`; tensor 1 is whole.
        let window = |layer: usize, row: usize| {
            let [kernel, stride, pad, input] = rows(&self.ops[layer], self.shapes[layer][0]);
            let clip = |v: usize| v.saturating_sub(pad).min(input);
            clip(row * stride)..clip(row * stride + kernel)
        };
        for start in 0..if any_start { height } else { 1 } {
            let mut done = vec![start; n + 1];
            for layer in (2..n).rev() {
                done[layer] = window(layer, done[layer + 1]).start;
            }
            while done[n] < height {
                let mut needed = vec![done[n].saturating_add(strip).min(height); n + 1];
                for layer in (2..n).rev() {
                    let last = needed[layer + 1].checked_sub(1).map_or(0, |row| window(layer, row).end);
                    needed[layer] = last.max(done[layer]);
                }
                for layer in (2..n).rev() {
                    let adds = (layer..n).filter(|&l| self.second[l] == Some(Second::Older(layer))).map(|l| done[l + 1]).min();
                    let oldest = window(layer, done[layer + 1]).start.min(done[layer]).min(adds.unwrap_or(usize::MAX));
                    rings[layer] = rings[layer].max(needed[layer] - oldest);
                }
                done = needed;
            }
        }
        rings
    }
}
