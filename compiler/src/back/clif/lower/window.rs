//! Which taps of a window fall into the input: by rows while running, by columns while compiling where they can be.

use cranelift_codegen::ir::Value;
use mnc_runtime::params::span;

use crate::back::clif::emit::{Emit, Int};

/// One axis of a window.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    /// Input length.
    pub input: usize,
    /// Output length.
    pub output: usize,
    /// Window length.
    pub kernel: usize,
    /// From window to window.
    pub stride: usize,
    /// From tap to tap.
    pub dilation: usize,
    /// Padding before the input.
    pub pad: usize,
}

impl Axis {
    /// Outputs whose window lies inside the input.
    pub fn inside(self) -> (usize, usize) {
        let first = self.pad.div_ceil(self.stride).min(self.output);
        let last = match (self.input + self.pad).checked_sub(span(self.kernel, self.dilation)) {
            Some(room) => (room / self.stride + 1).min(self.output),
            None => 0,
        };
        (first, last.max(first))
    }

    /// Whether no window touches the padding.
    pub fn no_border(self) -> bool {
        self.inside() == (0, self.output)
    }

    /// Input position of the first tap of output `at`; may be negative.
    pub fn origin(self, e: &mut Emit<'_>, at: impl Into<Int>) -> Int {
        let at = e.mul(at, self.stride as i64);
        e.sub(at, self.pad as i64)
    }

    /// The taps inside the input, as a range, for a window that starts at `origin`.
    pub fn taps(self, e: &mut Emit<'_>, origin: Int) -> (Int, Int) {
        if self.no_border() {
            return (0i64.into(), self.kernel.into());
        }
        let before = e.sub(0i64, origin);
        let first = e.max(before, 0i64);
        let room = e.sub(self.input, origin);
        if self.dilation == 1 {
            return (first, e.min(room, self.kernel));
        }
        let mut up = |n: Int| {
            let n = e.max(n, 0i64);
            let n = e.add(n, self.dilation - 1);
            e.div(n, self.dilation as i64)
        };
        let (first, end) = (up(first), up(room));
        (first, e.min(end, self.kernel))
    }

    /// Input position of tap `tap` of a window that starts at `origin`.
    pub fn at(self, e: &mut Emit<'_>, origin: Int, tap: impl Into<Int>) -> Int {
        let tap = e.mul(tap, self.dilation as i64);
        e.add(origin, tap)
    }

    /// Whether an input position exists.
    pub fn exists(self, e: &mut Emit<'_>, position: Int) -> Value {
        e.within(position, 0, self.input as i64)
    }
}
