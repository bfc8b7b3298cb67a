//! What changes, joins, cuts or sums up axes.

use super::{Results, activated, one, single};
use crate::front::tflite::nodes::{At, Attr, Name, Refusal, Writer, unsupported};
use crate::front::tflite::schema::Malformed;

/// Input `i` as a list of one axis: where TFLite takes a single number too.
fn listed(w: &mut Writer<'_, '_>, at: &At<'_, '_>, i: usize) -> Result<Name, Malformed> {
    let x = w.input(at, i)?;
    let all = w.list(vec![-1]);
    Ok(w.node(at, "Reshape", vec![x, all], Vec::new()))
}

/// The one number that input `i` is.
fn number(w: &Writer<'_, '_>, at: &At<'_, '_>, i: usize, what: &str) -> Result<i64, Refusal> {
    match w.constant(at, i, what)?[..] {
        [n] => Ok(n),
        ref all => Err(Malformed(format!("the {what} of a {} is {} numbers", at.called, all.len())).into()),
    }
}

/// `PAD` and `PADV2`: `[before, after]` of every axis
pub(super) fn pad(w: &mut Writer<'_, '_>, at: &At<'_, '_>, mode: &'static str) -> Results {
    let (x, pads, value) = (w.input(at, 0)?, w.input(at, 1)?, w.optional(at, 2));
    let pads = super::permuted(w, at, pads, &[1, 0]);
    let all = w.list(vec![-1]);
    let pads = w.node(at, "Reshape", vec![pads, all], Vec::new());
    let inputs = if value.is_empty() { vec![x, pads] } else { vec![x, pads, value] };
    Ok(vec![w.node(at, "Pad", inputs, vec![("mode", Attr::Text(mode))])])
}

/// `MIRROR_PAD`
pub(super) fn mirror_pad(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    const REFLECT: i8 = 0;
    if at.options.byte(0)? == REFLECT {
        return pad(w, at, "reflect");
    }
    // With the edge repeated: of one element that is the edge.
    match w.constant(at, 1, "padding")?.iter().max() {
        Some(0..=1) | None => pad(w, at, "edge"),
        Some(n) => unsupported!("that repeats the edge, of {n} elements"),
    }
}

/// `RESHAPE`: the shape is an input, or in old files an option
pub(super) fn reshape(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let x = w.input(at, 0)?;
    let shape = match w.tensor(at, 1) {
        Some(shape) => w.names[shape].clone(),
        None => {
            let shape = at.options.ints(0)?;
            w.list(shape)
        }
    };
    Ok(vec![w.node(at, "Reshape", vec![x, shape], Vec::new())])
}

/// `SQUEEZE`: of all axes of size 1 where none are named
pub(super) fn squeeze(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let axes = at.options.ints(0)?;
    if axes.is_empty() {
        return one(w, at, "Squeeze");
    }
    let (x, axes) = (w.input(at, 0)?, w.list(axes));
    Ok(vec![w.node(at, "Squeeze", vec![x, axes], Vec::new())])
}

/// `EXPAND_DIMS`
pub(super) fn expand_dims(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, axes) = (w.input(at, 0)?, listed(w, at, 1)?);
    Ok(vec![w.node(at, "Unsqueeze", vec![x, axes], Vec::new())])
}

/// `TRANSPOSE`
pub(super) fn transpose(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, order) = (w.input(at, 0)?, w.constant(at, 1, "order")?);
    if order.len() > 32 {
        return Err(Malformed(format!("a {} of {} axes", at.called, order.len())).into());
    }
    Ok(vec![super::permuted(w, at, x, &order)])
}

/// `CONCATENATION`
pub(super) fn concatenation(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let axis = at.options.int(0, 0)?;
    let inputs = w.inputs(at);
    let y = w.node(at, "Concat", inputs, vec![("axis", Attr::Int(axis.into()))]);
    Ok(vec![activated(w, at, y, at.options.byte(1)?)?])
}

/// `SPLIT` in equal parts: the axis is input 0
pub(super) fn split(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (axis, x, n) = (number(w, at, 0, "axis")?, w.input(at, 1)?, at.op.outputs.len());
    Ok(w.nodes(at, "Split", vec![x], n, vec![("axis", Attr::Int(axis)), ("num_outputs", Attr::Int(n as i64))]))
}

/// `SPLIT_V` in parts of given sizes, of which one may be -1: what is left
pub(super) fn split_v(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, mut sizes, axis) = (w.given(at, 0)?, w.constant(at, 1, "sizes")?, number(w, at, 2, "axis")?);
    let dims = &w.model.tensors[x].signature;
    if let Some(open) = sizes.iter().position(|&n| n == -1) {
        let at_axis = if axis < 0 { axis + dims.len() as i64 } else { axis };
        let whole = usize::try_from(at_axis).ok().and_then(|a| dims.get(a)).copied();
        let Some(whole @ 1..) = whole else { return unsupported!("of an axis whose size is left open") };
        let others: i64 = sizes.iter().fold(1, |sum: i64, n| sum.saturating_add(*n));
        sizes[open] = i64::from(whole).saturating_sub(others);
    }
    let (name, n) = (w.names[x].clone(), at.op.outputs.len());
    let sizes = w.list(sizes);
    Ok(w.nodes(at, "Split", vec![name, sizes], n, vec![("axis", Attr::Int(axis))]))
}

/// `SLICE`: from `begin` on `size` elements of each axis, all that are left where it is -1
pub(super) fn slice(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, begin, size) = (w.input(at, 0)?, w.input(at, 1)?, w.input(at, 2)?);
    let (all, last) = (w.number(-1), w.number(i64::from(i32::MAX)));
    let open = w.node(at, "Equal", vec![size.clone(), all], Vec::new());
    let end = w.node(at, "Add", vec![begin.clone(), size], Vec::new());
    let end = w.node(at, "Where", vec![open, last, end], Vec::new());
    Ok(vec![w.node(at, "Slice", vec![x, begin, end], Vec::new())])
}

/// `STRIDED_SLICE` by constants: bits of masks say for an axis that it begins or ends where it does, or that one element is taken
/// and the axis goes
pub(super) fn strided_slice(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, begin, end, step) =
        (w.input(at, 0)?, w.constant(at, 1, "bounds")?, w.constant(at, 2, "bounds")?, w.constant(at, 3, "steps")?);
    if begin.len() != end.len() || begin.len() != step.len() || begin.len() > 32 {
        return Err(Malformed(format!("a {} with bounds {begin:?}, {end:?} and steps {step:?}", at.called)).into());
    }
    if at.options.int(2, 0)? != 0 || at.options.int(3, 0)? != 0 {
        return unsupported!("with an ellipsis or new axes");
    }
    let bit = |number: usize, axis: usize| -> Result<bool, Malformed> { Ok(at.options.int(number, 0)? >> axis & 1 == 1) };
    let from_begin = at.options.flag(5)?;
    let (mut starts, mut ends, mut steps, mut gone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for axis in 0..begin.len() {
        let (mut from, mut to, mut by) = (begin[axis], end[axis], step[axis]);
        if from_begin {
            to = to.saturating_add(from);
        }
        if bit(4, axis)? {
            (to, by) = (if from == -1 { i64::from(i32::MAX) } else { from.saturating_add(1) }, 1);
            gone.push(axis as i64);
        } else {
            let (first, last) = if by > 0 { (0, i64::from(i32::MAX)) } else { (i64::from(i32::MAX), i64::MIN) };
            from = if bit(0, axis)? { first } else { from };
            to = if bit(1, axis)? { last } else { to };
        }
        starts.push(from);
        ends.push(to);
        steps.push(by);
    }
    let axes = (0..begin.len() as i64).collect();
    let [starts, ends, axes, steps] = [starts, ends, axes, steps].map(|list| w.list(list));
    let y = w.node(at, "Slice", vec![x, starts, ends, axes, steps], Vec::new());
    if gone.is_empty() {
        return Ok(vec![y]);
    }
    let gone = w.list(gone);
    Ok(vec![w.node(at, "Squeeze", vec![y, gone], Vec::new())])
}

/// `GATHER`
pub(super) fn gather(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    if at.options.int(1, 0)? != 0 {
        return unsupported!("in batches");
    }
    let axis = at.options.int(0, 0)?;
    single(w, at, "Gather", vec![("axis", Attr::Int(axis.into()))])
}

/// `PACK`: tensors one behind the other along a new axis
pub(super) fn pack(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let axis = i64::from(at.options.int(1, 0)?);
    let list = w.list(vec![axis]);
    let mut all = Vec::new();
    for x in w.inputs(at) {
        all.push(w.node(at, "Unsqueeze", vec![x, list.clone()], Vec::new()));
    }
    Ok(vec![w.node(at, "Concat", all, vec![("axis", Attr::Int(axis))])])
}

/// `UNPACK`: the elements of an axis, which goes
pub(super) fn unpack(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, axis, n) = (w.input(at, 0)?, i64::from(at.options.int(1, 0)?), at.op.outputs.len());
    let parts = w.nodes(at, "Split", vec![x], n, vec![("axis", Attr::Int(axis)), ("num_outputs", Attr::Int(n as i64))]);
    let list = w.list(vec![axis]);
    Ok(parts.into_iter().map(|part| w.node(at, "Squeeze", vec![part, list.clone()], Vec::new())).collect())
}

/// Reductions: the axes are input 1
pub(super) fn reduce(w: &mut Writer<'_, '_>, at: &At<'_, '_>, op: &str) -> Results {
    let (x, axes, keep) = (w.input(at, 0)?, listed(w, at, 1)?, at.options.flag(0)?);
    Ok(vec![w.node(at, op, vec![x, axes], vec![("keepdims", Attr::Int(keep.into()))])])
}

/// Rows and columns in blocks: the sizes of a picture with its batch, all fixed, and of a block.
fn blocks(w: &Writer<'_, '_>, at: &At<'_, '_>) -> Result<(Name, [i64; 5]), Refusal> {
    let x = w.given(at, 0)?;
    let block = i64::from(at.options.int(0, 0)?);
    let [n, h, width, c] = w.model.tensors[x].signature[..] else { return unsupported!("on a tensor of other than four axes") };
    if [n, h, width, c].iter().skip(1).any(|&n| n < 1) {
        return unsupported!("of a picture whose size is left open");
    }
    if block < 1 {
        return Err(Malformed(format!("a {} of blocks of {block}", at.called)).into());
    }
    let [n, h, width, c] = [n.max(1), h, width, c].map(i64::from);
    Ok((w.names[x].clone(), [n, h, width, c, block]))
}

/// `reshape`, `transpose`, `reshape`
fn reordered(w: &mut Writer<'_, '_>, at: &At<'_, '_>, x: Name, from: Vec<i64>, order: &[i64], to: Vec<i64>) -> Results {
    let (from, to) = (w.list(from), w.list(to));
    let y = w.node(at, "Reshape", vec![x, from], Vec::new());
    let y = super::permuted(w, at, y, order);
    Ok(vec![w.node(at, "Reshape", vec![y, to], Vec::new())])
}

/// `SPACE_TO_DEPTH`
pub(super) fn space_to_depth(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, [n, h, width, c, b]) = blocks(w, at)?;
    let from = vec![n, h / b, b, width / b, b, c];
    reordered(w, at, x, from, &[0, 1, 3, 2, 4, 5], vec![n, h / b, width / b, b.saturating_mul(b).saturating_mul(c)])
}

/// `DEPTH_TO_SPACE`
pub(super) fn depth_to_space(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, [n, h, width, c, b]) = blocks(w, at)?;
    let inner = c / b.saturating_mul(b);
    let from = vec![n, h, width, b, b, inner];
    reordered(w, at, x, from, &[0, 1, 3, 2, 4, 5], vec![n, h.saturating_mul(b), width.saturating_mul(b), inner])
}
