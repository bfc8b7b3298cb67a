//! Blocks of one layer: convolutions, dense layers, pools, softmax.

use mnc_runtime::params::Activation;

use super::{Chain, Found, Glue, rules};
use crate::front::ast;
use crate::front::graph::{Around, Body};
use crate::front::layer::LayerKind;

pub(super) fn at(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let layer = &chain.layers[i];
    let input = chain.shape(chain.input(i)?);
    let found = |body: ast::Body, glue: Glue, part: Option<&'static str>| Found {
        body,
        activation: layer.activation,
        glue,
        parts: part.map(|part| (part, i)).into_iter().collect(),
        used: vec![i],
        last: i,
        family: false,
    };
    if let Some(part) = chain.part(i) {
        let (kernel, stride) = (part.kernel, part.stride);
        return Some(match part.kind {
            LayerKind::Conv { out_c: out, groups, .. } => {
                found(ast::Body::Conv { out, kernel, stride, groups }, Glue::of(&[part])?, Some("conv"))
            }
            LayerKind::Depthwise { multiplier, .. } => {
                found(ast::Body::Depthwise { kernel, stride, multiplier }, Glue::of(&[part])?, Some("depthwise"))
            }
            LayerKind::Dense { out_c: out, .. } => {
                layer.batch_norm.is_none().then_some(())?;
                found(ast::Body::Dense { out }, Glue { bias: part.bias, ..Glue::none() }, Some("dense"))
            }
        });
    }
    (layer.activation == Activation::None).then_some(())?;
    match &layer.body {
        Body::Pool { kind, window, count_padding } => {
            let Around::Sides(pad) = window.padding else { return None };
            (pad.is_zero() || !count_padding).then_some(())?;
            let mut rules = rules(std::iter::once(pad.top));
            rules.retain(|rule| rule.resolve(input.h, input.w, window.kernel, window.stride) == pad);
            (!rules.is_empty()).then_some(())?;
            let (kind, kernel, stride) = (*kind, window.kernel, window.stride);
            Some(found(ast::Body::Pool { kind, kernel, stride }, Glue { rules, ..Glue::none() }, None))
        }
        Body::GlobalAvgPool => Some(found(ast::Body::GlobalAvgPool, Glue::none(), None)),
        Body::Softmax => Some(found(ast::Body::Softmax, Glue::none(), None)),
        Body::Conv { .. }
        | Body::Depthwise { .. }
        | Body::Dense { .. }
        | Body::ConvTranspose { .. }
        | Body::BatchNorm(_)
        | Body::PRelu { .. }
        | Body::Activation
        | Body::Binary(_)
        | Body::Scale
        | Body::Concat(_)
        | Body::Gather { .. }
        | Body::Interpolate(_)
        | Body::Reshape(_)
        | Body::Transpose(_)
        | Body::Mean(_)
        | Body::Pad { .. }
        | Body::Constant { .. } => None,
    }
}
