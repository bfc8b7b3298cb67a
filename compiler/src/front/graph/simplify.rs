//! What exporters write in pieces, put together again: hard swish and the like, and bounds one behind the other; nodes that nothing
//! reads go.

use mnc_runtime::params::{Activation, BinaryKind, Real};

use crate::ir::op::{BatchNorm, Binary};
use crate::ir::{Graph, NodeId, Op};

/// Rewrites `graph` until nothing changes.
pub(in crate::front) fn simplify(graph: &mut Graph) {
    loop {
        let mut changed = false;
        for id in graph.topo() {
            if let Some((op, x)) = rewritten(graph, id) {
                // An activation fits wherever the chain that it stands for did.
                changed |= graph.replace(id, op, &[x]).is_ok();
            }
        }
        drop_unread(graph);
        if !changed {
            return;
        }
    }
}

/// Removes what no output needs, but for inputs.
fn drop_unread(graph: &mut Graph) {
    for id in graph.topo().into_iter().rev() {
        let kept = graph.outputs.contains(&id) || matches!(graph.op(id), Op::Input);
        if !kept && graph.users(id).is_empty() {
            graph.remove(id);
        }
    }
}

/// A shorter way to compute `id`.
fn rewritten(graph: &Graph, id: NodeId) -> Option<(Op, NodeId)> {
    match graph.op(id) {
        Op::BatchNorm(norm) => {
            let (scale, shift) = scalar(graph, norm)?;
            let x = only_input(graph, id)?;
            if shift != 0.0 {
                return None;
            }
            // relu6(x + 3) / 6, and with other numbers; the sum may be in a bias before
            if let Op::Act(act) = graph.op(x) {
                let (least, most) = bounds(*act)?;
                (least == 0.0 && is_one(most * scale)).then_some(())?;
                let y = only_input(graph, x);
                let sum = y.and_then(|y| if let Op::BatchNorm(norm) = graph.op(y) { scalar(graph, norm) } else { None });
                let Some((y, (alpha, beta))) = y.zip(sum) else {
                    let act = Activation::HardSigmoid(Real::new(scale), Real::new(0.0));
                    return Some((Op::Act(act), graph.inputs_of(x)[0]));
                };
                let act = if is_sixth(alpha * scale) && is_half(beta * scale) {
                    Activation::HSigmoid
                } else {
                    Activation::HardSigmoid(Real::new(alpha * scale), Real::new(beta * scale))
                };
                return Some((Op::Act(act), graph.inputs_of(y)[0]));
            }
            // x * relu6(x + 3) / 6
            let (a, b) = factors(graph, x).filter(|_| is_sixth(scale))?;
            let pairs = [(a, b), (b, a)];
            let (x, _) = pairs.into_iter().find(|&(x, gate)| shifted_relu6(graph, gate) == Some(x))?;
            Some((Op::Act(Activation::HSwish), x))
        }
        // x * sigmoid(x), x * hsigmoid(x)
        Op::Scale(Activation::None) | Op::Binary(_) => {
            let (a, b) = factors(graph, id)?;
            [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
                let Op::Act(act) = graph.op(gate) else { return None };
                (graph.inputs_of(gate)[0] == x).then_some(())?;
                let act = match act {
                    Activation::Sigmoid => Activation::Silu,
                    Activation::HSigmoid => Activation::HSwish,
                    Activation::HardSigmoid(alpha, beta) if is_sixth(alpha.get()) && is_half(beta.get()) => Activation::HSwish,
                    _ => return None,
                };
                Some((Op::Act(act), x))
            })
        }
        // bounds of bounds
        Op::Act(act) => {
            let (least, most) = bounds(*act)?;
            let x = only_input(graph, id)?;
            let Op::Act(inner) = graph.op(x) else { return None };
            let inner = bounds(*inner)?;
            let bound = |v: f32| v.max(least).min(most);
            Some((Op::Act(clip(bound(inner.0), bound(inner.1))), graph.inputs_of(x)[0]))
        }
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Conv(_)
        | Op::Depthwise(_)
        | Op::ConvTranspose(_)
        | Op::Add(_)
        | Op::Scale(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Dense(_)
        | Op::Softmax
        | Op::PRelu(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. } => None,
    }
}

/// The input of `id`, if nothing else reads that.
fn only_input(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let x = graph.inputs_of(id)[0];
    (graph.single_user(x) == Some(id)).then_some(x)
}

/// Both factors of a plain product of tensors of one shape.
fn factors(graph: &Graph, id: NodeId) -> Option<(NodeId, NodeId)> {
    let scale = *graph.op(id) == Op::Scale(Activation::None);
    let product = scale || *graph.op(id) == Op::Binary(Binary { kind: BinaryKind::Mul, act: Activation::None });
    let inputs = graph.inputs_of(id);
    (product && graph.shape(inputs[0]) == graph.shape(inputs[1])).then(|| (inputs[0], inputs[1]))
}

/// `x` of `relu6(x + 3)`.
fn shifted_relu6(graph: &Graph, id: NodeId) -> Option<NodeId> {
    let Op::Act(act) = graph.op(id) else { return None };
    (bounds(*act)? == (0.0, 6.0)).then_some(())?;
    let sum = graph.inputs_of(id)[0];
    let Op::BatchNorm(norm) = graph.op(sum) else { return None };
    (scalar(graph, norm)? == (1.0, 3.0)).then(|| graph.inputs_of(sum)[0])
}

/// `(scale, shift)` where the map is the same for all channels and made of these two alone.
fn scalar(graph: &Graph, norm: &BatchNorm) -> Option<(f32, f32)> {
    let all = |id, value: f32| graph.consts.get(id).iter().all(|&v| v == value);
    let scale = *graph.consts.get(norm.gamma).first()?;
    let shift = *graph.consts.get(norm.beta).first()?;
    let plain = norm.eps == 0.0 && all(norm.mean, 0.0) && all(norm.variance, 1.0);
    (plain && all(norm.gamma, scale) && all(norm.beta, shift)).then_some((scale, shift))
}

/// The bounds that are all there is to an activation.
fn bounds(act: Activation) -> Option<(f32, f32)> {
    match act {
        Activation::Relu => Some((0.0, f32::INFINITY)),
        Activation::Relu6 => Some((0.0, 6.0)),
        Activation::Clip(least, most) => Some((least.get(), most.get())),
        Activation::None
        | Activation::HSwish
        | Activation::HSigmoid
        | Activation::Sigmoid
        | Activation::Tanh
        | Activation::Silu
        | Activation::LeakyRelu(_)
        | Activation::HardSigmoid(..) => None,
    }
}

/// Bounds as the activation that says them shortest.
pub(in crate::front) fn clip(least: f32, most: f32) -> Activation {
    // The largest float is how some exporters write infinity.
    let least = if least == f32::MIN { f32::NEG_INFINITY } else { least };
    let most = if most == f32::MAX { f32::INFINITY } else { most };
    match (least, most) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
        (0.0, 6.0) => Activation::Relu6,
        (0.0, f32::INFINITY) => Activation::Relu,
        _ => Activation::Clip(Real::new(least), Real::new(most)),
    }
}

/// Whether `x` is a sixth up to rounding of the last bits.
pub(in crate::front) fn is_sixth(x: f32) -> bool {
    (x - 1.0 / 6.0).abs() <= 3e-8
}

fn is_half(x: f32) -> bool {
    (x - 0.5).abs() <= 1e-7
}

fn is_one(x: f32) -> bool {
    (x - 1.0).abs() <= 2e-7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Shape;

    fn affine(graph: &mut Graph, x: NodeId, scale: f32, shift: f32) -> NodeId {
        let [gamma, beta, mean, variance] = [scale, shift, 0.0, 1.0].map(|v| graph.consts.add(vec![v; 4]));
        let name = format!("affine{}", graph.len());
        graph.add(name, Op::BatchNorm(BatchNorm { gamma, beta, mean, variance, eps: 0.0 }), &[x]).unwrap()
    }

    fn act(graph: &mut Graph, x: NodeId, act: Activation) -> NodeId {
        let name = format!("act{}", graph.len());
        graph.add(name, Op::Act(act), &[x]).unwrap()
    }

    fn times(graph: &mut Graph, a: NodeId, b: NodeId) -> NodeId {
        let name = format!("times{}", graph.len());
        graph.add(name, Op::Binary(Binary { kind: BinaryKind::Mul, act: Activation::None }), &[a, b]).unwrap()
    }

    /// What is left of a graph of one input.
    fn left(make: impl Fn(&mut Graph, NodeId) -> NodeId) -> Vec<Op> {
        let mut graph = Graph::default();
        let x = graph.add_input("x", Shape::hwc(2, 2, 4));
        let y = make(&mut graph, x);
        graph.outputs.push(y);
        let before = crate::ir::eval::eval(
            &graph,
            &[&[-4.0, -3.0, -2.5, -1.0, 0.0, 0.5, 1.0, 2.0, 2.9, 3.0, 3.1, 4.0, 5.0, 6.0, 7.0, 9.0]],
        );
        simplify(&mut graph);
        let after = crate::ir::eval::eval(
            &graph,
            &[&[-4.0, -3.0, -2.5, -1.0, 0.0, 0.5, 1.0, 2.0, 2.9, 3.0, 3.1, 4.0, 5.0, 6.0, 7.0, 9.0]],
        );
        assert!(before[0].iter().zip(&after[0]).all(|(a, b)| (a - b).abs() < 2e-6), "{before:?} {after:?}");
        graph.topo().into_iter().skip(1).map(|id| graph.op(id).clone()).collect()
    }

    #[test]
    fn pieces_become_activations() {
        let relu6 = Activation::Clip(Real::new(0.0), Real::new(6.0));
        let hsigmoid = |g: &mut Graph, x| {
            let y = affine(g, x, 1.0, 3.0);
            let y = act(g, y, relu6);
            affine(g, y, 1.0 / 6.0, 0.0)
        };
        assert_eq!(left(hsigmoid), [Op::Act(Activation::HSigmoid)]);
        let hswish = |g: &mut Graph, x| {
            let gate = hsigmoid(g, x);
            times(g, gate, x)
        };
        assert_eq!(left(hswish), [Op::Act(Activation::HSwish)]);
        let late = |g: &mut Graph, x| {
            let y = affine(g, x, 1.0, 3.0);
            let y = act(g, y, Activation::Relu6);
            let y = times(g, x, y);
            affine(g, y, 1.0 / 6.0, 0.0)
        };
        assert_eq!(left(late), [Op::Act(Activation::HSwish)]);
        let silu = |g: &mut Graph, x| {
            let gate = act(g, x, Activation::Sigmoid);
            times(g, x, gate)
        };
        assert_eq!(left(silu), [Op::Act(Activation::Silu)]);
        let bounded = |g: &mut Graph, x| {
            let y = act(g, x, Activation::Relu);
            act(g, y, Activation::Clip(Real::new(f32::NEG_INFINITY), Real::new(6.0)))
        };
        assert_eq!(left(bounded), [Op::Act(Activation::Relu6)]);
        let hard = |g: &mut Graph, x| {
            let y = affine(g, x, 0.5, 1.0);
            let y = act(g, y, Activation::Clip(Real::new(0.0), Real::new(4.0)));
            affine(g, y, 0.25, 0.0)
        };
        assert_eq!(left(hard), [Op::Act(Activation::HardSigmoid(Real::new(0.125), Real::new(0.25)))]);
        // The sum is in the bias before.
        let folded = |g: &mut Graph, x| {
            let y = act(g, x, Activation::Relu6);
            affine(g, y, 1.0 / 6.0, 0.0)
        };
        assert_eq!(left(folded), [Op::Act(Activation::HardSigmoid(Real::new(1.0 / 6.0), Real::new(0.0)))]);
    }

    /// Pieces that are read elsewhere too, or have other numbers, stay.
    #[test]
    fn what_is_not_the_pattern_stays() {
        let other = |g: &mut Graph, x| {
            let y = affine(g, x, 1.0, 2.0);
            let y = act(g, y, Activation::Relu6);
            let y = times(g, x, y);
            affine(g, y, 1.0 / 6.0, 0.0)
        };
        assert_eq!(left(other).len(), 4);
        let strange = |g: &mut Graph, x| {
            let gate = act(g, x, Activation::Sigmoid);
            let more = affine(g, x, 2.0, 0.0);
            times(g, more, gate)
        };
        assert_eq!(left(strange).len(), 3);
    }
}
