//! Random weights, the same on every machine: He initialisation with batch-norm statistics that fit it, so that activations
//! neither vanish nor explode however deep the net is.
//!
//! Every tensor has a stream of its own, seeded by the seed and the layer's name: changing one block leaves the others' weights
//! alone. Two uniform numbers of each step of the stream, because the macro draws millions in an unoptimised build.

use crate::ir::random::{Random, fnv};

use super::layer::{Layer, Moments, Tensor};

/// The elements of `tensor` of `layer`.
pub(super) fn draw(seed: u64, layer: &Layer, tensor: Tensor, moments: Moments) -> Vec<f32> {
    let (part, len) = match tensor {
        Tensor::Weight => (0, layer.kind.weights().unwrap_or(0)),
        Tensor::Bias => (1, layer.kind.out_c()),
        Tensor::Gamma => (2, layer.kind.out_c()),
        Tensor::Beta => (3, layer.kind.out_c()),
        Tensor::Mean => (4, layer.kind.out_c()),
        Tensor::Variance => (5, layer.kind.out_c()),
    };
    let mut stream = Random::new(fnv(seed ^ (part << 56), &layer.name));
    // A uniform number from -a to a has the variance a^2 / 3.
    let (centre, half) = match tensor {
        Tensor::Weight => {
            let variance = moments.output / (moments.input * layer.kind.fan_in() as f64);
            (0.0, (3.0 * variance).sqrt())
        }
        Tensor::Bias => (0.0, 0.1),
        Tensor::Gamma => (1.0, 0.2),
        Tensor::Beta => (0.0, 0.2),
        Tensor::Mean => (0.0, 0.2 * moments.output.sqrt()),
        Tensor::Variance => (moments.output, 0.2 * moments.output),
    };
    uniform(&mut stream, len, centre as f32, half as f32)
}

/// `len` numbers around `centre`, at most `half` from it, of a stream of the tensor's own.
pub(super) fn named(seed: u64, tensor: &str, len: usize, centre: f64, half: f64) -> Vec<f32> {
    let mut stream = Random::new(fnv(seed, tensor));
    uniform(&mut stream, len, centre as f32, half as f32)
}

/// `len` numbers from `centre - half` to `centre + half`.
fn uniform(stream: &mut Random, len: usize, centre: f32, half: f32) -> Vec<f32> {
    let step = half / 8_388_608.0; // 24 bits from -1 to 1
    let mut out = Vec::with_capacity(len + 1);
    while out.len() < len {
        let z = stream.next();
        out.push(centre + ((z >> 40) as i32 - 8_388_608) as f32 * step);
        out.push(centre + ((z as u32 >> 8) as i32 - 8_388_608) as f32 * step);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_uniform_and_repeatable() {
        let draw = |seed| uniform(&mut Random::new(seed), 100_001, 1.0, 0.5);
        let numbers = draw(7);
        assert_eq!(numbers, draw(7));
        assert_ne!(numbers, draw(8));
        let n = numbers.len() as f64;
        let mean = numbers.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
        let variance = numbers.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        assert!((mean - 1.0).abs() < 0.005, "{mean}");
        assert!((variance - 0.25 / 3.0).abs() < 0.001, "{variance}");
        assert!(numbers.iter().all(|x| (0.5..=1.5).contains(x)));
    }
}
