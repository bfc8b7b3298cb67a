//! Packed weights: the order in which kernels read them, zero padded to whole panels so that no kernel needs a mask.
//!
//! * `panels`, for [`crate::kernel::pointwise`] and [`crate::kernel::conv`]: a `[k][n]` matrix as `[ceil(n / 16)][k][16]`, so a
//!   register tile of sixteen output channels reads one panel from front to back.
//! * `grouped`: the same for each group of a convolution in groups, one behind the other.
//! * `winograd`: the weights of 3x3 windows, `[9][c][n]`, as `[16][c][n]` or `[36][c][n]` for [`crate::params::Method::Winograd2`] or
//!   [`crate::params::Method::Winograd4`], which are then packed so.
//! * `strassen`: a `[k][n]` matrix as the seven factors of [`crate::params::Method::Strassen`] for each [`STRASSEN_GROUP`] columns.
//! * `depthwise`: `[taps][c]` as `[ceil(c / 16)][taps][16]`: a vector of sixteen lanes reads a block's taps from front to back, one of
//!   eight reads one half of every row.
//!
//! Biases are padded with zeros to whole panels or blocks ([`bias_len`]).

use crate::isa::simd::MOST_LANES;

/// Output channels of a panel, or of a block of depthwise weights: as many as the widest vector has lanes.
pub const PANEL: usize = MOST_LANES;

/// Elements of a `[k][n]` matrix in panels.
#[must_use]
pub const fn panels_len(k: usize, n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Packs `w`, a `[k][n]` matrix, into `out` of [`panels_len`] elements. Panics where a length is another.
pub fn panels(k: usize, n: usize, w: &[f32], out: &mut [f32]) {
    assert_eq!(w.len(), k * n, "weights of a {k} x {n} matrix");
    assert_eq!(out.len(), panels_len(k, n), "panels of a {k} x {n} matrix");
    blocks(k, n, n, w, out);
}

/// Elements of `groups` groups of panels of `[k][n]` matrices.
#[must_use]
pub const fn grouped_len(groups: usize, k: usize, n: usize) -> usize {
    groups * panels_len(k, n)
}

/// Packs `w`, weights `[k][groups * n]` of a convolution in groups, each of `k` rows and `n` output channels, into `out` of
/// [`grouped_len`] elements: the panels of one group behind those of the other. With `k = 1` a bias. Panics where a length is
/// another.
pub fn grouped(groups: usize, k: usize, n: usize, w: &[f32], out: &mut [f32]) {
    assert_eq!(w.len(), groups * k * n, "weights of {groups} groups of {k} x {n} matrices");
    assert_eq!(out.len(), grouped_len(groups, k, n), "panels of {groups} groups of {k} x {n} matrices");
    for (group, out) in out.chunks_exact_mut(panels_len(k, n).max(1)).enumerate() {
        blocks(k, n, groups * n, &w[group * n..], out);
    }
}

/// Transforms `w`, weights `[3][3][elements]`, to `[side + 2][side + 2][elements]`: `G g G^T` with the `G` of F(side x side, 3x3), which
/// `kernel/winograd.rs` states, added up in f64 and rounded once. `side` is 2 or 4. Panics where it or a length is another.
#[expect(clippy::cast_possible_truncation, reason = "computed in f64, stored in f32")]
pub fn winograd(side: usize, elements: usize, w: &[f32], out: &mut [f32]) {
    assert!(side == 2 || side == 4, "tiles of {side} x {side} outputs");
    let tile = side + 2;
    assert_eq!(w.len(), 9 * elements, "weights of 3x3 windows");
    assert_eq!(out.len(), tile * tile * elements, "weights of transformed windows");
    // The value at a point of the polynomial with the taps as coefficients, by the product of its distances to the others.
    let (near, far) = (f64::from(NEAR), f64::from(FAR));
    let row = |at: usize| -> [f64; 3] {
        let powers = |point: f64, by: f64| [1.0 / by, point / by, point * point / by];
        match (side, at) {
            (2, 0) => powers(0.0, 1.0),
            (2, 1) => powers(1.0, 2.0),
            (2, 2) => powers(-1.0, 2.0),
            (4, 0) => powers(0.0, near * near * far * far),
            (4, 1) => powers(near, 2.0 * near * near * (near * near - far * far)),
            (4, 2) => powers(-near, 2.0 * near * near * (near * near - far * far)),
            (4, 3) => powers(far, 2.0 * far * far * (far * far - near * near)),
            (4, 4) => powers(-far, 2.0 * far * far * (far * far - near * near)),
            _ => [0.0, 0.0, 1.0],
        }
    };
    for (at, to) in out.chunks_exact_mut(elements.max(1)).enumerate() {
        let (rows, columns) = (row(at / tile), row(at % tile));
        for (i, to) in to.iter_mut().enumerate() {
            let mut sum = 0.0;
            for (ky, row) in rows.into_iter().enumerate() {
                for (kx, column) in columns.into_iter().enumerate() {
                    sum += row * column * f64::from(w[(ky * 3 + kx) * elements + i]);
                }
            }
            *to = sum as f32;
        }
    }
}

/// The points of interpolation of F(4x4, 3x3) beside 0 and infinity, each with both signs; `kernel/winograd.rs` calls them `a` and `b`.
pub(crate) const NEAR: f32 = 0.625;
pub(crate) const FAR: f32 = 1.5;

/// Output channels whose halves [`strassen`] joins: two vectors of the widest kind, twice.
pub const STRASSEN_GROUP: usize = 4 * PANEL;

/// Elements of a `[k][n]` matrix as [`strassen`] packs it.
#[must_use]
pub const fn strassen_len(k: usize, n: usize) -> usize {
    k * n / 4 * 7
}

/// Packs `w`, a `[k][n]` matrix, into `out` of [`strassen_len`] elements: for every [`STRASSEN_GROUP`] columns, with their quarters `b11 b12` over
/// `b21 b22`, the panels of `b11`, `b21`, `t2 = b22 - t1`, `t3 = b22 - b12`, `-t4 = b21 - t2`, `t1 = b12 - b11` and `b22`, each `[k / 2][32]`
/// and rounded once. Panics where a length is another, `k` is odd or `n` no multiple of a group.
#[expect(clippy::cast_possible_truncation, reason = "computed in f64, stored in f32")]
pub fn strassen(k: usize, n: usize, w: &[f32], out: &mut [f32]) {
    assert_eq!(w.len(), k * n, "weights of a {k} x {n} matrix");
    assert_eq!(out.len(), strassen_len(k, n), "factors of a {k} x {n} matrix");
    assert!(k.is_multiple_of(2) && n.is_multiple_of(STRASSEN_GROUP), "quarters of a {k} x {n} matrix");
    // Of b11, b12, b21, b22.
    const FACTORS: [[f64; 4]; 7] = [
        [1.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [1.0, -1.0, 0.0, 1.0],
        [0.0, -1.0, 0.0, 1.0],
        [-1.0, 1.0, 1.0, -1.0],
        [-1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0],
    ];
    let (half, rows) = (STRASSEN_GROUP / 2, k / 2);
    for (i, out) in out.chunks_exact_mut((rows * PANEL).max(1)).enumerate() {
        let (group, factor, panel) = (i / 14, FACTORS[i / 2 % 7], i % 2);
        let first = group * STRASSEN_GROUP + panel * PANEL;
        for (row, out) in out.chunks_exact_mut(PANEL).enumerate() {
            for (lane, to) in out.iter_mut().enumerate() {
                let at = |down: usize, right: usize| f64::from(w[(down * rows + row) * n + first + right * half + lane]);
                let quarters = [at(0, 0), at(0, 1), at(1, 0), at(1, 1)];
                *to = factor.into_iter().zip(quarters).map(|(f, q)| f * q).sum::<f64>() as f32;
            }
        }
    }
}

/// Elements of `[taps][c]` depthwise weights in blocks of [`PANEL`] channels.
#[must_use]
pub const fn depthwise_len(taps: usize, c: usize) -> usize {
    panels_len(taps, c)
}

/// Packs `w`, depthwise weights `[taps][c]` with `c` output channels, into `out` of [`depthwise_len`] elements. Panics where a
/// length is another.
pub fn depthwise(taps: usize, c: usize, w: &[f32], out: &mut [f32]) {
    assert_eq!(w.len(), taps * c, "depthwise weights of {taps} taps and {c} channels");
    assert_eq!(out.len(), depthwise_len(taps, c), "packed depthwise weights of {taps} taps and {c} channels");
    blocks(taps, c, c, w, out);
}

/// Elements of the bias of `n` output channels in whole panels.
#[must_use]
pub const fn bias_len(n: usize) -> usize {
    n.div_ceil(PANEL) * PANEL
}

/// Copies a bias (nothing, for a layer without one) and fills up with zeros. Panics where `out` is shorter than `bias`.
pub fn bias(bias: Option<&[f32]>, out: &mut [f32]) {
    let bias = bias.unwrap_or(&[]);
    out[..bias.len()].copy_from_slice(bias);
    out[bias.len()..].fill(0.0);
}

/// `[k][n]`, rows `pitch` apart, to `[ceil(n / PANEL)][k][PANEL]`.
fn blocks(k: usize, n: usize, pitch: usize, w: &[f32], out: &mut [f32]) {
    for (block, out) in out.chunks_exact_mut((k * PANEL).max(1)).enumerate() {
        let first = block * PANEL;
        let valid = PANEL.min(n - first);
        for (row, out) in out.chunks_exact_mut(PANEL).enumerate() {
            out[..valid].copy_from_slice(&w[row * pitch + first..][..valid]);
            out[valid..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Weight files and code of one format understand each other: where an element stands may only change with the number.
    #[test]
    fn weights_are_packed_as_the_format_says() {
        let w: Vec<f32> = (0..9 * 40).map(|v| v as f32).collect();
        let mut all = Vec::new();
        let mut add = |len: usize, pack: &dyn Fn(&mut [f32])| {
            let mut out = vec![f32::NAN; len];
            pack(&mut out);
            all.extend(out.iter().flat_map(|v| v.to_le_bytes()));
        };
        add(panels_len(9, 40), &|out| panels(9, 40, &w, out));
        add(grouped_len(2, 9, 20), &|out| grouped(2, 9, 20, &w, out));
        add(16 * 40, &|out| winograd(2, 40, &w, out));
        add(36 * 40, &|out| winograd(4, 40, &w, out));
        add(strassen_len(4, 64), &|out| strassen(4, 64, &w[..256], out));
        add(depthwise_len(9, 40), &|out| depthwise(9, 40, &w, out));
        add(bias_len(40), &|out| bias(Some(&w[..40]), out));
        let found = crate::hash::xxh64(&all);
        let known = (6, 0x3cf3_0051_df0e_b242);
        assert_eq!(
            (crate::stamp::FORMAT, found),
            known,
            "the packing changed: give `stamp::FORMAT` the next number, then write {found:#x} here"
        );
    }

    proptest! {
        /// Every weight stands where the layout says, and everything else is zero.
        #[test]
        fn panels_hold_the_matrix(k in 1usize..20, n in 1usize..50) {
            let w: Vec<f32> = (1..=k * n).map(|v| v as f32).collect();
            let mut out = vec![f32::NAN; panels_len(k, n)];
            panels(k, n, &w, &mut out);
            for (at, v) in out.iter().enumerate() {
                let (panel, row, lane) = (at / (k * PANEL), at / PANEL % k, at % PANEL);
                let column = panel * PANEL + lane;
                prop_assert_eq!(*v, if column < n { w[row * n + column] } else { 0.0 });
            }
        }

        /// Each group's panels are those of its columns.
        #[test]
        fn groups_are_packed_one_by_one(groups in 1usize..5, k in 1usize..10, n in 1usize..40) {
            let w: Vec<f32> = (1..=groups * k * n).map(|v| v as f32).collect();
            let mut out = vec![f32::NAN; grouped_len(groups, k, n)];
            grouped(groups, k, n, &w, &mut out);
            for (group, out) in out.chunks(panels_len(k, n)).enumerate() {
                let columns: Vec<f32> = w.chunks(groups * n).flat_map(|row| row[group * n..][..n].to_vec()).collect();
                let mut want = vec![f32::NAN; panels_len(k, n)];
                panels(k, n, &columns, &mut want);
                prop_assert_eq!(out, want);
            }
        }

        #[test]
        fn depthwise_blocks_hold_the_taps(taps in 1usize..26, c in 1usize..40) {
            let w: Vec<f32> = (1..=taps * c).map(|v| v as f32).collect();
            let mut out = vec![f32::NAN; depthwise_len(taps, c)];
            depthwise(taps, c, &w, &mut out);
            for (at, v) in out.iter().enumerate() {
                let (block, tap, lane) = (at / (taps * PANEL), at / PANEL % taps, at % PANEL);
                let channel = block * PANEL + lane;
                prop_assert_eq!(*v, if channel < c { w[tap * c + channel] } else { 0.0 });
            }
        }
    }

    #[test]
    fn bias_is_padded() {
        let mut out = [f32::NAN; 4];
        bias(Some(&[1.0, 2.0, 3.0]), &mut out);
        assert_eq!(out, [1.0, 2.0, 3.0, 0.0]);
        bias(None, &mut out);
        assert_eq!(out, [0.0; 4]);
        assert_eq!((bias_len(1), bias_len(16), bias_len(17)), (16, 16, 32));
    }
}
