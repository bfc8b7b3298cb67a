//! The Graphviz form of a graph.
