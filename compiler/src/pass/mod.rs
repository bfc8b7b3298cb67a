//! Passes: graph to graph. Each is one file with one `const PASS`; their order is [`PIPELINE`].
//!
//! To add a pass: a file here with `pub(super) const PASS: Pass = …` and its tests, a `mod` line, a place in [`PIPELINE`] with
//! the reason for that place. The driver verifies the graph after it, names it in errors, and the property tests cover it
//! at once if it is `exact`. A pass changes the graph through [`crate::ir::Graph`]'s methods only, and says what it did and
//! what it refused, and why, in [`Remarks`]. A second run right after the first changes nothing.

mod dce;
mod fold_bn;
mod fold_const;
mod fold_preprocess;
mod fuse_act;
mod fuse_pad;
mod fuse_pool;
mod fuse_residual;
pub mod separate;
pub(crate) mod split_pool;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::diag;
use crate::front::PassOptions;
use crate::ir::op::ShapeError;
use crate::ir::verify::{VerifyError, verify};
use crate::ir::{Graph, NodeId};

/// A graph rewrite.
pub struct Pass {
    /// Its name in `--after`, `passes.skip` and remarks.
    pub name: &'static str,
    /// One line for `--help` and docs.
    pub summary: &'static str,
    /// Whether the function computed stays the same up to rounding.
    pub exact: bool,
    /// The rewrite. Returns whether it changed anything. An error is an edit that the graph refused: a mistake in the pass.
    pub run: fn(&mut Graph, &PassOptions, &mut Remarks) -> Result<bool, ShapeError>,
}

/// All passes in order; the reason for each place stands beside it.
pub const PIPELINE: &[Pass] = &[
    separate::PASS,        // first: reads trained weights with the batch norm that scales them still beside them
    fold_const::PASS,      // removes nodes without effect that would stand between the partners of a fusion
    fold_bn::PASS,         // before activations are fused: they follow it
    fuse_pad::PASS,        // before fold_preprocess, which needs to know what the padding of the stem holds
    fold_preprocess::PASS, // the bias it adds goes in before anything else touches the stem
    fuse_act::PASS,        // before fuse_residual: the activation of a sum moves into the convolution with the sum
    fuse_residual::PASS,   // before fuse_pool: a pooled convolution cannot take a residual
    fuse_pool::PASS,       // last of the fusions: what it makes takes no others
    split_pool::PASS,      // of the pools that are left, which no fusion knows behind it
    dce::PASS,             // removes what the others left unread
];

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

/// One pass as it was run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The pass.
    pub pass: &'static str,
    /// Whether it changed the graph.
    pub changed: bool,
    /// How long it took, verification included.
    pub time: Duration,
}

/// The remarks of a run, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// In the order they were made.
    pub all: Vec<Remark>,
    /// The passes that ran, in order; skipped ones are not here.
    pub ran: Vec<Ran>,
    pass: &'static str,
}

impl Remarks {
    /// No remarks yet; the next ones are of `pass`. The driver does this; tests that run one pass alone use it too.
    #[must_use]
    pub fn of(pass: &Pass) -> Self {
        Self { pass: pass.name, ..Self::default() }
    }

    /// Adds the remarks of a later run.
    pub fn append(&mut self, later: Self) {
        self.all.extend(later.all);
        self.ran.extend(later.ran);
    }

    /// Says that something was done at `node`.
    pub fn did(&mut self, node: impl Into<String>, message: impl Into<String>) {
        self.all.push(Remark { pass: self.pass, node: node.into(), done: true, message: message.into() });
    }

    /// Says that something was refused at `node`, and why.
    pub fn refused(&mut self, node: impl Into<String>, why: impl Into<String>) {
        self.all.push(Remark { pass: self.pass, node: node.into(), done: false, message: why.into() });
    }
}

/// Why a run of passes stopped. Apart from [`PassError::Unknown`] each is a mistake in mnc, not in its input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// An edit was refused by the graph.
    #[error("pass {pass}: {source}")]
    Shape {
        /// The pass.
        pass: &'static str,
        /// What did not fit.
        source: ShapeError,
    },
    /// The graph is broken after a pass.
    #[error("after pass {pass} the graph is broken: {}", list(errors))]
    Broken {
        /// The pass; `(none)` for the graph as it was given.
        pass: &'static str,
        /// All that is wrong.
        errors: Vec<VerifyError>,
    },
    /// There is no such pass.
    #[error("there is no pass `{name}`{}; the passes are {}", suggestion(name), names())]
    Unknown {
        /// The name asked for.
        name: String,
    },
}

fn list(errors: &[VerifyError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn names() -> String {
    PIPELINE.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

fn suggestion(name: &str) -> String {
    diag::nearest(name, PIPELINE.iter().map(|p| p.name)).map_or_else(String::new, |n| format!(" (did you mean `{n}`?)"))
}

/// Position of a pass in [`PIPELINE`].
///
/// # Errors
/// [`PassError::Unknown`], whose text lists the names.
pub fn position(name: &str) -> Result<usize, PassError> {
    PIPELINE.iter().position(|p| p.name == name).ok_or_else(|| PassError::Unknown { name: name.into() })
}

/// Runs the passes of [`PIPELINE`] from the one named `from` up to and including the one named `after` (`None`: the whole
/// rest), leaving out `options.skip`. The graph is verified first and after every pass.
///
/// # Errors
/// A name that is no pass, here or in `options.skip`, before anything is changed; otherwise a mistake in a pass.
pub fn run(graph: &mut Graph, options: &PassOptions, from: Option<&str>, after: Option<&str>) -> Result<Remarks, PassError> {
    let skip = options.skip.iter().map(|s| position(s)).collect::<Result<Vec<_>, _>>()?;
    let first = from.map_or(Ok(0), position)?;
    let end = after.map_or(Ok(PIPELINE.len()), |name| position(name).map(|p| p + 1))?;
    verify(graph).map_err(|errors| PassError::Broken { pass: "(none)", errors })?;
    let mut remarks = Remarks::default();
    for (at, pass) in PIPELINE.iter().enumerate().take(end).skip(first) {
        if skip.contains(&at) {
            continue;
        }
        let start = Instant::now();
        remarks.pass = pass.name;
        let changed = (pass.run)(graph, options, &mut remarks).map_err(|source| PassError::Shape { pass: pass.name, source })?;
        verify(graph).map_err(|errors| PassError::Broken { pass: pass.name, errors })?;
        remarks.ran.push(Ran { pass: pass.name, changed, time: start.elapsed() });
    }
    Ok(remarks)
}

/// Name of a node, for remarks.
fn name(graph: &Graph, id: NodeId) -> String {
    graph.node(id).name.clone()
}

/// The names of all nodes.
fn taken(graph: &Graph) -> HashSet<String> {
    graph.nodes().into_iter().map(|id| name(graph, id)).collect()
}

/// `name`, with underscores behind it where it is taken.
fn fresh(taken: &HashSet<String>, mut name: String) -> String {
    while taken.contains(&name) {
        name.push('_');
    }
    name
}

/// Who reads `id`, for a remark that refuses because it is not one node: `read by a, b` or `an output of the net`.
fn readers(graph: &Graph, id: NodeId) -> String {
    let mut all: Vec<String> = graph.users(id).into_iter().map(|u| name(graph, u)).collect();
    if graph.outputs.contains(&id) {
        all.push("the net's output".into());
    }
    format!("{} is read by {}", name(graph, id), all.join(", "))
}
