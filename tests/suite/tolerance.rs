//! How far two ways of computing one net may lie apart by rounding alone, as `mnc verify` derives it.

use mnc_compiler::ir::Graph;
use mnc_compiler::validate::rounding;
pub use mnc_compiler::validate::rounding::Sums;

/// The bound for every element of the net's outputs, one behind the other, on `input`, which holds all inputs the same way.
pub fn bound(graph: &Graph, input: &[f32], sums: Sums) -> Vec<f64> {
    rounding::expect(graph, input, sums).bound
}

/// Panics where `got` and `want` lie further apart than `bound`; `what` says which net it was.
pub fn assert_close(want: &[f32], got: &[f32], bound: &[f64], what: &str) {
    assert_eq!(want.len(), got.len(), "{what}: lengths");
    for (i, ((w, g), b)) in want.iter().zip(got).zip(bound).enumerate() {
        let off = (f64::from(*w) - f64::from(*g)).abs();
        // Not `>`: NaN must fail.
        assert!(off <= *b && b.is_finite(), "{what}: element {i} is {g}, not {w}: off by {off:e}, bound {b:e}");
    }
}
