//! Pointwise convolution by one level of Strassen's method: seven products of quarters where the matrix product has eight.
//!
//! In Winograd's form, of fifteen sums (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, section 23.1, equation
//! 23.6): with the even pixels above the odd ones, the first half of the input channels beside the second, and of every [`GROUP`]
//! output channels the first half beside the second,
//!
//! ```text
//! A = a11 a12   s1 = a21 + a22   B = b11 b12   t1 = b12 - b11   m1 = a11 . b11   m5 = s1 . t1
//!     a21 a22   s2 = s1 - a11        b21 b22   t2 = b22 - t1    m2 = a12 . b21   m6 = s2 . t2
//!               s3 = a11 - a21                 t3 = b22 - b12   m3 = s4 . b22    m7 = s3 . t3
//!               s4 = a12 - s2                  t4 = t2 - b21    m4 = a22 . t4
//!
//! A . B = m1 + m2              (m1 + m6) + m5 + m3
//!         (m1 + m6 + m7) - m4  (m1 + m6 + m7) + m5
//! ```
//! The sums of weights are made when those are packed ([`crate::pack::strassen`]), in the order in which the products read them, so
//! that all weights are read from front to back. Those of inputs are made for a block of pixels in scratch memory of this call.
//! A product starts from the sums before it, or adds them as a residual, so that hardly a pass over outputs is left.
//!
//! Rounding: the sums are of up to four inputs, and four of eight parts cancel in an output, so that its error is up to some times
//! that of the direct sum. A number that is not finite spreads over its pair of pixels, and over the channels of its half of a group.

use core::mem::MaybeUninit;

use super::activation::activate;
use super::load_n;
use super::pointwise::{Band, Later};
use super::tile::Blocks;
use crate::isa::{Job, Simd};
use crate::pack::{PANEL, STRASSEN_GROUP as GROUP};
use crate::params::{Method, Pointwise};

/// Output channels of a product.
const HALF: usize = GROUP / 2;
/// Pairs of pixels that weights are read for once: four tiles of fourteen, which ask for all of the next product's weights.
const PAIRS: usize = 56;
/// The most input channels of a product, and the floats from a sum's pixel to the next: a cache line more, as a power of two would
/// put all pixels of a tile into a few places of the first level of cache.
const MOST_CHANNELS: usize = crate::params::STRASSEN_CHANNELS / 2;
const PITCH: usize = MOST_CHANNELS + PANEL;

/// Stands in for a bias.
static ZEROS: [f32; HALF] = [0.0; HALF];

/// `s1` to `s4` `[4][pairs][PITCH]`, and sums of products `[3][pairs][HALF]`.
struct Scratch {
    inputs: [MaybeUninit<f32>; 4 * PAIRS * PITCH],
    products: [MaybeUninit<f32>; 3 * PAIRS * HALF],
}

/// A band of whole rows, all output channels of it. A job of its own, for its scratch memory is on the stack.
pub(super) struct Dense<'a> {
    pub b: &'a Band<'a>,
}

impl Job for Dense<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let b = self.b;
        let mut scratch = MaybeUninit::<Scratch>::uninit();
        let scratch = scratch.as_mut_ptr();
        // SAFETY: parts of the scratch memory.
        let (inputs, products) =
            unsafe { ((&raw mut (*scratch).inputs).cast::<f32>(), (&raw mut (*scratch).products).cast::<f32>()) };
        let blocks = Blocks::new(b.pixels / 2, PAIRS);
        for i in 0..blocks.count {
            let (first, end) = blocks.get(i);
            let block = Block { b, first, pairs: end - first, inputs, products };
            s.outline(Inputs(block));
            for group in 0..b.p.out_c / GROUP {
                block.group(s, group);
            }
        }
    }
}

/// Some pairs of pixels.
#[derive(Clone, Copy)]
struct Block<'a> {
    b: &'a Band<'a>,
    first: usize,
    pairs: usize,
    inputs: *mut f32,
    products: *mut f32,
}

/// What a product is written to.
#[derive(Clone, Copy)]
struct To {
    y: *mut f32,
    pitch: usize,
    /// Added before the activation; of the same pitch if it is `y`.
    residual: Option<(*const f32, usize)>,
    bias: *const f32,
    params: Pointwise,
}

impl Block<'_> {
    /// Input channels of a quarter.
    #[inline(always)]
    fn channels(&self) -> usize {
        self.b.p.in_c / 2
    }

    /// Output channels `group * GROUP..` of the block.
    #[inline(always)]
    fn group<S: Simd>(&self, s: S, group: usize) {
        let b = self.b;
        let k = self.channels();
        // Pointers, read and written by products and by `Join` alone.
        let pair = 2 * b.x_pitch;
        let x = b.x.wrapping_add(self.first * pair);
        let sums: [_; 4] = core::array::from_fn(|i| (self.inputs.cast_const().wrapping_add(i * PAIRS * PITCH), PITCH));
        let (a11, a12, a22) = ((x, pair), (x.wrapping_add(k), pair), (x.wrapping_add(b.x_pitch + k), pair));
        let [u2, u3, u5] = core::array::from_fn(|i| self.products.wrapping_add(i * PAIRS * HALF));
        let y_pitch = 2 * b.y_pitch;
        let even = b.y.wrapping_add(self.first * y_pitch + group * GROUP);
        let odd = even.wrapping_add(b.y_pitch);
        let bias = b.bias.wrapping_add(group * GROUP);
        let (plain, last) = (Pointwise { act: crate::params::Activation::None, ..self.params() }, self.params());
        let held = |y: *mut f32, residual: Option<*mut f32>, bias: *const f32| To {
            y,
            pitch: HALF,
            residual: residual.map(|r| (r.cast_const(), HALF)),
            bias,
            params: plain,
        };
        let out = |y: *mut f32, residual: *mut f32, bias: *const f32| To {
            y,
            pitch: y_pitch,
            residual: Some((residual.cast_const(), HALF)),
            bias,
            params: last,
        };
        let zeros = ZEROS.as_ptr();
        let right = bias.wrapping_add(HALF);
        let w = b.w.wrapping_add(group * 7 * k * HALF);
        let w = |i: usize| w.wrapping_add(i * k * HALF);
        self.product(s, a11, w(0), &held(u2, None, zeros));
        self.product(s, a12, w(1), &out(even, u2, bias));
        self.product(s, sums[1], w(2), &held(u2, Some(u2), zeros));
        self.product(s, sums[2], w(3), &held(u3, Some(u2), zeros));
        self.product(s, a22, w(4), &out(odd, u3, bias));
        self.product(s, sums[0], w(5), &held(u5, None, right));
        s.outline(Join { block: *self, u2, u3, u5, y: odd.wrapping_add(HALF) });
        self.product(s, sums[3], w(6), &out(even.wrapping_add(HALF), u2, zeros));
    }

    /// A product's sizes.
    #[inline(always)]
    fn params(&self) -> Pointwise {
        Pointwise { in_c: self.channels(), out_c: HALF, method: Method::Direct, ..*self.b.p }
    }

    #[inline(always)]
    fn product<S: Simd>(&self, s: S, (x, x_pitch): (*const f32, usize), w: *const f32, to: &To) {
        let band = Band {
            p: &to.params,
            pixels: self.pairs,
            columns: 0..HALF,
            x,
            x_pitch,
            w,
            bias: to.bias,
            residual: to.residual,
            y: to.y,
            y_pitch: to.pitch,
            later: Later::nothing(),
        };
        // SAFETY: the pairs are of the band, the channels of the layer; scratch memory has room for as many pairs, and what is read
        // of it was written before.
        s.outline(unsafe { super::pointwise::sum(band) });
    }
}

/// `s1` to `s4` of the block.
struct Inputs<'a>(Block<'a>);

impl Job for Inputs<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Block { b, first, pairs, inputs, .. } = self.0;
        let k = self.0.channels();
        for i in 0..pairs {
            let x = b.x.wrapping_add((first + i) * 2 * b.x_pitch);
            let mut c = 0;
            while c < k {
                let n = (k - c).min(S::LANES);
                // SAFETY: both pixels are of the band and have `2 * k` channels; the scratch memory has room for whole vectors of four
                // sums of as many pairs.
                unsafe {
                    let even = x.add(c);
                    let odd = even.add(b.x_pitch);
                    let (a11, a12) = (load_n(s, even, n), load_n(s, even.add(k), n));
                    let (a21, a22) = (load_n(s, odd, n), load_n(s, odd.add(k), n));
                    let s1 = s.add(a21, a22);
                    let s2 = s.sub(s1, a11);
                    let to = inputs.add(i * PITCH + c);
                    s.store(s1, to);
                    s.store(s2, to.add(PAIRS * PITCH));
                    s.store(s.sub(a11, a21), to.add(2 * PAIRS * PITCH));
                    s.store(s.sub(a12, s2), to.add(3 * PAIRS * PITCH));
                }
                c += S::LANES;
            }
        }
    }
}

/// The last quarter, `u3 + u5`, and `u2 += u5`.
struct Join<'a> {
    block: Block<'a>,
    u2: *mut f32,
    u3: *const f32,
    u5: *const f32,
    /// The first pair's first channel.
    y: *mut f32,
}

impl Job for Join<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { block, u2, u3, u5, y } = self;
        let (b, vectors) = (block.b, HALF / S::LANES);
        for i in 0..block.pairs {
            for v in 0..vectors {
                let at = i * HALF + v * S::LANES;
                // SAFETY: the scratch memory holds the sums of as many pairs; the output's channels are of the band.
                unsafe {
                    let m5 = s.load(u5.add(at));
                    s.store(s.add(s.load(u2.add(at)), m5), u2.add(at));
                    let mut sum = [[s.add(s.load(u3.add(at)), m5)]];
                    activate(s, b.p.act, &mut sum);
                    s.store(sum[0][0], y.add(i * 2 * b.y_pitch + v * S::LANES));
                }
            }
        }
    }
}
