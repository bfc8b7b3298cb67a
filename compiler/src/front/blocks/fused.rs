//! The fused inverted bottleneck of EdgeTPU nets and MobileNet V4: one convolution expands and looks around, grouped or not.

use mnc_runtime::params::Activation;

use super::inverted::expansion;
use super::{Chain, Found, Glue};
use crate::front::ast::Body;
use crate::front::layer::LayerKind;

pub(super) fn at(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let expand = chain.part(i)?;
    let LayerKind::Conv { kernel, in_c, out_c: inner, groups } = expand.kind else { return None };
    // Others have such pairs that do not widen: bottlenecks of ResNets.
    (kernel != [1, 1] && inner > in_c && expand.act != Activation::None).then_some(())?;
    let project = chain.part(chain.next(i)?).filter(|p| p.is_pointwise() && p.act == Activation::None)?;
    let (add, residual) = chain.residual(chain.input(i)?, project.layer, expand.stride);
    let group_size = (groups != 1).then_some(inner / groups);
    let (out, stride) = (project.out_c(), expand.stride);
    let mut used = vec![expand.layer, project.layer];
    used.extend(add);
    Some(Found {
        body: Body::Fused { out, expand: expansion(in_c, inner), kernel, stride, group_size, residual },
        activation: expand.act,
        glue: Glue::of(&[expand, project])?,
        parts: vec![("expand", expand.layer), ("project", project.layer)],
        used,
        last: add.unwrap_or(project.layer),
        family: true,
    })
}
