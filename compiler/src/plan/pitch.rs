//! Distances between pixels.
//!
//! A depthwise window reads the same channels of several neighbouring pixels at once. Where pixels stand a power of two apart,
//! these reads fall on the same few lines of the first level of cache and drive one another out: at 14x14x512 a depthwise layer then runs
//! at 60 % of its speed, at 7x7x1024 at a third. And where pixels start anywhere in a cache line, a vector as long as a line touches two
//! of them: 14x14x200 runs at 85 % of its speed. So such tensors get a gap behind every pixel. The same goes for what Strassen's method reads:
//! a tile of it takes every other pixel.

use super::select::{self, Class, Layer, Source};
use mnc_runtime::params::Method;

/// Floats of a cache line, the gap between pixels that would collide.
const LINE: usize = 16;
/// Channels whose multiples are far enough apart to collide: 1 KiB.
const COLLIDING: usize = 256;
/// Channels from which on whole cache lines are worth their memory, then at most an eighth more.
const MANY: usize = 64;

/// The floats from a pixel of `c` channels to the next.
fn pitch(c: usize) -> usize {
    let lines = if c < MANY { c } else { c.next_multiple_of(LINE) };
    if lines.is_multiple_of(COLLIDING) { lines + LINE } else { lines }
}

/// Widens the pixels of the results of `layers` that would collide or lie across cache lines.
pub(super) fn apply(layers: &mut [Layer]) {
    let total: usize = layers.iter().map(|l| l.bytes).sum();
    if total > isize::MAX as usize / 4 {
        return;
    }
    for l in chosen(layers) {
        let mut shape = layers[l].shape;
        shape.c = pitch(shape.c);
        if let Some(bytes) = select::bytes_of(shape) {
            (layers[l].pitch, layers[l].bytes) = (shape.c, bytes);
        }
    }
}

/// Layers with a depthwise layer on either side, or Strassen's method behind them, if all kernels concerned can read and write with gaps.
fn chosen(layers: &[Layer]) -> Vec<usize> {
    let mut wanted = vec![false; layers.len()];
    let mut refused = vec![false; layers.len()];
    for (l, layer) in layers.iter().enumerate() {
        let window = matches!(layer.class, Class::Window { taps, .. } if taps > 1);
        let by_pairs = matches!(layer.class, Class::Product { method: Method::Strassen, .. });
        let whole = layer.class == Class::Whole;
        wanted[l] |= window;
        // The caller's arrays have no gaps.
        refused[l] |= whole || layer.shape.h * layer.shape.w == 1 || layer.output.is_some();
        for r in &layer.reads {
            if let Source::Layer(r) = *r {
                wanted[r] |= window || by_pairs;
                refused[r] |= whole;
            }
        }
    }
    // A result is written over an operand only where both have one pitch, so what may become one buffer is chosen together.
    while spread(layers, &mut wanted) | spread(layers, &mut refused) {}
    (0..layers.len()).filter(|&l| pitch(layers[l].shape.c) != layers[l].shape.c && wanted[l] && !refused[l]).collect()
}

/// Carries a mark along operands that may be overwritten; whether that changed anything.
fn spread(layers: &[Layer], marked: &mut [bool]) -> bool {
    let mut changed = false;
    for (l, layer) in layers.iter().enumerate() {
        for &p in &layer.overwritable {
            if let Source::Layer(r) = layer.reads[p]
                && marked[l] != marked[r]
            {
                (marked[l], marked[r]) = (true, true);
                changed = true;
            }
        }
    }
    changed
}
