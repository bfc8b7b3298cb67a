//! A plan compiled in memory, for this machine.

use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net, Port, RunError};
use mnc_runtime::pages::Pages;
use mnc_runtime::team::Team;

use super::ClifError;
use super::exec::{Code, Lengths, Memory};
use super::module;
use crate::plan::{self, Plan};

/// A compiled net with its weights, its arena and a team of as many threads as the plan is made for. Its executable memory is released on drop.
pub struct JitNet {
    code: Code,
    team: Team,
    weights: Pages,
    arena: Pages,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// How code in memory computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JitOptions {
    /// By kernels that cranelift generates, which know 128-bit vectors, whole tensors and one thread, instead of the runtime's.
    /// The plan must be made with [`crate::plan::Options::LAYERED`].
    pub self_contained: bool,
}

impl JitOptions {
    /// Whether a plan is best made with [`crate::plan::Options::LAYERED`] here: the code shall be self-contained, or the runtime has no
    /// wide kernels for this CPU (or `MNC_ISA` forbids them), so that cranelift's are faster.
    #[must_use]
    pub fn wants_layers(self) -> bool {
        self.self_contained || Isa::detect() == Isa::scalar()
    }
}

/// Compiles `plan` with all that this machine can do: as calls of the runtime's kernels, which also run streamed plans and
/// several threads; a layered plan on a CPU without wide kernels as [`JitOptions::self_contained`] has it.
///
/// # Errors
/// [`ClifError::Host`] on a machine that cranelift does not know, [`ClifError::TooLarge`] for tensors of 2 GiB and more where the
/// code is self-contained.
pub fn compile_jit(plan: &Plan) -> Result<JitNet, ClifError> {
    compile_jit_with(plan, JitOptions::default())
}

/// The same, as `options` say.
///
/// # Errors
/// Also [`ClifError::Streamed`] for self-contained code of a plan with rings, gaps between pixels, groups or threads.
pub fn compile_jit_with(plan: &Plan, options: JitOptions) -> Result<JitNet, ClifError> {
    let memory = Memory::new(module::host()?);
    let alone = options.self_contained || (options.wants_layers() && module::check_layers(plan).is_ok());
    let code = if alone { Code::alone(memory, plan)? } else { Code::calls(memory, plan, Isa::detect())? };
    let lengths = Lengths::of(plan);
    Ok(JitNet {
        code,
        team: Team::new(plan.threads),
        weights: Pages::copy(&plan.weights.data),
        arena: Pages::zeroed(lengths.arena),
        inputs: plan.inputs.iter().map(plan::Port::runtime).collect(),
        outputs: plan.outputs.iter().map(plan::Port::runtime).collect(),
    })
}

impl Net for JitNet {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn arena_bytes(&self) -> usize {
        size_of_val(&*self.arena)
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        RunError::check(input.len(), self.input_len(), output.len(), self.output_len())?;
        self.code.run(&mut self.team, &self.weights, input, output, &mut self.arena);
        Ok(())
    }

    /// By the caller's team instead of the net's own.
    fn run_on(&mut self, team: &mut Team, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        RunError::check(input.len(), self.input_len(), output.len(), self.output_len())?;
        self.code.run(team, &self.weights, input, output, &mut self.arena);
        Ok(())
    }
}
