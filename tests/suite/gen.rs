//! Random valid nets and inputs, for the tests of passes, plan and back ends.
//!
//! A net is built from a [`Recipe`], a list of blocks with small numbers in them; [`recipe`] is the proptest strategy, so a
//! failing case shrinks to few blocks. A block that does not fit where it lands (a window larger than its input) is left out.
//! Every op occurs; sizes are odd and even, channels rarely multiples of a vector; weights keep values near one. Nothing fused: what
//! a front end makes. Half of the nets have one input and one output, the others up to three, of which the outputs may be anything: what
//! others are made of, an input, one node twice.
//!
//! ```text
//! proptest! { fn f(recipe in gen::recipe()) { let case = recipe.build(); … case.graph … case.input … } }
//! for seed in 0..200 { let case = gen::seeded(seed); … }
//! ```

use mnc_compiler::ir::op::{
    Activation, Axis, BatchNorm, Binary, BinaryKind, Conv, ConvTranspose, Dense, Depthwise, Gather, Normalize, Op, Pad, Pool,
    PoolKind, Real, Tap,
};
use mnc_compiler::ir::random::Random;
use mnc_compiler::ir::{Graph, NodeId, Padding, Shape, eval};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A net and an input for it.
#[derive(Debug, Clone)]
pub struct Case {
    /// One to three inputs and outputs.
    pub graph: Graph,
    /// Elements of all inputs, one behind the other: `-2..2`, or whole pixel values `0..=255` where the net normalises.
    pub input: Vec<f32>,
}

/// What the reference answers: all outputs of `graph` one behind the other, of all inputs one behind the other.
pub fn answer(graph: &Graph, mut input: &[f32]) -> Vec<f32> {
    let mut inputs = Vec::new();
    for &id in &graph.inputs {
        let x;
        (x, input) = input.split_at(graph.shape(id).elements());
        inputs.push(x);
    }
    assert!(input.is_empty(), "an input of the graph's length");
    eval::eval(graph, &inputs).concat()
}

/// Padding of a window op.
#[derive(Debug, Clone, Copy)]
pub enum Around {
    /// None.
    Nothing,
    /// `kernel / 2` on every side.
    Torch,
    /// TensorFlow's, asymmetric on even sizes.
    Same,
    /// Top, left, bottom, right as given, less than the window.
    Sides([usize; 4]),
}

/// Kernel, stride, padding.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Rows and columns.
    pub stride: [usize; 2],
    /// Rows and columns; pools have none.
    pub dilation: [usize; 2],
    /// Around the input.
    pub around: Around,
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    /// The convolution has a bias.
    pub bias: bool,
    /// Batch norm.
    pub bn: bool,
    /// An activation node; [`Activation::None`] makes one too where `identity` says so.
    pub act: Activation,
    /// Keeps an activation node of no effect.
    pub identity: bool,
}

/// One block.
#[derive(Debug, Clone)]
pub enum Block {
    /// Convolution of any window; groups that do not divide the channels become one.
    Conv { window: Window, out: usize, groups: usize, tail: Tail },
    /// Depthwise convolution.
    Depthwise { window: Window, multiplier: usize, tail: Tail },
    /// Expand, depthwise, squeeze-and-excite, project, residual where shapes agree (`flip`: the residual is the first operand).
    InvertedResidual {
        expand: usize,
        window: Window,
        se: Option<Excite>,
        out: Option<usize>,
        tail: Tail,
        flip: bool,
        act: Activation,
    },
    /// Squeeze-and-excite alone.
    SqueezeExcite(Excite),
    /// Two convolutions of the same input, added.
    Branches { kernel: [usize; 2], out: usize, tails: [Tail; 2], act: Activation },
    /// Softmax of every pixel.
    Softmax,
    /// Max or average pooling.
    Pool { kind: PoolKind, window: Window, count_padding: bool },
    /// An activation alone.
    Act(Activation),
    /// Batch norm alone.
    BatchNorm,
    /// Padding alone, of zeros or of numbers.
    Pad { sides: [usize; 4], value: bool },
    /// Times a constant that is itself computed from constants.
    ConstScale(Activation),
    /// Plus a constant tensor.
    ConstAdd(Activation),
    /// The tensor plus itself.
    Double,
    /// A node that changes nothing.
    Identity(u8),
    /// A slope a channel below zero.
    PRelu,
    /// With what is left of the tensor when the axes that are set become one; a divisor is not small.
    Binary { kind: BinaryKind, axes: [bool; 3], flip: bool, act: Activation },
    /// With itself and, along channels, with a convolution of it.
    Concat { axis: Axis, out: usize },
    /// A run, a permutation, a doubling or anything, along each axis.
    Gather([Pick; 3]),
    /// As many elements in another shape.
    Reshape(u8),
    /// Rows, columns and channels in another order.
    Transpose([usize; 3]),
    /// Means over axes.
    Mean([bool; 3]),
    /// Linear resizing to so many times a fourth of the rows and columns, and one.
    Interpolate([usize; 2]),
    /// Transposed convolution; groups that do not divide the channels become one.
    ConvTranspose { window: Window, more: [usize; 2], out: usize, groups: usize, tail: Tail },
}

/// How elements of an axis are picked.
#[derive(Debug, Clone, Copy)]
pub enum Pick {
    /// All as they are.
    All,
    /// Neighbours.
    Run,
    /// Each twice.
    Twice,
    /// Every other, then the rest.
    Shuffled,
    /// Any, with holes.
    Any,
}

/// Squeeze-and-excite.
#[derive(Debug, Clone, Copy)]
pub struct Excite {
    /// Width of the middle.
    pub reduced: usize,
    /// Dense layers, or pointwise convolutions.
    pub dense: bool,
    /// The gate.
    pub gate: Activation,
    /// An activation after the scaling: the order that cannot be fused into a pointwise convolution.
    pub act_after: Activation,
}

/// How the net ends.
#[derive(Debug, Clone)]
pub enum Head {
    /// As the last block leaves it.
    Nothing,
    /// Global pooling.
    Pool,
    /// Pointwise + BN + activation, global pooling, dense layers, perhaps softmax.
    Classifier { width: Option<usize>, tail: Tail, hidden: Option<(usize, Tail)>, classes: usize, softmax: bool },
}

/// A net as a list of choices.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Rows, columns, channels of the input.
    pub input: [usize; 3],
    /// `Some(reversed)`: normalises raw pixels first, with the channels reversed or not.
    pub normalize: Option<bool>,
    /// In order.
    pub blocks: Vec<Block>,
    /// The end.
    pub head: Head,
    /// Of weights and input.
    pub seed: u64,
    /// More inputs, each joined in before the block of this number (as an addend, or as one factor a channel).
    pub joined: Vec<(usize, Join)>,
    /// More outputs: nodes by number, counted round.
    pub tapped: Vec<usize>,
}

/// How a further input comes in.
#[derive(Debug, Clone, Copy)]
pub enum Join {
    /// Added, an activation behind it.
    Add(Activation),
    /// Multiplied.
    Scale,
    /// It is not read at all.
    Unread,
}

/// Any activation.
pub fn activation() -> impl Strategy<Value = Activation> {
    use Activation::{Clip, HSigmoid, HSwish, HardSigmoid, LeakyRelu, None, Relu, Relu6, Sigmoid, Silu, Tanh};
    let real = Real::new;
    let bound = || prop_oneof![4 => -1.0f32..3.0, 1 => Just(f32::NEG_INFINITY), 1 => Just(f32::INFINITY)];
    prop_oneof![
        2 => Just(None),
        2 => Just(Relu),
        2 => Just(Relu6),
        2 => Just(HSwish),
        1 => Just(HSigmoid),
        1 => Just(Sigmoid),
        1 => Just(Tanh),
        1 => Just(Silu),
        1 => (-0.5f32..1.0).prop_map(move |slope| LeakyRelu(real(slope))),
        1 => (bound(), bound()).prop_map(move |(a, b)| match (a.min(b), a.max(b)) {
            // An infinite constant is no net's.
            (least, most) if least == most => Clip(real(-1.0), real(1.0)),
            (least, most) => Clip(real(least), real(most)),
        }),
        1 => (0.05f32..0.5, 0.0f32..1.0).prop_map(move |(alpha, beta)| HardSigmoid(real(alpha), real(beta))),
    ]
}

fn around() -> impl Strategy<Value = Around> {
    prop_oneof![
        Just(Around::Nothing),
        Just(Around::Torch),
        Just(Around::Same),
        prop::array::uniform4(0usize..3).prop_map(Around::Sides),
    ]
}

fn window() -> impl Strategy<Value = Window> {
    let kernel = prop_oneof![
        6 => Just([3usize, 3]),
        2 => Just([5, 5]),
        2 => Just([1, 1]),
        3 => (1usize..=5, 1usize..=5).prop_map(|(y, x)| [y, x]),
    ];
    let stride = prop_oneof![4 => Just([1usize, 1]), 3 => Just([2, 2]), 1 => (1usize..=3, 1usize..=3).prop_map(|(y, x)| [y, x])];
    let dilation =
        prop_oneof![5 => Just([1usize, 1]), 1 => Just([2, 2]), 1 => (1usize..=3, 1usize..=3).prop_map(|(y, x)| [y, x])];
    (kernel, stride, dilation, around()).prop_map(|(kernel, stride, dilation, around)| Window {
        kernel,
        stride,
        dilation,
        around,
    })
}

fn tail() -> impl Strategy<Value = Tail> {
    (any::<bool>(), any::<bool>(), activation(), any::<bool>()).prop_map(|(bias, bn, act, identity)| Tail {
        bias,
        bn,
        act,
        identity,
    })
}

fn excite() -> impl Strategy<Value = Excite> {
    let gate = prop_oneof![Just(Activation::HSigmoid), Just(Activation::Sigmoid)];
    let after = prop_oneof![2 => Just(Activation::None), 1 => activation()];
    (1usize..9, any::<bool>(), gate, after).prop_map(|(reduced, dense, gate, act_after)| Excite {
        reduced,
        dense,
        gate,
        act_after,
    })
}

fn binary() -> impl Strategy<Value = BinaryKind> {
    prop_oneof![Just(BinaryKind::Add), Just(BinaryKind::Sub), Just(BinaryKind::Mul), Just(BinaryKind::Div)]
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![2 => Just(Pick::All), 1 => Just(Pick::Run), 1 => Just(Pick::Twice), 1 => Just(Pick::Shuffled), 1 => Just(Pick::Any)]
}

fn block() -> impl Strategy<Value = Block> {
    let sides = || prop::array::uniform4(0usize..3);
    prop_oneof![
        4 => (window(), 1usize..=40, prop_oneof![4 => Just(1usize), 1 => 2usize..=4], tail())
            .prop_map(|(window, out, groups, tail)| Block::Conv { window, out, groups, tail }),
        4 => (window(), 1usize..=3, tail()).prop_map(|(window, multiplier, tail)| Block::Depthwise { window, multiplier, tail }),
        4 => (1usize..=3, window(), prop::option::of(excite()), prop::option::of(1usize..=24), tail(), any::<bool>(), activation())
            .prop_map(|(expand, window, se, out, tail, flip, act)| {
                Block::InvertedResidual { expand, window, se, out, tail, flip, act }
            }),
        2 => excite().prop_map(Block::SqueezeExcite),
        2 => ((1usize..=3, 1usize..=3), 1usize..=24, tail(), tail(), activation())
            .prop_map(|((ky, kx), out, a, b, act)| Block::Branches { kernel: [ky, kx], out, tails: [a, b], act }),
        2 => (prop_oneof![Just(PoolKind::Max), Just(PoolKind::Average)], window(), any::<bool>())
            .prop_map(|(kind, window, count_padding)| Block::Pool { kind, window, count_padding }),
        1 => Just(Block::Softmax),
        1 => activation().prop_map(Block::Act),
        1 => Just(Block::BatchNorm),
        1 => (sides(), any::<bool>()).prop_map(|(sides, value)| Block::Pad { sides, value }),
        1 => activation().prop_map(Block::ConstScale),
        1 => activation().prop_map(Block::ConstAdd),
        1 => Just(Block::Double),
        1 => (0u8..8).prop_map(Block::Identity),
        1 => Just(Block::PRelu),
        2 => (binary(), any::<[bool; 3]>(), any::<bool>(), activation())
            .prop_map(|(kind, axes, flip, act)| Block::Binary { kind, axes, flip, act }),
        2 => (prop_oneof![1 => Just(Axis::H), 1 => Just(Axis::W), 2 => Just(Axis::C)], 1usize..=20)
            .prop_map(|(axis, out)| Block::Concat { axis, out }),
        2 => prop::array::uniform3(pick()).prop_map(Block::Gather),
        1 => (0u8..5).prop_map(Block::Reshape),
        1 => prop::sample::select(vec![[0usize, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]).prop_map(Block::Transpose),
        1 => any::<[bool; 3]>().prop_map(Block::Mean),
        1 => (0usize..9, 0usize..9).prop_map(|(h, w)| Block::Interpolate([h, w])),
        2 => (window(), (0usize..2, 0usize..2), 1usize..=24, prop_oneof![3 => Just(1usize), 1 => 2usize..=4], tail())
            .prop_map(|(window, (y, x), out, groups, tail)| Block::ConvTranspose { window, more: [y, x], out, groups, tail }),
    ]
}

fn head() -> impl Strategy<Value = Head> {
    let classifier = (prop::option::of(1usize..=40), tail(), prop::option::of((1usize..=20, tail())), 1usize..=20, any::<bool>())
        .prop_map(|(width, tail, hidden, classes, softmax)| Head::Classifier { width, tail, hidden, classes, softmax });
    prop_oneof![1 => Just(Head::Nothing), 1 => Just(Head::Pool), 3 => classifier]
}

/// Any net: input `1..=20` square or not, `1..=40` channels, up to six blocks.
pub fn recipe() -> impl Strategy<Value = Recipe> {
    let channels = prop_oneof![2 => Just(3usize), 1 => Just(1), 2 => 1usize..=40];
    let normalize = prop_oneof![2 => Just(None), 1 => Just(Some(false)), 1 => Just(Some(true))];
    let join = prop_oneof![4 => activation().prop_map(Join::Add), 3 => Just(Join::Scale), 1 => Just(Join::Unread)];
    let ends = (prop::collection::vec((0usize..6, join), 0..=2), prop::collection::vec(0usize..64, 0..=2));
    let ends = prop_oneof![1 => Just((Vec::new(), Vec::new())), 1 => ends];
    ((1usize..=20, 1usize..=20, channels), normalize, prop::collection::vec(block(), 0..=6), head(), any::<u64>(), ends).prop_map(
        |((h, w, c), normalize, blocks, head, seed, (joined, tapped))| Recipe {
            input: [h, w, c],
            normalize,
            blocks,
            head,
            seed,
            joined,
            tapped,
        },
    )
}

/// The net that [`recipe`] draws at `seed`; the same on every machine.
pub fn seeded(seed: u64) -> Case {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    recipe().new_tree(&mut runner).expect("the strategy rejects nothing").current().build()
}

/// `n` numbers in `low..high`.
pub fn uniform(random: &mut Random, n: usize, low: f32, high: f32) -> Vec<f32> {
    (0..n).map(|_| random.uniform(low, high)).collect()
}

impl Recipe {
    /// The net. The graph passes `verify`.
    pub fn build(&self) -> Case {
        let mut b = Builder::new(self.seed);
        let [h, w, c] = self.input;
        let shape = Shape::hwc(h, w, c);
        let mut x = b.graph.add_input("input", shape);
        if let Some(reversed) = self.normalize {
            x = b.normalize(x, reversed);
        }
        for (i, block) in self.blocks.iter().enumerate() {
            for (_, join) in self.joined.iter().filter(|j| j.0 == i) {
                x = b.join(x, *join);
            }
            x = b.block(x, block).unwrap_or(x);
        }
        for (_, join) in self.joined.iter().filter(|j| j.0 >= self.blocks.len()) {
            x = b.join(x, *join);
        }
        x = b.head(x, &self.head);
        b.graph.outputs.push(x);
        let nodes = b.graph.nodes();
        b.graph.outputs.extend(self.tapped.iter().map(|t| nodes[t % nodes.len()]));
        // The net's own result stands first, second or third.
        let turn = self.seed as usize % b.graph.outputs.len();
        b.graph.outputs.rotate_left(turn);
        let mut input: Vec<f32> = match self.normalize {
            Some(_) => (0..shape.elements()).map(|_| b.random.below(256) as f32).collect(),
            None => uniform(&mut b.random, shape.elements(), -2.0, 2.0),
        };
        for &id in &b.graph.inputs[1..] {
            input.extend(uniform(&mut b.random, b.graph.shape(id).elements(), -2.0, 2.0));
        }
        Case { graph: b.graph, input }
    }
}

/// Adds ops with random weights to a graph; each returns the node that holds the result, or `None` where it does not fit.
/// Tests that need one certain net use it directly.
pub struct Builder {
    /// What is built so far.
    pub graph: Graph,
    /// Of weights.
    pub random: Random,
    count: usize,
}

/// 1x1 at stride 1.
pub const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], around: Around::Nothing };

/// A bare convolution: no bias, nothing after it.
pub const BARE: Tail = Tail { bias: false, bn: false, act: Activation::None, identity: false };

impl Builder {
    /// An empty graph with weights of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { graph: Graph::default(), random: Random::new(seed), count: 0 }
    }

    /// Any op on any inputs.
    pub fn add(&mut self, op: Op, inputs: &[NodeId]) -> Option<NodeId> {
        self.count += 1;
        self.graph.add(format!("n{}.{}", self.count, op.name()), op, inputs).ok()
    }

    /// Shape of a node.
    pub fn shape(&self, x: NodeId) -> Shape {
        self.graph.shape(x)
    }

    /// Raw pixels to values near one.
    pub fn normalize(&mut self, x: NodeId, reversed: bool) -> NodeId {
        let c = self.shape(x).c;
        let order = if reversed { (0..c).rev().collect() } else { (0..c).collect() };
        let (mean, std) = (uniform(&mut self.random, c, 90.0, 140.0), uniform(&mut self.random, c, 50.0, 130.0));
        let shift = mean.iter().zip(&std).map(|(m, s)| -m / s).collect::<Vec<_>>();
        let scale = self.graph.consts.add(std.iter().map(|s| 1.0 / s).collect::<Vec<_>>());
        let shift = self.graph.consts.add(shift);
        self.add(Op::Normalize(Normalize { order, scale, shift }), &[x]).expect("the order is a permutation")
    }

    /// A padding node where there is padding.
    fn pad(&mut self, x: NodeId, window: Window) -> Option<NodeId> {
        let pad = self.padding(x, window);
        if pad.is_zero() { Some(x) } else { self.add(Op::Pad(Pad { pad, value: None }), &[x]) }
    }

    fn padding(&self, x: NodeId, window: Window) -> Padding {
        let (shape, span) = (self.shape(x), [0, 1].map(|i| (window.kernel[i] - 1) * window.dilation[i] + 1));
        let [kh, kw] = span;
        match window.around {
            Around::Nothing => Padding::ZERO,
            Around::Torch => Padding::torch(span),
            Around::Same => Padding::same(shape.h, shape.w, span, window.stride),
            Around::Sides([top, left, bottom, right]) => {
                Padding { top: top % kh, left: left % kw, bottom: bottom % kh, right: right % kw }
            }
        }
    }

    /// Padding node, convolution and tail.
    pub fn conv(&mut self, x: NodeId, window: Window, out_c: usize, tail: Tail) -> Option<NodeId> {
        self.grouped(x, window, out_c, 1, tail)
    }

    /// The same in groups.
    pub fn grouped(&mut self, x: NodeId, window: Window, out_c: usize, groups: usize, tail: Tail) -> Option<NodeId> {
        let x = self.pad(x, window)?;
        let in_c = self.shape(x).c;
        let taps = window.kernel[0] * window.kernel[1];
        let weight = self.random.he(taps * (in_c / groups) * out_c, taps * (in_c / groups));
        let weight = self.graph.consts.add(weight);
        let bias = self.bias(out_c, tail.bias);
        let y = self.add(
            Op::Conv(Conv {
                in_c,
                out_c,
                kernel: window.kernel,
                stride: window.stride,
                dilation: window.dilation,
                groups,
                pad: Padding::ZERO,
                pad_value: None,
                weight,
                bias,
                act: Activation::None,
                residual: false,
                pool: false,
            }),
            &[x],
        )?;
        Some(self.tail(y, tail))
    }

    /// Padding node, depthwise convolution and tail.
    pub fn depthwise(&mut self, x: NodeId, window: Window, multiplier: usize, tail: Tail) -> Option<NodeId> {
        let x = self.pad(x, window)?;
        let channels = self.shape(x).c;
        let taps = window.kernel[0] * window.kernel[1];
        let weight = self.random.he(taps * channels * multiplier, taps);
        let weight = self.graph.consts.add(weight);
        let bias = self.bias(channels * multiplier, tail.bias);
        let y = self.add(
            Op::Depthwise(Depthwise {
                channels,
                multiplier,
                kernel: window.kernel,
                stride: window.stride,
                dilation: window.dilation,
                pad: Padding::ZERO,
                pad_value: None,
                weight,
                bias,
                act: Activation::None,
            }),
            &[x],
        )?;
        Some(self.tail(y, tail))
    }

    /// Dense layer and tail.
    pub fn dense(&mut self, x: NodeId, out_c: usize, tail: Tail) -> Option<NodeId> {
        let in_c = self.shape(x).c;
        let weight = self.random.he(in_c * out_c, in_c);
        let weight = self.graph.consts.add(weight);
        let bias = self.bias(out_c, tail.bias);
        let y = self.add(Op::Dense(Dense { in_c, out_c, weight, bias, act: Activation::None }), &[x])?;
        Some(self.tail(y, tail))
    }

    fn bias(&mut self, n: usize, present: bool) -> Option<mnc_compiler::ir::ConstId> {
        present.then(|| {
            let bias = uniform(&mut self.random, n, -0.5, 0.5);
            self.graph.consts.add(bias)
        })
    }

    fn tail(&mut self, x: NodeId, tail: Tail) -> NodeId {
        let x = if tail.bn { self.batch_norm(x) } else { x };
        if tail.act == Activation::None && !tail.identity {
            return x;
        }
        self.add(Op::Act(tail.act), &[x]).expect("an activation takes every shape")
    }

    /// Batch norm as of a trained net.
    pub fn batch_norm(&mut self, x: NodeId) -> NodeId {
        let c = self.shape(x).c;
        let [gamma, beta, mean, variance] = [(0.5, 1.5), (-0.5, 0.5), (-0.5, 0.5), (0.3, 1.5)].map(|(low, high)| {
            let mut values = uniform(&mut self.random, c, low, high);
            // Negative scales occur in trained nets.
            if low == 0.5 && values.len() > 2 {
                values[1] = -values[1];
            }
            self.graph.consts.add(values)
        });
        self.add(Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps: 1e-3 }), &[x]).expect("batch norm takes every shape")
    }

    /// Squeeze-and-excite.
    pub fn excite(&mut self, x: NodeId, excite: Excite) -> Option<NodeId> {
        let c = self.shape(x).c;
        let tail = |act| Tail { bias: true, act, ..BARE };
        let s = self.add(Op::GlobalPool, &[x])?;
        let s = if excite.dense {
            let s = self.dense(s, excite.reduced, tail(Activation::Relu))?;
            self.dense(s, c, tail(excite.gate))?
        } else {
            let s = self.conv(s, POINT, excite.reduced, tail(Activation::Relu))?;
            self.conv(s, POINT, c, tail(excite.gate))?
        };
        let y = self.add(Op::Scale(Activation::None), &[x, s])?;
        if excite.act_after == Activation::None { Some(y) } else { self.add(Op::Act(excite.act_after), &[y]) }
    }

    /// A constant of random numbers.
    pub fn constant(&mut self, shape: Shape) -> NodeId {
        self.count += 1;
        let data = uniform(&mut self.random, shape.elements(), -1.5, 1.5);
        self.graph.add_constant(format!("n{}.constant", self.count), shape, data)
    }

    /// Another input of the net.
    fn join(&mut self, x: NodeId, join: Join) -> NodeId {
        let shape = self.shape(x);
        let name = format!("input{}", self.graph.inputs.len());
        match join {
            Join::Add(act) => {
                let y = self.graph.add_input(name, shape);
                self.add(Op::Add(act), &[x, y]).expect("one shape")
            }
            Join::Scale => {
                let y = self.graph.add_input(name, Shape::hwc(1, 1, shape.c));
                self.add(Op::Scale(Activation::None), &[x, y]).expect("a factor a channel")
            }
            Join::Unread => {
                self.graph.add_input(name, Shape::hwc(3, 2, 1));
                x
            }
        }
    }

    fn block(&mut self, x: NodeId, block: &Block) -> Option<NodeId> {
        match block {
            Block::Conv { window, out, groups, tail } => {
                let divides = self.shape(x).c.is_multiple_of(*groups) && out.is_multiple_of(*groups);
                self.grouped(x, *window, *out, if divides { *groups } else { 1 }, *tail)
            }
            Block::Depthwise { window, multiplier, tail } => {
                // Channels stay below 130: tests run unvectorised references.
                let multiplier = if self.shape(x).c > 40 { 1 } else { *multiplier };
                self.depthwise(x, *window, multiplier, *tail)
            }
            Block::InvertedResidual { expand, window, se, out, tail, flip, act } => {
                let c = self.shape(x).c;
                let wide = if c > 40 { c } else { c * expand };
                let mut y = if wide == c { x } else { self.conv(x, POINT, wide, *tail)? };
                y = self.depthwise(y, *window, 1, *tail)?;
                if let Some(se) = se {
                    y = self.excite(y, *se)?;
                }
                y = self.conv(y, POINT, out.unwrap_or(c), Tail { act: Activation::None, identity: false, ..*tail })?;
                if self.shape(y) != self.shape(x) {
                    return Some(y);
                }
                let y = self.add(Op::Add(Activation::None), &if *flip { [x, y] } else { [y, x] })?;
                if *act == Activation::None { Some(y) } else { self.add(Op::Act(*act), &[y]) }
            }
            Block::SqueezeExcite(excite) => self.excite(x, *excite),
            Block::Branches { kernel, out, tails, act } => {
                let window = Window { kernel: *kernel, stride: [1, 1], dilation: [1, 1], around: Around::Torch };
                let a = self.conv(x, window, *out, tails[0])?;
                let b = self.conv(x, window, *out, tails[1])?;
                self.add(Op::Add(*act), &[a, b])
            }
            Block::PRelu => {
                let c = self.shape(x).c;
                let slope = uniform(&mut self.random, c, -0.5, 1.0);
                let slope = self.graph.consts.add(slope);
                self.add(Op::PRelu(slope), &[x])
            }
            Block::Binary { kind, axes, flip, act } => self.binary(x, *kind, *axes, *flip, *act),
            Block::Concat { axis, out } => match axis {
                Axis::H | Axis::W if self.shape(x).elements() > 6000 => None,
                Axis::H | Axis::W => self.add(Op::Concat(*axis), &[x, x, x]),
                Axis::C if self.shape(x).c > 60 => None,
                Axis::C => {
                    let a = self.conv(x, POINT, *out, BARE)?;
                    let b = self.add(Op::Act(Activation::Relu), &[x])?;
                    self.add(Op::Concat(Axis::C), &[a, x, b])
                }
            },
            Block::Gather(_) | Block::Reshape(_) | Block::Transpose(_) | Block::Mean(_) | Block::Interpolate(_) => {
                self.rearrange(x, block)
            }
            Block::ConvTranspose { window, more, out, groups, tail } => {
                let shape = self.shape(x);
                if shape.h * shape.w > 120 {
                    return None;
                }
                let divides = shape.c.is_multiple_of(*groups) && out.is_multiple_of(*groups);
                self.conv_transpose(x, *window, *more, *out, if divides { *groups } else { 1 }, *tail)
            }
            Block::Softmax => self.add(Op::Softmax, &[x]),
            Block::Pool { kind, window, count_padding } => {
                let window = Window { dilation: [1, 1], ..*window };
                let pad = self.padding(x, window);
                self.add(
                    Op::Pool(Pool {
                        kind: *kind,
                        kernel: window.kernel,
                        stride: window.stride,
                        pad,
                        count_padding: *count_padding,
                    }),
                    &[x],
                )
            }
            Block::Act(act) => self.add(Op::Act(*act), &[x]),
            Block::BatchNorm => Some(self.batch_norm(x)),
            Block::Pad { sides: [top, left, bottom, right], value } => {
                let c = self.shape(x).c;
                let value = value.then(|| {
                    let value = uniform(&mut self.random, c, -1.0, 1.0);
                    self.graph.consts.add(value)
                });
                let pad = Padding { top: *top, left: *left, bottom: *bottom, right: *right };
                self.add(Op::Pad(Pad { pad, value }), &[x])
            }
            Block::ConstScale(act) => {
                let s = self.constant(Shape::hwc(1, 1, self.shape(x).c));
                let s = self.add(Op::Act(*act), &[s])?;
                self.add(Op::Scale(Activation::None), &[x, s])
            }
            Block::ConstAdd(act) => {
                let a = self.constant(self.shape(x));
                self.add(Op::Add(*act), &[x, a])
            }
            Block::Double => self.add(Op::Add(Activation::None), &[x, x]),
            Block::Identity(which) => {
                let pool =
                    Pool { kind: PoolKind::Average, kernel: [1, 1], stride: [1, 1], pad: Padding::ZERO, count_padding: false };
                let shape = self.shape(x);
                let nothing =
                    Gather { rows: None, columns: Some((0..shape.w as i32).collect()), channels: None, fill: Real::new(0.0) };
                match which {
                    3 => self.add(Op::Concat(Axis::W), &[x]),
                    4 => self.add(Op::Gather(nothing), &[x]),
                    5 => self.add(Op::Reshape(shape), &[x]),
                    6 => self.add(Op::Transpose([0, 1, 2]), &[x]),
                    7 => self.add(Op::Mean { axes: [shape.h == 1, shape.w == 1, shape.c == 1] }, &[x]),
                    0 => self.add(Op::Act(Activation::None), &[x]),
                    1 => self.add(Op::Pad(Pad { pad: Padding::ZERO, value: None }), &[x]),
                    2 => self.add(Op::Pool(pool), &[x]),
                    _ => self.add(Op::Pool(Pool { kind: PoolKind::Max, ..pool }), &[x]),
                }
            }
        }
    }

    /// Padding node, transposed convolution and tail.
    pub fn conv_transpose(
        &mut self,
        x: NodeId,
        window: Window,
        output_padding: [usize; 2],
        out_c: usize,
        groups: usize,
        tail: Tail,
    ) -> Option<NodeId> {
        let pad = self.padding(x, window);
        let in_c = self.shape(x).c;
        let taps = window.kernel[0] * window.kernel[1];
        let weight = self.random.he(taps * (in_c / groups) * out_c, taps * (in_c / groups));
        let weight = self.graph.consts.add(weight);
        let bias = self.bias(out_c, tail.bias);
        let Window { kernel, stride, dilation, around: _ } = window;
        let act = Activation::None;
        let op = ConvTranspose { in_c, out_c, kernel, stride, dilation, groups, pad, output_padding, weight, bias, act };
        let y = self.add(Op::ConvTranspose(op), &[x])?;
        Some(self.tail(y, tail))
    }

    /// An operation with what is left of `x` where `axes` become one.
    fn binary(&mut self, x: NodeId, kind: BinaryKind, axes: [bool; 3], flip: bool, act: Activation) -> Option<NodeId> {
        let other = if axes == [false; 3] { x } else { self.add(Op::Mean { axes }, &[x])? };
        let bound = |least: f32, most: f32| Op::Act(Activation::Clip(Real::new(least), Real::new(most)));
        let operands = match kind {
            BinaryKind::Add | BinaryKind::Sub => [x, other],
            BinaryKind::Mul => [x, self.add(bound(-1.0, 1.0), &[other])?],
            BinaryKind::Div if flip => [self.add(bound(0.5, 4.0), &[x])?, other],
            BinaryKind::Div => [x, self.add(bound(0.5, 4.0), &[other])?],
        };
        let [a, b] = operands;
        self.add(Op::Binary(Binary { kind, act }), &if flip { [b, a] } else { [a, b] })
    }

    /// Indices into an axis of `len`.
    fn indices(&mut self, pick: Pick, len: usize) -> Option<Vec<i32>> {
        let n = i32::try_from(len).expect("small");
        match pick {
            Pick::All => None,
            Pick::Run => {
                let (a, b) = (self.random.below(len) as i32, self.random.below(len) as i32);
                Some((a.min(b)..=a.max(b)).collect())
            }
            Pick::Twice => Some((0..n).flat_map(|i| [i, i]).collect()),
            Pick::Shuffled => Some((0..n).step_by(2).chain((1..n).step_by(2)).collect()),
            Pick::Any => Some((0..=len).map(|_| self.random.below(len + 1) as i32 - 1).collect()),
        }
    }

    /// What only moves elements, or takes means; `None` where too much would come of it.
    fn rearrange(&mut self, x: NodeId, block: &Block) -> Option<NodeId> {
        /// Elements and channels of what is made.
        const MOST: (usize, usize) = (12_000, 130);
        let shape = self.shape(x);
        let (h, w, c) = (shape.h, shape.w, shape.c);
        let op = match block {
            Block::Gather(picks) => {
                let [rows, columns, channels] = [(0, h), (1, w), (2, c)].map(|(i, len)| self.indices(picks[i], len));
                Op::Gather(Gather { rows, columns, channels, fill: Real::new(0.25) })
            }
            Block::Reshape(which) => Op::Reshape(match which {
                0 => Shape::hwc(w, h, c),
                1 => Shape::hwc(1, h * w, c),
                2 => Shape::hwc(h, w * c, 1),
                3 => Shape::hwc(1, 1, h * w * c),
                _ => Shape::hwc(c, 1, h * w),
            }),
            Block::Transpose(order) => Op::Transpose(*order),
            Block::Mean(axes) => Op::Mean { axes: *axes },
            Block::Interpolate([rows, columns]) => {
                let taps = |len: usize, quarters: usize| -> Vec<Tap> {
                    let out = len * quarters / 4 + 1;
                    (0..out)
                        .map(|i| {
                            let at = ((i as f32 + 0.5) * len as f32 / out as f32 - 0.5).clamp(0.0, (len - 1) as f32);
                            let low = at as usize;
                            Tap { low, high: (low + 1).min(len - 1), weight: Real::new(at - low as f32) }
                        })
                        .collect()
                };
                Op::Interpolate { rows: taps(h, *rows), columns: taps(w, *columns) }
            }
            _ => return None,
        };
        let out = op.infer(&[shape]).ok()?;
        (out.elements() <= MOST.0 && out.c <= MOST.1.max(c)).then(|| self.add(op, &[x]))?
    }

    fn head(&mut self, x: NodeId, head: &Head) -> NodeId {
        match head {
            Head::Nothing => x,
            Head::Pool => self.add(Op::GlobalPool, &[x]).expect("any shape is pooled"),
            Head::Classifier { width, tail, hidden, classes, softmax } => {
                let mut x = match width {
                    Some(width) => self.conv(x, POINT, *width, *tail).expect("a pointwise convolution fits"),
                    None => x,
                };
                x = self.add(Op::GlobalPool, &[x]).expect("any shape is pooled");
                if let Some((width, tail)) = hidden {
                    x = self.dense(x, *width, *tail).expect("pooled");
                }
                let tail = Tail { bias: true, ..BARE };
                x = self.dense(x, *classes, tail).expect("pooled");
                if *softmax { self.add(Op::Softmax, &[x]).expect("pooled") } else { x }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mnc_compiler::ir::verify;

    use super::*;

    /// Valid, finite, of moderate size, and every op occurs within 200 seeds.
    #[test]
    fn nets_are_valid_sane_and_varied() {
        let (mut ops, mut ends) = (BTreeSet::new(), BTreeSet::new());
        for seed in 0..200 {
            let case = seeded(seed);
            verify::verify(&case.graph).unwrap_or_else(|e| panic!("seed {seed}: {e:?}"));
            let y = answer(&case.graph, &case.input);
            assert!(y.iter().all(|v| v.abs() < 1e4), "seed {seed} leaves the range: {y:?}");
            ends.insert((case.graph.inputs.len(), case.graph.outputs.len()));
            ops.extend(case.graph.nodes().into_iter().map(|id| case.graph.op(id).name()));
        }
        let all = [
            "act",
            "add",
            "avg_pool",
            "batch_norm",
            "concat",
            "constant",
            "conv",
            "conv_transpose",
            "dense",
            "depthwise",
            "difference",
            "gather",
            "global_pool",
            "input",
            "interpolate",
            "max_pool",
            "mean",
            "normalize",
            "pad",
            "pointwise",
            "prelu",
            "product",
            "quotient",
            "reshape",
            "scale",
            "softmax",
            "sum",
            "transpose",
        ];
        assert_eq!(ops, BTreeSet::from(all));
        assert_eq!(ends.len(), 9, "one to three of each: {ends:?}");
    }

    #[test]
    fn a_seed_names_one_net() {
        let (a, b) = (seeded(7), seeded(7));
        assert_eq!((a.graph.len(), a.input), (b.graph.len(), b.input));
    }
}
