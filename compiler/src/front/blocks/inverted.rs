//! The inverted residual of MobileNet V2, and V3's with squeeze-and-excite.

use mnc_runtime::params::Activation;

use super::{Chain, Found, Glue, squeeze};
use crate::front::ast::{Body, Expand};

/// An inner width as a spec says it: a whole multiple where it is one.
pub(super) fn expansion(in_c: usize, inner: usize) -> Expand {
    match inner.checked_div(in_c) {
        Some(ratio @ 1..=256) if inner.is_multiple_of(in_c) => Expand::Ratio(ratio as f64),
        _ => Expand::Channels(inner),
    }
}

pub(super) fn at(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let first = chain.part(i)?;
    let input = chain.input(i)?;
    let expand = first.is_pointwise().then_some(first);
    let depthwise = chain.part(if expand.is_some() { chain.next(i)? } else { i }).filter(|p| p.is_depthwise())?;
    let inner = depthwise.input.c;
    // A spec leaves out an expansion that does not widen.
    (expand.is_none() || inner != first.input.c).then_some(())?;
    let mut parts: Vec<_> = expand.iter().map(|p| ("expand", p.layer)).collect();
    parts.push(("depthwise", depthwise.layer));
    let mut used: Vec<usize> = parts.iter().map(|p| p.1).collect();
    let (mut act, mut se, mut last) = (depthwise.act, None, depthwise.layer);
    if let Some(mut squeezed) = squeeze::behind(chain, last) {
        let behind = chain.layers[squeezed.scale].activation;
        squeezed.body.before_activation = behind != Activation::None;
        if squeezed.body.before_activation {
            (act == Activation::None).then_some(())?;
            act = behind;
        }
        parts.extend(squeezed.parts());
        used.extend(squeezed.layers());
        last = squeezed.scale;
        se = Some(squeezed.body);
    }
    (act != Activation::None && expand.is_none_or(|p| p.act == act)).then_some(())?;
    let project = chain.part(chain.next(last)?).filter(|p| p.is_pointwise() && p.act == Activation::None)?;
    parts.push(("project", project.layer));
    used.push(project.layer);
    let (add, residual) = chain.residual(input, project.layer, depthwise.stride);
    used.extend(add);
    let convolutions: Vec<_> = expand.into_iter().chain([depthwise, project]).collect();
    let (out, kernel, stride) = (project.out_c(), depthwise.kernel, depthwise.stride);
    Some(Found {
        body: Body::InvertedResidual { out, expand: expansion(first.input.c, inner), kernel, stride, se, residual },
        activation: act,
        glue: Glue::of(&convolutions)?,
        parts,
        used,
        last: add.unwrap_or(project.layer),
        family: true,
    })
}
