//! What code emitted by mnc calls: kernels per instruction set, arena, weights. `no_std`, no heap, no dependencies.
#![cfg_attr(not(feature = "std"), no_std)]

pub mod params;
pub mod reference;
