//! Plans next to a plan: other stages for the same layers, for a tuner to try.
//!
//! A stage may be taken apart, cut in two, joined with the one behind it in the same run, streamed in strips of half or twice the
//! rows, or shared among threads otherwise; gaps between pixels may be put or left out. Every variant is one such change.

use std::collections::HashSet;

use super::{Decision, Decisions, Options, PlanError, Split, cost, pitch, select, stages};
use crate::ir::Graph;

/// Rows of a strip for layers that were stages of their own, if there are so many.
const STRIP: usize = 4;

/// One change to decisions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// For people: `block2.0.project: strips of 4 rows`.
    pub what: String,
    /// All decisions with the change.
    pub decisions: Decisions,
    /// Names of the layers whose stages change; none where all do.
    pub layers: Vec<String>,
}

/// A stage as it is changed here.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// In its run.
    begin: usize,
    layers: usize,
    strip: usize,
    split: Split,
}

/// Every change to `decisions` for `graph`, those of the most expensive layers first. Not every one need have a plan.
///
/// # Errors
/// As [`super::build`].
pub fn variants(graph: &Graph, options: &Options, decisions: &Decisions) -> Result<Vec<Variant>, PlanError> {
    let layers = select::layers(graph, options)?;
    let threads = options.threads.max(1);
    let name = |l: usize| layers[l].name.as_str();
    // What is weighed is what a change may win: the cycles of its layers by the model.
    let cycles = |l: usize| cost::layered(&layers[l], cost::split(&layers[l], threads), threads);
    let mut all: Vec<(f64, Variant)> = Vec::new();
    for run in stages::runs(&layers, options) {
        let cuts = cuts(&run, &layers, threads, decisions);
        let listed: HashSet<&str> = run.iter().map(|&l| name(l)).collect();
        let others: Vec<Decision> = decisions.stages.iter().filter(|d| !listed.contains(d.last.as_str())).cloned().collect();
        let mut change = |what: String, from: usize, count: usize, new: &[Cut]| {
            let changed = cuts[from..from + count].iter().flat_map(|c| &run[c.begin..c.begin + c.layers]);
            let changed: Vec<usize> = changed.copied().collect();
            let kept = cuts[..from].iter().chain(new).chain(&cuts[from + count..]);
            let kept = kept.filter(|c| c.layers > 1 || threads > 1).map(|c| Decision {
                last: name(run[c.begin + c.layers - 1]).to_owned(),
                layers: c.layers,
                strip: c.strip,
                split: c.split,
            });
            let stages = others.iter().cloned().chain(kept).collect();
            let weight = changed.iter().map(|&l| cycles(l)).sum();
            let layers = changed.iter().map(|&l| name(l).to_owned()).collect();
            all.push((weight, Variant { what, decisions: Decisions { gaps: decisions.gaps, stages }, layers }));
        };
        let single = |at: usize| Cut { begin: at, layers: 1, strip: 1, split: cost::split(&layers[run[at]], threads) };
        let part = |begin: usize, count: usize, like: Cut| match count {
            1 => single(begin),
            _ => {
                let last = &layers[run[begin + count - 1]];
                let split = cost::split_streamed(last, threads);
                Cut { begin, layers: count, strip: like.strip.min(last.shape.h.saturating_sub(1)).max(1), split }
            }
        };
        for (i, &c) in cuts.iter().enumerate() {
            let last = &layers[run[c.begin + c.layers - 1]];
            let said = |what: &str| format!("{}: {what}", last.name);
            if c.layers > 1 {
                let singles: Vec<Cut> = (c.begin..c.begin + c.layers).map(single).collect();
                change(said("layer by layer"), i, 1, &singles);
                for strip in [c.strip / 2, c.strip * 2].into_iter().filter(|s| (1..last.shape.h).contains(s)) {
                    change(said(&format!("strips of {strip} rows")), i, 1, &[Cut { strip, ..c }]);
                }
                // With two layers that is layer by layer.
                for first in (1..c.layers).filter(|_| c.layers > 2) {
                    let two = [part(c.begin, first, c), part(c.begin + first, c.layers - first, c)];
                    change(said(&format!("cut behind {}", name(run[c.begin + first - 1]))), i, 1, &two);
                }
            }
            if let Some(&next) = cuts.get(i + 1) {
                let strip = if next.layers > 1 { next.strip } else { STRIP };
                let joined = part(c.begin, c.layers + next.layers, Cut { strip, ..next });
                change(said(&format!("joined with {}", name(run[next.begin + next.layers - 1]))), i, 2, &[joined]);
            }
            let splits = if c.layers > 1 { cost::splits_streamed(last, threads) } else { cost::splits(last, threads) };
            for split in splits.into_iter().filter(|&s| s != c.split) {
                change(said(&format!("shared: {}", split.word())), i, 1, &[Cut { split, ..c }]);
            }
        }
    }
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut variants: Vec<Variant> = all.into_iter().map(|v| v.1).collect();
    let mut gapped = select::layers(graph, options)?;
    pitch::apply(&mut gapped);
    if gapped.iter().zip(&layers).any(|(a, b)| a.pitch != b.pitch) {
        let what = if decisions.gaps { "no gaps between pixels" } else { "gaps between pixels" };
        let decisions = Decisions { gaps: !decisions.gaps, ..decisions.clone() };
        variants.insert(0, Variant { what: what.to_owned(), decisions, layers: Vec::new() });
    }
    Ok(variants)
}

/// The stages of a run by `decisions`.
fn cuts(run: &[usize], layers: &[select::Layer], threads: usize, decisions: &Decisions) -> Vec<Cut> {
    let mut cuts = Vec::new();
    let mut end = run.len();
    // From behind, for decisions name the last layers.
    while end > 0 {
        let last = &layers[run[end - 1]];
        let decided = decisions.stages.iter().find(|d| d.last == last.name && (1..=end).contains(&d.layers));
        let (count, strip, split) = decided.map_or((1, 1, cost::split(last, threads)), |d| (d.layers, d.strip, d.split));
        end -= count;
        cuts.push(Cut { begin: end, layers: count, strip, split });
    }
    cuts.reverse();
    cuts
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Meta, Plan, build, decided};
    use super::*;
    use crate::plan::Stream;

    fn net(threads: usize) -> (Graph, Meta, Options) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nets/mobilenet_v2.toml");
        let sets = [("alpha", "0.25"), ("input.height", "64"), ("input.width", "64")].map(|(k, v)| (k.into(), v.into()));
        let net = crate::front::load(&path, &sets, None).unwrap().0;
        let compiled = crate::compile(net).unwrap();
        let Plan { name, preprocess, labels, params, .. } = compiled.plan;
        (compiled.graph, Meta { name, preprocess, labels, params }, Options { threads, ..Options::default() })
    }

    /// A plan is made again by its own decisions, however it was chosen.
    #[test]
    fn decisions_of_a_plan_make_it_again() {
        for (threads, stream) in
            [(1, Stream::Auto), (1, Stream::Always), (1, Stream::Never), (3, Stream::Always), (2, Stream::Auto)]
        {
            let (graph, meta, options) = net(threads);
            let options = Options { stream, ..options };
            let plan = build(&graph, meta.clone(), &options).unwrap();
            let again = decided(&graph, meta, &options, &Decisions::of(&plan, &options)).unwrap();
            assert_eq!(plan.stages, again.stages, "{threads} {stream:?}");
            assert_eq!(plan.memory, again.memory, "{threads} {stream:?}");
        }
    }

    /// Every variant is a plan that is certified, and another one.
    #[test]
    fn variants_have_plans() {
        for threads in [1, 2] {
            let (graph, meta, options) = net(threads);
            let mut said = String::new();
            for stream in [Stream::Always, Stream::Never] {
                let base = Options { stream, ..options };
                let plan = build(&graph, meta.clone(), &base).unwrap();
                let decisions = Decisions::of(&plan, &base);
                for v in variants(&graph, &options, &decisions).unwrap() {
                    assert_ne!(v.decisions, decisions, "{}", v.what);
                    match decided(&graph, meta.clone(), &options, &v.decisions) {
                        Ok(other) => assert!(other.stages != plan.stages || other.memory != plan.memory, "{}", v.what),
                        // Too many layers in one, or one without the layer that adds what another of it makes.
                        Err(PlanError::Decided(why)) if why.contains("adds") => {
                            assert!(v.what.contains("cut") || v.what.contains("joined"))
                        }
                        Err(e) => assert!(matches!(e, PlanError::Decided(_)) && v.what.contains("joined"), "{}: {e}", v.what),
                    }
                    said += &v.what;
                }
            }
            for word in ["layer by layer", "strips of", "cut behind", "joined with"] {
                assert!(said.contains(word), "{word}: {said}");
            }
            assert_eq!(said.contains("shared"), threads > 1);
        }
    }

    #[test]
    fn decisions_of_another_net_are_refused() {
        let (graph, meta, options) = net(1);
        let stage = |last: &str, layers, strip, split| Decision { last: last.into(), layers, strip, split };
        let refused = |stages: Vec<Decision>| match decided(&graph, meta.clone(), &options, &Decisions { gaps: true, stages }) {
            Err(PlanError::Decided(why)) => why,
            other => panic!("{:?}", other.map(|p| p.stages)),
        };
        assert!(refused(vec![stage("nowhere", 2, 1, Split::Alone)]).contains("no layer `nowhere`"));
        assert!(refused(vec![stage("stem.conv", 2, 1, Split::Alone)]).contains("cannot be one stage"));
        assert!(refused(vec![stage("block1.project", 0, 1, Split::Alone)]).contains("cannot be one stage"));
        assert!(refused(vec![stage("block1.project", 2, 1000, Split::Alone)]).contains("strips of 1000 rows"));
        assert!(refused(vec![stage("block1.project", 2, 1, Split::Rows)]).contains("`rows`"));
        let twice = vec![stage("block3.0.project", 2, 1, Split::Alone), stage("block3.0.depthwise", 2, 1, Split::Alone)];
        assert!(refused(twice).contains("another stage"));
    }
}
