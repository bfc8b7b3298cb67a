#!/usr/bin/env python3
"""Trains the digits net of this folder and writes everything else in it: checkpoint, pictures, reference vectors.

    python3 -m venv venv && . venv/bin/activate
    pip install jax==0.4.35 jaxlib==0.4.35 ml_dtypes==0.5.0 numpy==2.1.3 scipy==1.14.1 \
        scikit-learn==1.5.2 pillow==11.0.0 safetensors==0.4.5
    python examples/digits/train.py

Two minutes on two cores, no GPU. Every random choice is seeded: the same machine gives the same bytes.
The network is MobileNetV2 cut down to 32x32 grey pictures; digits.toml beside this file says the same.
Tensors carry torchvision's names, are laid out as torchvision lays them out (OIHW), and batch norm is not folded.
"""
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from PIL import Image
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

HERE = Path(__file__).parent
SIZE, CLASSES, HELD_OUT_PER_CLASS = 32, 10, 36
STEM, HEAD = 16, 128
BLOCKS = [(1, 8, 1), (6, 16, 2), (6, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 1)]  # expand, out, stride
BN_EPS, BN_MOMENTUM = 1e-5, 0.9
EPOCHS, BATCH, LEARNING_RATE, MOMENTUM, DECAY, SMOOTHING, SEED = 120, 64, 0.05, 0.9, 5e-4, 0.05, 2026


def pictures():
    """All digits as 32x32 pictures (0 paper, 255 ink), their classes, and which are held out: 36 of each class by lot."""
    digits = load_digits()
    small = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    large = np.stack([np.asarray(Image.fromarray(d).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for d in small])
    lot = np.random.default_rng(SEED).permutation(len(large))
    held_out = np.concatenate([[i for i in lot if digits.target[i] == c][:HELD_OUT_PER_CLASS] for c in range(CLASSES)])
    return large, digits.target, held_out


def normalise(pixels):
    """`x = (p / 255 - 0.5) / 0.5`, one channel last."""
    return ((np.asarray(pixels, np.float32) / 255 - 0.5) / 0.5)[..., None]


def layers():
    """`(conv name, batch-norm name, kind, in channels, out channels, stride, ReLU6 follows)`, a list for each block."""
    yield [("features.0.0", "features.0.1", "conv3", 1, STEM, 2, True)]
    c = STEM
    for i, (expand, out, stride) in enumerate(BLOCKS, start=1):
        p, wide, block, j = f"features.{i}.conv", c * expand, [], 0
        if expand > 1:
            block.append((f"{p}.0.0", f"{p}.0.1", "conv1", c, wide, 1, True))
            j = 1
        block.append((f"{p}.{j}.0", f"{p}.{j}.1", "depthwise3", wide, wide, stride, True))
        block.append((f"{p}.{j + 1}", f"{p}.{j + 2}", "conv1", wide, out, 1, False))
        yield block
        c = out
    last = len(BLOCKS) + 1
    yield [(f"features.{last}.0", f"features.{last}.1", "conv1", c, HEAD, 1, True)]


def initial():
    """He-normal weights; batch norm starts as the identity."""
    rng, weights, running = np.random.default_rng(SEED), {}, {}
    for conv, norm, kind, c_in, c_out, _, _ in (layer for block in layers() for layer in block):
        shape = {"conv3": (c_out, c_in, 3, 3), "conv1": (c_out, c_in, 1, 1), "depthwise3": (c_out, 1, 3, 3)}[kind]
        weights[f"{conv}.weight"] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = np.ones(c_out), np.zeros(c_out)
        running[f"{norm}.running_mean"], running[f"{norm}.running_var"] = np.zeros(c_out), np.ones(c_out)
    weights["classifier.1.weight"] = rng.normal(0, 0.01, (CLASSES, HEAD))
    weights["classifier.1.bias"] = np.zeros(CLASSES)
    return jax.tree.map(jnp.float32, (weights, running))


def convolve(x, w, kind, stride):
    """3x3 layers are padded by one pixel on every side. Depthwise as nine shifted products: XLA's own gradient crawls."""
    if kind == "depthwise3":
        h = x.shape[1]
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        return sum(x[:, i : i + h : stride, j : j + h : stride] * w[:, 0, i, j] for i in range(3) for j in range(3))
    pad = [(1, 1)] * 2 if kind == "conv3" else [(0, 0)] * 2
    return jax.lax.conv_general_dilated(x, w, (stride, stride), pad, dimension_numbers=("NHWC", "OIHW", "NHWC"))


def forward(weights, running, x, training):
    """Logits, and the running statistics moved on by this batch if `training`."""
    moved = dict(running)
    for block in layers():
        before = x
        for conv, norm, kind, _, _, stride, relu6 in block:
            x = convolve(x, weights[f"{conv}.weight"], kind, stride)
            mean, var = running[f"{norm}.running_mean"], running[f"{norm}.running_var"]
            if training:
                old, n = (mean, var), x.size / x.shape[-1]
                mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                for name, o, new in zip(("mean", "var"), old, (mean, var * n / (n - 1))):
                    moved[f"{norm}.running_{name}"] = BN_MOMENTUM * o + (1 - BN_MOMENTUM) * new
            x = (x - mean) / jnp.sqrt(var + BN_EPS) * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]
            x = jnp.clip(x, 0, 6) if relu6 else x
        if len(block) > 1 and x.shape == before.shape:
            x = x + before
    x = x.mean((1, 2))
    return x @ weights["classifier.1.weight"].T + weights["classifier.1.bias"], moved


def jitter(key, x):
    """Every picture turned by up to 12 degrees, scaled by up to 10 %, sheared a little and shifted by up to 3 pixels."""
    k = jax.random.split(key, 4)
    turn = jax.random.uniform(k[0], (len(x),), minval=-0.21, maxval=0.21)
    scale = jax.random.uniform(k[1], (len(x),), minval=0.9, maxval=1.1)
    shear = jax.random.uniform(k[2], (len(x),), minval=-0.15, maxval=0.15)
    shift = jax.random.uniform(k[3], (len(x), 2), minval=-3, maxval=3)

    def one(x, turn, scale, shear, shift):
        centre = (SIZE - 1) / 2
        v, u = jnp.mgrid[:SIZE, :SIZE] - centre
        rows = (v * jnp.cos(turn) - u * jnp.sin(turn)) * scale + centre + shift[0]
        columns = (v * jnp.sin(turn) + u * jnp.cos(turn) + v * shear) * scale + centre + shift[1]
        return map_coordinates(x[..., 0], [rows, columns], order=1, mode="constant", cval=-1.0)[..., None]

    return jax.vmap(one)(x, turn, scale, shear, shift)


@jax.jit
def step(weights, running, velocity, key, x, y, rate):
    """One step of SGD with Nesterov momentum on cross-entropy with smoothed labels; only convolutions decay."""

    def loss(weights):
        logits, moved = forward(weights, running, jitter(key, x), True)
        target = jax.nn.one_hot(y, CLASSES) * (1 - SMOOTHING) + SMOOTHING / CLASSES
        return -(target * jax.nn.log_softmax(logits)).sum(-1).mean(), moved

    (value, moved), gradient = jax.value_and_grad(loss, has_aux=True)(weights)
    gradient = {n: g + DECAY * weights[n] * (g.ndim > 1) for n, g in gradient.items()}
    velocity = {n: MOMENTUM * velocity[n] + g for n, g in gradient.items()}
    weights = {n: w - rate * (gradient[n] + MOMENTUM * velocity[n]) for n, w in weights.items()}
    return weights, moved, velocity, value


@jax.jit
def predict(weights, running, x):
    """Logits with the running statistics."""
    return forward(weights, running, x, False)[0]


def train(x, y):
    """Cosine-decayed learning rate after five epochs of warm-up."""
    weights, running = initial()
    velocity = jax.tree.map(jnp.zeros_like, weights)
    key, rng = jax.random.key(SEED), np.random.default_rng(SEED)
    per_epoch = len(x) // BATCH
    for epoch in range(EPOCHS):
        order, total = rng.permutation(len(x)), 0.0
        for i in range(per_epoch):
            t = (epoch + i / per_epoch) / EPOCHS
            rate = LEARNING_RATE * min(1, t * EPOCHS / 5 + 0.01) * 0.5 * (1 + np.cos(np.pi * t))
            pick = order[i * BATCH : (i + 1) * BATCH]
            key, now = jax.random.split(key)
            weights, running, velocity, loss = step(weights, running, velocity, now, x[pick], y[pick], rate)
            total += float(loss)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1:3}  loss {total / per_epoch:.4f}", flush=True)
    return weights, running


def main():
    large, classes, held_out = pictures()
    keep = np.setdiff1d(np.arange(len(large)), held_out)
    weights, running = train(normalise(large[keep]), classes[keep])

    for name, rows in (("training", keep), ("held-out", held_out)):
        right = np.asarray(predict(weights, running, normalise(large[rows]))).argmax(-1) == classes[rows]
        print(f"{name} pictures: {right.sum()} of {len(rows)} right ({100 * right.mean():.2f} %)")
    save_file(jax.tree.map(np.asarray, weights | running), HERE / "digits.safetensors")

    # heldout.png: row r holds the 36 held-out pictures of digit r. samples/: the first two of each row.
    sheet = large[held_out].reshape(CLASSES, HELD_OUT_PER_CLASS, SIZE, SIZE)
    Image.fromarray(sheet.transpose(0, 2, 1, 3).reshape(CLASSES * SIZE, -1)).save(HERE / "heldout.png", optimize=True)
    (HERE / "samples").mkdir(exist_ok=True)
    for digit in range(CLASSES):
        for n in range(2):
            Image.fromarray(sheet[digit, n]).save(HERE / f"samples/{digit}-{n + 1}.png", optimize=True)

    # One picture of each digit, and what this script's network makes of it (logits).
    x = normalise(sheet[:, 2])
    save_file({"input": x, "output": np.asarray(predict(weights, running, x))}, HERE / "reference.safetensors")


if __name__ == "__main__":
    main()
