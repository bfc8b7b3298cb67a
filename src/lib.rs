//! mnc compiles a declarative MobileNet spec into fast CPU inference code.
//!
//! This crate is what a program depends on: [`mobilenet_net!`] makes a type of a spec while the program is compiled, and
//! [`runtime`] is what that type calls. With the feature `jit` the whole compiler is here too (`compiler`), to load specs and
//! compile nets while the program runs.
//!
//! ```
//! mnc::mobilenet_net! {
//!     /// Reads one handwritten digit.
//!     pub struct Digits = "examples/digits/digits.toml";
//! }
//!
//! # #[cfg(feature = "std")]
//! fn main() {
//!     let mut net = Digits::boxed();
//!     let pixels = [0; Digits::INPUT_LEN]; // grey bytes, row by row
//!     let (mut input, mut scores) = ([0.0; Digits::INPUT_LEN], [0.0; Digits::OUTPUT_LEN]);
//!     Digits::normalize(&pixels, &mut input);
//!     net.run(&input, &mut scores);
//! }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! The spec can also stand in the program, and the net in large pages of memory, which is some per cent faster:
//!
//! ```
//! mnc::mobilenet_net! {
//!     struct Tiny {
//!         net { input: { height: 32, width: 32, channels: 3 }, activation: relu6 }
//!         weights { seed: 1 }
//!         block conv { kernel: 3, stride: 2, out: 8 }
//!         block separable { out: 16 }
//!         block global_avg_pool {}
//!         block dense { out: 10 }
//!     }
//! }
//!
//! # #[cfg(feature = "std")]
//! fn main() -> Result<(), mnc::RunError> {
//!     use mnc::Net as _;
//!
//!     let mut scores = [0.0; Tiny::OUTPUT_LEN];
//!     Tiny::resident().run(&[0.5; Tiny::INPUT_LEN], &mut scores)
//! }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! # Threads
//! One inference by several threads, to the same bits, where the spec says how many (`plan.threads`); or many pictures, each on
//! one core:
//!
//! ```
//! mnc::mobilenet_net! {
//!     struct Digits<plan.threads = 2> = "examples/digits/digits.toml";
//! }
//!
//! # #[cfg(feature = "std")]
//! fn main() -> Result<(), mnc::RunError> {
//!     let mut team = mnc::Team::new(Digits::THREADS);
//!     let (input, mut scores) = ([0.5; Digits::INPUT_LEN], [0.0; Digits::OUTPUT_LEN]);
//!     Digits::boxed().run_on(&mut team, &input, &mut scores);
//!
//!     let mut nets = [const { Digits::new() }; Digits::THREADS];
//!     let (inputs, mut answers) = (input.repeat(5), scores.repeat(5));
//!     mnc::run_batch(&mut team, &mut nets, &inputs, &mut answers)?;
//!     assert!(answers.chunks(scores.len()).all(|answer| answer == scores));
//!     Ok(())
//! }
//! # #[cfg(not(feature = "std"))]
//! # fn main() {}
//! ```
//!
//! # Features
//! * `std` (default): threads, `boxed()`, the variable `MNC_ISA`. Without it the crate is `no_std`, and needs no heap either way.
//! * `jit`: the compiler as a library, with code in memory and object files.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(feature = "jit")]
pub use mnc_compiler as compiler;
pub use mnc_macros::mobilenet_net;
pub use mnc_runtime as runtime;
pub use mnc_runtime::arena::Arena;
pub use mnc_runtime::net::{Net, Port, RunError};
pub use mnc_runtime::packed::{PackedWeights, WeightError};
pub use mnc_runtime::team::Team;
#[cfg(feature = "std")]
pub use mnc_runtime::team::run_batch;
