//! The cranelift back end: every kernel lowered to cranelift IR with 128-bit vectors, run in memory or written to an object.
//!
//! `class` groups a plan's steps by shape class, `lower` emits one function a class, `module` adds the entry function
//! that calls them in order; `jit` and `object` are that module in memory and in a file. The code calls nothing: it copies,
//! clears and exponentiates by itself.
//!
//! Every function has the signature `void (pointers…, int64_t first_row, int64_t end_row)`: the pointers in the order that its
//! `class::Class` variant states, then the output rows to compute. Weights come packed by `mnc_runtime::pack`; no pointer
//! needs more alignment than a float's.
//!
//! To add a kernel: a variant of `class::Class` with its operands in `Call::of`, a file in `lower/`, an arm in `lower::body`;
//! the compiler names every `match` that must learn it. Emit through `emit::Emit` and read its two warnings first.

mod class;
mod emit;
mod exec;
mod header;
mod jit;
mod lower;
mod module;
mod object;

pub use jit::{JitNet, compile_jit};
pub use object::{Object, object, text};

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
            Self::Code(_) => d.help("this is a mistake in mnc; please report it with the spec"),
        }
    }
}
