//! The graph IR: WHAT is computed. Read this page first.
//!
//! A [`Graph`] is a directed acyclic graph (petgraph inside, [`graph`] is the only file that knows). A node is one [`Op`] with
//! one output tensor; its inputs are ordered. Tensors are f32, NHWC. Weights are [`Consts`] beside the graph, shared by id.
//! Padding, batch norm, activation and residual addition are nodes of their own until a pass fuses them into a convolution.
//!
//! Invariants, checked by [`verify`]: the graph is acyclic; every node's stored shape is what [`Op::infer`] says of its inputs;
//! every constant an op names exists and has the length the op needs; each graph input is an [`Op::Input`] and each output a
//! node of the graph; no op carries a fused part that its kernel family does not know (see [`op`]).
//!
//! * [`eval`] runs a graph with naive loops: the oracle for every pass and back end.
//! * [`random`] draws weights for layers that a pass makes up, and for tests.
//! * [`mod@print`] and [`dot`] are the text and Graphviz forms.
//! * To add an op, see [`op`].

pub mod consts;
pub mod dot;
pub mod eval;
pub mod graph;
pub mod op;
pub mod print;
pub mod random;
pub mod shape;
pub mod verify;

pub use consts::{ConstId, Consts};
pub use graph::{Graph, Node, NodeId};
pub use op::Op;
pub use shape::{DType, Padding, Shape};
