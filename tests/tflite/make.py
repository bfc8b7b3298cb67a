"""Writes cases.safetensors: small TFLite models, one operator or a few each, with inputs and what TensorFlow's own interpreter answers.

`NAME.model` holds the bytes of the file, `NAME.in.I` and `NAME.out.I` the tensors, in the order of the model's signature-less ends.

    pip install ai-edge-litert==2.3.0 numpy safetensors
    python make.py
"""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as s
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from safetensors.numpy import save_file

TYPES = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int32): 2, np.dtype(np.int64): 4, np.dtype(np.int8): 9}
rng = np.random.default_rng(7)
cases = {}


def values(*shape):
    return rng.uniform(-2, 2, shape).astype(np.float32)


class Model:
    """Tensors and operators in the making; tensors are their indices."""

    def __init__(self):
        self.tensors, self.operators, self.inputs, self.outputs, self.given = [], [], [], [], []

    def tensor(self, shape, dtype=np.float32, data=None, signature=None):
        self.tensors.append([list(shape), np.dtype(dtype), data, signature])
        return len(self.tensors) - 1

    def const(self, data, dtype=None):
        data = np.asarray(data, dtype)
        if data.dtype == np.int64 and dtype is None:
            data = data.astype(np.int32)
        return self.tensor(data.shape, data.dtype, data)

    def input(self, *shape, signature=None):
        self.inputs.append(self.tensor(shape, signature=signature))
        self.given.append(values(*shape))
        return self.inputs[-1]

    def op(self, name, inputs, options=None, n=1, dtype=np.float32, **fields):
        outputs = [self.tensor([], dtype) for _ in range(n)]
        table = None
        if options:
            table = getattr(s, options + "T")()
            for key, value in fields.items():
                assert hasattr(table, key), (options, key)
                setattr(table, key, value)
        self.operators.append((getattr(s.BuiltinOperator, name), inputs, outputs, options, table))
        return outputs[0] if n == 1 else outputs

    def bytes(self):
        model, graph = s.ModelT(), s.SubGraphT()
        model.version, model.description, model.subgraphs = 3, "by hand", [graph]
        model.buffers, model.operatorCodes = [s.BufferT()], []
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], self.inputs, self.outputs
        for i, (shape, dtype, data, signature) in enumerate(self.tensors):
            t = s.TensorT()
            t.name, t.shape, t.type, t.buffer = f"t{i}", shape, TYPES[dtype], 0
            t.shapeSignature = signature
            if data is not None:
                buffer = s.BufferT()
                buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
                t.buffer = len(model.buffers)
                model.buffers.append(buffer)
            if dtype == np.int8:
                t.quantization = s.QuantizationParametersT()
                t.quantization.scale, t.quantization.zeroPoint = [0.1], [0]
            graph.tensors.append(t)
        for code, inputs, outputs, options, table in self.operators:
            o = s.OperatorT()
            if code not in [c.builtinCode for c in model.operatorCodes]:
                c = s.OperatorCodeT()
                c.builtinCode, c.deprecatedBuiltinCode, c.version = code, min(code, 127), 1
                model.operatorCodes.append(c)
            o.opcodeIndex = [c.builtinCode for c in model.operatorCodes].index(code)
            o.inputs, o.outputs = inputs, outputs
            if options:
                o.builtinOptionsType, o.builtinOptions = getattr(s.BuiltinOptions, options), table
            graph.operators.append(o)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def save(self, name, *outputs):
        self.outputs = list(outputs)
        run = lambda: Interpreter(model_content=self.bytes(), experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
        first = run()
        first.allocate_tensors()
        for detail in first.get_tensor_details():
            if detail["index"] < len(self.tensors) and self.tensors[detail["index"]][2] is None and detail["index"] not in self.inputs:
                self.tensors[detail["index"]][0] = [int(n) for n in detail["shape"]]
        data = self.bytes()
        runner = run()
        runner.allocate_tensors()
        for i, (tensor, value) in enumerate(zip(self.inputs, self.given)):
            runner.set_tensor(tensor, value)
            cases[f"{name}.in.{i}"] = value
        runner.invoke()
        for i, tensor in enumerate(outputs):
            cases[f"{name}.out.{i}"] = np.ascontiguousarray(runner.get_tensor(tensor), np.float32)
        cases[f"{name}.model"] = np.frombuffer(data, np.uint8)


SAME, VALID = 0, 1
NONE, RELU, RELU_N1, RELU6 = range(4)


def conv(name, x, kernel, out, in_c=None, act=NONE, padding=SAME, stride=(1, 1), dilation=(1, 1)):
    m = Model()
    a = m.input(*x)
    w = m.const(values(out, *kernel, in_c or x[3]))
    y = m.op("CONV_2D", [a, w, m.const(values(out))], "Conv2DOptions", padding=padding, strideH=stride[0], strideW=stride[1],
             dilationHFactor=dilation[0], dilationWFactor=dilation[1], fusedActivationFunction=act)
    m.save(name, y)


conv("conv", (1, 6, 7, 3), (3, 3), 5)
conv("conv_even_stride", (1, 8, 6, 3), (3, 3), 4, stride=(2, 2), act=RELU6)
conv("conv_valid", (1, 7, 9, 2), (3, 2), 4, padding=VALID, stride=(1, 2), act=RELU)
conv("conv_dilated", (1, 9, 8, 3), (3, 3), 4, dilation=(2, 3), act=RELU_N1)
conv("conv_groups", (1, 5, 5, 6), (3, 3), 4, in_c=3, act=RELU)
conv("conv_pointwise", (1, 4, 4, 8), (1, 1), 3)

for name, x, kernel, multiplier, fields in [
    ("depthwise", (1, 6, 7, 5), (3, 3), 1, dict(padding=SAME)),
    ("depthwise_multiplied", (1, 6, 7, 3), (3, 3), 2, dict(padding=SAME, fusedActivationFunction=RELU6)),
    ("depthwise_stride", (1, 8, 8, 4), (5, 3), 1, dict(padding=SAME, strideH=2, strideW=2)),
    ("depthwise_dilated", (1, 9, 9, 4), (3, 3), 1, dict(padding=VALID, dilationHFactor=2, dilationWFactor=2)),
    ("depthwise_of_one", (1, 5, 5, 1), (3, 3), 4, dict(padding=VALID)),
]:
    m = Model()
    a, w, b = m.input(*x), m.const(values(1, *kernel, x[3] * multiplier)), m.const(values(x[3] * multiplier))
    fields = dict(strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1) | fields
    m.save(name, m.op("DEPTHWISE_CONV_2D", [a, w, b], "DepthwiseConv2DOptions", depthMultiplier=multiplier, **fields))

for name, x, keep, bias in [
    ("dense", (1, 6), False, True),
    ("dense_picture", (1, 2, 3, 4), False, True),
    ("dense_rows", (1, 5, 6), True, True),
    ("dense_flattened", (1, 4, 6), False, False),
]:
    m = Model()
    inner = 24 if name == "dense_picture" else 6
    inputs = [m.input(*x), m.const(values(7, inner))] + ([m.const(values(7))] if bias else [])
    y = m.op("FULLY_CONNECTED", inputs, "FullyConnectedOptions", keepNumDims=keep, fusedActivationFunction=RELU)
    m.save(name, y)

for op in ["AVERAGE_POOL_2D", "MAX_POOL_2D"]:
    for padding, stride in [(SAME, 2), (VALID, 1), (SAME, 1)]:
        m = Model()
        y = m.op(op, [m.input(1, 7, 6, 3)], "Pool2DOptions", padding=padding, strideH=stride, strideW=stride, filterHeight=3,
                 filterWidth=2, fusedActivationFunction=RELU if stride == 2 else NONE)
        m.save(f"{op.lower()}_{'same' if padding == SAME else 'valid'}_{stride}", y)

for axes, keep in [([1, 2], True), ([1, 2], False), ([3], True), ([-1], False), ([2], True), ([1, 2, 3], True)]:
    m = Model()
    y = m.op("MEAN", [m.input(1, 4, 5, 6), m.const(np.array(axes, np.int32))], "ReducerOptions", keepDims=keep)
    m.save("mean_" + "_".join(map(str, axes)).replace("-", "m") + ("_kept" if keep else ""), y)

for op in ["ADD", "SUB", "MUL", "DIV"]:
    options = op.capitalize() + "Options"
    for name, shape in [("channel", (5,)), ("picture", (1, 3, 4, 5)), ("number", ()), ("pixel", (1, 1, 1, 5)), ("column", (1, 3, 1, 1))]:
        for turned in [False, True]:
            m = Model()
            pair = [m.input(1, 3, 4, 5), m.const(values(*shape) + 3 * np.float32(1))]
            m.save(f"{op.lower()}_{name}{'_turned' if turned else ''}", m.op(op, pair[::-1] if turned else pair, options))
    for name, a, b in [("two", (1, 3, 4, 5), (1, 3, 4, 5)), ("two_pixel", (1, 3, 4, 5), (1, 1, 1, 5)), ("two_stretched", (1, 3, 1, 5), (1, 1, 4, 5)),
                       ("two_lists", (1, 6), (1, 6)), ("two_turned", (1, 1, 1, 5), (1, 3, 4, 5))]:
        m = Model()
        a, b = m.input(*a), m.input(*b)
        m.given[1] = np.abs(m.given[1]) + 1
        m.save(f"{op.lower()}_{name}", m.op(op, [a, b], options, fusedActivationFunction=RELU))

m = Model()
m.save("pad", m.op("PAD", [m.input(1, 3, 4, 2), m.const([[0, 0], [1, 2], [0, 3], [0, 0]])], "PadOptions"))
m = Model()
m.save("pad_channels", m.op("PAD", [m.input(1, 3, 4, 2), m.const([[0, 0], [0, 0], [1, 0], [2, 1]])], "PadOptions"))
m = Model()
m.save("pad_value", m.op("PADV2", [m.input(1, 3, 4, 2), m.const([[0, 0], [1, 2], [0, 3], [0, 0]]), m.const(1.5, np.float32)], "PadV2Options"))
for mode in [0, 1]:
    m = Model()
    m.save(f"mirror_{mode}", m.op("MIRROR_PAD", [m.input(1, 3, 4, 2), m.const([[0, 0], [1, 1], [0, 1], [0, 0]])], "MirrorPadOptions", mode=mode))

m = Model()
m.save("reshape", m.op("RESHAPE", [m.input(1, 3, 4, 2), m.const([1, 6, -1])], "ReshapeOptions", newShape=[1, 6, -1]))
m = Model()
m.save("reshape_option", m.op("RESHAPE", [m.input(1, 3, 4, 2)], "ReshapeOptions", newShape=[1, 24]))
m = Model()
m.save("squeeze", m.op("SQUEEZE", [m.input(1, 1, 1, 9)], "SqueezeOptions", squeezeDims=[1, 2]))
m = Model()
m.save("expand", m.op("EXPAND_DIMS", [m.input(1, 4, 3), m.const(-1)], "ExpandDimsOptions"))
m = Model()
m.save("transpose", m.op("TRANSPOSE", [m.input(1, 3, 4, 2), m.const([0, 3, 2, 1])], "TransposeOptions"))

for shape in [(1, 9), (1, 3, 4, 5)]:
    m = Model()
    m.save(f"softmax_{len(shape)}", m.op("SOFTMAX", [m.input(*shape)], "SoftmaxOptions", beta=1.0))
for op in ["RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH", "HARD_SWISH", "NEG", "SQUARE"]:
    m = Model()
    a = m.input(1, 3, 4, 5)
    m.given[0] *= 4
    m.save(op.lower(), m.op(op, [a]))
m = Model()
m.save("leaky", m.op("LEAKY_RELU", [m.input(1, 3, 4, 5)], "LeakyReluOptions", alpha=0.3))
m = Model()
m.save("prelu", m.op("PRELU", [m.input(1, 3, 4, 5), m.const(values(1, 1, 5))]))
m = Model()
a = m.input(1, 3, 4, 5)
m.save("limits", m.op("MINIMUM", [m.op("MAXIMUM", [a, m.const(-0.5, np.float32)], "MaximumMinimumOptions"), m.const(1.25, np.float32)], "MaximumMinimumOptions"))

for axis in [1, 2, 3, -1]:
    m = Model()
    shapes = [[1, 3, 4, 5], [1, 3, 4, 5]]
    shapes[1][axis] = 2
    y = m.op("CONCATENATION", [m.input(*shape) for shape in shapes], "ConcatenationOptions", axis=axis)
    m.save(f"concat_{axis}".replace("-", "m"), y)
for axis in [1, 3]:
    m = Model()
    m.save(f"split_{axis}", *m.op("SPLIT", [m.const(axis), m.input(1, 4, 3, 6)], "SplitOptions", n=2, numSplits=2))
m = Model()
m.save("split_v", *m.op("SPLIT_V", [m.input(1, 4, 3, 6), m.const([1, -1, 2]), m.const(3)], "SplitVOptions", n=3, numSplits=3))
m = Model()
m.save("unpack", *m.op("UNPACK", [m.input(1, 3, 4, 2)], "UnpackOptions", n=3, num=3, axis=1))
m = Model()
m.save("slice", m.op("SLICE", [m.input(1, 4, 5, 6), m.const([0, 1, 2, 3]), m.const([1, 2, -1, 2])], "SliceOptions"))
m = Model()
m.save("strided", m.op("STRIDED_SLICE", [m.input(1, 6, 7, 4), m.const([0, 1, 0, 0]), m.const([1, 6, 7, 3]), m.const([1, 2, 3, 1])],
                       "StridedSliceOptions", beginMask=1, endMask=1))
m = Model()
m.save("strided_shrunk", m.op("STRIDED_SLICE", [m.input(1, 6, 7, 4), m.const([0, -2, 6, 0]), m.const([1, 0, 0, 4]), m.const([1, 1, -2, 1])],
                              "StridedSliceOptions", beginMask=0, endMask=12, shrinkAxisMask=2))
m = Model()
m.save("gather", m.op("GATHER", [m.input(1, 4, 3, 5), m.const([3, 0, 3, 1])], "GatherOptions", axis=3))
m = Model()
m.save("pack", m.op("PACK", [m.input(1, 4), m.input(1, 4)], "PackOptions", valuesCount=2, axis=1))

for op in ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"]:
    for name, fields in [("plain", {}), ("corners", dict(alignCorners=True)), ("half", dict(halfPixelCenters=True))]:
        for size in [[7, 9], [3, 2]]:
            m = Model()
            options = "ResizeBilinearOptions" if op == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
            m.save(f"{op.lower()}_{name}_{size[0]}", m.op(op, [m.input(1, 4, 5, 3), m.const(size)], options, **fields))

for name, x, kernel, out, padding, stride, size in [
    ("deconv_same", (1, 4, 5, 3), (3, 3), 2, SAME, 2, (8, 10)),
    ("deconv_same_odd", (1, 4, 5, 3), (3, 3), 2, SAME, 2, (7, 9)),
    ("deconv_valid", (1, 3, 3, 2), (4, 4), 3, VALID, 2, (8, 8)),
    ("deconv_more", (1, 3, 3, 2), (2, 2), 3, VALID, 3, (9, 9)),
    ("deconv_one", (1, 4, 4, 2), (3, 3), 3, SAME, 1, (4, 4)),
]:
    m = Model()
    a, w, b = m.input(*x), m.const(values(out, *kernel, x[3])), m.const(values(out))
    y = m.op("TRANSPOSE_CONV", [m.const([1, *size, out]), w, a, b], "TransposeConvOptions", padding=padding, strideH=stride, strideW=stride)
    m.save(name, y)

m = Model()
m.save("to_depth", m.op("SPACE_TO_DEPTH", [m.input(1, 4, 6, 3)], "SpaceToDepthOptions", blockSize=2))
m = Model()
m.save("to_space", m.op("DEPTH_TO_SPACE", [m.input(1, 2, 3, 12)], "DepthToSpaceOptions", blockSize=2))

# A batch that is left open, and the arithmetic that converters put before a reshape then.
m = Model()
a = m.input(1, 3, 4, 2, signature=[-1, 3, 4, 2])
shape = m.op("SHAPE", [a], "ShapeOptions", dtype=np.int32, outType=2)
n = m.op("STRIDED_SLICE", [shape, m.const([0]), m.const([1]), m.const([1])], "StridedSliceOptions", dtype=np.int32, shrinkAxisMask=1)
shape = m.op("PACK", [n, m.const(24)], "PackOptions", dtype=np.int32, valuesCount=2, axis=0)
m.save("open_batch", m.op("RESHAPE", [a, shape], "ReshapeOptions"))

# Weights as halves.
m = Model()
w = m.op("DEQUANTIZE", [m.const(values(4, 3, 3, 2).astype(np.float16))], "DequantizeOptions")
b = m.op("DEQUANTIZE", [m.const(values(4).astype(np.float16))], "DequantizeOptions")
y = m.op("CONV_2D", [m.input(1, 5, 5, 2), w, b], "Conv2DOptions", padding=SAME, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1)
m.save("halves", y)

# A branch that is an output too.
m = Model()
a = m.input(1, 4, 4, 3)
y = m.op("RELU", [a])
z = m.op("MEAN", [y, m.const([1, 2])], "ReducerOptions", keepDims=False)
m.save("branches", y, z, m.op("SOFTMAX", [z], "SoftmaxOptions", beta=1.0))

# What is refused.
m = Model()
m.save("refused_exp", m.op("EXP", [m.input(1, 5)], "ExpOptions"))
m = Model()
y = m.op("DEQUANTIZE", [m.op("QUANTIZE", [m.input(1, 5)], "QuantizeOptions", dtype=np.int8)], "DequantizeOptions")
m.save("refused_integers", y)

save_file(cases, "cases.safetensors")
names = [n for n in cases if n.endswith(".model")]
print(len(names), "models of", sum(cases[n].size for n in names), "bytes")
