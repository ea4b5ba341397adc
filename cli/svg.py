"""Write SVG pictures by hand: the same input gives the same bytes, and every reader of Markdown shows them."""

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
INK, SOFT, FAINT, PAPER = "#1f2933", "#66727f", "#d5dbe1", "#ffffff"
BLUE, ORANGE, RED, GREEN, YELLOW = "#2468b4", "#d9730d", "#c92a2a", "#2b8a3e", "#f2b705"


class Svg:
    """A picture of a size in pixels; elements are added in the order in which they are drawn."""

    def __init__(self, width: float, height: float, about: str) -> None:
        self.width, self.height, self.about = width, height, about
        self._lines: list[str] = []
        self._over: list[str] = []

    def add(self, tag: str, text: str | None = None, **attributes: str | float) -> None:
        """Add an element; numbers are rounded to a tenth of a pixel, `_` in names stands for `-`."""
        said = "".join(f" {name.replace('_', '-')}={quoteattr(number(value))}" for name, value in attributes.items())
        lines = self._over if "paint_order" in attributes else self._lines
        lines.append(f"<{tag}{said}/>" if text is None else f"<{tag}{said}>{escape(text)}</{tag}>")

    def line(self, points: Iterable[tuple[float, float]], color: str, width: float = 1.5, dash: str = "") -> None:
        """Add a line through points."""
        path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
        dashed = {"stroke_dasharray": dash} if dash else {}
        self.add("polyline", points=path, fill="none", stroke=color, stroke_width=width, **dashed)

    def text(
        self, x: float, y: float, text: str, *, size: float = 12, color: str = INK, anchor: str = "start",
        weight: str = "normal", family: str = "", halo: bool = False,
    ) -> None:  # fmt: skip
        """Add a text at a point of its base line, where it begins, ends or has its middle; a halo is over all else."""
        more: dict[str, str | float] = {"font_family": family} if family else {}
        more |= {"stroke": PAPER, "stroke_width": 4, "paint_order": "stroke"} if halo else {}
        self.add("text", text, x=x, y=y, font_size=size, fill=color, text_anchor=anchor, font_weight=weight, **more)

    def render(self) -> str:
        """Return the file."""
        size = f'width="{number(self.width)}" height="{number(self.height)}"'
        box = f'viewBox="0 0 {number(self.width)} {number(self.height)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {box} role="img" font-family="{FONT}">'
        title = f"<title>{escape(self.about)}</title>"
        paper = f'<rect width="100%" height="100%" rx="6" fill="{PAPER}" stroke="{FAINT}"/>'
        return "\n".join([head, title, paper, *self._lines, *self._over, "</svg>"]) + "\n"


def number(value: str | float) -> str:
    """Return a number as short as a tenth of a pixel allows; never -0."""
    if isinstance(value, str):
        return value
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text in ("-0", "") else text
