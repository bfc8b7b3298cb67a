//! [`crate::team`] without `std`: there are no threads, so a team is its caller alone. Code for teams compiles and computes
//! the same.

/// A team of one.
#[derive(Debug)]
pub struct Team(());

/// Where one thread waits for nobody.
#[derive(Debug, Default)]
pub struct Barrier(());

impl Barrier {
    /// Returns at once.
    pub fn wait(&self) {}
}

impl Team {
    /// The caller, whatever number of threads is asked for.
    #[must_use]
    pub fn new(_threads: usize) -> Self {
        Self(())
    }

    /// One.
    #[must_use]
    pub fn threads(&self) -> usize {
        1
    }

    /// Calls `region` once.
    pub fn run(&mut self, _threads: usize, region: &(dyn Fn(usize, &Barrier) + Sync)) {
        region(0, &Barrier(()));
    }
}
