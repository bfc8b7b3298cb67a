//! Activations, and arithmetic of two tensors.
//!
//! Arithmetic with a constant of one number a channel, or one for all, becomes a batch norm (`x * scale + shift`), which the passes
//! fold into the convolution before it.

use super::super::fold::broadcast;
use super::super::import::{At, Import, Refusal, Value, unsupported};
use super::super::layout::Target;
use super::super::tensor::{Data, Tensor};
use super::super::view::{C, View};
use mnc_runtime::params::Real;

use crate::front::ast::MAX_CHANNELS;
use crate::front::graph::{clip, is_sixth};
use crate::ir::op::{Activation, BatchNorm, Binary, BinaryKind};
use crate::ir::{Op, Shape};

/// `activation` of input 0, wherever it lies.
fn activate<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, activation: Activation) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let node = import.add(at, "", Op::Act(activation), &[view.node])?;
    Ok(View { node, ..view })
}

/// `Relu`
pub(super) fn relu<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    activate(import, at, Activation::Relu)
}

/// `Sigmoid`
pub(super) fn sigmoid<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    activate(import, at, Activation::Sigmoid)
}

/// `HardSwish`
pub(super) fn hard_swish<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    activate(import, at, Activation::HSwish)
}

/// `Tanh`
pub(super) fn tanh<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    activate(import, at, Activation::Tanh)
}

/// `LeakyRelu`
pub(super) fn leaky_relu<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let slope = at.attrs.float_or("alpha", 0.01);
    if slope.is_finite() {
        activate(import, at, Activation::LeakyRelu(Real::new(slope)))
    } else {
        unsupported!("with slope {slope}")
    }
}

/// `Swish`: `x * sigmoid(alpha x)`
pub(super) fn swish<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let alpha = at.attrs.float_or("alpha", 1.0);
    if alpha == 1.0 { activate(import, at, Activation::Silu) } else { unsupported!("with alpha {alpha}") }
}

/// `HardSigmoid`: `max(0, min(1, alpha x + beta))`
pub(super) fn hard_sigmoid<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let (alpha, beta) = (at.attrs.float_or("alpha", 0.2), at.attrs.float_or("beta", 0.5));
    if is_sixth(alpha) && beta == 0.5 {
        return activate(import, at, Activation::HSigmoid);
    }
    if !alpha.is_finite() || !beta.is_finite() {
        return unsupported!("with alpha {alpha} and beta {beta}");
    }
    activate(import, at, Activation::HardSigmoid(Real::new(alpha), Real::new(beta)))
}

/// `Clip`
pub(super) fn clipped<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut bound = |i: usize, name: &str, default: f32| -> Result<f32, Refusal> {
        // Attributes before version 11.
        if let Some(f) = at.attrs.float(name) {
            return Ok(f);
        }
        match import.constant(at, i, "bounds")? {
            None => Ok(default),
            Some(t) => t.scalar().ok_or_else(|| Refusal::Wrong(format!("its {name} is no number"))),
        }
    };
    let (min, max) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
    if min.is_nan() || max.is_nan() {
        return Err(Refusal::Wrong("its bounds are no numbers".into()));
    }
    match clip(min, max) {
        Activation::None => import.computed(at, 0),
        act => activate(import, at, act),
    }
}

/// `PRelu`
pub(super) fn prelu<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let slope = import.weights(at, 1, "slopes")?;
    let Some(places) = channels(import.graph.shape(view.node), &view, &slope) else {
        // What is above 0, and the slopes times what is below.
        let mut part =
            |act| Ok::<_, Refusal>(View { node: import.add(at, "part", Op::Act(act), &[view.node])?, axes: view.axes.clone() });
        let (above, below) = (part(Activation::Relu)?, part(clip(f32::NEG_INFINITY, 0.0))?);
        let slope = import.constant_view(at, &slope)?;
        let below = two(import, at, &below, &slope, "Mul")?;
        return two(import, at, &above, &below, "Add");
    };
    let data = slope.floats().unwrap_or_default();
    let slope = import.consts(places.into_iter().map(|i| data[i]).collect())?;
    let node = import.add(at, "", Op::PRelu(slope), &[view.node])?;
    Ok(View { node, axes: view.axes })
}

/// `Max` and `Min` of a tensor and numbers
pub(super) fn bound<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let (mut view, mut limit) = (None, None);
    for i in 0..at.node.inputs.len() {
        match import.value(at, i)? {
            Some(Value::Computed(v)) if view.is_none() => view = Some(v),
            Some(Value::Constant(t)) if limit.is_none() && t.len() == 1 => limit = t.scalar(),
            Some(Value::Unknown) => return Err(Refusal::Silent),
            _ => return unsupported!("of several tensors"),
        }
    }
    let (Some(view), Some(limit)) = (view, limit) else { return unsupported!("of one tensor") };
    if limit.is_nan() {
        return Err(Refusal::Wrong("its bound is no number".into()));
    }
    let act = if at.node.op == "Max" { clip(limit, f32::INFINITY) } else { clip(f32::NEG_INFINITY, limit) };
    let node = import.add(at, "", Op::Act(act), &[view.node])?;
    Ok(View { node, axes: view.axes })
}

/// `Dropout`, which computes nothing at inference
pub(super) fn dropout<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let training = import.constant(at, 2, "training mode")?;
    if training.is_some_and(|t| t.data != Data::Bool(vec![false])) {
        return unsupported!("in training mode");
    }
    import.computed(at, 0)
}

/// What computes nothing at inference.
pub(super) fn identity<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    import.computed(at, 0)
}

/// `Cast` of a computed tensor, which is one of floats
pub(super) fn cast<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let float = match at.node.op {
        "CastLike" => match import.value(at, 1)? {
            Some(Value::Constant(t)) => matches!(t.data, Data::Float(_)),
            _ => true,
        },
        _ => matches!(at.attrs.int("to"), Some(1 | 10 | 11 | 16)),
    };
    if float { import.computed(at, 0) } else { unsupported!("to numbers that are no floats") }
}

/// `Neg`
pub(super) fn neg<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let c = import.graph.shape(view.node).c;
    if c > MAX_CHANNELS {
        return unsupported!("of {c} channels");
    }
    affine(import, at, &view, vec![-1.0; c], vec![0.0; c])
}

/// `Sum` of any number of tensors
pub(super) fn sum<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut sum = import.computed(at, 0)?;
    for i in 1..at.node.inputs.len() {
        sum = match import.value(at, i)? {
            Some(Value::Constant(t)) => with_constant(import, at, &sum, &t, "Add", false)?,
            _ => {
                let next = import.computed(at, i)?;
                two(import, at, &sum, &next, "Add")?
            }
        };
    }
    Ok(sum)
}

/// `Add`, `Sub`, `Mul` and `Div`
pub(super) fn binary<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let op = at.node.op;
    match (import.value(at, 0)?, import.value(at, 1)?) {
        (Some(Value::Computed(a)), Some(Value::Constant(t))) => with_constant(import, at, &a, &t, op, false),
        (Some(Value::Constant(t)), Some(Value::Computed(b))) => with_constant(import, at, &b, &t, op, true),
        _ => {
            let (a, b) = (import.computed(at, 0)?, import.computed(at, 1)?);
            two(import, at, &a, &b, op)
        }
    }
}

/// `op` of `view` and the constant `t`; `turned` where the constant stands first.
fn with_constant<'a>(
    import: &mut Import<'a>,
    at: &At<'_, 'a>,
    view: &View,
    t: &Tensor,
    op: &str,
    turned: bool,
) -> Result<View, Refusal> {
    let Some(data) = t.floats() else { return Err(Refusal::Wrong("it mixes floats and integers".into())) };
    let per_channel = if op == "Div" && turned { None } else { channels(import.graph.shape(view.node), view, t) };
    if let Some(places) = per_channel {
        let v: Vec<f32> = places.into_iter().map(|i| data[i]).collect();
        let n = v.len();
        let (scale, shift) = match (op, turned) {
            ("Add", _) => (vec![1.0; n], v),
            ("Sub", false) => (vec![1.0; n], v.iter().map(|x| -x).collect()),
            ("Sub", true) => (vec![-1.0; n], v),
            ("Mul", _) => (v, vec![0.0; n]),
            _ => (v.iter().map(|x| 1.0 / x).collect(), vec![0.0; n]),
        };
        return affine(import, at, view, scale, shift);
    }
    let constant = import.constant_view(at, t)?;
    if turned { two(import, at, &constant, view, op) } else { two(import, at, view, &constant, op) }
}

/// For every channel of the node of `view` the element of `t` that goes with it; `None` where that differs within a channel or `t` is
/// larger than the view.
fn channels(shape: Shape, view: &View, t: &Tensor) -> Option<Vec<usize>> {
    let dims = view.dims();
    let front = t.dims.len().saturating_sub(dims.len());
    if shape.c > MAX_CHANNELS || t.dims[..front].iter().any(|&d| d != 1) || broadcast(&dims, &t.dims[front..]).ok()? != dims {
        return None;
    }
    let mut places = vec![0; shape.c];
    let mut step = 1;
    for (axis, &n) in view.axes.iter().rev().zip(t.dims[front..].iter().rev()) {
        if n == 1 {
            continue;
        }
        if axis.iter().any(|f| f.axis != C) {
            return None;
        }
        for (c, place) in places.iter_mut().enumerate() {
            let index = axis.iter().fold(0, |i, f| i * f.size + c / f.stride % f.size);
            *place += index * step;
        }
        step *= n;
    }
    Some(places)
}

/// `view * scale + shift`, both of one number a channel of its node.
fn affine<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, view: &View, scale: Vec<f32>, shift: Vec<f32>) -> Result<View, Refusal> {
    if scale.iter().all(|&s| s == 1.0) && shift.iter().all(|&s| s == 0.0) {
        return Ok(view.clone());
    }
    let n = scale.len();
    let gamma = import.consts(scale)?;
    let beta = import.consts(shift)?;
    let (mean, variance) = (import.consts(vec![0.0; n])?, import.consts(vec![1.0; n])?);
    let op = BatchNorm { gamma, beta, mean, variance, eps: 0.0 };
    let node = import.add(at, "", Op::BatchNorm(op), &[view.node])?;
    Ok(View { node, axes: view.axes.clone() })
}

fn binary_op(kind: BinaryKind) -> Op {
    Op::Binary(Binary { kind, act: Activation::None })
}

/// `op` of two tensors in the graph.
fn two<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, a: &View, b: &View, op: &str) -> Result<View, Refusal> {
    let rank = a.axes.len().max(b.axes.len());
    let lengthen = |v: &View| {
        let mut axes = vec![Vec::new(); rank - v.axes.len()];
        axes.extend(v.axes.iter().cloned());
        View { node: v.node, axes }
    };
    let (a, b) = (lengthen(a), lengthen(b));
    let dims = broadcast(&a.dims(), &b.dims())?;
    // The larger one stays where it is, and the other comes to it.
    let (x, y, axes) = if a.dims() == dims {
        (a.node, import.conform(at, &b, &a, None)?, a.axes)
    } else if b.dims() == dims {
        (import.conform(at, &a, &b, None)?, b.node, b.axes)
    } else {
        let target = |v: &View| -> Option<Target> {
            let [n, c, h, w] = &v.axes[..] else { return None };
            n.is_empty().then(|| [h.clone(), w.clone(), c.clone()])
        };
        let (Some(of_a), Some(of_b)) = (target(&a), target(&b)) else {
            return unsupported!("where both inputs are stretched");
        };
        let (x, y) = (import.laid(at, &a, &of_a)?, import.laid(at, &b, &of_b)?);
        let shape = Shape::hwc(dims[2], dims[3], dims[1]);
        (x, y, View::nchw(x, shape).axes)
    };
    let one_pixel = |id| {
        let s = import.graph.shape(id);
        (s.h, s.w) == (1, 1)
    };
    let same = import.graph.shape(x) == import.graph.shape(y);
    let same_c = import.graph.shape(x).c == import.graph.shape(y).c;
    let (kind, inputs) = match op {
        "Add" if same => (Op::Add(Activation::None), [x, y]),
        "Mul" if same_c && one_pixel(y) => (Op::Scale(Activation::None), [x, y]),
        "Mul" if same_c && one_pixel(x) => (Op::Scale(Activation::None), [y, x]),
        "Add" => (binary_op(BinaryKind::Add), [x, y]),
        "Sub" => (binary_op(BinaryKind::Sub), [x, y]),
        "Mul" => (binary_op(BinaryKind::Mul), [x, y]),
        _ => (binary_op(BinaryKind::Div), [x, y]),
    };
    let node = import.add(at, "", kind, &inputs)?;
    Ok(View { node, axes })
}
