//! Pointwise convolutions as Strassen's method computes them (`mnc_runtime::params::Method::Strassen`): seven products of sums.

use mnc_runtime::pack::STRASSEN_GROUP;
use mnc_runtime::params::{Method, Pointwise};

use super::OPEN;
use crate::ir::Shape;
use crate::ir::op::Conv;

/// How much larger than those of the direct sum partial sums may be: three inputs times three weights in one product.
pub(super) const LARGER: f64 = 9.0;

/// Whether a convolution to `shape` may be computed so.
pub(super) fn may_be(c: &Conv, shape: Shape) -> bool {
    let p =
        Pointwise { h: shape.h, w: shape.w, in_c: c.in_c, out_c: c.out_c, act: c.act, pool: c.pool, method: Method::Strassen };
    c.is_pointwise() && p.has_method()
}

/// A product: the sum so far, and the squares of the roundings in it, in units of `u`.
#[derive(Clone, Copy, Default)]
struct Running {
    sum: f64,
    squares: f64,
}

impl Running {
    /// Adds `s * t`, where `roundings` are the squares of those of `s`; `t` is rounded once.
    fn add(&mut self, s: f64, roundings: f64, t: f64) {
        self.sum += s * t;
        self.squares += self.sum.powi(2) + roundings * t * t + (s * t).powi(2);
    }

    /// The sum of `k` products that starts from `bias`, which all partial sums hold: `(a + b)^2 <= 2 a^2 + 2 b^2`.
    fn from(self, bias: f64, k: usize) -> Self {
        if bias == 0.0 {
            return self;
        }
        Self { sum: self.sum + bias, squares: 2.0 * self.squares + 2.0 * k as f64 * bias * bias }
    }

    /// `self + other`, rounded.
    fn and(self, other: Self) -> Self {
        let sum = self.sum + other.sum;
        Self { sum, squares: self.squares + other.squares + sum * sum }
    }
}

/// For every output, in units of `u^2`, the squares of all roundings of the products and sums that it is made of: `x` `[pixels][in_c]`,
/// `w` `[in_c][out_c]`. Open where an input of the pair of pixels is not finite.
pub(super) fn squares(x: &[f32], w: &[f32], bias: Option<&[f32]>, in_c: usize, out_c: usize) -> Vec<f64> {
    let (k, half) = (in_c / 2, STRASSEN_GROUP / 2);
    let mut all = vec![0.0; x.len() / in_c * out_c];
    for (x, y) in x.chunks_exact(2 * in_c).zip(all.chunks_exact_mut(2 * out_c)) {
        if x.iter().any(|x| !x.is_finite()) {
            y.fill(OPEN);
            continue;
        }
        for left in (0..out_c).filter(|o| o % STRASSEN_GROUP < half) {
            let mut m = [Running::default(); 7];
            for c in 0..k {
                let [a11, a12, a21, a22] = [c, c + k, c + in_c, c + in_c + k].map(|i| f64::from(x[i]));
                let at = |row: usize, column: usize| f64::from(w[row * out_c + column]);
                let [b11, b12, b21, b22] = [at(c, left), at(c, left + half), at(c + k, left), at(c + k, left + half)];
                let (s1, t1) = (a21 + a22, b12 - b11);
                let (s2, t2) = (s1 - a11, b22 - t1);
                let (s3, t3) = (a11 - a21, b22 - b12);
                let (s4, t4) = (a12 - s2, t2 - b21);
                let of = |sums: &[f64]| sums.iter().map(|s| s * s).sum::<f64>();
                m[0].add(a11, 0.0, b11);
                m[1].add(a12, 0.0, b21);
                m[2].add(s4, of(&[s1, s2, s4]), b22);
                m[3].add(a22, 0.0, t4);
                m[4].add(s1, of(&[s1]), t1);
                m[5].add(s2, of(&[s1, s2]), t2);
                m[6].add(s3, of(&[s3]), t3);
            }
            let bias = |o: usize| bias.map_or(0.0, |b| f64::from(b[o]));
            let (left_bias, right_bias) = (bias(left), bias(left + half));
            let [m1, m2, m3, m4, m5, m6, m7] = m;
            // Sums of products, each rounded once more.
            let u2 = m1.and(m6);
            let u3 = u2.and(m7);
            let m5 = m5.from(right_bias, k);
            y[left] = m1.and(m2.from(left_bias, k)).squares;
            y[left + half] = u2.and(m5).and(m3).squares;
            y[out_c + left] = u3.and(Running { sum: -m4.sum, ..m4 }.from(left_bias, k)).squares;
            y[out_c + left + half] = u3.and(m5).squares;
        }
    }
    all
}
