//! What changes, joins, cuts or sums up axes.

use super::super::fold::{self, Call, axes, axis, indexed, order, parts, reduced_axes, reshaped};
use super::super::import::{At, Import, Refusal, Value, unsupported};
use super::super::layout::graph_axis;
use super::super::tensor::{MAX_RANK, Tensor, bounded};
use super::super::view::{C, H, View, W, cut, size, whole};
use crate::front::ast::{MAX_CHANNELS, MAX_ELEMENTS};
use crate::front::graph::MAX_TABLE;
use crate::ir::op::Pad;
use crate::ir::{Op, Padding};

/// How a node calls folding's helpers.
fn call<'a, 'b>(import: &Import<'a>, at: &'b At<'_, 'a>) -> Call<'a, 'b> {
    Call { op: at.node.op, opset: import.opset, attrs: &at.attrs, outputs: at.node.outputs.len(), budget: 0 }
}

/// All inputs but the first as constants.
fn arguments<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<Vec<Option<std::rc::Rc<Tensor>>>, Refusal> {
    let mut all = vec![None];
    for i in 1..at.node.inputs.len() {
        all.push(import.constant(at, i, "arguments")?);
    }
    Ok(all)
}

/// `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`
pub(super) fn reshape<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let given = import.constant(at, 1, "shape")?;
    let dims = reshaped(&call(import, at), &view.dims(), given.as_deref())?;
    if let Some(view) = view.reshaped(&dims) {
        return Ok(view);
    }
    let view = import.in_order(at, &view)?;
    // All in one axis can be cut anywhere.
    let all = size(&view.axes.concat());
    let node = import.laid(at, &view, &[Vec::new(), Vec::new(), view.axes.concat()])?;
    let axes = cut(&whole(C, all), &dims).ok_or("its shape does not have as many elements as its input".to_owned())?;
    Ok(View { node, axes })
}

/// `Transpose`
pub(super) fn transpose<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    Ok(view.transposed(&order(at.attrs.ints("perm"), view.axes.len())?))
}

/// `Expand`
pub(super) fn expand<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut view = import.computed(at, 0)?;
    let shape = import.constant(at, 1, "shape")?.ok_or("it has no shape".to_owned())?;
    let dims = view.dims();
    let to = fold::broadcast(&dims, &fold::shape(&shape)?)?;
    if bounded(&to, MAX_ELEMENTS).is_none() {
        return Err(Refusal::Wrong(format!("a tensor of {to:?} is too large")));
    }
    let mut ones = vec![1; to.len() - dims.len()];
    ones.extend(&dims);
    view = view.reshaped(&ones).expect("axes of size 1 change nothing");
    for (k, (&from, &to)) in ones.iter().zip(&to).enumerate() {
        if from != to {
            view = take(import, at, &view, k, (0..to).map(|_| Some(0)), 0.0)?;
        }
    }
    Ok(view)
}

/// `Concat`
pub(super) fn concat<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let k = at.attrs.int("axis").ok_or("it has no attribute `axis`".to_owned())?;
    let mut all = Vec::new();
    for i in 0..at.node.inputs.len() {
        // An empty part adds nothing.
        if let Some(Value::Constant(t)) = import.value(at, i)?
            && t.len() == 0
        {
            continue;
        }
        all.push(import.computed(at, i)?);
    }
    let Some(first) = all.first().cloned() else { return Err(Refusal::Wrong("it has no inputs".into())) };
    let k = axis(k, first.axes.len())?;
    let dims = first.dims();
    let (first, free) = import.placed(at, &first, k)?;
    let (mut nodes, mut n) = (vec![first.node], size(&first.axes[k]));
    for view in &all[1..] {
        let own = view.dims();
        if own.len() != dims.len() || (0..dims.len()).any(|i| i != k && own[i] != dims[i]) {
            return Err(Refusal::Wrong(format!("{own:?} cannot be joined to {dims:?} at axis {k}")));
        }
        nodes.push(import.conform(at, view, &first, Some((k, free)))?);
        n += own[k];
    }
    let node = if nodes.len() == 1 { nodes[0] } else { import.join(at, &nodes, free)? };
    let mut view = View { node, axes: first.axes };
    view.axes[k] = whole(free, n);
    Ok(view)
}

/// `view` with only the elements at `positions` of its axis `k`; `None` there stands for `fill`.
pub(super) fn take<'a>(
    import: &mut Import<'a>,
    at: &At<'_, 'a>,
    view: &View,
    k: usize,
    positions: impl ExactSizeIterator<Item = Option<usize>> + Clone,
    fill: f32,
) -> Result<View, Refusal> {
    let (n, taken) = (size(&view.axes[k]), positions.len());
    if taken == 0 {
        return unsupported!("to an empty tensor");
    }
    import.budget.work(taken)?;
    if taken == n && positions.clone().enumerate().all(|(i, p)| p == Some(i)) {
        return Ok(view.clone());
    }
    if taken > MAX_TABLE {
        return Err(Refusal::Wrong(format!("it picks {taken} elements of an axis, more than {MAX_TABLE}")));
    }
    let (mut view, free) = import.placed(at, view, k)?;
    view.node = import.gathered(at, view.node, free, positions, fill)?;
    view.axes[k] = whole(free, taken);
    Ok(view)
}

/// `Slice`
pub(super) fn slice<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut view = import.computed(at, 0)?;
    let arguments = arguments(import, at)?;
    let arguments: Vec<Option<&Tensor>> = arguments.iter().map(Option::as_deref).collect();
    for (k, positions) in fold::slices(&call(import, at), &view.dims(), &arguments)? {
        view = take(import, at, &view, k, positions.each().map(Some), 0.0)?;
    }
    Ok(view)
}

/// `Split`
pub(super) fn split<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<Vec<View>, Refusal> {
    let view = import.computed(at, 0)?;
    let arguments = arguments(import, at)?;
    let arguments: Vec<Option<&Tensor>> = arguments.iter().map(Option::as_deref).collect();
    let k = axis(at.attrs.int_or("axis", 0), view.axes.len())?;
    let mut first = 0;
    let mut all = Vec::new();
    for part in parts(&call(import, at), size(&view.axes[k]), &arguments)? {
        all.push(take(import, at, &view, k, (first..first + part).map(Some), 0.0)?);
        first += part;
    }
    Ok(all)
}

/// `Gather` by constant indices
pub(super) fn gather<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let k = axis(at.attrs.int_or("axis", 0), view.axes.len())?;
    let indices = import.constant(at, 1, "indices")?.ok_or("it has no indices".to_owned())?;
    if indices.len() > MAX_TABLE {
        return Err(Refusal::Wrong(format!("it picks {} elements of an axis, more than {MAX_TABLE}", indices.len())));
    }
    let positions = indexed(&indices, size(&view.axes[k]))?;
    let mut view = take(import, at, &view, k, positions.iter().copied().map(Some), 0.0)?;
    let new = cut(&view.axes[k], &indices.dims).expect("as many as there are indices");
    view.axes.splice(k..=k, new);
    Ok(view)
}

/// `Pad` of every mode
pub(super) fn pad<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut view = import.computed(at, 0)?;
    let rank = view.axes.len();
    let (pads, value, list) = if import.opset < 11 {
        (at.attrs.ints("pads").map(<[i64]>::to_vec), at.attrs.float_or("value", 0.0), None)
    } else {
        let pads = import.constant(at, 1, "padding")?;
        let value = import.constant(at, 2, "value")?;
        let value = value.map_or(Some(0.0), |t| if t.len() == 0 { Some(0.0) } else { t.scalar() });
        let list = import.constant(at, 3, "axes")?;
        let pads = pads.filter(|p| p.len() <= 2 * MAX_RANK).and_then(|p| p.ints().map(<[i64]>::to_vec));
        (pads, value.ok_or("its value is no number".to_owned())?, list)
    };
    let pads = pads.ok_or("it has no pads".to_owned())?;
    let which = match list {
        Some(list) => axes(list.ints().ok_or("its axes are no integers".to_owned())?, rank)?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * which.len() {
        return Err(Refusal::Wrong(format!("{} pads for {} axes", pads.len(), which.len())));
    }
    let limit = crate::front::ast::MAX_SIDE as u64;
    if let Some(p) = pads.iter().find(|p| p.unsigned_abs() > limit) {
        return Err(Refusal::Wrong(format!("{p} in its pads is not within {limit}")));
    }
    let mode = at.attrs.text("mode").unwrap_or("constant");
    if !matches!(mode, "constant" | "edge" | "wrap" | "reflect") {
        return Err(Refusal::Wrong(format!("its mode `{mode}` is none of ONNX's")));
    }
    let around: Vec<(usize, i64, i64)> = which.iter().enumerate().map(|(i, &k)| (k, pads[i], pads[i + which.len()])).collect();
    if mode == "constant"
        && let Some(view) = window_pad(import, at, &view, &around, value)?
    {
        return Ok(view);
    }
    for (k, before, after) in around.into_iter().filter(|&(_, b, a)| (b, a) != (0, 0)) {
        let n = size(&view.axes[k]) as i64;
        let padded = usize::try_from(n + before + after).unwrap_or(0);
        view = take(import, at, &view, k, (0..padded).map(|i| source(mode, i as i64 - before, n)), value)?;
    }
    Ok(view)
}

/// The element that position `i` of a padded axis of `n` shows; `None` for the value.
fn source(mode: &str, i: i64, n: i64) -> Option<usize> {
    let at = match mode {
        "edge" => i.clamp(0, n - 1),
        "wrap" => i.rem_euclid(n),
        // the edge itself is not repeated
        "reflect" if n == 1 => 0,
        "reflect" => {
            let i = i.rem_euclid(2 * (n - 1));
            if i < n { i } else { 2 * (n - 1) - i }
        }
        _ => return (0..n).contains(&i).then_some(i as usize),
    };
    Some(at as usize)
}

/// The padding as one of rows and columns, which convolutions can take in, with the axis that each is; `None` where it is not.
fn window_pad<'a>(
    import: &mut Import<'a>,
    at: &At<'_, 'a>,
    view: &View,
    around: &[(usize, i64, i64)],
    value: f32,
) -> Result<Option<View>, Refusal> {
    let shape = import.graph.shape(view.node);
    if shape.c > MAX_CHANNELS {
        return Ok(None);
    }
    let mut sides = [None, None];
    for &(k, before, after) in around.iter().filter(|&&(_, b, a)| (b, a) != (0, 0)) {
        let (Ok(before), Ok(after)) = (usize::try_from(before), usize::try_from(after)) else { return Ok(None) };
        match graph_axis(view, shape, k) {
            Some(axis @ (H | W)) if sides[axis].is_none() => sides[axis] = Some((k, before, after)),
            _ => return Ok(None),
        }
    }
    let amount = |axis: usize| sides[axis].map_or((0, 0), |(_, before, after)| (before, after));
    let ((top, bottom), (left, right)) = (amount(H), amount(W));
    let mut view = view.clone();
    let pad = Padding { top, left, bottom, right };
    if !pad.is_zero() {
        let value = if value == 0.0 { None } else { Some(import.consts(vec![value; shape.c])?) };
        view.node = import.add(at, "", Op::Pad(Pad { pad, value }), &[view.node])?;
    }
    let padded = import.graph.shape(view.node);
    for (axis, n) in [(H, padded.h), (W, padded.w)] {
        if let Some((k, ..)) = sides[axis] {
            view.axes[k] = whole(axis, n);
        }
    }
    Ok(Some(view))
}

/// `GlobalAveragePool`
pub(super) fn global_average<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let gone: Vec<usize> = (2..view.axes.len()).collect();
    averaged(import, at, &view, &gone, true)
}

/// `ReduceMean`
pub(super) fn mean<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let given = import.constant(at, 1, "axes")?;
    let gone = reduced_axes(&call(import, at), view.axes.len(), given.as_deref())?;
    averaged(import, at, &view, &gone, at.attrs.int_or("keepdims", 1) == 1)
}

/// The mean over the axes `gone`, which stay as axes of size 1 if `keep`.
fn averaged<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, view: &View, gone: &[usize], keep: bool) -> Result<View, Refusal> {
    let is_gone: Vec<bool> = (0..view.axes.len()).map(|k| gone.contains(&k)).collect();
    let lies = |axis: usize, in_gone: bool| {
        view.axes.iter().zip(&is_gone).any(|(factors, &g)| g == in_gone && factors.iter().any(|f| f.axis == axis))
    };
    let mut view = view.clone();
    // Each graph axis must go or stay as a whole; else those that go become rows.
    if [H, W, C].into_iter().any(|axis| lies(axis, true) && lies(axis, false)) {
        let of = |wanted: bool| {
            view.axes.iter().zip(&is_gone).filter(|(_, g)| **g == wanted).flat_map(|(f, _)| f.iter().copied()).collect::<Vec<_>>()
        };
        let (out, kept) = (of(true), of(false));
        let node = import.laid(at, &view, &[out.clone(), Vec::new(), kept.clone()])?;
        let dims = view.dims();
        let sizes = |wanted: bool| (0..dims.len()).map(|k| if is_gone[k] == wanted { dims[k] } else { 1 }).collect::<Vec<_>>();
        let (rows, channels) = (cut(&whole(H, size(&out)), &sizes(true)), cut(&whole(C, size(&kept)), &sizes(false)));
        let (rows, channels) = (rows.expect("the product of these"), channels.expect("the product of these"));
        view = View {
            node,
            axes: (0..dims.len()).map(|k| if is_gone[k] { rows[k].clone() } else { channels[k].clone() }).collect(),
        };
    }
    let gone_axes =
        [H, W, C].map(|axis| view.axes.iter().zip(&is_gone).any(|(factors, &g)| g && factors.iter().any(|f| f.axis == axis)));
    let node = import.averaged_axes(at, view.node, gone_axes)?;
    let mut axes = Vec::new();
    for (factors, gone) in view.axes.into_iter().zip(is_gone) {
        match (gone, keep) {
            (false, _) => axes.push(factors),
            (true, true) => axes.push(Vec::new()),
            (true, false) => {}
        }
    }
    Ok(View { node, axes })
}

/// `Softmax`
pub(super) fn softmax<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let rank = view.axes.len();
    let old = import.opset < 13;
    let k = axis(at.attrs.int_or("axis", if old { 1 } else { -1 }), rank)?;
    // Up to version 12 all axes from there on are one.
    let (last, behind) =
        if old { (view.axes[k..].concat(), Vec::new()) } else { (view.axes[k].clone(), view.axes[k + 1..].concat()) };
    let shape = import.graph.shape(view.node);
    if last == whole(C, shape.c) {
        let node = import.add(at, "", Op::Softmax, &[view.node])?;
        return Ok(View { node, axes: view.axes });
    }
    let dims = view.dims();
    let (before, axis_dims) = (&dims[..k], if old { &dims[k..] } else { &dims[k..=k] });
    let after = if old { &dims[rank..] } else { &dims[k + 1..] };
    let target = [view.axes[..k].concat(), behind, last];
    let node = import.laid(at, &view, &target)?;
    let node = import.add(at, "", Op::Softmax, &[node])?;
    let part = |axis: usize, n: &[usize]| cut(&whole(axis, n.iter().product()), n).expect("the product of these");
    let mut axes = part(H, before);
    axes.extend(part(C, axis_dims));
    axes.extend(part(W, after));
    Ok(View { node, axes })
}
