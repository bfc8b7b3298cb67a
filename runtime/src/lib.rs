//! What code emitted by mnc calls: kernels per instruction set, arena, weights. `no_std`, no heap, no dependencies.
//!
//! ```text
//! isa     which instructions this CPU has; the vectors that kernels are written in
//! params  shapes and options of every kernel
//! pack    weights from their plain order into the kernels' order
//! kernel  the kernels: checked entries, parameters at run time or as constants
//! arena, weights, packed, net, preprocess   the rest of a network: memory, constants, the common interface, pixels to floats
//! reference   the same operations as naive loops: the oracle
//! ```
//! Tensors are f32, NHWC, batch 1. Without its feature `std` the crate needs `core` alone; `std` adds the environment
//! variable `MNC_ISA` ([`isa::Isa::detect`]) and an arena on the heap.
//!
//! Invariant: `unsafe` stands in `isa` (instructions), `kernel::depthwise` (loads whose bounds its entry has checked),
//! `weights` (bytes seen as floats) and `arena` (zeroed allocation), nowhere else.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod arena;
pub mod isa;
pub mod kernel;
pub mod net;
pub mod pack;
pub mod packed;
pub mod params;
pub mod preprocess;
pub mod program;
pub mod reference;
#[cfg(feature = "std")]
pub mod team;
pub mod weights;
