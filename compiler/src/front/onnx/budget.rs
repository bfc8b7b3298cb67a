//! What an import may take: memory for constants, whether they are read, computed or put into the graph, and the time of computing
//! them, both in proportion to the size of the model's files.
//!
//! A file of a kilobyte can ask for anything: sizes doubled forty times, one constant read under a thousand names, one weight used
//! by ten thousand layers. So all that is made for it is counted, and counted before it is made.

use super::import::Refusal;

/// Bytes that any model may take.
const FREE: usize = 64 << 20;
/// Bytes that it may take for each of its own. Halves that are made floats, turned and put into the graph take ten.
const EACH: usize = 32;
/// Bytes of constants that may be gone through for any model, and for each byte of it.
const WORK: (usize, usize) = (1 << 30, 128);

/// The bytes that there are and those that were made of them.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Of the model's files.
    held: usize,
    taken: usize,
    worked: usize,
}

impl Budget {
    /// Of a model of `held` bytes.
    pub(super) fn of(held: usize) -> Self {
        Self { held, ..Self::default() }
    }

    /// Counts a further file.
    pub(super) fn hold(&mut self, bytes: usize) {
        self.held = self.held.saturating_add(bytes);
    }

    fn most(&self) -> usize {
        self.held.saturating_mul(EACH).saturating_add(FREE)
    }

    /// The bytes that may still be taken.
    pub(super) fn left(&self) -> usize {
        self.most().saturating_sub(self.taken)
    }

    /// Sees that `bytes` may be taken for a while.
    ///
    /// # Errors
    /// They are too many.
    pub(super) fn spare(&self, bytes: usize) -> Result<(), Refusal> {
        if bytes > self.left() {
            return Err(Refusal::Large(format!("it needs {bytes} bytes more for constants where {} are left", self.left())));
        }
        Ok(())
    }

    /// Counts `bytes` that stay.
    ///
    /// # Errors
    /// They are too many.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.spare(bytes)?;
        self.taken += bytes;
        Ok(())
    }

    /// Counts `bytes` that are gone through.
    ///
    /// # Errors
    /// They are too many.
    pub(super) fn work(&mut self, bytes: usize) -> Result<(), Refusal> {
        self.worked = self.worked.saturating_add(bytes);
        let most = self.held.saturating_mul(WORK.1).saturating_add(WORK.0);
        if self.worked > most {
            return Err(Refusal::Large(format!("the model goes through more than {most} bytes of constants")));
        }
        Ok(())
    }

    /// How to mend a model that takes too much.
    pub(super) fn help(&self) -> String {
        format!(
            "constants may take {} MiB and {EACH} times the model's {} bytes: let the exporter compute them, \
             or cut the model before this node with `--set outputs=[\"NAME\"]`",
            FREE >> 20,
            self.held
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_bounded_by_what_is_held() {
        let mut budget = Budget::of(10);
        assert_eq!(budget.left(), FREE + 10 * EACH);
        budget.take(FREE + 10 * EACH).unwrap();
        assert!(matches!(budget.take(1), Err(Refusal::Large(_))));
        budget.hold(1);
        budget.take(EACH).unwrap();
        assert!(budget.take(1).is_err() && budget.take(usize::MAX).is_err());
        budget.work(WORK.0 + 11 * WORK.1).unwrap();
        assert!(matches!(budget.work(1), Err(Refusal::Large(_))));
        assert!(budget.work(usize::MAX).is_err());
    }
}
