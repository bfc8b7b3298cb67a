//! 3x3 convolutions at stride 1 as Winograd's filtering F(4x4, 3x3) computes them (`mnc_runtime::params::Method::Winograd4`), whose
//! `kernel/winograd.rs` states the matrices: for every tile of outputs 36 sums of products of transformed inputs and weights.

use mnc_runtime::pack;
use mnc_runtime::params;

use super::OPEN;

/// How much larger than those of the direct sum numbers on the way may be: the largest rows of `|B^T|` and `|A^T|`, 5.3 and 8.3, and the
/// largest element of `|G|`, 1.14, each squared.
pub(super) const LARGER: f64 = 2500.0;

const SIDE: usize = 4;
const TILE: usize = SIDE + 2;

/// `B^T` and `A^T`.
const B: [[f64; TILE]; TILE] = [
    [225.0 / 256.0, 0.0, -169.0 / 64.0, 0.0, 1.0, 0.0],
    [0.0, -45.0 / 32.0, -9.0 / 4.0, 5.0 / 8.0, 1.0, 0.0],
    [0.0, 45.0 / 32.0, -9.0 / 4.0, -5.0 / 8.0, 1.0, 0.0],
    [0.0, -75.0 / 128.0, -25.0 / 64.0, 3.0 / 2.0, 1.0, 0.0],
    [0.0, 75.0 / 128.0, -25.0 / 64.0, -3.0 / 2.0, 1.0, 0.0],
    [0.0, 225.0 / 256.0, 0.0, -169.0 / 64.0, 0.0, 1.0],
];
const A: [[f64; TILE]; SIDE] = [
    [1.0, 1.0, 1.0, 1.0, 1.0, 0.0],
    [0.0, 5.0 / 8.0, -5.0 / 8.0, 3.0 / 2.0, -3.0 / 2.0, 0.0],
    [0.0, 25.0 / 64.0, 25.0 / 64.0, 9.0 / 4.0, 9.0 / 4.0, 0.0],
    [0.0, 125.0 / 512.0, -125.0 / 512.0, 27.0 / 8.0, -27.0 / 8.0, 1.0],
];

/// Roundings of a row of either, where a product and its sum are rounded apart; no number on the way is larger than the sum of all magnitudes.
const ROUNDINGS: f64 = 5.0;

/// A number, and the squares of the roundings in it in units of `u`.
type Rounded = (f64, f64);

/// A row of a matrix times some numbers.
fn times(row: &[f64; TILE], numbers: [Rounded; TILE]) -> Rounded {
    let (mut sum, mut magnitude, mut squares) = (0.0, 0.0, 0.0);
    for (by, (x, roundings)) in row.iter().zip(numbers) {
        sum += by * x;
        magnitude += (by * x).abs();
        squares += by * by * roundings;
    }
    (sum, squares + ROUNDINGS * magnitude * magnitude)
}

/// `M N M^T` of a matrix and a square of numbers.
fn both<const ROWS: usize>(m: &[[f64; TILE]; ROWS], numbers: &[[Rounded; TILE]; TILE]) -> [[Rounded; ROWS]; ROWS] {
    let half: [[Rounded; ROWS]; TILE] =
        std::array::from_fn(|x| std::array::from_fn(|u| times(&m[u], std::array::from_fn(|y| numbers[y][x]))));
    std::array::from_fn(|u| std::array::from_fn(|v| times(&m[v], std::array::from_fn(|x| half[x][u]))))
}

/// For every output of a convolution `p`, in units of `u^2`, the squares of all roundings of what it is made of: `x`
/// `[in_h][in_w][in_c]`, `w` `[3][3][in_c / groups][out_c]`. Open where an input of the tile is not finite.
pub(super) fn squares(p: &params::Conv, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f64> {
    let (in_c, out_c) = (p.in_c / p.groups, p.out_c / p.groups);
    let elements = in_c * p.out_c;
    let mut transformed = vec![0.0; TILE * TILE * elements];
    pack::winograd(SIDE, elements, w, &mut transformed);
    let at = |y: usize, x: usize| (y * p.out_w + x) * p.out_c;
    let mut all = vec![0.0; at(p.out_h, 0)];
    let tiles = |len: usize| (0..len).step_by(SIDE);
    for (group, ty, tx) in (0..p.groups).flat_map(|g| tiles(p.out_h).flat_map(move |y| tiles(p.out_w).map(move |x| (g, y, x)))) {
        let input = |y: usize, x_: usize, c: usize| {
            let (iy, ix) = ((ty + y).wrapping_sub(p.pad_top), (tx + x_).wrapping_sub(p.pad_left));
            if iy < p.in_h && ix < p.in_w { f64::from(x[(iy * p.in_w + ix) * p.in_c + group * in_c + c]) } else { 0.0 }
        };
        let d: Vec<_> = (0..in_c)
            .map(|c| std::array::from_fn(|y| std::array::from_fn(|x| (input(y, x, c), 0.0))))
            .collect::<Vec<[[Rounded; TILE]; TILE]>>();
        let open = d.as_flattened().as_flattened().iter().any(|(x, _)| !x.is_finite());
        let v: Vec<_> = if open { Vec::new() } else { d.iter().map(|d| both(&B, d)).collect() };
        for o in group * out_c..(group + 1) * out_c {
            let mut sums = [[(0.0, 0.0); TILE]; TILE];
            for (c, v) in v.iter().enumerate() {
                for (i, (sum, (v, roundings))) in sums.as_flattened_mut().iter_mut().zip(v.as_flattened()).enumerate() {
                    let u = f64::from(transformed[i * elements + c * p.out_c + o]);
                    let product = v * u;
                    sum.0 += product;
                    // Of the partial sum, of the input, of weight and product.
                    sum.1 += sum.0 * sum.0 + roundings * u * u + 2.0 * product * product;
                }
            }
            let y = both(&A, &sums);
            for (dy, dx) in (0..SIDE).flat_map(|dy| (0..SIDE).map(move |dx| (dy, dx))) {
                if ty + dy < p.out_h && tx + dx < p.out_w {
                    let with_bias = y[dy][dx].0 + bias.map_or(0.0, |b| f64::from(b[o]));
                    all[at(ty + dy, tx + dx) + o] = if open { OPEN } else { y[dy][dx].1 + with_bias * with_bias };
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `A^T ((G g) . (B^T d))` is the sum over the taps, whatever they are: the matrices belong together, and to those of the packing.
    #[test]
    fn the_matrices_compute_windows() {
        for (tap, at) in (0..3).flat_map(|tap| (0..TILE).map(move |at| (tap, at))) {
            let mut w = [0.0; 9];
            // The other direction copies the middle.
            w[tap * 3 + 1] = 1.0;
            let mut u = [0.0; TILE * TILE];
            pack::winograd(SIDE, 1, &w, &mut u);
            let mut d = [[(0.0, 0.0); TILE]; TILE];
            d[at] = [(1.0, 0.0); TILE];
            let v = both(&B, &d);
            let m = std::array::from_fn(|y| std::array::from_fn(|x| (v[y][x].0 * f64::from(u[y * TILE + x]), 0.0)));
            for (dy, row) in both(&A, &m).iter().enumerate() {
                let want = if dy + tap == at { 1.0 } else { 0.0 };
                assert!(row.iter().all(|(y, _)| (y - want).abs() < 1e-6), "tap {tap}, input row {at}, output row {dy}: {row:?}");
            }
        }
    }
}
