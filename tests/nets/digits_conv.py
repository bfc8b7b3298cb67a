#!/usr/bin/env python3
"""Trains digits_conv.toml, a net of standard convolutions, as examples/digits/train.py trains its own (packages: see there).

    python tests/nets/digits_conv.py

Writes digits_conv.safetensors beside this file, in mnc's own tensor names (`names = "spec"`), batch norm not folded.
"""
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "examples/digits"))
import train as digits

LAYERS = [("stem", 1, 16, 2), ("block1", 16, 32, 1), ("block2", 32, 48, 2), ("block3", 48, 48, 1)]  # name, in, out, stride


def layers():
    """As `digits.layers`, one layer a block: no residuals."""
    for name, c_in, c_out, stride in LAYERS:
        yield [(f"{name}.conv", f"{name}.conv.bn", "conv3", c_in, c_out, stride, True)]


def main():
    # Strong decay: batch norm undoes its effect on scale, what stays is that filters spend no weight on terms they do not need.
    digits.layers, digits.HEAD, digits.EPOCHS, digits.DECAY = layers, LAYERS[-1][2], 60, 2e-2
    large, classes, held_out = digits.pictures()
    keep = digits.np.setdiff1d(digits.np.arange(len(large)), held_out)
    weights, running = digits.train(digits.normalise(large[keep]), classes[keep])
    right = digits.np.asarray(digits.predict(weights, running, digits.normalise(large[held_out]))).argmax(-1) == classes[held_out]
    print(f"held-out pictures: {right.sum()} of {len(right)} right ({100 * right.mean():.2f} %)")
    names = {n: n.replace("classifier.1", "classifier.dense") for n in weights | running}
    digits.save_file({names[n]: digits.np.asarray(v) for n, v in (weights | running).items()}, HERE / "digits_conv.safetensors")


if __name__ == "__main__":
    main()
