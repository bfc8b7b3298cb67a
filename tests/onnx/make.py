#!/usr/bin/env python3
"""Makes the small models in this folder and what onnxruntime computes of them: NAME.onnx and NAME.io.safetensors.

    python tests/onnx/make.py        (needs onnx, onnxruntime, numpy, safetensors)

Each shows one thing that exporters do. In the `io` file stand `x0`, `x1`, … as mnc takes them (pictures as rows, columns, channels),
and `y0`, … as mnc gives them.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = pathlib.Path(__file__).parent
rng = np.random.default_rng(1)


def w(*shape, scale=None):
    fan = np.prod(shape[1:]) if len(shape) > 1 else 4
    return (rng.standard_normal(shape) * (scale or 1 / np.sqrt(fan))).astype(np.float32)


class Net:
    def __init__(self, opset=17):
        self.nodes, self.inits, self.inputs, self.outputs, self.opset, self.n = [], [], [], [], opset, 0

    def input(self, name, shape):
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return name

    def const(self, array, name=None):
        self.n += 1
        name = name or f"c{self.n}"
        self.inits.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, op, *inputs, n=1, **attrs):
        self.n += 1
        outs = [f"{op.lower()}{self.n}" + (f"_{i}" if n > 1 else "") for i in range(n)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name=f"/{op}_{self.n}", **attrs))
        return outs if n > 1 else outs[0]

    def conv(self, x, o, i, k=3, name=None, **attrs):
        return self.op("Conv", x, self.const(w(o, i, k, k), name and f"{name}.weight"), self.const(w(o), name and f"{name}.bias"), **attrs)

    def output(self, *names):
        self.outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names]

    def model(self):
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.inits)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8, producer_name="make.py")


def nhwc(a):
    return np.ascontiguousarray(a[0].transpose(1, 2, 0)) if a.ndim == 4 and a.shape[0] == 1 else np.ascontiguousarray(a)


def save(name, net, *inputs, external=None, pictures=True):
    path = HERE / f"{name}.onnx"
    model = net.model()
    if external:
        (HERE / external).unlink(missing_ok=True)
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save(model, path)
    feed = {i.name: x for i, x in zip(net.inputs, inputs)}
    answers = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feed)
    tensors = {f"x{i}": nhwc(x) if pictures else x for i, x in enumerate(inputs)}
    tensors |= {f"y{i}": nhwc(y) if pictures else y for i, y in enumerate(answers)}
    save_file(tensors, HERE / f"{name}.io.safetensors")


def picture(c, h, wd):
    return rng.standard_normal((1, c, h, wd)).astype(np.float32)


# Flatten of several pixels in front of a dense layer: the rows of the weights go where the pixels are.
n = Net()
x = n.conv(n.input("input", [1, 3, 6, 5]), 8, 3, name="stem", strides=[2, 2], pads=[1, 1, 1, 1])
x = n.op("Flatten", n.op("Relu", x), axis=1)
n.output(n.op("Gemm", x, n.const(w(4, 72), "head.weight"), n.const(w(4), "head.bias"), transB=1))
save("flatten", n, picture(3, 6, 5))

# A channel shuffle, and halves of channels on ways of their own (ShuffleNet).
n = Net()
x = n.conv(n.input("input", [1, 3, 7, 7]), 12, 3, pads=[1, 1, 1, 1])
x = n.op("Reshape", x, n.const(np.array([0, 2, 6, 7, 7], np.int64)))
x = n.op("Transpose", x, perm=[0, 2, 1, 3, 4])
x = n.op("Reshape", x, n.const(np.array([0, -1, 7, 7], np.int64)))
a, b = n.op("Split", x, n=2, axis=1)
b = n.op("Relu", n.op("Conv", b, n.const(w(6, 1, 3, 3)), group=6, pads=[1, 1, 1, 1]))
n.output(n.op("Concat", a, b, axis=1))
save("shuffle", n, picture(3, 7, 7))

# Hard swish and swish in pieces, squeeze and excite, a product with a number.
n = Net(14)
x = n.conv(n.input("input", [1, 3, 8, 8]), 8, 3, pads=[1, 1, 1, 1])
g = n.op("Clip", n.op("Add", x, n.const(np.float32(3))), n.const(np.float32(0)), n.const(np.float32(6)))
x = n.op("Div", n.op("Mul", x, g), n.const(np.float32(6)))
x = n.conv(x, 8, 8, k=1)
x = n.op("Mul", x, n.op("Sigmoid", x))
s = n.op("ReduceMean", x, axes=[2, 3], keepdims=1)
s = n.op("Relu", n.conv(s, 4, 8, k=1))
s = n.conv(s, 8, 4, k=1)
s = n.op("Div", n.op("Clip", n.op("Add", s, n.const(np.float32(3))), n.const(np.float32(0)), n.const(np.float32(6))), n.const(np.float32(6)))
x = n.op("Mul", x, s)
n.output(n.op("Sub", n.const(np.float32(1)), n.op("Mul", x, n.const(np.float32(0.5)))))
save("gates", n, picture(3, 8, 8))

# As TensorFlow's models come: rows, columns, channels, with transposes around.
n = Net(13)
x = n.op("Transpose", n.input("image", ["N", 9, 10, 3]), perm=[0, 3, 1, 2])
x = n.conv(x, 6, 3, auto_pad="SAME_UPPER", strides=[2, 2])
x = n.op("Transpose", x, perm=[0, 2, 3, 1])
x = n.op("Add", x, n.const(w(6)))
x = n.op("Pad", x, n.const(np.array([0, 1, 0, 0, 0, 0, 2, 0], np.int64)))
x = n.op("Concat", x, n.op("LeakyRelu", x, alpha=0.2), axis=3)
m = n.op("ReduceMean", x, axes=[1, 2], keepdims=0)
n.output(n.op("Softmax", n.op("MatMul", m, n.const(w(12, 5))), axis=-1))
image = picture(3, 9, 10).transpose(0, 2, 3, 1).copy()
save("pixels", n, image, pictures=False)

# Shape arithmetic over open sizes: the padding and the size of the result are computed in the graph.
n = Net(17)
x = n.input("input", ["batch", 3, "height", "width"])
def dim(x, i):
    return n.op("Gather", n.op("Shape", x), n.const(np.array(i, np.int64)), axis=0)
def minus(a, b):
    return n.op("Sub", a, n.const(np.array(b, np.int64)))
h = dim(x, 2)
odd = n.op("Mod", h, n.const(np.array(2, np.int64)))
zero = n.const(np.array([0], np.int64))
one = n.op("Unsqueeze", odd, n.const(np.array([0], np.int64)))
pads = n.op("Concat", zero, zero, zero, zero, zero, zero, one, one, axis=0)
x = n.op("Pad", x, pads)
x = n.conv(x, 4, 3, strides=[2, 2], pads=[1, 1, 1, 1])
size = n.op("Concat", n.op("Slice", n.op("Shape", x), n.const(np.array([0], np.int64)), n.const(np.array([2], np.int64))),
            n.op("Unsqueeze", h, zero), n.op("Unsqueeze", dim(n.inputs[0].name, 3), zero), axis=0)
x = n.op("Resize", x, "", "", size, mode="linear", coordinate_transformation_mode="half_pixel")
n.output(x)
save("open_sizes", n, picture(3, 7, 9))

# Two inputs, three outputs, one of them read further; broadcasting of several kinds.
n = Net(17)
a, b = n.input("left", [1, 3, 4, 6]), n.input("right", [1, 3, 1, 1])
s = n.op("Mul", n.op("Tanh", a), b)
rows = n.op("ReduceMean", a, axes=[3], keepdims=1)
d = n.op("Div", s, n.op("Add", n.op("Sigmoid", rows), n.const(np.float32(1))))
k = n.op("Add", d, n.const(w(1, 1, 4, 6)))
n.output(s, d, n.op("Max", k, n.const(np.float32(-0.25))))
save("several", n, picture(3, 4, 6), picture(3, 1, 1))

# Pools of every kind, transposed convolution, slopes, resizing by neighbours.
n = Net(17)
x = n.conv(n.input("input", [1, 2, 9, 9]), 4, 2, pads=[2, 2, 2, 2], dilations=[2, 2])
x = n.op("PRelu", x, n.const(w(4, 1, 1)))
x = n.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
x = n.op("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1], pads=[1, 1, 0, 0], count_include_pad=1)
x = n.op("ConvTranspose", x, n.const(w(4, 3, 3, 3)), n.const(w(6)), group=2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1])
x = n.op("Resize", x, "", n.const(np.array([1, 1, 2, 1.5], np.float32)), mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric")
x = n.op("Clip", x, n.const(np.float32(-0.1)), n.const(np.float32(0.7)))
n.output(x, n.op("GlobalMaxPool", x))
save("windows", n, picture(2, 9, 9))

# Pixels moved between space and channels, steps, reversal, reflection.
n = Net(17)
x = n.conv(n.input("input", [1, 3, 4, 6]), 8, 3, pads=[1, 1, 1, 1])
y = n.op("Reshape", x, n.const(np.array([1, 2, 2, 2, 4, 6], np.int64)))
y = n.op("Transpose", y, perm=[0, 3, 4, 1, 5, 2])
y = n.op("Reshape", y, n.const(np.array([1, 2, 8, 12], np.int64)))
i64 = lambda *v: n.const(np.array(v, np.int64))
z = n.op("Slice", x, i64(0, -1), i64(8, -7), i64(1, 3), i64(2, -2))
z = n.op("Pad", z, i64(0, 0, 1, 2, 0, 0, 3, 1), mode="reflect")
z = n.op("Gather", z, i64(3, 1), axis=1)
n.output(y, z)
save("moves", n, picture(3, 4, 6))

# Weights in a file beside the model, halves among them.
n = Net(17)
x = n.conv(n.input("input", [1, 3, 5, 5]), 4, 3)
x = n.op("GlobalAveragePool", x)
x = n.op("Flatten", x)
half = n.op("Cast", n.const(w(4, 3).astype(np.float16)), to=TensorProto.FLOAT)
n.output(n.op("MatMul", x, half))
save("beside", n, picture(3, 5, 5), external="beside.data")

# Pools by every option: gaps, ceilings, padding that counts and that does not.
n = Net(19)
x = n.input("input", [1, 2, 11, 10])
for kind in ["MaxPool", "AveragePool"]:
    for ceil in [0, 1]:
        for dilations in [[1, 1], [2, 3]]:
            for count in [0, 1] if kind == "AveragePool" else [None]:
                more = {} if count is None else {"count_include_pad": count}
                n.output(n.op(kind, x, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 2, 1], dilations=dilations, ceil_mode=ceil, **more))
n.output(n.op("MatMul", n.const(w(11)), n.op("ReduceMean", n.op("Squeeze", x, n.const(np.array([0], np.int64))), n.const(np.array([0], np.int64)), keepdims=0)))
save("pools", n, picture(2, 11, 10))
