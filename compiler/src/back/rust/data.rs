//! The weights of an emitted net: a file beside the source, never tokens.

use mnc_runtime::hash::xxh64;
use mnc_runtime::stamp::FORMAT;
use proc_macro2::{Ident, TokenStream};
use quote::quote;

use super::{Options, WeightSource, int};
use crate::back::stamp;
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
/// For [`WeightSource::Embedded`] the packed weights behind 64 bytes that say what they are ([`mnc_runtime::blob`]). For
/// [`WeightSource::Extern`] a safetensors file with the one tensor `packed`, which starts at a multiple of 64 bytes; its metadata
/// have version, format, layout and hash ([`mnc_runtime::packed`]).
#[must_use]
pub fn weight_file(plan: &Plan, weights: &WeightSource) -> WeightFile {
    let blob = stamp::blob(plan);
    let (extension, bytes) = match weights {
        WeightSource::Embedded(_) => ("weights", blob),
        WeightSource::Extern => {
            let data = &blob[mnc_runtime::blob::HEADER_BYTES..];
            let mut header = format!(
                r#"{{"__metadata__":{{"mnc.format":"{FORMAT}","mnc.hash":"{:016x}","mnc.layout":"{}","mnc.net":"{}","mnc.version":"{}"}},"packed":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{}]}}}}"#,
                xxh64(data),
                stamp::layout(plan),
                plan.name.escape_default(),
                stamp::VERSION,
                data.len() / 4,
                data.len()
            );
            while !(8 + header.len()).is_multiple_of(crate::plan::ALIGN) {
                header.push(' ');
            }
            let mut bytes = Vec::with_capacity(8 + header.len() + data.len());
            bytes.extend((header.len() as u64).to_le_bytes());
            bytes.extend(header.into_bytes());
            bytes.extend(data);
            ("weights.safetensors", bytes)
        }
    };
    WeightFile { extension, bytes }
}

/// The `static` with the weights, where they are embedded in the net called `name`.
pub(super) fn tokens(plan: &Plan, options: &Options, name: &Ident) -> TokenStream {
    match &options.weights {
        WeightSource::Extern => quote! { use ::mnc::runtime::packed; },
        WeightSource::Embedded(path) => {
            let doc =
                format!(" {} packed constants, little-endian f32, behind 64 bytes that say so.", plan.weights.entries.len());
            let elements = int(plan.weights.data.len());
            quote! {
                #[doc = #doc]
                static WEIGHT_FILE: &weights::Aligned<[u8]> = &weights::Aligned(*include_bytes!(#path));
                static WEIGHTS: &[f32] = weights::embedded(WEIGHT_FILE, #name::WEIGHT_LAYOUT, #elements);
            }
        }
    }
}
