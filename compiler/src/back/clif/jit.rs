//! A plan compiled in memory, for this machine.

use mnc_runtime::net::{Net, RunError};

use super::ClifError;
use super::exec::{Code, Lengths, Memory};
use super::module::{self, Text};
use crate::plan::{ALIGN, Plan, Tensor};

/// A compiled net with its weights and its arena. Its executable memory is released on drop.
pub struct JitNet {
    code: Code,
    weights: Aligned,
    arena: Aligned,
    input: Tensor,
    output: Tensor,
}

/// Compiles `plan` with all that this machine can do.
///
/// # Errors
/// [`ClifError::Host`] on a machine that cranelift does not know, [`ClifError::TooLarge`] for tensors of 2 GiB and more.
pub fn compile_jit(plan: &Plan) -> Result<JitNet, ClifError> {
    let mut memory = Memory::new(module::host()?);
    let entry = module::define(memory.module(), plan, &plan.name, Text::None)?.entry;
    let code = Code::new(memory, entry, plan)?;
    let lengths = Lengths::of(plan);
    Ok(JitNet {
        code,
        weights: Aligned::from(&plan.weights.data),
        arena: Aligned::zeroed(lengths.arena),
        input: plan.input,
        output: plan.output,
    })
}

impl Net for JitNet {
    fn input_shape(&self) -> [usize; 4] {
        self.input.shape.dims()
    }

    fn output_shape(&self) -> [usize; 4] {
        self.output.shape.dims()
    }

    fn arena_bytes(&self) -> usize {
        self.arena.len * size_of::<f32>()
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        RunError::check(input.len(), self.input.shape.elements(), output.len(), self.output.shape.elements())?;
        self.code.run(self.weights.get(), input, output, self.arena.get_mut());
        Ok(())
    }
}

/// Floats that start at a multiple of [`ALIGN`] bytes.
struct Aligned {
    data: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn zeroed(len: usize) -> Self {
        let data = vec![0.0; len + ALIGN / size_of::<f32>()];
        let start = data.as_ptr().align_offset(ALIGN);
        Self { data, start, len }
    }

    fn from(values: &[f32]) -> Self {
        let mut aligned = Self::zeroed(values.len());
        aligned.get_mut().copy_from_slice(values);
        aligned
    }

    fn get(&self) -> &[f32] {
        &self.data[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.data[self.start..][..self.len]
    }
}
