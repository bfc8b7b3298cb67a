#!/usr/bin/env python3
"""ONNX's own tests of operators (they come with the Python package `onnx`) against mnc: a table of operators, tests, passed, refused.

    python tests/onnx/nodes.py target/release/mnc [--ops Conv,Pad] [--engines reference,native,jit] [--verbose]
        [--table docs/onnx-ops.md] [--cases tests/onnx/nodes.safetensors]

Node tests give weights, shapes and bounds as inputs of the graph. Each test is therefore tried in several forms: all inputs computed,
and all but the first of them constants, or all but the largest. A test passes if a form is accepted and every accepted form gives
the expected outputs by every engine; it is refused if none is accepted, and the reason is listed. Anything else is wrong: another
result, a panic, a signal, a form refused in an untidy way. Exit code 1 if anything is. mnc's batch is 1: windows of several pictures
are tried picture by picture.

`--table` writes the table as a page; `--cases` writes the small tests that passed to one file, which `tests/suite/nodes.rs` runs:
`NAME.model` holds the bytes of the file, `NAME.in.I` and `NAME.out.I` the tensors as mnc takes and gives them. Those cases are data
of the ONNX project (github.com/onnx/onnx), under the Apache License, version 2.0.
"""
import argparse
import collections
import datetime
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

import numpy as np
import onnx
import onnx.version_converter
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from safetensors.numpy import save_file

FEW = (1, 3, 4)
# Operators that treat each picture of a batch by itself.
WINDOWS = {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"}
# Operators that mnc computes. All of them are in the table, also without a test that it takes.
OPS = "Add AveragePool BatchNormalization Cast CastLike Clip Concat Conv ConvTranspose Div Dropout Expand Flatten Gather Gemm \
GlobalAveragePool GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu MatMul Max MaxPool Min Mul Neg PRelu Pad ReduceMean Relu \
Reshape Resize Sigmoid Slice Softmax Split Squeeze Sub Sum Swish Tanh Transpose Unsqueeze Upsample".split()
# Operators of which mnc computes only constants.
FOLDED = "Abs And Ceil Constant ConstantOfShape Equal Exp Floor Greater GreaterOrEqual Less LessOrEqual Log Mod Not Or Pow Range \
Reciprocal ReduceMax ReduceMin ReduceProd ReduceSum Round Shape Sign Size Sqrt Tile Where".split()
# Bytes of a case in the file, and of all: the smallest are kept.
CASE, CASES = 3000, 280_000
# Relative to the largest magnitude. The expected output of this test is written down with four digits behind the point: ONNX's own
# reference implementation differs from it by as much.
TOLERANCE = 1e-5
ROUNDED = {"test_averagepool_2d_ceil_last_window_starts_on_pad": 1e-3}


def tensor(path):
    """A `TensorProto` of a test as an array; None for a sequence or an absent optional."""
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        return array(proto)
    except Exception:
        return None


def array(value):
    """A value of a test as an array where it is a `TensorProto`."""
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def to_mnc(x):
    """An input as mnc takes it: pictures as rows, columns, channels, else its own order as (rows, columns, channels)."""
    if x.ndim == 4 and x.shape[0] == 1:
        pixels = x.shape[1] not in FEW and x.shape[3] in FEW
        return x[0] if pixels else x[0].transpose(1, 2, 0)
    shape = (1, 1, 1) + x.shape
    return x.reshape(-1, shape[-2], shape[-1])


def same(got, want, tolerance):
    """`want` as mnc gives it, a picture or not, whichever `got` are the numbers of; None if neither."""
    if got.size != want.size:
        return None
    forms = [want.reshape(-1)]
    if want.ndim == 4 and want.shape[0] == 1:
        forms.append(want[0].transpose(1, 2, 0).reshape(-1))
    got = got.reshape(-1)
    most = max(float(np.abs(want[np.isfinite(want)]).max(initial=0.0)), 1e-30)
    for form in forms:
        with np.errstate(all="ignore"):
            close = (np.abs(got.astype(np.float64) - form) <= tolerance * most) | (got == form) | (np.isnan(got) & np.isnan(form))
        if close.all():
            return form
    return None


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


def spread_slopes(model):
    """Gives the slopes of PRelu that are a list, one a channel, the axes behind the channels."""
    ranks = {i.name: len(i.type.tensor_type.shape.dim) for i in model.graph.input}
    for node in model.graph.node:
        if node.op_type != "PRelu":
            continue
        behind = ranks[node.input[0]] - 2
        for slope in model.graph.initializer:
            if slope.name == node.input[1] and len(slope.dims) == 1 and slope.dims[0] > 1:
                slope.dims.extend([1] * behind)
        for info in model.graph.input:
            dims = info.type.tensor_type.shape.dim
            if info.name == node.input[1] and len(dims) == 1 and dims[0].dim_value > 1:
                for _ in range(behind):
                    dims.add().dim_value = 1


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
            yield case.name, case.model, [tuple([array(value) for value in part] for part in data) for data in case.data_sets]
    folder = pathlib.Path(onnx.__file__).parent / "backend/test/data"
    for test in sorted(t for kind in ("node", "pytorch-converted", "pytorch-operator", "simple") for t in (folder / kind).glob("test_*")):
        sets = [
            tuple([tensor(data / f"{what}_{i}.pb") for i in range(len(list(data.glob(f"{what}_*.pb"))))] for what in ("input", "output"))
            for data in sorted(test.glob("test_data_set_*"))
        ]
        yield test.name, onnx.load(test / "model.onnx"), sets


def single(model, name, inputs, wants):
    """The tests of each picture of a batch, where every input that is no weight and every output is a batch of pictures."""
    kinds = {n.op_type for n in model.graph.node if n.op_type != "Constant"}
    batch = inputs[0].shape[0] if inputs and isinstance(inputs[0], np.ndarray) and inputs[0].ndim in (3, 4) else 1
    # Slopes of fewer axes do not differ from picture to picture.
    slopes = kinds == {"PRelu"} and len(inputs) == 1 and all(len(t.dims) < inputs[0].ndim for t in model.graph.initializer)
    if not (kinds <= WINDOWS or slopes) or batch == 1 or any(not isinstance(w, np.ndarray) or w.shape[0] != batch for w in wants):
        return None
    one = onnx.ModelProto()
    one.CopyFrom(model)
    for value in [one.graph.input[0], *one.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return one, [([inputs[0][i : i + 1], *inputs[1:]], [w[i : i + 1] for w in wants]) for i in range(batch)]


def one(mnc, engines, name, model, sets, folder, cases):
    """('passed' | 'refused' | 'wrong', why); small accepted forms go to `cases`"""
    refusals = {}
    accepted = False
    if len(sets) == 1 and (pictures := single(model, name, *sets[0])):
        model, sets = pictures
    for number, (inputs, wants) in enumerate(sets):
        given = [i.name for i in model.graph.input if i.name not in {t.name for t in model.graph.initializer}]
        arrays = {name: np.asarray(array) for name, array in zip(given, inputs) if isinstance(array, (np.ndarray, np.generic))}
        # mnc computes in float32.
        if any(np.abs(a[np.isfinite(a)]).max(initial=0) > 3e38 for a in arrays.values() if a.dtype == np.float64):
            return "refused", "numbers that no float32 holds"
        for kept, (keep, baked) in enumerate(forms(model, arrays)):
            onnx.save(baked, folder / "model.onnx")
            given_wants = []
            for engine in engines:
                code, out, err = run(mnc, engine, folder / "model.onnx", [arrays[n] for n in keep], folder)
                if code == 2 and err.startswith("error: ") and "panicked" not in err:
                    refusals[kept] = err.splitlines()[0][7:]
                    break
                if code != 0:
                    return "wrong", f"{engine} {keep}: exit {code}: {err.strip()[:300]}"
                accepted = True
                answer = json.loads(out)
                files = [answer["output"]] if "output" in answer else [o["output"] for o in answer["outputs"]]
                half = model.graph.output[0].type.tensor_type.elem_type in (10, 16)
                tolerance = 2e-3 if half else ROUNDED.get(name, TOLERANCE)
                given_wants = []
                for file, want in zip(files, wants):
                    if not isinstance(want, (np.ndarray, np.generic)):
                        return "wrong", f"{engine} {keep}: a result of another kind"
                    form = same(np.load(file), np.asarray(want, np.float64), tolerance)
                    if form is None:
                        return "wrong", f"{engine} {keep}: another result"
                    given_wants.append(form)
            if given_wants and tolerance == TOLERANCE:
                tensors = {f"in.{i}": to_mnc(arrays[n]).astype(np.float32).reshape(-1) for i, n in enumerate(keep)}
                tensors |= {f"out.{i}": want.astype(np.float32) for i, want in enumerate(given_wants)}
                tensors["model"] = np.frombuffer(baked.SerializeToString(), np.uint8)
                if sum(t.nbytes for t in tensors.values()) <= CASE:
                    cases |= {f"{name}.{number}{'abc'[kept]}.{part}": np.ascontiguousarray(t) for part, t in tensors.items()}
    if accepted:
        return "passed", None
    # The usual form is a tensor that is computed and the rest constants.
    return "refused", refusals.get(1) or next(iter(refusals.values()), "no float input")


def shortened(op, reason):
    """Why a test is refused, without the places."""
    reason = re.sub(r" \(at [^)]*\)", "", reason)
    reason = re.sub(r"^the model has (a node|[0-9]+ nodes) that mnc does not support: ", "", reason)
    reason = re.sub(r"^its constant `\w+`: | \(number \d+\)", "", reason)
    reason = re.sub(r"^the model's output `\w+` is a further result.*", "a second result", reason)
    reason = re.sub(r"^" + op + r" (node `[^`]*`: )?", "", reason)
    return re.sub(r"batch of \d+", "batch of several", reason)


def page(rows, reasons, lines):
    """The table as a page."""
    body = []
    for op in sorted({*OPS, *(op for op, row in rows.items() if row["wrong"])} - {"(several)"}):
        row = rows.get(op, collections.Counter())
        why = collections.Counter(shortened(op, line.split(": ", 1)[1]) for line in reasons[op])
        text = "; ".join(f"{n} x {what}" for what, n in sorted(why.items(), key=lambda w: (-w[1], w[0])))
        body.append(f"| {op} | {sum(row.values())} | {row['passed']} | {row['refused']} | {row['wrong']} | {text} |")
    shown = "\n".join(body)
    rounded = "\n".join(
        f"`{name}` passes within {most:.0e}:\nits expected output is written down with four digits behind the point, and ONNX's own reference "
        "implementation differs from it as much."
        for name, most in sorted(ROUNDED.items())
    )
    return f"""# ONNX's own tests of operators

Made by `python tests/onnx/nodes.py target/release/mnc --table docs/onnx-ops.md` on {datetime.date.today()}, of the tests that come with
`onnx` {onnx.__version__}. Every accepted form of a test (all inputs computed; all but one of them constants) gives the expected numbers
within {TOLERANCE:.0e} of the largest magnitude by the reference, the native engine and the JIT (2e-3 where the test computes in half
precision). A refused test is refused in one clear message; `wrong` would be anything else. "no float input": the test is of integers,
strings, sequences or optionals. Operators that treat every picture of a batch by itself are tried picture by picture.
{rounded}

| operator | tests | passed | refused | wrong | refused because |
|---|---|---|---|---|---|
{shown}

Computed of constants only, as the arithmetic with sizes that exporters leave behind needs them: {", ".join(sorted(FOLDED))}.

All tests, those of operators that mnc does not have and of several operators among them: {lines}.
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mnc", type=pathlib.Path)
    parser.add_argument("--ops", help="only tests of these operators")
    parser.add_argument("--engines", default="reference,native,jit")
    parser.add_argument("--table", type=pathlib.Path, help="write the table as a page")
    parser.add_argument("--cases", type=pathlib.Path, help="write the small tests that passed")
    parser.add_argument("--verbose", action="store_true", help="say of every refused test why")
    args = parser.parse_args()
    ops = set(args.ops.split(",")) if args.ops else None
    rows = collections.defaultdict(lambda: collections.Counter())
    small, done = {}, set()
    reasons, wrong = collections.defaultdict(list), []
    with tempfile.TemporaryDirectory() as folder:
        for name, model, sets in cases():
            kinds = sorted({n.op_type for n in model.graph.node if n.op_type != "Constant"})
            op = kinds[0] if len(kinds) == 1 else "(several)"
            if ops and op not in ops or name in done:
                continue
            done.add(name)
            try:
                if any(o.domain in ("", "ai.onnx") and o.version < 7 for o in model.opset_import):
                    # Older than what mnc knows: as newer operators. The converter leaves slopes as they are, which stood for channels
                    # then and stand for the last axis now.
                    spread_slopes(model)
                    model = onnx.version_converter.convert_version(model, 13)
            except Exception:
                pass
            try:
                result, why = one(args.mnc, args.engines.split(","), name, model, sets, pathlib.Path(folder), small)
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
    if args.table:
        lines = f"{sum(total.values())}, of which {total['passed']} passed, {total['refused']} refused, {total['wrong']} wrong"
        args.table.write_text(page(rows, reasons, lines))
    if args.cases:
        groups = collections.defaultdict(dict)
        for key, tensor in small.items():
            groups[re.sub(r"\.(model|(in|out)\.\d+)$", "", key)][key] = tensor
        sizes = {name: sum(t.nbytes + len(k) + 70 for k, t in parts.items()) for name, parts in groups.items()}
        chosen, room = {}, CASES
        # The smallest ones.
        for name in sorted(groups, key=lambda name: (sizes[name], name)):
            room -= sizes[name]
            if room >= 0:
                chosen |= groups[name]
        save_file(chosen, args.cases, {"origin": f"onnx {onnx.__version__}, Apache License 2.0, github.com/onnx/onnx"})
    if args.verbose:
        for op, lines in sorted(reasons.items()):
            if rows[op]["passed"] or ops:
                print(f"\n{op}", *lines, sep="\n  ")
    print(*(f"WRONG {line}" for line in wrong), sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
