#!/usr/bin/env python3
"""ONNX's own tests of operators (they come with the Python package `onnx`) against mnc: a table of operators, tests, passed, refused.

    python tests/onnx/nodes.py target/release/mnc [--ops Conv,Pad] [--engines reference,native,jit] [--verbose]

Node tests give weights, shapes and bounds as inputs of the graph. Each test is therefore tried in several forms: all inputs computed,
and all but the first of them constants, or all but the largest. A test passes if a form is accepted and every accepted form gives
the expected outputs by every engine; it is refused if none is accepted, and the reason is listed. Anything else is wrong: another
result, a panic, a signal, a form refused in an untidy way. Exit code 1 if anything is.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnx.version_converter
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

FEW = (1, 3, 4)
# Relative to the largest magnitude; these expect values that are rounded to four digits.
TOLERANCE = 1e-5
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}


def tensor(path):
    """A `TensorProto` of a test as an array; None for a sequence or an absent optional."""
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(proto)
    except Exception:
        return None


def to_mnc(x):
    """An input as mnc takes it: pictures as rows, columns, channels, else its own order as (rows, columns, channels)."""
    if x.ndim == 4 and x.shape[0] == 1:
        pixels = x.shape[1] not in FEW and x.shape[3] in FEW
        return x[0] if pixels else x[0].transpose(1, 2, 0)
    shape = (1, 1, 1) + x.shape
    return x.reshape(-1, shape[-2], shape[-1])


def same(got, want, tolerance):
    """Whether `got` (as mnc gives it) are the numbers of `want`: a picture or not, which its shape tells."""
    if got.size != want.size:
        return False
    forms = [want.reshape(-1)]
    if want.ndim == 4 and want.shape[0] == 1:
        forms.append(want[0].transpose(1, 2, 0).reshape(-1))
    got = got.reshape(-1)
    most = max(float(np.abs(want[np.isfinite(want)]).max(initial=0.0)), 1e-30)
    for form in forms:
        with np.errstate(all="ignore"):
            close = (np.abs(got.astype(np.float64) - form) <= tolerance * most) | (got == form) | (np.isnan(got) & np.isnan(form))
        if close.all():
            return True
    return False


def forms(model, arrays):
    """The model with some of its inputs turned into constants: (which stay inputs, model)."""
    names = [i.name for i in model.graph.input]
    floats = [n for n in names if n in arrays and arrays[n].dtype.kind == "f" and arrays[n].size]
    sets = [floats, floats[:1]]
    if floats:
        sets.append([max(floats, key=lambda n: arrays[n].size)])
    seen = []
    for keep in sets:
        if keep and keep not in seen:
            seen.append(keep)
            baked = onnx.ModelProto()
            baked.CopyFrom(model)
            for info in list(baked.graph.input):
                if info.name in arrays and info.name not in keep:
                    baked.graph.input.remove(info)
                    baked.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(arrays[info.name]), info.name))
            yield keep, baked


def run(mnc, engine, path, inputs, folder):
    command = [mnc, "run", path, "--engine", engine, "--output", folder / "y.npy", "--json"]
    for i, x in enumerate(inputs):
        np.save(folder / f"x{i}.npy", np.ascontiguousarray(to_mnc(x), dtype=np.float32))
        command += ["--input", folder / f"x{i}.npy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def cases():
    """(name, model, [(inputs, outputs)]): those that are computed anew, and those that are files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in collect_testcases(None):
            yield case.name, case.model, case.data_sets
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for test in sorted(t for kind in ("node", "pytorch-converted", "pytorch-operator", "simple") for t in (folder / kind).glob("test_*")):
        sets = [
            tuple([tensor(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*.pb"))))] for what in ("input", "output"))
            for data in sorted(test.glob("test_data_set_*"))
        ]
        yield test.name, onnx.load(test / "model.onnx"), sets


def one(mnc, engines, name, model, sets, folder):
    """('passed' | 'refused' | 'wrong', why)"""
    refusal = None
    accepted = False
    for inputs, wants in sets:
        given = [i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
        arrays = {name: np.asarray(array) for name, array in zip(given, inputs) if isinstance(array, (np.ndarray, np.generic))}
        # mnc computes in float32.
        if any(np.abs(a[np.isfinite(a)]).max(initial=0) > 3e38 for a in arrays.values() if a.dtype == np.float64):
            return "refused", "numbers that no float32 holds"
        for keep, baked in forms(model, arrays):
            onnx.save(baked, folder / "model.onnx")
            for engine in engines:
                code, out, err = run(mnc, engine, folder / "model.onnx", [arrays[n] for n in keep], folder)
                if code == 2 and err.startswith("error: ") and "panicked" not in err:
                    refusal = err.splitlines()[0][7:]
                    break
                if code != 0:
                    return "wrong", f"{engine} {keep}: exit {code}: {err.strip()[:300]}"
                accepted = True
                answer = json.loads(out)
                files = [answer["output"]] if "output" in answer else [o["output"] for o in answer["outputs"]]
                for file, want in zip(files, wants):
                    half = model.graph.output[0].type.tensor_type.elem_type in (10, 16)
                    if not isinstance(want, np.ndarray) or not same(np.load(file), want.astype(np.float64), 2e-3 if half else ROUNDED.get(name, TOLERANCE)):
                        return "wrong", f"{engine} {keep}: another result"
    if accepted:
        return "passed", None
    return "refused", refusal or "no float input"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnc", type=pathlib.Path)
    parser.add_argument("--ops", help="only tests of these operators")
    parser.add_argument("--engines", default="reference,native,jit")
    parser.add_argument("--verbose", action="store_true", help="say of every refused test why")
    args = parser.parse_args()
    ops = set(args.ops.split(",")) if args.ops else None
    rows = collections.defaultdict(lambda: collections.Counter())
    reasons, wrong = collections.defaultdict(list), []
    with tempfile.TemporaryDirectory() as folder:
        for name, model, sets in cases():
            kinds = sorted({n.op_type for n in model.graph.node if n.op_type != "Constant"})
            op = kinds[0] if len(kinds) == 1 else "(several)"
            if ops and op not in ops:
                continue
            try:
                if any(o.domain in ("", "ai.onnx") and o.version < 7 for o in model.opset_import):
                    # Older than what mnc knows: as newer operators.
                    model = onnx.version_converter.convert_version(model, 13)
            except Exception:
                pass
            try:
                result, why = one(args.mnc, args.engines.split(","), name, model, sets, pathlib.Path(folder))
            except (subprocess.TimeoutExpired, KeyError) as e:
                result, why = "wrong", repr(e)
            rows[op][result] += 1
            if result == "refused":
                reasons[op].append(f"{name}: {why}")
            elif result == "wrong":
                wrong.append(f"{name}: {why}")
    print("| op | tests | passed | refused | wrong |\n|---|---|---|---|---|")
    total = collections.Counter()
    for op, row in sorted(rows.items(), key=lambda r: (not r[1]["passed"], r[0])):
        total.update(row)
        if row["passed"] or row["wrong"] or ops:
            print(f"| {op} | {sum(row.values())} | {row['passed']} | {row['refused']} | {row['wrong']} |")
    print(f"| all | {sum(total.values())} | {total['passed']} | {total['refused']} | {total['wrong']} |")
    if args.verbose:
        for op, lines in sorted(reasons.items()):
            if rows[op]["passed"] or ops:
                print(f"\n{op}", *lines, sep="\n  ")
    print(*(f"WRONG {line}" for line in wrong), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
