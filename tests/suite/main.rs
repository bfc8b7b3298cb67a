//! The one integration test binary: a list of modules, one a subject.

mod backends;
mod calls;
mod checkpoints;
mod cli;
mod clif;
mod data;
mod digits;
mod ends;
mod r#gen;
mod golden;
mod images;
mod import;
mod macros;
mod object;
mod package;
mod passes;
mod plan;
mod real;
mod separate;
mod spec;
mod stream;
mod threads;
mod tidy;
mod tolerance;
mod tune;
mod weights;
