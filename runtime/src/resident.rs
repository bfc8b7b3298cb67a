//! An emitted net with its arena and a copy of its weights in large pages.

use crate::isa::Isa;
use crate::net::{Net, Port, RunError};
use crate::pages::Pages;
use crate::program::Checked;
use crate::team::Team;

/// A net in memory of its own, in large pages where the system has them ([`crate::pages`]): faster by some per cent than one whose
/// weights stand in the program file, for that much more memory and the time to copy them once. The same bits.
#[derive(Debug, Clone)]
pub struct Resident {
    program: Checked<'static>,
    isa: Isa,
    inputs: &'static [Port],
    outputs: &'static [Port],
    weights: Pages,
    arena: Pages,
}

impl Resident {
    /// For `resident()` of emitted code, whose tables these are.
    #[doc(hidden)]
    #[must_use]
    pub fn new(program: Checked<'static>, weights: &[f32], inputs: &'static [Port], outputs: &'static [Port]) -> Self {
        let (weights, arena) = (Pages::copy(weights), Pages::zeroed(program.get().arena));
        Self { program, isa: Isa::detect(), inputs, outputs, weights, arena }
    }
}

impl Net for Resident {
    fn inputs(&self) -> &[Port] {
        self.inputs
    }

    fn outputs(&self) -> &[Port] {
        self.outputs
    }

    fn arena_bytes(&self) -> usize {
        size_of_val(&*self.arena)
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        self.program.run(self.isa, &self.weights, &mut self.arena, input, output)
    }

    fn run_on(&mut self, team: &mut Team, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        self.program.run_on(team, self.isa, &self.weights, &mut self.arena, input, output)
    }
}
