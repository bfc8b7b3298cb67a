//! What only moves or rescales pixels: normalisation of raw pixels, padding. Rare, so plain loops for every instruction set.

use super::{check_len, size};

/// `y[p][c] = x[p][order[c]] * scale[c] + shift[c]`, rounded after each of the two: `x` and `y` `[pixels, order.len()]`. Panics
/// where a length is another or `order` names a channel that is not there.
pub fn normalize(pixels: usize, order: &[usize], scale: &[f32], shift: &[f32], x: &[f32], y: &mut [f32]) {
    let c = order.len();
    check_len("normalize input", x.len(), size([pixels, c]));
    check_len("normalize output", y.len(), x.len());
    check_len("normalize scale", scale.len(), c);
    check_len("normalize shift", shift.len(), c);
    assert!(order.iter().all(|&o| o < c), "normalize: channel order {order:?} of {c} channels");
    if c == 0 {
        return;
    }
    for (x, y) in x.chunks_exact(c).zip(y.chunks_exact_mut(c)) {
        for (((y, o), scale), shift) in y.iter_mut().zip(order).zip(scale).zip(shift) {
            *y = x[*o] * scale + shift;
        }
    }
}

/// `x` `[in_h, in_w, c]` with `top` rows above it and `left` columns before it, filled up to `y` `[out_h, out_w, c]` with
/// `value` (`[c]`; zero where absent). Panics where a length is another or the output cannot hold the input there.
#[expect(clippy::too_many_arguments, reason = "sizes of both tensors; a struct would be used here alone")]
pub fn pad(
    in_h: usize,
    in_w: usize,
    c: usize,
    top: usize,
    left: usize,
    out_h: usize,
    out_w: usize,
    value: Option<&[f32]>,
    x: &[f32],
    y: &mut [f32],
) {
    check_len("pad input", x.len(), size([in_h, in_w, c]));
    check_len("pad output", y.len(), size([out_h, out_w, c]));
    let fits = |at: usize, len: usize, out: usize| at.checked_add(len).is_some_and(|end| end <= out);
    assert!(
        fits(top, in_h, out_h) && fits(left, in_w, out_w),
        "pad: {in_h} x {in_w} at ({top}, {left}) does not fit into {out_h} x {out_w}"
    );
    if let Some(v) = value {
        check_len("pad value", v.len(), c);
    }
    if y.is_empty() {
        return;
    }
    let fill = |y: &mut [f32]| match value {
        None => y.fill(0.0),
        Some(v) => y.chunks_exact_mut(c).for_each(|pixel| pixel.copy_from_slice(v)),
    };
    for (oy, row) in y.chunks_exact_mut(out_w * c).enumerate() {
        if oy < top || oy >= top + in_h {
            fill(row);
            continue;
        }
        let (before, rest) = row.split_at_mut(left * c);
        let (middle, after) = rest.split_at_mut(in_w * c);
        fill(before);
        middle.copy_from_slice(&x[(oy - top) * in_w * c..][..in_w * c]);
        fill(after);
    }
}
