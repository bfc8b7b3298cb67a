//! What every compiled network can do, whichever back end made it.

use core::fmt;

use crate::team::Team;

/// A network ready to run: made by the macro, or by the JIT.
pub trait Net {
    /// NHWC.
    fn input_shape(&self) -> [usize; 4];
    /// NHWC.
    fn output_shape(&self) -> [usize; 4];
    /// Size of the memory that intermediate tensors take.
    fn arena_bytes(&self) -> usize;
    /// One inference; allocates nothing. Slices hold the whole tensors in NHWC order.
    ///
    /// # Errors
    /// A slice is not as long as its shape says; nothing was computed then.
    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError>;
    /// The same by as many threads of `team` as the net has a use for: the same result, to the bit. A net that knows nothing of
    /// threads runs on the caller's alone.
    ///
    /// # Errors
    /// As [`Net::run`].
    fn run_on(&mut self, team: &mut Team, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        let _ = team;
        self.run(input, output)
    }
}

/// For nets whose type is known at run time alone. Not for boxes of every net: the methods of an emitted net, which take arrays, go
/// before the trait's through a box too.
#[cfg(feature = "std")]
impl Net for std::boxed::Box<dyn Net + Send + '_> {
    fn input_shape(&self) -> [usize; 4] {
        (**self).input_shape()
    }

    fn output_shape(&self) -> [usize; 4] {
        (**self).output_shape()
    }

    fn arena_bytes(&self) -> usize {
        (**self).arena_bytes()
    }

    fn run(&mut self, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        (**self).run(input, output)
    }

    fn run_on(&mut self, team: &mut Team, input: &[f32], output: &mut [f32]) -> Result<(), RunError> {
        (**self).run_on(team, input, output)
    }
}

/// A slice handed to [`Net::run`] has the wrong length (in elements), or there is no net.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunError {
    /// The input.
    Input {
        /// Elements of the input shape.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// The output.
    Output {
        /// Elements of the output shape.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// The arena, where the caller gives one.
    Arena {
        /// The least number of elements.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// The weights, where the caller gives them.
    Weights {
        /// Elements of the blob.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// A batch was given no net to run on.
    Nets,
}

impl RunError {
    /// Checks the lengths of input and output.
    ///
    /// # Errors
    /// The first of the two that is wrong.
    #[inline]
    pub const fn check(input: usize, input_expected: usize, output: usize, output_expected: usize) -> Result<(), Self> {
        if input != input_expected {
            return Err(Self::Input { expected: input_expected, actual: input });
        }
        if output != output_expected {
            return Err(Self::Output { expected: output_expected, actual: output });
        }
        Ok(())
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input { expected, actual } => write!(f, "the input has {actual} elements, the net takes {expected}"),
            Self::Output { expected, actual } => write!(f, "the output has {actual} elements, the net gives {expected}"),
            Self::Weights { expected, actual } => write!(f, "the weights have {actual} elements, the net needs {expected}"),
            Self::Nets => f.write_str("there is no net to run the batch on"),
            Self::Arena { expected, actual } => write!(f, "the arena has {actual} elements, the net needs {expected}"),
        }
    }
}

impl core::error::Error for RunError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_lengths_are_named() {
        assert_eq!(RunError::check(3, 3, 2, 2), Ok(()));
        let error = RunError::check(4, 3, 0, 2).unwrap_err();
        assert_eq!(error.to_string(), "the input has 4 elements, the net takes 3");
        let error = RunError::check(3, 3, 0, 2).unwrap_err();
        assert_eq!(error.to_string(), "the output has 0 elements, the net gives 2");
    }
}
