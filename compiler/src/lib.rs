//! The mnc compiler: spec -> graph -> passes -> plan -> code.
//!
//! ```text
//! spec.toml | mobilenet_net!{..}     front/   parse, check, lower; all mistakes collected
//!    -> Graph                        ir/      what is computed; eval() is the oracle
//!    -> passes                       pass/    one const value each, in one PIPELINE; verified after each
//!    -> Plan                         plan/    how: kernels, packed weights, buffers, offsets, proof
//!    -> Rust | CLIF | native         back/    read only the plan
//! ```

pub mod back;
#[cfg(feature = "cli")]
pub mod cli;
mod compile;
pub mod diag;
pub mod front;
#[cfg(feature = "cli")]
pub mod image;
pub mod ir;
pub mod machine;
pub mod pass;
pub mod plan;
pub mod tune;
#[cfg(feature = "jit")]
pub mod validate;

pub use compile::{CompileError, Compiled, compile};
