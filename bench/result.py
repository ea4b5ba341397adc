"""What a bench finds: figures with the target that they are held against, and curves to be drawn."""

from pathlib import Path

import msgspec

OUT = Path(__file__).parent / "out"


class Figure(msgspec.Struct):
    """One measured number; `holds` says whether it reaches `target` (text, for people), None where there is none."""

    name: str
    value: float
    unit: str
    target: str = ""
    holds: bool | None = None
    note: str = ""


class Curve(msgspec.Struct):
    """Lines to be drawn together: label → (x, y) points."""

    title: str
    x: str
    y: str
    lines: dict[str, list[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False


class Section(msgspec.Struct):
    """What one module of the bench has measured."""

    title: str
    figures: list[Figure]
    curves: list[Curve] = []
    notes: list[str] = []


def at_least(name: str, value: float, unit: str, least: float, note: str = "") -> Figure:
    """Return a figure that must not be smaller than its target."""
    return Figure(name, value, unit, f"≥ {least:,g} {unit}", value >= least, note)


def at_most(name: str, value: float, unit: str, most: float, note: str = "") -> Figure:
    """Return a figure that must not be greater than its target."""
    return Figure(name, value, unit, f"≤ {most:,g} {unit}", value <= most, note)
