"""The networks as `mnc-peer export` writes them, made ready for other formats.

Batch norm is folded into the layer before it and padding becomes an attribute of the layer behind it, as PyTorch's own ONNX
export does both: no engine has to find these two by itself.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

# A net of hardly any work: what it takes is what calling an engine costs.
CALL = "call"


@dataclass
class Layer:
    """One layer: weights are HWIO (HWCM if depthwise, [in, out] if dense); `shape` is that of the output, NHWC."""

    name: str
    op: str
    inputs: list[int]
    shape: list[int]
    act: str = "none"
    stride: list[int] = field(default_factory=lambda: [1, 1])
    pad: list[int] = field(default_factory=lambda: [0, 0, 0, 0])  # top, left, bottom, right
    groups: int = 1
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


@dataclass
class Net:
    """A network: layers in order of execution; the first is the input, the last the output."""

    name: str
    macs: int
    params: int
    layers: list[Layer]

    def input(self) -> np.ndarray:
        """The input that every engine is given, NHWC."""
        return np.random.default_rng(0).normal(0, 1, self.layers[0].shape).astype(np.float32)


def names(folder: Path) -> list[str]:
    """The exported networks of a folder."""
    found = sorted(path.stem for path in folder.glob("*.json"))
    if not found:
        raise SystemExit(f"{folder}: no networks; `mnc-peer export` writes them")
    return found


def load(folder: Path, name: str) -> Net:
    """Reads one network, or makes the one that is called `CALL`."""
    if name == CALL:
        rng = np.random.default_rng(1)
        dense = rng.normal(0, 1, (8, 8)).astype(np.float32)
        layers = [
            Layer("input", "input", [], [1, 4, 4, 8]),
            Layer("pool", "global_pool", [0], [1, 1, 1, 8]),
            Layer("dense", "dense", [1], [1, 1, 1, 8], weight=dense, bias=np.zeros(8, np.float32)),
        ]
        return Net(name, dense.size, dense.size + 8, layers)
    net = json.loads((folder / f"{name}.json").read_text())
    weights = np.fromfile(folder / f"{name}.weights", "<f4")
    return Net(name, net["macs"], net["params"], _fold(net["layers"], weights))


def _fold(raw: list[dict], weights: np.ndarray) -> list[Layer]:
    """The layers without those of batch norm and padding."""

    def array(place: dict | None) -> np.ndarray | None:
        if place is None:
            return None
        size = int(np.prod(place["shape"]))
        return weights[place["start"] : place["start"] + size].reshape(place["shape"])

    layers: list[Layer] = []
    now: dict[int, int] = {}  # where a layer of the file is among `layers`
    pads: dict[int, list[int]] = {}  # what a layer of the file pads its input with
    for index, node in enumerate(raw):
        op, inputs = node["op"], node["inputs"]
        if op == "pad":
            now[index], pads[index] = now[inputs[0]], node["pad"]
            continue
        if op == "batch_norm":
            now[index] = now[inputs[0]]
            _batch_norm(layers[now[index]], node, array)
            continue
        layer = Layer(node["name"], op, [now[i] for i in inputs], node["shape"])
        layer.act = node.get("act", "none")
        layer.stride = node.get("stride", layer.stride)
        layer.groups = node.get("groups", 1)
        layer.weight, layer.bias = array(node.get("weight")), array(node.get("bias"))
        if any(i in pads for i in inputs):
            if op not in ("conv", "depthwise"):
                raise ValueError(f"{layer.name}: padding before `{op}`")
            layer.pad = pads[inputs[0]]
        now[index] = len(layers)
        layers.append(layer)
    _squeezes(layers)
    return layers


def _squeezes(layers: list[Layer]) -> None:
    """Makes 1x1 convolutions of the dense layers in squeeze-and-excite, as publishers write them: nothing needs reshaping."""
    for scale in (layer for layer in layers if layer.op == "scale"):
        layer = layers[scale.inputs[1]]
        while layer.op in ("act", "dense"):
            if layer.op == "dense":
                layer.op, layer.weight = "conv", layer.weight[None, None]
            layer = layers[layer.inputs[0]]


def _batch_norm(layer: Layer, node: dict, array) -> None:
    """Folds a batch norm into the convolution before it, in f64."""
    gamma, beta, mean, variance = (array(node[k]).astype(np.float64) for k in ("gamma", "beta", "mean", "variance"))
    scale = gamma / np.sqrt(variance + node["eps"])
    bias = 0.0 if layer.bias is None else layer.bias
    # The last dimension is output channels; of a depthwise layer the last two, channel and multiplier, are.
    shape = layer.weight.shape
    factors = scale.reshape(shape[2:]) if layer.op == "depthwise" else scale
    layer.weight = (layer.weight * factors).astype(np.float32)
    layer.bias = (beta + (bias - mean) * scale).astype(np.float32)
