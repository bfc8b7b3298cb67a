//! Back ends: a [`crate::plan::Plan`] in, running code out. They decide nothing; they import neither `ir` nor `pass`.
//!
//! * [`mod@program`] turns a plan into the tables that the runtime's interpreter reads.
//! * [`native`] runs those tables from memory: no code is generated.
//! * [`rust`] writes them down as Rust constants.
//! * [`stamp`] says in each of them which version made it, and of what.
//! * `clif` (feature `jit`) lowers every kernel to cranelift IR: code in memory, or an object file.
//!
//! To add one: a folder here that walks `Plan::steps` with an exhaustive `match` over `Kernel`.

#[cfg(feature = "jit")]
pub mod clif;
pub mod native;
pub mod program;
pub mod rust;
pub mod stamp;
