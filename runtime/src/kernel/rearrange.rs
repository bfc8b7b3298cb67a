//! What moves elements from one shape to another, or takes means over axes: whole tensors without gaps, plain loops over slices
//! for every instruction set, in which runs of neighbours are copied at once.

use super::{check_len, size};

/// Of index tables: no element of the input stands here, but the fill value.
pub const FILL: usize = usize::MAX;

/// The elements at the indices that the tables of rows, columns and channels name; an absent table takes all as they are, [`FILL`]
/// gives `fill`. `x` is of `shape`, `y` as long along every axis as its table. Panics where a length is another or an index is
/// beyond the input.
pub fn gather(shape: [usize; 3], tables: [Option<&[usize]>; 3], fill: f32, x: &[f32], y: &mut [f32]) {
    let [h, w, c] = shape;
    let [rows, columns, channels] = tables;
    let (out_w, out_c) = (columns.map_or(w, <[usize]>::len), channels.map_or(c, <[usize]>::len));
    check_len("gather input", x.len(), size(shape));
    check_len("gather output", y.len(), size([rows.map_or(h, <[usize]>::len), out_w, out_c]));
    if y.is_empty() {
        return;
    }
    // Neighbours in the input that are neighbours in the output.
    let columns_from = columns.map_or(Some(0), run);
    let channels_from = channels.map_or(Some(0), run);
    let pixel = |from: &[f32], to: &mut [f32]| match (channels_from, channels) {
        (Some(first), _) => to.copy_from_slice(&from[first..first + out_c]),
        (None, table) => {
            for (to, &i) in to.iter_mut().zip(table.unwrap_or(&[])) {
                *to = if i == FILL { fill } else { from[i] };
            }
        }
    };
    for (oy, to) in y.chunks_exact_mut(out_w * out_c).enumerate() {
        let iy = rows.map_or(oy, |rows| rows[oy]);
        if iy == FILL {
            to.fill(fill);
            continue;
        }
        let line = &x[iy * w * c..][..w * c];
        match columns_from {
            Some(first) if channels.is_none() => to.copy_from_slice(&line[first * c..][..out_w * c]),
            Some(_) | None => {
                for (ox, to) in to.chunks_exact_mut(out_c).enumerate() {
                    match columns.map_or(ox, |columns| columns[ox]) {
                        FILL => to.fill(fill),
                        ix => pixel(&line[ix * c..][..c], to),
                    }
                }
            }
        }
    }
}

/// Where a table that names neighbours in order begins.
fn run(table: &[usize]) -> Option<usize> {
    let first = *table.first()?;
    (first != FILL && table.iter().enumerate().all(|(i, &at)| Some(at) == first.checked_add(i))).then_some(first)
}

/// Copies one part of a tensor joined of parts: `blocks` runs of `x`, run `i` to `first` elements behind element `i * block` of `y`.
/// Joined along rows there is one block, along columns one a row, along channels one a pixel. Panics where a length is another or
/// a run leaves its block.
pub fn concat_part(blocks: usize, block: usize, first: usize, x: &[f32], y: &mut [f32]) {
    check_len("concat output", y.len(), size([blocks, block]));
    let len = x.len().checked_div(blocks).unwrap_or(0);
    check_len("concat part", x.len(), size([blocks, len]));
    assert!(first <= block && len <= block - first, "concat: {len} elements from {first} on in a block of {block}");
    if len == 0 {
        return;
    }
    for (x, y) in x.chunks_exact(len).zip(y.chunks_exact_mut(block)) {
        y[first..first + len].copy_from_slice(x);
    }
}

/// Output axis `i` is input axis `order[i]` of `x`, which is of `shape`. Panics where a length is another or `order` is no
/// permutation.
pub fn transpose(shape: [usize; 3], order: [usize; 3], x: &[f32], y: &mut [f32]) {
    check_len("transpose input", x.len(), size(shape));
    check_len("transpose output", y.len(), x.len());
    assert!((0..3).all(|i| order.contains(&i)), "transpose: {order:?} is no permutation");
    let steps = [shape[1] * shape[2], shape[2], 1];
    let [_, w, c] = order.map(|i| shape[i]);
    let [row, column, channel] = order.map(|i| steps[i]);
    if y.is_empty() {
        return;
    }
    for (oy, y) in y.chunks_exact_mut(w * c).enumerate() {
        for (ox, y) in y.chunks_exact_mut(c).enumerate() {
            let x = &x[oy * row + ox * column..];
            if channel == 1 {
                y.copy_from_slice(&x[..c]);
            } else {
                for (y, x) in y.iter_mut().zip(x.iter().step_by(channel)) {
                    *y = *x;
                }
            }
        }
    }
}

/// Linear interpolation along rows and columns of an input of `width` columns of `c` channels. `rows` and `columns` have
/// [`crate::params::Tap::words`] of every output row and column. Panics where a length is another or a tap is beyond the input.
pub fn interpolate(rows: &[[usize; 3]], columns: &[[usize; 3]], width: usize, c: usize, x: &[f32], y: &mut [f32]) {
    check_len("interpolate output", y.len(), size([rows.len(), columns.len(), c]));
    if y.is_empty() {
        return;
    }
    let weight = |tap: &[usize; 3]| f32::from_bits(tap[2] as u32);
    for (row, y) in rows.iter().zip(y.chunks_exact_mut(columns.len() * c)) {
        let down = weight(row);
        let lines = [row[0], row[1]].map(|iy| &x[iy * width * c..][..width * c]);
        for (column, y) in columns.iter().zip(y.chunks_exact_mut(c)) {
            let across = weight(column);
            let pixel = |line: usize, tap: usize| &lines[line][column[tap] * c..][..c];
            match (down == 0.0, across == 0.0) {
                (true, true) => y.copy_from_slice(pixel(0, 0)),
                (true, false) => mix(y, across, pixel(0, 0), pixel(0, 1)),
                (false, true) => mix(y, down, pixel(0, 0), pixel(1, 0)),
                (false, false) => {
                    let [a, b, c, d] = [pixel(0, 0), pixel(0, 1), pixel(1, 0), pixel(1, 1)];
                    let (left, above) = (1.0 - across, 1.0 - down);
                    for ((((y, a), b), c), d) in y.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *y = (a * left + b * across) * above + (c * left + d * across) * down;
                    }
                }
            }
        }
    }
}

fn mix(y: &mut [f32], weight: f32, low: &[f32], high: &[f32]) {
    for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
        *y = low * (1.0 - weight) + high * weight;
    }
}

/// Channels summed at a time.
const BLOCK: usize = 16;

/// The mean over the axes that are set, of `x`, which is of `shape`; they become one. Sums are in f64. Panics where a length is
/// another, or where a mean is of nothing.
pub fn mean(shape: [usize; 3], axes: [bool; 3], x: &[f32], y: &mut [f32]) {
    let [_, w, c] = shape;
    let out = |i: usize| if axes[i] { 1 } else { shape[i] };
    let over = |i: usize| if axes[i] { shape[i] } else { 1 };
    check_len("mean input", x.len(), size(shape));
    check_len("mean output", y.len(), size([out(0), out(1), out(2)]));
    let count = over(0) * over(1) * over(2);
    assert!(count > 0 || y.is_empty(), "mean: of no elements");
    let share = 1.0 / count as f64;
    for oy in 0..out(0) {
        for ox in 0..out(1) {
            let mut total = 0f64;
            for first in (0..c).step_by(BLOCK) {
                let n = BLOCK.min(c - first);
                let mut sums = [0f64; BLOCK];
                for iy in oy..oy + over(0) {
                    for ix in ox..ox + over(1) {
                        let pixel = &x[(iy * w + ix) * c + first..][..n];
                        for (sum, x) in sums.iter_mut().zip(pixel) {
                            *sum += f64::from(*x);
                        }
                    }
                }
                if axes[2] {
                    total += sums.iter().sum::<f64>();
                } else {
                    let to = &mut y[(oy * out(1) + ox) * c + first..][..n];
                    for (y, sum) in to.iter_mut().zip(sums) {
                        *y = (sum * share) as f32;
                    }
                }
            }
            if axes[2] {
                y[oy * out(1) + ox] = (total * share) as f32;
            }
        }
    }
}
