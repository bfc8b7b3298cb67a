"""Compares mnc with other inference engines on this machine; README.md says what is measured and how.

DIR is the folder that setup.sh filled. Run it with DIR/v/bin/python.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

try:
    import numpy as np
except ModuleNotFoundError:
    raise SystemExit("compare.py: numpy is missing here; run it with DIR/v/bin/python") from None

import graph

HERE = Path(__file__).resolve().parent
# Engines and the packages whose versions are theirs.
PYTHON_PEERS = {"onnxruntime": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert", "ncnn": "ncnn", "mnn": "MNN"}
RUST_PEERS = {"tract": "tract-onnx", "rten": "rten"}
MNC = ["mnc", "mnc-jit", "mnc-strassen"]
NETS = ["v1", "v2", "v3-large", "v3-small", "v4-small", "v1-grey", "edgetpu-xs"]
TITLES = {
    "v1": "MobileNet V1",
    "v2": "MobileNet V2",
    "v3-large": "MobileNet V3 large",
    "v3-small": "MobileNet V3 small",
    "v4-small": "MobileNet V4 conv small",
    "v1-grey": "MobileNet V1 0.25, 96x96 grey",
    "edgetpu-xs": "EdgeTPU v2 xs",
}
# Largest difference of two engines' outputs, relative to the largest output, that is rounding and not a mistake.
TOLERANCE = 1e-3


class Refusal(Exception):
    """An engine cannot do what was asked; the text is its reason."""


class Child:
    """A process that answers requests for one engine; engines.py and the crate `serve` have the protocol."""

    def __init__(self, engine: str, place: "Place", threads: int, core: int | None = None):
        self.engine, self.place, self.threads = engine, place, threads
        command = place.command(engine)
        if not Path(command[0]).exists():
            raise Refusal(f"{Path(command[0]).name} is not installed; run setup.sh")
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        if core is not None:
            os.sched_setaffinity(self.process.pid, {core})

    def send(self, request: str) -> None:
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # `receive` says why

    def receive(self) -> str:
        answer = self.process.stdout.readline()
        if not answer:
            raise Refusal(f"the process ended with code {self.process.wait()}")
        if answer.startswith("refuses: "):
            raise Refusal(answer.removeprefix("refuses: ").strip())
        return answer.strip()

    def ask(self, request: str) -> str:
        self.send(request)
        return self.receive()

    def load(self, net: str) -> None:
        self.ask(f"load {self.engine} {net} {self.threads} {self.place.models}")

    def run(self, count: int) -> list[float]:
        return [float(ms) for ms in self.ask(f"run {count}").split()]

    def output(self) -> np.ndarray:
        return np.array(self.ask("output").split(), np.float64)

    def close(self) -> None:
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()


class Place:
    """Where things are in the folder that setup.sh filled."""

    def __init__(self, folder: Path, mnc: Path | None):
        self.models, self.programs = (folder / "m").resolve(), (folder / "target" / "release").resolve()
        self.mnc = mnc.resolve() if mnc else self.programs / "mnc-peer"
        if not self.models.is_dir():
            raise SystemExit(f"compare.py: {folder} has no models; run setup.sh {folder} first")
        if mnc and not self.mnc.exists():
            raise SystemExit(f"compare.py: {mnc} does not exist")

    def command(self, engine: str) -> list[str]:
        if engine.startswith("mnc"):
            return [str(self.mnc)]
        if engine in RUST_PEERS:
            return [str(self.programs / "rust-peers")]
        return [sys.executable, str(HERE / "engines.py")]


def start(engines: list[str], place: Place, threads: int) -> tuple[dict[str, Child], dict[str, str]]:
    """One process an engine, and the reasons of those that do not start."""
    children, refused = {}, {}
    for engine in engines:
        try:
            children[engine] = Child(engine, place, threads)
        except Refusal as reason:
            refused[engine] = str(reason)
    return children, refused


def peak(children: dict[str, Child]) -> float | None:
    """GFLOP/s of fused multiply-adds that one core can do, as mnc measures it; none without mnc."""
    for engine in MNC:
        if engine in children:
            return float(children[engine].ask("peak"))
    return None


def batch_size(child: Child, seconds: float) -> int:
    """How many inferences take about `seconds`."""
    return max(3, min(500, round(seconds / (1e-3 * min(child.run(3))))))


def measure(net: str, children: dict[str, Child], args: argparse.Namespace) -> dict:
    """Times of all engines for one net, a batch of each in every round; and their outputs."""
    times, counts, outputs, refused = {}, {}, {}, {}
    for engine, child in children.items():
        try:
            child.load(net)
            counts[engine] = batch_size(child, args.batch)
        except Refusal as reason:
            refused[engine] = str(reason)
    for _ in range(args.rounds):
        for engine, count in counts.items():
            if engine in refused:
                continue
            if args.threads > 1:
                time.sleep(0.3)  # the threads of some engines spin for a while after their last inference
            try:
                times.setdefault(engine, []).extend(children[engine].run(count))
                outputs[engine] = children[engine].output()
            except Refusal as reason:
                refused[engine] = str(reason)
    result = {"refused": refused, "engines": {}}
    reference = next((e for e in [*MNC, *outputs] if e in outputs), None)
    result["reference"] = reference
    for engine in (e for e in times if e not in refused):
        found = {"min_ms": min(times[engine]), "median_ms": statistics.median(times[engine]), "runs": len(times[engine])}
        found["difference"] = difference(outputs[engine], outputs[reference])
        result["engines"][engine] = found
    return result


def difference(output: np.ndarray, reference: np.ndarray) -> float:
    """The largest difference relative to the largest output; infinite for outputs of another size or not numbers."""
    if output.shape != reference.shape or not np.isfinite(output).all():
        return float("inf")
    return float(np.abs(output - reference).max() / np.abs(reference).max())


def compare(args: argparse.Namespace, place: Place) -> dict:
    """Latency: all nets, all engines."""
    children, missing = start(args.engines, place, args.threads)
    results = header(args)
    results["peak_gflops"] = peak(children)
    results["call_ms"] = {}
    for engine, child in children.items():
        try:
            child.load(graph.CALL)
            results["call_ms"][engine] = min(child.run(2000))
        except Refusal:
            pass  # mnc has no such net: its call is a call
    results["nets"] = {}
    for net in args.nets:
        found = measure(net, children, args)
        found["refused"] |= missing
        macs = graph.load(place.models, net).macs
        results["nets"][net] = {"title": TITLES.get(net, net), "macs": macs} | found
        print(f"{net}: " + ", ".join(f"{e} {f['min_ms']:.3f}" for e, f in found["engines"].items()), file=sys.stderr)
    # Once more at the end: had the clock changed in between, shares of the peak would mean nothing.
    results["peak_gflops_after"] = peak(children)
    for child in children.values():
        child.close()
    return results


def header(args: argparse.Namespace) -> dict:
    """What has to be known of a measurement."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": args.threads,
        "rounds": args.rounds,
        "versions": {engine: version for engine in args.engines if (version := version_of(engine))},
    }


def version_of(engine: str) -> str | None:
    """The version of a Python package, or of a Rust one in the lock file it is built with."""
    if engine in PYTHON_PEERS:
        try:
            return importlib.metadata.version(PYTHON_PEERS[engine])
        except importlib.metadata.PackageNotFoundError:
            return None
    lock, name = (HERE / "Cargo.lock").read_text().splitlines(), f'name = "{RUST_PEERS.get(engine, engine)}"'
    return lock[lock.index(name) + 1].split('"')[1] if name in lock else None


def table(head: list[str], rows: list[list[str]]) -> None:
    """Prints columns; the first is text, the rest are numbers."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]
        print("  ".join(cells).rstrip())


def ratio(of: float | None, to: float | None, form: str = "{:.2f}") -> str:
    return form.format(of / to) if of and to else "-"


def report(results: dict, engines: list[str]) -> bool:
    """Prints the tables; false if outputs differ by more than rounding."""
    r = results
    print(f"{r['cpu']}, {r['cores']} cores; {r['date']}; threads: {r['threads']}; rounds: {r['rounds']}")
    print(", ".join(f"{e} {v}" for e, v in r["versions"].items()))
    if r["peak_gflops"]:
        print(f"peak of one core: {r['peak_gflops']:.1f} GFLOP/s before, {r['peak_gflops_after']:.1f} after")
    for what, key in (("least", "min_ms"), ("median", "median_ms")):
        print(f"\nms for one inference, {what}")
        rows = []
        for net, found in r["nets"].items():
            times = {e: f[key] for e, f in found["engines"].items()}
            rows.append([net, f"{found['macs'] / 1e6:.0f}"] + [f"{times[e]:.3f}" if e in times else "-" for e in engines])
        table(["net", "10^6 macs", *engines], rows)

    print("\nmnc by the least times")
    rows = []
    for net, found in r["nets"].items():
        times = {e: f["min_ms"] for e, f in found["engines"].items()}
        peers = {e: t for e, t in times.items() if e not in MNC}
        best = min(peers, key=peers.get) if peers else "-"
        mnc = times.get("mnc")
        gflops = 2e-6 * found["macs"] / mnc if mnc else None
        rows.append(
            [net, best, ratio(mnc, peers.get(best)), ratio(times.get("mnc-strassen"), peers.get(best)), ratio(times.get("mnc-jit"), mnc)]
            + [ratio(peers.get(e), mnc) for e in RUST_PEERS]
            + [f"{gflops:.1f}" if gflops else "-", ratio(gflops and 100 * gflops, r["peak_gflops"], "{:.0f} %")]
        )
    table(["net", "best peer", "mnc/best", "strassen/best", "jit/mnc", "tract/mnc", "rten/mnc", "GFLOP/s", "of one core"], rows)

    print("\nlargest difference of outputs from one engine's, relative to the largest output")
    rows = []
    for net, found in r["nets"].items():
        rows.append(
            [net, found["reference"] or "-"]
            + [f"{found['engines'][e]['difference']:.0e}" if e in found["engines"] else "-" for e in engines]
        )
    table(["net", "from", *engines], rows)

    print("\nmicroseconds of a call: a net of 64 multiply-adds")
    print("  ".join(f"{e} {1e3 * ms:.1f}" for e, ms in r["call_ms"].items()))
    refusals(r["nets"])
    wrong = [
        f"{net}: {engine}"
        for net, found in r["nets"].items()
        for engine, f in found["engines"].items()
        if not f["difference"] < TOLERANCE
    ]
    if wrong:
        print(f"\noutputs differ by more than {TOLERANCE}: " + ", ".join(wrong))
    return not wrong


def refusals(nets: dict) -> None:
    """Prints which engine refused what, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for net, found in nets.items():
        for engine, reason in found["refused"].items():
            reasons.setdefault((engine, reason), []).append(net)
    if reasons:
        print()
    for (engine, reason), which in reasons.items():
        print(f"{engine} refuses: {reason} ({', '.join(which)})")


def throughput(args: argparse.Namespace, place: Place) -> dict:
    """Images a second with all cores at work: one instance a core, and what engines have for it themselves."""
    cores = sorted(os.sched_getaffinity(0))
    # One process that may use all cores, in place of one a core.
    whole = ["openvino-throughput", "mnc-batch"]
    engines = args.engines + [e for e in whole if e.split("-")[0] in args.engines]
    results = header(args)
    results["throughput"] = {}
    for net in args.nets:
        found = {"title": TITLES.get(net, net), "images_per_s": {}, "refused": {}}
        for _ in range(args.rounds):
            for engine in (e for e in engines if e not in found["refused"]):
                try:
                    speed = images(engine, net, place, [None] if engine in whole else cores, len(cores), args.seconds)
                    found["images_per_s"][engine] = max(speed, found["images_per_s"].get(engine, 0.0))
                except Refusal as reason:
                    found["refused"][engine] = str(reason)
        results["throughput"][net] = found
    print(f"{results['cpu']}, {results['cores']} cores; {results['date']}")
    print("\nimages a second, best of the rounds; one instance a core but for openvino-throughput and mnc-batch")
    rows = []
    for net, found in results["throughput"].items():
        rows.append([net] + [f"{s:.1f}" if (s := found["images_per_s"].get(e)) else "-" for e in engines])
    table(["net", *engines], rows)
    refusals(results["throughput"])
    return results


def images(engine: str, net: str, place: Place, where: list[int | None], cores: int, seconds: float) -> float:
    """Images a second of one process on each of the cores `where`, at the same time."""
    children = []
    try:
        for core in where:
            children.append(Child(engine, place, cores if core is None else 1, core))
        for child in children:
            child.load(net)
        for child in children:
            child.send(f"for {seconds}")
        done = [child.receive().split() for child in children]
        return sum(float(count) / float(took) for count, took in done)
    finally:
        for child in children:
            child.close()


def cold(args: argparse.Namespace, place: Place) -> dict:
    """From the start of a process to its end, with one inference of V1 in it."""
    beside = place.mnc.parent
    commands = {
        "nothing": [beside / "nothing"],
        "mnc": [beside / "cold"],
        "tract": [place.programs / "rust-peers", "once", "tract", "v1", place.models],
        "rten": [place.programs / "rust-peers", "once", "rten", "v1", place.models],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    refused: dict[str, str] = {}
    for _ in range(20 * args.rounds):
        for name in (n for n in commands if n not in refused):
            try:
                times[name].append(process(commands[name]))
            except Refusal as reason:
                refused[name] = str(reason)
    for name, reason in refused.items():
        print(f"{name} refuses: {reason}")
        del commands[name]
    if "nothing" in refused:
        raise SystemExit("compare.py: without `nothing` there is nothing to compare a start with; run setup.sh")
    results = header(args) | {"cold": {}}
    base = statistics.median(times["nothing"])
    rows = []
    for name, command in commands.items():
        told = [*command, "memory"] if name in ("nothing", "mnc") else command
        answer = subprocess.run(told, check=True, capture_output=True, text=True).stdout
        lines = [line.split() for line in answer.splitlines()]
        memory = {line[0].rstrip(":"): line[1] for line in lines if len(line) > 1}
        found = {
            "min_ms": min(times[name]),
            "median_ms": statistics.median(times[name]),
            "peak_kib": int(memory.get("VmHWM", 0)),
            "binary_bytes": command[0].stat().st_size,
            "weight_bytes": int(memory.get("weight_bytes", 0)),
            "arena_bytes": int(memory.get("arena_bytes", 0)),
        }
        results["cold"][name] = found
        mib = [found["peak_kib"] / 1024] + [found[key] / 2**20 for key in ("binary_bytes", "weight_bytes", "arena_bytes")]
        ms = [found["min_ms"], found["median_ms"], found["median_ms"] - base]
        rows.append([name, *(f"{m:.2f}" for m in ms), *(f"{m:.2f}" if m else "-" for m in mib)])
    print(f"{results['cpu']}; {results['date']}; one process, one inference of V1, one thread")
    table(["program", "least ms", "median ms", "over nothing", "peak MiB", "binary MiB", "weights", "arena"], rows)
    return results


def process(command: list) -> float:
    """Milliseconds from the start of a process to its end."""
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    begin = time.perf_counter()
    try:
        pid = os.posix_spawn(command[0], [str(word) for word in command], os.environ, file_actions=quiet)
    except OSError as error:
        raise Refusal(f"{Path(command[0]).name}: {error.strerror}") from error
    _, status = os.waitpid(pid, 0)
    took = 1e3 * (time.perf_counter() - begin)
    if status:
        raise Refusal(f"{Path(command[0]).name} failed with code {os.waitstatus_to_exitcode(status)}")
    return took


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder that setup.sh filled")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--throughput", action="store_true", help="images a second on all cores in place of latency")
    what.add_argument("--cold", action="store_true", help="start of a process to its first answer, memory and size")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each engine (1)")
    parser.add_argument("--rounds", type=int, default=6, metavar="R", help="rounds over all engines (6)")
    parser.add_argument("--batch", type=float, default=0.2, metavar="S", help="seconds of an engine's turn in a round (0.2)")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="the same for --throughput (2)")
    parser.add_argument("--nets", type=words(NETS), default=NETS, metavar="A,B", help=f"some of {','.join(NETS)}")
    every = [*MNC, *PYTHON_PEERS, *RUST_PEERS]
    parser.add_argument("--engines", type=words(every), default=every, metavar="A,B", help=f"some of {','.join(every)}")
    parser.add_argument("--mnc", type=Path, metavar="PATH", help="another mnc-peer than DIR's")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers there")
    args = parser.parse_args()
    if args.threads < 1 or args.rounds < 1:
        parser.error("--threads and --rounds are at least 1")
    return args


def words(known: list[str]):
    """An argument that is a list of known words."""

    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"`{word}` is none of {', '.join(known)}")
        return chosen

    return parse


def main() -> None:
    args = arguments()
    if not args.dir.is_dir():
        raise SystemExit(f"compare.py: {args.dir} is no folder; run setup.sh {args.dir} first")
    place = Place(args.dir, args.mnc)
    absent = [net for net in args.nets if not (place.models / f"{net}.json").exists()]
    if absent:
        raise SystemExit(f"compare.py: {args.dir} has no model of {', '.join(absent)}; run setup.sh {args.dir}")
    fine = True
    if args.throughput:
        results = throughput(args, place)
    elif args.cold:
        results = cold(args, place)
    else:
        results = compare(args, place)
        fine = report(results, args.engines)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if not fine:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
