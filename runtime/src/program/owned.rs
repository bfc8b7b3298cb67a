//! A checked program on the heap, for programs that are made at run time.

use std::vec::Vec;

use super::check::Checked;
use super::{Program, ProgramError, Stage, Step};

/// A checked program with its tables.
#[derive(Debug, Clone)]
pub struct Owned {
    stages: Vec<Stage>,
    steps: Vec<Step>,
    orders: Vec<usize>,
    sizes: Sizes,
}

/// The numbers of a program.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    input: usize,
    output: usize,
    arena: usize,
    weights: usize,
    threads: usize,
}

impl Owned {
    /// Looks over `program` and copies it.
    ///
    /// # Errors
    /// The first mistake.
    pub fn new(program: Program<'_>) -> Result<Self, ProgramError> {
        let Program { stages, steps, orders, input, output, arena, weights, threads } = *Checked::new(program)?.get();
        let sizes = Sizes { input, output, arena, weights, threads };
        Ok(Self { stages: stages.into(), steps: steps.into(), orders: orders.into(), sizes })
    }

    /// The program; it was checked when it was made.
    #[must_use]
    pub fn checked(&self) -> Checked<'_> {
        let Sizes { input, output, arena, weights, threads } = self.sizes;
        let (stages, steps, orders) = (&self.stages[..], &self.steps[..], &self.orders[..]);
        Checked::known(Program { stages, steps, orders, input, output, arena, weights, threads })
    }
}
