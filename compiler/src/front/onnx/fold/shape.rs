//! What changes, joins, cuts and turns the axes of constants; the rules of sizes are the same for computed tensors.

use std::borrow::Cow;

use super::super::import::Refusal;
use super::super::tensor::{Data, Tensor, bounded, shown};
use super::{Call, Inputs, axes, axis, few, need, pick, room, sizes};

/// Elements before, at and behind the axis `at`.
fn around(dims: &[usize], at: usize) -> (usize, usize, usize) {
    (dims[..at].iter().product(), dims[at], dims[at + 1..].iter().product())
}

pub(super) fn concat(call: &Call<'_, '_>, x: &Inputs<'_>) -> Result<Tensor, Refusal> {
    let all: Vec<&Tensor> = x.iter().copied().flatten().collect();
    let first = *all.first().ok_or("it has no inputs")?;
    let at = axis(call.attrs.int("axis").ok_or("it has no attribute `axis`")?, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[at] = 0;
    for t in &all {
        let fits = t.dims.len() == dims.len() && (0..dims.len()).all(|i| i == at || t.dims[i] == dims[i]);
        if !fits || std::mem::discriminant(&t.data) != std::mem::discriminant(&first.data) {
            return Err(format!("{:?} cannot be joined to {:?} at axis {at}", t.dims, first.dims).into());
        }
        dims[at] = dims[at].saturating_add(t.dims[at]);
    }
    let n = room(&dims, first.data.each(), call.budget)?;
    let outer: usize = dims[..at].iter().product();
    macro_rules! join {
        ($kind:ident) => {{
            let mut out = Vec::with_capacity(n);
            for o in 0..outer {
                for t in &all {
                    let (_, n, inner) = around(&t.dims, at);
                    if let Data::$kind(v) = &t.data {
                        out.extend_from_slice(&v[o * n * inner..(o + 1) * n * inner]);
                    }
                }
            }
            Data::$kind(out)
        }};
    }
    let data = match first.data {
        Data::Float(_) => join!(Float),
        Data::Int(_) => join!(Int),
        Data::Bool(_) => join!(Bool),
    };
    Ok(Tensor { dims, data })
}

/// The positions that a slice takes from an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front::onnx) struct Positions {
    start: i64,
    step: i64,
    len: usize,
}

impl Positions {
    /// By numpy's rules, from an axis of `n`.
    fn of(start: i64, end: i64, step: i64, n: usize) -> Result<Self, String> {
        let n = n as i64;
        let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
        let (start, way) = match step {
            0 => return Err("its step is 0".into()),
            1.. => {
                let start = wrap(start).clamp(0, n);
                (start, wrap(end).clamp(0, n) - start)
            }
            _ => {
                let start = wrap(start).clamp(-1, n - 1);
                (start, start - wrap(end).clamp(-1, n - 1))
            }
        };
        Ok(Self { start, step, len: u64::try_from(way).unwrap_or(0).div_ceil(step.unsigned_abs()) as usize })
    }

    /// `len` of them from `start` on.
    fn run(start: usize, len: usize) -> Self {
        Self { start: start as i64, step: 1, len }
    }

    /// Each of them.
    pub(in crate::front::onnx) fn each(self) -> impl ExactSizeIterator<Item = usize> + Clone {
        (0..self.len).map(move |i| (self.start + i as i64 * self.step) as usize)
    }
}

/// What a `Slice` takes: an axis and its positions, one entry an axis that is cut.
pub(in crate::front::onnx) fn slices(
    call: &Call<'_, '_>,
    dims: &[usize],
    x: &Inputs<'_>,
) -> Result<Vec<(usize, Positions)>, String> {
    let list = |i: usize, name: &str| -> Result<Option<Vec<i64>>, String> {
        let given = x.get(i).copied().flatten();
        few(if call.opset < 10 { call.attrs.ints(name).map_or(0, <[i64]>::len) } else { given.map_or(0, Tensor::len) })?;
        if call.opset < 10 {
            return Ok(call.attrs.ints(name).map(<[i64]>::to_vec));
        }
        given.map(|t| t.ints().map(<[i64]>::to_vec).ok_or_else(|| format!("its {name} are not integers"))).transpose()
    };
    let starts = list(1, "starts")?.ok_or("it has no starts")?;
    let ends = list(2, "ends")?.ok_or("it has no ends")?;
    let at = match list(3, "axes")? {
        Some(list) => axes(&list, dims.len())?,
        None => (0..starts.len()).collect(),
    };
    let steps = if call.opset < 10 { None } else { list(4, "steps")? }.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || at.len() != starts.len() || steps.len() != starts.len() || starts.len() > dims.len() {
        return Err("its starts, ends, axes and steps are not equally many".into());
    }
    at.iter().enumerate().map(|(i, &a)| Ok((a, Positions::of(starts[i], ends[i], steps[i], dims[a])?))).collect()
}

/// The elements of `t` at `positions` of the axis `at`.
fn take(
    t: &Tensor,
    at: usize,
    positions: impl ExactSizeIterator<Item = usize> + Clone,
    budget: usize,
) -> Result<Tensor, Refusal> {
    let (outer, n, inner) = around(&t.dims, at);
    let mut dims = t.dims.clone();
    dims[at] = positions.len();
    room(&dims, t.data.each(), budget)?;
    let places = (0..outer).flat_map(|o| positions.clone().flat_map(move |p| (0..inner).map(move |i| (o * n + p) * inner + i)));
    Ok(pick(t, dims, places))
}

pub(super) fn slice(call: &Call<'_, '_>, x: &Inputs<'_>) -> Result<Tensor, Refusal> {
    let mut t = Cow::Borrowed(need(x, 0)?);
    for (at, positions) in slices(call, &t.dims, x)? {
        t = Cow::Owned(take(&t, at, positions.each(), call.budget)?);
    }
    room(&t.dims, t.data.each(), call.budget)?;
    Ok(t.into_owned())
}

/// The positions that `indices` name on an axis of `n`.
pub(in crate::front::onnx) fn indexed(indices: &Tensor, n: usize) -> Result<Vec<usize>, String> {
    let ints = indices.ints().ok_or("its indices are not integers")?;
    ints.iter().map(|&i| axis(i, n).map_err(|_| format!("index {i} is not within an axis of {n}"))).collect()
}

pub(super) fn gather(call: &Call<'_, '_>, t: &Tensor, indices: &Tensor) -> Result<Tensor, Refusal> {
    let at = axis(call.attrs.int_or("axis", 0), t.dims.len())?;
    let mut taken = take(t, at, indexed(indices, t.dims[at])?.iter().copied(), call.budget)?;
    taken.dims.splice(at..=at, indices.dims.iter().copied());
    Ok(taken)
}

/// Sizes of the parts that a `Split` makes of an axis of `n`.
pub(in crate::front::onnx) fn parts(call: &Call<'_, '_>, n: usize, x: &Inputs<'_>) -> Result<Vec<usize>, String> {
    let listed = x.get(1).copied().flatten().map(Tensor::len).or(call.attrs.ints("split").map(<[i64]>::len));
    if listed.is_some_and(|parts| parts != call.outputs) {
        return Err(format!("it has {} results for {} parts", call.outputs, listed.unwrap_or_default()));
    }
    let given = match x.get(1).copied().flatten() {
        Some(t) => Some(sizes(t)?),
        None => match call.attrs.ints("split") {
            Some(list) => Some(sizes(&Tensor::int(vec![list.len()], list.to_vec()))?),
            None => None,
        },
    };
    let parts = given.unwrap_or_else(|| {
        let count = call.outputs.max(1);
        // equal ones, the last smaller where that does not come out
        let each = n.div_ceil(count);
        (0..count).map(|i| each.min(n.saturating_sub(i * each))).collect()
    });
    let sum = parts.iter().try_fold(0usize, |s, &p| s.checked_add(p));
    if sum != Some(n) || parts.len() != call.outputs {
        return Err(format!("its parts {} do not make an axis of {n}", shown(&parts)));
    }
    Ok(parts)
}

pub(super) fn split(call: &Call<'_, '_>, x: &Inputs<'_>) -> Result<Vec<Tensor>, Refusal> {
    let t = need(x, 0)?;
    let at = axis(call.attrs.int_or("axis", 0), t.dims.len())?;
    room(&t.dims, t.data.each(), call.budget)?;
    let mut first = 0;
    let mut all = Vec::new();
    for part in parts(call, t.dims[at], x)? {
        all.push(take(t, at, Positions::run(first, part).each(), call.budget)?);
        first += part;
    }
    Ok(all)
}

/// The dimensions after `Squeeze`, `Unsqueeze`, `Reshape` or `Flatten` of `dims`; `given` is the second input.
pub(in crate::front::onnx) fn reshaped(
    call: &Call<'_, '_>,
    dims: &[usize],
    given: Option<&Tensor>,
) -> Result<Vec<usize>, String> {
    let list = |name: &str| -> Result<Option<Vec<i64>>, String> {
        few(given.map_or_else(|| call.attrs.ints(name).map_or(0, <[i64]>::len), Tensor::len))?;
        match given {
            Some(t) => t.ints().map(|v| Some(v.to_vec())).ok_or_else(|| format!("its {name} are not integers")),
            None => Ok(call.attrs.ints(name).map(<[i64]>::to_vec)),
        }
    };
    match call.op {
        "Squeeze" => {
            let gone = match list("axes")? {
                Some(list) => axes(&list, dims.len())?,
                None => (0..dims.len()).filter(|&i| dims[i] == 1).collect(),
            };
            if let Some(&i) = gone.iter().find(|&&i| dims[i] != 1) {
                return Err(format!("axis {i} of {dims:?} cannot be squeezed"));
            }
            Ok((0..dims.len()).filter(|i| !gone.contains(i)).map(|i| dims[i]).collect())
        }
        "Unsqueeze" => {
            let list = list("axes")?.ok_or("it has no axes")?;
            few(dims.len().saturating_add(list.len()))?;
            let new = axes(&list, dims.len() + list.len())?;
            let mut old = dims.iter().copied();
            Ok((0..dims.len() + new.len()).map(|i| if new.contains(&i) { 1 } else { old.next().unwrap_or(1) }).collect())
        }
        "Flatten" => {
            let at = call.attrs.int_or("axis", 1);
            let at = if at == dims.len() as i64 { dims.len() } else { axis(at, dims.len())? };
            Ok(vec![dims[..at].iter().product(), dims[at..].iter().product()])
        }
        _ => {
            let list = list("shape")?.ok_or("it has no shape")?;
            let literal_zero = call.attrs.int_or("allowzero", 0) == 1;
            let mut out = Vec::with_capacity(list.len());
            let mut open = None;
            for (i, &d) in list.iter().enumerate() {
                match d {
                    -1 if open.is_none() => {
                        open = Some(i);
                        out.push(1);
                    }
                    0 if !literal_zero => out.push(*dims.get(i).ok_or("a 0 in its shape stands for no dimension")?),
                    d => out.push(usize::try_from(d).map_err(|_| format!("{d} in its shape is no size"))?),
                }
            }
            let (n, known) = (product(dims)?, product(&out)?);
            if let Some(i) = open {
                if known == 0 || n % known != 0 {
                    return Err(format!("{dims:?} cannot be reshaped to {list:?}"));
                }
                out[i] = n / known;
            } else if n != known {
                return Err(format!("{dims:?} cannot be reshaped to {list:?}"));
            }
            Ok(out)
        }
    }
}

fn product(dims: &[usize]) -> Result<usize, String> {
    bounded(dims, usize::MAX).ok_or_else(|| format!("a tensor of {dims:?} is too large"))
}

/// The order of axes that `perm` states: reversed where it is absent.
pub(in crate::front::onnx) fn order(perm: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, String> {
    let Some(perm) = perm else { return Ok((0..rank).rev().collect()) };
    let order = axes(perm, rank)?;
    if order.len() == rank { Ok(order) } else { Err(format!("{perm:?} is no order of {rank} axes")) }
}

/// `t` with its axes in the order `perm`.
pub(in crate::front::onnx) fn transpose(t: &Tensor, perm: Option<&[i64]>) -> Result<Tensor, String> {
    let order = order(perm, t.dims.len())?;
    let mut steps = vec![1; t.dims.len()];
    for i in (0..t.dims.len().saturating_sub(1)).rev() {
        steps[i] = steps[i + 1] * t.dims[i + 1];
    }
    let dims: Vec<usize> = order.iter().map(|&a| t.dims[a]).collect();
    let steps: Vec<usize> = order.iter().map(|&a| steps[a]).collect();
    let places = (0..t.len()).map(|mut i| {
        let mut place = 0;
        for axis in (0..dims.len()).rev() {
            place += i % dims[axis] * steps[axis];
            i /= dims[axis];
        }
        place
    });
    Ok(pick(t, dims.clone(), places))
}

pub(super) fn tile(t: &Tensor, repeats: &[usize], budget: usize) -> Result<Tensor, Refusal> {
    if repeats.len() != t.dims.len() {
        return Err(format!("{} repeats for {} axes", repeats.len(), t.dims.len()).into());
    }
    let dims: Vec<usize> = t.dims.iter().zip(repeats).map(|(&n, &repeat)| n.saturating_mul(repeat)).collect();
    room(&dims, t.data.each(), budget)?;
    let mut t = Cow::Borrowed(t);
    for (at, &n) in t.dims.clone().iter().enumerate() {
        t = Cow::Owned(take(&t, at, (0..dims[at]).map(|i| i % n), budget)?);
    }
    Ok(t.into_owned())
}
