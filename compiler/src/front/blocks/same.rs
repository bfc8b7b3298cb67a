//! Whether two graphs compute the same, by their structure: names do not count, nor whether a dense layer is written as a convolution
//! of one pixel, nor a bias of zeros, nor the order of a sum of two.
//!
//! Every node gets a number such that equal numbers mean equal values: that of its op, its constants and its inputs' numbers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use mnc_runtime::params::Activation;

use crate::ir::op::Dense;
use crate::ir::{ConstId, Consts, Graph, NodeId, Op, Shape};

/// Whether `a` and `b` have the same inputs and give the same outputs under the same names.
pub(super) fn same(a: &Graph, b: &Graph) -> bool {
    let ends =
        |g: &Graph| -> Vec<(String, Shape)> { g.inputs.iter().map(|&id| (g.node(id).name.clone(), g.shape(id))).collect() };
    let names = |g: &Graph| -> Vec<String> {
        let name = |(i, &id): (usize, &NodeId)| g.output_names.get(i).cloned().unwrap_or_else(|| g.node(id).name.clone());
        g.outputs.iter().enumerate().map(name).collect()
    };
    let mut numbers = Numbers::default();
    ends(a) == ends(b) && names(a) == names(b) && numbers.outputs(a) == numbers.outputs(b)
}

/// The elements of a constant, and its name.
type Known<'g> = (Cow<'g, [f32]>, ConstId);

#[derive(Default)]
struct Numbers<'g> {
    /// By an op with constants of `consts`, the shape it gives, and the numbers of its inputs.
    nodes: HashMap<(String, Shape, Vec<usize>), usize>,
    /// Names of all that is known; their elements stay in the graphs.
    consts: Consts,
    /// By a hash of the elements' bits.
    known: HashMap<u64, Vec<Known<'g>>>,
}

impl<'g> Numbers<'g> {
    /// The numbers of the outputs of `graph`.
    fn outputs(&mut self, graph: &'g Graph) -> Vec<usize> {
        let mut numbers: HashMap<NodeId, usize> = HashMap::new();
        for id in graph.topo() {
            let mut inputs: Vec<usize> = graph.inputs_of(id).iter().map(|x| numbers[x]).collect();
            if let Op::Input = graph.op(id) {
                inputs.extend(graph.inputs.iter().position(|&i| i == id));
            }
            let op = self.normal(graph, id);
            if let Op::Add(_) = op {
                inputs.sort_unstable();
            }
            let next = self.nodes.len();
            let number = *self.nodes.entry((format!("{op:?}"), graph.shape(id), inputs)).or_insert(next);
            numbers.insert(id, number);
        }
        graph.outputs.iter().map(|id| numbers[id]).collect()
    }

    fn data(&mut self, elements: Cow<'g, [f32]>) -> ConstId {
        let mut hasher = DefaultHasher::new();
        elements.iter().for_each(|x| x.to_bits().hash(&mut hasher));
        let alike = self.known.entry(hasher.finish()).or_default();
        let same = |known: &[f32]| {
            known.len() == elements.len() && known.iter().zip(&*elements).all(|(a, b)| a.to_bits() == b.to_bits())
        };
        if let Some((_, id)) = alike.iter().find(|(known, _)| same(known)) {
            return *id;
        }
        let id = self.consts.add(Vec::new());
        alike.push((elements, id));
        id
    }

    /// The op of `id`, its constants those of `self`.
    fn normal(&mut self, graph: &'g Graph, id: NodeId) -> Op {
        let mut own = |id: ConstId| self.data(graph.consts.get(id).into());
        let mut op = graph.op(id).clone();
        let width = graph.shape(id).c;
        match &mut op {
            Op::Conv(c) => {
                c.weight = own(c.weight);
                c.pad_value = c.pad_value.map(&mut own);
                c.bias = Some(self.bias_or_zeros(graph, c.bias, width));
                let input = graph.input_shapes(id)[0];
                let alone = (input.h, input.w) == (1, 1) && c.kernel == [1, 1] && c.groups == 1 && c.pad.is_zero();
                if alone && c.stride == [1, 1] && !c.residual && !c.pool && c.pad_value.is_none() && c.act == Activation::None {
                    return Op::Dense(Dense { in_c: c.in_c, out_c: c.out_c, weight: c.weight, bias: c.bias, act: c.act });
                }
            }
            Op::Depthwise(d) => {
                d.weight = own(d.weight);
                d.pad_value = d.pad_value.map(&mut own);
                d.bias = Some(self.bias_or_zeros(graph, d.bias, width));
            }
            Op::Dense(d) => {
                d.weight = own(d.weight);
                d.bias = Some(self.bias_or_zeros(graph, d.bias, width));
            }
            Op::ConvTranspose(c) => {
                c.weight = own(c.weight);
                c.bias = c.bias.map(own);
            }
            Op::BatchNorm(b) => {
                for tensor in [&mut b.gamma, &mut b.beta, &mut b.mean, &mut b.variance] {
                    *tensor = own(*tensor);
                }
            }
            Op::Normalize(n) => {
                n.scale = own(n.scale);
                n.shift = own(n.shift);
            }
            Op::Pad(p) => p.value = p.value.map(own),
            Op::PRelu(tensor) | Op::Constant(tensor) => *tensor = own(*tensor),
            Op::Input
            | Op::Act(_)
            | Op::Add(_)
            | Op::Scale(_)
            | Op::Pool(_)
            | Op::GlobalPool
            | Op::Softmax
            | Op::Binary(_)
            | Op::Concat(_)
            | Op::Gather(_)
            | Op::Reshape(_)
            | Op::Transpose(_)
            | Op::Mean { .. }
            | Op::Interpolate { .. } => {}
        }
        op
    }

    fn bias_or_zeros(&mut self, graph: &'g Graph, bias: Option<ConstId>, width: usize) -> ConstId {
        match bias {
            Some(bias) => self.data(graph.consts.get(bias).into()),
            None => self.data(vec![0.0; width].into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::op::{Conv, Pad};
    use crate::ir::{Padding, Shape};

    /// A graph of two convolutions of one pixel and their sum, with a change.
    fn graph(change: usize) -> Graph {
        let mut graph = Graph::default();
        let x = graph.add_input("x", Shape::hwc(1, 1, 2));
        let conv = |graph: &mut Graph, name: &str, weight: Vec<f32>, bias: Option<Vec<f32>>| {
            let weight = graph.consts.add(weight);
            let bias = bias.map(|b| graph.consts.add(b));
            let (kernel, one, pad) = ([1, 1], [1, 1], Padding::ZERO);
            let op = if change == 1 {
                Op::Dense(Dense { in_c: 2, out_c: 2, weight, bias, act: Activation::None })
            } else {
                Op::Conv(Conv {
                    in_c: 2,
                    out_c: 2,
                    kernel,
                    stride: one,
                    dilation: one,
                    groups: 1,
                    pad,
                    pad_value: None,
                    weight,
                    bias,
                    act: Activation::None,
                    residual: false,
                    pool: false,
                })
            };
            graph.add(name, op, &[x]).expect("it fits")
        };
        let zeros = (change == 2).then(|| vec![0.0; 2]);
        let small = if change == 3 { 1e-30 } else { 0.0 };
        let a = conv(&mut graph, "a", vec![1.0, 2.0, 3.0, small], zeros);
        let b = conv(&mut graph, "b", vec![4.0, 3.0, 2.0, 1.0], Some(vec![0.5, if change == 4 { 0.25 } else { -0.5 }]));
        let mut act =
            |x| graph.add(format!("act{x:?}"), Op::Act(if change == 5 { Activation::Relu6 } else { Activation::Relu }), &[x]);
        let b = act(b).expect("it fits");
        let sum = if change == 6 { [b, a] } else { [a, b] };
        let op = if change == 7 { Op::Scale(Activation::None) } else { Op::Add(Activation::None) };
        let sum = graph.add("sum", op, &sum).expect("it fits");
        let bottom = if change == 8 { 2 } else { 1 };
        let pad = Padding { top: 1, left: 1, bottom, right: 1 };
        let y = graph.add("y", Op::Pad(Pad { pad, value: None }), &[sum]).expect("it fits");
        graph.outputs.push(y);
        graph.output_names.push(if change == 9 { "z" } else { "y" }.into());
        graph
    }

    #[test]
    fn what_counts_is_told_from_what_does_not() {
        for change in [0, 1, 2, 6] {
            assert!(same(&graph(0), &graph(change)), "change {change}");
        }
        for change in [3, 4, 5, 7, 8, 9] {
            assert!(!same(&graph(0), &graph(change)), "change {change}");
        }
    }
}
