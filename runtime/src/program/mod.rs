//! A network as data: stages of steps, with every size, place and weight decided; and the one loop that runs it.
//!
//! A back end makes a [`Program`] from a plan: constants in emitted Rust, a table in memory for the interpreter, records in an
//! object file. [`Checked`] is a program whose every access was checked once, in a `const` where the program is one; only
//! such a program runs, and it needs no further check.
//!
//! A stage is a chain of steps streamed over strips of output rows. Between two steps stands a ring of rows in place of the whole
//! tensor: a step computes the rows that the rest of the strip needs and that it has not computed yet, so that nothing is
//! computed twice within a band. What a step adds may also be rows of an older step's ring.
//!
//! ```text
//! for strip in rows of the last step:
//!     needed[last] = end of strip;  needed[i - 1] = rows that the windows of step i reach for needed[i]
//!     for each step: compute rows done[i]..needed[i], in pieces where a ring ends
//! ```
//!
//! Threads run the same program side by side ([`crate::team::Team`]): each takes a band of rows or of channels of every stage and
//! waits for the others where the next stage reads what they wrote. An output element is computed in one order whatever the
//! band, so the result does not depend on the number of threads, to the bit. Bands of rows of a streamed stage compute the rows
//! between them twice: each thread has rings of its own.
//!
//! `check` looks over a program, `run` runs it, `record` writes it down for code in other languages; a new kernel is a variant of [`Op`] and an arm in each.

mod check;
#[cfg(feature = "std")]
mod owned;
pub(crate) mod record;
pub(crate) mod run;

pub use check::{Checked, ProgramError};
#[cfg(feature = "std")]
pub use owned::Owned;
#[cfg(feature = "std")]
pub use record::{Records, encode};

use crate::params::{self, Activation};

/// A compiled network. All sizes are in floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Program<'a> {
    /// In order of execution.
    pub stages: &'a [Stage],
    /// The steps of all stages, one stage's behind the other's.
    pub steps: &'a [Step],
    /// Numbers that steps name by their position: channel orders, index tables, taps, parts of joined tensors.
    pub orders: &'a [usize],
    /// Elements of the caller's input: of all its tensors, which stand one behind the other.
    pub input: usize,
    /// Elements of the caller's output, the same.
    pub output: usize,
    /// Floats of the arena.
    pub arena: usize,
    /// Floats of the weight blob.
    pub weights: usize,
    /// The most threads: rings are placed for that many.
    pub threads: usize,
}

/// A chain of steps streamed over rows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// How many of [`Program::steps`], behind those of the stages before: step `i + 1` reads what step `i` writes, all but the last
    /// write rings.
    pub steps: usize,
    /// Output rows of the last step computed at a time; at least 1.
    pub strip: usize,
    /// How threads share it.
    pub split: Split,
}

/// How threads share a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Split {
    /// The first thread does it alone.
    Alone,
    /// A band of output rows of the last step each.
    Rows,
    /// A band of output channels each, in units of [`crate::pack::PANEL`]; one step only.
    Channels,
}

/// One kernel call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// What is computed.
    pub op: Op,
    /// What it reads first.
    pub x: View,
    /// What it writes; the same view as `x` where it is done in place.
    pub y: View,
}

/// A tensor, or a ring of its rows, in memory: NHWC, batch 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct View {
    /// Where it starts.
    pub place: Place,
    /// Rows that there are: the tensor's height, or the size of a ring.
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Floats from a pixel to the next, at least `channels`.
    pub pitch: usize,
}

/// Where a view starts. All positions are in floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The caller's input from this position on; read only.
    Input(usize),
    /// The caller's output from this position on.
    Output(usize),
    /// The arena from this position on, one tensor for all threads.
    Arena(usize),
    /// A ring in the arena for each thread: that of thread `t` starts at `first + t * apart`.
    Ring {
        /// Position of the first thread's.
        first: usize,
        /// From a thread's to the next one's.
        apart: usize,
    },
}

/// What is added to an output before the activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Added {
    /// Nothing.
    Nothing,
    /// What the output's place holds.
    InPlace,
    /// A tensor of the output's shape, or the ring of an older step of the stage that makes one.
    From(View),
}

/// A kernel with its parameters and operands besides input and output. `weight`, `bias`, `value` … are positions in the weight
/// blob, in floats.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Op {
    /// Convolution.
    Conv {
        /// Sizes.
        params: params::Conv,
        /// [`crate::pack::grouped`]
        weight: usize,
        /// Each group's padded to whole panels.
        bias: usize,
        /// Content of the padding, `in_c` floats; zero where absent.
        pad_value: Option<usize>,
        /// Residual.
        added: Added,
    },
    /// Depthwise convolution.
    Depthwise {
        /// Sizes.
        params: params::Depthwise,
        /// [`crate::pack::depthwise`]
        weight: usize,
        /// Padded to whole panels.
        bias: usize,
        /// Content of the padding, `in_c` floats; zero where absent.
        pad_value: Option<usize>,
    },
    /// 1x1 convolution or dense layer.
    Pointwise {
        /// Sizes.
        params: params::Pointwise,
        /// [`crate::pack::panels`]
        weight: usize,
        /// Padded to whole panels.
        bias: usize,
        /// Residual.
        added: Added,
    },
    /// Windows of max or mean.
    Pool(params::Pool),
    /// Mean over all pixels.
    GlobalPool,
    /// `act(x + other)`
    Add {
        /// The second addend.
        other: View,
        /// Applied to the sum.
        act: Activation,
    },
    /// `act(x * scale[c])`
    Scale {
        /// One pixel of factors.
        scale: View,
        /// Applied to the product.
        act: Activation,
    },
    /// An activation alone.
    Act(Activation),
    /// Softmax over the channels of every pixel.
    Softmax,
    /// `y[c] = x[order[c]] * scale[c] + shift[c]`
    Normalize {
        /// Position in [`Program::orders`] of the input channel of each output channel.
        order: usize,
        /// One factor a channel.
        scale: usize,
        /// One addend a channel.
        shift: usize,
    },
    /// Rows and columns around the input.
    Pad {
        /// Rows above.
        top: usize,
        /// Columns left.
        left: usize,
        /// One float a channel; zero where absent.
        value: Option<usize>,
    },
    /// The input and the tensors behind it, joined along an axis.
    Concat {
        /// Along which.
        axis: params::Axis,
        /// Position in [`Program::orders`] of the parts, the input first, as [`View::words`].
        parts: usize,
        /// How many.
        count: usize,
    },
    /// Elements by tables of indices; an absent table takes all as they are.
    Gather {
        /// Position in [`Program::orders`] of an input row for each output row, or [`crate::kernel::FILL`].
        rows: Option<usize>,
        /// The same for columns.
        columns: Option<usize>,
        /// The same for channels.
        channels: Option<usize>,
        /// What stands where there is no element.
        fill: params::Real,
    },
    /// `act(f(x, other))`, where either may have one row, column or channel for all of the output's.
    Binary {
        /// What is computed.
        kind: params::BinaryKind,
        /// The second operand.
        other: View,
        /// Applied to the result.
        act: Activation,
    },
    /// `x < 0 ? slope[c] * x : x`
    PRelu {
        /// One float a channel.
        slope: usize,
    },
    /// Output axis `i` (of rows, columns, channels) is input axis `order[i]`.
    Transpose {
        /// A permutation.
        order: [usize; 3],
    },
    /// The mean over the axes (of rows, columns, channels) that are set.
    Mean {
        /// Which.
        axes: [bool; 3],
    },
    /// Linear interpolation along rows and columns.
    Interpolate {
        /// Position in [`Program::orders`] of a [`params::Tap`] for each output row, as [`params::Tap::words`].
        rows: usize,
        /// The same for columns.
        columns: usize,
    },
    /// Transposed convolution.
    ConvTranspose {
        /// Sizes.
        params: params::Conv,
        /// [`crate::pack::grouped`]
        weight: usize,
        /// Each group's padded to whole panels.
        bias: usize,
    },
    /// The same elements in the same order, in a shape of as many; nothing is done where both start at the same place.
    Copy,
    /// This many floats of the weight blob at this position; reads no input.
    Constant {
        /// Position.
        value: usize,
    },
}

/// Numbers of a [`View`].
pub const VIEW_WORDS: usize = 7;

impl View {
    /// A whole tensor without gaps.
    #[must_use]
    pub const fn whole(place: Place, rows: usize, width: usize, channels: usize) -> Self {
        Self { place, rows, width, channels, pitch: channels }
    }

    /// As numbers: a tag of the place, its two positions, rows, width, channels, pitch.
    #[must_use]
    pub const fn words(&self) -> [usize; VIEW_WORDS] {
        let (tag, first, apart) = match self.place {
            Place::Input(at) => (0, at, 0),
            Place::Output(at) => (1, at, 0),
            Place::Arena(at) => (2, at, 0),
            Place::Ring { first, apart } => (3, first, apart),
        };
        [tag, first, apart, self.rows, self.width, self.channels, self.pitch]
    }

    /// What [`Self::words`] wrote; `None` for other numbers.
    #[must_use]
    pub const fn from_words([tag, first, apart, rows, width, channels, pitch]: [usize; VIEW_WORDS]) -> Option<Self> {
        let place = match tag {
            0 => Place::Input(first),
            1 => Place::Output(first),
            2 => Place::Arena(first),
            3 => Place::Ring { first, apart },
            _ => return None,
        };
        Some(Self { place, rows, width, channels, pitch })
    }

    /// Floats from the first to the last, both included.
    #[must_use]
    pub const fn span(&self) -> usize {
        self.rows * self.width * self.pitch
    }
}
