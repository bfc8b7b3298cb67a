//! A plan compiled to a relocatable object file, with a C header and the weight blob beside it.
//!
//! The object is position-independent ELF for x86-64 or aarch64 Linux and exports one function.

use std::str::FromStr;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::Configurable;
use cranelift_module::{Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use target_lexicon::{Aarch64Architecture, Architecture, BinaryFormat, Triple};

use super::module::{self, Defined, Text};
use super::{ClifError, header};
use crate::plan::Plan;

/// What a user may ask for.
pub(super) const TARGETS: &str = "targets are x86_64-unknown-linux-gnu and aarch64-unknown-linux-gnu (or -musl); \
     `+x86-64-v3` behind the triple allows AVX2 and FMA";

/// An object file and what goes with it.
#[derive(Debug, Clone)]
pub struct Object {
    /// ELF, relocatable.
    pub bytes: Vec<u8>,
    /// A C header that declares the function, its sizes and its labels.
    pub header: String,
    /// The packed weights: little-endian f32.
    pub weights: Vec<u8>,
    /// Symbols that the object needs from elsewhere; the header says them too.
    pub externals: Vec<String>,
}

/// Compiles `plan` for `target`, a triple, optionally with `+` and a name that cranelift knows for the processor or a feature
/// (`x86_64-unknown-linux-gnu+x86-64-v3`, `…+znver3`). Without a target: this machine's triple. Without a processor: the oldest
/// of the triple (SSE2 on x86-64; NEON with fused multiply-add on aarch64).
///
/// # Errors
/// [`ClifError::Target`] for a target that is none of these, [`ClifError::TooLarge`] for tensors of 2 GiB and more.
pub fn object(plan: &Plan, target: Option<&str>) -> Result<Object, ClifError> {
    let (module, defined) = define(plan, target, Text::None)?;
    let triple = module.isa().triple().to_string();
    let externals: Vec<String> = defined.externals.into_iter().collect();
    let bytes = module.finish().emit().map_err(|e| ClifError::Code(e.to_string()))?;
    Ok(Object {
        bytes,
        header: header::header(plan, target.unwrap_or(&triple), &externals),
        weights: plan.weights.data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        externals,
    })
}

/// Every function of the object as cranelift's text, before optimisation; the entry function comes last.
///
/// # Errors
/// As [`object`].
pub fn text(plan: &Plan, target: Option<&str>) -> Result<String, ClifError> {
    Ok(define(plan, target, Text::Record)?.1.text)
}

fn define(plan: &Plan, target: Option<&str>, text: Text) -> Result<(ObjectModule, Defined), ClifError> {
    let builder = ObjectBuilder::new(isa(target)?, plan.name.as_str(), default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    let defined = module::define(&mut module, plan, &format!("{}_run", plan.name), text)?;
    Ok((module, defined))
}

/// The instruction set that `target` names.
fn isa(target: Option<&str>) -> Result<OwnedTargetIsa, ClifError> {
    let name = target.unwrap_or("");
    let refuse = |reason: String| ClifError::Target { target: name.to_owned(), reason };
    let (triple, processor) = match name.split_once('+') {
        Some((triple, processor)) => (triple, Some(processor)),
        None => (name, None),
    };
    let triple = match target {
        Some(_) => Triple::from_str(triple).map_err(|e| refuse(e.to_string()))?,
        None => Triple::host(),
    };
    let known = matches!(triple.architecture, Architecture::X86_64 | Architecture::Aarch64(Aarch64Architecture::Aarch64));
    if !known {
        return Err(refuse(format!("no code can be made for `{}`", triple.architecture)));
    }
    if triple.binary_format != BinaryFormat::Elf {
        return Err(refuse(format!("objects are ELF only, not {}", triple.binary_format)));
    }
    let mut builder = isa::lookup(triple).map_err(|e| refuse(e.to_string()))?;
    if let Some(processor) = processor {
        builder.enable(processor).map_err(|e| refuse(e.to_string()))?;
    }
    let isa = builder.finish(module::flags(true)?).map_err(|e| refuse(e.to_string()))?;
    if module::has(&*isa, "has_fma") && !module::has(&*isa, "has_avx") {
        // Cranelift's `x86-64-v3` leaves out AVX, without which it does not use FMA either.
        builder.enable("has_avx").map_err(|e| refuse(e.to_string()))?;
        return builder.finish(module::flags(true)?).map_err(|e| refuse(e.to_string()));
    }
    Ok(isa)
}
