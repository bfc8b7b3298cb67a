//! Runs a graph with naive loops: the oracle.
