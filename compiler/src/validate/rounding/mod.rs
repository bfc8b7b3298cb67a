//! What rounding may do to the outputs of a graph: running error analysis over the naive evaluation, element by element.
//!
//! Every constant, product and partial sum of an f32 computation carries a relative error of at most `u = 2^-24` per rounding.
//! Errors of different origin are taken as independent, so their squares add (Higham, Mary: A new approach to probabilistic
//! rounding error analysis, SIAM J. Sci. Comput. 2019), and a bound is [`LAMBDA`] deviations. For every element there is the
//! variance of its error in units of `u^2`:
//!
//! * a sum of `k` products has the squares of its `k` partial sums (Wilkinson's running error analysis, with the order of the
//!   reference), and of every product the roundings of its weight; its inputs' variances go through the squared weights;
//! * an activation takes the ends of the interval `x ± bound`: where it is flat, errors end;
//! * a mean averages out the roundings of sums, but not what stems from constants, which neighbours share;
//! * errors of two operands that are made of the same sums element by element add as deviations.
//!
//! Nothing is fitted. Over random nets kernels use up to about a third of the bound, and a single weight that is a few per
//! cent off exceeds it.
//!
//! What is not finite. NaN propagates through every operation, as in PyTorch: `relu`, `clip` and `max_pool` of NaN are NaN (ONNX
//! leaves it open). An infinite or NaN element of an input makes every sum over it infinite or NaN in the same way in whatever
//! order it is added up, so those elements must agree: NaN where the reference has NaN, the same infinity where it has one. An
//! element is *open*, and compared with nothing, where the answer depends on the order of the operations, which is the engine's
//! own choice, or where nothing can be said of it:
//!
//! * where the magnitudes of some sum behind it add up to more than f32 can hold;
//! * behind a quotient whose divisor may be zero within its own bound, a softmax of logits that are not known to within 1/2, an
//!   interpolation between elements that are not finite;
//! * beside what is not finite in the output of a 3x3 convolution at stride 1: Winograd's filtering computes tiles of two by two or four by
//!   four together, and takes differences of infinities. What is not a number stays so: were all terms of an output that an infinity
//!   goes through of one sign, so were its tap, of which they are the parts;
//! * in the pair of pixels of what is not finite, and behind it, where Strassen's method is allowed;
//! * behind a grouped convolution of an input that is not finite: kernels may compute it as a dense one with zeros elsewhere.

mod linear;
mod local;
mod strassen;
mod winograd;

use std::collections::{BTreeSet, HashMap};

use crate::ir::eval::{self, hwc};
use crate::ir::op::{Activation, Op};
use crate::ir::{Consts, Graph, NodeId, Shape};
use mnc_runtime::reference;

/// Deviations in a bound.
pub const LAMBDA: f64 = 4.0;

/// The unit of rounding.
const U: f64 = 1.0 / (1 << 24) as f64;

/// Roundings that one constant goes through when passes fold batch norm and normalisation into it, and one more.
const FOLDS: f64 = 4.0;

/// Of an element of which nothing is known.
const OPEN: f64 = f64::INFINITY;

/// What underflow may do to one result, in units of `u`: as much as if denormal numbers were flushed to zero.
const UNDERFLOW: f64 = f32::MIN_POSITIVE as f64 / U;

/// How the compared computation adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// In f64, rounded once: the evaluator.
    F64,
    /// In f32: kernels. Every addition rounds.
    F32,
    /// The same, pointwise convolutions perhaps by Strassen's method. It adds up weights of different channels, so the graph has to be
    /// that which is planned, with batch norm folded.
    Strassen,
}

/// What a graph answers, and how far another computation may lie from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// All outputs, one behind the other.
    pub y: Vec<f32>,
    /// For every element of `y` the largest distance; infinite where the element is open.
    pub bound: Vec<f64>,
}

/// The answer of `graph` to `input`, which holds all inputs one behind the other, with the bounds of a computation that adds up
/// as `sums` says.
///
/// # Panics
/// If the graph is not one that passes [`crate::ir::verify::verify`], or `input` has another length than its inputs.
#[must_use]
pub fn expect(graph: &Graph, input: &[f32], sums: Sums) -> Expected {
    let mut readers: HashMap<NodeId, usize> = graph.nodes().into_iter().map(|id| (id, graph.users(id).len())).collect();
    for output in &graph.outputs {
        *readers.entry(*output).or_default() += 1;
    }
    let mut values: HashMap<NodeId, Value> = HashMap::new();
    for id in graph.topo() {
        let shape = graph.shape(id);
        let value = match graph.op(id) {
            Op::Input => Value::exact(shape, given(graph, id, input).to_vec()),
            op => {
                let reads: Vec<&Value> = graph.inputs_of(id).iter().map(|i| &values[i]).collect();
                let value = propagate(op, &graph.consts, shape, &reads, sums);
                Value { sums: made_of(op, id, &reads), ..value }
            }
        };
        if readers[&id] > 0 {
            values.insert(id, value);
        }
        for read in graph.inputs_of(id) {
            let left = readers.get_mut(&read).expect("every node is counted");
            *left -= 1;
            if *left == 0 {
                values.remove(&read);
            }
        }
    }
    let outputs = || graph.outputs.iter().map(|o| &values[o]);
    Expected {
        y: outputs().flat_map(|v| v.x.iter().copied()).collect(),
        bound: outputs().flat_map(|v| v.v.iter().map(|v| LAMBDA * U * v.sqrt())).collect(),
    }
}

/// The sums that the result of node `id` is made of element by element: itself, or those of its operands.
fn made_of(op: &Op, id: NodeId, reads: &[&Value]) -> BTreeSet<usize> {
    let all = |reads: &[&Value]| reads.iter().flat_map(|r| r.sums.iter().copied()).collect::<BTreeSet<usize>>();
    match op {
        Op::Normalize(_)
        | Op::Pad(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::PRelu(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Interpolate { .. } => all(reads),
        Op::Conv(c) if c.residual => all(&reads[reads.len() - 1..]).into_iter().chain([id.index()]).collect(),
        Op::Input
        | Op::Constant(_)
        | Op::Conv(_)
        | Op::Depthwise(_)
        | Op::Dense(_)
        | Op::ConvTranspose(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Mean { .. }
        | Op::Softmax => [id.index()].into(),
    }
}

/// The deviation of the sum of two errors: their variances add, or their deviations where the operands have a sum in common.
fn both(reads: &[&Value]) -> impl Fn(f64, f64) -> f64 + use<> {
    let common = !reads[0].sums.is_disjoint(&reads[1].sums);
    move |a, b| if common { a + b } else { a.hypot(b) }
}

/// The part of `input` that the input node `id` is.
fn given<'a>(graph: &Graph, id: NodeId, input: &'a [f32]) -> &'a [f32] {
    let before = graph.inputs.iter().take_while(|&&i| i != id).map(|&i| graph.shape(i).elements()).sum::<usize>();
    &input[before..][..graph.shape(id).elements()]
}

/// A tensor with the variance of its elements in units of `u^2`; `OPEN` where nothing is known.
#[derive(Clone)]
struct Value {
    shape: Shape,
    x: Vec<f32>,
    v: Vec<f64>,
    /// No partial sum behind these elements, in whatever order and however folded, has a larger magnitude; elements that are not
    /// finite not counted.
    most: f64,
    /// Squares of the sizes that folding leaves of an element's terms, where they are larger than the element: of a normalised
    /// pixel the raw one and the mean.
    terms: Option<Vec<f64>>,
    /// The part of the variance, over the whole tensor, that stems from constants: neighbours share it, and no mean removes it.
    shared: f64,
    /// The sums, by node, that it is made of element by element.
    sums: BTreeSet<usize>,
}

/// The largest finite magnitude.
fn largest(x: &[f32]) -> f64 {
    f64::from(x.iter().filter(|v| v.is_finite()).fold(0f32, |a, b| a.max(b.abs())))
}

impl Value {
    /// A given or constant tensor.
    fn exact(shape: Shape, x: Vec<f32>) -> Self {
        Self { shape, v: vec![0.0; x.len()], most: largest(&x), x, terms: None, shared: 1.0, sums: BTreeSet::new() }
    }

    /// A result: `v` without the rounding of the result itself, which is added here, and `most` of the sums behind it.
    fn result(shape: Shape, x: Vec<f32>, mut v: Vec<f64>, most: f64) -> Self {
        let overflow = most > f64::from(f32::MAX);
        for (v, &x) in v.iter_mut().zip(&x) {
            *v = match *v {
                _ if overflow => OPEN,
                v if !v.is_finite() => OPEN,
                // The same in every order.
                _ if !x.is_finite() => 0.0,
                v => v + f64::from(x).powi(2) + UNDERFLOW * UNDERFLOW,
            };
        }
        Self { shape, x, v, most, terms: None, shared: 1.0, sums: BTreeSet::new() }
    }

    /// With another shared part than all of the variance.
    fn sharing(self, shared: f64) -> Self {
        Self { shared, ..self }
    }

    /// Deviations in units of `u`.
    fn deviations(&self) -> impl Iterator<Item = f64> {
        self.v.iter().map(|v| v.sqrt())
    }
}

fn propagate(op: &Op, consts: &Consts, shape: Shape, reads: &[&Value], sums: Sums) -> Value {
    let forward = |op: &Op| -> Vec<f32> {
        let shapes: Vec<Shape> = reads.iter().map(|r| r.shape).collect();
        let x: Vec<&[f32]> = reads.iter().map(|r| r.x.as_slice()).collect();
        eval::node(op, consts, &shapes, shape, &x)
    };
    match op {
        Op::Input => unreachable!("given"),
        Op::Constant(value) => Value::exact(shape, consts.get(*value).to_vec()),
        Op::Conv(c) => {
            // Taken apart: convolution, residual, activation, pool.
            let x = reads[0];
            let mut plain = c.clone();
            (plain.residual, plain.pool, plain.act) = (false, false, Activation::None);
            let wide = if c.pool { Shape { h: x.shape.h, w: x.shape.w, ..shape } } else { shape };
            let mut y = linear::layer(&Op::Conv(plain), consts, wide, x, sums);
            if c.residual {
                y = propagate(&Op::Add(Activation::None), consts, wide, &[&y, reads[reads.len() - 1]], sums);
            }
            y = local::act(c.act, y);
            if c.pool { linear::mean([true, true, false], shape, &y, sums) } else { y }
        }
        Op::Depthwise(d) => {
            let mut plain = d.clone();
            plain.act = Activation::None;
            local::act(d.act, linear::layer(&Op::Depthwise(plain), consts, shape, reads[0], sums))
        }
        Op::Dense(d) => {
            let mut plain = d.clone();
            plain.act = Activation::None;
            local::act(d.act, linear::layer(&Op::Dense(plain), consts, shape, reads[0], sums))
        }
        Op::ConvTranspose(c) => {
            let mut plain = c.clone();
            plain.act = Activation::None;
            local::act(c.act, linear::layer(&Op::ConvTranspose(plain), consts, shape, reads[0], sums))
        }
        Op::Normalize(n) => {
            let (scale, shift) = (consts.get(n.scale), consts.get(n.shift));
            let affine: Vec<_> = scale.iter().zip(shift).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect();
            linear::affine(&affine, Some(&n.order), forward(op), shape, reads[0])
        }
        Op::BatchNorm(b) => linear::affine(&b.affine(consts), None, forward(op), shape, reads[0]),
        Op::Pad(p) => {
            let from = reads[0];
            let [h, w, c] = hwc(from.shape);
            let pad = |x: &[f64], border: f64| {
                let mut y = vec![0.0; shape.elements()];
                let border = vec![border; c];
                reference::pad(h, w, c, p.pad.top, p.pad.left, shape.h, shape.w, Some(&border), x, &mut y);
                y
            };
            // The border is rounded too once normalisation is folded behind it: as much as the worst pixel.
            let worst = |x: &[f64]| x.iter().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
            Value {
                v: pad(&from.v, worst(&from.v)),
                terms: from.terms.as_ref().map(|t| pad(t, worst(t))),
                most: from.most.max(p.value.map_or(0.0, |v| largest(consts.get(v)))),
                x: forward(op),
                shape,
                shared: from.shared,
                sums: BTreeSet::new(),
            }
        }
        Op::Act(act) => local::act(*act, reads[0].clone()),
        Op::PRelu(slope) => local::prelu(consts.get(*slope), forward(op), reads[0]),
        Op::Add(act) => {
            let both = both(reads);
            let v = reads[0].deviations().zip(reads[1].deviations()).map(|(a, b)| both(a, b).powi(2)).collect();
            let sum = Value::result(shape, forward(&Op::Add(Activation::None)), v, reads[0].most + reads[1].most);
            local::act(*act, sum.sharing(most_shared(reads)))
        }
        Op::Scale(act) => local::act(*act, local::product(forward(&Op::Scale(Activation::None)), shape, reads)),
        Op::Binary(b) => local::act(b.act, local::binary(*b, shape, reads)),
        Op::Pool(p) => linear::pool(p, forward(op), shape, reads[0], sums),
        Op::GlobalPool => linear::global_mean(shape, reads[0], sums),
        Op::Mean { axes } => linear::mean(*axes, shape, reads[0], sums),
        Op::Interpolate { rows, columns } => local::interpolate(rows, columns, forward(op), shape, reads[0]),
        Op::Softmax => local::softmax(forward(op), reads[0], sums),
        Op::Concat(_) | Op::Gather(_) | Op::Reshape(_) | Op::Transpose(_) => Value {
            x: forward(op),
            v: moved(op, shape, reads),
            most: reads.iter().map(|r| r.most).fold(0.0, f64::max),
            shape,
            terms: None,
            shared: most_shared(reads),
            sums: BTreeSet::new(),
        },
    }
}

/// The largest shared part.
fn most_shared(reads: &[&Value]) -> f64 {
    reads.iter().map(|r| r.shared).fold(0.0, f64::max)
}

/// The variances, where `op` moves the elements.
fn moved(op: &Op, shape: Shape, reads: &[&Value]) -> Vec<f64> {
    let mut v = vec![0.0; shape.elements()];
    let from = reads[0];
    match op {
        Op::Concat(axis) => {
            let parts: Vec<_> = reads.iter().map(|r| (hwc(r.shape), r.v.as_slice())).collect();
            reference::concat(*axis, hwc(shape), &parts, &mut v);
        }
        Op::Gather(g) => reference::gather(hwc(from.shape), g.tables(), 0.0, &from.v, &mut v),
        Op::Transpose(order) => reference::transpose(hwc(from.shape), *order, &from.v, &mut v),
        Op::Reshape(_) => v.copy_from_slice(&from.v),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Conv(_)
        | Op::Depthwise(_)
        | Op::BatchNorm(_)
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Dense(_)
        | Op::Softmax
        | Op::PRelu(_)
        | Op::Binary(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose(_) => unreachable!("it computes"),
    }
    v
}
