//! Runs a plan from data by the runtime's interpreter: no code generated.
//!
//! The simplest back end and the one that the others are compared with.

use mnc_runtime::isa::Isa;
use mnc_runtime::net::{Net, Port, RunError};
use mnc_runtime::pages::Pages;
use mnc_runtime::program::Owned;
use mnc_runtime::team::Team;

use super::program;
use crate::plan::{self, Plan};

/// One inference. `arena` holds at least `plan.memory.arena_bytes` (of any content and alignment), `input` and `output` all
/// NHWC tensors that the plan takes and gives, one behind the other. Translates the plan anew each time: a [`NativeNet`] does so once.
///
/// # Errors
/// A slice has the wrong length; nothing was computed then.
pub fn run(plan: &Plan, isa: Isa, arena: &mut [f32], input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
    program::owned(plan).checked().run(isa, &plan.weights.data, arena, input, output)
}

/// A plan with an arena: the engine behind tests and tools where nothing need be compiled.
#[derive(Debug)]
pub struct NativeNet {
    plan: Plan,
    program: Owned,
    isa: Isa,
    team: Team,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    weights: Pages,
    arena: Pages,
}

impl NativeNet {
    /// A net that computes with `isa`, on as many threads as the plan is made for.
    #[must_use]
    pub fn new(mut plan: Plan, isa: Isa) -> Self {
        let program = program::owned(&plan);
        let weights = Pages::copy(&std::mem::take(&mut plan.weights.data));
        let arena = Pages::zeroed(plan.memory.arena_bytes / 4);
        let team = Team::new(plan.threads);
        let [inputs, outputs] = [&plan.inputs, &plan.outputs].map(|p| p.iter().map(plan::Port::runtime).collect());
        Self { plan, program, isa, team, inputs, outputs, weights, arena }
    }

    /// Whose kernels run it.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// The plan that is run, without its weights.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Stage `stage` of an inference alone, for measuring, on `threads` threads, at most as many as the plan is made for; the stages
    /// before it have left their results.
    ///
    /// # Errors
    /// A slice has the wrong length; nothing was computed then.
    pub fn run_stage(&mut self, stage: usize, threads: usize, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        let Self { program, team, isa, weights, arena, .. } = self;
        program.checked().run_stage(stage, team, threads, *isa, weights, arena, input, output)
    }
}

impl Clone for NativeNet {
    /// With an arena and a team of its own.
    fn clone(&self) -> Self {
        let mut plan = self.plan.clone();
        plan.weights.data = self.weights.to_vec();
        Self::new(plan, self.isa)
    }
}

impl Net for NativeNet {
    fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    fn arena_bytes(&self) -> usize {
        self.plan.memory.arena_bytes
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        self.program.checked().run_on(&mut self.team, self.isa, &self.weights, &mut self.arena, input, output)
    }

    /// By the caller's team instead of the net's own.
    fn run_on(&mut self, team: &mut Team, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        self.program.checked().run_on(team, self.isa, &self.weights, &mut self.arena, input, output)
    }
}
