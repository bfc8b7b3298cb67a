//! What engines and passes are tried on: seeded pictures, and inputs at the edges of what f32 can hold.

use crate::ir::random::Random;
use crate::plan::Plan;

/// One input of a net.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// What it is, in a word or two.
    pub name: String,
    /// Whether it is one that a net is made for: errors say something of its answers.
    pub usual: bool,
    /// All of the net's inputs, one behind the other.
    pub input: Vec<f32>,
}

/// `seeds` seeded pictures, then the edges: zeros, numbers of which sums and products are tiny, denormal or huge, the largest
/// there are, NaN and infinities everywhere and in one element alone.
#[must_use]
pub fn cases(plan: &Plan, seeds: u64) -> Vec<Case> {
    let usual = (0..seeds).map(|seed| Case { name: format!("seeded {seed}"), usual: true, input: picture(plan, seed) });
    let len = plan.input_len();
    let edge = |name: &str, input: Vec<f32>| Case { name: name.to_owned(), usual: false, input };
    let scaled = |seed: u64, size: f32| {
        let mut rng = Random::new(seed);
        (0..len).map(|_| rng.uniform(-1.0, 1.0) * size).collect::<Vec<f32>>()
    };
    let signed = |seed: u64, size: f32| scaled(seed, 1.0).into_iter().map(|v| size.copysign(v)).collect::<Vec<f32>>();
    let one = |value: f32| {
        let mut input = picture(plan, 0);
        // In the middle, where windows see it from all sides.
        let at = (plan.input_shape().h / 2 * plan.input_shape().w + plan.input_shape().w / 2) * plan.input_shape().c;
        if let Some(v) = input.get_mut(at) {
            *v = value;
        }
        input
    };
    let edges = [
        edge("zeros", vec![0.0; len]),
        edge("tiny", scaled(1, 1e-30)),
        edge("denormal", scaled(2, 1e-39)),
        edge("huge", scaled(3, 1e30)),
        edge("largest", signed(4, f32::MAX)),
        edge("one NaN", one(f32::NAN)),
        edge("NaN", vec![f32::NAN; len]),
        edge("one infinity", one(f32::INFINITY)),
        edge("infinities", signed(5, f32::INFINITY)),
    ];
    usual.chain(edges).collect()
}

/// A seeded random picture as the net wants it: uniform in the range of pixels, then normalised unless the graph does that itself.
/// Behind it whatever else the net takes: uniform numbers from -1 to 1.
#[must_use]
pub fn picture(plan: &Plan, seed: u64) -> Vec<f32> {
    let (preprocess, shape) = (&plan.preprocess, plan.input_shape());
    let mut rng = Random::new(seed);
    let mut x: Vec<f32> = (0..shape.elements())
        .map(|i| {
            let p = f64::from(rng.uniform(0.0, 1.0));
            if preprocess.in_graph {
                return (p * 255.0).floor() as f32;
            }
            let c = i % shape.c;
            let or = |v: &[f64], default: f64| v.get(c).copied().unwrap_or(default);
            ((p - or(&preprocess.mean, 0.0)) / or(&preprocess.std, 1.0)) as f32
        })
        .collect();
    x.extend((x.len()..plan.input_len()).map(|_| rng.uniform(-1.0, 1.0)));
    x
}
