//! MobileNet V4's universal inverted bottleneck: depthwise layers before and after the expansion, each where there is one.

use mnc_runtime::params::Activation;

use super::inverted::expansion;
use super::{Chain, Found, Glue};
use crate::front::ast::Body;

pub(super) fn at(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let first = chain.part(i)?;
    let input = chain.input(i)?;
    let start = (first.is_depthwise() && first.act == Activation::None).then_some(first);
    let expand = chain.part(if start.is_some() { chain.next(i)? } else { i })?;
    (expand.is_pointwise() && expand.act != Activation::None).then_some(())?;
    let behind = chain.part(chain.next(expand.layer)?)?;
    let mid = (behind.is_depthwise() && behind.act == expand.act).then_some(behind);
    let project = if mid.is_some() { chain.part(chain.next(behind.layer)?)? } else { behind };
    (project.is_pointwise() && project.act == Activation::None).then_some(())?;
    // An expansion that does not widen is some other net's; with a depthwise layer behind it is no universal block's mark.
    (start.is_some() || mid.is_none() || expand.out_c() != expand.input.c).then_some(())?;
    start.is_none_or(|s| mid.is_none() || s.stride == [1, 1]).then_some(())?;
    let stride = mid.or(start).map_or([1, 1], |p| p.stride);
    let (add, residual) = chain.residual(input, project.layer, stride);
    // Two pointwise layers alone are a block only with what is added.
    (start.is_some() || mid.is_some() || add.is_some()).then_some(())?;
    let named = [("dw_start", start), ("expand", Some(expand)), ("dw_mid", mid), ("project", Some(project))];
    let parts: Vec<_> = named.into_iter().filter_map(|(name, part)| Some((name, part?.layer))).collect();
    let convolutions: Vec<_> = named.into_iter().filter_map(|(_, part)| part).collect();
    let mut used: Vec<usize> = parts.iter().map(|p| p.1).collect();
    used.extend(add);
    let expansion = expansion(expand.input.c, expand.out_c());
    let (dw_start, dw_mid) = (start.map(|p| p.kernel), mid.map(|p| p.kernel));
    Some(Found {
        body: Body::Universal { out: project.out_c(), expand: expansion, dw_start, dw_mid, stride, residual },
        activation: expand.act,
        glue: Glue::of(&convolutions)?,
        parts,
        used,
        last: add.unwrap_or(project.layer),
        family: true,
    })
}

/// An inverted residual of a net that has universal blocks is one of them too.
pub(super) fn converted(found: Found) -> Found {
    let Body::InvertedResidual { out, expand, kernel, stride, se: None, residual } = found.body else { return found };
    let [("expand", expansion), ("depthwise", depthwise), ("project", project)] = found.parts[..] else { return found };
    Found {
        body: Body::Universal { out, expand, dw_start: None, dw_mid: Some(kernel), stride, residual },
        parts: vec![("expand", expansion), ("dw_mid", depthwise), ("project", project)],
        ..found
    }
}
