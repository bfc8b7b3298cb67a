//! Weights beside the graph, shared by id.

use std::sync::Arc;

/// Names one tensor of a [`Consts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConstId(u32);

impl ConstId {
    /// Position in the pool; stable for the life of the graph.
    #[must_use]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The pool of constants. Entries are immutable: a pass that changes weights adds a new entry.
#[derive(Debug, Clone, Default)]
pub struct Consts {
    data: Vec<Arc<[f32]>>,
}

impl Consts {
    /// Adds a tensor and names it.
    ///
    /// # Panics
    /// With more than 2^32 constants.
    pub fn add(&mut self, data: impl Into<Arc<[f32]>>) -> ConstId {
        let id = u32::try_from(self.data.len()).expect("fewer than 2^32 constants");
        self.data.push(data.into());
        ConstId(id)
    }

    /// The elements of `id`.
    #[must_use]
    pub fn get(&self, id: ConstId) -> &[f32] {
        &self.data[id.index()]
    }

    /// Length of `id`, or `None` if there is no such constant.
    #[must_use]
    pub fn len_of(&self, id: ConstId) -> Option<usize> {
        self.data.get(id.index()).map(|d| d.len())
    }
}
