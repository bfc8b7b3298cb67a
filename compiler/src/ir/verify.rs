//! Checks the invariants of a graph (listed in [`crate::ir`]); all errors are collected.
//!
//! The pass driver runs it after every pass, so a pass that breaks the graph is caught under its own name.

use std::collections::{BTreeMap, HashSet};

use super::op::ShapeError;
use super::{Graph, NodeId, Op, Shape};

/// A broken invariant; `node` is the node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// Some node depends on itself.
    #[error("{node} is on a cycle")]
    Cycle {
        /// A node on the cycle, or behind it.
        node: String,
    },
    /// The op cannot take its inputs.
    #[error("{node}: {source}")]
    Shape {
        /// The node.
        node: String,
        /// What does not fit.
        source: ShapeError,
    },
    /// The stored shape is not the inferred one.
    #[error("{node} is stored as {stored}, its op gives {inferred}")]
    Stale {
        /// The node.
        node: String,
        /// What the node says.
        stored: Shape,
        /// What [`Op::infer`] says.
        inferred: Shape,
    },
    /// A constant is missing or has the wrong length.
    #[error("{node} needs a constant of {need} elements, not {}", found.map_or("a missing one".into(), |f| f.to_string()))]
    Constant {
        /// The node.
        node: String,
        /// Elements the op needs.
        need: usize,
        /// Elements found; `None` where there is no such constant.
        found: Option<usize>,
    },
    /// A graph input is not an [`Op::Input`], is listed twice, or an [`Op::Input`] is not listed.
    #[error("{node}: {what}")]
    Input {
        /// The node.
        node: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A graph input or output names a node that is not in the graph.
    #[error("the graph's {what} {position} is not a node of the graph")]
    Dangling {
        /// `input` or `output`.
        what: &'static str,
        /// Position in the list.
        position: usize,
    },
    /// The graph has no output.
    #[error("the graph has no output")]
    NoOutput,
    /// Two nodes have one name.
    #[error("{nodes} nodes are called {name}")]
    Name {
        /// The name.
        name: String,
        /// How many.
        nodes: usize,
    },
}

/// Checks every invariant of `graph`.
///
/// # Errors
/// All that is broken, in node order.
pub fn verify(graph: &Graph) -> Result<(), Vec<VerifyError>> {
    let mut errors = Vec::new();
    let nodes = graph.nodes();
    check_ends(graph, &mut errors);
    check_names(graph, &nodes, &mut errors);
    let sorted: HashSet<NodeId> = graph.topo().into_iter().collect();
    for &id in &nodes {
        if !sorted.contains(&id) {
            errors.push(VerifyError::Cycle { node: graph.node(id).name.clone() });
        }
        check_node(graph, id, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Inputs and outputs of the graph.
fn check_ends(graph: &Graph, errors: &mut Vec<VerifyError>) {
    for (what, ids) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for (position, &id) in ids.iter().enumerate() {
            if !graph.contains(id) {
                errors.push(VerifyError::Dangling { what, position });
            }
        }
    }
    if graph.outputs.is_empty() {
        errors.push(VerifyError::NoOutput);
    }
    let mut seen = HashSet::new();
    for &id in graph.inputs.iter().filter(|&&id| graph.contains(id)) {
        let node = graph.node(id).name.clone();
        if !seen.insert(id) {
            errors.push(VerifyError::Input { node, what: "listed twice among the graph inputs" });
        } else if !matches!(graph.op(id), Op::Input) {
            errors.push(VerifyError::Input { node, what: "a graph input that is not an input node" });
        }
    }
}

/// Names are unique: remarks, plans and emitted code refer to nodes by them.
fn check_names(graph: &Graph, nodes: &[NodeId], errors: &mut Vec<VerifyError>) {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for &id in nodes {
        *count.entry(&graph.node(id).name).or_default() += 1;
    }
    for (name, nodes) in count.into_iter().filter(|&(_, n)| n > 1) {
        errors.push(VerifyError::Name { name: name.into(), nodes });
    }
}

/// Shape and constants of one node.
fn check_node(graph: &Graph, id: NodeId, errors: &mut Vec<VerifyError>) {
    let node = graph.node(id);
    let name = || node.name.clone();
    let inputs = graph.input_shapes(id);
    let mut constants = Vec::new();
    match &node.op {
        Op::Input | Op::Constant(_) => {
            if !inputs.is_empty() {
                errors.push(VerifyError::Shape { node: name(), source: ShapeError("it takes no inputs".into()) });
            }
            if node.shape.checked_elements().is_none_or(|n| n == 0) {
                errors.push(VerifyError::Shape {
                    node: name(),
                    source: ShapeError(format!("the shape {} is impossible", node.shape)),
                });
            }
            if let Op::Constant(value) = node.op {
                constants.push((value, node.shape.checked_elements().unwrap_or(usize::MAX)));
            } else if !graph.inputs.contains(&id) {
                errors.push(VerifyError::Input { node: name(), what: "an input node that no graph input names" });
            }
        }
        Op::Normalize(_)
        | Op::Pad(_)
        | Op::Conv(_)
        | Op::Depthwise(_)
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
        | Op::Softmax => match node.op.infer(&inputs) {
            Err(source) => errors.push(VerifyError::Shape { node: name(), source }),
            Ok(inferred) => {
                if inferred != node.shape {
                    errors.push(VerifyError::Stale { node: name(), stored: node.shape, inferred });
                }
                constants = node.op.constants(&inputs);
            }
        },
    }
    for (constant, need) in constants {
        let found = graph.consts.len_of(constant);
        if found != Some(need) {
            errors.push(VerifyError::Constant { node: name(), need, found });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::op::{Activation, Conv, Depthwise, Pool, PoolKind};
    use crate::ir::{ConstId, Padding};

    fn conv(weight: ConstId) -> Conv {
        Conv {
            in_c: 3,
            out_c: 2,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 1,
            pad: Padding::ZERO,
            pad_value: None,
            weight,
            bias: None,
            act: Activation::None,
            residual: false,
            pool: false,
        }
    }

    fn graph() -> (Graph, NodeId, NodeId) {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(5, 5, 3));
        let weight = g.consts.add(vec![0.0; 54]);
        let y = g.add("y", Op::Conv(conv(weight)), &[x]).unwrap();
        g.outputs.push(y);
        (g, x, y)
    }

    #[test]
    fn a_sound_graph_passes() {
        assert_eq!(verify(&graph().0), Ok(()));
    }

    #[test]
    fn all_errors_are_collected() {
        let (mut g, x, y) = graph();
        let short = g.consts.add(vec![0.0; 53]);
        g.replace(y, Op::Conv(conv(short)), &[x]).unwrap();
        g.rename(y, "x");
        g.outputs.clear();
        assert_eq!(
            verify(&g),
            Err(vec![
                VerifyError::NoOutput,
                VerifyError::Name { name: "x".into(), nodes: 2 },
                VerifyError::Constant { node: "x".into(), need: 54, found: Some(53) },
            ])
        );
    }

    #[test]
    fn missing_constants_and_wrong_inputs_are_named() {
        let (mut g, _, y) = graph();
        let (mut other, _, _) = graph();
        let stranger = (0..3).map(|_| other.consts.add(vec![0.0; 54])).last().unwrap();
        g.inputs.push(y);
        let x = g.inputs_of(y)[0];
        g.replace(y, Op::Conv(conv(stranger)), &[x]).unwrap();
        g.inputs.remove(0);
        let errors = verify(&g).unwrap_err();
        assert!(errors.contains(&VerifyError::Input { node: "y".into(), what: "a graph input that is not an input node" }));
        assert!(errors.contains(&VerifyError::Input { node: "x".into(), what: "an input node that no graph input names" }));
        assert!(errors.contains(&VerifyError::Constant { node: "y".into(), need: 54, found: None }));
    }

    #[test]
    fn a_cycle_is_reported() {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(1, 1, 3));
        let a = g.add("a", Op::Act(Activation::Relu), &[x]).unwrap();
        let b = g.add("b", Op::Act(Activation::Relu), &[a]).unwrap();
        g.outputs.push(b);
        g.replace(a, Op::Act(Activation::Relu), &[b]).unwrap();
        let errors = verify(&g).unwrap_err();
        assert_eq!(errors, vec![VerifyError::Cycle { node: "a".into() }, VerifyError::Cycle { node: "b".into() }]);
    }

    #[test]
    fn zero_strides_and_kernels_are_refused_not_divided_by() {
        let (mut g, x, _) = graph();
        let weight = g.consts.add(vec![0.0; 54]);
        assert!(g.add("s", Op::Conv(Conv { stride: [0, 1], ..conv(weight) }), &[x]).is_err());
        assert!(g.add("k", Op::Conv(Conv { kernel: [0, 1], ..conv(weight) }), &[x]).is_err());
        assert!(g.add("d", Op::Conv(Conv { dilation: [1, 0], ..conv(weight) }), &[x]).is_err());
        let pool =
            |kernel, stride| Op::Pool(Pool { kind: PoolKind::Max, kernel, stride, pad: Padding::ZERO, count_padding: false });
        assert!(g.add("p", pool([2, 2], [1, 0]), &[x]).is_err());
        let depthwise = Depthwise {
            channels: 3,
            multiplier: 0,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: Padding::ZERO,
            pad_value: None,
            weight,
            bias: None,
            act: Activation::None,
        };
        assert!(g.add("d", Op::Depthwise(depthwise), &[x]).is_err());
    }
}
