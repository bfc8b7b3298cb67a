//! A plan compiled to a relocatable object file, with a C header and the weight blob beside it.
//!
//! The object is position-independent ELF for x86-64 or aarch64 Linux and exports one function, its stamp as text, and a symbol whose
//! name holds the hash of the code, which the header asks for: a header of another object does not link. On x86-64 Linux it calls the
//! runtime's kernels, in the static library [`Object::runtime`], unless it shall be self-contained.

use std::str::FromStr;

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::Configurable;
use cranelift_module::{DataDescription, Linkage, Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use mnc_runtime::program::Checked;
use target_lexicon::{Aarch64Architecture, Architecture, BinaryFormat, OperatingSystem, Triple};

use super::calls;
use super::module::{self, Defined, Text};
use super::{ClifError, header};
use crate::back::program::Tables;
use crate::back::stamp::{self, Stamp};
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
    /// The file of packed weights ([`mnc_runtime::blob`]).
    pub weights: Vec<u8>,
    /// Symbols that the object needs from elsewhere; the header says them too.
    pub externals: Vec<String>,
    /// The static library with these symbols, to be written as [`RUNTIME_FILE`]; the same for all nets. Nothing where the object
    /// is self-contained.
    pub runtime: Option<&'static [u8]>,
}

/// What the static library is called.
pub const RUNTIME_FILE: &str = "libmnc_rt.a";

/// The static library for x86-64 Linux; empty where this compiler was built without one (see `build.rs`).
static RUNTIME: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libmnc_rt.a"));

/// For which machine, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ObjectOptions<'a> {
    /// A triple, optionally with `+` and a name that cranelift knows for the processor or a feature
    /// (`x86_64-unknown-linux-gnu+x86-64-v3`, `…+znver3`); this machine's triple without it. The processor only matters for
    /// self-contained code; the oldest of the triple without it (SSE2 on x86-64; NEON with fused multiply-add on aarch64).
    pub target: Option<&'a str>,
    /// With kernels that cranelift generates instead of the runtime's in a static library, which only x86-64 Linux has. The plan
    /// must be made with [`crate::plan::Options::LAYERED`].
    pub self_contained: bool,
}

impl ObjectOptions<'_> {
    /// Whether the object is self-contained, asked for or for want of a library, so that its plan must be made with
    /// [`crate::plan::Options::LAYERED`].
    ///
    /// # Errors
    /// [`ClifError::Target`] for a target that objects cannot be made for.
    pub fn wants_layers(&self) -> Result<bool, ClifError> {
        Ok(self.runtime(isa(self.target)?.triple()).is_none())
    }

    /// The library to call.
    fn runtime(&self, triple: &Triple) -> Option<&'static [u8]> {
        let known = triple.architecture == Architecture::X86_64 && triple.operating_system == OperatingSystem::Linux;
        (known && !self.self_contained && !RUNTIME.is_empty()).then_some(RUNTIME)
    }
}

/// Compiles `plan` to an object file.
///
/// # Errors
/// [`ClifError::Target`] for a target that objects cannot be made for; where the object is self-contained,
/// [`ClifError::TooLarge`] for tensors of 2 GiB and more and [`ClifError::Streamed`] for a plan with rings, gaps between pixels,
/// groups or threads.
pub fn object(plan: &Plan, options: ObjectOptions<'_>) -> Result<Object, ClifError> {
    let (module, defined) = define(plan, options, Text::None)?;
    let runtime = options.runtime(module.isa().triple());
    let triple = module.isa().triple().to_string();
    let externals: Vec<String> = defined.externals.into_iter().collect();
    let bytes = module.finish().emit().map_err(|e| ClifError::Code(e.to_string()))?;
    Ok(Object {
        bytes,
        header: header::header(plan, options.target.unwrap_or(&triple), &externals, runtime.is_some()),
        weights: stamp::blob(plan),
        externals,
        runtime,
    })
}

/// Every function of the object as cranelift's text, before optimisation; the entry function comes last.
///
/// # Errors
/// As [`object`].
pub fn text(plan: &Plan, options: ObjectOptions<'_>) -> Result<String, ClifError> {
    Ok(define(plan, options, Text::Record)?.1.text)
}

fn define(plan: &Plan, options: ObjectOptions<'_>, text: Text) -> Result<(ObjectModule, Defined), ClifError> {
    let builder = ObjectBuilder::new(isa(options.target)?, plan.name.as_str(), default_libcall_names())?;
    let mut module = ObjectModule::new(builder);
    let symbol = format!("{}_run", plan.name);
    let defined = match options.runtime(module.isa().triple()) {
        Some(_) => {
            let tables = Tables::new(plan);
            let program = Checked::new(tables.program()).map_err(|e| ClifError::Code(e.to_string()))?;
            calls::function(&mut module, program, &symbol, text)?
        }
        None => module::define(&mut module, plan, &symbol, text)?,
    };
    let line = Stamp::of("object", plan).to_string();
    for (symbol, bytes) in [(format!("{}_stamp", plan.name), line.as_bytes()), (code_symbol(plan), &[])] {
        let data = module.declare_data(&symbol, Linkage::Export, false, false)?;
        let mut description = DataDescription::new();
        description.define([bytes, &[0]].concat().into_boxed_slice());
        module.define_data(data, &description)?;
    }
    Ok((module, defined))
}

/// The symbol that the object has and the header asks for.
pub(super) fn code_symbol(plan: &Plan) -> String {
    format!("{}_code_{}", plan.name, stamp::code(plan))
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
