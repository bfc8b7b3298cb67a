//! The whole way from a net to its plan.

use crate::diag::Diagnostics;
use crate::front::tune::Tuned;
use crate::front::{Net, Separate};
use crate::ir::Graph;
use crate::pass::{self, PIPELINE, PassError, Remarks};
use crate::plan::{self, Plan, PlanError};

/// Name of the pass after which a graph is the network that its user means: what its counts are of.
const SPECIFIED_AFTER: &str = "separate";

/// A net, ready for a back end, with what a report about it needs.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What back ends read.
    pub plan: Plan,
    /// After all passes.
    pub graph: Graph,
    /// After `separate`, before anything is folded or fused: layers, parameters and multiply-adds as a user counts them.
    pub specified: Graph,
    /// What every pass did and refused.
    pub remarks: Remarks,
    /// Where the weights came from, one line for the user.
    pub weights_from: String,
    /// What the user should know: measured stages that are not used.
    pub warnings: Diagnostics,
}

impl Compiled {
    /// The same graph planned layer by layer on one thread, for kernels that know neither streams nor threads.
    ///
    /// # Errors
    /// The graph has no plan, which it had.
    pub fn layered(&self) -> Result<Plan, PlanError> {
        let Plan { name, preprocess, labels, params, .. } = &self.plan;
        let (name, preprocess, labels) = (name.clone(), preprocess.clone(), labels.clone());
        plan::build(&self.graph, plan::Meta { name, preprocess, labels, params: *params }, &plan::Options::LAYERED)
    }
}

/// Why a net is not compiled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompileError {
    /// A wrong pass name among the options, or a mistake in a pass.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The graph has no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

/// Runs all passes over `net` and plans the result.
///
/// # Errors
/// `passes.skip` names no pass; the net is not one that can be planned.
pub fn compile(net: Net) -> Result<Compiled, CompileError> {
    let mut graph = net.graph;
    graph.name_outputs();
    let rest = pass::position(SPECIFIED_AFTER)? + 1;
    let mut remarks = pass::run(&mut graph, &net.passes, None, Some(SPECIFIED_AFTER))?;
    let specified = graph.clone();
    remarks.append(pass::run(&mut graph, &net.passes, PIPELINE.get(rest).map(|p| p.name), None)?);
    let meta = plan::Meta { name: net.name, preprocess: net.preprocess, labels: net.labels, params: specified.params() };
    let options = net.plan;
    let mut warnings = Diagnostics::new();
    let plan = match measured(net.tuned.as_ref(), &graph, &meta, &options) {
        Ok(Some(plan)) => plan,
        Ok(None) => plan::build(&graph, meta, &options)?,
        Err(why) => {
            warnings.push(Tuned::ignored(&why));
            plan::build(&graph, meta, &options)?
        }
    };
    let separated = remarks.all.iter().any(|r| r.pass == SPECIFIED_AFTER && r.done);
    let weights_from = match net.passes.separate {
        Separate::Structure if separated => format!("{}; layers made by `separate` newly seeded", net.weights_from),
        Separate::Off | Separate::Structure | Separate::Rank(_) | Separate::MaxError(_) => net.weights_from,
    };
    Ok(Compiled { plan, graph, specified, remarks, weights_from, warnings })
}

/// The plan with the stages that were measured, if there are some, or why they do not fit.
fn measured(tuned: Option<&Tuned>, graph: &Graph, meta: &plan::Meta, options: &plan::Options) -> Result<Option<Plan>, String> {
    let Some(tuned) = tuned else { return Ok(None) };
    if let Some(why) = tuned.stale(graph, options) {
        return Err(why);
    }
    let mut plan = plan::decided(graph, meta.clone(), options, &tuned.decisions).map_err(|e| e.to_string())?;
    plan.tuned_on = Some(tuned.cpu.clone());
    Ok(Some(plan))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn net(name: &str, sets: &[(&str, &str)]) -> Net {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nets").join(name);
        let sets: Vec<_> = sets.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        crate::front::load(&path, &sets, None).unwrap_or_else(|e| panic!("{}", crate::diag::render(&e, false))).0
    }

    /// Counts are of the net after `separate` and before anything is folded; weights that `separate` made up are owned up to.
    #[test]
    fn counts_are_of_the_specified_net() {
        let small = [("alpha", "0.25"), ("input.height", "32"), ("input.width", "32")];
        let v1 = compile(net("mobilenet_v1.toml", &small)).unwrap();
        assert_eq!((v1.plan.params, v1.plan.params), (470_072, v1.specified.params()));
        assert!(v1.graph.params() < v1.specified.params(), "batch norm is folded in the graph that is planned");
        assert_eq!(v1.plan.macs, v1.specified.macs());
        assert_eq!(v1.remarks.ran.len(), PIPELINE.len());
        assert!(v1.weights_from.contains("seed") && !v1.weights_from.contains("separate"), "{}", v1.weights_from);

        let mut full = net("mobilenet_v1_full_conv.toml", &small);
        full.passes.separate = Separate::Structure;
        let full = compile(full).unwrap();
        assert_eq!((full.plan.params, full.plan.macs), (v1.plan.params, v1.plan.macs));
        assert!(full.weights_from.ends_with("; layers made by `separate` newly seeded"), "{}", full.weights_from);
    }

    #[test]
    fn a_wrong_pass_name_is_an_error() {
        let mut net = net("mobilenet_v1.toml", &[("alpha", "0.25"), ("input.height", "32"), ("input.width", "32")]);
        net.passes.skip = vec!["fold_bm".into()];
        let error = compile(net).unwrap_err().to_string();
        assert!(error.starts_with("there is no pass `fold_bm` (did you mean `fold_bn`?); the passes are separate, "), "{error}");
    }
}
