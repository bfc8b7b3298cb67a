//! Seeded random weights, the same on every machine: for layers that a pass makes up, and for tests.
//!
//! SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). Not for secrets.

/// FNV-1a of `name`, from its usual start changed by `seed`.
pub(crate) fn fnv(seed: u64, name: &str) -> u64 {
    name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// A stream of pseudorandom numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream of `seed` and a tensor's name (FNV-1a), so that a tensor's numbers do not depend on the tensors before it.
    #[must_use]
    pub fn keyed(seed: u64, name: &str) -> Self {
        Self::new(Self::new(seed ^ fnv(0, name)).next())
    }

    /// 64 random bits.
    #[expect(clippy::should_implement_trait, reason = "an endless stream of one type; an iterator would wrap it in Some")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`, a multiple of `2^-24` of the range.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.next() >> 40) as f32 / (1u64 << 24) as f32)
    }

    /// An integer below `n`; `n` is not zero.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// `n` weights uniform in `±sqrt(6 / fan_in)`, of variance `2 / fan_in`: a layer before a rectifier then keeps the size of
    /// its inputs (He et al., arXiv 1502.01852).
    pub fn he(&mut self, n: usize, fan_in: usize) -> Vec<f32> {
        let bound = (6.0 / fan_in.max(1) as f64).sqrt() as f32;
        (0..n).map(|_| self.uniform(-bound, bound)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_stream() {
        let mut r = Random::new(0);
        assert_eq!([r.next(), r.next()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4], "the first outputs of SplitMix64(0)");
    }

    #[test]
    fn he_weights_have_their_variance() {
        let w = Random::keyed(1, "w").he(20_000, 50);
        let mean: f64 = w.iter().map(|&v| f64::from(v)).sum::<f64>() / w.len() as f64;
        let variance: f64 = w.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / w.len() as f64;
        assert!(mean.abs() < 0.005 && (variance - 0.04).abs() < 0.001, "{mean} {variance}");
        assert_ne!(w[..5], Random::keyed(1, "v").he(5, 50));
    }
}
