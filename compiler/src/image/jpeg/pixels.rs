//! From coefficients to colours with libjpeg's arithmetic (`jidctint.c`, `jdsample.c`, `jdcolor.c`).

/// Bits behind the point of the transform's constants.
const POINT: u32 = 13;
/// Extra bits kept between its two passes.
const EXTRA: u32 = 2;

/// The samples of all blocks, `blocks_w` to a row: rows of `8 * blocks_w`.
pub(super) fn samples(coefficients: &[i16], steps: &[u16; 64], blocks_w: usize) -> Vec<u8> {
    let stride = blocks_w * 8;
    let mut plane = vec![0; coefficients.len()];
    for (row, band) in plane.chunks_exact_mut(stride * 8).zip(coefficients.chunks_exact(blocks_w * 64)) {
        for (x, block) in band.chunks_exact(64).enumerate() {
            let block = inverse_dct(block, steps);
            for (y, line) in block.chunks_exact(8).enumerate() {
                row[y * stride + x * 8..][..8].copy_from_slice(line);
            }
        }
    }
    plane
}

/// The accurate integer inverse transform of Loeffler, Ligtenberg and Moschytz (1989): columns, then rows.
fn inverse_dct(block: &[i16], steps: &[u16; 64]) -> [u8; 64] {
    // 64-bit numbers: hostile coefficients overflow 32.
    let mut middle = [0i64; 64];
    for x in 0..8 {
        let column = [0, 1, 2, 3, 4, 5, 6, 7].map(|y| i64::from(block[y * 8 + x]) * i64::from(steps[y * 8 + x]));
        for (y, v) in eight(column).into_iter().enumerate() {
            middle[y * 8 + x] = descale(v, POINT - EXTRA);
        }
    }
    let mut out = [0; 64];
    for (row, line) in middle.chunks_exact(8).zip(out.chunks_exact_mut(8)) {
        let row = [row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]];
        for (out, v) in line.iter_mut().zip(eight(row)) {
            *out = (descale(v, POINT + EXTRA + 3) + 128).clamp(0, 255) as u8;
        }
    }
    out
}

fn descale(v: i64, bits: u32) -> i64 {
    (v + (1 << (bits - 1))) >> bits
}

/// Eight points; the constants are libjpeg's `FIX_*`, times `2^13`.
fn eight([s0, s1, s2, s3, s4, s5, s6, s7]: [i64; 8]) -> [i64; 8] {
    let z = (s2 + s6) * 4433;
    let (e2, e3) = (z - s6 * 15137, z + s2 * 6270);
    let (e0, e1) = ((s0 + s4) << POINT, (s0 - s4) << POINT);
    let even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];

    let z5 = (s7 + s3 + s5 + s1) * 9633;
    let (z1, z2) = ((s7 + s1) * -7373, (s5 + s3) * -20995);
    let (z3, z4) = ((s7 + s3) * -16069 + z5, (s5 + s1) * -3196 + z5);
    let odd = [s1 * 12299 + z1 + z4, s3 * 25172 + z2 + z3, s5 * 16819 + z2 + z4, s7 * 2446 + z1 + z3];

    [
        even[0] + odd[0],
        even[1] + odd[1],
        even[2] + odd[2],
        even[3] + odd[3],
        even[3] - odd[3],
        even[2] - odd[2],
        even[1] - odd[1],
        even[0] - odd[0],
    ]
}

/// The `from` (width, height) samples at the start of `plane`, in rows of `stride`, stretched by `factors` and cut to the picture's
/// size `to`: doubled by a triangle filter, by other factors repeated, and repeated where a row is too short for the filter.
pub(super) fn upsample(plane: &[u8], stride: usize, from: [usize; 2], factors: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let ([w, h], [width, height]) = (from, to);
    let mut out = Vec::with_capacity(width * height);
    let row = |y: usize| plane[y * stride..][..w].iter().map(|&v| i32::from(v));
    for y in 0..height {
        // The nearer row counts three parts and the further one, which at the edge is the same.
        let near = y / factors[1];
        let far = if y % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(h - 1) };
        // libjpeg alternates its rounding so that the two halves do not drift the same way.
        match factors {
            [1, 1] => out.extend_from_slice(&plane[y * stride..][..w]),
            [1, 2] => {
                let bias = if y % 2 == 0 { 1 } else { 2 };
                out.extend(row(near).zip(row(far)).map(|(n, f)| ((3 * n + f + bias) >> 2) as u8));
            }
            [2, 1] if w > 2 => {
                let sums: Vec<i32> = row(y).collect();
                out.extend(double(&sums, width, |near, other, left| (3 * near + other + if left { 1 } else { 2 }) >> 2));
            }
            [2, 2] if w > 2 => {
                let sums: Vec<i32> = row(near).zip(row(far)).map(|(n, f)| 3 * n + f).collect();
                out.extend(double(&sums, width, |near, other, left| (3 * near + other + if left { 8 } else { 7 }) >> 4));
            }
            [across, _] => out.extend((0..width).map(|x| plane[near * stride + x / across])),
        }
    }
    out
}

/// Each of `sums` twice: `mix(near, neighbour, whether the neighbour is the left one)`; `width` of the results.
fn double(sums: &[i32], width: usize, mix: impl Fn(i32, i32, bool) -> i32) -> impl Iterator<Item = u8> {
    (0..width).map(move |x| {
        let i = x / 2;
        let v = if x % 2 == 0 {
            mix(sums[i], sums[i.saturating_sub(1)], true)
        } else {
            mix(sums[i], sums[(i + 1).min(sums.len() - 1)], false)
        };
        v as u8
    })
}

/// YCbCr to RGB (JFIF, ITU-R 601) in 16-bit fixed point.
pub(super) fn to_rgb(y: &[u8], cb: &[u8], cr: &[u8]) -> Vec<u8> {
    const HALF: i32 = 1 << 15;
    let clip = |v: i32| v.clamp(0, 255) as u8;
    let convert = |((&y, &cb), &cr): ((&u8, &u8), &u8)| {
        let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
        let red = y + ((91_881 * cr + HALF) >> 16);
        let green = y + ((-22_554 * cb - 46_802 * cr + HALF) >> 16);
        let blue = y + ((116_130 * cb + HALF) >> 16);
        [clip(red), clip(green), clip(blue)]
    };
    y.iter().zip(cb).zip(cr).flat_map(convert).collect()
}
