#!/usr/bin/env python3
"""Networks of torchvision and timm that are not MobileNets, by both of PyTorch's exporters, against mnc: a table of relative errors.

    python tests/onnx/exports.py target/release/mnc [--table docs/exports.md] [--engines reference,native,jit] [--only resnet]

Needs torch, torchvision, timm, onnx, onnxscript and onnxruntime. Weights are random from a seed; batch normalisation has the statistics
of random pictures, so that values keep their size through the net. What is right is what PyTorch computes in double precision; errors
are the largest difference in terms of the largest magnitude. Exit code 1 if one is above 1e-4 or anything fails but for a named operator.
"""
import argparse
import collections
import contextlib
import datetime
import io
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnxruntime
import timm
import torch
import torchvision

LIMIT = 1e-4
NETS = [
    ("torchvision", "shufflenet_v2_x1_0"),
    ("torchvision", "squeezenet1_1"),
    ("torchvision", "mnasnet0_5"),
    ("torchvision", "efficientnet_b0"),
    ("torchvision", "regnet_y_400mf"),
    ("torchvision", "resnet18"),
    ("timm", "mnasnet_small"),
    ("timm", "efficientnet_b0"),
    ("timm", "regnety_004"),
    ("timm", "resnet18"),
    ("timm", "ghostnet_100"),
]


def network(library, name):
    torch.manual_seed(1)
    net = torchvision.models.get_model(name, weights=None) if library == "torchvision" else timm.create_model(name, pretrained=False)
    # Drawn scales and shifts; then statistics of pictures, of all that came by.
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.momentum = None
        norm.reset_running_stats()
    net.eval()
    for norm in norms:
        norm.train()
    with torch.no_grad():
        for _ in range(2):
            net(torch.randn(4, 3, 224, 224))
    return net.eval()


def export(net, x, path, dynamo):
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        names = {"input_names": ["input"], "output_names": ["logits"]}
        torch.onnx.export(net, (x,), path, dynamo=dynamo, **names, **({"external_data": False} if dynamo else {}))


def error(got, want):
    return float(np.abs(got.reshape(-1).astype(np.float64) - want).max() / np.abs(want).max())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnc", type=pathlib.Path)
    parser.add_argument("--table", type=pathlib.Path, help="write the table as a page")
    parser.add_argument("--engines", default="reference,native,jit")
    parser.add_argument("--only", default="", help="part of the names of those wanted")
    args = parser.parse_args()
    engines = args.engines.split(",")
    rows, failed = [], False
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for library, name in NETS:
            if args.only not in name:
                continue
            net = network(library, name)
            x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
            np.save(folder / "x.npy", np.ascontiguousarray(x.numpy()[0].transpose(1, 2, 0)))
            for exporter in ["dynamo", "torchscript"]:
                path = folder / f"{name}.onnx"
                try:
                    export(net, x, path, exporter == "dynamo")
                except Exception as e:
                    rows.append(f"| {name} | {library} | {exporter} | | | PyTorch does not export it: {type(e).__name__} |")
                    print(rows[-1], flush=True)
                    continue
                with torch.no_grad():
                    want = net.double()(x.double()).numpy().reshape(-1)
                net.float()
                model = onnx.load(path)
                ops = collections.Counter(n.op_type for n in model.graph.node)
                theirs = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"input": x.numpy()})[0]
                cells = []
                for engine in engines:
                    command = [args.mnc, "run", path, "--engine", engine, "--input", folder / "x.npy", "--output", folder / "y.npy"]
                    done = subprocess.run(command, capture_output=True, text=True)
                    if done.returncode == 0:
                        difference = error(np.load(folder / "y.npy"), want)
                        failed |= not difference <= LIMIT
                        cells.append(f"{engine} {difference:.1e}")
                    else:
                        said = done.stderr.strip().splitlines()[0]
                        failed |= done.returncode != 2 or "does not support: " not in said
                        cells.append(f"refused: {said.split('does not support: ')[-1]}")
                        break
                kinds = ", ".join(f"{n} {op}" for op, n in sorted(ops.items()))
                rows.append(f"| {name} | {library} | {exporter} | {kinds} | {error(theirs, want):.1e} | {', '.join(cells)} |")
                print(rows[-1], flush=True)
    if args.table:
        table = "\n".join(rows)
        args.table.write_text(f"""# Networks outside the family, as PyTorch exports them

Made by `python tests/onnx/exports.py target/release/mnc --table docs/exports.md` on {datetime.date.today()}, with torch {torch.__version__.split('+')[0]},
torchvision {torchvision.__version__.split('+')[0]}, timm {timm.__version__}, onnxruntime {onnxruntime.__version__}. Weights are random from a seed, the input is a random picture of
224x224. An error is the largest difference from what PyTorch computes in double precision, in terms of the largest magnitude;
{LIMIT:.0e} is the most that passes.

| network | library | exporter | nodes | onnxruntime | mnc |
|---|---|---|---|---|---|
{table}
""")
    sys.exit(failed)


if __name__ == "__main__":
    main()
