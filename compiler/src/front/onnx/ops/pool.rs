//! Max and average pools, also those whose windows have gaps.

use super::window::{Window, padded, window};
use crate::front::graph::MAX_TABLE;
use crate::front::onnx::import::{At, Import, Refusal, unsupported};
use crate::front::onnx::view::{H, View, W};
use crate::ir::op::{Activation, Binary, BinaryKind, Pool, PoolKind};
use crate::ir::{NodeId, Op, Padding, Shape};

/// `MaxPool` and `AveragePool`
pub(super) fn pool<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    if at.node.outputs.get(1).is_some_and(|o| !o.is_empty()) {
        return unsupported!("with a second result");
    }
    let view = import.computed(at, 0)?;
    let rank = view.axes.len();
    let mut x = import.pixels(at, &view)?;
    let shape = import.graph.shape(x);
    let Window { kernel, stride, dilation, mut pad } = window(at, rank, shape, None)?;
    let kind = if at.node.op == "MaxPool" { PoolKind::Max } else { PoolKind::Average };
    let mut count_padding = kind == PoolKind::Average && at.attrs.int_or("count_include_pad", 0) == 1;
    let ceil = at.attrs.int_or("ceil_mode", 0) == 1;
    if dilation != [1, 1] {
        let window = Window { kernel, stride, dilation, pad };
        let y = gaps(import, at, x, kind, &window, count_padding, ceil)?;
        return Ok(import.of_pixels(y, rank));
    }
    if ceil {
        let bottom = beyond(shape.h + pad.top, pad.bottom, kernel[0], stride[0]);
        let right = beyond(shape.w + pad.left, pad.right, kernel[1], stride[1]);
        // What is added here never counts: then what does is zeros that are there.
        if count_padding {
            x = padded(import, at, x, pad)?;
            (pad, count_padding) = (Padding::ZERO, false);
        }
        pad.bottom += bottom;
        pad.right += right;
    }
    let y = import.add(at, "", Op::Pool(Pool { kind, kernel, stride, pad, count_padding }), &[x])?;
    Ok(import.of_pixels(y, rank))
}

/// A pool whose windows have gaps: what each window reads is picked to stand side by side.
fn gaps<'a>(
    import: &mut Import<'a>,
    at: &At<'_, 'a>,
    x: NodeId,
    kind: PoolKind,
    window: &Window,
    count_padding: bool,
    ceil: bool,
) -> Result<NodeId, Refusal> {
    let shape = import.graph.shape(x);
    let Window { kernel, stride, dilation, pad } = *window;
    let fill = match kind {
        PoolKind::Max => f32::NEG_INFINITY,
        PoolKind::Average => 0.0,
    };
    let mut y = x;
    // How many elements of each window count, by rows and by columns.
    let mut counts = [Vec::new(), Vec::new()];
    for (axis, n, before, after) in [(H, shape.h, pad.top, pad.bottom), (W, shape.w, pad.left, pad.right)] {
        let extent = (kernel[axis] - 1).saturating_mul(dilation[axis]).saturating_add(1);
        let all = n + before + after;
        let Some(room) = all.checked_sub(extent) else {
            return Err(Refusal::Wrong(format!("a window of {extent} does not fit into {all}")));
        };
        let more = if ceil { beyond(n + before, after, extent, stride[axis]) } else { 0 };
        let windows = (room + more) / stride[axis] + 1;
        if windows.saturating_mul(kernel[axis]) > MAX_TABLE {
            return Err(Refusal::Wrong(format!("{windows} windows of {} are too many", kernel[axis])));
        }
        let mut positions = Vec::with_capacity(windows * kernel[axis]);
        for i in 0..windows {
            let each = (0..kernel[axis]).map(|tap| i * stride[axis] + tap * dilation[axis]);
            let counted = each.clone().filter(|&p| if count_padding { p < all } else { (before..before + n).contains(&p) });
            counts[axis].push(counted.count());
            positions.extend(each.map(|p| p.checked_sub(before).filter(|&p| p < n)));
        }
        y = import.gathered(at, y, axis, positions.into_iter(), fill)?;
    }
    if counts.iter().flatten().any(|&n| n == 0) {
        return Err(Refusal::Wrong("a window of it reads nothing but padding".into()));
    }
    let op = Pool { kind, kernel, stride: kernel, pad: Padding::ZERO, count_padding: false };
    y = import.add(at, "", Op::Pool(op), &[y])?;
    let whole = kernel[0] * kernel[1];
    let scale: Vec<f32> = counts[0].iter().flat_map(|r| counts[1].iter().map(move |c| whole as f32 / (r * c) as f32)).collect();
    if kind == PoolKind::Max || scale.iter().all(|&s| s == 1.0) {
        return Ok(y);
    }
    let scale = import.constant_node_of(at, Shape::hwc(counts[0].len(), counts[1].len(), 1), scale)?;
    import.add(at, "scale", Op::Binary(Binary { kind: BinaryKind::Mul, act: Activation::None }), &[y, scale])
}

/// Rows that windows reach beyond `n` and the `pad` behind them where the last one need not be whole but must start before the
/// padding.
fn beyond(n: usize, pad: usize, kernel: usize, stride: usize) -> usize {
    let Some(left) = (n + pad).checked_sub(kernel) else { return 0 };
    let mut last = left.div_ceil(stride) * stride;
    if last >= n {
        last -= stride;
    }
    (last + kernel).saturating_sub(n + pad)
}

/// `GlobalMaxPool`
pub(super) fn global_max<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let x = import.pixels(at, &view)?;
    let shape = import.graph.shape(x);
    let op = Pool { kind: PoolKind::Max, kernel: [shape.h, shape.w], stride: [1, 1], pad: Padding::ZERO, count_padding: false };
    let y = import.add(at, "", Op::Pool(op), &[x])?;
    Ok(import.of_pixels(y, view.axes.len()))
}
