"""Writes first inputs for the targets that read binary files: `python seeds.py FOLDER`, then `./run.sh merge` into seeds/.

    pip install onnx numpy safetensors pillow
"""

import io
import json
import pathlib
import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import load_file

out = pathlib.Path(sys.argv[1])
here = pathlib.Path(__file__).parent
rng = np.random.default_rng(1)


def put(target, name, data):
    (out / target).mkdir(parents=True, exist_ok=True)
    (out / target / name).write_bytes(data)


def const(name, *shape, data=None, dtype=np.float32):
    data = rng.uniform(-1, 1, shape).astype(dtype) if data is None else np.asarray(data, dtype)
    return numpy_helper.from_array(data, name)


def onnx_model(name, nodes, constants=(), shape=(1, 4, 6, 5), outputs=("y",), opset=17):
    ends = lambda names, s: [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n in names]
    graph = helper.make_graph(nodes, "g", ends(["x"], shape), ends(outputs, None), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    put("onnx", name, model.SerializeToString())


n = helper.make_node
ints = lambda name, *v: const(name, data=v, dtype=np.int64)
onnx_model("conv", [n("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 1]), n("Relu", ["c"], ["y"])],
           [const("w", 6, 4, 3, 3), const("b", 6)])
onnx_model("groups", [n("Conv", ["x", "w"], ["y"], group=2, dilations=[2, 1], auto_pad="SAME_UPPER")], [const("w", 6, 2, 3, 3)])
onnx_model("depthwise", [n("Conv", ["x", "w"], ["c"], group=4, kernel_shape=[3, 3]),
                         n("BatchNormalization", ["c", "s", "b", "m", "v"], ["d"], epsilon=1e-3), n("HardSwish", ["d"], ["y"])],
           [const("w", 4, 1, 3, 3), const("s", 4), const("b", 4), const("m", 4), const("v", data=[1, 2, 3, 4])])
onnx_model("deconv", [n("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_padding=[1, 1])], [const("w", 4, 3, 3, 3)])
for op in ["Relu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "LeakyRelu", "GlobalAveragePool", "Identity", "Dropout",
           "Softmax", "Flatten", "Exp", "Erf", "Shape", "ReduceMean", "Squeeze"]:
    onnx_model(op.lower(), [n(op, ["x"], ["y"])], opset=13)
onnx_model("clip", [n("Clip", ["x", "a", "b"], ["y"])], [const("a", data=0.0), const("b", data=6.0)])
onnx_model("clip6", [n("Clip", ["x"], ["y"], min=0.0, max=6.0)], opset=9)
onnx_model("silu", [n("Sigmoid", ["x"], ["s"]), n("Mul", ["x", "s"], ["y"])])
onnx_model("prelu", [n("PRelu", ["x", "s"], ["y"])], [const("s", 4, 1, 1)])
for op in ["Add", "Sub", "Mul", "Div"]:
    onnx_model(op.lower(), [n(op, ["x", "k"], ["y"])], [const("k", data=[[[1.0]], [[2]], [[3]], [[4]]])])
    onnx_model(op.lower() + "_pool", [n("GlobalAveragePool", ["x"], ["p"]), n(op, ["x", "p"], ["y"])])
onnx_model("maxpool", [n("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1)])
onnx_model("avgpool", [n("AveragePool", ["x"], ["y"], kernel_shape=[2, 3], count_include_pad=1, pads=[0, 1, 1, 0])])
onnx_model("mean", [n("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], opset=13)
onnx_model("mean18", [n("ReduceMean", ["x", "a"], ["y"], keepdims=1)], [ints("a", -1, 2)], opset=18)
onnx_model("concat", [n("Relu", ["x"], ["r"]), n("Concat", ["x", "r"], ["y"], axis=1)])
onnx_model("split", [n("Split", ["x", "s"], ["a", "b"], axis=1), n("Add", ["a", "b"], ["y"])], [ints("s", 2, 2)])
onnx_model("resize", [n("Resize", ["x", "", "s"], ["y"], mode="nearest")], [const("s", data=[1, 1, 2, 2])])
onnx_model("linear", [n("Resize", ["x", "", "", "z"], ["y"], mode="linear")], [ints("z", 1, 4, 9, 7)])
onnx_model("pad", [n("Pad", ["x", "p", "v"], ["y"])], [ints("p", 0, 0, 1, 1, 0, 0, 0, 2), const("v", data=0.0)])
onnx_model("reshape", [n("Reshape", ["x", "s"], ["y"])], [ints("s", 1, 2, 2, -1, 5)])
onnx_model("shuffle", [n("Reshape", ["x", "s"], ["a"]), n("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
                       n("Reshape", ["b", "t"], ["y"])], [ints("s", 1, 2, 2, 6, 5), ints("t", 1, 4, 6, 5)])
onnx_model("transpose", [n("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1])])
onnx_model("slice", [n("Slice", ["x", "a", "b", "c", "d"], ["y"])], [ints("a", 1), ints("b", 5), ints("c", 2), ints("d", 2)])
onnx_model("gather", [n("Gather", ["x", "i"], ["y"], axis=1)], [ints("i", 3, 0, 1)])
onnx_model("unsqueeze", [n("GlobalAveragePool", ["x"], ["p"]), n("Squeeze", ["p", "a"], ["q"]), n("Unsqueeze", ["q", "a"], ["r"]),
                         n("Mul", ["x", "r"], ["y"])], [ints("a", 2, 3)])
onnx_model("gemm", [n("GlobalAveragePool", ["x"], ["p"]), n("Flatten", ["p"], ["f"]),
                    n("Gemm", ["f", "w", "b"], ["y"], transB=1, alpha=0.5)], [const("w", 3, 4), const("b", 3)])
onnx_model("matmul", [n("Flatten", ["x"], ["f"]), n("MatMul", ["f", "w"], ["m"]), n("Add", ["m", "b"], ["y"])],
           [const("w", 120, 3), const("b", 3)])
onnx_model("shapes", [
    n("Shape", ["x"], ["s"]), n("Gather", ["s", "i"], ["g"], axis=0), n("Unsqueeze", ["g", "z"], ["u"]),
    n("Concat", ["u", "m"], ["t"], axis=0), n("Cast", ["t"], ["k"], to=TensorProto.INT64), n("Reshape", ["x", "k"], ["y"])],
    [const("i", data=0, dtype=np.int64), ints("z", 0), ints("m", -1)])
onnx_model("folded", [
    n("ConstantOfShape", ["n"], ["c"], value=const("", data=[2.0])), n("Range", ["a", "b", "d"], ["r"]), n("Cast", ["r"], ["f"], to=1),
    n("Expand", ["f", "n"], ["e"]), n("Where", ["q", "e", "c"], ["w"]), n("Tile", ["w", "o"], ["t"]), n("Pow", ["t", "c"], ["p"]),
    n("ReduceSum", ["p", "o"], ["h"], keepdims=0), n("Add", ["x", "h"], ["y"])],
    [ints("n", 5), ints("o", 0)] + [const(k, data=v, dtype=np.int64) for k, v in [("a", 0), ("b", 5), ("d", 1)]]
    + [const("q", data=[True, False, True, True, False], dtype=np.bool_)], opset=17)
onnx_model("residual", [
    n("Conv", ["x", "w"], ["a"]), n("Clip", ["a"], ["c"], min=0.0, max=6.0), n("Conv", ["c", "d"], ["e"], group=8, pads=[1, 1, 1, 1]),
    n("Conv", ["e", "p"], ["f"]), n("Add", ["x", "f"], ["g"]), n("GlobalAveragePool", ["g"], ["s"]), n("Conv", ["s", "q"], ["r"]),
    n("HardSigmoid", ["r"], ["h"], alpha=1 / 6), n("Mul", ["h", "g"], ["y"])],
    [const("w", 8, 4, 1, 1), const("d", 8, 1, 3, 3), const("p", 4, 8, 1, 1), const("q", 4, 4, 1, 1)], opset=10)
onnx_model("nhwc", [n("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]), n("Conv", ["t", "w"], ["y"])], [const("w", 2, 3, 1, 1)], (1, 4, 5, 3))
onnx_model("flat", [n("Gemm", ["x", "w"], ["y"])], [const("w", 4, 3)], (1, 4))
onnx_model("open", [n("Relu", ["x"], ["y"])], shape=("batch", 3, "h", "w"))
onnx_model("half", [n("Cast", ["k"], ["f"], to=1), n("Add", ["x", "f"], ["y"])], [const("k", 5, dtype=np.float16)])
onnx_model("raw", [n("Constant", [], ["k"], value_floats=[1.0, 2, 3, 4, 5]), n("Mul", ["x", "k"], ["y"]), n("Relu", ["y"], ["z"])],
           outputs=("y", "z"))

for name, data in load_file(here / "../tests/tflite/cases.safetensors").items():
    if name.endswith(".model"):
        put("tflite", name[: -len(".model")], data.tobytes())

# The first byte: which net, header alone or file, data behind a header.
blocks = {"a.weight": [2, 3, 3, 3], "b.depthwise.weight": [2, 1, 3, 3], "b.pointwise.weight": [3, 2, 1, 1], "d.weight": [2, 3], "d.bias": [2]}
for layer, c in [("a", 2), ("b.depthwise", 2), ("b.pointwise", 3)]:
    blocks |= {f"{layer}.bn.{t}": [c] for t in ["weight", "bias", "running_mean", "running_var"]}
layers = {"a.weight": [2, 2, 3, 3], "a.bias": [2], "k.value": [2, 2, 2]} | {
    f"a.bn.{t}": [2] for t in ["weight", "bias", "running_mean", "running_var"]}
for net, tensors in enumerate([blocks, layers]):
    header, at = {}, 0
    for name, shape in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + 4 * int(np.prod(shape))]}
        at = header[name]["data_offsets"][1]
    text = json.dumps(header, separators=(",", ":")).encode()
    put("checkpoint", f"header{net}", bytes([net | -(-at // 16) << 2]) + text)
    put("checkpoint", f"file{net}", bytes([net | 2]) + len(text).to_bytes(8, "little") + text + bytes(at))
    put("checkpoint", f"half{net}", bytes([net]) + text.replace(b"F32", b"F16"))

picture = Image.fromarray(rng.integers(0, 255, (9, 11, 3), np.uint8))
exif = Image.Exif()
exif[0x112] = 6
for name, p, how in [
    ("rgb.png", picture, {}), ("grey.png", picture.convert("L"), {}), ("palette.png", picture.convert("P"), {}),
    ("rgba.png", picture.convert("RGBA"), {}), ("la.png", picture.convert("LA"), {}), ("bit.png", picture.convert("1"), {}),
    ("deep.png", picture.convert("I;16"), {}), ("rgb.jpg", picture, {}), ("grey.jpg", picture.convert("L"), {}),
    ("progressive.jpg", picture, {"progressive": True}), ("cmyk.jpg", picture.convert("CMYK"), {}), ("444.jpg", picture, {"subsampling": 0}),
    ("422.jpg", picture, {"subsampling": 1}), ("turned.jpg", picture, {"exif": exif}), ("restarts.jpg", picture, {"restart_marker_blocks": 1}),
]:
    file = io.BytesIO()
    p.save(file, name.split(".")[1].replace("jpg", "jpeg"), **how)
    put("picture", name, file.getvalue())
for target in ["planner", "engines"]:
    for i in range(40):
        put(target, f"random{i}", rng.integers(0, 256, 20 + 12 * i, np.uint8).tobytes())
