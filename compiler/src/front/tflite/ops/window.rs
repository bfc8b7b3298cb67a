//! Convolutions, pools and resizing: windows over rows and columns.

use super::{Results, TO_NCHW, TO_NHWC, activated, permuted};
use crate::front::tflite::nodes::{At, Attr, Name, Refusal, Writer, unsupported};
use crate::front::tflite::schema::Malformed;

/// `Padding`
const SAME: i8 = 0;

/// What all windows have: options 0 to 2 are padding and steps, of columns first.
fn attributes(at: &At<'_, '_>) -> Result<Vec<(&'static str, Attr)>, Malformed> {
    let (stride_w, stride_h) = (at.options.int(1, 0)?, at.options.int(2, 0)?);
    let pad = if at.options.byte(0)? == SAME { "SAME_UPPER" } else { "VALID" };
    Ok(vec![("strides", Attr::Ints(vec![stride_h.into(), stride_w.into()])), ("auto_pad", Attr::Text(pad))])
}

/// The sizes of weights, of four axes.
fn weight_dims(w: &Writer<'_, '_>, at: &At<'_, '_>, tensor: usize) -> Result<[i64; 4], Malformed> {
    let dims = w.dims(tensor);
    let [a, b, c, d] = dims[..] else { return Err(Malformed(format!("weights of a {} have {} axes", at.called, dims.len()))) };
    Ok([a, b, c, d].map(i64::from))
}

/// The channels of a picture.
fn channels(w: &Writer<'_, '_>, tensor: usize) -> i64 {
    w.dims(tensor).last().map_or(0, |&c| c.into())
}

/// A node of `inputs`, of which the first is a picture, with an activation.
fn windowed(
    w: &mut Writer<'_, '_>,
    at: &At<'_, '_>,
    op: &str,
    mut inputs: Vec<Name>,
    attrs: Vec<(&'static str, Attr)>,
    act: i8,
) -> Result<Name, Refusal> {
    inputs[0] = permuted(w, at, inputs[0].clone(), &TO_NCHW);
    let y = w.node(at, op, inputs, attrs);
    let y = activated(w, at, y, act)?;
    Ok(permuted(w, at, y, &TO_NHWC))
}

/// `CONV_2D`: weights `[o, h, w, i]`, of as many channels as a group has
pub(super) fn conv(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, weight, bias) = (w.given(at, 0)?, w.given(at, 1)?, w.optional(at, 2));
    let [.., in_c] = weight_dims(w, at, weight)?;
    let groups = channels(w, x).checked_div(in_c).unwrap_or(0);
    let mut attrs = attributes(at)?;
    let dilation = [at.options.int(5, 1)?, at.options.int(4, 1)?].map(i64::from);
    attrs.extend([("dilations", Attr::Ints(dilation.to_vec())), ("group", Attr::Int(groups))]);
    let (x, weight) = (w.names[x].clone(), w.names[weight].clone());
    let weight = permuted(w, at, weight, &TO_NCHW);
    Ok(vec![windowed(w, at, "Conv", vec![x, weight, bias], attrs, at.options.byte(3)?)?])
}

/// `DEPTHWISE_CONV_2D`: weights `[1, h, w, o]`
pub(super) fn depthwise(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (x, weight, bias) = (w.given(at, 0)?, w.given(at, 1)?, w.optional(at, 2));
    weight_dims(w, at, weight)?;
    let groups = channels(w, x);
    let mut attrs = attributes(at)?;
    let dilation = [at.options.int(6, 1)?, at.options.int(5, 1)?].map(i64::from);
    attrs.extend([("dilations", Attr::Ints(dilation.to_vec())), ("group", Attr::Int(groups))]);
    let (x, weight) = (w.names[x].clone(), w.names[weight].clone());
    let weight = permuted(w, at, weight, &[3, 0, 1, 2]);
    Ok(vec![windowed(w, at, "Conv", vec![x, weight, bias], attrs, at.options.byte(4)?)?])
}

/// `AVERAGE_POOL_2D` and `MAX_POOL_2D`: padding counts for nothing
pub(super) fn pool(w: &mut Writer<'_, '_>, at: &At<'_, '_>, op: &str) -> Results {
    let mut attrs = attributes(at)?;
    let kernel = [at.options.int(4, 0)?, at.options.int(3, 0)?].map(i64::from);
    attrs.push(("kernel_shape", Attr::Ints(kernel.to_vec())));
    let x = w.input(at, 0)?;
    Ok(vec![windowed(w, at, op, vec![x], attrs, at.options.byte(5)?)?])
}

/// `TRANSPOSE_CONV`: inputs are the result's sizes, weights `[o, h, w, i]`, the picture, biases
pub(super) fn transposed(w: &mut Writer<'_, '_>, at: &At<'_, '_>) -> Results {
    let (weight, x, bias) = (w.given(at, 1)?, w.given(at, 2)?, w.optional(at, 3));
    let [_, kernel_h, kernel_w, _] = weight_dims(w, at, weight)?;
    let stride = [at.options.int(2, 0)?, at.options.int(1, 0)?].map(i64::from);
    let tensor = &w.model.tensors[x];
    let [_, in_h, in_w, _] = tensor.signature[..] else { return unsupported!("on a tensor of {} axes", tensor.dims.len()) };
    let out = w.constant(at, 0, "sizes")?;
    let [_, out_h, out_w, _] = out[..] else {
        return Err(Malformed(format!("sizes of a {} are {out:?}", at.called)).into());
    };
    if in_h < 1 || in_w < 1 {
        return unsupported!("of a picture whose size is left open");
    }
    let (mut before, mut after, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for (i, kernel, stride, out) in [(in_h, kernel_h, stride[0], out_h), (in_w, kernel_w, stride[1], out_w)] {
        // What the windows reach of the result together.
        let reach = (i64::from(i) - 1).saturating_mul(stride).saturating_add(kernel);
        let over = if at.options.byte(0)? == SAME { reach.saturating_sub(out).max(0) } else { 0 };
        before.push(over / 2);
        after.push(over - over / 2);
        more.push(out.saturating_sub(reach.saturating_sub(over)));
    }
    if more.iter().any(|&n| n < 0) {
        return Err(Malformed(format!("sizes {out:?} of a {} are less than its windows reach", at.called)).into());
    }
    before.extend(after);
    let attrs =
        vec![("strides", Attr::Ints(stride.to_vec())), ("pads", Attr::Ints(before)), ("output_padding", Attr::Ints(more))];
    let (x, weight) = (w.names[x].clone(), w.names[weight].clone());
    let weight = permuted(w, at, weight, &[3, 0, 1, 2]);
    Ok(vec![windowed(w, at, "ConvTranspose", vec![x, weight, bias], attrs, at.options.byte(3)?)?])
}

/// `RESIZE_BILINEAR` and `RESIZE_NEAREST_NEIGHBOR` to constant sizes
pub(super) fn resize(w: &mut Writer<'_, '_>, at: &At<'_, '_>, linear: bool) -> Results {
    // The first two options of the linear one are no longer used.
    let first = if linear { 2 } else { 0 };
    let (corners, half) = (at.options.flag(first)?, at.options.flag(first + 1)?);
    let coordinates = match (corners, half) {
        (true, _) => "align_corners",
        (false, true) => "half_pixel",
        (false, false) => "asymmetric",
    };
    let mut attrs = vec![
        ("mode", Attr::Text(if linear { "linear" } else { "nearest" })),
        ("coordinate_transformation_mode", Attr::Text(coordinates)),
    ];
    if !linear {
        // Halves are rounded up.
        attrs.push(("nearest_mode", Attr::Text(if corners || half { "round_prefer_ceil" } else { "floor" })));
    }
    let (x, size) = (w.input(at, 0)?, w.input(at, 1)?);
    let x = permuted(w, at, x, &TO_NCHW);
    let (all, start, end) = (w.node(at, "Shape", vec![x.clone()], Vec::new()), w.list(vec![0]), w.list(vec![2]));
    let kept = w.node(at, "Slice", vec![all, start, end], Vec::new());
    let sizes = w.node(at, "Concat", vec![kept, size], vec![("axis", Attr::Int(0))]);
    let y = w.node(at, "Resize", vec![x, Name::from(""), Name::from(""), sizes], attrs);
    Ok(vec![permuted(w, at, y, &TO_NHWC)])
}
