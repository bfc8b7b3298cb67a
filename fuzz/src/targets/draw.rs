//! Nets from a fuzzer's bytes: a choice of [`crate::gen`]'s recipes takes a byte, so that a changed byte changes one choice.
//!
//! The tests' own strategy cannot be used: proptest gives every alternative half of the bytes that are left. What is drawn here is the
//! same, and more often of an odd size: sides and channels of 1, channels that no vector divides.

use mnc_compiler::ir::op::{Activation, Axis, BinaryKind, PoolKind, Real};

use crate::r#gen::{Around, Block, Excite, Head, Join, Pick, Recipe, Tail, Window};

/// The bytes that are left; zeros follow them.
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    fn one_to(&mut self, n: usize) -> usize {
        self.below(n) + 1
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// In `low..high`.
    fn number(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * f32::from(self.byte()) / 256.0
    }

    fn activation(&mut self) -> Activation {
        match self.below(14) {
            0..=2 => Activation::None,
            3 => Activation::Relu,
            4 => Activation::Relu6,
            5 => Activation::HSwish,
            6 => Activation::HSigmoid,
            7 => Activation::Sigmoid,
            8 => Activation::Tanh,
            9 => Activation::Silu,
            10 => Activation::LeakyRelu(Real::new(self.number(-0.5, 1.0))),
            11 => Activation::HardSigmoid(Real::new(self.number(0.05, 0.5)), Real::new(self.number(0.0, 1.0))),
            12 => {
                let least = self.number(-1.0, 1.0);
                Activation::Clip(Real::new(least), Real::new(least + self.number(0.1, 3.0)))
            }
            _ => match self.flag() {
                true => Activation::Clip(Real::new(f32::NEG_INFINITY), Real::new(self.number(0.0, 3.0))),
                false => Activation::Clip(Real::new(self.number(-1.0, 1.0)), Real::new(f32::INFINITY)),
            },
        }
    }

    fn window(&mut self) -> Window {
        let pair = |b: &mut Self, n| [b.one_to(n), b.one_to(n)];
        let kernel = match self.below(6) {
            0 => [1, 1],
            1 => [5, 5],
            2 => pair(self, 6),
            _ => [3, 3],
        };
        let stride = match self.below(4) {
            0 => [2, 2],
            1 => pair(self, 3),
            _ => [1, 1],
        };
        let dilation = if self.below(5) == 0 { pair(self, 3) } else { [1, 1] };
        let around = match self.below(4) {
            0 => Around::Nothing,
            1 => Around::Torch,
            2 => Around::Same,
            _ => Around::Sides([0; 4].map(|_: usize| self.below(4))),
        };
        Window { kernel, stride, dilation, around }
    }

    fn tail(&mut self) -> Tail {
        let flags = self.byte();
        Tail { bias: flags & 1 != 0, bn: flags & 2 != 0, identity: flags & 12 == 12, act: self.activation() }
    }

    fn excite(&mut self) -> Excite {
        let (reduced, dense) = (self.one_to(9), self.flag());
        let gate = self.pick(&[Activation::HSigmoid, Activation::Sigmoid]);
        let act_after = if self.below(3) == 0 { self.activation() } else { Activation::None };
        Excite { reduced, dense, gate, act_after }
    }

    /// Channels: often 1, a little less or more than a vector, or anything.
    fn channels(&mut self) -> usize {
        match self.below(4) {
            0 => self.pick(&[1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33]),
            _ => self.one_to(40),
        }
    }

    fn block(&mut self) -> Block {
        match self.below(24) {
            0..=2 => {
                let groups = if self.flag() { 1 } else { self.one_to(4) };
                Block::Conv { window: self.window(), out: self.channels(), groups, tail: self.tail() }
            }
            3..=4 => Block::Depthwise { window: self.window(), multiplier: self.one_to(3), tail: self.tail() },
            5..=7 => Block::InvertedResidual {
                expand: self.one_to(3),
                window: self.window(),
                se: if self.flag() { Some(self.excite()) } else { None },
                out: if self.flag() { Some(self.channels()) } else { None },
                tail: self.tail(),
                flip: self.flag(),
                act: self.activation(),
            },
            8 => Block::SqueezeExcite(self.excite()),
            9 => {
                let kernel = [self.one_to(3), self.one_to(3)];
                Block::Branches { kernel, out: self.channels(), tails: [self.tail(), self.tail()], act: self.activation() }
            }
            10 => Block::Pool {
                kind: self.pick(&[PoolKind::Max, PoolKind::Average]),
                window: self.window(),
                count_padding: self.flag(),
            },
            11 => match self.below(4) {
                0 => Block::Softmax,
                1 => Block::BatchNorm,
                2 => Block::Double,
                _ => Block::PRelu,
            },
            12 => Block::Act(self.activation()),
            13 => Block::Pad { sides: [0; 4].map(|_: usize| self.below(4)), value: self.flag() },
            14 => Block::ConstScale(self.activation()),
            15 => Block::ConstAdd(self.activation()),
            16 => Block::Identity(self.byte() & 7),
            17 => Block::Binary {
                kind: self.pick(&[BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div]),
                axes: [0; 3].map(|_: u8| self.flag()),
                flip: self.flag(),
                act: self.activation(),
            },
            18 => Block::Concat { axis: self.pick(&[Axis::H, Axis::W, Axis::C, Axis::C]), out: self.one_to(20) },
            19 => {
                let all = [Pick::All, Pick::All, Pick::Run, Pick::Twice, Pick::Shuffled, Pick::Any];
                Block::Gather([0; 3].map(|_: u8| self.pick(&all)))
            }
            20 => Block::Reshape(self.byte() % 5),
            21 => Block::Transpose(self.pick(&[[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])),
            22 => match self.flag() {
                true => Block::Mean([0; 3].map(|_: u8| self.flag())),
                false => Block::Interpolate([self.below(9), self.below(9)]),
            },
            _ => {
                let groups = if self.flag() { 1 } else { self.one_to(4) };
                let more = [self.below(2), self.below(2)];
                Block::ConvTranspose { window: self.window(), more, out: self.one_to(24), groups, tail: self.tail() }
            }
        }
    }

    fn head(&mut self) -> Head {
        match self.below(5) {
            0 | 1 => Head::Nothing,
            2 => Head::Pool,
            _ => Head::Classifier {
                width: if self.flag() { Some(self.channels()) } else { None },
                tail: self.tail(),
                hidden: if self.flag() { Some((self.one_to(20), self.tail())) } else { None },
                classes: self.one_to(20),
                softmax: self.flag(),
            },
        }
    }

    /// A net of up to eight blocks.
    pub(super) fn recipe(&mut self) -> Recipe {
        let side = |b: &mut Self| if b.below(4) == 0 { 1 } else { b.one_to(20) };
        let input = [side(self), side(self), self.channels()];
        let normalize = self.pick(&[None, None, Some(false), Some(true)]);
        let seed = u64::from(self.byte());
        let join = |b: &mut Self| match b.below(8) {
            0..=3 => Join::Add(b.activation()),
            4..=6 => Join::Scale,
            _ => Join::Unread,
        };
        let joined = (0..self.below(6).saturating_sub(3)).map(|_| (self.below(6), join(self))).collect();
        let tapped = (0..self.below(6).saturating_sub(3)).map(|_| self.below(64)).collect();
        let head = self.head();
        let blocks = (0..self.below(9)).map(|_| self.block()).collect();
        Recipe { input, normalize, blocks, head, seed, joined, tapped }
    }
}
