//! Back ends: a [`crate::plan::Plan`] in, running code out. They decide nothing; they import neither `ir` nor `pass`.
//!
//! * [`native`] calls the runtime's kernels one after another, from data: no code is generated.
//! * [`rust`] writes Rust source that calls the runtime's const-generic kernels.
//! * `clif` (feature `jit`) lowers every kernel to cranelift IR: code in memory, or an object file.
//!
//! To add one: a folder here that walks `Plan::steps` with an exhaustive `match` over `Kernel`.

#[cfg(feature = "jit")]
pub mod clif;
pub mod native;
pub mod rust;
