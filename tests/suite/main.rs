//! The one integration test binary: a list of modules, one a subject.

mod api;
mod backends;
mod blocks;
mod calls;
mod checkpoints;
mod cli;
mod clif;
mod data;
mod determinism;
mod digits;
mod ends;
mod faults;
#[cfg(unix)]
#[path = "../../runtime/tests/fence/mod.rs"]
mod fence;
mod fuzz;
mod r#gen;
mod golden;
#[cfg(unix)]
mod guards;
mod images;
mod import;
mod layers;
mod macros;
mod nodes;
mod object;
mod package;
mod passes;
mod plan;
mod real;
mod separate;
mod spec;
mod stability;
mod stream;
mod tflite;
mod threads;
mod tidy;
mod tolerance;
mod tune;
mod verify;
mod weights;

#[cfg(unix)]
#[global_allocator]
static FENCE: fence::Fence = fence::Fence { always: false };
