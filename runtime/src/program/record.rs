//! Stages as plain words: what code in memory and object files carry of a program.
//!
//! A record holds one stage without pointers, so it is data of any module: positions count floats from the start of the weight
//! blob, the arena, the input and the output. All words are 64 bits wide.
//!
//! ```text
//! VERSION, words of the record, checksum of the rest, threads of the program, split, strip, steps,
//! then of every step: its op (a tag, then its fields in the order that [`Op`] has them), x, y
//! activation: tag, then its numbers by their bits
//! view: tag of the place, its two positions, rows, width, channels, pitch        absent: all bits set
//! tables: their length where no shape tells it, then their numbers, in the place of the position
//! ```
//! [`encode`] writes the records of a checked program; [`Record::decode`] reads one back, steps on the stack. A word that is
//! none of these is an error, and so is any other change: the checksum tells. A new variant of [`Op`] is an arm in both, and a
//! change of what stands where is a new [`FORMAT`].

use super::check::MOST_STEPS;
use super::{Added, Op, Place, Split, Stage, Step, VIEW_WORDS, View};
use crate::params::{Activation, Axis, BinaryKind, Conv, Depthwise, Method, Pointwise, Pool, PoolKind, Real};
use crate::stamp::FORMAT;

/// The first word of every record.
pub const VERSION: u64 = 0x6d6e_6372_0000_0000 | FORMAT as u64;

/// Words before the steps.
const HEAD: usize = 7;
/// Words under the checksum start here.
const SUMMED: usize = 3;
/// Stands for what is absent.
const ABSENT: u64 = u64::MAX;

/// A stage read back.
pub(crate) struct Record<'a> {
    /// The stage.
    pub stage: Stage,
    /// Its steps, the first `stage.steps` of these.
    steps: [Step; MOST_STEPS],
    /// The numbers that its steps name.
    pub orders: &'a [usize],
    /// The most threads.
    pub threads: usize,
}

/// The words are no record of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRecord;

/// What an array of steps holds before they are read.
const NOTHING: Step = {
    let view = View::whole(Place::Input(0), 0, 0, 0);
    Step { op: Op::Copy, x: view, y: view }
};

/// Whatever word changes, this changes: every step of it can be undone.
fn checksum(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(VERSION, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
}

#[cfg(feature = "std")]
mod write {
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::program::{Checked, Program};

    /// All records of a program.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Records {
        /// One behind the other, in order of execution.
        pub words: Vec<u64>,
        /// Where each starts in `words`.
        pub starts: Vec<usize>,
    }

    /// The records of `program`.
    #[must_use]
    pub fn encode(program: Checked<'_>) -> Records {
        let Program { stages, mut steps, orders, threads, .. } = *program.get();
        let mut records = Records { words: Vec::new(), starts: Vec::new() };
        for stage in stages {
            let these;
            (these, steps) = steps.split_at(stage.steps);
            let split = match stage.split {
                Split::Alone => 0,
                Split::Rows => 1,
                Split::Channels => 2,
            };
            let mut w = Writer { words: vec![VERSION, 0, 0], orders };
            w.all([threads, split, stage.strip, stage.steps]);
            these.iter().for_each(|step| w.step(step));
            let mut words = w.words;
            words[1] = words.len() as u64;
            words[2] = checksum(words[SUMMED..].iter().copied());
            records.starts.push(records.words.len());
            records.words.append(&mut words);
        }
        records
    }

    fn bits(x: Real) -> usize {
        x.get().to_bits() as usize
    }

    struct Writer<'a> {
        words: Vec<u64>,
        orders: &'a [usize],
    }

    impl Writer<'_> {
        fn all<const N: usize>(&mut self, values: [usize; N]) {
            self.words.extend(values.map(|v| v as u64));
        }

        fn conv(&mut self, p: &Conv) {
            self.all([p.in_h, p.in_w, p.in_c, p.out_h, p.out_w, p.out_c, p.groups]);
            self.all([p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w, p.pad_top, p.pad_left]);
            self.activation(p.act);
            self.method(p.method);
        }

        fn method(&mut self, method: Method) {
            self.all([match method {
                Method::Direct => 0,
                Method::Winograd2 => 1,
                Method::Strassen => 2,
                Method::Winograd4 => 3,
            }]);
        }

        /// Numbers of the program's in the place of their position.
        fn table(&mut self, at: usize, len: usize) {
            self.words.extend(self.orders[at..][..len].iter().map(|&n| n as u64));
        }

        fn optional(&mut self, value: Option<usize>) {
            self.words.push(value.map_or(ABSENT, |v| v as u64));
        }

        fn activation(&mut self, act: Activation) {
            match act {
                Activation::None => self.all([0]),
                Activation::Relu => self.all([1]),
                Activation::Relu6 => self.all([2]),
                Activation::HSwish => self.all([3]),
                Activation::HSigmoid => self.all([4]),
                Activation::Sigmoid => self.all([5]),
                Activation::Tanh => self.all([6]),
                Activation::Silu => self.all([7]),
                Activation::LeakyRelu(slope) => self.all([8, bits(slope)]),
                Activation::Clip(least, most) => self.all([9, bits(least), bits(most)]),
                Activation::HardSigmoid(alpha, beta) => self.all([10, bits(alpha), bits(beta)]),
            }
        }

        fn view(&mut self, view: &View) {
            self.all(view.words());
        }

        fn added(&mut self, added: &Added) {
            match added {
                Added::Nothing => self.all([0]),
                Added::InPlace => self.all([1]),
                Added::From(view) => {
                    self.all([2]);
                    self.view(view);
                }
            }
        }

        fn step(&mut self, step: &Step) {
            match &step.op {
                Op::Conv { params: p, weight, bias, pad_value, added } => {
                    self.all([0]);
                    self.conv(p);
                    self.all([*weight, *bias]);
                    self.optional(*pad_value);
                    self.added(added);
                }
                Op::Depthwise { params: p, weight, bias, pad_value } => {
                    self.all([1, p.in_h, p.in_w, p.in_c, p.multiplier, p.out_h, p.out_w]);
                    self.all([p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.dilation_h, p.dilation_w, p.pad_top, p.pad_left]);
                    self.activation(p.act);
                    self.all([*weight, *bias]);
                    self.optional(*pad_value);
                }
                Op::Pointwise { params: p, weight, bias, added } => {
                    self.all([2, p.h, p.w, p.in_c, p.out_c]);
                    self.activation(p.act);
                    self.all([usize::from(p.pool), *weight, *bias]);
                    self.method(p.method);
                    self.added(added);
                }
                Op::Pool(p) => {
                    let kind = match p.kind {
                        PoolKind::Max => 0,
                        PoolKind::Average => 1,
                    };
                    self.all([3, kind, p.in_h, p.in_w, p.c, p.out_h, p.out_w]);
                    self.all([p.kernel_h, p.kernel_w, p.stride_h, p.stride_w, p.pad_top, p.pad_left]);
                    self.all([usize::from(p.count_padding)]);
                }
                Op::GlobalPool => self.all([4]),
                Op::Add { other, act } => {
                    self.all([5]);
                    self.view(other);
                    self.activation(*act);
                }
                Op::Scale { scale, act } => {
                    self.all([6]);
                    self.view(scale);
                    self.activation(*act);
                }
                Op::Act(act) => {
                    self.all([7]);
                    self.activation(*act);
                }
                Op::Softmax => self.all([8]),
                Op::Normalize { order, scale, shift } => {
                    let order = &self.orders[*order..][..step.y.channels];
                    self.all([9, order.len()]);
                    self.words.extend(order.iter().map(|&c| c as u64));
                    self.all([*scale, *shift]);
                }
                Op::Pad { top, left, value } => {
                    self.all([10, *top, *left]);
                    self.optional(*value);
                }
                Op::Copy => self.all([11]),
                Op::Concat { axis, parts, count } => {
                    let axis = match axis {
                        Axis::H => 0,
                        Axis::W => 1,
                        Axis::C => 2,
                    };
                    self.all([13, axis, *count]);
                    self.table(*parts, *count * VIEW_WORDS);
                }
                Op::Gather { rows, columns, channels, fill } => {
                    self.all([14, bits(*fill)]);
                    for (table, len) in [(rows, step.y.rows), (columns, step.y.width), (channels, step.y.channels)] {
                        self.optional(table.map(|_| len));
                        table.iter().for_each(|&at| self.table(at, len));
                    }
                }
                Op::Binary { kind, other, act } => {
                    let kind = match kind {
                        BinaryKind::Add => 0,
                        BinaryKind::Sub => 1,
                        BinaryKind::Mul => 2,
                        BinaryKind::Div => 3,
                    };
                    self.all([15, kind]);
                    self.view(other);
                    self.activation(*act);
                }
                Op::PRelu { slope } => self.all([16, *slope]),
                Op::Transpose { order: [h, w, c] } => self.all([17, *h, *w, *c]),
                Op::Mean { axes } => {
                    let [h, w, c] = axes.map(usize::from);
                    self.all([18, h, w, c]);
                }
                Op::Interpolate { rows, columns } => {
                    self.all([19]);
                    for (at, len) in [(*rows, step.y.rows), (*columns, step.y.width)] {
                        self.all([3 * len]);
                        self.table(at, 3 * len);
                    }
                }
                Op::ConvTranspose { params, weight, bias } => {
                    self.all([20]);
                    self.conv(params);
                    self.all([*weight, *bias]);
                }
                Op::Constant { value } => self.all([12, *value]),
            }
            self.view(&step.x);
            self.view(&step.y);
        }
    }
}
#[cfg(feature = "std")]
pub use write::{Records, encode};

impl<'a> Record<'a> {
    /// Reads the record at the start of `words`, which may go on behind it.
    pub(crate) fn decode(words: &'a [usize]) -> Result<Self, NoRecord> {
        let len = Self::len(words)?;
        let words = words.get(..len).ok_or(NoRecord)?;
        if checksum(words[SUMMED..].iter().map(|&w| w as u64)) != words[2] as u64 {
            return Err(NoRecord);
        }
        let mut r = Reader { words, at: SUMMED, orders: 0..0 };
        let [threads, split, strip, count] = r.all()?;
        let split = *[Split::Alone, Split::Rows, Split::Channels].get(split).ok_or(NoRecord)?;
        let mut steps = [NOTHING; MOST_STEPS];
        for step in steps.get_mut(..count).ok_or(NoRecord)? {
            *step = r.step()?;
        }
        if r.at != len || count == 0 {
            return Err(NoRecord);
        }
        Ok(Self { stage: Stage { steps: count, strip, split }, steps, orders: &words[r.orders], threads })
    }

    /// Words of the record that starts with these, by its head.
    pub(crate) fn len(words: &[usize]) -> Result<usize, NoRecord> {
        match words {
            [version, len, ..] if *version as u64 == VERSION && *len >= HEAD => Ok(*len),
            _ => Err(NoRecord),
        }
    }

    /// Its steps.
    pub(crate) fn steps(&self) -> &[Step] {
        self.steps.get(..self.stage.steps).unwrap_or(&[])
    }
}

struct Reader<'a> {
    words: &'a [usize],
    at: usize,
    /// Words from the first table to the last.
    orders: core::ops::Range<usize>,
}

impl Reader<'_> {
    fn all<const N: usize>(&mut self) -> Result<[usize; N], NoRecord> {
        let values = self.words[self.at..].first_chunk().ok_or(NoRecord)?;
        self.at += N;
        Ok(*values)
    }

    fn one(&mut self) -> Result<usize, NoRecord> {
        let [value] = self.all()?;
        Ok(value)
    }

    fn optional(&mut self) -> Result<Option<usize>, NoRecord> {
        Ok(Some(self.one()?).filter(|&v| v as u64 != ABSENT))
    }

    fn activation(&mut self) -> Result<Activation, NoRecord> {
        Ok(match self.one()? {
            0 => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Relu6,
            3 => Activation::HSwish,
            4 => Activation::HSigmoid,
            5 => Activation::Sigmoid,
            6 => Activation::Tanh,
            7 => Activation::Silu,
            8 => Activation::LeakyRelu(self.real()?),
            9 => Activation::Clip(self.real()?, self.real()?),
            10 => Activation::HardSigmoid(self.real()?, self.real()?),
            _ => return Err(NoRecord),
        })
    }

    fn real(&mut self) -> Result<Real, NoRecord> {
        let bits = u32::try_from(self.one()?).map_err(|_| NoRecord)?;
        Ok(Real::new(f32::from_bits(bits)))
    }

    fn view(&mut self) -> Result<View, NoRecord> {
        View::from_words(self.all()?).ok_or(NoRecord)
    }

    fn added(&mut self) -> Result<Added, NoRecord> {
        Ok(match self.one()? {
            0 => Added::Nothing,
            1 => Added::InPlace,
            2 => Added::From(self.view()?),
            _ => return Err(NoRecord),
        })
    }

    fn step(&mut self) -> Result<Step, NoRecord> {
        let op = self.op()?;
        Ok(Step { op, x: self.view()?, y: self.view()? })
    }

    fn conv(&mut self) -> Result<Conv, NoRecord> {
        let [in_h, in_w, in_c, out_h, out_w, out_c, groups] = self.all()?;
        let [kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left] = self.all()?;
        let act = self.activation()?;
        Ok(Conv {
            in_h,
            in_w,
            in_c,
            out_h,
            out_w,
            out_c,
            groups,
            kernel_h,
            kernel_w,
            stride_h,
            stride_w,
            dilation_h,
            dilation_w,
            pad_top,
            pad_left,
            act,
            method: self.method()?,
        })
    }

    fn method(&mut self) -> Result<Method, NoRecord> {
        [Method::Direct, Method::Winograd2, Method::Strassen, Method::Winograd4].get(self.one()?).copied().ok_or(NoRecord)
    }

    /// The position among the tables of the next `len` words.
    fn table(&mut self, len: usize) -> Result<usize, NoRecord> {
        let (first, end) = (self.at, self.at.saturating_add(len));
        if end > self.words.len() {
            return Err(NoRecord);
        }
        self.orders = if self.orders.is_empty() { first..end } else { self.orders.start..end };
        self.at = end;
        Ok(first - self.orders.start)
    }

    fn op(&mut self) -> Result<Op, NoRecord> {
        Ok(match self.one()? {
            0 => {
                let params = self.conv()?;
                let [weight, bias] = self.all()?;
                Op::Conv { params, weight, bias, pad_value: self.optional()?, added: self.added()? }
            }
            1 => {
                let [in_h, in_w, in_c, multiplier, out_h, out_w] = self.all()?;
                let [kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left] = self.all()?;
                let act = self.activation()?;
                let params = Depthwise {
                    in_h,
                    in_w,
                    in_c,
                    multiplier,
                    out_h,
                    out_w,
                    kernel_h,
                    kernel_w,
                    stride_h,
                    stride_w,
                    dilation_h,
                    dilation_w,
                    pad_top,
                    pad_left,
                    act,
                };
                let [weight, bias] = self.all()?;
                Op::Depthwise { params, weight, bias, pad_value: self.optional()? }
            }
            2 => {
                let [h, w, in_c, out_c] = self.all()?;
                let act = self.activation()?;
                let [pool, weight, bias] = self.all()?;
                let params = Pointwise { h, w, in_c, out_c, act, pool: pool != 0, method: self.method()? };
                Op::Pointwise { params, weight, bias, added: self.added()? }
            }
            3 => {
                let kind = *[PoolKind::Max, PoolKind::Average].get(self.one()?).ok_or(NoRecord)?;
                let [in_h, in_w, c, out_h, out_w] = self.all()?;
                let [kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left] = self.all()?;
                let count_padding = self.one()? != 0;
                Op::Pool(Pool {
                    kind,
                    in_h,
                    in_w,
                    c,
                    out_h,
                    out_w,
                    kernel_h,
                    kernel_w,
                    stride_h,
                    stride_w,
                    pad_top,
                    pad_left,
                    count_padding,
                })
            }
            4 => Op::GlobalPool,
            5 => Op::Add { other: self.view()?, act: self.activation()? },
            6 => Op::Scale { scale: self.view()?, act: self.activation()? },
            7 => Op::Act(self.activation()?),
            8 => Op::Softmax,
            9 => {
                let len = self.one()?;
                let order = self.table(len)?;
                let [scale, shift] = self.all()?;
                Op::Normalize { order, scale, shift }
            }
            10 => {
                let [top, left] = self.all()?;
                Op::Pad { top, left, value: self.optional()? }
            }
            11 => Op::Copy,
            12 => Op::Constant { value: self.one()? },
            13 => {
                let [axis, count] = self.all()?;
                let axis = *[Axis::H, Axis::W, Axis::C].get(axis).ok_or(NoRecord)?;
                Op::Concat { axis, parts: self.table(count.saturating_mul(VIEW_WORDS))?, count }
            }
            14 => {
                let fill = self.real()?;
                let mut tables = [None; 3];
                for table in &mut tables {
                    *table = self.optional()?.map(|len| self.table(len)).transpose()?;
                }
                let [rows, columns, channels] = tables;
                Op::Gather { rows, columns, channels, fill }
            }
            15 => {
                let kinds = [BinaryKind::Add, BinaryKind::Sub, BinaryKind::Mul, BinaryKind::Div];
                let kind = *kinds.get(self.one()?).ok_or(NoRecord)?;
                Op::Binary { kind, other: self.view()?, act: self.activation()? }
            }
            16 => Op::PRelu { slope: self.one()? },
            17 => Op::Transpose { order: self.all()? },
            18 => Op::Mean { axes: self.all()?.map(|axis: usize| axis != 0) },
            19 => {
                let len = self.one()?;
                let rows = self.table(len)?;
                let len = self.one()?;
                Op::Interpolate { rows, columns: self.table(len)? }
            }
            20 => {
                let params = self.conv()?;
                let [weight, bias] = self.all()?;
                Op::ConvTranspose { params, weight, bias }
            }
            _ => return Err(NoRecord),
        })
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::params;
    use crate::program::{Checked, Program};

    /// A program with every kind of step, each a stage of its own but for a chain over a ring.
    fn with_program(test: impl FnOnce(&Program<'_>)) {
        let place = |at| View::whole(Place::Arena(at), 4, 4, 8);
        let pixel = |at| View::whole(Place::Arena(at), 1, 1, 8);
        let ring = View { rows: 3, pitch: 16, ..View::whole(Place::Ring { first: 1024, apart: 256 }, 3, 4, 8) };
        let (x, y) = (View::whole(Place::Input(16), 4, 4, 8), View::whole(Place::Output(8), 1, 1, 8));
        let [a, b] = [-0.5, f32::INFINITY].map(Real::new);
        let act = Activation::Clip(a, b);
        let conv = params::Conv {
            in_h: 4,
            in_w: 4,
            in_c: 8,
            out_h: 4,
            out_w: 4,
            out_c: 8,
            groups: 2,
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 2,
            dilation_w: 3,
            pad_top: 1,
            pad_left: 1,
            act,
            method: params::Method::Direct,
        };
        let depthwise = params::Depthwise {
            in_h: 4,
            in_w: 4,
            in_c: 8,
            multiplier: 1,
            out_h: 4,
            out_w: 4,
            kernel_h: 3,
            kernel_w: 3,
            stride_h: 1,
            stride_w: 1,
            dilation_h: 1,
            dilation_w: 1,
            pad_top: 1,
            pad_left: 1,
            act: Activation::LeakyRelu(a),
        };
        let pool = params::Pool {
            kind: PoolKind::Average,
            in_h: 4,
            in_w: 4,
            c: 8,
            out_h: 4,
            out_w: 4,
            kernel_h: 2,
            kernel_w: 2,
            stride_h: 1,
            stride_w: 1,
            pad_top: 0,
            pad_left: 0,
            count_padding: true,
        };
        let pointwise =
            Pointwise { h: 4, w: 4, in_c: 8, out_c: 8, act: Activation::Sigmoid, pool: false, method: Method::Direct };
        let from = Added::From(place(128));
        let gather = Op::Gather { rows: Some(22), columns: None, channels: Some(0), fill: a };
        let step = |op, x, y| Step { op, x, y };
        let steps = [
            step(Op::Normalize { order: 0, scale: 0, shift: 16 }, x, place(0)),
            step(Op::Conv { params: conv, weight: 0, bias: 0, pad_value: Some(3), added: from }, place(0), place(256)),
            step(Op::Pointwise { params: pointwise, weight: 7, bias: 9, added: Added::Nothing }, place(256), ring),
            step(Op::Depthwise { params: depthwise, weight: 1, bias: 2, pad_value: None }, ring, place(384)),
            step(Op::Pool(pool), place(384), place(0)),
            step(Op::GlobalPool, place(0), pixel(512)),
            step(Op::Scale { scale: pixel(512), act }, place(0), place(0)),
            step(Op::Add { other: place(384), act: Activation::None }, place(0), place(0)),
            step(Op::Act(Activation::HardSigmoid(a, b)), pixel(512), pixel(512)),
            step(Op::Pad { top: 0, left: 0, value: None }, place(0), place(640)),
            step(Op::Constant { value: 5 }, x, pixel(768)),
            step(Op::Copy, pixel(768), pixel(896)),
            step(Op::Softmax, pixel(896), y),
            step(Op::Concat { axis: Axis::H, parts: 8, count: 2 }, pixel(512), View::whole(Place::Arena(900), 2, 1, 8)),
            step(gather, place(0), place(128)),
            step(Op::Binary { kind: BinaryKind::Div, other: pixel(512), act }, place(0), place(0)),
            step(Op::PRelu { slope: 3 }, place(0), place(0)),
            step(Op::Transpose { order: [1, 0, 2] }, place(0), place(128)),
            step(Op::Mean { axes: [true, true, false] }, place(0), pixel(512)),
            step(Op::Interpolate { rows: 26, columns: 26 }, place(0), place(128)),
            step(Op::ConvTranspose { params: conv, weight: 0, bias: 0 }, place(0), place(256)),
        ];
        let alone = Stage { steps: 1, strip: 2, split: Split::Alone };
        let chain = Stage { steps: 2, strip: 1, split: Split::Rows };
        let channels = Stage { split: Split::Channels, ..alone };
        let stages = [&[alone, alone, chain, channels][..], &[alone; 16]].concat();
        let mut orders = std::vec![7, 6, 5, 4, 3, 2, 1, 0];
        orders.extend([pixel(512), pixel(768)].iter().flat_map(View::words));
        orders.extend([3, usize::MAX, 0, 0, 1, 2, 0, 0, 3, 5, 2, 2, 0, 1, 0, 7]);
        test(&Program {
            stages: &stages,
            steps: &steps,
            orders: &orders,
            input: 144,
            output: 16,
            arena: 2048,
            weights: 4096,
            threads: 2,
        });
    }

    /// Objects and libraries of one format understand each other: what is written may only change with the number.
    #[test]
    fn records_are_those_of_the_format() {
        with_program(|program| {
            let records = encode(Checked::new(*program).expect("a sound program"));
            let bytes: Vec<u8> = records.words.iter().flat_map(|w| w.to_le_bytes()).collect();
            let found = crate::hash::xxh64(&bytes);
            let known = (6, 0x9e29_20cb_f658_132f);
            assert_eq!(
                (FORMAT, found),
                known,
                "records changed: give `stamp::FORMAT` the next number, then write {found:#x} here"
            );
        });
    }

    fn words(record: &[u64]) -> Vec<usize> {
        record.iter().map(|&w| usize::try_from(w).expect("a wide machine")).collect()
    }

    #[test]
    fn stages_come_back_as_they_were() {
        with_program(|program| {
            let records = encode(Checked::new(*program).expect("a sound program"));
            assert_eq!(records.starts.len(), program.stages.len());
            let mut steps = program.steps;
            for (start, stage) in records.starts.iter().zip(program.stages) {
                let all = words(&records.words[*start..]);
                let record = Record::decode(&all).unwrap();
                let these;
                (these, steps) = steps.split_at(stage.steps);
                assert_eq!((&record.stage, record.threads), (stage, program.threads));
                // Positions of tables count from the record's own first: what is written of it again is the same.
                let (stages, steps) = (core::slice::from_ref(&record.stage), record.steps());
                let again = Program { stages, steps, orders: record.orders, ..*program };
                let again = encode(Checked::new(again).expect("a sound stage"));
                assert_eq!(again.words, records.words[*start..][..again.words.len()]);
                let views = |steps: &[Step]| steps.iter().map(|s| (s.x, s.y)).collect::<Vec<_>>();
                assert_eq!(views(steps), views(these));
                if record.orders.is_empty() {
                    assert_eq!(steps, these);
                }
            }
            assert!(steps.is_empty());
        });
    }

    /// Whatever word is another, however much is missing.
    #[test]
    fn a_wrong_word_is_an_error() {
        with_program(|program| {
            let records = encode(Checked::new(*program).expect("a sound program"));
            for (i, &start) in records.starts.iter().enumerate() {
                let end = records.starts.get(i + 1).copied().unwrap_or(records.words.len());
                let whole = words(&records.words[start..end]);
                for at in (0..whole.len()).step_by(if cfg!(miri) { 7 } else { 1 }) {
                    assert!(Record::decode(&whole[..at]).is_err());
                    for wrong in [whole[at] ^ 1, whole[at].wrapping_add(1), whole[at] ^ 1 << 63, usize::MAX - whole[at]] {
                        let mut words = whole.clone();
                        words[at] = wrong;
                        assert!(Record::decode(&words).is_err(), "stage {i}, word {at}: {wrong}");
                    }
                    // Nor is it read as something else where the checksum was made for it.
                    for wrong in [whole[at] ^ 1, usize::MAX, 1 << 40] {
                        let mut words = whole.clone();
                        words[at] = wrong;
                        if at >= SUMMED {
                            words[2] = checksum(words[SUMMED..].iter().map(|&w| w as u64)) as usize;
                        }
                        let _ = Record::decode(&words);
                    }
                }
            }
        });
    }
}
