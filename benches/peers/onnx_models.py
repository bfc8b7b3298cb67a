"""Writes the exported networks as ONNX, and the input that all engines are given: onnx_models.py FOLDER"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import graph


class Writer:
    """One ONNX graph in the making. Tensors are NCHW."""

    def __init__(self, net: graph.Net):
        self.net = net
        self.nodes, self.constants = [], {}

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name)
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], output, **attributes))
        return output

    def activate(self, x: str, act: str) -> str:
        out = f"{x}.{act}"
        match act:
            case "none":
                return x
            case "relu":
                return self.node("Relu", [x], out)
            case "relu6":
                return self.node("Clip", [x, self.constant("zero", np.array(0.0)), self.constant("six", np.array(6.0))], out)
            case "hswish":
                return self.node("HardSwish", [x], out)
            case "hsigmoid":
                return self.node("HardSigmoid", [x], out, alpha=1 / 6, beta=0.5)
            case "sigmoid":
                return self.node("Sigmoid", [x], out)
        raise ValueError(f"no activation `{act}`")

    def convolution(self, layer: graph.Layer, x: str) -> str:
        weight, groups = layer.weight, layer.groups
        if layer.op == "depthwise":
            rows, columns, channels, multiplier = weight.shape
            weight, groups = weight.reshape(rows, columns, 1, channels * multiplier), channels
        inputs = [x, self.constant(f"{layer.name}.weight", weight.transpose(3, 2, 0, 1))]
        if layer.bias is not None:
            inputs.append(self.constant(f"{layer.name}.bias", layer.bias))
        kernel = list(weight.shape[:2])
        return self.node("Conv", inputs, layer.name, kernel_shape=kernel, strides=layer.stride, pads=layer.pad, group=groups)

    def layer(self, layer: graph.Layer, inputs: list[str]) -> str:
        match layer.op:
            case "input":
                return layer.name
            case "conv" | "depthwise":
                out = self.convolution(layer, inputs[0])
            case "act":
                out = inputs[0]
            case "add":
                out = self.node("Add", inputs, layer.name)
            case "scale":
                out = self.node("Mul", inputs, layer.name)
            case "global_pool":
                out = self.node("GlobalAveragePool", inputs, layer.name)
            case "dense":
                flat = self.node("Flatten", inputs, f"{layer.name}.flat", axis=1)
                weight = self.constant(f"{layer.name}.weight", layer.weight.T)
                bias = self.constant(f"{layer.name}.bias", layer.bias)
                out = self.node("Gemm", [flat, weight, bias], layer.name, transB=1)
            case _:
                raise ValueError(f"{layer.name}: no layer `{layer.op}`")
        return self.activate(out, layer.act)

    def model(self) -> onnx.ModelProto:
        outputs = []
        for layer in self.net.layers:
            outputs.append(self.layer(layer, [outputs[i] for i in layer.inputs]))
        self.nodes[-1].output[0] = "output"
        _, height, width, channels = self.net.layers[0].shape
        made = helper.make_graph(
            self.nodes,
            self.net.name,
            [helper.make_tensor_value_info(outputs[0], TensorProto.FLOAT, [1, channels, height, width])],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, self.net.layers[-1].shape[3]])],
            list(self.constants.values()),
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    folder = Path(sys.argv[1])
    for name in [*graph.names(folder), graph.CALL]:
        net = graph.load(folder, name)
        onnx.save(Writer(net).model(), folder / f"{name}.onnx")
        net.input().tofile(folder / f"{name}.input")
        print(f"{name}: {net.macs / 1e6:.1f} million multiply-adds, {net.params / 1e6:.2f} million parameters")


if __name__ == "__main__":
    main()
