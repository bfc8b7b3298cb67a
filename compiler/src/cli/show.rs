//! `mnc show`: what a network consists of and what the passes did to it.

use std::collections::HashSet;

use serde_json::json;

use super::Failure;
use super::args::Show;
use super::console::Console;
use super::output::size;
use super::table::{table, thousands};
use crate::diag::Diagnostic;
use crate::front::PassOptions;
use crate::ir::op::Activation;
use crate::ir::{Graph, NodeId, Op};
use crate::pass::{self, PassError, Remark, Remarks};
use crate::plan::{self, Plan, Port, Stage, Step};

pub(super) fn run(args: &Show, console: &mut Console) -> Result<(), Failure> {
    let net = console.load(&args.spec)?;
    let after = match &args.after {
        Some(pass) => Some(run_passes(net.graph.clone(), &net.passes, pass)?),
        None => None,
    };
    let net = console.compile_net(net)?;
    let (graph, remarks) = after.as_ref().map_or((&net.specified, &net.remarks), |(graph, remarks)| (graph, remarks));
    let memory = &net.plan.memory;
    if args.json {
        let layers: Vec<_> =
            graph.topo().into_iter().filter(|&id| computes(graph.op(id))).map(|id| layer_json(graph, id)).collect();
        let remarks: Vec<_> =
            remarks.all.iter().map(|r| json!({ "pass": r.pass, "node": r.node, "done": r.done, "message": r.message })).collect();
        return console.json(&json!({
            "net": net.plan.name, "inputs": ports_json(&net.plan.inputs), "outputs": ports_json(&net.plan.outputs),
            "params": graph.params(), "macs": graph.macs(), "layers": layers,
            "arena_bytes": memory.arena_bytes, "arena_lower_bound_bytes": memory.lower_bound_bytes,
            "layerwise_bound_bytes": memory.layerwise_bound_bytes, "peak_with_input_bytes": memory.peak_with_input_bytes,
            "threads": net.plan.threads, "tuned_on": net.plan.tuned_on, "stages": net.plan.stages.iter().map(stage_json).collect::<Vec<_>>(), "remarks": remarks,
        }));
    }
    console.line(layers(graph))?;
    let (params, macs) = (thousands(graph.params()), thousands(graph.macs()));
    console.line(format_args!("{}: {params} parameters, {macs} multiply-adds", net.plan.name))?;
    if net.plan.inputs.len() > 1 || net.plan.outputs.len() > 1 {
        console.line(ports(&net.plan))?;
    }
    let weights = size(net.plan.weights.bytes());
    console.line(format_args!(
        "arena {} bytes (lower bound {}; layer by layer {}) in {} stages, weights {weights}: {}",
        thousands(memory.arena_bytes as u64),
        thousands(memory.lower_bound_bytes as u64),
        thousands(memory.layerwise_bound_bytes as u64),
        net.plan.stages.len(),
        net.weights_from
    ))?;
    if let Some(measured) = plan::print::measured(&net.plan) {
        console.line(measured)?;
    }
    grouped(&remarks.all).iter().try_for_each(|line| console.line(line))
}

/// What the net takes and gives, where that is not one tensor each; `first` is where a tensor begins among the elements of all.
fn ports(plan: &Plan) -> comfy_table::Table {
    let mut rows = table(&["", "name", "shape", "first"], &[3]);
    for (what, ports) in [("input", &plan.inputs), ("output", &plan.outputs)] {
        for port in ports {
            rows.add_row([what.to_owned(), port.name.clone(), port.tensor.shape.to_string(), port.offset.to_string()]);
        }
    }
    rows
}

fn ports_json(ports: &[Port]) -> Vec<serde_json::Value> {
    ports.iter().map(|p| json!({ "name": p.name, "shape": p.tensor.shape.dims(), "first": p.offset })).collect()
}

/// The graph after the pass `last` and all before it.
fn run_passes(mut graph: Graph, options: &PassOptions, last: &str) -> Result<(Graph, Remarks), Failure> {
    match pass::run(&mut graph, options, None, Some(last)) {
        Ok(remarks) => Ok((graph, remarks)),
        Err(e @ PassError::Unknown { .. }) => Err(Failure::input(Diagnostic::error(e.to_string()))),
        Err(e @ (PassError::Shape { .. } | PassError::Broken { .. })) => Err(Failure::job(Diagnostic::error(e.to_string()))),
    }
}

/// Whether a node is a layer and not a value that comes from outside.
fn computes(op: &Op) -> bool {
    !matches!(op, Op::Input | Op::Constant(_))
}

fn macs(graph: &Graph, id: NodeId) -> u64 {
    graph.op(id).macs(&graph.input_shapes(id), graph.shape(id))
}

fn layer_json(graph: &Graph, id: NodeId) -> serde_json::Value {
    let node = graph.node(id);
    json!({
        "op": node.op.name(), "name": node.name, "shape": node.shape.dims(),
        "params": node.op.params(&graph.consts), "macs": macs(graph, id),
    })
}

fn stage_json(stage: &Stage) -> serde_json::Value {
    json!({
        "steps": stage.steps.iter().map(|s| &s.name).collect::<Vec<_>>(), "strip_rows": stage.strip_rows, "split": stage.split.word(),
        "ring_rows": stage.steps.iter().filter_map(Step::ring_rows).collect::<Vec<_>>(),
        "cycles": stage.estimate.cycles, "cycles_by_layers": stage.estimate.layered,
    })
}

/// One row a layer; padding before it, and batch norm and activation after it, stand in its row.
fn layers(graph: &Graph) -> comfy_table::Table {
    let mut rows = table(&["op", "name", "output", "parameters", "multiply-adds"], &[3, 4]);
    let mut shown = HashSet::new();
    for id in graph.topo() {
        if !computes(graph.op(id)) || shown.contains(&id) {
            continue;
        }
        let chain = chain(graph, id);
        let text: Vec<String> = chain.iter().map(|&n| describe(graph.op(n))).collect();
        // The row is named after what is neither padding nor follow-up.
        let main = chain.iter().copied().find(|&n| !matches!(graph.op(n), Op::Pad(_))).unwrap_or(id);
        let shape = graph.shape(*chain.last().unwrap_or(&id));
        let params: u64 = chain.iter().map(|&n| graph.op(n).params(&graph.consts)).sum();
        let macs: u64 = chain.iter().map(|&n| macs(graph, n)).sum();
        let number = |n: u64| if n == 0 { String::new() } else { thousands(n) };
        let output = format!("{}x{}x{}", shape.h, shape.w, shape.c);
        rows.add_row([text.join(" + "), graph.node(main).name.clone(), output, number(params), number(macs)]);
        shown.extend(chain);
    }
    rows
}

/// The nodes of the row that starts at `id`.
fn chain(graph: &Graph, id: NodeId) -> Vec<NodeId> {
    let mut chain = vec![id];
    let mut last = id;
    while let Some(next) = graph.single_user(last) {
        let joins = match (graph.op(last), graph.op(next)) {
            (Op::Pad(_), Op::Conv(_) | Op::Depthwise(_) | Op::Pool(_)) => true,
            (_, Op::BatchNorm(_) | Op::Act(_)) => graph.inputs_of(next).len() == 1,
            _ => false,
        };
        if !joins {
            break;
        }
        chain.push(next);
        last = next;
    }
    chain
}

/// `conv 3x3/2 + relu6`
fn describe(op: &Op) -> String {
    let window = |k: [usize; 2], s: [usize; 2]| match s {
        [1, 1] => format!(" {}x{}", k[0], k[1]),
        [y, x] if y == x => format!(" {}x{}/{y}", k[0], k[1]),
        [y, x] => format!(" {}x{}/{y}x{x}", k[0], k[1]),
    };
    let mut text = op.name().to_owned();
    match op {
        Op::Conv(c) => {
            if !c.is_pointwise() {
                text += &window(c.kernel, c.stride);
            }
            for (fused, name) in [(c.residual, " + residual"), (c.pool, " + pool")] {
                text += if fused { name } else { "" };
            }
        }
        Op::Depthwise(d) => text += &window(d.kernel, d.stride),
        Op::ConvTranspose(c) => text += &window(c.kernel, c.stride),
        Op::Pool(p) => text += &window(p.kernel, p.stride),
        Op::Act(a) => text = activation(*a).unwrap_or("identity".to_owned()),
        Op::BatchNorm(_) => text = "bn".to_owned(),
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Add(_)
        | Op::Scale(_)
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
        | Op::Softmax => {}
    }
    match op.clone().activation_mut().and_then(|a| activation(*a)) {
        Some(name) => format!("{text} + {name}"),
        None => text,
    }
}

fn activation(a: Activation) -> Option<String> {
    (a != Activation::None).then(|| a.to_string())
}

/// Remarks as lines: passes in order, below each what it did and what it refused. Remarks that differ in nothing but the names of
/// nodes are one line, with the first of them in full.
fn grouped(remarks: &[Remark]) -> Vec<String> {
    let mut lines = Vec::new();
    for pass in pass::PIPELINE {
        let mut groups: Vec<(&Remark, String, usize)> = Vec::new();
        for r in remarks.iter().filter(|r| r.pass == pass.name) {
            let alike = without_names(&r.message);
            match groups.iter_mut().find(|(first, message, _)| first.done == r.done && *message == alike) {
                Some((_, _, count)) => *count += 1,
                None => groups.push((r, alike, 1)),
            }
        }
        if groups.is_empty() {
            continue;
        }
        let count = |done| groups.iter().filter(|(r, ..)| r.done == done).map(|(.., n)| n).sum::<usize>();
        lines.push(format!("{}: did {}, refused {}", pass.name, count(true), count(false)));
        for (r, _, n) in groups {
            let what = if r.done { "did" } else { "refused" };
            let more = if n > 1 { format!(" (and {} more alike)", n - 1) } else { String::new() };
            lines.push(format!("  {what} {}: {}{more}", r.node, r.message));
        }
    }
    lines
}

/// `message` with the dotted names of nodes blanked out.
fn without_names(message: &str) -> String {
    let is_name = |w: &str| w.contains('.') && w.starts_with(|c: char| c.is_ascii_alphabetic());
    let words = message.split(' ').map(|w| if is_name(w.trim_matches(|c: char| c.is_ascii_punctuation())) { "…" } else { w });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remarks_that_differ_in_names_are_one_line() {
        let pass = pass::PIPELINE[0].name;
        let remark = |node: &str, done, message: &str| Remark { pass, node: node.into(), done, message: message.into() };
        let lines = grouped(&[
            remark("a.conv", true, "folded into a.conv.bn, at 1.5 of the cost"),
            remark("b.conv", true, "folded into b.conv.bn, at 1.5 of the cost"),
            remark("c.conv", true, "folded into c.conv.bn, at 2.5 of the cost"),
            remark("d", false, "it is the stem"),
        ]);
        assert_eq!(
            lines,
            [
                format!("{pass}: did 3, refused 1"),
                "  did a.conv: folded into a.conv.bn, at 1.5 of the cost (and 1 more alike)".to_owned(),
                "  did c.conv: folded into c.conv.bn, at 2.5 of the cost".to_owned(),
                "  refused d: it is the stem".to_owned(),
            ]
        );
    }
}
