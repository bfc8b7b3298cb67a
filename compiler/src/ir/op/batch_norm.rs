//! Inference-time batch normalisation: `y = gamma * (x - mean) / sqrt(variance + eps) + beta` per channel.

use crate::ir::{ConstId, Consts};

/// Attributes of [`crate::ir::Op::BatchNorm`]; every constant has one element a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Scale.
    pub gamma: ConstId,
    /// Shift.
    pub beta: ConstId,
    /// Running mean.
    pub mean: ConstId,
    /// Running variance, without `eps`.
    pub variance: ConstId,
    /// Added to the variance.
    pub eps: f64,
}

impl BatchNorm {
    /// The same map as `y = scale * x + shift`, computed in f64.
    #[must_use]
    pub fn affine(&self, consts: &Consts) -> Vec<(f64, f64)> {
        let all = [self.gamma, self.beta, self.mean, self.variance].map(|id| consts.get(id));
        (0..all[0].len())
            .map(|c| {
                let [gamma, beta, mean, variance] = all.map(|a| f64::from(a[c]));
                let scale = gamma / (variance + self.eps).sqrt();
                (scale, beta - mean * scale)
            })
            .collect()
    }
}
