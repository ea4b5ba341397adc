"""The picture of an example's graph: what goes in, the component, and how much comes out of each output."""

from textwrap import wrap

import yaml

from cli.svg import BLUE, FAINT, GREEN, INK, ORANGE, RED, SOFT, Svg
from engine.component import Component, Example
from engine.examples import flow_of, run_example
from engine.harness import Harness
from web.graph import Box, lay_out

NODE, FEW = "made", 24
COLORS = {"in": SOFT, "node": BLUE, "out": GREEN, "side": ORANGE, "dead": RED}
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"


def graph_picture(cls: type[Component], example: Example) -> str:
    """Return the SVG of an example, with the number of events on each wire where it gives any."""
    boxes, wires = _graph(cls, example)
    sections = {name: section for name, (section, *_) in boxes.items()}
    layout = lay_out(sections, [(start, end) for start, end, _ in wires])
    svg = Svg(layout.width, layout.height, f"{cls.kind}: {example.about}")
    for path in layout.paths:
        svg.add("path", d=path, fill="none", stroke="#9aa5b1", stroke_width=1.5)
    for _, end, said in wires:
        box = layout.boxes[end]
        _count(svg, box, said)
    for name, (_, role, title, lines) in boxes.items():
        _box(svg, layout.boxes[name], role, title, lines)
    return svg.render()


Boxes = dict[str, tuple[str, str, str, list[str]]]
Wires = list[tuple[str, str, str]]


def _graph(cls: type[Component], example: Example) -> tuple[Boxes, Wires]:
    """Return the boxes (section, role, title, lines) and wires (from, to, how many events)."""
    node = ("node", cls.kind, _options(example))
    flow = flow_of(cls, example)[1].raise_findings()
    harness = run_example(flow, example) if example.given else None
    if cls.section == "sources":
        out = _said(len(harness.out["out"])) if harness else ""
        return {NODE: ("sources", *node), "out": ("sinks", "out", "the flow", [])}, [(NODE, "out", out)]
    boxes: Boxes = {"in": ("sources", "in", "events", [])}
    came = _said(len(example.given))
    if cls.section == "sinks":
        return boxes | {NODE: ("sinks", *node)}, [("in", NODE, came)]
    boxes[NODE] = ("operators", *node)
    wires = [("in", NODE, came)]
    for name, role, title, count in _outputs(harness):
        boxes[name] = ("sinks", role, title, [])
        wires.append((NODE, name, _said(count)))
    return boxes, wires


def _outputs(harness: Harness | None) -> list[tuple[str, str, str, int]]:
    """Return the main output, the others to which something went, and the dead letters."""
    if harness is None:
        return [("out", "out", "out", 0)]
    sides = sorted(name.removeprefix("out_") for name in harness.out if name.startswith("out_"))
    counts = {name: len(harness.out[f"out_{name}"]) for name in sides if name != "errors"}
    found = [("out", "out", "out", len(harness.out["out"]))]
    found += [(name, "side", f".{name}", count) for name, count in counts.items() if count]
    return [*found, ("dead", "dead", "dead letters", len(harness.dead))] if harness.dead else found


def _options(example: Example) -> list[str]:
    """Return the options as a few short lines."""
    (value,) = yaml.safe_load(example.config).values()
    text = "" if value is None else str(value) if not isinstance(value, dict | list) else _flow(value)
    lines = wrap(text, FEW, break_on_hyphens=False)
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][: FEW - 1] + "…"]


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20, allow_unicode=True).strip()
    return text[1:-1] if isinstance(value, dict) else text


def _said(count: int) -> str:
    return str(count) if count else ""


def _count(svg: Svg, box: Box, said: str) -> None:
    if said:
        x, y = box.x - 10, box.y + box.height / 2 - 6
        svg.text(x, y, said, size=12, color=SOFT, anchor="end", weight="600", halo=True)


def _box(svg: Svg, box: Box, role: str, title: str, lines: list[str]) -> None:
    color = COLORS[role]
    svg.add("rect", x=box.x, y=box.y, width=box.width, height=box.height, rx=8, fill="#f8fafc", stroke=FAINT)
    svg.add("rect", x=box.x, y=box.y, width=5, height=box.height, rx=2, fill=color)
    top = box.y + box.height / 2 + 5 - 8 * len(lines)
    svg.text(box.x + 16, top, title, size=14, color=INK, weight="600")
    for number, line in enumerate(lines, 1):
        svg.text(box.x + 16, top + 3 + 15 * number, line, size=10.5, color=SOFT, family=MONO)
