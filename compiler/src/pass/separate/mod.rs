//! Standard convolutions to depthwise + pointwise: the idea of MobileNet (arXiv 1704.04861, section 3.1) as a rewrite. Off by
//! default, because it changes what is computed.
//!
//! ```text
//! structure   x ── conv k x k ── bn ── act   =>   x ── depthwise k x k ── bn ── act ── pointwise ── bn ── act     (untrained)
//! rank = T    x ── conv k x k ── bn ── act   =>   x ── depthwise k x k, multiplier T ── pointwise ── bn ── act
//! ```
//!
//! * `structure` (file `structure`) builds the layer as the paper does; its weights are newly seeded, so the net must be trained.
//! * `rank` and `max_error` keep trained weights: each input channel's slice is cut to its best `T` terms (file [`terms`]). The
//!   relative weight error is known exactly; `max_error` takes the fewest terms that keep the bound in every layer.
//!
//! With `T` terms a layer costs `T / C_out + T / k^2` of what it did (at one term the paper's `1 / C_out + 1 / k^2`). Each layer
//! is rewritten or refused on its own, with a remark: not the first convolution unless asked (the paper leaves it alone), no
//! 1x1, depthwise or grouped convolution, none that would cost as much as before or more, none whose bound that would break.

mod structure;
pub mod terms;

use std::collections::HashSet;

pub use terms::{Terms, decompose, rewrite};

use super::{Pass, Remarks, name};
use crate::front::{PassOptions, Separate};
use crate::ir::op::{Conv, Op, ShapeError};
use crate::ir::{Graph, NodeId};

pub(super) const PASS: Pass =
    Pass { name: "separate", summary: "standard convolutions to depthwise + pointwise (passes.separate)", exact: false, run };

fn run(graph: &mut Graph, options: &PassOptions, remarks: &mut Remarks) -> Result<bool, ShapeError> {
    if options.separate == Separate::Off {
        return Ok(false);
    }
    let stems = stems(graph);
    let mut changed = false;
    for id in graph.topo() {
        let this = name(graph, id);
        let conv = match graph.op(id) {
            Op::Conv(conv) => conv.clone(),
            Op::Depthwise(_) => {
                remarks.refused(this, "a depthwise convolution is separate already");
                continue;
            }
            Op::Input
            | Op::Constant(_)
            | Op::Normalize(_)
            | Op::Pad(_)
            | Op::BatchNorm(_)
            | Op::Act(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Dense(_)
            | Op::PRelu(_)
            | Op::Binary(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. }
            | Op::ConvTranspose(_)
            | Op::Softmax => continue,
        };
        let stem = stems.contains(&id) && !options.separate_stem;
        let done = match candidate(&conv, stem) {
            Err(why) => Err(why.into()),
            Ok(()) => match options.separate {
                Separate::Off => return Ok(false),
                Separate::Structure => by_structure(graph, id, &conv)?,
                Separate::Rank(terms) => by_terms(graph, id, &conv, |t| Ok(terms.min(t.max())))?,
                Separate::MaxError(bound) => by_terms(graph, id, &conv, |t| fewest(t, bound))?,
            },
        };
        match done {
            Ok(message) => {
                remarks.did(this, message);
                changed = true;
            }
            Err(why) => remarks.refused(this, why),
        }
    }
    Ok(changed)
}

/// Convolutions that no other weighted layer comes before.
fn stems(graph: &Graph) -> HashSet<NodeId> {
    let mut behind: HashSet<NodeId> = HashSet::new();
    let mut stems = HashSet::new();
    for id in graph.topo() {
        let weighted = matches!(graph.op(id), Op::Conv(_) | Op::ConvTranspose(_) | Op::Depthwise(_) | Op::Dense(_));
        let after = graph.inputs_of(id).iter().any(|i| behind.contains(i));
        if weighted && !after {
            stems.insert(id);
        }
        if weighted || after {
            behind.insert(id);
        }
    }
    stems
}

/// Names the two halves of the convolution at `id` as the front end names a separable block: `b.conv` becomes `b.pointwise`, with
/// its batch norm and activation, and its padding goes to `b.depthwise`, which is returned; any other name stays, and
/// `<name>.depthwise` is returned.
fn split_names(graph: &mut Graph, id: NodeId) -> String {
    let old = name(graph, id);
    let taken = super::taken(graph);
    let fresh = |name: String| super::fresh(&taken, name);
    let base = old.strip_suffix(".conv");
    let depthwise = fresh(format!("{}.depthwise", base.unwrap_or(&old)));
    let pointwise = base.map(|base| fresh(format!("{base}.pointwise")));
    let mut around = vec![(graph.inputs_of(id)[0], "pad", Some(&depthwise))];
    let mut next = graph.single_user(id);
    for part in ["bn", "act"] {
        if let Some(user) = next.filter(|&user| name(graph, user) == format!("{old}.{part}")) {
            around.push((user, part, pointwise.as_ref()));
            next = graph.single_user(user);
        }
    }
    for (node, part, half) in around {
        if let Some(half) = half.filter(|_| name(graph, node) == format!("{old}.{part}")) {
            graph.rename(node, fresh(format!("{half}.{part}")));
        }
    }
    if let Some(pointwise) = pointwise {
        graph.rename(id, pointwise);
    }
    depthwise
}

/// Whether the layer is one that can be separated at all.
fn candidate(conv: &Conv, stem: bool) -> Result<(), &'static str> {
    if conv.kernel == [1, 1] {
        Err("a 1x1 convolution is pointwise already")
    } else if conv.groups != 1 {
        Err("a convolution in groups is not separated")
    } else if stem {
        Err("the first convolution stays as it is, as in the paper; passes.separate_stem = true separates it too")
    } else {
        Ok(())
    }
}

/// Multiply-adds of a layer before and after, and their ratio in the paper's terms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Of the convolution.
    pub before: u64,
    /// Of depthwise and pointwise convolution together.
    pub after: u64,
    terms: usize,
    out_c: usize,
    taps: usize,
}

impl Cost {
    /// Of separating `conv`, whose output has `pixels` rows times columns, into `terms` terms.
    #[must_use]
    pub fn of(conv: &Conv, pixels: usize, terms: usize) -> Self {
        let (taps, out_c) = (conv.kernel[0] * conv.kernel[1], conv.out_c);
        let wide = pixels as u64 * conv.in_c as u64;
        Self { before: wide * (taps * out_c) as u64, after: wide * terms as u64 * (taps + out_c) as u64, terms, out_c, taps }
    }

    /// `after / before`, which is `T / C_out + T / k^2`.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.terms as f64 / self.out_c as f64 + self.terms as f64 / self.taps as f64
    }

    /// Whether the rewrite is worth it.
    #[must_use]
    pub fn saves(self) -> bool {
        self.after < self.before
    }
}

impl std::fmt::Display for Cost {
    /// `multiply-adds 924844032 -> 106463232, ratio 0.1151 = 1/256 + 1/9`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { before, after, terms: t, out_c, taps } = self;
        write!(f, "multiply-adds {before} -> {after}, ratio {:.4} = {t}/{out_c} + {t}/{taps}", self.ratio())
    }
}

/// The outer error is a mistake of this pass, the inner one a refusal; so below.
fn by_structure(graph: &mut Graph, id: NodeId, conv: &Conv) -> Result<Result<String, String>, ShapeError> {
    let out = graph.shape(id);
    let cost = Cost::of(conv, out.h * out.w, 1);
    if !cost.saves() {
        return Ok(Err(format!("it would cost no less: {cost}")));
    }
    structure::rewrite(graph, id, conv)?;
    Ok(Ok(format!("depthwise and pointwise, weights newly seeded: {cost}")))
}

fn by_terms(
    graph: &mut Graph,
    id: NodeId,
    conv: &Conv,
    choose: impl FnOnce(&Terms) -> Result<usize, String>,
) -> Result<Result<String, String>, ShapeError> {
    let out = graph.shape(id);
    let all = match decompose(graph, id) {
        Ok(all) => all,
        Err(why) => return Ok(Err(why)),
    };
    let terms = match choose(&all) {
        Ok(0) => return Ok(Err("a rank of 0 leaves nothing".into())),
        Ok(terms) => terms,
        Err(why) => return Ok(Err(why)),
    };
    let cost = Cost::of(conv, out.h * out.w, terms);
    let what = format!("{terms} {}, relative weight error {:.4e}", if terms == 1 { "term" } else { "terms" }, all.error(terms));
    if !cost.saves() {
        return Ok(Err(format!("it would cost no less: {what}, {cost}")));
    }
    rewrite(graph, id, &all, terms)?;
    Ok(Ok(format!("{what}: {cost}")))
}

/// The fewest terms that keep `bound`.
fn fewest(terms: &Terms, bound: f64) -> Result<usize, String> {
    (1..=terms.max()).find(|&t| terms.error(t) <= bound).ok_or_else(|| {
        format!("the bound {bound} is not reached: all {} terms leave {:.4e}", terms.max(), terms.error(terms.max()))
    })
}
