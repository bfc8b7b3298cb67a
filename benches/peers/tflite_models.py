"""Writes the exported networks as TFLite, for LiteRT: tflite_models.py FOLDER"""

import os
import sys
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

import graph

ACTIVATIONS = {
    "none": lambda x: x,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    "hswish": lambda x: x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0),  # the form that the converter knows as HARD_SWISH
    "hsigmoid": lambda x: tf.nn.relu6(x + 3.0) * (1.0 / 6.0),
    "sigmoid": tf.nn.sigmoid,
}


def same(shape: list[int], layer: graph.Layer) -> bool:
    """Whether the layer's padding is TensorFlow's SAME, for which TFLite needs no layer of its own."""
    want = []
    for axis in (0, 1):
        size, kernel, stride = shape[1 + axis], layer.weight.shape[axis], layer.stride[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        want.append((total // 2, total - total // 2))
    (top, bottom), (left, right) = want
    return layer.pad == [top, left, bottom, right]


def convolution(layer: graph.Layer, shape: list[int], x: tf.Tensor) -> tf.Tensor:
    padding = "SAME"
    if not same(shape, layer):
        top, left, bottom, right = layer.pad
        if any(layer.pad):
            x = tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])
        padding = "VALID"
    if layer.op == "depthwise":
        x = tf.nn.depthwise_conv2d(x, layer.weight, [1, *layer.stride, 1], padding)
    else:
        x = tf.nn.conv2d(x, layer.weight, layer.stride, padding)
    return x if layer.bias is None else tf.nn.bias_add(x, layer.bias)


def run(net: graph.Net, x: tf.Tensor) -> tf.Tensor:
    """The network on tensors of TensorFlow."""
    outputs = []
    for layer in net.layers:
        inputs = [outputs[i] for i in layer.inputs]
        match layer.op:
            case "input":
                out = x
            case "conv" | "depthwise":
                out = convolution(layer, net.layers[layer.inputs[0]].shape, inputs[0])
            case "act":
                out = inputs[0]
            case "add":
                out = inputs[0] + inputs[1]
            case "scale":
                out = inputs[0] * inputs[1]
            case "global_pool":
                out = tf.reduce_mean(inputs[0], [1, 2], keepdims=True)
            case "dense":
                flat = tf.reshape(inputs[0], [1, -1])
                out = tf.nn.bias_add(tf.linalg.matmul(flat, layer.weight), layer.bias)
            case _:
                raise ValueError(f"{layer.name}: no layer `{layer.op}`")
        outputs.append(ACTIVATIONS[layer.act](out))
    return outputs[-1]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    for name in [*graph.names(folder), graph.CALL]:
        net = graph.load(folder, name)
        concrete = tf.function(lambda x: run(net, x)).get_concrete_function(tf.TensorSpec(net.layers[0].shape, tf.float32))
        model = tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert()
        (folder / f"{name}.tflite").write_bytes(model)
        print(f"{name}: TFLite, {len(model)} bytes")


if __name__ == "__main__":
    main()
