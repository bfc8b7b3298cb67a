//! Op to kernel: which graph nodes become steps, what each may overwrite, and the step itself once places are known.
//!
//! To plan a new op: an arm in [`overwritable`], one in [`class`] and one in [`step`]; the compiler names all three.

use super::pack::{Layout, Overflow, Packer};
use super::rows::Rows;
use super::{ALIGN, Kernel, Options, Place, PlanError, Port, Prefer, Residual, Step};
use crate::ir::{Graph, NodeId, Op, Shape, op};
use mnc_runtime::kernel::FILL;
use mnc_runtime::pack::PANEL;
use mnc_runtime::params::{self, Activation, Method, Pointwise};

/// A step to be: one graph node that an output depends on, or a copy that makes one. Every layer of [`layers`] leads to an output.
#[derive(Debug)]
pub(super) struct Layer {
    /// The node's name.
    pub(super) name: String,
    work: Work,
    /// Its operands in the op's order.
    pub(super) reads: Vec<Source>,
    /// Shape of the first operand.
    pub(super) input: Shape,
    /// Shape of the result.
    pub(super) shape: Shape,
    /// Floats from a pixel of the result to the next.
    pub(super) pitch: usize,
    /// Size of the result, rounded up to [`ALIGN`].
    pub(super) bytes: usize,
    /// How it is computed.
    pub(super) class: Class,
    /// The rows of its input that its rows are made of; for kernels that work row by row.
    pub(super) rows: Option<Rows>,
    /// The output of the graph that the result is, by its position.
    pub(super) output: Option<usize>,
    /// Positions in `reads` of operands that the result may be written over, if nobody reads them later.
    pub(super) overwritable: Vec<usize>,
}

/// How a layer is computed, as far as its cost and its sharing among threads go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Sums of products over all channels: convolutions and dense layers.
    Product {
        /// Products an output element.
        taps: usize,
        /// Groups that the kernel is called with.
        groups: usize,
        /// The mean over all pixels is taken at once.
        pooled: bool,
        /// How the kernel goes about it.
        method: Method,
    },
    /// Sums or maxima over windows of one channel each.
    Window {
        /// Elements of a window.
        taps: usize,
        /// Whether channel `c` of the output depends on channel `c` of the input alone.
        aligned: bool,
    },
    /// Element by element.
    Elementwise {
        /// Tensors of the output's shape that are read.
        tensors: usize,
    },
    /// The mean of each channel.
    Mean,
    /// All at once, by one thread.
    Whole,
}

/// Where an operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// This one of the caller's inputs.
    Input(usize),
    /// The result of this layer.
    Layer(usize),
}

#[derive(Debug)]
enum Work {
    Node(NodeId),
    /// An output that is an input, or what another output is.
    Copy,
}

/// The layers of `graph` in its own topological order, by kernels that `options` allow.
pub(super) fn layers(graph: &Graph, options: &Options) -> Result<Vec<Layer>, PlanError> {
    if graph.inputs.is_empty() || graph.outputs.is_empty() {
        return Err(PlanError::Ends { inputs: graph.inputs.len(), outputs: graph.outputs.len() });
    }
    let topo = graph.topo();
    let mut needed = vec![false; topo.iter().map(|id| id.index() + 1).max().unwrap_or(0)];
    for &id in topo.iter().rev() {
        let i = id.index();
        needed[i] |= graph.outputs.contains(&id);
        if needed[i] {
            graph.inputs_of(id).into_iter().for_each(|r| needed[r.index()] = true);
        }
    }
    let mut layers = Vec::new();
    let mut source = vec![None; needed.len()];
    let most = isize::MAX as usize;
    // Bytes of the inputs; all outputs are results, and counted as such.
    let mut given = Some(0usize);
    for id in topo.into_iter().filter(|id| needed[id.index()] || graph.inputs.contains(id)) {
        let node = graph.node(id);
        if node.shape.n != 1 {
            return Err(PlanError::Batch { node: node.name.clone(), shape: node.shape });
        }
        if let Some(position) = graph.inputs.iter().position(|&i| i == id) {
            source[id.index()] = Some(Source::Input(position));
            given = bytes_of(node.shape).and_then(|b| given?.checked_add(b)).filter(|&b| b <= most);
            given.ok_or_else(|| PlanError::TooLarge { node: node.name.clone() })?;
            continue;
        }
        // A node on a cycle is not in `topo`, nor is one behind it.
        let Some(reads) = graph.inputs_of(id).into_iter().map(|r| source[r.index()]).collect() else {
            return Err(PlanError::Cycle);
        };
        source[id.index()] = Some(Source::Layer(layers.len()));
        let x = graph.inputs_of(id).first().map_or(node.shape, |&r| graph.shape(r));
        let mut layer = Layer::new(&node.name, Work::Node(id), reads, x, node.shape)?;
        layer.overwritable = overwritable(&node.op, x, node.shape);
        (layer.class, layer.rows) = class(&node.op, x, node.shape, options);
        layers.push(layer);
    }
    for (position, &id) in graph.outputs.iter().enumerate() {
        // Nodes on a cycle are not in `topo`, so an output behind one has no source.
        let Some(from) = source.get(id.index()).copied().flatten() else { return Err(PlanError::Cycle) };
        match from {
            Source::Layer(l) if layers[l].output.is_none() => layers[l].output = Some(position),
            Source::Layer(_) | Source::Input(_) => {
                let (name, shape) = (format!("copy{position}"), graph.shape(id));
                let mut copy = Layer::new(&name, Work::Copy, vec![from], shape, shape)?;
                copy.output = Some(position);
                layers.push(copy);
            }
        }
    }
    let total = layers.iter().try_fold(0usize, |sum, l| sum.checked_add(l.bytes).filter(|&s| s <= most).ok_or(&l.name));
    match total {
        Ok(_) => Ok(layers),
        Err(node) => Err(PlanError::TooLarge { node: node.clone() }),
    }
}

impl Layer {
    fn new(name: &str, work: Work, reads: Vec<Source>, input: Shape, shape: Shape) -> Result<Self, PlanError> {
        let Some(bytes) = bytes_of(shape) else { return Err(PlanError::TooLarge { node: name.to_owned() }) };
        let (overwritable, class, rows, output) = (Vec::new(), Class::Whole, None, None);
        Ok(Self { name: name.to_owned(), work, reads, input, shape, pitch: shape.c, bytes, class, rows, output, overwritable })
    }

    /// Groups that its kernel is called with.
    fn groups(&self) -> usize {
        match self.class {
            Class::Product { groups, .. } => groups,
            Class::Window { .. } | Class::Elementwise { .. } | Class::Mean | Class::Whole => 1,
        }
    }

    /// The method of its kernel.
    fn method(&self) -> Method {
        match self.class {
            Class::Product { method, .. } => method,
            Class::Window { .. } | Class::Elementwise { .. } | Class::Mean | Class::Whole => Method::Direct,
        }
    }

    /// Positions in `reads` of the operands that may come row by row from the layer before, in a ring.
    pub(super) fn streamed(&self) -> Vec<usize> {
        match (&self.rows, self.class) {
            (None, _) => Vec::new(),
            // A sum takes either addend; a scaled tensor's factors are needed as a whole.
            (Some(_), Class::Elementwise { tensors }) => (0..tensors).collect(),
            (Some(_), Class::Product { .. } | Class::Window { .. } | Class::Mean | Class::Whole) => vec![0],
        }
    }
}

/// Size of a tensor rounded up to [`ALIGN`]; `None` where no memory could hold it.
pub(super) fn bytes_of(shape: Shape) -> Option<usize> {
    let bytes = shape.checked_elements()?.checked_mul(4)?.checked_next_multiple_of(ALIGN)?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

/// Operands whose place the result may take, element by element or because the kernel accumulates on top. A depthwise window
/// reads neighbours after they would have been overwritten, so it is not among them.
fn overwritable(op: &Op, x: Shape, y: Shape) -> Vec<usize> {
    match op {
        Op::Act(_) | Op::Scale(_) | Op::Softmax | Op::PRelu(_) | Op::Reshape(_) => vec![0],
        Op::Binary(_) if x == y => vec![0],
        Op::Add(_) => vec![0, 1],
        Op::Conv(c) if c.residual => vec![op.arity() - 1],
        Op::Conv(_)
        | Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Depthwise(_)
        | Op::BatchNorm(_)
        | Op::Pool(_)
        | Op::GlobalPool
        | Op::Binary(_)
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. }
        | Op::ConvTranspose(_)
        | Op::Dense(_) => Vec::new(),
    }
}

/// How a layer of this op is computed, and row by row from which rows if at all.
fn class(op: &Op, x: Shape, y: Shape, options: &Options) -> (Class, Option<Rows>) {
    let rows = |kernel: usize, stride: usize, pad: usize| {
        (y.h * y.w > 1).then_some(Rows { kernel, stride, pad, input: x.h, output: y.h, tile: 1 })
    };
    let each = rows(1, 1, 0);
    match op {
        Op::Conv(c) => {
            let groups = if options.grouped { c.groups } else { 1 };
            let taps = c.kernel[0] * c.kernel[1] * (c.in_c / groups);
            let method = method(c, y, options);
            let rows = if c.pool { None } else { rows(params::span(c.kernel[0], c.dilation[0]), c.stride[0], c.pad.top) };
            let rows = rows.map(|r| Rows { tile: method.tile(), ..r });
            (Class::Product { taps, groups, pooled: c.pool, method }, rows)
        }
        Op::Dense(d) => (Class::Product { taps: d.in_c, groups: 1, pooled: false, method: Method::Direct }, None),
        Op::Depthwise(d) => {
            let class = Class::Window { taps: d.kernel[0] * d.kernel[1], aligned: d.multiplier == 1 };
            (class, rows(params::span(d.kernel[0], d.dilation[0]), d.stride[0], d.pad.top))
        }
        Op::BatchNorm(_) => (Class::Window { taps: 1, aligned: true }, each),
        Op::Pool(p) => {
            let class = Class::Window { taps: p.kernel[0] * p.kernel[1], aligned: true };
            (class, rows(p.kernel[0], p.stride[0], p.pad.top))
        }
        Op::Act(_) | Op::Scale(_) => (Class::Elementwise { tensors: 1 }, each),
        Op::Add(_) => (Class::Elementwise { tensors: 2 }, each),
        Op::GlobalPool => (Class::Mean, None),
        Op::PRelu(_) => (Class::Elementwise { tensors: 1 }, each),
        Op::Binary(_) => (Class::Elementwise { tensors: 1 }, each.filter(|_| x == y)),
        Op::ConvTranspose(c) => {
            // What reaches an output element on average.
            let taps = (c.kernel[0] * c.kernel[1] * (c.in_c / c.groups)).div_ceil(c.stride[0] * c.stride[1]);
            (Class::Product { taps, groups: c.groups, pooled: false, method: Method::Direct }, None)
        }
        Op::Input
        | Op::Constant(_)
        | Op::Normalize(_)
        | Op::Pad(_)
        | Op::Softmax
        | Op::Concat(_)
        | Op::Gather(_)
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Mean { .. }
        | Op::Interpolate { .. } => (Class::Whole, None),
    }
}

/// Floats of transformed weights up to which Winograd's filtering was measured to be faster: twice as fast where they stay in the second level
/// of cache, 1.5 times with these, of 256 x 256 channels; those of 512 x 512 come from memory, and are no gain.
const MOST_TRANSFORMED: usize = 1 << 20;

/// The same for each tile of four by four outputs, and in all: with as few as 16 tiles, those of 256 x 256 channels are no gain over two by two
/// outputs, with 49 they take 0.73 of the time.
const MOST_FOR_A_TILE: usize = 48 << 10;
const MOST_FOR_TILES: usize = 36 << 16;

/// Input channels and pairs of pixels from which Strassen's method was measured to be faster: where products are long enough to hide
/// the sums around them.
const LEAST_CHANNELS: usize = 128;
const LEAST_PAIRS: usize = 28;

/// How a convolution to `y` is computed: by Winograd's filtering where that is faster, which takes enough input channels to add up beside
/// the transforms, output channels that fill a vector, and an output of several tiles; a pointwise one by Strassen's method.
fn method(c: &op::Conv, y: Shape, options: &Options) -> Method {
    if c.is_pointwise() {
        let layer = pointwise(c, y, Method::Strassen);
        let allowed = options.strassen && options.prefer == Prefer::Speed && !c.residual;
        let worth = c.in_c >= LEAST_CHANNELS && y.h * y.w / 2 >= LEAST_PAIRS && layer.has_method();
        return if allowed && worth { Method::Strassen } else { Method::Direct };
    }
    let window = (c.kernel, c.stride, c.dilation) == ([3, 3], [1, 1], [1, 1]) && c.pad_value.is_none() && !c.pool;
    let allowed = options.winograd && options.grouped && options.prefer == Prefer::Speed;
    let in_c = c.in_c / c.groups;
    let weights = in_c.saturating_mul(c.out_c);
    let worth = in_c >= 8 && c.out_c / c.groups >= PANEL && y.h >= 8 && y.w >= 8;
    if !(window && allowed && worth) {
        return Method::Direct;
    }
    let tiles = |side: usize| y.h.div_ceil(side) * y.w.div_ceil(side);
    // At least a fourth fewer products: 36 a tile in place of 16. An output that is no whole number of tiles may have more of them.
    let fewer = 3 * tiles(4) <= tiles(2);
    let most = (tiles(4).saturating_mul(MOST_FOR_A_TILE)).clamp(MOST_TRANSFORMED, MOST_FOR_TILES);
    if fewer && weights.saturating_mul(36) <= most {
        Method::Winograd4
    } else if weights.saturating_mul(16) <= MOST_TRANSFORMED {
        Method::Winograd2
    } else {
        Method::Direct
    }
}

/// A pointwise convolution of an input of the size of `x`.
fn pointwise(c: &op::Conv, x: Shape, method: Method) -> Pointwise {
    Pointwise { h: x.h, w: x.w, in_c: c.in_c, out_c: c.out_c, act: c.act, pool: c.pool, method }
}

/// Where everything that a step touches stands.
pub(super) struct Operands<'a> {
    /// Of the caller's inputs.
    pub(super) inputs: &'a [Port],
    /// Of every layer's result.
    pub(super) homes: &'a [Place],
    /// Which operand of this layer is overwritten.
    pub(super) over: Option<usize>,
    /// Which operand comes from the step before.
    pub(super) streamed: usize,
}

/// The step of layer `l`.
pub(super) fn step(
    graph: &Graph,
    layers: &[Layer],
    l: usize,
    Operands { inputs, homes, over, streamed }: Operands<'_>,
    packer: &mut Packer,
) -> Result<Step, PlanError> {
    let layer = &layers[l];
    let operands: Vec<(Place, Shape)> = layer
        .reads
        .iter()
        .map(|&r| match r {
            Source::Input(i) => (Place::Input(inputs[i].offset), inputs[i].tensor.shape),
            Source::Layer(r) => (homes[r], layers[r].shape),
        })
        .collect();
    // The operand that the step calls its input; a constant has none.
    let first = match layer.work {
        Work::Node(id) if matches!(graph.op(id), Op::Add(_)) => over.unwrap_or(streamed),
        Work::Node(_) | Work::Copy => 0,
    };
    let (input, input_shape) = operands.get(first).copied().unwrap_or((Place::Input(0), inputs[0].tensor.shape));
    let (kernel, macs) = match layer.work {
        Work::Copy => (Kernel::Copy { len: layer.shape.elements() }, 0),
        Work::Node(id) => {
            let shapes: Vec<Shape> = operands.iter().map(|o| o.1).collect();
            let kernel = kernel(graph, id, (layer.groups(), layer.method()), &operands, over, first, packer)
                .map_err(|Overflow| PlanError::TooLarge { node: layer.name.clone() })?;
            (kernel, graph.op(id).macs(&shapes, layer.shape))
        }
    };
    Ok(Step { name: layer.name.clone(), kernel, input, input_shape, output: homes[l], output_shape: layer.shape, macs })
}

fn kernel(
    graph: &Graph,
    id: NodeId,
    (groups, method): (usize, Method),
    operands: &[(Place, Shape)],
    over: Option<usize>,
    first: usize,
    packer: &mut Packer,
) -> Result<Kernel, Overflow> {
    let node = graph.node(id);
    let out = node.shape;
    let x = operands.first().map_or(out, |o| o.1);
    let named = |part: &str| format!("{}.{part}", node.name);
    let pixels = x.h * x.w;
    Ok(match &node.op {
        Op::Input => Kernel::Copy { len: out.elements() },
        Op::Constant(value) => {
            let len = out.elements();
            Kernel::Constant { value: packer.constant(*value, Layout::Padded(1), &node.name)?, len }
        }
        Op::Normalize(n) => Kernel::Normalize {
            pixels,
            order: n.order.clone(),
            scale: packer.constant(n.scale, Layout::Padded(1), &named("scale"))?,
            shift: packer.constant(n.shift, Layout::Padded(1), &named("shift"))?,
        },
        Op::Pad(p) => Kernel::Pad {
            top: p.pad.top,
            left: p.pad.left,
            value: p.value.map(|v| packer.constant(v, Layout::Padded(1), &named("value"))).transpose()?,
        },
        Op::Conv(c) => {
            let residual = match (c.residual, over) {
                (false, _) => Residual::None,
                (true, Some(_)) => Residual::InPlace,
                (true, None) => Residual::From(operands[operands.len() - 1].0),
            };
            let weight = packer.conv(c, groups, method, &named("weight"))?;
            let bias = packer.bias(c.bias, groups, c.out_c / groups, &named("bias"))?;
            if c.is_pointwise() {
                Kernel::Pointwise { params: pointwise(c, x, method), weight, bias, residual }
            } else {
                let pad_value = c.pad_value.map(|v| packer.constant(v, Layout::Padded(1), &named("pad_value"))).transpose()?;
                Kernel::Conv { params: conv(c, groups, method, x, out), weight, bias, pad_value, residual }
            }
        }
        Op::Depthwise(d) => {
            let taps = d.kernel[0] * d.kernel[1];
            let c = d.channels * d.multiplier;
            Kernel::Depthwise {
                params: depthwise(d, x, out),
                weight: packer.constant(d.weight, Layout::Panels { k: taps, n: c }, &named("weight"))?,
                bias: packer.bias(d.bias, 1, c, &named("bias"))?,
                pad_value: d.pad_value.map(|v| packer.constant(v, Layout::Padded(1), &named("pad_value"))).transpose()?,
            }
        }
        // One that no convolution could take in: a depthwise 1x1 convolution with the same scale and shift.
        #[expect(clippy::cast_possible_truncation, reason = "computed in f64, stored in f32")]
        Op::BatchNorm(b) => {
            let (scale, shift) = b.affine(&graph.consts).into_iter().map(|(s, t)| (s as f32, t as f32)).unzip();
            Kernel::Depthwise {
                params: pixelwise(x),
                weight: packer.computed(scale, Layout::Panels { k: 1, n: x.c }, &named("scale"))?,
                bias: packer.computed(shift, Layout::Padded(PANEL), &named("shift"))?,
                pad_value: None,
            }
        }
        Op::Act(act) => Kernel::Act { len: out.elements(), act: *act },
        Op::Add(act) => Kernel::Add { other: operands[1 - first].0, len: out.elements(), act: *act },
        Op::Scale(act) => Kernel::Scale { scale: operands[1].0, pixels, c: x.c, act: *act },
        Op::Pool(p) => Kernel::Pool(params::Pool {
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
        }),
        Op::GlobalPool => Kernel::GlobalPool { pixels, c: x.c },
        Op::Dense(d) => Kernel::Pointwise {
            params: params::Pointwise {
                h: 1,
                w: 1,
                in_c: d.in_c,
                out_c: d.out_c,
                act: d.act,
                pool: false,
                method: Method::Direct,
            },
            weight: packer.constant(d.weight, Layout::Panels { k: d.in_c, n: d.out_c }, &named("weight"))?,
            bias: packer.bias(d.bias, 1, d.out_c, &named("bias"))?,
            residual: Residual::None,
        },
        Op::Softmax => Kernel::Softmax { pixels, c: x.c },
        Op::PRelu(slope) => Kernel::PRelu { slope: packer.constant(*slope, Layout::Padded(1), &named("slope"))?, pixels, c: x.c },
        Op::Binary(b) => {
            let (other, other_shape) = operands[1];
            Kernel::Binary { kind: b.kind, other, other_shape, act: b.act }
        }
        Op::Concat(axis) => Kernel::Concat { axis: *axis, parts: operands.to_vec() },
        Op::Gather(g) => {
            let index = |&at: &i32| usize::try_from(at).unwrap_or(FILL);
            let tables = g.tables().map(|table| table.map(|t| t.iter().map(index).collect()));
            Kernel::Gather { tables, fill: g.fill }
        }
        Op::Reshape(_) => Kernel::Copy { len: out.elements() },
        Op::Transpose(order) => Kernel::Transpose { order: *order },
        Op::Mean { axes } => Kernel::Mean { axes: *axes },
        Op::Interpolate { rows, columns } => Kernel::Interpolate { rows: rows.clone(), columns: columns.clone() },
        Op::ConvTranspose(c) => Kernel::ConvTranspose {
            params: transposed(c, x, out),
            weight: packer.grouped(c.weight, c.groups, c.kernel, [c.in_c, c.out_c], &named("weight"))?,
            bias: packer.bias(c.bias, c.groups, c.out_c / c.groups, &named("bias"))?,
        },
    })
}

fn conv(c: &op::Conv, groups: usize, method: Method, x: Shape, out: Shape) -> params::Conv {
    params::Conv {
        in_h: x.h,
        in_w: x.w,
        in_c: c.in_c,
        out_h: out.h,
        out_w: out.w,
        out_c: c.out_c,
        groups,
        kernel_h: c.kernel[0],
        kernel_w: c.kernel[1],
        stride_h: c.stride[0],
        stride_w: c.stride[1],
        dilation_h: c.dilation[0],
        dilation_w: c.dilation[1],
        pad_top: c.pad.top,
        pad_left: c.pad.left,
        act: c.act,
        method,
    }
}

fn transposed(c: &op::ConvTranspose, x: Shape, out: Shape) -> params::Conv {
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

fn depthwise(d: &op::Depthwise, x: Shape, out: Shape) -> params::Depthwise {
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

/// A depthwise convolution of 1x1 windows over `x`.
fn pixelwise(x: Shape) -> params::Depthwise {
    params::Depthwise {
        in_h: x.h,
        in_w: x.w,
        in_c: x.c,
        multiplier: 1,
        out_h: x.h,
        out_w: x.w,
        kernel_h: 1,
        kernel_w: 1,
        stride_h: 1,
        stride_w: 1,
        dilation_h: 1,
        dilation_w: 1,
        pad_top: 0,
        pad_left: 0,
        act: Activation::None,
    }
}
