//! Matrix products with constant weights, and batch normalisation.

use std::rc::Rc;

use crate::front::ast::MAX_CHANNELS;
use crate::front::onnx::fold::{broadcast, sources, transpose};
use crate::front::onnx::import::{At, Import, Refusal, Value, unsupported};
use crate::front::onnx::tensor::Tensor;
use crate::front::onnx::view::{C, Factor, View, W, cut, size, whole};
use crate::ir::op::{Activation, BatchNorm, Conv, Dense};
use crate::ir::{Op, Padding, Shape};

/// `BatchNormalization`
pub(super) fn batch_norm<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    if at.attrs.int_or("training_mode", 0) != 0 || at.node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return unsupported!("in training mode");
    }
    let view = import.computed(at, 0)?;
    // of a vector each element is a channel
    let x = match view.axes.len() {
        2 => import.laid(at, &view, &[view.axes[0].clone(), Vec::new(), view.axes[1].clone()])?,
        _ => import.pixels(at, &view)?,
    };
    let c = import.graph.shape(x).c;
    let mut all = Vec::with_capacity(4);
    for (i, what) in [(1, "scale"), (2, "shift"), (3, "mean"), (4, "variance")] {
        let tensor = import.weights(at, i, what)?;
        if tensor.len() != c {
            return Err(Refusal::Wrong(format!("its {what} has {} elements for {c} channels", tensor.len())));
        }
        let data = tensor.floats().unwrap_or_default();
        if what == "variance" && data.iter().any(|x| *x < 0.0) {
            return Err(Refusal::Wrong("its variance has negative elements".into()));
        }
        all.push(import.consts(data.to_vec())?);
    }
    // The decimal that was meant, not the nearest f32 to it.
    let eps = at.attrs.float_or("epsilon", 1e-5);
    let eps = format!("{eps:?}").parse().unwrap_or(f64::from(eps));
    if !(0.0..=1.0).contains(&eps) {
        return Err(Refusal::Wrong(format!("its epsilon {eps} is not from 0 to 1")));
    }
    let op = BatchNorm { gamma: all[0], beta: all[1], mean: all[2], variance: all[3], eps };
    let y = import.add(at, "", Op::BatchNorm(op), &[x])?;
    if view.axes.len() == 2 {
        let n = size(&view.axes[0]);
        return Ok(View { node: y, axes: vec![whole(0, n), whole(C, c)] });
    }
    Ok(import.of_pixels(y, view.axes.len()))
}

/// `Gemm`: `alpha A' B' + beta C`
pub(super) fn gemm<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let a = &at.attrs;
    let (alpha, beta) = (a.float_or("alpha", 1.0), a.float_or("beta", 1.0));
    let (turn_a, turn_b) = (a.int_or("transA", 0) != 0, a.int_or("transB", 0) != 0);
    let mut view = import.computed(at, 0)?;
    let mut weight = import.weights(at, 1, "weights")?;
    if view.axes.len() != 2 || weight.dims.len() != 2 {
        return Err(Refusal::Wrong("it multiplies what is no matrix".into()));
    }
    if turn_a {
        view = view.transposed(&[1, 0]);
    }
    if turn_b {
        weight = Rc::new(transpose(&weight, None)?);
    }
    if alpha != 1.0 {
        let scaled = weight.floats().unwrap_or_default().iter().map(|w| w * alpha).collect();
        weight = Rc::new(Tensor::float(weight.dims.clone(), scaled));
    }
    let (rows, out) = (size(&view.axes[0]), weight.dims[1]);
    let mut bias = None;
    if import.value(at, 2)?.is_some() {
        let c = import.weights(at, 2, "bias")?;
        let fits = broadcast(&c.dims, &[rows, out]).is_ok_and(|d| d == [rows, out]);
        if !fits {
            return Err(Refusal::Wrong(format!("its C of shape {:?} does not go with {:?}", c.dims, [rows, out])));
        }
        if c.dims.len() == 2 && c.dims[0] != 1 {
            return unsupported!("with a C that differs from row to row");
        }
        let data = c.floats().unwrap_or_default();
        bias = Some(sources(&c.dims, &[1, out]).map(|i| data[i] * beta).collect());
    }
    product(import, at, &view, &weight, bias)
}

/// `MatMul`
pub(super) fn mat_mul<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    for i in [0, 1] {
        if let Some(Value::Constant(weight)) = import.value(at, i)? {
            import.copied(&weight)?;
        }
    }
    match (import.value(at, 0)?, import.value(at, 1)?) {
        (Some(Value::Computed(view)), Some(Value::Constant(weight))) if weight.dims.len() == 2 && !view.axes.is_empty() => {
            product(import, at, &view, &weight, None)
        }
        (Some(Value::Constant(weight)), Some(Value::Computed(view))) if weight.dims.len() == 2 && view.axes.len() == 2 => {
            let turned = transpose(&weight, None)?;
            let y = product(import, at, &view.transposed(&[1, 0]), &turned, None)?;
            Ok(y.transposed(&[1, 0]))
        }
        // A list of numbers is a column behind and a row in front, and its axis of size 1 goes.
        (Some(Value::Computed(view)), Some(Value::Constant(list))) if list.dims.len() == 1 && !view.axes.is_empty() => {
            let column = Tensor { dims: vec![list.len(), 1], data: list.data.clone() };
            let mut y = product(import, at, &view, &column, None)?;
            y.axes.pop();
            Ok(y)
        }
        (Some(Value::Constant(list)), Some(Value::Computed(view))) if list.dims.len() == 1 && view.axes.len() <= 2 => {
            let column = Tensor { dims: vec![list.len(), 1], data: list.data.clone() };
            let turned: Vec<usize> = (0..view.axes.len()).rev().collect();
            let mut y = product(import, at, &view.transposed(&turned), &column, None)?;
            y.axes.pop();
            Ok(y)
        }
        (Some(Value::Computed(_)), Some(Value::Computed(_))) => unsupported!("of two computed tensors"),
        (Some(Value::Unknown), _) | (_, Some(Value::Unknown)) => Err(Refusal::Silent),
        (None, _) | (_, None) => Err(Refusal::Wrong("an input is missing".into())),
        _ => unsupported!("with a constant of more than two axes"),
    }
}

/// The last axis of `view` times the matrix `weight`, plus `bias`.
fn product<'a>(
    import: &mut Import<'a>,
    at: &At<'_, 'a>,
    view: &View,
    weight: &Tensor,
    bias: Option<Vec<f32>>,
) -> Result<View, Refusal> {
    let dims = view.dims();
    if dims.is_empty() {
        return Err(Refusal::Wrong("it multiplies a single number".into()));
    }
    let (inner, outer) = (dims[dims.len() - 1], &dims[..dims.len() - 1]);
    let [in_c, out_c] = weight.dims[..] else { return Err(Refusal::Wrong("its weights are no matrix".into())) };
    if inner != in_c || !(1..=MAX_CHANNELS).contains(&out_c) {
        return Err(Refusal::Wrong(format!("{dims:?} cannot be multiplied by weights of shape {:?}", weight.dims)));
    }
    let Some(data) = weight.floats() else { return Err(Refusal::Wrong("its weights are not floats".into())) };
    let bias = bias.map(|b| import.consts(b)).transpose()?;
    let act = Activation::None;
    let mut axes = vec![Vec::new(); outer.len()];
    let rows: usize = outer.iter().product();
    let y = if rows == 1 {
        // Nothing need move: the rows of the matrix go where the elements are.
        let factors = view.axes.concat();
        let mut memory = factors.clone();
        memory.sort_by_key(|f| (f.axis, std::cmp::Reverse(f.stride)));
        let x = import.laid(at, view, &[Vec::new(), Vec::new(), memory.clone()])?;
        let mut turned = Vec::with_capacity(data.len());
        for row in rows_in_memory(&memory, &factors) {
            turned.extend_from_slice(&data[row * out_c..(row + 1) * out_c]);
        }
        let weight = import.consts(turned)?;
        import.add(at, "", Op::Dense(Dense { in_c, out_c, weight, bias, act }), &[x])?
    } else {
        // A product of matrices is a convolution of 1x1 over as many pixels as there are rows.
        let x = import.laid(at, view, &[Vec::new(), view.axes[..outer.len()].concat(), view.axes[outer.len()].clone()])?;
        let weight = import.consts(data.to_vec())?;
        let (one, pad) = ([1, 1], Padding::ZERO);
        let op = Conv {
            in_c,
            out_c,
            kernel: one,
            stride: one,
            dilation: one,
            groups: 1,
            pad,
            pad_value: None,
            weight,
            bias,
            act,
            residual: false,
            pool: false,
        };
        axes = cut(&whole(W, rows), outer).expect("the product of these");
        import.add(at, "", Op::Conv(op), &[x])?
    };
    axes.push(whole(C, out_c));
    debug_assert_eq!(import.graph.shape(y), Shape::hwc(1, rows, out_c));
    Ok(View { node: y, axes })
}

/// For every element in the order of `memory`, its position in the order of `factors`.
fn rows_in_memory(memory: &[Factor], factors: &[Factor]) -> Vec<usize> {
    let step = |f: &Factor| {
        let at = factors.iter().position(|g| g == f).expect("the same factors");
        size(&factors[at + 1..])
    };
    let mut places = vec![0];
    for f in memory {
        let step = step(f);
        places = places.iter().flat_map(|&p| (0..f.size).map(move |i| p + i * step)).collect();
    }
    places
}
