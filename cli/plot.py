"""Draw a plot over time: axes with round ticks, points, lines, levels, bands and marks, and a legend above."""

from collections.abc import Iterable, Sequence
from math import ceil, floor, log10

from cli.svg import INK, SOFT, Svg

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760.0, 56.0, 24.0, 52.0, 44.0
PLOT = WIDTH - LEFT - RIGHT
Points = Sequence[tuple[float, float]]


class Plot:
    """One or more panels below each other over the same seconds."""

    def __init__(self, about: str, seconds: float, heights: Sequence[float] = (220.0,)) -> None:
        self.svg = Svg(WIDTH, TOP + sum(heights) + BOTTOM * len(heights), about)
        self.seconds, self._heights, self._top, self._legend = seconds, list(heights), TOP, LEFT

    def panel(self, low: float, high: float, label: str) -> "Panel":
        """Return the next panel, with its axes drawn."""
        height = self._heights.pop(0)
        made = Panel(self, self._top, height, low, high)
        self._top += height + BOTTOM
        made.axes(label, last=not self._heights)
        return made

    def legend(self, text: str, color: str, *, mark: str = "dot") -> None:
        """Say what a colour means: a `dot`, a `ring`, a `line`, a `dash` or a `band`."""
        svg, x, y = self.svg, self._legend, 20.0
        if mark in ("dot", "ring"):
            fill = color if mark == "dot" else "none"
            svg.add("circle", cx=x + 9, cy=y, r=4, fill=fill, stroke=color, stroke_width=2)
        elif mark == "band":
            svg.add("rect", x=x, y=y - 6, width=18, height=12, rx=2, fill=color)
        else:
            svg.line([(x, y), (x + 18, y)], color, 2.5, "5 4" if mark == "dash" else "")
        svg.text(x + 24, y + 4, text, size=12, color=INK)
        self._legend += 24 + 6.4 * len(text) + 26

    def render(self) -> str:
        """Return the file."""
        return self.svg.render()


class Panel:
    """One pair of axes; what is drawn is in seconds and in the values' unit."""

    def __init__(self, plot: Plot, top: float, height: float, low: float, high: float) -> None:
        self.svg, self.seconds, self.top, self.height, self.low, self.high = (
            *(plot.svg, plot.seconds, top, height), low, high)  # fmt: skip

    def x(self, seconds: float) -> float:
        """Return where a time is."""
        return LEFT + PLOT * min(max(seconds / self.seconds, 0.0), 1.0)

    def y(self, value: float) -> float:
        """Return where a value is."""
        return self.top + self.height * (1 - (value - self.low) / (self.high - self.low))

    def axes(self, label: str, *, last: bool) -> None:
        """Draw the grid, the ticks and what the axes are; without a label the values do not matter."""
        for value in ticks(self.low, self.high, 5) if label else ():
            self.svg.line([(LEFT, self.y(value)), (LEFT + PLOT, self.y(value))], "#edf0f3", 1)
            self.svg.text(LEFT - 8, self.y(value) + 4, f"{value:g}", size=11, color=SOFT, anchor="end")
        bottom = self.top + self.height
        self.svg.line([(LEFT, self.top), (LEFT, bottom), (LEFT + PLOT, bottom)], "#9aa5b1", 1)
        for second in ticks(0, self.seconds, 9):
            self.svg.line([(self.x(second), bottom), (self.x(second), bottom + 4)], "#9aa5b1", 1)
            said = clock(second, self.seconds)
            self.svg.text(self.x(second), bottom + 17, said, size=11, color=SOFT, anchor="middle")
        self.svg.text(LEFT, self.top - 6, label, size=11, color=SOFT, weight="600")

    def points(self, points: Points, color: str, radius: float = 2.6, *, ring: bool = False) -> None:
        """Draw a dot, or a ring, at each point."""
        for x, y in points:
            fill, width = ("none", 2.0) if ring else (color, 0.0)
            self.svg.add("circle", cx=self.x(x), cy=self.y(y), r=radius, fill=fill, stroke=color, stroke_width=width)

    def line(self, points: Points, color: str, width: float = 1.8, dash: str = "") -> None:
        """Draw a line through points."""
        self.svg.line([(self.x(x), self.y(y)) for x, y in points], color, width, dash)

    def level(self, value: float, said: str, color: str, dash: str = "6 4") -> None:
        """Draw a level over the whole time, with its name at the right."""
        self.line([(0, value), (self.seconds, value)], color, 1.2, dash)
        self.svg.text(LEFT + PLOT - 4, self.y(value) - 5, said, size=11, color=color, anchor="end", halo=True)

    def bands(self, stretches: Iterable[tuple[float, float]], color: str) -> None:
        """Shade stretches of time."""
        for begin, end in stretches:
            width = self.x(end) - self.x(begin)
            self.svg.add("rect", x=self.x(begin), y=self.top, width=width, height=self.height, fill=color)

    def mark(self, second: float, said: str, color: str, drop: float = 0.0) -> None:
        """Draw an upright line at a time, with what happened there."""
        x = self.x(second)
        self.svg.line([(x, self.top + drop), (x, self.top + self.height)], color, 1.5)
        width = 6.6 * len(said) + 12
        left = min(x, LEFT + PLOT - width)
        self.svg.add("rect", x=left, y=self.top + drop, width=width, height=18, rx=3, fill=color)
        self.svg.text(left + 6, self.top + drop + 13, said, size=11, color="#ffffff", weight="600")


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return round values in a range: steps of 1, 2 or 5, of time those of a clock."""
    raw = (high - low) / most
    scale = 10.0 ** floor(log10(raw))
    step = next(scale * factor for factor in (1, 2, 5, 10) if scale * factor >= raw)
    if most > 5 and step > 10:
        step = next((one for one in (15, 30, 60, 120, 300, 600) if one >= raw), step)
    first = ceil(low / step - 1e-9)
    return [round(at * step, 9) for at in range(first, floor(high / step + 1e-9) + 1)]


def clock(second: float, longest: float) -> str:
    """Return a time of the axis: `30 s`, or `1:30` where the axis is longer than a minute."""
    return f"{second:g} s" if longest <= 60 else f"{int(second // 60)}:{int(second % 60):02}"
