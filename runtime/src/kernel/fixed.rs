//! Entries whose parameters are constants, for code that was generated for one network.
//!
//! The same bodies as the entries of [`crate::kernel`], to the bit; constants reach the inner loops, so loop counts and strides
//! are immediate operands and branches on them vanish. All rows are computed. Like every generic function these are compiled in
//! the crate that calls them, with its optimisation level. On [`Isa::scalar`] they call the entries of [`crate::kernel`]: what
//! constants gain there is not worth compiling a second copy of everything.
//!
//! ```
//! use mnc_runtime::{isa::Isa, kernel::{Residual, fixed}, params};
//!
//! struct Head;
//! impl fixed::Shape for Head {
//!     type Params = params::Pointwise;
//!     const PARAMS: params::Pointwise =
//!         params::Pointwise { h: 1, w: 1, in_c: 2, out_c: 1, act: params::Activation::Relu, pool: false };
//! }
//! let mut weights = [0.0; 32];
//! mnc_runtime::pack::panels(2, 1, &[3.0, 4.0], &mut weights);
//! let mut y = [0.0];
//! fixed::pointwise::<Head>(Isa::detect(), &[1.0, 10.0], &weights, &[0.5; 16], None, Residual::None, &mut y);
//! assert_eq!(y, [43.5]);
//! ```

use core::marker::PhantomData;
use core::ops::Range;

use super::{Residual, Source};
use crate::isa::Isa;
use crate::params::{Conv, Depthwise, Pointwise, Pool};

/// The parameters of one kernel call as a type.
pub trait Shape {
    /// [`Conv`], [`Depthwise`], [`Pointwise`] or [`Pool`].
    type Params;
    /// Their values.
    const PARAMS: Self::Params;
    /// Whether [`pointwise`] may be given a scale; `false` spares the compiler half of its code.
    const SCALED: bool = true;
    /// Whether the kernel is compiled with the values as constants, in the crate that calls it. Otherwise the call goes to the
    /// entry of [`crate::kernel`], which is compiled here: a program that is itself not optimised runs and builds faster so.
    const FOLDED: bool = true;
}

/// Parameters from a [`Shape`].
struct Const<S>(PhantomData<S>);

impl<S> Clone for Const<S> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Const<S> {}

/// A kernel whose output rows are a field.
macro_rules! source {
    ($params:ty, $rows:ident) => {
        impl<S: Shape<Params = $params>> Source<$params> for Const<S> {
            const FIXED: Option<$params> = Some(S::PARAMS);
            const SCALED: bool = S::SCALED;

            #[inline(always)]
            fn params(self) -> $params {
                const { S::PARAMS }
            }
            #[inline(always)]
            fn rows(self) -> Range<usize> {
                0..const { S::PARAMS.$rows }
            }
        }
    };
}
source!(Conv, out_h);
source!(Depthwise, out_h);
source!(Pointwise, h);
source!(Pool, out_h);

/// [`crate::kernel::conv`] of all rows.
pub fn conv<S: Shape<Params = Conv>>(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    if S::FOLDED && isa != Isa::scalar() {
        super::conv::run(isa, Const::<S>(PhantomData), x, w, bias, pad_value, residual, y);
    } else {
        let p = const { S::PARAMS };
        super::conv(isa, &p, 0..p.out_h, x, w, bias, pad_value, residual, y);
    }
}

/// [`crate::kernel::depthwise`] of all rows.
pub fn depthwise<S: Shape<Params = Depthwise>>(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    pad_value: Option<&[f32]>,
    y: &mut [f32],
) {
    if S::FOLDED && isa != Isa::scalar() {
        super::depthwise::run(isa, Const::<S>(PhantomData), x, w, bias, pad_value, y);
    } else {
        let p = const { S::PARAMS };
        super::depthwise(isa, &p, 0..p.out_h, x, w, bias, pad_value, y);
    }
}

/// [`crate::kernel::pointwise`] of all rows.
pub fn pointwise<S: Shape<Params = Pointwise>>(
    isa: Isa,
    x: &[f32],
    w: &[f32],
    bias: &[f32],
    scale: Option<&[f32]>,
    residual: Residual<'_>,
    y: &mut [f32],
) {
    if S::FOLDED && isa != Isa::scalar() {
        super::pointwise::run(isa, Const::<S>(PhantomData), x, w, bias, scale, residual, y);
    } else {
        let p = const { S::PARAMS };
        super::pointwise(isa, &p, 0..p.h, x, w, bias, scale, residual, y);
    }
}

/// [`crate::kernel::pool`] of all rows.
pub fn pool<S: Shape<Params = Pool>>(isa: Isa, x: &[f32], y: &mut [f32]) {
    if S::FOLDED && isa != Isa::scalar() {
        super::pool::run(isa, Const::<S>(PhantomData), x, y);
    } else {
        let p = const { S::PARAMS };
        super::pool(isa, &p, 0..p.out_h, x, y);
    }
}

/// Declares a type that stands for one set of parameters: `shape! { Head: Pointwise { h: 1, w: 1, … } }`, or
/// `Head: scaled Pointwise { … }` where a scale may be given. They are folded into the kernel where the crate that says this
/// has no debug assertions.
#[macro_export]
macro_rules! shape {
    ($name:ident: scaled $params:ident $fields:tt) => {
        $crate::shape! { @ $name, $params, $fields, true }
    };
    ($name:ident: $params:ident $fields:tt) => {
        $crate::shape! { @ $name, $params, $fields, false }
    };
    (@ $name:ident, $params:ident, $fields:tt, $scaled:literal) => {
        struct $name;
        impl $crate::kernel::fixed::Shape for $name {
            type Params = $crate::params::$params;
            const PARAMS: Self::Params = $crate::params::$params $fields;
            const SCALED: bool = $scaled;
            const FOLDED: bool = !cfg!(debug_assertions);
        }
    };
}
