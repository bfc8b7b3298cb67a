//! Code in memory: the only unsafe part of this back end.
//!
//! cranelift-jit writes code into pages that it then makes executable and no longer writable, and leaks them unless told to
//! free them. [`Code`] owns them: it calls in only with slices as long as the code was compiled for, and frees on drop.

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, default_libcall_names};

use super::ClifError;
use crate::plan::Plan;

/// `void (const float *weights, const float *input, float *output, float *arena)`
type Entry = unsafe extern "C" fn(*const f32, *const f32, *mut f32, *mut f32);

/// A module whose memory is freed on drop.
pub(super) struct Memory(Option<JITModule>);

impl Memory {
    /// An empty module for `isa`.
    pub fn new(isa: OwnedTargetIsa) -> Self {
        Self(Some(JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()))))
    }

    /// The module, to define functions in.
    pub fn module(&mut self) -> &mut JITModule {
        self.0.as_mut().expect("there until drop")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(module) = self.0.take() {
            // SAFETY: the only pointer into this memory is `Code::entry`, private to this file and dropped with the memory;
            // `Code::run` borrows both, so no call is under way.
            unsafe { module.free_memory() }
        }
    }
}

/// Finalised code of one plan.
pub(super) struct Code {
    entry: Entry,
    /// Keeps `entry` alive.
    _memory: Memory,
    lengths: Lengths,
}

/// Elements that the code reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lengths {
    /// The weight blob.
    pub weights: usize,
    /// The caller's input.
    pub input: usize,
    /// The caller's output.
    pub output: usize,
    /// The arena.
    pub arena: usize,
}

impl Lengths {
    /// What `plan` says.
    pub fn of(plan: &Plan) -> Self {
        Self {
            weights: plan.weights.data.len(),
            input: plan.input.shape.elements(),
            output: plan.output.shape.elements(),
            arena: plan.memory.arena_bytes.div_ceil(size_of::<f32>()),
        }
    }
}

impl Code {
    /// Makes the code executable; `entry` was defined in `memory` by [`super::module::define`] from `plan`.
    ///
    /// # Errors
    /// The system refuses to change the protection of the pages.
    pub fn new(mut memory: Memory, entry: FuncId, plan: &Plan) -> Result<Self, ClifError> {
        memory.module().finalize_definitions()?;
        let address = memory.module().get_finalized_function(entry);
        // SAFETY: `module::define` gave this function the signature of `Entry` in the host's C calling convention
        // (`make_signature` takes the default of the host's triple), and its address was made final above.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        Ok(Self { entry, _memory: memory, lengths: Lengths::of(plan) })
    }

    /// Runs the plan. Panics if a slice is shorter than the plan says: the caller checks.
    pub fn run(&self, weights: &[f32], input: &[f32], output: &mut [f32], arena: &mut [f32]) {
        let l = self.lengths;
        assert!(
            weights.len() >= l.weights && input.len() >= l.input && output.len() >= l.output && arena.len() >= l.arena,
            "slices as long as the plan says"
        );
        // SAFETY: the code lives as long as `self._memory`, so now. It reads and writes only inside the lengths just checked:
        // `module::define` made it of calls that `Call::check` compared with the same lengths, operand by operand. The slices
        // are disjoint because the two written ones are borrowed mutably.
        unsafe { (self.entry)(weights.as_ptr(), input.as_ptr(), output.as_mut_ptr(), arena.as_mut_ptr()) }
    }
}
