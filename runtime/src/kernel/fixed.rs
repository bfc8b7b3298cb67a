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
    if isa == Isa::scalar() {
        let p = const { S::PARAMS };
        return super::conv(isa, &p, 0..p.out_h, x, w, bias, pad_value, residual, y);
    }
    super::conv::run(isa, Const::<S>(PhantomData), x, w, bias, pad_value, residual, y);
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
    if isa == Isa::scalar() {
        let p = const { S::PARAMS };
        return super::depthwise(isa, &p, 0..p.out_h, x, w, bias, pad_value, y);
    }
    super::depthwise::run(isa, Const::<S>(PhantomData), x, w, bias, pad_value, y);
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
    if isa == Isa::scalar() {
        let p = const { S::PARAMS };
        return super::pointwise(isa, &p, 0..p.h, x, w, bias, scale, residual, y);
    }
    super::pointwise::run(isa, Const::<S>(PhantomData), x, w, bias, scale, residual, y);
}

/// [`crate::kernel::pool`] of all rows.
pub fn pool<S: Shape<Params = Pool>>(isa: Isa, x: &[f32], y: &mut [f32]) {
    if isa == Isa::scalar() {
        let p = const { S::PARAMS };
        return super::pool(isa, &p, 0..p.out_h, x, y);
    }
    super::pool::run(isa, Const::<S>(PhantomData), x, y);
}
