//! The one integration test binary: a list of modules, one a subject.

mod data;
mod r#gen;
mod images;
mod passes;
mod tolerance;
