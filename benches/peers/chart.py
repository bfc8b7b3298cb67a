"""Draws the results of compare.py as bars: chart.py RESULTS.json OUT.svg

One panel a network, one bar an engine, every panel with an axis of its own that starts at zero.
"""

import json
import math
import sys
from html import escape
from pathlib import Path

NAMES = {
    "mnc": "mnc",
    "mnc-jit": "mnc, JIT",
    "mnc-strassen": "mnc, Strassen",
    "mnc-batch": "mnc, batch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "openvino-throughput": "OpenVINO, hint",
    "litert": "LiteRT",
    "ncnn": "ncnn",
    "mnn": "MNN",
    "tract": "tract",
    "rten": "rten",
}
WIDTH, MARGIN, TOP = 960, 28, 84
COLUMNS, GAP = 2, 36
LABEL, VALUE = 106, 44  # room left and right of the bars
ROW, BAR = 19, 13
FONT = "font-family=\"system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif\""
# The picture has a ground of its own, so it can be read on any page; where the reader prefers dark, it is dark too.
STYLE = """
  .ground { fill: #ffffff; stroke: #d0d7de } .text { fill: #1f2328 } .soft { fill: #656d76 } .line { stroke: #d8dee4 }
  .peer { fill: #a8b3bf } .mnc { fill: #d9480f } .jit { fill: #f2a37a } .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d } .text { fill: #e6edf3 } .soft { fill: #8b949e } .line { stroke: #30363d }
    .peer { fill: #57606a } .mnc { fill: #f76707 } .jit { fill: #a3542a }
  }
"""


def text(x: float, y: float, words: str, style: str = "text", size: float = 12, anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(words)}</text>'


def step(largest: float) -> float:
    """The distance of marks on an axis: 1, 2 or 5 times a power of ten, about four of them."""
    power = 10 ** math.floor(math.log10(largest / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= largest / 5)


def number(value: float) -> str:
    """Three digits, or all there are in front of the point."""
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}"


def panel(left: float, top: float, width: float, title: str, note: str, unit: str, values: dict[str, float | None]) -> list[str]:
    """The bars of one network."""
    start, room = left + LABEL, width - LABEL - VALUE
    largest = max((v for v in values.values() if v), default=1.0)
    bottom = top + 14 + ROW * len(values)
    out = [text(left, top, title, "text strong", 14), text(left + width, top, note, "soft", 11, "end")]
    mark, at = step(largest), 0.0
    while at <= largest * 1.001:
        x = start + room * at / largest
        out.append(f'<line class="line" x1="{x:.1f}" y1="{top + 10}" x2="{x:.1f}" y2="{bottom}"/>')
        out.append(text(x, bottom + 13, f"{at:g}", "soft", 10, "middle"))
        at = round(at + mark, 9)
    out.append(text(left + width, bottom + 13, unit, "soft", 10, "end"))
    for row, (engine, value) in enumerate(values.items()):
        y = top + 14 + ROW * row
        ours = engine.startswith("mnc")
        kind = "mnc" if engine == "mnc" else "jit" if ours else "peer"
        strong = " strong" if ours else ""
        out.append(text(start - 8, y + BAR - 2, NAMES.get(engine, engine), f"text{strong}", 12, "end"))
        if value is None:
            out.append(text(start + 6, y + BAR - 2, "refuses", "soft", 11))
            continue
        length = max(1.0, room * value / largest)
        out.append(f'<rect class="{kind}" x="{start}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        out.append(text(start + length + 6, y + BAR - 2, number(value), f"text{strong}", 11))
    return out


def panels(results: dict) -> tuple[str, str, list[tuple[str, str, dict[str, float | None]]]]:
    """What is shown, how it was measured, and every network's title, note and bars."""
    throughput = results.get("throughput")
    nets = throughput or results.get("nets")
    if not nets:
        raise SystemExit("chart.py: the results have neither times nor images a second")
    found = []
    for net in nets.values():
        if throughput:
            values, note = dict(net["images_per_s"]), ""
        else:
            values = {engine: f["min_ms"] for engine, f in net["engines"].items()}
            note = f"{net['macs'] / 1e6:.0f} million multiply-adds"
        values |= {engine: None for engine in net["refused"]}
        order = [e for e in NAMES if e in values] + [e for e in values if e not in NAMES]
        found.append((net["title"], note, {e: values[e] for e in order}))
    if throughput:
        return "Images a second, all cores at work", "more is better", found
    threads = results["threads"]
    what = f"Time of one inference, {threads} thread{'s' if threads > 1 else ''}"
    return what, f"batch 1, f32; least of {results['rounds']} rounds; less is better", found


def draw(results: dict) -> str:
    what, how, found = panels(results)
    unit = "images/s" if "throughput" in results else "ms"
    width = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS
    rows = max(len(values) for *_, values in found)
    height = 14 + ROW * rows + 50
    total = TOP + height * math.ceil(len(found) / COLUMNS) + 12
    versions = ", ".join(f"{NAMES.get(e, e)} {v}" for e, v in results["versions"].items())
    body = [
        text(MARGIN, 34, f"{what}: {results['cpu']}, {results['date']}", "text strong", 17),
        text(MARGIN, 54, how, "soft", 12),
    ]
    for index, (title, note, values) in enumerate(found):
        left = MARGIN + (width + GAP) * (index % COLUMNS)
        body += panel(left, TOP + height * (index // COLUMNS) + 10, width, title, note, unit, values)
    body.append(text(MARGIN, total - 12, versions, "soft", 10))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}" height="{total}" {FONT}>\n'
        f'<style>{STYLE}</style>\n<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{total - 1}" rx="8"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def main() -> None:
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    try:
        results = json.loads(Path(sys.argv[1]).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise SystemExit(f"chart.py: {sys.argv[1]}: {error}") from error
    Path(sys.argv[2]).write_text(draw(results))


if __name__ == "__main__":
    main()
