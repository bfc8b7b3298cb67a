//! mnc compiles a declarative MobileNet spec into fast CPU inference code.
//!
//! This crate is what a program depends on: [`mobilenet_net!`] makes a type of a spec while the program is compiled, and
//! [`runtime`] is what that type calls. With the feature `jit` the whole compiler is here too (`compiler`), to load specs and
//! compile nets while the program runs.
//!
//! ```ignore
//! mnc::mobilenet_net! {
//!     /// A quarter-width net for thumbnails.
//!     pub struct Thumb<alpha = 0.25, input.height = 128, input.width = 128> = "nets/mobilenet_v1.toml";
//! }
//!
//! let mut net = Thumb::boxed();
//! Thumb::normalize(&pixels, &mut input);
//! net.run(&input, &mut scores);
//! ```
//!
//! # Features
//! * `std` (default): `boxed()`, the variable `MNC_ISA`. Without it the crate is `no_std`, and needs no heap either way.
//! * `jit`: the compiler as a library, with code in memory and object files.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "jit")]
pub use mnc_compiler as compiler;
pub use mnc_macros::mobilenet_net;
pub use mnc_runtime as runtime;
pub use mnc_runtime::arena::Arena;
pub use mnc_runtime::net::{Net, RunError};
pub use mnc_runtime::packed::{PackedWeights, WeightError};
