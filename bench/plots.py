"""Draw the curves of a record as SVG files; the same numbers give the same bytes."""

import re
from io import StringIO
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from bench.record import Record
from bench.result import Curve

STYLE: Any = {
    "svg.hashsalt": "millstream", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3,
    "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.6, "lines.markersize": 4,
}  # fmt: skip
MANY, FEW = 60, 200
WIDTH, HEIGHT = 9.0, 4.2


def draw(record: Record, folder: Path) -> list[tuple[str, str]]:
    """Draw a record's curves, drop those that it had before, and return (title, file name) of each."""
    for old in folder.glob(f"{record.name}-*.svg"):
        old.unlink()
    found = []
    for at, curve in enumerate(record.section.curves if record.section else (), 1):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{record.name}-{at}-{re.sub(r'[^a-z0-9]+', '-', curve.title.lower()).strip('-')[:60]}.svg"
        (folder / name).write_text(svg(curve))
        found.append((curve.title, name))
    return found


def svg(curve: Curve) -> str:
    """Return a curve's picture."""
    written = StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        _fill(figure, figure.add_subplot(), curve)
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _fill(figure: Figure, axes: Axes, curve: Curve) -> None:
    _lines(axes, curve)
    _scales(axes, curve)
    axes.set_title(curve.title)
    axes.set_xlabel(curve.x)
    axes.set_ylabel(curve.y)
    if curve.lines:
        figure.legend(loc="outside right upper", fontsize=8)


def _lines(axes: Axes, curve: Curve) -> None:
    """Draw them; "who: what" has who's colour, and is dashed where it tells of the slowest."""
    colours: dict[str, str] = {}
    names = cycle(f"C{at}" for at in range(10))
    for label, points in curve.lines.items():
        whose = label.rpartition(": ")[0] or label
        colour = colours.get(whose) or colours.setdefault(whose, next(names))
        late = whose != label and "99" in label
        mark = "o" if len(points) <= MANY else ""
        xs, ys = [x for x, _ in points], [y for _, y in points]
        axes.plot(xs, ys, label=label, color=colour, linestyle="--" if late else "-", marker=mark)


def _scales(axes: Axes, curve: Curve) -> None:
    places = [point for points in curve.lines.values() for point in points]
    if curve.log_x and places and min(x for x, _ in places) > 0:
        _decades(axes.xaxis)
    if curve.log_y and places and min(y for _, y in places) > 0:
        _decades(axes.yaxis)
    else:
        axes.set_ylim(bottom=min([0, *(y for _, y in places)]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.9g}"))


def _decades(axis: XAxis | YAxis) -> None:
    """Make it logarithmic; of a few decades 2 and 5 are named too."""
    setter = axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale
    setter("log")
    low, high = axis.get_data_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high > FEW * low else (1, 2, 5)))
    axis.set_minor_formatter(NullFormatter())
