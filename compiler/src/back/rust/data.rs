//! The weights of an emitted net: a file beside the source, never tokens.

use proc_macro2::TokenStream;
use quote::quote;
use xxhash_rust::xxh3::Xxh3Default;

use super::{Options, WeightSource};
use crate::plan::Plan;

/// A file for the emitted code to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightFile {
    /// What its name ends in.
    pub extension: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The file that goes with emitted code.
///
/// For [`WeightSource::Embedded`] the packed weights as they are, little-endian f32. For [`WeightSource::Extern`] a
/// safetensors file with the one tensor `packed`, which starts at a multiple of 64 bytes, and the entry `mnc.layout` of
/// [`layout_key`] in its metadata.
#[must_use]
pub fn weight_file(plan: &Plan, weights: &WeightSource) -> WeightFile {
    let data = &plan.weights.data;
    let mut bytes = Vec::with_capacity(data.len() * 4 + 512);
    let extension = match weights {
        WeightSource::Embedded(_) => "weights",
        WeightSource::Extern => {
            let mut header = format!(
                r#"{{"__metadata__":{{"mnc.layout":"{}","mnc.net":"{}"}},"packed":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#,
                layout_key(plan),
                plan.name.escape_default(),
                data.len(),
                data.len() * 4
            );
            while !(8 + header.len()).is_multiple_of(crate::plan::ALIGN) {
                header.push(' ');
            }
            bytes.extend((header.len() as u64).to_le_bytes());
            bytes.extend(header.into_bytes());
            "weights.safetensors"
        }
    };
    bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
    WeightFile { extension, bytes }
}

/// Names the arrangement of the packed weights: equal keys mean that one net's weight file serves the other's code.
/// It covers every kernel, its sizes and the place of each constant, and not the values, so retrained weights of the same
/// spec fit a program that was built before them.
#[must_use]
pub fn layout_key(plan: &Plan) -> String {
    let mut hash = Xxh3Default::new();
    for step in plan.steps() {
        hash.update(format!("{:?};", step.kernel).as_bytes());
    }
    for entry in &plan.weights.entries {
        hash.update(format!("{}@{}+{};", entry.name, entry.offset, entry.len).as_bytes());
    }
    format!("{:032x}", hash.digest128())
}

/// The `static` with the weights, where they are embedded.
pub(super) fn tokens(plan: &Plan, options: &Options) -> TokenStream {
    match &options.weights {
        WeightSource::Extern => quote! { use ::mnc::runtime::packed; },
        WeightSource::Embedded(path) => {
            let doc = format!(" {} packed constants, little-endian f32.", plan.weights.entries.len());
            quote! {
                #[doc = #doc]
                static WEIGHTS: &[f32] = {
                    static BYTES: &weights::Aligned<[u8]> = &weights::Aligned(*include_bytes!(#path));
                    weights::as_floats(BYTES)
                };
            }
        }
    }
}
