"""Units: against published values, and each with its way back."""

import math
from pathlib import Path

import pytest

from engine import units

# NIST Special Publication 811 (2008), appendix B.8, "Factors for units listed alphabetically", to the digits given there
NIST = [
    ("atm", "Pa", 1.01325e5), ("bbl", "m3", 1.589873e-1), ("BTU", "J", 1.055056e3),
    ("BTU/h", "W", 2.930711e-1), ("cal", "J", 4.184), ("cP", "Pa.s", 1e-3), ("cSt", "m2/s", 1e-6), ("ft", "m", 3.048e-1),
    ("fc", "lx", 1.076391e1), ("ft3", "m3", 2.831685e-2), ("ft3/min", "m3/s", 4.719474e-4), ("gal", "m3", 3.785412e-3),
    ("gal_uk", "m3", 4.54609e-3), ("gal/min", "m3/s", 6.309020e-5), ("G", "T", 1e-4), ("ha", "m2", 1e4), ("hp", "W", 7.456999e2),
    ("PS", "W", 7.354988e2), ("in", "m", 2.54e-2), ("inHg", "Pa", 3.386389e3), ("inH2O", "Pa", 2.490889e2), ("kgf", "N", 9.80665),
    ("kgf.m", "Nm", 9.80665), ("km/h", "m/s", 2.777778e-1), ("kWh", "J", 3.6e6), ("kn", "m/s", 5.144444e-1), ("mi", "m", 1.609344e3),
    ("mph", "m/s", 4.4704e-1), ("mmHg", "Pa", 1.333224e2), ("mmH2O", "Pa", 9.80665), ("nmi", "m", 1.852e3), ("oz", "kg", 2.834952e-2),
    ("lb", "kg", 4.535924e-1), ("lb/ft3", "kg/m3", 1.601846e1), ("lbf", "N", 4.448222), ("lbf.ft", "Nm", 1.355818),
    ("lbf.in", "Nm", 1.129848e-1), ("psi", "Pa", 6.894757e3), ("Torr", "Pa", 1.333224e2), ("yd", "m", 9.144e-1),
    ("Ah", "mAh", 1e3), ("gn", "m/s2", 9.80665), ("ft2", "m2", 9.290304e-2),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target", "factor"), NIST)
def test_a_factor_is_that_of_nist(source: str, target: str, factor: float) -> None:
    found, offset = units.conversion(source, target)
    assert found == pytest.approx(factor, rel=5e-7)
    assert offset == 0


@pytest.mark.parametrize(
    ("source", "target", "value", "found"),
    [
        ("degF", "degC", 212, 100), ("degC", "degF", -40, -40), ("degC", "K", 0, 273.15), ("degR", "K", 491.67, 273.15),
        ("K", "degC", 0, -273.15), ("rev", "rad", 1, 2 * math.pi), ("mrad", "deg", 1, 0.0572957795), ("rpm", "Hz", 90, 1.5),
        ("%", "ppm", 1, 10_000), ("MiB", "kB", 1, 1048.576), ("°C", "F", 37, 98.6), ("mS/cm", "uS/cm", 1.413, 1413),
    ],
)  # fmt: skip
def test_a_value_is_converted(source: str, target: str, value: float, found: float) -> None:
    factor, offset = units.conversion(source, target)
    assert value * factor + offset == pytest.approx(found)


@pytest.mark.parametrize("name", units.UNITS)
def test_each_unit_has_its_way_back(name: str) -> None:
    base = next(known for known, one in units.UNITS.items() if one.quantity == units.UNITS[name].quantity)
    there, back = units.conversion(name, base), units.conversion(base, name)
    assert (7.5 * there[0] + there[1]) * back[0] + back[1] == pytest.approx(7.5)
    assert units.conversions(base)[name] == there


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("bar", "degC", "a unit of temperature, as degC is"),
        ("psy", "bar", "did you mean 'psi'"),
        ("kpa", "bar", "'kPa'"),
    ],
)
def test_what_cannot_be_converted_says_why(source: str, target: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        units.conversion(source, target)


def test_every_unit_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/concepts/units.md").read_text()
    assert units.table() in page
