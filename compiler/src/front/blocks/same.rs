//! Whether two graphs compute the same, by their structure: names do not count, nor whether a dense layer is written as a convolution
//! of one pixel, nor a bias of zeros, nor the order of a sum of two.
//!
//! Every node gets a number such that equal numbers mean equal values: that of its op, its constants and its inputs' numbers.

use std::collections::HashMap;

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

#[derive(Default)]
struct Numbers {
    /// By an op with constants of `consts`, the shape it gives, and the numbers of its inputs.
    nodes: HashMap<(String, Shape, Vec<usize>), usize>,
    consts: Consts,
    /// By the bits of their elements.
    known: HashMap<Vec<u32>, ConstId>,
}

impl Numbers {
    /// The numbers of the outputs of `graph`.
    fn outputs(&mut self, graph: &Graph) -> Vec<usize> {
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

    fn data(&mut self, elements: &[f32]) -> ConstId {
        let bits: Vec<u32> = elements.iter().map(|x| x.to_bits()).collect();
        *self.known.entry(bits).or_insert_with(|| self.consts.add(elements))
    }

    /// The op of `id`, its constants those of `self`.
    fn normal(&mut self, graph: &Graph, id: NodeId) -> Op {
        let mut own = |id: ConstId| self.data(graph.consts.get(id));
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

    fn bias_or_zeros(&mut self, graph: &Graph, bias: Option<ConstId>, width: usize) -> ConstId {
        match bias {
            Some(bias) => self.data(graph.consts.get(bias)),
            None => self.data(&vec![0.0; width]),
        }
    }
}
