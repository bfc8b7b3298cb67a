//! A trained convolution as a sum of depthwise-separable terms, best first (Guo et al., Network Decoupling, arXiv 1808.05517).
//!
//! Input channel `c` contributes `W_c * patch_c`, where `W_c` is `C_out x k^2` and `patch_c` the window on channel `c`. With the
//! singular value decomposition `W_c = sum_t s_t u_t v_t'`, term `t` is a depthwise filter `v_t` followed by a pointwise column
//! `s_t u_t = W_c v_t`. Keeping `T` of them loses `sum_{t > T} s_t^2` of `|W_c|^2` (Frobenius), and nothing keeps more
//! (Eckart, Young 1936). All `min(k^2, C_out)` terms are the convolution itself.
//!
//! Where a batch norm alone follows, output channel `o` is multiplied by `d_o = gamma / sqrt(variance + eps)`. What matters then
//! is the error of the effective weights `d_o W_c[o]`, so those are decomposed: `diag(d) W_c`. The pointwise column stays
//! `W_c v_t`, since `diag(d)^-1 (s_t u_t) = W_c v_t`, and a channel that the batch norm switches off (`d_o = 0`) does no harm.
//!
//! The tall matrix is brought to its `k^2 x k^2` triangle first (Householder), which has the same `s` and `v`; only that small
//! one goes through the library's iteration. This also runs inside an unoptimised proc macro.

use nalgebra::{DMatrix, SVD};

use super::super::name;
use super::split_names;
use crate::ir::op::{Activation, Conv, Depthwise, Op, ShapeError};
use crate::ir::{Graph, NodeId, Padding};

/// Every term of one convolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    taps: usize,
    max: usize,
    /// `[in_c][max][taps]`: the right singular vectors of each input channel, largest singular value first.
    vectors: Vec<f64>,
    /// `[max]`: squared singular values, summed over input channels.
    energy: Vec<f64>,
}

impl Terms {
    /// How many terms are the whole convolution: `min(k^2, C_out)`.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max
    }

    /// Relative error of the effective weights (Frobenius norm of the difference over that of the weights) with the first
    /// `terms` terms, from the singular values left out; 0 for a layer of zeros.
    #[must_use]
    pub fn error(&self, terms: usize) -> f64 {
        let total: f64 = self.energy.iter().sum();
        let left: f64 = self.energy.iter().skip(terms).sum();
        if total > 0.0 { (left / total).sqrt() } else { 0.0 }
    }
}

/// The convolution at `id` as terms.
///
/// # Errors
/// Why there are none: it is no plain convolution, its weights are not finite, the decomposition does not converge.
pub fn decompose(graph: &Graph, id: NodeId) -> Result<Terms, String> {
    let Op::Conv(conv) = graph.op(id) else { return Err(format!("{} is no convolution", name(graph, id))) };
    if conv.groups != 1 {
        return Err("a convolution in groups is not separated".into());
    }
    let weight = graph.consts.get(conv.weight);
    let scale = output_scale(graph, id, conv);
    if !weight.iter().all(|w| w.is_finite()) || !scale.iter().all(|d| d.is_finite()) {
        return Err("its weights are not finite".into());
    }
    let (taps, rows) = (conv.kernel[0] * conv.kernel[1], conv.out_c);
    let max = taps.min(rows);
    let mut terms = Terms { taps, max, vectors: Vec::with_capacity(conv.in_c * max * taps), energy: vec![0.0; max] };
    for c in 0..conv.in_c {
        // Column-major, a column a tap.
        let mut a = Vec::with_capacity(taps * rows);
        for tap in 0..taps {
            let at = (tap * conv.in_c + c) * rows;
            a.extend(weight[at..at + rows].iter().zip(&scale).map(|(&w, d)| f64::from(w) * d));
        }
        let basis = right_vectors(a, rows, taps).ok_or("the singular value decomposition of its weights does not converge")?;
        for (t, (energy, vector)) in basis.into_iter().enumerate() {
            terms.energy[t] += energy;
            terms.vectors.extend(vector);
        }
    }
    Ok(terms)
}

/// What a batch norm that alone reads the convolution multiplies its output channels by; ones where there is none.
fn output_scale(graph: &Graph, id: NodeId, conv: &Conv) -> Vec<f64> {
    match graph.single_user(id).map(|user| graph.op(user)) {
        Some(Op::BatchNorm(bn)) if conv.act == Activation::None => bn.affine(&graph.consts).into_iter().map(|(d, _)| d).collect(),
        Some(_) | None => vec![1.0; conv.out_c],
    }
}

/// Right singular vectors of the column-major `rows x columns` matrix `a` with their squared singular values, largest first,
/// `min(rows, columns)` of them; `None` if the iteration fails.
fn right_vectors(mut a: Vec<f64>, rows: usize, columns: usize) -> Option<Vec<(f64, Vec<f64>)>> {
    let rows = if rows > columns { triangle(&mut a, rows, columns) } else { rows };
    let max = rows.min(columns);
    if a.iter().all(|&v| v == 0.0) {
        let unit = |t: usize| (0..columns).map(|k| f64::from(u8::from(k == t))).collect();
        return Some((0..max).map(|t| (0.0, unit(t))).collect());
    }
    let svd = SVD::try_new(DMatrix::from_column_slice(rows, columns, &a), false, true, 5.0 * f64::EPSILON, 10_000)?;
    let v = svd.v_t?;
    // Measured, not taken over: the predicted error is then that of these very vectors.
    let energy = |vector: &[f64]| -> f64 {
        (0..rows).map(|r| (0..columns).map(|k| a[k * rows + r] * vector[k]).sum::<f64>().powi(2)).sum()
    };
    let mut basis: Vec<(f64, Vec<f64>)> = (0..max)
        .map(|t| {
            let vector: Vec<f64> = v.row(t).iter().copied().collect();
            (energy(&vector), vector)
        })
        .collect();
    basis.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let dot = |s: usize, t: usize| basis[s].1.iter().zip(&basis[t].1).map(|(a, b)| a * b).sum::<f64>();
    let orthonormal = (0..max).all(|s| (0..=s).all(|t| (dot(s, t) - f64::from(u8::from(s == t))).abs() < 1e-9));
    orthonormal.then_some(basis)
}

/// Householder's reduction of the tall column-major `a` to its triangle `R` (`A = Q R`), left in `a` as a column-major square;
/// returns its rows. `R` has the singular values and right singular vectors of `A`.
fn triangle(a: &mut Vec<f64>, rows: usize, columns: usize) -> usize {
    for k in 0..columns {
        let (head, tail) = a.split_at_mut((k + 1) * rows);
        let v = &mut head[k * rows + k..];
        let norm = v.iter().map(|x| x * x).sum::<f64>().sqrt();
        if norm == 0.0 {
            continue;
        }
        // The sign that does not cancel.
        let alpha = if v[0] > 0.0 { -norm } else { norm };
        v[0] -= alpha;
        let square = v.iter().map(|x| x * x).sum::<f64>();
        for column in tail.chunks_exact_mut(rows) {
            let column = &mut column[k..];
            let factor = 2.0 * v.iter().zip(column.iter()).map(|(a, b)| a * b).sum::<f64>() / square;
            for (x, v) in column.iter_mut().zip(v.iter()) {
                *x -= factor * v;
            }
        }
        v.fill(0.0);
        v[0] = alpha;
    }
    *a = a.chunks_exact(rows).flat_map(|column| column[..columns].to_vec()).collect();
    columns
}

/// Replaces the convolution at `id` by the first `terms` terms of `all`: `id` becomes the pointwise convolution and keeps bias
/// and whatever is fused behind its sum; a depthwise convolution goes before it and takes its window. `b.conv` becomes
/// `b.depthwise` and `b.pointwise`. All terms may be asked for, though that costs more than the convolution did.
///
/// # Errors
/// When the graph refuses the edit: `all` is of another layer.
pub fn rewrite(graph: &mut Graph, id: NodeId, all: &Terms, terms: usize) -> Result<(), ShapeError> {
    let Op::Conv(conv) = graph.op(id).clone() else {
        return Err(ShapeError(format!("{} is no convolution", name(graph, id))));
    };
    if all.taps != conv.kernel[0] * conv.kernel[1] || all.vectors.len() != conv.in_c * all.max * all.taps || terms > all.max {
        return Err(ShapeError(format!("these are not the terms of {}", name(graph, id))));
    }
    let (taps, out_c, wide) = (all.taps, conv.out_c, conv.in_c * terms);
    let old = graph.consts.get(conv.weight);
    let mut depthwise = vec![0f32; taps * wide];
    let mut pointwise = vec![0f32; wide * out_c];
    let mut sums = vec![0f64; out_c];
    for (c, t) in (0..conv.in_c).flat_map(|c| (0..terms).map(move |t| (c, t))) {
        let vector = &all.vectors[(c * all.max + t) * taps..][..taps];
        sums.fill(0.0);
        for (tap, &v) in vector.iter().enumerate() {
            depthwise[tap * wide + c * terms + t] = v as f32;
            let row = &old[(tap * conv.in_c + c) * out_c..][..out_c];
            for (sum, &w) in sums.iter_mut().zip(row) {
                *sum += f64::from(w) * v;
            }
        }
        for (to, sum) in pointwise[(c * terms + t) * out_c..].iter_mut().zip(&sums) {
            *to = *sum as f32;
        }
    }
    let depthwise = Op::Depthwise(Depthwise {
        channels: conv.in_c,
        multiplier: terms,
        kernel: conv.kernel,
        stride: conv.stride,
        dilation: conv.dilation,
        pad: conv.pad,
        pad_value: conv.pad_value,
        weight: graph.consts.add(depthwise),
        bias: None,
        act: Activation::None,
    });
    let mut inputs = graph.inputs_of(id);
    let depthwise_name = split_names(graph, id);
    inputs[0] = graph.add(depthwise_name, depthwise, &inputs[..1])?;
    let weight = graph.consts.add(pointwise);
    let pointwise = Conv {
        in_c: wide,
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pad: Padding::ZERO,
        pad_value: None,
        weight,
        ..conv
    };
    graph.replace(id, Op::Conv(pointwise), &inputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::random::Random;

    fn matrix(rows: usize, columns: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        (0..rows * columns).map(|_| f64::from(random.uniform(-1.0, 1.0))).collect()
    }

    /// `|A v|^2` as measured on the whole matrix.
    fn energy(a: &[f64], rows: usize, v: &[f64]) -> f64 {
        (0..rows).map(|r| v.iter().enumerate().map(|(k, v)| a[k * rows + r] * v).sum::<f64>().powi(2)).sum()
    }

    #[test]
    fn the_triangle_keeps_the_energies_of_tall_wide_and_square_matrices() {
        for (rows, columns) in [(64, 9), (10, 9), (9, 9), (5, 9), (1, 9), (300, 25), (7, 1), (1, 1), (4, 2)] {
            let a = matrix(rows, columns, (rows * columns) as u64);
            let basis = right_vectors(a.clone(), rows, columns).unwrap();
            assert_eq!(basis.len(), rows.min(columns));
            for (s, v) in &basis {
                assert!((energy(&a, rows, v) - s).abs() < 1e-9 * (1.0 + s), "{rows}x{columns}");
            }
            let (total, found) = (a.iter().map(|v| v * v).sum::<f64>(), basis.iter().map(|(s, _)| s).sum::<f64>());
            assert!((total - found).abs() < 1e-9 * total, "{rows}x{columns}: {total} {found}");
            assert!(basis.is_sorted_by(|a, b| a.0 >= b.0));
        }
    }

    /// Singular values known by hand: an orthogonal frame scaled by 3, 2 and 0.
    #[test]
    fn known_singular_values_and_rank_deficiency() {
        // rows (1,1)/sqrt 2 * 3 and (1,-1)/sqrt 2 * 2 over three columns, the third zero
        let h = 0.5f64.sqrt();
        let a = vec![3.0 * h, 2.0 * h, 0.0, 3.0 * h, -2.0 * h, 0.0, 0.0, 0.0, 0.0];
        let basis = right_vectors(a, 3, 3).unwrap();
        for ((s, _), want) in basis.iter().zip([9.0, 4.0, 0.0]) {
            assert!((s - want).abs() < 1e-12, "{s} {want}");
        }
        let zero = right_vectors(vec![0.0; 40], 8, 5).unwrap();
        assert!(zero.iter().all(|(s, v)| *s == 0.0 && v.iter().sum::<f64>() == 1.0));
        // Every column the same: rank 1.
        let column = matrix(30, 1, 5);
        let basis = right_vectors(column.repeat(9), 30, 9).unwrap();
        let total = 9.0 * column.iter().map(|v| v * v).sum::<f64>();
        assert!((basis[0].0 - total).abs() < 1e-10 * total && basis[1].0 < 1e-20 * total, "{:?}", basis[1].0);
    }
}
