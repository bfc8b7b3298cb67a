//! What code made by mnc calls: kernels per instruction set, and the loop that runs a network of them. `no_std`, no heap, no
//! dependencies.
//!
//! ```text
//! isa         which instructions this CPU has; the vectors that kernels are written in
//! params      sizes and options of every kernel
//! pack        weights from their plain order into the kernels' order
//! kernel      the kernels: checked entries for whole tensors, and bands for `program`
//! program     a network as data, checked once, and the interpreter that streams it
//! team        threads that share an inference, or a batch
//! net         what every network can do
//! abi         stages of a network for code that is not Rust: the JIT's, and object files
//! arena, weights, packed, preprocess   the rest of a network: memory, constants, pixels to floats
//! pages, resident   large pages of memory, and an emitted net in them
//! stamp, blob, hash   which version made it, what files of weights look like, whether they are whole
//! reference   the same operations as naive loops: the oracle
//! ```
//! Tensors are f32, NHWC, batch 1. Without its feature `std` the crate needs `core` alone; `std` adds threads, programs made at
//! run time ([`program::Owned`]), the environment variable `MNC_ISA` ([`isa::Isa::detect`]) and an arena on the heap.
//!
//! Invariant: `unsafe` stands on these islands, nowhere else. `isa`: instructions that a token proves to exist. `kernel`: bands,
//! whose callers keep their pointers good; the checked entries are such callers. `program/run.rs`: calls bands of a program
//! that `program/check.rs`, which is safe code, let through. `abi`: entries for
//! machine code, whose makers keep what they ask for. `team`: a borrowed closure handed to threads that are waited for.
//! `weights`: bytes seen as floats. `arena`: zeroed allocation. `pages`: the same in large pages.
#![cfg_attr(not(feature = "std"), no_std)]

#[cfg(target_pointer_width = "64")]
pub mod abi;
pub mod arena;
pub mod blob;
pub mod hash;
pub mod isa;
pub mod kernel;
pub mod net;
pub mod pack;
pub mod packed;
#[cfg(feature = "std")]
pub mod pages;
pub mod params;
pub mod preprocess;
pub mod program;
pub mod reference;
#[cfg(feature = "std")]
pub mod resident;
pub mod stamp;
#[cfg_attr(not(feature = "std"), path = "alone.rs")]
pub mod team;
pub mod weights;
