//! Nodes whose inputs are constants are computed here and now: the shape arithmetic that exporters leave behind, and what they do
//! to weights on the way.
//!
//! Semantics are those of ONNX's operator document (github.com/onnx/onnx, `docs/Operators.md`). Elements are f32, i64 or bool; a
//! type that the file distinguishes further (int32, double) computes as the wider one of the three.
//!
//! Nothing is made before [`room`] was asked for it, and nothing as large as a result is made on the way to it.

mod shape;

use self::shape::{concat, gather, slice, split, tile};
pub(super) use self::shape::{indexed, order, parts, reshaped, slices, transpose};
use super::attrs::Attrs;
use super::import::Refusal;
use super::tensor::{Data, MAX_RANK, Tensor, bounded};

/// A node to compute.
pub(super) struct Call<'a, 'b> {
    /// The operator.
    pub(super) op: &'a str,
    /// Version of ONNX's operators.
    pub(super) opset: i64,
    /// Its attributes.
    pub(super) attrs: &'b Attrs<'a>,
    /// How many results it has.
    pub(super) outputs: usize,
    /// Most bytes of a result.
    pub(super) budget: usize,
}

/// Its inputs; absent ones are optional.
type Inputs<'a> = [Option<&'a Tensor>];

/// The results, or `None` for an operator that is not computed here.
///
/// # Errors
/// What does not fit, to be read after the node's name.
pub(super) fn fold(call: &Call<'_, '_>, x: &Inputs<'_>) -> Result<Option<Vec<Tensor>>, Refusal> {
    let one = |t: Result<Tensor, Refusal>| t.map(|t| Some(vec![t]));
    match call.op {
        "Identity" | "Dropout" | "Cast" | "CastLike" | "Neg" | "Abs" | "Floor" | "Ceil" | "Round" | "Sqrt" | "Reciprocal"
        | "Exp" | "Log" | "Not" | "Relu" | "Sigmoid" | "Tanh" | "Sign" => one(unary(call, need(x, 0)?, x)),
        "Add" | "Sub" | "Mul" | "Div" | "Mod" | "Pow" | "Equal" | "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual"
        | "And" | "Or" => one(binary(call, need(x, 0)?, need(x, 1)?)),
        "Min" | "Max" | "Sum" => {
            let op = match call.op {
                "Min" => "Min",
                "Max" => "Max",
                _ => "Add",
            };
            let mut all = x.iter().flatten();
            let mut sum = copy(all.next().ok_or("it has no inputs")?, call.budget)?;
            for t in all {
                sum = arithmetic(op, &sum, t, call.budget)?;
            }
            one(Ok(sum))
        }
        "Clip" => {
            let mut t = copy(need(x, 0)?, call.budget)?;
            // Attributes before version 11.
            for (i, name, op) in [(1, "min", "Max"), (2, "max", "Min")] {
                let bound = call.attrs.float(name).map(|f| Tensor::float(Vec::new(), vec![f]));
                if let Some(bound) = bound.as_ref().or(x.get(i).copied().flatten()) {
                    t = arithmetic(op, &t, bound, call.budget)?;
                }
            }
            one(Ok(t))
        }
        "Where" => one(choose(need(x, 0)?, need(x, 1)?, need(x, 2)?, call.budget)),
        "Concat" => one(concat(call, x)),
        "Slice" => one(slice(call, x)),
        "Gather" => one(gather(call, need(x, 0)?, need(x, 1)?)),
        "Split" => split(call, x).map(Some),
        "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => {
            let t = need(x, 0)?;
            let dims = reshaped(call, &t.dims, x.get(1).copied().flatten())?;
            one(Ok(Tensor { dims, ..copy(t, call.budget)? }))
        }
        "Transpose" => {
            let t = need(x, 0)?;
            room(&t.dims, t.data.each(), call.budget)?;
            one(Ok(transpose(t, call.attrs.ints("perm"))?))
        }
        "Expand" => {
            let t = need(x, 0)?;
            let to = shape(need(x, 1)?)?;
            let dims = broadcast(&t.dims, &to)?;
            one(expand(t, &dims, call.budget))
        }
        "Tile" => one(tile(need(x, 0)?, &shape(need(x, 1)?)?, call.budget)),
        "Range" => one(range(need(x, 0)?, need(x, 1)?, need(x, 2)?, call.budget)),
        "ConstantOfShape" => {
            let dims = shape(need(x, 0)?)?;
            // `value` is decoded by the caller, who knows about external data, and stands behind the shape.
            let value = x.get(1).copied().flatten().map(|t| &t.data);
            let n = room(&dims, value.map_or(size_of::<f32>(), Data::each), call.budget)?;
            let data = match value {
                None => Data::Float(vec![0.0; n]),
                Some(Data::Float(v)) if v.len() == 1 => Data::Float(vec![v[0]; n]),
                Some(Data::Int(v)) if v.len() == 1 => Data::Int(vec![v[0]; n]),
                Some(Data::Bool(v)) if v.len() == 1 => Data::Bool(vec![v[0]; n]),
                Some(_) => return Err("its `value` must have one element".into()),
            };
            one(Ok(Tensor { dims, data }))
        }
        "ReduceProd" | "ReduceSum" | "ReduceMin" | "ReduceMax" | "ReduceMean" => {
            one(reduce(call, need(x, 0)?, x.get(1).copied().flatten()))
        }
        _ => Ok(None),
    }
}

/// Input `i`, which this operator must have.
fn need<'a>(x: &Inputs<'a>, i: usize) -> Result<&'a Tensor, String> {
    x.get(i).copied().flatten().ok_or_else(|| format!("its input {i} is missing"))
}

/// The number of elements of a result of `dims`, if there may be so many of `each` bytes.
fn room(dims: &[usize], each: usize, budget: usize) -> Result<usize, Refusal> {
    bounded(dims, budget / each).ok_or_else(|| Refusal::Large(format!("a constant of shape {dims:?} is too large")))
}

/// `t` again.
fn copy(t: &Tensor, budget: usize) -> Result<Tensor, Refusal> {
    room(&t.dims, t.data.each(), budget)?;
    Ok(t.clone())
}

/// `t` as the sizes of a tensor's axes.
pub(super) fn shape(t: &Tensor) -> Result<Vec<usize>, String> {
    few(t.len())?;
    sizes(t)
}

/// Whether a tensor may have so many axes.
pub(super) fn few(axes: usize) -> Result<(), String> {
    if axes > MAX_RANK { Err(format!("{axes} axes are more than {MAX_RANK}")) } else { Ok(()) }
}

/// `t` as a list of sizes.
pub(super) fn sizes(t: &Tensor) -> Result<Vec<usize>, String> {
    let ints = t.ints().ok_or("a shape must be integers")?;
    ints.iter().map(|&i| usize::try_from(i).map_err(|_| format!("{i} is no size"))).collect()
}

/// `axis` counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let at = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    at.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank).ok_or_else(|| format!("there is no axis {axis} among {rank}"))
}

/// All of `axes` counted from the front.
pub(super) fn axes(list: &[i64], rank: usize) -> Result<Vec<usize>, String> {
    if list.len() > rank {
        return Err(format!("it names {} axes of {rank}", list.len()));
    }
    let all: Vec<usize> = list.iter().map(|&a| axis(a, rank)).collect::<Result<_, _>>()?;
    if (1..all.len()).any(|i| all[..i].contains(&all[i])) {
        return Err(format!("an axis is there twice: {list:?}"));
    }
    Ok(all)
}

/// The dimensions that `a` and `b` are both stretched to.
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |i| d[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (1, d) | (d, 1) => Ok(d),
            (p, q) if p == q => Ok(p),
            _ => Err(format!("shapes {a:?} and {b:?} do not go together")),
        })
        .collect()
}

/// For every element of a tensor of `to`, the position of the element of `from` it comes from. `to` is not empty of room.
pub(super) fn sources(from: &[usize], to: &[usize]) -> Sources {
    // steps of `from` along the axes of `to`, 0 where it is stretched
    let mut steps = vec![0; to.len()];
    let mut step = 1;
    for i in (0..from.len()).rev() {
        let at = i + to.len() - from.len();
        steps[at] = if from[i] == 1 { 0 } else { step };
        step *= from[i];
    }
    Sources { steps, to: to.to_vec(), index: vec![0; to.len()], place: 0, left: to.iter().product() }
}

/// See [`sources`].
pub(super) struct Sources {
    steps: Vec<usize>,
    to: Vec<usize>,
    /// Of the element that comes next.
    index: Vec<usize>,
    place: usize,
    left: usize,
}

impl Iterator for Sources {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let place = self.place;
        for axis in (0..self.to.len()).rev() {
            self.index[axis] += 1;
            self.place += self.steps[axis];
            if self.index[axis] < self.to[axis] {
                break;
            }
            self.place -= self.steps[axis] * self.to[axis];
            self.index[axis] = 0;
        }
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

/// The elements of `t` at `places`, as many as `dims` need.
fn pick(t: &Tensor, dims: Vec<usize>, places: impl Iterator<Item = usize>) -> Tensor {
    fn all<T: Copy>(v: &[T], n: usize, places: impl Iterator<Item = usize>) -> Vec<T> {
        let mut out = Vec::with_capacity(n);
        out.extend(places.map(|i| v[i]));
        out
    }
    let n = dims.iter().product();
    let data = match &t.data {
        Data::Float(v) => Data::Float(all(v, n, places)),
        Data::Int(v) => Data::Int(all(v, n, places)),
        Data::Bool(v) => Data::Bool(all(v, n, places)),
    };
    Tensor { dims, data }
}

fn expand(t: &Tensor, dims: &[usize], budget: usize) -> Result<Tensor, Refusal> {
    room(dims, t.data.each(), budget)?;
    Ok(pick(t, dims.to_vec(), sources(&t.dims, dims)))
}

fn unary(call: &Call<'_, '_>, t: &Tensor, x: &Inputs<'_>) -> Result<Tensor, Refusal> {
    let dims = t.dims.clone();
    let each = if matches!(call.op, "Cast" | "CastLike") { size_of::<i64>() } else { t.data.each() };
    room(&dims, each, call.budget)?;
    let kind = match call.op {
        "Identity" | "Dropout" => return Ok(t.clone()),
        "Cast" => Some(call.attrs.int("to").ok_or("it has no attribute `to`")?),
        "CastLike" => Some(match need(x, 1)?.data {
            Data::Float(_) => 1,
            Data::Int(_) => 7,
            Data::Bool(_) => 9,
        }),
        _ => None,
    };
    if let Some(kind) = kind {
        return Ok(Tensor { dims, data: cast(&t.data, kind)? });
    }
    let data = match (call.op, &t.data) {
        ("Not", Data::Bool(v)) => Data::Bool(v.iter().map(|b| !b).collect()),
        ("Neg", Data::Int(v)) => Data::Int(v.iter().map(|i| i.wrapping_neg()).collect()),
        ("Abs", Data::Int(v)) => Data::Int(v.iter().map(|i| i.wrapping_abs()).collect()),
        ("Relu", Data::Int(v)) => Data::Int(v.iter().map(|&i| i.max(0)).collect()),
        ("Sign", Data::Int(v)) => Data::Int(v.iter().map(|i| i.signum()).collect()),
        (op, Data::Float(v)) => {
            let f: fn(f32) -> f32 = match op {
                "Neg" => |x| -x,
                "Abs" => f32::abs,
                "Floor" => f32::floor,
                "Ceil" => f32::ceil,
                "Round" => f32::round_ties_even,
                "Sqrt" => f32::sqrt,
                "Reciprocal" => |x| 1.0 / x,
                "Exp" => f32::exp,
                "Log" => f32::ln,
                "Relu" => |x| x.max(0.0),
                "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
                "Tanh" => f32::tanh,
                "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
                _ => return Err(format!("{op} of numbers").into()),
            };
            Data::Float(v.iter().map(|&x| f(x)).collect())
        }
        (op, _) => return Err(format!("{op} of elements of this type is not supported").into()),
    };
    Ok(Tensor { dims, data })
}

/// `data` as elements of ONNX's type `kind`.
fn cast(data: &Data, kind: i64) -> Result<Data, String> {
    // narrower integers wrap around as they do in C
    let narrow: fn(i64) -> i64 = match kind {
        2 => |i| i64::from(i as u8),
        3 => |i| i64::from(i as i8),
        4 => |i| i64::from(i as u16),
        5 => |i| i64::from(i as i16),
        6 => |i| i64::from(i as i32),
        12 => |i| i64::from(i as u32),
        _ => |i| i,
    };
    let number = |b: &bool| i64::from(*b);
    Ok(match (kind, data) {
        (1 | 10 | 11 | 16, Data::Float(v)) => Data::Float(v.clone()),
        (1 | 10 | 11 | 16, Data::Int(v)) => Data::Float(v.iter().map(|&i| i as f32).collect()),
        (1 | 10 | 11 | 16, Data::Bool(v)) => Data::Float(v.iter().map(|&b| f32::from(u8::from(b))).collect()),
        (2..=7 | 12 | 13, Data::Float(v)) => Data::Int(v.iter().map(|&x| narrow(x as i64)).collect()),
        (2..=7 | 12 | 13, Data::Int(v)) => Data::Int(v.iter().map(|&i| narrow(i)).collect()),
        (2..=7 | 12 | 13, Data::Bool(v)) => Data::Int(v.iter().map(number).collect()),
        (9, Data::Float(v)) => Data::Bool(v.iter().map(|&x| x != 0.0).collect()),
        (9, Data::Int(v)) => Data::Bool(v.iter().map(|&i| i != 0).collect()),
        (9, Data::Bool(v)) => Data::Bool(v.clone()),
        _ => return Err(format!("a cast to {} is not supported", super::tensor::kind_name(kind))),
    })
}

fn binary(call: &Call<'_, '_>, a: &Tensor, b: &Tensor) -> Result<Tensor, Refusal> {
    if let "Add" | "Sub" | "Mul" | "Div" | "Pow" = call.op {
        return arithmetic(call.op, a, b, call.budget);
    }
    let dims = broadcast(&a.dims, &b.dims)?;
    room(&dims, a.data.each(), call.budget)?;
    let (p, q) = (sources(&a.dims, &dims), sources(&b.dims, &dims));
    let data = match (&a.data, &b.data) {
        (Data::Bool(a), Data::Bool(b)) => {
            let f: fn(bool, bool) -> bool = match call.op {
                "And" => |a, b| a && b,
                "Or" => |a, b| a || b,
                "Equal" => |a, b| a == b,
                op => return Err(format!("{op} of truth values").into()),
            };
            Data::Bool(p.zip(q).map(|(p, q)| f(a[p], b[q])).collect())
        }
        (Data::Int(a), Data::Int(b)) if call.op == "Mod" => {
            let truncated = call.attrs.int_or("fmod", 0) == 1;
            let f = |a: i64, b: i64| if truncated { a.checked_rem(b) } else { floor_mod(a, b) };
            Data::Int(whole(&dims, p.zip(q).map(|(p, q)| f(a[p], b[q]))).ok_or("it divides by zero")?)
        }
        (Data::Float(a), Data::Float(b)) if call.op == "Mod" => Data::Float(p.zip(q).map(|(p, q)| a[p] % b[q]).collect()),
        (Data::Int(a), Data::Int(b)) => {
            let f = compare(call.op)?;
            Data::Bool(p.zip(q).map(|(p, q)| a[p].partial_cmp(&b[q]).is_some_and(f)).collect())
        }
        (Data::Float(a), Data::Float(b)) => {
            let f = compare(call.op)?;
            Data::Bool(p.zip(q).map(|(p, q)| a[p].partial_cmp(&b[q]).is_some_and(f)).collect())
        }
        _ => return Err(format!("{} of different element types", call.op).into()),
    };
    Ok(Tensor { dims, data })
}

/// All of `each`, which are as many as `dims` need, if all of them are there.
fn whole(dims: &[usize], each: impl Iterator<Item = Option<i64>>) -> Option<Vec<i64>> {
    // Collecting options would not know how many.
    let mut out = Vec::with_capacity(dims.iter().product());
    for i in each {
        out.push(i?);
    }
    Some(out)
}

/// The remainder with the sign of the divisor.
fn floor_mod(a: i64, b: i64) -> Option<i64> {
    let r = a.checked_rem(b)?;
    Some(if r != 0 && (r < 0) != (b < 0) { r + b } else { r })
}

fn compare(op: &str) -> Result<fn(std::cmp::Ordering) -> bool, String> {
    use std::cmp::Ordering;
    Ok(match op {
        "Equal" => Ordering::is_eq,
        "Less" => Ordering::is_lt,
        "Greater" => Ordering::is_gt,
        "LessOrEqual" => Ordering::is_le,
        "GreaterOrEqual" => Ordering::is_ge,
        op => return Err(format!("{op} of numbers")),
    })
}

/// Number operations with broadcasting.
fn arithmetic(op: &str, a: &Tensor, b: &Tensor, budget: usize) -> Result<Tensor, Refusal> {
    let dims = broadcast(&a.dims, &b.dims)?;
    room(&dims, a.data.each(), budget)?;
    let (p, q) = (sources(&a.dims, &dims), sources(&b.dims, &dims));
    let data = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => {
            let f: fn(f32, f32) -> f32 = match op {
                "Add" => |a, b| a + b,
                "Sub" => |a, b| a - b,
                "Mul" => |a, b| a * b,
                "Div" => |a, b| a / b,
                "Pow" => f32::powf,
                "Min" => f32::min,
                _ => f32::max,
            };
            Data::Float(p.zip(q).map(|(p, q)| f(a[p], b[q])).collect())
        }
        (Data::Float(a), Data::Int(b)) if op == "Pow" => Data::Float(p.zip(q).map(|(p, q)| a[p].powf(b[q] as f32)).collect()),
        (Data::Int(a), Data::Int(b)) => {
            let f: fn(i64, i64) -> Option<i64> = match op {
                "Add" => |a, b| Some(a.wrapping_add(b)),
                "Sub" => |a, b| Some(a.wrapping_sub(b)),
                "Mul" => |a, b| Some(a.wrapping_mul(b)),
                "Div" => i64::checked_div,
                "Pow" => |a, b| a.checked_pow(u32::try_from(b).ok()?),
                "Min" => |a, b| Some(a.min(b)),
                _ => |a, b| Some(a.max(b)),
            };
            let all = whole(&dims, p.zip(q).map(|(p, q)| f(a[p], b[q])));
            Data::Int(all.ok_or("it divides by zero or leaves 64 bits")?)
        }
        _ => return Err(format!("{op} of different element types").into()),
    };
    Ok(Tensor { dims, data })
}

fn choose(condition: &Tensor, a: &Tensor, b: &Tensor, budget: usize) -> Result<Tensor, Refusal> {
    let dims = broadcast(&broadcast(&condition.dims, &a.dims)?, &b.dims)?;
    room(&dims, a.data.each(), budget)?;
    let Data::Bool(c) = &condition.data else { return Err("its condition must be truth values".into()) };
    let [o, p, q] = [condition, a, b].map(|t| sources(&t.dims, &dims));
    let places = o.zip(p.zip(q));
    fn mix<T: Copy>(c: &[bool], a: &[T], b: &[T], places: impl Iterator<Item = (usize, (usize, usize))>) -> Vec<T> {
        places.map(|(o, (p, q))| if c[o] { a[p] } else { b[q] }).collect()
    }
    let data = match (&a.data, &b.data) {
        (Data::Float(a), Data::Float(b)) => Data::Float(mix(c, a, b, places)),
        (Data::Int(a), Data::Int(b)) => Data::Int(mix(c, a, b, places)),
        (Data::Bool(a), Data::Bool(b)) => Data::Bool(mix(c, a, b, places)),
        _ => return Err("Where of different element types".into()),
    };
    Ok(Tensor { dims, data })
}

fn range(start: &Tensor, limit: &Tensor, delta: &Tensor, budget: usize) -> Result<Tensor, Refusal> {
    let too_large = || Refusal::Large("its result is too large".into());
    if let (Some([start]), Some([limit]), Some([delta])) = (start.ints(), limit.ints(), delta.ints()) {
        let (start, limit, delta) = (i128::from(*start), i128::from(*limit), i128::from(*delta));
        if delta == 0 {
            return Err("its step is 0".into());
        }
        let n = if (limit > start) == (delta > 0) && limit != start {
            ((limit - start).abs() + delta.abs() - 1) / delta.abs()
        } else {
            0
        };
        let n = usize::try_from(n).ok().filter(|&n| n <= budget / size_of::<i64>()).ok_or_else(too_large)?;
        return Ok(Tensor::int(vec![n], (0..n).map(|i| (start + i as i128 * delta) as i64).collect()));
    }
    let (Some(start), Some(limit), Some(delta)) = (start.scalar(), limit.scalar(), delta.scalar()) else {
        return Err("its limits are not single numbers".into());
    };
    let n = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil().max(0.0);
    if n.is_nan() || n > (budget / size_of::<f32>()) as f64 {
        return Err(too_large());
    }
    let all: Vec<f32> = (0..n as usize).map(|i| start + i as f32 * delta).collect();
    Ok(Tensor::float(vec![all.len()], all))
}

/// The axes that a reduction runs over: given as second input or attribute, else all (or none, where the node says so).
pub(super) fn reduced_axes(call: &Call<'_, '_>, rank: usize, given: Option<&Tensor>) -> Result<Vec<usize>, String> {
    let list = match given {
        Some(t) => t.ints().ok_or("its axes are not integers")?,
        None => call.attrs.ints("axes").unwrap_or(&[]),
    };
    if list.is_empty() {
        let none = call.attrs.int_or("noop_with_empty_axes", 0) == 1;
        return Ok(if none { Vec::new() } else { (0..rank).collect() });
    }
    axes(list, rank)
}

fn reduce(call: &Call<'_, '_>, t: &Tensor, given: Option<&Tensor>) -> Result<Tensor, Refusal> {
    let gone = reduced_axes(call, t.dims.len(), given)?;
    let kept: Vec<usize> = (0..t.dims.len()).map(|i| if gone.contains(&i) { 1 } else { t.dims[i] }).collect();
    // Sums are kept wide, and there is not one yet.
    let n = room(&kept, size_of::<Option<f64>>(), call.budget)?;
    if t.len() == 0 {
        return Err("it reduces nothing".into());
    }
    // where each element goes is where it would come from if the result were stretched
    let to = sources(&kept, &t.dims);
    let data = match &t.data {
        Data::Float(v) => {
            let mut out: Vec<Option<f64>> = vec![None; n];
            for (&x, i) in v.iter().zip(to) {
                let x = f64::from(x);
                out[i] = Some(match (call.op, out[i]) {
                    (_, None) => x,
                    ("ReduceProd", Some(a)) => a * x,
                    ("ReduceMin", Some(a)) => a.min(x),
                    ("ReduceMax", Some(a)) => a.max(x),
                    (_, Some(a)) => a + x,
                });
            }
            let each = if call.op == "ReduceMean" { (t.len() / n) as f64 } else { 1.0 };
            Data::Float(out.into_iter().map(|x| (x.unwrap_or(0.0) / each) as f32).collect())
        }
        Data::Int(v) if call.op != "ReduceMean" => {
            let mut out: Vec<Option<i64>> = vec![None; n];
            for (&x, i) in v.iter().zip(to) {
                out[i] = Some(match (call.op, out[i]) {
                    (_, None) => x,
                    ("ReduceProd", Some(a)) => a.wrapping_mul(x),
                    ("ReduceMin", Some(a)) => a.min(x),
                    ("ReduceMax", Some(a)) => a.max(x),
                    (_, Some(a)) => a.wrapping_add(x),
                });
            }
            Data::Int(out.into_iter().map(|x| x.unwrap_or(0)).collect())
        }
        Data::Int(_) | Data::Bool(_) => return Err(format!("{} of elements of this type is not supported", call.op).into()),
    };
    let dims = if call.attrs.int_or("keepdims", 1) == 1 {
        kept
    } else {
        (0..kept.len()).filter(|i| !gone.contains(i)).map(|i| kept[i]).collect()
    };
    Ok(Tensor { dims, data })
}
