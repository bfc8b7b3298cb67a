//! Checks the invariants of a graph.
