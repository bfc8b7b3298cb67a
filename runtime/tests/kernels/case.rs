//! Operands, tolerance and the band check that all kernel tests share.

use std::ops::Range;

use mnc_runtime::params::{Activation, Real};
use proptest::prelude::*;

/// What outputs hold before a kernel runs: a NaN of its own, so that an element left alone can be told from one computed.
pub const UNWRITTEN: u32 = 0x7fab_cdef;

pub fn unwritten(len: usize) -> Vec<f32> {
    vec![f32::from_bits(UNWRITTEN); len]
}

/// `n` random cases a test, or as many as `PROPTEST_CASES` says: few where each takes long, as under Miri and Valgrind.
pub fn cases(n: u32) -> ProptestConfig {
    let asked = std::env::var_os("PROPTEST_CASES").map(|_| ProptestConfig::default().cases);
    ProptestConfig { cases: asked.unwrap_or(n), failure_persistence: None, ..ProptestConfig::default() }
}

/// `n`, but `few` under Miri, which takes some thousand times as long.
pub const fn size(n: usize, few: usize) -> usize {
    if cfg!(miri) { few } else { n }
}

/// Reproducible values in -1..1 (xorshift64*).
pub fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40
    };
    (0..len).map(|_| next() as f32 / (1 << 23) as f32 - 1.0).collect()
}

pub fn abs(x: &[f32]) -> Vec<f32> {
    x.iter().map(|v| v.abs()).collect()
}

pub const ACTIVATIONS: [Activation; 12] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::HSwish,
    Activation::HSigmoid,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Silu,
    Activation::LeakyRelu(Real::new(0.1)),
    Activation::Clip(Real::new(-0.25), Real::new(0.5)),
    Activation::Clip(Real::new(-0.5), Real::new(f32::INFINITY)),
    Activation::HardSigmoid(Real::new(0.2), Real::new(0.5)),
];

pub fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(&ACTIVATIONS[..])
}

/// `|got - want| <= (terms + 8) * 2^-23 * magnitude + 2^-22`, where `magnitude` is the same sum over absolute values.
///
/// Adding up `n` terms in any order is off by at most `n * 2^-24` times the sum of their magnitudes (Higham, Accuracy and
/// Stability, 4.2), twice that where a product is rounded before it is added. The 8 and the absolute part cover the activation:
/// slopes up to 1.5, its own few roundings, and those whose result is not small where its argument is.
pub fn close(what: &str, terms: usize, got: &[f32], want: &[f32], magnitude: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, ((got, want), magnitude)) in got.iter().zip(want).zip(magnitude).enumerate() {
        let bound = (terms + 8) as f32 * f32::EPSILON * magnitude + 2.0 * f32::EPSILON;
        assert!((got - want).abs() <= bound, "{what}: element {i} is {got}, not {want} +- {bound}");
    }
}

pub fn same_bits(what: &str, got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: element {i} is {got}, not {want}");
    }
}

/// Runs a kernel whole, then in bands (cut wherever a bit of `cuts` is set, last band first): the bits must be the same, and a
/// band must leave all other rows alone. Returns the whole result. `start` is what `y` holds before.
pub fn banded(what: &str, rows: usize, cuts: u32, start: &[f32], run: impl Fn(Range<usize>, &mut [f32])) -> Vec<f32> {
    let mut whole = start.to_vec();
    run(0..rows, &mut whole);
    let mut edges: Vec<usize> = (0..=rows).filter(|&r| r == 0 || r == rows || cuts >> (r % 32) & 1 == 1).collect();
    edges.dedup();
    let row = start.len() / rows;
    let mut pieces = start.to_vec();
    for band in edges.windows(2).rev() {
        let before = pieces.clone();
        run(band[0]..band[1], &mut pieces);
        same_bits(&format!("{what}: rows above {band:?}"), &pieces[..band[0] * row], &before[..band[0] * row]);
        same_bits(&format!("{what}: rows below {band:?}"), &pieces[band[1] * row..], &before[band[1] * row..]);
    }
    run(rows..rows, &mut pieces);
    same_bits(&format!("{what} in bands {edges:?}"), &pieces, &whole);
    whole
}
