//! Passes: graph to graph. Each is one file with one `const PASS`; their order is [`PIPELINE`].
//!
//! To add a pass: a file here with `pub(super) const PASS: Pass = …` and its tests, a `mod` line, a place in [`PIPELINE`] with
//! the reason for that place. The driver verifies the graph after it, names it in errors, and the property tests cover it
//! at once if it is `exact`. A pass changes the graph through [`crate::ir::Graph`]'s methods only, and says what it did and
//! what it refused, and why, in [`Remarks`].

use crate::front::PassOptions;
use crate::ir::Graph;

/// A graph rewrite.
pub struct Pass {
    /// Its name in `--after`, `passes.skip` and remarks.
    pub name: &'static str,
    /// One line for `--help` and docs.
    pub summary: &'static str,
    /// Whether the function computed stays the same up to rounding.
    pub exact: bool,
    /// The rewrite. Returns whether it changed anything.
    pub run: fn(&mut Graph, &PassOptions, &mut Remarks) -> Result<bool, PassError>,
}

/// What a pass did or refused at one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// The pass.
    pub pass: &'static str,
    /// The node's name.
    pub node: String,
    /// Whether the rewrite was made.
    pub done: bool,
    /// What was done, or why it was not.
    pub message: String,
}

/// The remarks of a run, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// In the order they were made.
    pub all: Vec<Remark>,
    pass: &'static str,
}

impl Remarks {
    /// Says that something was done at `node`.
    pub fn did(&mut self, node: impl Into<String>, message: impl Into<String>) {
        self.all.push(Remark { pass: self.pass, node: node.into(), done: true, message: message.into() });
    }

    /// Says that something was refused at `node`, and why.
    pub fn refused(&mut self, node: impl Into<String>, why: impl Into<String>) {
        self.all.push(Remark { pass: self.pass, node: node.into(), done: false, message: why.into() });
    }
}

/// Why a pass stopped.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// An edit was refused by the graph: a mistake in the pass.
    #[error("{pass}: {source}")]
    Shape {
        /// The pass.
        pass: &'static str,
        /// What did not fit.
        source: crate::ir::op::ShapeError,
    },
}
