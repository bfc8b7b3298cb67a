//! Runs a graph with naive loops: the oracle that every pass and back end is compared with.
//!
//! One op at a time in topological order through [`mnc_runtime::reference`]: sums in f64, each node's output rounded once to
//! f32. A tensor is dropped after its last reader. Fused parts of a convolution mean, with padding as attributed:
//! `y = act(conv(x) + bias + residual)`, and with `pool` the mean of that over rows and columns.

use std::collections::HashMap;

use mnc_runtime::{params, reference};

use super::op::{Conv, ConvTranspose, Depthwise, Pool};
use super::{Consts, Graph, NodeId, Op, Shape};

/// Evaluates `graph` on `inputs`, one NHWC slice a graph input, and returns one tensor a graph output.
///
/// # Panics
/// If the graph does not pass [`super::verify::verify`], or the number or lengths of `inputs` are not those of the graph's.
#[must_use]
pub fn eval(graph: &Graph, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    assert_eq!(inputs.len(), graph.inputs.len(), "one slice a graph input");
    let mut readers: HashMap<NodeId, usize> = graph.nodes().into_iter().map(|id| (id, graph.users(id).len())).collect();
    for output in &graph.outputs {
        *readers.entry(*output).or_default() += 1;
    }
    let mut values: HashMap<NodeId, Vec<f32>> = HashMap::new();
    for id in graph.topo() {
        let y = match graph.inputs.iter().position(|&i| i == id) {
            Some(position) => {
                let x = inputs[position];
                assert_eq!(x.len(), graph.shape(id).elements(), "elements of graph input {position}");
                x.to_vec()
            }
            None => {
                let reads = graph.inputs_of(id);
                let x: Vec<&[f32]> = reads.iter().map(|i| values[i].as_slice()).collect();
                node(graph.op(id), &graph.consts, &graph.input_shapes(id), graph.shape(id), &x)
            }
        };
        if readers[&id] > 0 {
            values.insert(id, y);
        }
        for read in graph.inputs_of(id) {
            let left = readers.get_mut(&read).expect("every node is counted");
            *left -= 1;
            if *left == 0 {
                values.remove(&read);
            }
        }
    }
    graph.outputs.iter().map(|id| values[id].clone()).collect()
}

/// Evaluates one op on `x` of `shapes`; the result has shape `out`.
pub(crate) fn node(op: &Op, consts: &Consts, shapes: &[Shape], out: Shape, x: &[&[f32]]) -> Vec<f32> {
    let mut y = vec![0.0; out.elements()];
    let pixels = |s: Shape| s.h * s.w;
    match op {
        Op::Input => unreachable!("graph inputs are given"),
        Op::Constant(value) => y.copy_from_slice(consts.get(*value)),
        Op::Normalize(n) => {
            reference::normalize(pixels(out), &n.order, consts.get(n.scale), consts.get(n.shift), x[0], &mut y);
        }
        Op::Pad(p) => {
            let (s, value) = (shapes[0], p.value.map(|v| consts.get(v)));
            reference::pad(s.h, s.w, s.c, p.pad.top, p.pad.left, out.h, out.w, value, x[0], &mut y);
        }
        Op::Conv(c) => conv(c, consts, shapes, out, x, &mut y),
        Op::Depthwise(d) => {
            let (bias, value) = (d.bias.map(|b| consts.get(b)), d.pad_value.map(|v| consts.get(v)));
            reference::depthwise(&depthwise_params(d, shapes[0], out), x[0], consts.get(d.weight), bias, value, &mut y);
        }
        Op::BatchNorm(b) => {
            let affine = b.affine(consts);
            for (y, x) in y.chunks_exact_mut(out.c).zip(x[0].chunks_exact(out.c)) {
                for ((y, x), (scale, shift)) in y.iter_mut().zip(x).zip(&affine) {
                    *y = (f64::from(*x) * scale + shift) as f32;
                }
            }
        }
        Op::Act(act) => reference::act(*act, x[0], &mut y),
        Op::Add(act) => reference::add(*act, x[0], x[1], &mut y),
        Op::Scale(act) => reference::scale(*act, pixels(out), out.c, x[0], x[1], &mut y),
        Op::Pool(p) => reference::pool(&pool_params(p, shapes[0], out), x[0], &mut y),
        Op::GlobalPool => reference::global_pool(pixels(shapes[0]), out.c, x[0], &mut y),
        Op::Dense(d) => {
            let bias = d.bias.map(|b| consts.get(b));
            reference::dense(d.in_c, d.out_c, d.act, x[0], consts.get(d.weight), bias, &mut y);
        }
        Op::Softmax => reference::softmax(out.c, x[0], &mut y),
        Op::PRelu(slope) => reference::prelu(consts.get(*slope), x[0], &mut y),
        Op::Binary(b) => {
            reference::binary(b.kind, b.act, hwc(out), (hwc(shapes[0]), x[0]), (hwc(shapes[1]), x[1]), &mut y);
        }
        Op::Concat(axis) => {
            let parts: Vec<([usize; 3], &[f32])> = shapes.iter().map(|&s| hwc(s)).zip(x.iter().copied()).collect();
            reference::concat(*axis, hwc(out), &parts, &mut y);
        }
        Op::Gather(g) => reference::gather(hwc(shapes[0]), g.tables(), g.fill.get(), x[0], &mut y),
        Op::Reshape(_) => y.copy_from_slice(x[0]),
        Op::Transpose(order) => reference::transpose(hwc(shapes[0]), *order, x[0], &mut y),
        Op::Mean { axes } => reference::mean(hwc(shapes[0]), *axes, x[0], &mut y),
        Op::Interpolate { rows, columns } => reference::interpolate(rows, columns, shapes[0].w, out.c, x[0], &mut y),
        Op::ConvTranspose(c) => {
            let (p, bias) = (transposed_params(c, shapes[0], out), c.bias.map(|b| consts.get(b)));
            reference::conv_transpose(&p, x[0], consts.get(c.weight), bias, &mut y);
        }
    }
    y
}

/// A convolution with whatever is fused into it.
fn conv(c: &Conv, consts: &Consts, shapes: &[Shape], out: Shape, x: &[&[f32]], y: &mut [f32]) {
    let s = shapes[0];
    let (h, w) = if c.pool { (s.h, s.w) } else { (out.h, out.w) };
    let p = conv_params(c, s, h, w);
    let weight = consts.get(c.weight);
    let bias = c.bias.map(|b| consts.get(b));
    let value = c.pad_value.map(|v| consts.get(v));
    let residual = c.residual.then(|| x[x.len() - 1]);
    if c.pool {
        let mut all = vec![0.0; h * w * c.out_c];
        reference::conv(&p, x[0], weight, bias, value, residual, &mut all);
        reference::global_pool(h * w, c.out_c, &all, y);
    } else {
        reference::conv(&p, x[0], weight, bias, value, residual, y);
    }
}

/// The parameters of `c` without what is fused into it but the activation, for input `x` and `out_h` by `out_w` sums.
pub(crate) fn conv_params(c: &Conv, x: Shape, out_h: usize, out_w: usize) -> params::Conv {
    params::Conv {
        in_h: x.h,
        in_w: x.w,
        in_c: c.in_c,
        out_h,
        out_w,
        out_c: c.out_c,
        groups: c.groups,
        kernel_h: c.kernel[0],
        kernel_w: c.kernel[1],
        stride_h: c.stride[0],
        stride_w: c.stride[1],
        dilation_h: c.dilation[0],
        dilation_w: c.dilation[1],
        pad_top: c.pad.top,
        pad_left: c.pad.left,
        act: c.act,
        method: params::Method::Direct,
    }
}

/// Rows, columns and channels.
pub(crate) fn hwc(s: Shape) -> [usize; 3] {
    [s.h, s.w, s.c]
}

/// The parameters of `c`.
pub(crate) fn transposed_params(c: &ConvTranspose, x: Shape, out: Shape) -> params::Conv {
    params::Conv {
        in_h: x.h,
        in_w: x.w,
        in_c: c.in_c,
        out_h: out.h,
        out_w: out.w,
        out_c: c.out_c,
        groups: c.groups,
        kernel_h: c.kernel[0],
        kernel_w: c.kernel[1],
        stride_h: c.stride[0],
        stride_w: c.stride[1],
        dilation_h: c.dilation[0],
        dilation_w: c.dilation[1],
        pad_top: c.pad.top,
        pad_left: c.pad.left,
        act: c.act,
        method: params::Method::Direct,
    }
}

/// The parameters of `d`.
pub(crate) fn depthwise_params(d: &Depthwise, x: Shape, out: Shape) -> params::Depthwise {
    params::Depthwise {
        in_h: x.h,
        in_w: x.w,
        in_c: d.channels,
        multiplier: d.multiplier,
        out_h: out.h,
        out_w: out.w,
        kernel_h: d.kernel[0],
        kernel_w: d.kernel[1],
        stride_h: d.stride[0],
        stride_w: d.stride[1],
        dilation_h: d.dilation[0],
        dilation_w: d.dilation[1],
        pad_top: d.pad.top,
        pad_left: d.pad.left,
        act: d.act,
    }
}

/// The parameters of `p`.
pub(crate) fn pool_params(p: &Pool, x: Shape, out: Shape) -> params::Pool {
    params::Pool {
        kind: p.kind,
        in_h: x.h,
        in_w: x.w,
        c: x.c,
        out_h: out.h,
        out_w: out.w,
        kernel_h: p.kernel[0],
        kernel_w: p.kernel[1],
        stride_h: p.stride[0],
        stride_w: p.stride[1],
        pad_top: p.pad.top,
        pad_left: p.pad.left,
        count_padding: p.count_padding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Padding;
    use crate::ir::op::Activation;

    /// Two pixels of two channels; bias, residual, activation and mean worked out by hand.
    #[test]
    fn fused_parts_in_their_order() {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(1, 2, 2));
        let r = g.add_constant("r", Shape::hwc(1, 2, 1), vec![1.0, -20.0]);
        let weight = g.consts.add(vec![1.0, 3.0]);
        let bias = g.consts.add(vec![0.5]);
        let base = Conv {
            in_c: 2,
            out_c: 1,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 1,
            pad: Padding::ZERO,
            pad_value: None,
            weight,
            bias: Some(bias),
            act: Activation::Relu,
            residual: false,
            pool: false,
        };
        // x * w = -1, 0; plus bias = -0.5, 0.5
        let residual = g.add("residual", Op::Conv(Conv { residual: true, ..base.clone() }), &[x, r]).unwrap();
        let pool = g.add("pool", Op::Conv(Conv { pool: true, ..base }), &[x]).unwrap();
        g.outputs = vec![residual, pool, x];
        assert_eq!(crate::ir::verify::verify(&g), Ok(()));
        let y = eval(&g, &[&[2.0, -1.0, 6.0, -2.0]]);
        assert_eq!(y, [vec![0.5, 0.0], vec![0.25], vec![2.0, -1.0, 6.0, -2.0]]);
    }

    /// The same node twice as an operand and as an output is kept until all have read it.
    #[test]
    fn a_tensor_read_twice_is_kept() {
        let mut g = Graph::default();
        let x = g.add_input("x", Shape::hwc(1, 1, 2));
        let a = g.add("a", Op::Act(Activation::Relu), &[x]).unwrap();
        let b = g.add("b", Op::Add(Activation::None), &[a, a]).unwrap();
        let c = g.add("c", Op::Add(Activation::None), &[b, a]).unwrap();
        g.outputs = vec![c, a, a];
        assert_eq!(eval(&g, &[&[1.0, -1.0]]), [[3.0, 0.0], [1.0, 0.0], [1.0, 0.0]]);
    }
}
