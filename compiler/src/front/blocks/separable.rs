//! MobileNet V1's block: depthwise, pointwise, both activated.

use mnc_runtime::params::Activation;

use super::{Chain, Found, Glue};
use crate::front::ast::Body;

pub(super) fn at(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let depthwise = chain.part(i).filter(|p| p.is_depthwise() && p.act != Activation::None)?;
    let pointwise = chain.part(chain.next(i)?).filter(|p| p.is_pointwise() && p.act == depthwise.act)?;
    Some(Found {
        body: Body::Separable { out: pointwise.out_c(), kernel: depthwise.kernel, stride: depthwise.stride },
        activation: depthwise.act,
        glue: Glue::of(&[depthwise, pointwise])?,
        parts: vec![("depthwise", depthwise.layer), ("pointwise", pointwise.layer)],
        used: vec![depthwise.layer, pointwise.layer],
        last: pointwise.layer,
        family: true,
    })
}
