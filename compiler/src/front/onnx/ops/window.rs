//! Convolutions, and what a window over rows and columns is.

use crate::front::ast::{MAX_CHANNELS, MAX_KERNEL, MAX_SIDE};
use crate::front::onnx::import::{At, Import, Refusal, unsupported};
use crate::front::onnx::tensor::{Tensor, shown};
use crate::front::onnx::view::View;
use crate::ir::op::{Activation, Conv, ConvTranspose, Depthwise, Pad};
use crate::ir::{NodeId, Op, Padding, Shape};

/// The window of a node, one axis or two.
pub(super) struct Window {
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) dilation: [usize; 2],
    /// As stated, or as `auto_pad` makes it for the input.
    pub(super) pad: Padding,
}

/// Rows and columns from a list of one or two numbers, which `name` is for messages.
fn pair(list: &[i64], rank: usize, max: usize, name: &str) -> Result<[usize; 2], Refusal> {
    let size = |i: i64| {
        usize::try_from(i)
            .ok()
            .filter(|&n| n >= 1 && n <= max)
            .ok_or_else(|| format!("{i} in its {name} is not within 1 to {max}"))
    };
    match (rank, list) {
        (4, [y, x]) => Ok([size(*y)?, size(*x)?]),
        (3, [x]) => Ok([1, size(*x)?]),
        _ => Err(Refusal::Wrong(format!("its {name} {} do not fit a tensor of {rank} axes", shown(list)))),
    }
}

/// The window attributes of `at` over an input of `rank` axes and `x` rows and columns; `kernel` where the weights know it.
pub(super) fn window(at: &At<'_, '_>, rank: usize, x: Shape, kernel: Option<[usize; 2]>) -> Result<Window, Refusal> {
    let a = &at.attrs;
    let stated = a.ints("kernel_shape").map(|list| pair(list, rank, MAX_SIDE, "kernel_shape")).transpose()?;
    let kernel = match (stated, kernel) {
        (Some(stated), Some(kernel)) if stated != kernel => {
            return Err(Refusal::Wrong(format!("its kernel_shape {stated:?} is not that of its weights, {kernel:?}")));
        }
        (Some(kernel), _) | (None, Some(kernel)) => kernel,
        (None, None) => return Err(Refusal::Wrong("it has no kernel_shape".into())),
    };
    let or_one = |name: &str| a.ints(name).map_or(Ok([1, 1]), |list| pair(list, rank, MAX_SIDE, name));
    let (stride, dilation) = (or_one("strides")?, or_one("dilations")?);
    let extent = [0, 1].map(|i| (kernel[i] - 1).saturating_mul(dilation[i]).saturating_add(1));
    let pad = match a.text("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => explicit(a.ints("pads"), rank)?,
        "VALID" => Padding::ZERO,
        "SAME_UPPER" => Padding::same(x.h, x.w, extent, stride),
        "SAME_LOWER" => {
            let upper = Padding::same(x.h, x.w, extent, stride);
            Padding { top: upper.bottom, left: upper.right, bottom: upper.top, right: upper.left }
        }
        other => return Err(Refusal::Wrong(format!("its auto_pad `{other}` is none of ONNX's"))),
    };
    Ok(Window { kernel, stride, dilation, pad })
}

/// `pads`: those in front of all axes, then those behind.
fn explicit(pads: Option<&[i64]>, rank: usize) -> Result<Padding, Refusal> {
    let Some(pads) = pads else { return Ok(Padding::ZERO) };
    let mut sizes = Vec::with_capacity(4);
    for &p in pads {
        sizes.push(
            usize::try_from(p)
                .ok()
                .filter(|&p| p <= MAX_SIDE)
                .ok_or_else(|| format!("{p} in its pads is not within 0 to {MAX_SIDE}"))?,
        );
    }
    match (rank, &sizes[..]) {
        (4, &[top, left, bottom, right]) => Ok(Padding { top, left, bottom, right }),
        (3, &[left, right]) => Ok(Padding { top: 0, left, bottom: 0, right }),
        _ => Err(Refusal::Wrong(format!("its pads {} do not fit a tensor of {rank} axes", shown(pads)))),
    }
}

/// Adds rows and columns of zeros, if there are any to add.
pub(super) fn padded<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, x: NodeId, pad: Padding) -> Result<NodeId, Refusal> {
    if pad.is_zero() { Ok(x) } else { import.add(at, "pad", Op::Pad(Pad { pad, value: None }), &[x]) }
}

/// The kernel of weights `[o, i, h, w]` or `[o, i, w]`.
fn kernel_of(weight: &Tensor, rank: usize) -> Result<([usize; 2], [usize; 2]), Refusal> {
    let (channels, kernel) = match (rank, &weight.dims[..]) {
        (4, &[o, i, h, w]) => ([o, i], [h, w]),
        (3, &[o, i, w]) => ([o, i], [1, w]),
        _ => return Err(Refusal::Wrong(format!("weights of shape {:?} do not fit a tensor of {rank} axes", weight.dims))),
    };
    let fits = |n: usize, max: usize| (1..=max).contains(&n);
    if !channels.iter().all(|&n| fits(n, MAX_CHANNELS)) || !kernel.iter().all(|&n| fits(n, MAX_KERNEL)) {
        return unsupported!("with weights of shape {:?}", weight.dims);
    }
    Ok((channels, kernel))
}

/// A constant of one number an output channel.
fn bias<'a>(import: &mut Import<'a>, at: &At<'_, 'a>, out_c: usize) -> Result<Option<crate::ir::ConstId>, Refusal> {
    if import.value(at, 2)?.is_none() {
        return Ok(None);
    }
    let bias = import.weights(at, 2, "bias")?;
    if bias.len() != out_c {
        return Err(Refusal::Wrong(format!("it has {} biases for {out_c} channels", bias.len())));
    }
    Ok(Some(import.consts(bias.floats().unwrap_or_default().to_vec())?))
}

/// `Conv`
pub(super) fn conv<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let rank = view.axes.len();
    let x = import.pixels(at, &view)?;
    let shape = import.graph.shape(x);
    let weight = import.weights(at, 1, "weights")?;
    let ([out_c, group_in], kernel) = kernel_of(&weight, rank)?;
    let groups = usize::try_from(at.attrs.int_or("group", 1)).unwrap_or(0);
    if groups == 0 || group_in.checked_mul(groups) != Some(shape.c) || !out_c.is_multiple_of(groups) {
        let of = &weight.dims;
        return Err(Refusal::Wrong(format!("weights of shape {of:?} in {groups} groups do not fit {} channels", shape.c)));
    }
    let Window { kernel, stride, dilation, pad } = window(at, rank, shape, Some(kernel))?;
    let bias = bias(import, at, out_c)?;
    let x = padded(import, at, x, pad)?;
    let (pad, act) = (Padding::ZERO, Activation::None);
    // [o][i][tap] to [tap][i][o]
    let taps = kernel[0] * kernel[1];
    let data = weight.floats().unwrap_or_default();
    let mut turned = Vec::with_capacity(data.len());
    for (tap, i) in (0..taps).flat_map(|tap| (0..group_in).map(move |i| (tap, i))) {
        turned.extend((0..out_c).map(|o| data[(o * group_in + i) * taps + tap]));
    }
    let weight = import.consts(turned)?;
    let op = if group_in == 1 && groups > 1 {
        let (channels, multiplier) = (shape.c, out_c / groups);
        Op::Depthwise(Depthwise { channels, multiplier, kernel, stride, dilation, pad, pad_value: None, weight, bias, act })
    } else {
        let (in_c, pad_value) = (shape.c, None);
        Op::Conv(Conv {
            in_c,
            out_c,
            kernel,
            stride,
            dilation,
            groups,
            pad,
            pad_value,
            weight,
            bias,
            act,
            residual: false,
            pool: false,
        })
    };
    let y = import.add(at, "", op, &[x])?;
    Ok(import.of_pixels(y, rank))
}

/// `ConvTranspose`
pub(super) fn conv_transpose<'a>(import: &mut Import<'a>, at: &At<'_, 'a>) -> Result<View, Refusal> {
    let view = import.computed(at, 0)?;
    let rank = view.axes.len();
    let x = import.pixels(at, &view)?;
    let shape = import.graph.shape(x);
    let weight = import.weights(at, 1, "weights")?;
    let ([in_c, group_out], kernel) = kernel_of(&weight, rank)?;
    let groups = usize::try_from(at.attrs.int_or("group", 1)).unwrap_or(0);
    let out_c = group_out.saturating_mul(groups);
    if groups == 0 || in_c != shape.c || !in_c.is_multiple_of(groups) || out_c > MAX_CHANNELS {
        let of = &weight.dims;
        return Err(Refusal::Wrong(format!("weights of shape {of:?} in {groups} groups do not fit {} channels", shape.c)));
    }
    let Window { kernel, stride, dilation, mut pad } = window(at, rank, shape, Some(kernel))?;
    let numbers = |name: &str| -> Result<Option<[usize; 2]>, Refusal> {
        // Zero is a number here, which `pair` knows only as one too few.
        let list: Option<Vec<i64>> = at.attrs.ints(name).map(|l| l.iter().map(|i| i.saturating_add(1)).collect());
        let list = list.map(|l| pair(&l, rank, MAX_SIDE, name)).transpose()?;
        Ok(list.map(|[y, x]| if rank == 3 { [0, x - 1] } else { [y - 1, x - 1] }))
    };
    let mut output_padding = numbers("output_padding")?.unwrap_or([0, 0]);
    let same = at.attrs.text("auto_pad").is_some_and(|p| p.starts_with("SAME"));
    let mut wanted = numbers("output_shape")?;
    if same && wanted.is_none() {
        wanted = Some([shape.h * stride[0], shape.w * stride[1]]);
    }
    if let Some(wanted) = wanted {
        let upper = at.attrs.text("auto_pad") == Some("SAME_UPPER");
        let mut cut = [(0, 0); 2];
        for (i, n) in [shape.h, shape.w].into_iter().enumerate().filter(|&(i, _)| rank == 4 || i == 1) {
            let full = (n - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 + output_padding[i];
            // More than there is comes as padding behind.
            output_padding[i] += wanted[i].saturating_sub(full);
            let all = full.saturating_sub(wanted[i]);
            cut[i] = if upper { (all / 2, all - all / 2) } else { (all - all / 2, all / 2) };
        }
        pad = Padding { top: cut[0].0, left: cut[1].0, bottom: cut[0].1, right: cut[1].1 };
    }
    let bias = bias(import, at, out_c)?;
    // [g][i][o][tap] to [tap][i][g][o]
    let (taps, group_in) = (kernel[0] * kernel[1], in_c / groups);
    let data = weight.floats().unwrap_or_default();
    let mut turned = Vec::with_capacity(data.len());
    for (tap, i) in (0..taps).flat_map(|tap| (0..group_in).map(move |i| (tap, i))) {
        turned.extend((0..out_c).map(|o| data[((o / group_out * group_in + i) * group_out + o % group_out) * taps + tap]));
    }
    let weight = import.consts(turned)?;
    let act = Activation::None;
    let op = ConvTranspose { in_c, out_c, kernel, stride, dilation, groups, pad, output_padding, weight, bias, act };
    let y = import.add(at, "", Op::ConvTranspose(op), &[x])?;
    Ok(import.of_pixels(y, rank))
}
