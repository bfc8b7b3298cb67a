//! Element by element: sum of two tensors, channels times factors, an activation alone. Each also in place.

use core::marker::PhantomData;
use core::ops::Range;

use super::activation::{Act, Identity, with_act};
use super::{check_len, load_n, size, store_n};
use crate::isa::{Isa, Job, Simd};
use crate::params::Activation;

/// What is computed before the activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// `a`; there is no `b`.
    First,
    /// `a + b`
    Sum,
    /// `a * b`
    Product,
    /// `a < 0 ? a * b : a`; takes no activation.
    Slope,
}

/// [`Binary`] as a type, so that a loop over vectors has no branch in it.
trait Operation {
    /// Whether there is a second operand.
    const USES_B: bool;
    /// Whether an activation may follow.
    const ACTIVATED: bool = true;
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V;
}

struct First;
struct Sum;
struct Product;
struct Slope;

impl Operation for First {
    const USES_B: bool = false;
    #[inline(always)]
    fn apply<S: Simd>(_: S, a: S::V, _: S::V) -> S::V {
        a
    }
}

impl Operation for Sum {
    const USES_B: bool = true;
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

impl Operation for Product {
    const USES_B: bool = true;
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}

impl Operation for Slope {
    const USES_B: bool = true;
    const ACTIVATED: bool = false;
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        let zero = s.splat(0.0);
        s.mul_add(s.min(zero, a), b, s.max(zero, a))
    }
}

/// `y = act(f(a, b))` for some channels of some pixels. All pointers are at pixel 0, channel 0.
#[derive(Debug, Clone)]
pub(crate) struct MapBand {
    /// Before the activation.
    pub f: Binary,
    /// The activation.
    pub act: Activation,
    /// How many.
    pub pixels: usize,
    /// Channels.
    pub channels: Range<usize>,
    /// First operand; `y` where it is replaced.
    pub a: *const f32,
    /// Floats from a pixel of `a` to the next.
    pub a_pitch: usize,
    /// Second operand; never read for [`Binary::First`].
    pub b: *const f32,
    /// Floats from a pixel of `b` to the next; 0 where all pixels have the same.
    pub b_pitch: usize,
    /// The result.
    pub y: *mut f32,
    /// Floats from a pixel of `y` to the next.
    pub y_pitch: usize,
}

/// A kernel of one operation.
///
/// # Safety
/// The band's operation is the kernel's: it is that of [`KERNELS`] which [`MapBand::f`] names.
/// The channels can be read of every pixel of the operands, and written of every pixel of `y`, to which nothing else refers
/// meanwhile, except `a` where it is `y` itself with the same pitch.
pub(crate) type Kernel = unsafe fn(Isa, MapBand);

/// A kernel an operation, in the order of [`Binary`].
pub(crate) const KERNELS: [Kernel; 4] = [run::<First>, run::<Sum>, run::<Product>, run::<Slope>];

/// # Safety
/// As [`Kernel`] says.
unsafe fn run<F: Operation>(isa: Isa, band: MapBand) {
    isa.run(Map::<F>(band, PhantomData));
}

struct Map<F>(MapBand, PhantomData<F>);

impl<F: Operation> Job for Map<F> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let band = &mut self.0;
        let c = band.channels.end;
        let b_pitch = if F::USES_B { band.b_pitch } else { c };
        if band.channels.start == 0 && band.a_pitch == c && b_pitch == c && band.y_pitch == c {
            band.channels.end *= band.pixels; // without gaps: as if it were one pixel
            band.pixels = band.pixels.min(1);
        }
        if const { F::ACTIVATED } {
            with_act!(self.0.act, act => s.outline(With::<F, _>(self.0, act, PhantomData)));
        } else {
            s.outline(With::<F, _>(self.0, Identity, PhantomData));
        }
    }
}

/// A band whose operation and activation are types.
struct With<F, A>(MapBand, A, PhantomData<F>);

impl<F: Operation, A: Act> Job for With<F, A> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Range { start, end } = self.0.channels.clone();
        for pixel in 0..self.0.pixels {
            let mut channel = start;
            while end - channel >= S::LANES {
                self.vector(s, pixel, channel, S::LANES);
                channel += S::LANES;
            }
            if channel < end {
                self.vector(s, pixel, channel, end - channel);
            }
        }
    }
}

impl<F: Operation, A: Act> With<F, A> {
    /// `n` channels of a pixel.
    #[inline(always)]
    fn vector<S: Simd>(&self, s: S, pixel: usize, channel: usize, n: usize) {
        let MapBand { a, a_pitch, b, b_pitch, y, y_pitch, .. } = self.0;
        // SAFETY: both operands and the result have these channels of this pixel, as [`Kernel`] was promised.
        unsafe {
            let a = load_n(s, a.add(pixel * a_pitch + channel), n);
            let b = if F::USES_B { load_n(s, b.add(pixel * b_pitch + channel), n) } else { a };
            store_n(s, self.1.apply(s, F::apply(s, a, b)), y.add(pixel * y_pitch + channel), n);
        }
    }
}

/// Runs `f` over tensors of `pixels` times `c` elements. `a` is `y` itself where absent; `b`, with a pitch of 0, repeats.
#[expect(clippy::too_many_arguments, reason = "sizes and operands")]
fn whole(
    isa: Isa,
    f: Binary,
    act: Activation,
    pixels: usize,
    c: usize,
    a: Option<&[f32]>,
    b: &[f32],
    b_pitch: usize,
    y: &mut [f32],
) {
    let y = y.as_mut_ptr();
    let a = a.map_or(y.cast_const(), <[f32]>::as_ptr);
    let band = MapBand { f, act, pixels, channels: 0..c, a, a_pitch: c, b: b.as_ptr(), b_pitch, y, y_pitch: c };
    // SAFETY: the entries below have checked that `a` and `y` are `pixels * c` elements, and `b` as many or, with a pitch of 0,
    // `c`; `y` is borrowed alone.
    unsafe { KERNELS[f as usize](isa, band) };
}

/// `y = act(a + b)`. Panics where the lengths differ.
pub fn add(isa: Isa, act: Activation, a: &[f32], b: &[f32], y: &mut [f32]) {
    check_len("add first operand", a.len(), y.len());
    check_len("add second operand", b.len(), y.len());
    whole(isa, Binary::Sum, act, 1, y.len(), Some(a), b, y.len(), y);
}

/// `y = act(y + b)`. Panics where the lengths differ.
pub fn add_in_place(isa: Isa, act: Activation, b: &[f32], y: &mut [f32]) {
    check_len("add second operand", b.len(), y.len());
    whole(isa, Binary::Sum, act, 1, y.len(), None, b, y.len(), y);
}

/// `y = act(x * s)`: `x` and `y` `[pixels, c]`, `s` `[c]`. Panics where a length is another.
pub fn scale(isa: Isa, act: Activation, pixels: usize, c: usize, x: &[f32], s: &[f32], y: &mut [f32]) {
    check_len("scale input", x.len(), size([pixels, c]));
    check_len("scale output", y.len(), x.len());
    check_len("scale factors", s.len(), c);
    whole(isa, Binary::Product, act, pixels, c, Some(x), s, 0, y);
}

/// `y = act(y * s)`: `y` `[pixels, c]`, `s` `[c]`. Panics where a length is another.
pub fn scale_in_place(isa: Isa, act: Activation, pixels: usize, c: usize, s: &[f32], y: &mut [f32]) {
    check_len("scale output", y.len(), size([pixels, c]));
    check_len("scale factors", s.len(), c);
    whole(isa, Binary::Product, act, pixels, c, None, s, 0, y);
}

/// `y = x < 0 ? slope[c] * x : x`: `x` and `y` `[pixels, slope.len()]`. Panics where a length is another.
pub fn prelu(isa: Isa, slope: &[f32], x: &[f32], y: &mut [f32]) {
    check_len("prelu output", y.len(), x.len());
    let pixels = x.len().checked_div(slope.len()).unwrap_or(0);
    check_len("prelu input", x.len(), size([pixels, slope.len()]));
    whole(isa, Binary::Slope, Activation::None, pixels, slope.len(), Some(x), slope, 0, y);
}

/// [`prelu`] of `y` into `y`.
pub fn prelu_in_place(isa: Isa, slope: &[f32], y: &mut [f32]) {
    let pixels = y.len().checked_div(slope.len()).unwrap_or(0);
    check_len("prelu input", y.len(), size([pixels, slope.len()]));
    whole(isa, Binary::Slope, Activation::None, pixels, slope.len(), None, slope, 0, y);
}

/// `y = act(x)`. Panics where the lengths differ.
pub fn act(isa: Isa, act: Activation, x: &[f32], y: &mut [f32]) {
    check_len("act input", x.len(), y.len());
    whole(isa, Binary::First, act, 1, y.len(), Some(x), &[], 0, y);
}

/// `y = act(y)`
pub fn act_in_place(isa: Isa, act: Activation, y: &mut [f32]) {
    whole(isa, Binary::First, act, 1, y.len(), None, &[], 0, y);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of the channels, pixels apart by a pitch, in place or not, have the bits of the whole.
    #[test]
    fn bands_with_a_pitch() {
        const C: usize = 45;
        const PITCH: usize = 50;
        let a: Vec<f32> = (0..6 * C).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 5.0).collect();
        let b: Vec<f32> = a.iter().rev().copied().collect();
        let spread =
            |x: &[f32]| -> Vec<f32> { x.chunks(C).flat_map(|pixel| pixel.iter().copied().chain([-9.0; PITCH - C])).collect() };
        let act = Activation::HSwish;
        for isa in Isa::available() {
            let all = [(Binary::First, 0), (Binary::Sum, PITCH), (Binary::Product, 0), (Binary::Slope, 0)];
            for (f, b_pitch) in all {
                let mut want = vec![0.0; 6 * C];
                match f {
                    Binary::First => super::act(isa, act, &a, &mut want),
                    Binary::Sum => add(isa, act, &a, &b, &mut want),
                    Binary::Product => scale(isa, act, 6, C, &a, &b[..C], &mut want),
                    Binary::Slope => prelu(isa, &b[..C], &a, &mut want),
                }
                let (x, b) = (spread(&a), spread(&b));
                for in_place in [false, true] {
                    let mut y = if in_place { x.clone() } else { vec![-9.0; 6 * PITCH] };
                    let to = y.as_mut_ptr();
                    let from = if in_place { to.cast_const() } else { x.as_ptr() };
                    for channels in [16..C, 0..16] {
                        let (pixels, a_pitch, y_pitch) = (6, PITCH, PITCH);
                        let band = MapBand { f, act, pixels, channels, a: from, a_pitch, b: b.as_ptr(), b_pitch, y: to, y_pitch };
                        // SAFETY: six pixels of `C` channels each, of which `b` may repeat one.
                        unsafe { KERNELS[f as usize](isa, band) };
                    }
                    assert_eq!(y, spread(&want), "{} {f:?} in place {in_place}", isa.name());
                }
            }
        }
    }
}
