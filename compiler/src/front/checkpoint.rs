//! A safetensors file: read as a whole, its tensors found by name and read as f32. It is not mapped into memory: a file that another
//! program cuts short meanwhile would kill the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use sha2::Digest;

use super::ast::Sha256;
use super::half;
use crate::diag::Diagnostic;

/// A checkpoint in memory.
pub(super) struct Checkpoint {
    bytes: Vec<u8>,
    /// By name.
    pub(super) tensors: BTreeMap<String, Info>,
}

/// Where a tensor stands and what it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Info {
    dtype: Dtype,
    /// Dimensions as stored.
    pub(super) shape: Vec<usize>,
    /// Bytes of the file.
    range: Range<usize>,
}

impl Info {
    /// Whether its elements can be read as f32.
    pub(super) fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
    }

    /// The element type's name in the file.
    pub(super) fn dtype(&self) -> String {
        format!("{:?}", self.dtype)
    }
}

impl Checkpoint {
    /// Reads the file, which must be the one with the hash, if there is one.
    ///
    /// # Errors
    /// When it cannot be opened, is another file, at the place of the hash, or is not a whole safetensors file.
    pub(super) fn open(path: &Path, must: Option<&Sha256>) -> Result<Self, Diagnostic> {
        let shown = path.display();
        let cannot = |e: std::io::Error| Diagnostic::error(format!("cannot read the checkpoint {shown}: {e}"));
        let file = File::open(path).map_err(cannot)?;
        let meta = file.metadata().map_err(cannot)?;
        if !meta.is_file() || meta.len() == 0 {
            return Err(Diagnostic::error(format!("the checkpoint {shown} is empty or no file")));
        }
        let mut bytes = Vec::new();
        let len = usize::try_from(meta.len()).ok().filter(|&n| bytes.try_reserve_exact(n).is_ok());
        if len.is_none() {
            return Err(Diagnostic::error(format!("the checkpoint {shown} of {} bytes does not fit into memory", meta.len())));
        }
        // No more than it had, should it be growing.
        file.take(meta.len()).read_to_end(&mut bytes).map_err(cannot)?;
        if let Some(Sha256 { digits, span }) = must {
            let found = sha256(&bytes);
            if found != *digits {
                let d = Diagnostic::error(format!(
                    "the checkpoint {shown} is not the one that the spec names: its SHA-256 is {found}"
                ));
                let help = "put the right file there; where this one is meant, write its SHA-256 here or remove the line";
                return Err(d.at(span, "this is another file's").help(help));
            }
        }
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| {
            let d = Diagnostic::error(format!("the checkpoint {shown} is not a whole safetensors file: {e}"));
            d.help(what_else(&bytes).unwrap_or("it may be cut off: compare its size with the original's"))
        })?;
        let data = header + 8;
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let range = data + info.data_offsets.0..data + info.data_offsets.1;
            if range.start > range.end || range.end > bytes.len() {
                return Err(Diagnostic::error(format!("the checkpoint {shown} is damaged: {name} lies outside the file")));
            }
            tensors.insert(name, Info { dtype: info.dtype, shape: info.shape.clone(), range });
        }
        Ok(Self { bytes, tensors })
    }

    /// Takes a prefix off all names that training wrappers put in front of all of them; false where there is none.
    pub(super) fn strip_wrapper(&mut self) -> bool {
        let all = |prefix: &&&str| !self.tensors.is_empty() && self.tensors.keys().all(|name| name.starts_with(**prefix));
        let Some(prefix) = ["module.", "model.", "_orig_mod.", "net.", "backbone."].iter().find(all) else { return false };
        self.tensors = std::mem::take(&mut self.tensors).into_iter().map(|(n, i)| (n[prefix.len()..].to_string(), i)).collect();
        true
    }

    /// The elements of a tensor in stored order; empty for an element type that is not a float.
    pub(super) fn read(&self, info: &Info) -> Vec<f32> {
        let bytes = &self.bytes[info.range.clone()];
        match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16(*b)).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16(*b)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
            _ => Vec::new(),
        }
    }
}

/// SHA-256 in small hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Names other formats that people have checkpoints in, and the way from there.
fn what_else(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [b'P', b'K', 3, 4, ..] => {
            Some("this is a zip archive, such as torch.save or Keras write: save it with safetensors instead")
        }
        [0x89, b'H', b'D', b'F', ..] => {
            Some("this is an HDF5 file, such as older Keras versions write: save it with safetensors")
        }
        [0x80, 2..=5, ..] => Some("this is a Python pickle: save it with safetensors instead"),
        [_, _, _, _, b'T', b'F', b'L', b'3', ..] => Some("this is a TFLite model, not a checkpoint"),
        _ => None,
    }
}
