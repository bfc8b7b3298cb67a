//! The cranelift back end: code in memory (`jit`) and object files (`object`), each in two forms.
//!
//! `calls`: a list of calls of the runtime's kernels, with the stages as data. The JIT calls those of the process it runs in, an
//! object those of the static library that goes with it. The faster form, and the usual one where there is a runtime to call.
//!
//! `module`: every kernel lowered to cranelift IR with 128-bit vectors. `class` groups a plan's steps by shape class, `lower` emits one
//! function a class, `module` adds the entry function that calls them in order. The code calls nothing: it copies, clears and
//! exponentiates by itself. It knows whole tensors and one thread, so its plans are made with
//! [`crate::plan::Options::LAYERED`]. For targets that the runtime has no wide kernels for, and for those who want one file.
//!
//! In the second form every function has the signature `void (pointers…, int64_t first_row, int64_t end_row)`: the pointers in the order that its
//! `class::Class` variant states, then the output rows to compute. Weights come packed by `mnc_runtime::pack`; no pointer
//! needs more alignment than a float's.
//!
//! To add a kernel to it: a variant of `class::Class` with its operands in `Call::of`, a file in `lower/`, an arm in `lower::body`;
//! the compiler names every `match` that must learn it. Emit through `emit::Emit` and read its two warnings first.

mod calls;
mod class;
mod emit;
mod exec;
mod header;
mod jit;
mod lower;
mod module;
mod object;

pub use jit::{JitNet, JitOptions, compile_jit, compile_jit_with};
pub use object::{Object, ObjectOptions, RUNTIME_FILE, object, text};

use crate::diag::Diagnostic;

/// Why a plan could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum ClifError {
    /// The target is not one that objects can be made for.
    #[error("unknown target `{target}`: {reason}")]
    Target {
        /// As given.
        target: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No code can be made for this machine.
    #[error("the JIT does not know this machine: {0}")]
    Host(String),
    /// A tensor of 2 GiB or more.
    #[error("step `{step}`: a tensor of {floats} floats is too large, 2 GiB is the limit")]
    TooLarge {
        /// The step's name.
        step: String,
        /// Its elements.
        floats: usize,
    },
    /// The plan needs what self-contained code does not have.
    #[error("self-contained code knows no {what}{}", if step.is_empty() { String::new() } else { format!(", which step `{step}` needs") })]
    Streamed {
        /// The step's name; empty where it is the whole plan.
        step: String,
        /// What it needs.
        what: &'static str,
    },
    /// The code generator failed: a mistake in this back end or in cranelift.
    #[error("code generation failed: {0}")]
    Code(String),
}

impl From<cranelift_module::ModuleError> for ClifError {
    fn from(e: cranelift_module::ModuleError) -> Self {
        Self::Code(e.to_string())
    }
}

impl ClifError {
    /// For the user, with the mend.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let d = Diagnostic::error(self.to_string());
        match self {
            Self::Target { .. } => d.help(object::TARGETS),
            Self::Host(_) => d.help("use `--engine reference`, or emit an object for a known target"),
            Self::TooLarge { .. } => d.help("make the input or the width smaller"),
            Self::Streamed { .. } => d.help("plan it layer by layer, with `Options::LAYERED`"),
            Self::Code(_) => d.help("this is a mistake in mnc; please report it with the spec"),
        }
    }
}
