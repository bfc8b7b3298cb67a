//! Element by element: sum of two tensors, channels times factors, an activation alone. Each also in place.

use core::marker::PhantomData;

use super::activation::{Act, HSigmoid, HSwish, Identity, Relu, Relu6, Sigmoid};
use super::{check_len, size};
use crate::isa::{Isa, Job, Simd};
use crate::pack::LANES;
use crate::params::Activation;

/// What is computed before the activation.
trait Binary {
    /// Whether there is a second operand.
    const USES_B: bool;
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V;
}

struct First;
struct Sum;
struct Product;

impl Binary for First {
    const USES_B: bool = false;
    #[inline(always)]
    fn apply<S: Simd>(_: S, a: S::V, _: S::V) -> S::V {
        a
    }
}

impl Binary for Sum {
    const USES_B: bool = true;
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.add(a, b)
    }
}

impl Binary for Product {
    const USES_B: bool = true;
    #[inline(always)]
    fn apply<S: Simd>(s: S, a: S::V, b: S::V) -> S::V {
        s.mul(a, b)
    }
}

/// `y = act(f(a, b))`
struct Map<'a, F> {
    f: PhantomData<F>,
    act: Activation,
    /// As long as `y`; `y` itself where absent.
    a: Option<&'a [f32]>,
    /// Repeats over `y`; empty where `F` does not use it.
    b: &'a [f32],
    y: &'a mut [f32],
}

impl<'a, F: Binary> Map<'a, F> {
    fn run(isa: Isa, act: Activation, a: Option<&'a [f32]>, b: &'a [f32], y: &'a mut [f32]) {
        isa.run(Self { f: PhantomData, act, a, b, y });
    }

    #[inline(always)]
    fn with<S: Simd, A: Act>(self, s: S) {
        let period = if F::USES_B { self.b.len() } else { self.y.len() }.max(1);
        for (i, y) in self.y.chunks_mut(period).enumerate() {
            let a = self.a.map(|a| &a[i * period..][..y.len()]);
            let b = if F::USES_B { &self.b[..y.len()] } else { &[] };
            let (vectors, rest) = y.as_chunks_mut::<LANES>();
            let done = vectors.len() * LANES;
            for (j, y) in vectors.iter_mut().enumerate() {
                let a = s.load(match a {
                    Some(a) => &a.as_chunks().0[j],
                    None => &*y,
                });
                let b = if F::USES_B { s.load(&b.as_chunks().0[j]) } else { a };
                s.store(A::apply(s, F::apply(s, a, b)), y);
            }
            if !rest.is_empty() {
                let a = s.load_part(match a {
                    Some(a) => &a[done..],
                    None => &*rest,
                });
                let b = if F::USES_B { s.load_part(&b[done..]) } else { a };
                s.store_part(A::apply(s, F::apply(s, a, b)), rest);
            }
        }
    }
}

impl<F: Binary> Job for Map<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.act {
            Activation::None => self.with::<S, Identity>(s),
            Activation::Relu => self.with::<S, Relu>(s),
            Activation::Relu6 => self.with::<S, Relu6>(s),
            Activation::HSwish => self.with::<S, HSwish>(s),
            Activation::HSigmoid => self.with::<S, HSigmoid>(s),
            Activation::Sigmoid => self.with::<S, Sigmoid>(s),
        }
    }
}

/// `y = act(a + b)`. Panics where the lengths differ.
pub fn add(isa: Isa, act: Activation, a: &[f32], b: &[f32], y: &mut [f32]) {
    check_len("add first operand", a.len(), y.len());
    check_len("add second operand", b.len(), y.len());
    Map::<Sum>::run(isa, act, Some(a), b, y);
}

/// `y = act(y + b)`. Panics where the lengths differ.
pub fn add_in_place(isa: Isa, act: Activation, b: &[f32], y: &mut [f32]) {
    check_len("add second operand", b.len(), y.len());
    Map::<Sum>::run(isa, act, None, b, y);
}

/// `y = act(x * s)`: `x` and `y` `[pixels, c]`, `s` `[c]`. Panics where a length is another.
pub fn scale(isa: Isa, act: Activation, pixels: usize, c: usize, x: &[f32], s: &[f32], y: &mut [f32]) {
    check_len("scale input", x.len(), size([pixels, c]));
    check_len("scale output", y.len(), x.len());
    check_len("scale factors", s.len(), c);
    Map::<Product>::run(isa, act, Some(x), s, y);
}

/// `y = act(y * s)`: `y` `[pixels, c]`, `s` `[c]`. Panics where a length is another.
pub fn scale_in_place(isa: Isa, act: Activation, pixels: usize, c: usize, s: &[f32], y: &mut [f32]) {
    check_len("scale output", y.len(), size([pixels, c]));
    check_len("scale factors", s.len(), c);
    Map::<Product>::run(isa, act, None, s, y);
}

/// `y = act(x)`. Panics where the lengths differ.
pub fn act(isa: Isa, act: Activation, x: &[f32], y: &mut [f32]) {
    check_len("act input", x.len(), y.len());
    Map::<First>::run(isa, act, Some(x), &[], y);
}

/// `y = act(y)`
pub fn act_in_place(isa: Isa, act: Activation, y: &mut [f32]) {
    Map::<First>::run(isa, act, None, &[], y);
}
