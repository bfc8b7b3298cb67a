//! The blocks and layers of a spec in order, equal blocks in a row as repetitions.

use super::{Chain, Found, KINDS, universal};
use crate::front::ast::{Body, MAX_REPEAT, PadRule};
use crate::front::graph;

/// A `[[block]]` or a `[[layer]]`.
pub(super) enum Row {
    Block(Block),
    /// The layer at this position.
    Layer(usize),
}

/// A block with its repetitions.
pub(super) struct Block {
    pub(super) name: String,
    /// At least one; all but the first have stride 1.
    pub(super) found: Vec<Found>,
    /// Rules of padding that do for all of them.
    pub(super) rules: Vec<PadRule>,
}

/// The rows of a net of the family; `None` if it is none.
pub(super) fn rows(chain: &Chain<'_>) -> Option<Vec<Row>> {
    let mut done = vec![false; chain.layers.len()];
    let mut all: Vec<(usize, Option<Found>)> = Vec::new();
    for i in 0..chain.layers.len() {
        if done[i] {
            continue;
        }
        let mut best: Option<Found> = None;
        for found in KINDS.iter().filter_map(|kind| kind(chain, i)) {
            let longer = best.as_ref().is_none_or(|b| found.used.len() > b.used.len());
            if longer && found.used.iter().all(|&layer| !done[layer]) {
                best = Some(found);
            }
        }
        done[i] = true;
        for &layer in best.iter().flat_map(|b| &b.used) {
            done[layer] = true;
        }
        all.push((i, best));
    }
    let weighted = |i: usize| {
        use graph::Body as B;
        matches!(chain.layers[i].body, B::Conv { .. } | B::Depthwise { .. } | B::Dense { .. } | B::ConvTranspose { .. })
    };
    let family: usize = all.iter().filter_map(|(_, f)| f.as_ref()).filter(|f| f.family).map(|f| f.parts.len()).sum();
    let in_all = (0..chain.layers.len()).filter(|&i| weighted(i)).count();
    (family > 0 && 2 * family >= in_all).then_some(())?;
    let is_universal = |f: &Found| matches!(f.body, Body::Universal { .. });
    let has_universal = all.iter().filter_map(|(_, f)| f.as_ref()).any(is_universal);
    let mut rows: Vec<Row> = Vec::new();
    for (i, found) in all {
        let Some(found) = found else {
            rows.push(Row::Layer(i));
            continue;
        };
        let found = if has_universal { universal::converted(found) } else { found };
        match rows.last_mut() {
            Some(Row::Block(block)) if repeats(chain, block, &found) => {
                block.rules.retain(|rule| found.glue.rules.contains(rule));
                block.found.push(found);
            }
            _ => {
                let rules = found.glue.rules.clone();
                rows.push(Row::Block(Block { name: String::new(), found: vec![found], rules }));
            }
        }
    }
    name(&mut rows);
    Some(rows)
}

/// Whether `next` is `block` once more.
fn repeats(chain: &Chain<'_>, block: &Block, next: &Found) -> bool {
    let Some(before) = block.found.last() else { return false };
    let follows = chain.input(next.used[0]) == Some(chain.layers[before.last].name.as_str());
    // What stands within repetitions has no name that others could read it by.
    let alone = chain.readers(before.last).is_some_and(|all| all.iter().all(|reader| next.used.contains(reader)));
    let first = &block.found[0];
    let alike = first.activation == next.activation && (first.glue.norm, first.glue.bias) == (next.glue.norm, next.glue.bias);
    let padded = block.rules.iter().any(|rule| next.glue.rules.contains(rule));
    let sizes = stepped(&first.body, [1, 1]).is_some_and(|once| once == next.body);
    follows && alone && alike && padded && sizes && block.found.len() < MAX_REPEAT
}

/// `body` with another stride; `None` for what cannot be repeated.
fn stepped(body: &Body, stride: [usize; 2]) -> Option<Body> {
    let mut body = body.clone();
    match &mut body {
        Body::Conv { stride: s, .. }
        | Body::Depthwise { stride: s, .. }
        | Body::Separable { stride: s, .. }
        | Body::InvertedResidual { stride: s, .. }
        | Body::Universal { stride: s, .. }
        | Body::Fused { stride: s, .. } => *s = stride,
        Body::SqueezeExcite(_)
        | Body::Pool { .. }
        | Body::GlobalAvgPool
        | Body::Dense { .. }
        | Body::Softmax
        | Body::Dropout
        | Body::Residual { .. } => return None,
    }
    Some(body)
}

/// Gives the blocks names, so that their tensors keep theirs when one of them is taken out.
fn name(rows: &mut [Row]) {
    let has_weights =
        |row: &&mut Row| matches!(row, Row::Block(b) if !b.found[0].parts.is_empty()) || matches!(row, Row::Layer(_));
    let last = rows.iter_mut().rfind(has_weights).and_then(|row| match row {
        Row::Block(block) => Some(block),
        Row::Layer(_) => None,
    });
    if let Some(block) = last
        && matches!(block.found[0].body, Body::Dense { .. } | Body::Conv { kernel: [1, 1], .. })
    {
        block.name = "classifier".into();
    }
    if let Some(Row::Block(block)) = rows.first_mut()
        && matches!(block.found[0].body, Body::Conv { .. })
        && block.name.is_empty()
    {
        block.name = "stem".into();
    }
    for (i, row) in rows.iter_mut().enumerate() {
        if let Row::Block(block) = row
            && block.name.is_empty()
        {
            block.name = format!("block{i}");
        }
    }
}
