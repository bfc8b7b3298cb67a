//! How far two ways of computing one net may lie apart by rounding alone: a bound for each output element, derived from the net.
//!
//! Every constant, product and result carries a relative error of at most `u = 2^-24` per rounding. Errors of different origin
//! are taken as independent, so their squares add (Higham, Mary: A new approach to probabilistic rounding error analysis, 2019):
//! each op maps the variance of its inputs, in units of `u^2`, to that of its output. Where errors are plainly shared (an average
//! of pixels that came through the same weights, a tensor added to itself) deviations add instead. The bound is [`LAMBDA`]
//! deviations. Over 6000 random nets the passes used up at most a third of it.
//!
//! Nothing here is fitted: a net of one layer on values near one gets some 1e-6, a wrong border pixel is off by 1e-2.

use std::collections::HashMap;

use mnc_compiler::ir::eval::eval;
use mnc_compiler::ir::op::{Activation, Binary, BinaryKind, Op, PoolKind, Real};
use mnc_compiler::ir::{Consts, Graph, NodeId, Shape};

/// Deviations in the bound.
pub const LAMBDA: f64 = 4.0;

/// Roundings that one constant goes through when passes fold batch norm and normalisation into it, and one more.
const FOLDS: f64 = 4.0;

/// How the compared computation adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sums {
    /// In f64, rounded once: the evaluator.
    F64,
    /// In f32: kernels. Every addition rounds.
    F32,
}

/// A tensor with the variance of its elements in units of `u^2`.
#[derive(Clone)]
struct Value {
    shape: Shape,
    x: Vec<f32>,
    v: Vec<f64>,
}

/// The bound for every element of the net's outputs, one behind the other, on `input`, which holds all inputs the same way.
pub fn bound(graph: &Graph, input: &[f32], sums: Sums) -> Vec<f64> {
    let mut values: HashMap<NodeId, Value> = HashMap::new();
    for id in graph.topo() {
        let shape = graph.shape(id);
        let reads: Vec<&Value> = graph.inputs_of(id).iter().map(|i| &values[i]).collect();
        let value = match graph.op(id) {
            Op::Input => {
                let x = given(graph, id, input);
                Value { shape, x: x.to_vec(), v: vec![0.0; x.len()] }
            }
            op => propagate(op, &graph.consts, shape, &reads, sums),
        };
        values.insert(id, value);
    }
    let variances = graph.outputs.iter().flat_map(|o| &values[o].v);
    variances.map(|v| LAMBDA * v.sqrt() / f64::from(1 << 24)).collect()
}

/// The part of `input` that the input node `id` is.
fn given<'a>(graph: &Graph, id: NodeId, input: &'a [f32]) -> &'a [f32] {
    let before = graph.inputs.iter().take_while(|&&i| i != id).map(|&i| graph.shape(i).elements()).sum::<usize>();
    &input[before..][..graph.shape(id).elements()]
}

/// Panics where `got` and `want` lie further apart than `bound`; `what` says which net it was.
pub fn assert_close(want: &[f32], got: &[f32], bound: &[f64], what: &str) {
    assert_eq!(want.len(), got.len(), "{what}: lengths");
    for (i, ((w, g), b)) in want.iter().zip(got).zip(bound).enumerate() {
        let off = (f64::from(*w) - f64::from(*g)).abs();
        // Not `>`: NaN must fail.
        assert!(off <= *b, "{what}: element {i} is {g}, not {w}: off by {off:e}, bound {b:e}");
    }
}

fn squares(x: &[f32]) -> Vec<f32> {
    x.iter().map(|v| v * v).collect()
}

fn deviations(v: &[f64]) -> Vec<f32> {
    v.iter().map(|v| v.sqrt() as f32).collect()
}

/// Runs one op on other numbers: `change` replaces its constants.
fn run(op: &Op, consts: &Consts, inputs: &[(Shape, &[f32])], change: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
    let mut graph = Graph::default();
    let ids: Vec<NodeId> = inputs.iter().enumerate().map(|(i, (s, _))| graph.add_input(format!("i{i}"), *s)).collect();
    let mut op = op.clone();
    let mut map = |id: &mut _| *id = graph.consts.add(change(consts.get(*id)));
    match &mut op {
        Op::Conv(c) => {
            map(&mut c.weight);
            c.bias.iter_mut().chain(&mut c.pad_value).for_each(&mut map);
        }
        Op::Depthwise(d) => {
            map(&mut d.weight);
            d.bias.iter_mut().chain(&mut d.pad_value).for_each(&mut map);
        }
        Op::Dense(d) => {
            map(&mut d.weight);
            d.bias.iter_mut().for_each(&mut map);
        }
        Op::Normalize(n) => {
            map(&mut n.scale);
            map(&mut n.shift);
        }
        Op::Pad(p) => p.value.iter_mut().for_each(&mut map),
        Op::BatchNorm(_) => unreachable!("handled by its affine form"),
        Op::ConvTranspose(c) => {
            map(&mut c.weight);
            c.bias.iter_mut().for_each(&mut map);
        }
        Op::PRelu(slope) => map(slope),
        Op::Constant(_)
        | Op::Input
        | Op::Act(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Softmax
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. } => {}
    }
    let y = graph.add("y", op, &ids).expect("the same op on the same shapes");
    graph.outputs.push(y);
    let slices: Vec<&[f32]> = inputs.iter().map(|(_, x)| *x).collect();
    eval(&graph, &slices).swap_remove(0)
}

fn propagate(op: &Op, consts: &Consts, shape: Shape, reads: &[&Value], sums: Sums) -> Value {
    let forward = |op: &Op| -> Vec<f32> {
        let inputs: Vec<(Shape, &[f32])> = reads.iter().map(|r| (r.shape, r.x.as_slice())).collect();
        run(op, consts, &inputs, <[f32]>::to_vec)
    };
    // One rounding of the result itself.
    let rounded = |x: Vec<f32>, v: Vec<f64>| {
        let v = v.iter().zip(&x).map(|(v, x)| v + f64::from(x * x)).collect();
        Value { shape, x, v }
    };
    match op {
        Op::Input => unreachable!("given"),
        Op::Constant(value) => Value { shape, x: consts.get(*value).to_vec(), v: vec![0.0; shape.elements()] },
        Op::Conv(c) => {
            // Taken apart: convolution, residual, activation, pool.
            let x = reads[0];
            let mut plain = c.clone();
            (plain.residual, plain.pool, plain.act) = (false, false, Activation::None);
            let terms = c.kernel[0] * c.kernel[1] * c.in_c / c.groups;
            let wide = if c.pool { Shape { h: x.shape.h, w: x.shape.w, ..shape } } else { shape };
            let mut y = linear(&Op::Conv(plain), consts, wide, x, terms, sums);
            if c.residual {
                y = propagate(&Op::Add(Activation::None), consts, wide, &[&y, reads[reads.len() - 1]], sums);
            }
            y = propagate(&Op::Act(c.act), consts, wide, &[&y], sums);
            if c.pool { propagate(&Op::GlobalPool, consts, shape, &[&y], sums) } else { y }
        }
        Op::Depthwise(d) => {
            let mut plain = d.clone();
            plain.act = Activation::None;
            let y = linear(&Op::Depthwise(plain), consts, shape, reads[0], d.kernel[0] * d.kernel[1], sums);
            propagate(&Op::Act(d.act), consts, shape, &[&y], sums)
        }
        Op::Dense(d) => {
            let mut plain = d.clone();
            plain.act = Activation::None;
            let y = linear(&Op::Dense(plain), consts, shape, reads[0], d.in_c, sums);
            propagate(&Op::Act(d.act), consts, shape, &[&y], sums)
        }
        Op::Normalize(_) => linear(op, consts, shape, reads[0], 1, sums),
        Op::BatchNorm(b) => {
            let affine = b.affine(consts);
            let mut x = vec![0.0; shape.elements()];
            let mut v = vec![0.0; shape.elements()];
            for i in 0..x.len() {
                let ((scale, shift), from) = (affine[i % shape.c], f64::from(reads[0].x[i]));
                x[i] = (from * scale + shift) as f32;
                v[i] = scale * scale * (reads[0].v[i] + FOLDS * from * from) + FOLDS * shift * shift;
            }
            rounded(x, v)
        }
        Op::Pad(_) => {
            // The border is rounded too once normalisation is folded behind it: as much as the worst pixel.
            let worst = reads[0].v.iter().fold(0f64, |a, b| a.max(*b));
            let v: Vec<f32> = reads[0].v.iter().map(|v| (v - worst) as f32).collect();
            let v = run(op, consts, &[(reads[0].shape, &v)], |c| vec![0.0; c.len()]);
            Value { shape, x: forward(op), v: v.iter().map(|v| (f64::from(*v) + worst).max(0.0)).collect() }
        }
        Op::Act(act) => {
            let slope: f64 = match act {
                Activation::None => return reads[0].clone(),
                Activation::Relu | Activation::Relu6 => 1.0,
                Activation::HSwish => 1.5,
                Activation::HSigmoid => 1.0 / 6.0,
                Activation::Sigmoid => 0.25,
                Activation::Clip(..) | Activation::Tanh => 1.0,
                Activation::Silu => 1.1,
                Activation::LeakyRelu(slope) => f64::from(slope.get()).abs().max(1.0),
                Activation::HardSigmoid(alpha, _) => f64::from(alpha.get()).abs(),
            };
            // The inner results of a kernel's formula round too: sizes up to one (and the argument for hswish).
            let inner = match act {
                Activation::None | Activation::Relu | Activation::Relu6 | Activation::LeakyRelu(_) | Activation::Clip(..) => 0.0,
                Activation::HSwish | Activation::HSigmoid | Activation::Sigmoid | Activation::HardSigmoid(..) => FOLDS,
                // Sums of two polynomials each of several terms, and a quotient.
                Activation::Tanh | Activation::Silu => 2.0 * FOLDS,
            };
            let v = reads[0].v.iter().map(|v| slope * slope * v).collect::<Vec<_>>();
            let y = rounded(forward(op), v);
            let v = y.v.iter().zip(&y.x).map(|(v, y)| v + inner * f64::from(y * y)).collect();
            Value { v, ..y }
        }
        Op::Add(act) => {
            let x = forward(&Op::Add(Activation::None));
            let v = reads[0].v.iter().zip(&reads[1].v).map(|(a, b)| (a.sqrt() + b.sqrt()).powi(2)).collect();
            let y = rounded(x, v);
            propagate(&Op::Act(*act), consts, shape, &[&y], sums)
        }
        Op::Scale(act) => {
            let x = forward(&Op::Scale(Activation::None));
            let v = (0..x.len())
                .map(|i| {
                    let (s, x) = (f64::from(reads[1].x[i % shape.c]), f64::from(reads[0].x[i]));
                    (s.abs() * reads[0].v[i].sqrt() + x.abs() * reads[1].v[i % shape.c].sqrt()).powi(2)
                })
                .collect();
            let y = rounded(x, v);
            propagate(&Op::Act(*act), consts, shape, &[&y], sums)
        }
        Op::Pool(p) => {
            let e = run(op, consts, &[(reads[0].shape, &deviations(&reads[0].v))], <[f32]>::to_vec);
            let own = match (p.kind, sums) {
                (PoolKind::Average, Sums::F32) => {
                    let squares = run(op, consts, &[(reads[0].shape, &squares(&reads[0].x))], <[f32]>::to_vec);
                    squares.iter().map(|v| f64::from(*v) * (p.kernel[0] * p.kernel[1]) as f64).collect()
                }
                (PoolKind::Average, Sums::F64) | (PoolKind::Max, _) => vec![0.0; e.len()],
            };
            rounded(forward(op), e.iter().zip(own).map(|(e, o)| f64::from(e * e) + o).collect())
        }
        Op::ConvTranspose(c) => {
            let mut plain = c.clone();
            plain.act = Activation::None;
            let terms = c.kernel[0] * c.kernel[1] * c.in_c / c.groups;
            let y = linear(&Op::ConvTranspose(plain), consts, shape, reads[0], terms, sums);
            propagate(&Op::Act(c.act), consts, shape, &[&y], sums)
        }
        Op::PRelu(slope) => {
            let slope = consts.get(*slope);
            let v = reads[0].v.iter().enumerate().map(|(i, v)| v * f64::from(slope[i % shape.c]).powi(2).max(1.0)).collect();
            rounded(forward(op), v)
        }
        Op::Binary(b) => {
            let plain = Binary { act: Activation::None, ..*b };
            let x = forward(&Op::Binary(plain));
            let at = |r: &Value, y: usize, x: usize, c: usize| {
                let s = r.shape;
                let clip = |i: usize, len: usize| if len == 1 { 0 } else { i };
                let i = (clip(y, s.h) * s.w + clip(x, s.w)) * s.c + clip(c, s.c);
                (f64::from(r.x[i]), r.v[i].sqrt())
            };
            let mut v = Vec::with_capacity(x.len());
            for i in 0..x.len() {
                let (row, column, c) = (i / (shape.w * shape.c), i / shape.c % shape.w, i % shape.c);
                let ((a, ea), (b, eb)) = (at(reads[0], row, column, c), at(reads[1], row, column, c));
                v.push(match plain.kind {
                    BinaryKind::Add | BinaryKind::Sub => (ea + eb).powi(2),
                    BinaryKind::Mul => (b.abs() * ea + a.abs() * eb).powi(2),
                    BinaryKind::Div => (ea / b.abs() + (a / (b * b)).abs() * eb).powi(2),
                });
            }
            let y = rounded(x, v);
            propagate(&Op::Act(b.act), consts, shape, &[&y], sums)
        }
        Op::Concat(_) | Op::Gather(_) | Op::Reshape(_) | Op::Transpose(_) => {
            let mut moved = op.clone();
            if let Op::Gather(g) = &mut moved {
                g.fill = Real::new(0.0);
            }
            let all: Vec<Vec<f32>> = reads.iter().map(|r| r.v.iter().map(|v| *v as f32).collect()).collect();
            let inputs: Vec<(Shape, &[f32])> = reads.iter().zip(&all).map(|(r, v)| (r.shape, v.as_slice())).collect();
            let v = run(&moved, consts, &inputs, <[f32]>::to_vec);
            Value { shape, x: forward(op), v: v.iter().map(|v| f64::from(*v)).collect() }
        }
        Op::Mean { axes } => {
            let from = reads[0].shape;
            let e = run(op, consts, &[(from, &deviations(&reads[0].v))], <[f32]>::to_vec);
            let terms: usize = [from.h, from.w, from.c].iter().zip(axes).map(|(n, over)| if *over { *n } else { 1 }).product();
            let own: Vec<f64> = match sums {
                Sums::F64 => vec![0.0; e.len()],
                Sums::F32 => {
                    let squares = run(op, consts, &[(from, &squares(&reads[0].x))], <[f32]>::to_vec);
                    squares.iter().map(|v| f64::from(*v) * terms as f64).collect()
                }
            };
            rounded(forward(op), e.iter().zip(own).map(|(e, o)| f64::from(e * e) + o).collect())
        }
        Op::Interpolate { .. } => {
            let e = run(op, consts, &[(reads[0].shape, &deviations(&reads[0].v))], <[f32]>::to_vec);
            // Three roundings along each axis.
            let sizes: Vec<f32> = reads[0].x.iter().map(|x| x.abs()).collect();
            let own = run(op, consts, &[(reads[0].shape, &sizes)], <[f32]>::to_vec);
            rounded(forward(op), e.iter().zip(own).map(|(e, o)| f64::from(e * e) + 6.0 * f64::from(o * o)).collect())
        }
        Op::GlobalPool => {
            let from = reads[0].shape;
            let e = run(op, consts, &[(from, &deviations(&reads[0].v))], <[f32]>::to_vec);
            let own: Vec<f64> = match sums {
                Sums::F64 => vec![0.0; e.len()],
                Sums::F32 => {
                    let squares = run(op, consts, &[(from, &squares(&reads[0].x))], <[f32]>::to_vec);
                    squares.iter().map(|v| f64::from(*v) * (from.h * from.w) as f64).collect()
                }
            };
            rounded(forward(op), e.iter().zip(own).map(|(e, o)| f64::from(e * e) + o).collect())
        }
        Op::Softmax => {
            let y = forward(op);
            let e = deviations(&reads[0].v);
            // d y_i = y_i (d x_i - sum y_j d x_j); exp and sum of a kernel: the argument's own rounding, and one a term.
            let n = if sums == Sums::F32 { FOLDS + shape.c as f64 } else { 1.0 };
            let mut v = Vec::with_capacity(y.len());
            for ((y, e), x) in y.chunks(shape.c).zip(e.chunks(shape.c)).zip(reads[0].x.chunks(shape.c)) {
                let mean: f64 = y.iter().zip(e).map(|(y, e)| f64::from(y * e)).sum();
                let top = x.iter().fold(f32::NEG_INFINITY, |a, b| a.max(*b));
                v.extend((0..y.len()).map(|i| {
                    let argument = if sums == Sums::F32 { f64::from(top - x[i]) } else { 0.0 };
                    let e = f64::from(e[i]) + mean + argument + n.sqrt();
                    (f64::from(y[i]) * e).powi(2)
                }));
            }
            rounded(y, v)
        }
    }
}

/// A layer that is linear in `x` with `terms` products a sum: variances go through squared weights, and every product carries
/// the roundings of its weight and, in f32, of the sums it went through.
fn linear(op: &Op, consts: &Consts, shape: Shape, x: &Value, terms: usize, sums: Sums) -> Value {
    let roundings = FOLDS + if sums == Sums::F32 { terms as f64 } else { 0.0 };
    let y = run(op, consts, &[(x.shape, &x.x)], <[f32]>::to_vec);
    let squared: Vec<f32> = squares(&x.x);
    let own = run(op, consts, &[(x.shape, &squared)], squares);
    // Without biases and padding content, which carry no error from before.
    let v32: Vec<f32> = x.v.iter().map(|v| *v as f32).collect();
    let with = run(op, consts, &[(x.shape, &v32)], squares);
    let constant = run(op, consts, &[(x.shape, &vec![0.0; v32.len()])], squares);
    let v = (0..y.len())
        .map(|i| {
            let before = f64::from(with[i]) - f64::from(constant[i]);
            before.max(0.0) + roundings * f64::from(own[i]) + f64::from(y[i] * y[i])
        })
        .collect();
    Value { shape, x: y, v }
}
