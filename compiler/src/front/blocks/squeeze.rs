//! Squeeze-and-excite, in a block or alone.

use mnc_runtime::params::Activation;

use super::{Chain, Found, Glue};
use crate::front::ast::{Body, Squeeze, SqueezeExcite, Widths};
use crate::front::graph;

/// The layers of one.
pub(super) struct Squeezed {
    /// What it is; its position is not known here.
    pub(super) body: SqueezeExcite,
    /// The mean, then the two dense layers.
    pub(super) inner: [usize; 3],
    /// The product.
    pub(super) scale: usize,
}

impl Squeezed {
    /// The layers with weights, by their names in a block.
    pub(super) fn parts(&self) -> [(&'static str, usize); 2] {
        [("se.reduce", self.inner[1]), ("se.expand", self.inner[2])]
    }

    /// All layers.
    pub(super) fn layers(&self) -> [usize; 4] {
        let [pool, reduce, expand] = self.inner;
        [pool, reduce, expand, self.scale]
    }
}

/// The one whose mean is layer `pool`.
fn of(chain: &Chain<'_>, pool: usize) -> Option<Squeezed> {
    let plain = |i: usize| chain.layers[i].activation == Activation::None;
    let averages = match chain.layers[pool].body {
        graph::Body::GlobalAvgPool | graph::Body::Mean([true, true, false]) => plain(pool),
        _ => false,
    };
    let input = chain.input(pool).filter(|_| averages)?;
    let reduce = chain.part(chain.next(pool)?)?;
    let expand = chain.part(chain.next(reduce.layer)?)?;
    let dense = |p: &super::chain::Part| p.is_pointwise() || matches!(p.kind, crate::front::layer::LayerKind::Dense { .. });
    (dense(&reduce) && dense(&expand)).then_some(())?;
    Glue::of(&[reduce, expand])?.norm.is_none().then_some(())?;
    let gates = matches!(expand.act, Activation::HSigmoid | Activation::Sigmoid | Activation::HardSigmoid(..));
    let &[scale] = chain.readers(expand.layer)? else { return None };
    let layer = &chain.layers[scale];
    let factors = matches!(&layer.inputs[..], [(x, _), (s, _)] if x == input && *s == chain.layers[expand.layer].name);
    (gates && factors && layer.body == graph::Body::Scale).then_some(())?;
    let eight = Widths { round_to: 8, min: 8 };
    let usual = eight.round(chain.shape(input).c as f64 * 0.25) == reduce.out_c();
    let squeeze = if usual { Squeeze::Ratio(0.25, eight) } else { Squeeze::Channels(reduce.out_c()) };
    let body = SqueezeExcite { squeeze, activation: reduce.act, gate: expand.act, before_activation: false };
    Some(Squeezed { body, inner: [pool, reduce.layer, expand.layer], scale })
}

/// The one that layer `i`, which nothing else reads, goes through.
pub(super) fn behind(chain: &Chain<'_>, i: usize) -> Option<Squeezed> {
    let &[a, b] = chain.readers(i)? else { return None };
    let squeezed = of(chain, a).or_else(|| of(chain, b))?;
    [a, b].contains(&squeezed.scale).then_some(squeezed)
}

/// A block of its own that begins with layer `i`.
pub(super) fn alone(chain: &Chain<'_>, i: usize) -> Option<Found> {
    let squeezed = of(chain, i)?;
    (chain.layers[squeezed.scale].activation == Activation::None).then_some(())?;
    Some(Found {
        body: Body::SqueezeExcite(squeezed.body),
        activation: Activation::None,
        glue: Glue::none(),
        parts: squeezed.parts().to_vec(),
        used: squeezed.layers().to_vec(),
        last: squeezed.scale,
        family: false,
    })
}
