//! `mobilenet_net!`: a MobileNet spec as a Rust type, compiled while the user's crate is compiled.
//!
//! The entry point only delegates: `input` parses the grammar, once `nesting` has seen that it can, `expand` compiles the spec or finds it in the `cache`,
//! `report` turns diagnostics into errors at the user's tokens.
#![forbid(unsafe_code)]

mod cache;
mod expand;
mod inline;
mod input;
mod nesting;
mod report;

use proc_macro::TokenStream;

// The examples do not run here: what a macro's crate depends on for its tests is compiled twice. Those of `mnc` do.
/// Makes a struct that computes a MobileNet, from its spec.
///
/// ```ignore
/// mnc::mobilenet_net! {
///     /// A quarter-width net for thumbnails.
///     pub struct Thumb<alpha = 0.25, input.height = 128, input.width = 128> = "../examples/nets/mobilenet_v1.toml";
/// }
///
/// # fn main() {
/// let mut net = Thumb::boxed();
/// let mut input = Box::new([0.0; Thumb::INPUT_LEN]);
/// Thumb::normalize(&[128; Thumb::INPUT_LEN], &mut input);
/// let mut scores = [0.0; Thumb::OUTPUT_LEN];
/// net.run(&input, &mut scores);
/// # }
/// ```
///
/// The path is relative to the directory of the crate's `Cargo.toml`. Between the angle brackets stands what `--set` takes at
/// the command line, and `weights`: the path of a checkpoint, also relative to `Cargo.toml`, or `"extern"` for weights that
/// are given at run time.
///
/// In place of the spec the path may be that of an ONNX or TFLite model; the settings give what it does not say (`input.mean`, `outputs`, …).
///
/// The spec can also stand in the struct itself. Tables are written `name { key: value, … }`, blocks `block kind { … }`
/// (or layers, `layer op { … }`), in
/// the order in which they are computed; a value that is one word needs no quotes:
///
/// ```ignore
/// mnc::mobilenet_net! {
///     struct Tiny {
///         net { input: { height: 32, width: 32, channels: 3 }, activation: relu6 }
///         weights { seed: 1 }
///         block conv { kernel: 3, stride: 2, out: 8 }
///         block separable { out: 16 }
///         block global_avg_pool {}
///         block dense { out: 10 }
///     }
/// }
/// ```
///
/// # What the struct has
/// * `INPUT_SHAPE`, `OUTPUT_SHAPE`, `INPUT_LEN`, `OUTPUT_LEN`, `ARENA_BYTES`, `WEIGHT_BYTES`, `MACS`, `PARAMS`, `LABELS`
/// * `const fn new()`, fit for a `static`; with mnc's feature `std` also `boxed()`, which never has the arena on the stack
/// * `run(&mut self, &[f32; INPUT_LEN], &mut [f32; OUTPUT_LEN])` in its own arena, `run_in(&mut Arena<…>, …)` in the caller's;
///   both allocate nothing
/// * with `std` also `resident()`, the same net with arena and a copy of the weights in large pages of memory, which is some per cent
///   faster
/// * `normalize(&[u8; INPUT_LEN], &mut [f32; INPUT_LEN])` from pixels to the input, and `MEAN` and `STD`
/// * `mnc::Net`, the trait that nets compiled in memory implement too
///
/// With `weights = "extern"` the program has no weights inside. `run` and `run_in` take a `PackedWeights`, which
/// `Name::weights(&bytes)` finds in the bytes of the file `NAME.weights.safetensors`; `mnc compile --emit rust-extern` writes that
/// file, and so does this macro: its path on the building machine is `Name::WEIGHT_FILE`. A file made later from other weights of
/// the same spec fits too; one made for other layers is refused.
///
/// # Building
/// Cargo rebuilds when the spec, the checkpoint or the labels change. The result is kept in `target/mnc` (or in the directory
/// that the environment variable `MNC_CACHE_DIR` names) by content, so the net is compiled once, not at every build; the `.rs`
/// file there is the code behind the struct, for reading.
#[proc_macro]
pub fn mobilenet_net(input: TokenStream) -> TokenStream {
    expand::expand(input.into()).unwrap_or_else(|e| e.to_compile_error()).into()
}
