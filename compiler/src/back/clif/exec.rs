//! Code in memory: the only unsafe part of this back end.
//!
//! cranelift-jit writes code into pages that it then makes executable and no longer writable, and leaks them unless told to
//! free them. [`Code`] owns them: it calls in only with slices as long as the code was compiled for, and frees on drop.

use cranelift_codegen::isa::OwnedTargetIsa;
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::default_libcall_names;

use mnc_runtime::abi;
use mnc_runtime::isa::Isa;
use mnc_runtime::program::Owned;
use mnc_runtime::team::{Barrier, Team};

use super::ClifError;
use super::calls;
use super::module::{self, Text};
use crate::back::program::Tables;
use crate::plan::Plan;

/// `void (const float *weights, const float *input, float *output, float *arena)`
type Alone = unsafe extern "C" fn(*const f32, *const f32, *mut f32, *mut f32);
/// `void (const mnc_rt_memory *memory, uint64_t thread, uint64_t threads, barrier *)`
type Thread = unsafe extern "C" fn(*const abi::Memory, usize, usize, &Barrier);

/// Compiled code, by its form.
#[derive(Clone, Copy)]
enum Entry {
    /// It has kernels of its own.
    Alone(Alone),
    /// It calls the runtime's, for this instruction set.
    Calls { run: Thread, isa: Isa, threads: usize },
}

/// What compiled code calls between two stages.
extern "C" fn wait(barrier: &Barrier) {
    barrier.wait();
}

/// A module whose memory is freed on drop.
pub(super) struct Memory(Option<JITModule>);

impl Memory {
    /// An empty module for `isa`.
    pub fn new(isa: OwnedTargetIsa) -> Self {
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        builder.symbol(calls::STAGE_OF, abi::stage_of as *const u8);
        builder.symbol(calls::WAIT, wait as *const u8);
        Self(Some(JITModule::new(builder)))
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
    /// What `entry` runs, at the address that it knows.
    _program: Option<Box<Owned>>,
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
            input: plan.input_len(),
            output: plan.output_len(),
            arena: plan.memory.arena_bytes.div_ceil(size_of::<f32>()),
        }
    }
}

impl Code {
    /// Compiles `plan` with kernels of its own and makes the code executable.
    ///
    /// # Errors
    /// The plan is none that these kernels can run; the system refuses to change the protection of the pages.
    pub fn alone(mut memory: Memory, plan: &Plan) -> Result<Self, ClifError> {
        let entry = module::define(memory.module(), plan, &plan.name, Text::None)?.entry;
        memory.module().finalize_definitions()?;
        let address = memory.module().get_finalized_function(entry);
        // SAFETY: `module::define` gave this function the signature of `Alone` in the host's C calling convention
        // (`make_signature` takes the default of the host's triple), and its address was made final above.
        let entry = Entry::Alone(unsafe { std::mem::transmute::<*const u8, Alone>(address) });
        Ok(Self { entry, _memory: memory, _program: None, lengths: Lengths::of(plan) })
    }

    /// Compiles `plan` as calls of the runtime's kernels for `isa` and makes the code executable.
    ///
    /// # Errors
    /// The runtime refuses the plan; the system refuses to change the protection of the pages.
    pub fn calls(mut memory: Memory, plan: &Plan, isa: Isa) -> Result<Self, ClifError> {
        let tables = Tables::new(plan);
        let program = Box::new(Owned::new(tables.program()).map_err(|e| ClifError::Code(e.to_string()))?);
        let entry = calls::thread(memory.module(), &program, &plan.name, plan.threads > 1, Text::None)?.entry;
        memory.module().finalize_definitions()?;
        let address = memory.module().get_finalized_function(entry);
        // SAFETY: `calls::thread` gave this function the signature of `Thread`, as above; its address was made final.
        let run = unsafe { std::mem::transmute::<*const u8, Thread>(address) };
        let entry = Entry::Calls { run, isa, threads: plan.threads };
        Ok(Self { entry, _memory: memory, _program: Some(program), lengths: Lengths::of(plan) })
    }

    /// Runs the plan, by as many threads of `team` as it is made for. Panics if a slice is shorter than the plan says: the
    /// caller checks.
    pub fn run(&self, team: &mut Team, weights: &[f32], input: &[f32], output: &mut [f32], arena: &mut [f32]) {
        let l = self.lengths;
        assert!(
            weights.len() >= l.weights && input.len() >= l.input && output.len() >= l.output && arena.len() >= l.arena,
            "slices as long as the plan says"
        );
        let (weights, input, output, arena) = (weights.as_ptr(), input.as_ptr(), output.as_mut_ptr(), arena.as_mut_ptr());
        match self.entry {
            // SAFETY: the code lives as long as `self._memory`, so now. It reads and writes only inside the lengths just checked:
            // `module::define` made it of calls that `Call::check` compared with the same lengths, operand by operand. The
            // slices are disjoint because the two written ones are borrowed mutably.
            Entry::Alone(run) => unsafe { run(weights, input, output, arena) },
            Entry::Calls { run, isa, threads } => {
                let memory = abi::Memory::new(isa, weights, input, output, arena);
                let threads = threads.min(team.threads());
                // SAFETY: the code lives, as above, and so does the program, which `Owned::new` let through with these
                // lengths; the team runs every thread below `threads`, at most the program's, once, the code waits at the
                // barrier between stages, and the slices stay borrowed until all are done.
                team.run(threads, &|thread, barrier| unsafe { run(&raw const memory, thread, threads, barrier) });
            }
        }
    }
}
