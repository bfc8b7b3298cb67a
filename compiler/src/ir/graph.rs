//! The graph itself: a wrapper around petgraph's `StableDiGraph`, the only file that imports petgraph.
//!
//! An edge runs from producer to consumer and carries the position among the consumer's inputs. Every change goes through the
//! methods here, so shapes are always current.

use std::collections::HashMap;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::op::ShapeError;
use super::{Consts, Op, Shape};

/// Names one node; stays valid while other nodes come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// Position in creation order, for stable sorting and printing.
    #[must_use]
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// One op with its name and output shape.
#[derive(Debug, Clone)]
pub struct Node {
    /// Unique, made of the spec's block and layer: `block3.expand`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Its output.
    pub shape: Shape,
}

/// A network: nodes, constants, inputs and outputs.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    graph: StableDiGraph<Node, usize>,
    /// Weights.
    pub consts: Consts,
    /// Graph inputs in order.
    pub inputs: Vec<NodeId>,
    /// Graph outputs in order. The same node may be several of them, and an input may be one.
    pub outputs: Vec<NodeId>,
    /// What the caller calls the outputs, in order, whatever passes make of their nodes; those beyond its end are called as their
    /// nodes.
    pub output_names: Vec<String>,
}

impl Graph {
    /// Adds a graph input of `shape`.
    pub fn add_input(&mut self, name: impl Into<String>, shape: Shape) -> NodeId {
        let id = NodeId(self.graph.add_node(Node { name: name.into(), op: Op::Input, shape }));
        self.inputs.push(id);
        id
    }

    /// Adds a constant node of `shape`.
    pub fn add_constant(&mut self, name: impl Into<String>, shape: Shape, data: Vec<f32>) -> NodeId {
        let op = Op::Constant(self.consts.add(data));
        NodeId(self.graph.add_node(Node { name: name.into(), op, shape }))
    }

    /// Adds a constant node of `shape` whose elements are `value`.
    pub fn add_const(&mut self, name: impl Into<String>, shape: Shape, value: super::ConstId) -> NodeId {
        NodeId(self.graph.add_node(Node { name: name.into(), op: Op::Constant(value), shape }))
    }

    /// Adds a node and infers its shape.
    ///
    /// # Errors
    /// When the op cannot take these inputs; the graph is unchanged.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId, ShapeError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.shape(i)).collect();
        let shape = op.infer(&shapes)?;
        let id = NodeId(self.graph.add_node(Node { name: name.into(), op, shape }));
        for (position, input) in inputs.iter().enumerate() {
            self.graph.add_edge(input.0, id.0, position);
        }
        Ok(id)
    }

    /// Gives `id` a new op and new inputs. Its output shape may change only if nothing reads it or readers still accept it.
    ///
    /// # Errors
    /// When the op cannot take these inputs, or a reader cannot take the new shape; the graph is unchanged.
    pub fn replace(&mut self, id: NodeId, op: Op, inputs: &[NodeId]) -> Result<(), ShapeError> {
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.shape(i)).collect();
        let given = matches!(op, Op::Input | Op::Constant(_));
        let shape = if given { self.shape(id) } else { op.infer(&shapes)? };
        if shape != self.shape(id) {
            for user in self.users(id) {
                let mut reads = Vec::new();
                for i in self.inputs_of(user) {
                    reads.push(if i == id { shape } else { self.shape(i) });
                }
                let user = &self.graph[user.0];
                if user.op.infer(&reads)? != user.shape {
                    return Err(ShapeError(format!("the new shape {shape} would change {}", user.name)));
                }
            }
        }
        let old: Vec<_> = self.graph.edges_directed(id.0, Incoming).map(|e| e.id()).collect();
        for edge in old {
            self.graph.remove_edge(edge);
        }
        for (position, input) in inputs.iter().enumerate() {
            self.graph.add_edge(input.0, id.0, position);
        }
        let node = &mut self.graph[id.0];
        node.op = op;
        node.shape = shape;
        Ok(())
    }

    /// Renames a node.
    pub fn rename(&mut self, id: NodeId, name: impl Into<String>) {
        self.graph[id.0].name = name.into();
    }

    /// Gives every output that has none the name of its node, to keep while passes replace nodes.
    pub fn name_outputs(&mut self) {
        for &id in self.outputs.get(self.output_names.len()..).unwrap_or(&[]) {
            self.output_names.push(self.graph[id.0].name.clone());
        }
    }

    /// Makes every reader of `old`, and every graph output that is `old`, read `new` instead.
    ///
    /// # Panics
    /// If the two have different shapes: that is a mistake in the calling pass, not in any input.
    pub fn redirect(&mut self, old: NodeId, new: NodeId) {
        assert_eq!(self.shape(old), self.shape(new), "redirect between different shapes");
        let edges: Vec<_> = self
            .graph
            .edges_directed(old.0, Outgoing)
            .filter(|e| e.target() != new.0)
            .map(|e| (e.id(), e.target(), *e.weight()))
            .collect();
        for (edge, target, position) in edges {
            self.graph.remove_edge(edge);
            self.graph.add_edge(new.0, target, position);
        }
        for output in &mut self.outputs {
            if *output == old {
                *output = new;
            }
        }
    }

    /// Removes a node that nothing reads.
    ///
    /// # Panics
    /// If something still reads it or it is a graph output: a mistake in the calling pass.
    pub fn remove(&mut self, id: NodeId) {
        assert!(self.users(id).is_empty() && !self.outputs.contains(&id), "removed node is still in use");
        self.inputs.retain(|&i| i != id);
        self.graph.remove_node(id.0);
    }

    /// The node `id`.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.graph[id.0]
    }

    /// The op of `id`.
    #[must_use]
    pub fn op(&self, id: NodeId) -> &Op {
        &self.graph[id.0].op
    }

    /// Output shape of `id`.
    #[must_use]
    pub fn shape(&self, id: NodeId) -> Shape {
        self.graph[id.0].shape
    }

    /// Inputs of `id` in order.
    #[must_use]
    pub fn inputs_of(&self, id: NodeId) -> Vec<NodeId> {
        let mut all: Vec<_> = self.graph.edges_directed(id.0, Incoming).map(|e| (*e.weight(), NodeId(e.source()))).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// Shapes of the inputs of `id` in order.
    #[must_use]
    pub fn input_shapes(&self, id: NodeId) -> Vec<Shape> {
        self.inputs_of(id).into_iter().map(|i| self.shape(i)).collect()
    }

    /// Nodes that read `id`, once a reading, in creation order.
    #[must_use]
    pub fn users(&self, id: NodeId) -> Vec<NodeId> {
        let mut all: Vec<_> = self.graph.edges_directed(id.0, Outgoing).map(|e| NodeId(e.target())).collect();
        all.sort_unstable();
        all
    }

    /// The only reader of `id`, if it is read exactly once and is not a graph output. What a fusion asks first.
    #[must_use]
    pub fn single_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users(id)[..] {
            [user] if !self.outputs.contains(&id) => Some(user),
            _ => None,
        }
    }

    /// All nodes in creation order.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.graph.node_indices().map(NodeId).collect()
    }

    /// All nodes, producers before consumers; among the ready ones the oldest first, so the order is deterministic.
    /// Nodes on a cycle are left out (`verify` reports them).
    #[must_use]
    pub fn topo(&self) -> Vec<NodeId> {
        let mut missing: HashMap<NodeIndex, usize> = HashMap::new();
        let mut ready = std::collections::BinaryHeap::new();
        for node in self.graph.node_indices() {
            let n = self.graph.edges_directed(node, Incoming).count();
            missing.insert(node, n);
            if n == 0 {
                ready.push(std::cmp::Reverse(node));
            }
        }
        let mut order = Vec::with_capacity(missing.len());
        while let Some(std::cmp::Reverse(node)) = ready.pop() {
            order.push(NodeId(node));
            for edge in self.graph.edges_directed(node, Outgoing) {
                let n = missing.get_mut(&edge.target()).expect("every node is counted");
                *n -= 1;
                if *n == 0 {
                    ready.push(std::cmp::Reverse(edge.target()));
                }
            }
        }
        order
    }

    /// Number of nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.graph.node_count()
    }

    /// Whether there are no nodes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether `id` is a node of this graph.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.graph.contains_node(id.0)
    }

    /// Multiply-adds of the whole graph.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.topo().into_iter().map(|id| self.op(id).macs(&self.input_shapes(id), self.shape(id))).sum()
    }

    /// Trainable parameters of the whole graph (see [`Op::params`]).
    #[must_use]
    pub fn params(&self) -> u64 {
        self.topo().into_iter().map(|id| self.op(id).params(&self.consts)).sum()
    }
}
