//! What every compiled network can do, whichever back end made it.

use core::fmt;
use core::ops::Range;

use crate::team::Team;

/// One of the tensors that a network takes or gives, and where it stands: all inputs stand one behind the other in one array, and
/// so do all outputs.
///
/// ```
/// use mnc_runtime::net::Port;
///
/// static OUTPUTS: [Port; 2] = [Port::new("logits", [1, 1, 1, 10], 0), Port::new("probs", [1, 1, 1, 10], 10)];
/// let output = [0.0; 20];
/// let probs = &output[OUTPUTS[1].range()];
/// assert_eq!((OUTPUTS[1].name(), probs.len()), ("probs", 10));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    #[cfg(feature = "std")]
    name: std::borrow::Cow<'static, str>,
    #[cfg(not(feature = "std"))]
    name: &'static str,
    shape: [usize; 4],
    first: usize,
}

impl Port {
    /// A tensor of `shape` (NHWC) that starts at element `first` of the array.
    #[must_use]
    pub const fn new(name: &'static str, shape: [usize; 4], first: usize) -> Self {
        #[cfg(feature = "std")]
        let name = std::borrow::Cow::Borrowed(name);
        Self { name, shape, first }
    }

    /// The same with a name that is made at run time.
    #[cfg(feature = "std")]
    #[must_use]
    pub fn named(name: std::string::String, shape: [usize; 4], first: usize) -> Self {
        Self { name: name.into(), shape, first }
    }

    /// Its name, which no other input (or output) of the network has.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// NHWC.
    #[must_use]
    pub const fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Its elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        let [n, h, w, c] = self.shape;
        n * h * w * c
    }

    /// Whether it has no elements; no port of a network is so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its elements among those of the array.
    #[must_use]
    pub const fn range(&self) -> Range<usize> {
        self.first..self.first + self.len()
    }
}

/// Elements of the array that holds `ports`.
fn total(ports: &[Port]) -> usize {
    ports.last().map_or(0, |p| p.range().end)
}

/// A network ready to run: made by the macro, or by the JIT.
pub trait Net {
    /// What it takes: at least one tensor; [`Port::range`] says where each stands in the input of [`Net::run`].
    fn inputs(&self) -> &[Port];
    /// What it gives: at least one tensor; [`Port::range`] says where each stands in the output of [`Net::run`].
    fn outputs(&self) -> &[Port];
    /// NHWC, of the first input.
    fn input_shape(&self) -> [usize; 4] {
        self.inputs().first().map_or([0; 4], Port::shape)
    }
    /// NHWC, of the first output.
    fn output_shape(&self) -> [usize; 4] {
        self.outputs().first().map_or([0; 4], Port::shape)
    }
    /// Elements of all inputs together.
    fn input_len(&self) -> usize {
        total(self.inputs())
    }
    /// Elements of all outputs together.
    fn output_len(&self) -> usize {
        total(self.outputs())
    }
    /// Size of the memory that intermediate tensors take.
    fn arena_bytes(&self) -> usize;
    /// One inference; allocates nothing. `input` holds the whole input in NHWC order, or where there are several all of them, one
    /// behind the other in the order of [`Net::inputs`]; `output` the same of [`Net::outputs`].
    ///
    /// # Errors
    /// A slice has not [`Net::input_len`] or [`Net::output_len`] elements; nothing was computed then.
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
    fn inputs(&self) -> &[Port] {
        (**self).inputs()
    }

    fn outputs(&self) -> &[Port] {
        (**self).outputs()
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
        /// Elements of all inputs.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// The output.
    Output {
        /// Elements of all outputs.
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

    struct Two([Port; 2]);

    impl Net for Two {
        fn inputs(&self) -> &[Port] {
            &self.0
        }

        fn outputs(&self) -> &[Port] {
            &self.0[..1]
        }

        fn arena_bytes(&self) -> usize {
            0
        }

        fn run(&mut self, _: &[f32], _: &mut [f32]) -> Result<(), RunError> {
            Ok(())
        }
    }

    #[test]
    fn ports_stand_one_behind_the_other() {
        let net = Two([Port::new("a", [1, 2, 3, 4], 0), Port::new("b", [1, 1, 1, 5], 24)]);
        assert_eq!((net.input_shape(), net.output_shape()), ([1, 2, 3, 4], [1, 2, 3, 4]));
        assert_eq!((net.input_len(), net.output_len()), (29, 24));
        assert_eq!((net.inputs()[1].name(), net.inputs()[1].range()), ("b", 24..29));
    }

    #[test]
    fn wrong_lengths_are_named() {
        assert_eq!(RunError::check(3, 3, 2, 2), Ok(()));
        let error = RunError::check(4, 3, 0, 2).unwrap_err();
        assert_eq!(error.to_string(), "the input has 4 elements, the net takes 3");
        let error = RunError::check(3, 3, 0, 2).unwrap_err();
        assert_eq!(error.to_string(), "the output has 0 elements, the net gives 2");
    }
}
