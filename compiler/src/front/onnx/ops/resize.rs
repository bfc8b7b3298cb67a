//! `Resize` and its forerunner `Upsample`.

use mnc_runtime::params::Tap;

use super::super::fold::{axes, few, sizes};
use super::super::import::{At, Import, Refusal, unsupported};
use super::super::layout::graph_axis;
use super::super::tensor::Tensor;
use super::super::view::{H, View, W, size, whole};
use super::axes::take;
use crate::front::ast::MAX_SIDE;
use crate::front::graph::tap;
use crate::ir::Op;

/// An axis that is resized.
struct Resized {
    /// Of the model's tensor.
    axis: usize,
    from: usize,
    to: usize,
    /// `to / from`, or what the model says of it.
    scale: f64,
}

/// `Resize` and `Upsample`
pub(super) fn resize<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let mut view = import.computed(at, 0)?;
    let a = &at.attrs;
    // Up to version 10 positions are counted from the edge and rounded down.
    let old = at.node.op == "Upsample" || import.opset < 11;
    let mode = a.text("mode").unwrap_or("nearest");
    let place = if old { "asymmetric" } else { a.text("coordinate_transformation_mode").unwrap_or("half_pixel") };
    let round = if old { "floor" } else { a.text("nearest_mode").unwrap_or("round_prefer_floor") };
    if a.int_or("antialias", 0) == 1 {
        return unsupported!("with antialias");
    }
    if place == "tf_crop_and_resize" {
        return unsupported!("with coordinates {place}");
    }
    let all = resized(import, at, &view, old)?;
    match mode {
        "nearest" => {
            for r in all {
                let positions: Result<Vec<_>, Refusal> =
                    (0..r.to).map(|i| Ok(Some(nearest(position(place, &r, i)?, round, r.from)?))).collect();
                view = take(import, at, &view, r.axis, positions?.iter().copied(), 0.0)?;
            }
            Ok(view)
        }
        "linear" | "bilinear" => linear(import, at, view, &all, place),
        other => unsupported!("with mode {other}"),
    }
}

/// The axes that change.
fn resized<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, view: &View, old: bool) -> Result<Vec<Resized>, Refusal> {
    let a = &at.attrs;
    let dims = view.dims();
    let mut list = |i: usize, what: &str| -> Result<Option<std::rc::Rc<Tensor>>, Refusal> {
        let list = import.constant(at, i, what)?;
        few(list.as_ref().map_or(0, |t| t.len()))?;
        Ok(list)
    };
    few(a.floats("scales").map_or(0, <[f32]>::len))?;
    let (scales, wanted) = match (at.node.op, old) {
        ("Upsample", _) if a.floats("scales").is_some_and(|s| !s.is_empty()) => (a.floats("scales").map(<[f32]>::to_vec), None),
        (_, true) => (list(1, "scales")?.and_then(|t| t.floats().map(<[f32]>::to_vec)), None),
        (_, false) => {
            let scales = list(2, "scales")?.and_then(|t| t.floats().map(<[f32]>::to_vec));
            let wanted = list(3, "sizes")?.filter(|t| t.len() > 0).map(|t| sizes(&t)).transpose()?;
            (scales.filter(|s| !s.is_empty()), wanted)
        }
    };
    let which = match a.ints("axes") {
        Some(list) => axes(list, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    let mut all = Vec::new();
    match (scales, wanted) {
        (Some(scales), None) if scales.len() == which.len() => {
            for (&axis, &scale) in which.iter().zip(&scales) {
                let to = (dims[axis] as f64 * f64::from(scale)).floor();
                if !(1.0..=MAX_SIDE as f64).contains(&to) {
                    return Err(Refusal::Wrong(format!("its scale {scale} makes an axis of {} to one of {to}", dims[axis])));
                }
                all.push(Resized { axis, from: dims[axis], to: to as usize, scale: f64::from(scale) });
            }
        }
        (None, Some(mut wanted)) if wanted.len() == which.len() => {
            let ratio = |(&axis, &to): (&usize, &usize)| to as f64 / dims[axis] as f64;
            let ratios = which.iter().zip(&wanted).map(ratio);
            let common = match a.text("keep_aspect_ratio_policy").unwrap_or("stretch") {
                "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(ratios.fold(0.0, f64::max)),
                _ => None,
            };
            if let Some(scale) = common {
                wanted = which.iter().map(|&axis| (dims[axis] as f64 * scale + 0.5).floor() as usize).collect();
            }
            for (&axis, &to) in which.iter().zip(&wanted) {
                if !(1..=MAX_SIDE).contains(&to) {
                    return Err(Refusal::Wrong(format!("{to} in its sizes is not within 1 to {MAX_SIDE}")));
                }
                all.push(Resized { axis, from: dims[axis], to, scale: common.unwrap_or(to as f64 / dims[axis] as f64) });
            }
        }
        _ => return Err(Refusal::Wrong("it needs either scales or sizes, one an axis".into())),
    }
    if a.text("coordinate_transformation_mode") == Some("align_corners")
        && all.iter().any(|r| r.scale * r.from as f64 != r.to as f64)
    {
        // ONNX's reference keeps the fraction of the size here, other tools do not.
        return unsupported!("with corners aligned and scales that give fractions of elements");
    }
    all.retain(|r| r.to != r.from || r.scale != 1.0);
    Ok(all)
}

/// Where in the input the output position `i` lies.
fn position(place: &str, r: &Resized, i: usize) -> Result<f64, Refusal> {
    let (i, from, to) = (i as f64, r.from as f64, r.to as f64);
    Ok(match place {
        "half_pixel" => (i + 0.5) / r.scale - 0.5,
        "pytorch_half_pixel" => {
            if r.to > 1 {
                (i + 0.5) / r.scale - 0.5
            } else {
                0.0
            }
        }
        "align_corners" => {
            if r.to > 1 {
                i * (from - 1.0) / (to - 1.0)
            } else {
                0.0
            }
        }
        "asymmetric" => i / r.scale,
        "half_pixel_symmetric" => {
            let adjusted = to / (r.scale * from);
            from / 2.0 * (1.0 - adjusted) + (i + 0.5) / r.scale - 0.5
        }
        other => return unsupported!("with coordinates {other}"),
    })
}

fn nearest(x: f64, round: &str, n: usize) -> Result<usize, Refusal> {
    let x = match round {
        "round_prefer_floor" => (x - 0.5).ceil(),
        "round_prefer_ceil" => (x + 0.5).floor(),
        "floor" | "simple" => x.floor(),
        "ceil" => x.ceil(),
        other => return Err(Refusal::Wrong(format!("its nearest_mode `{other}` is none of ONNX's"))),
    };
    Ok(x.clamp(0.0, (n - 1) as f64) as usize)
}

/// Two-point means along rows and columns.
fn linear<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, view: View, all: &[Resized], place: &str) -> Result<View, Refusal> {
    if all.is_empty() {
        return Ok(view);
    }
    let mut view = view;
    let axes_of = |import: &Import<'a>, view: &View| -> Option<Vec<usize>> {
        let shape = import.graph.shape(view.node);
        let found: Vec<usize> = all.iter().map(|r| graph_axis(view, shape, r.axis)).collect::<Option<_>>()?;
        let fits = found.iter().all(|&a| matches!(a, H | W)) && (found.len() < 2 || found.len() == 2 && found[0] != found[1]);
        fits.then_some(found)
    };
    let mut found = axes_of(import, &view);
    if found.is_none() && matches!(view.axes.len(), 3 | 4) && view.axes[0].is_empty() {
        let node = import.pixels(at, &view)?;
        view = import.of_pixels(node, view.axes.len());
        found = axes_of(import, &view);
    }
    let Some(found) = found else { return unsupported!("along these axes") };
    let shape = import.graph.shape(view.node);
    if shape.h.max(shape.w) > MAX_SIDE {
        return unsupported!("of axes of {} and {}", shape.h, shape.w);
    }
    let same = |n: usize| (0..n).map(|i| tap(i as f64, n)).collect::<Vec<Tap>>();
    let mut taps = [same(shape.h), same(shape.w)];
    for (r, &axis) in all.iter().zip(&found) {
        taps[axis] = (0..r.to).map(|i| Ok(tap(position(place, r, i)?, r.from))).collect::<Result<_, Refusal>>()?;
        view.axes[r.axis] = whole(axis, r.to);
    }
    let [rows, columns] = taps;
    view.node = import.add(at, "", Op::Interpolate { rows, columns }, &[view.node])?;
    debug_assert!(all.iter().all(|r| size(&view.axes[r.axis]) == r.to));
    Ok(view)
}
