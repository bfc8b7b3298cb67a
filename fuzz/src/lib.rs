//! What the fuzz targets run. The tests of the main workspace include [`targets`] and replay `seeds/` through them.

pub mod targets;

/// Random nets, shared with the tests.
#[path = "../../tests/suite/gen.rs"]
pub mod r#gen;
/// Bounds of rounding, shared with the tests.
#[path = "../../tests/suite/tolerance.rs"]
pub mod tolerance;
