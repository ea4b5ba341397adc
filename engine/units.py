"""Units of measurement and what converts between them: a factor and an offset, found once, where a flow is loaded.

Definitions are those of the SI brochure (9th edition) and NIST SP 811 (2008), appendix B; they are exact but for the
radian. Fractions keep them so until the end.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import NamedTuple

from engine.errors import did_you_mean


class Unit(NamedTuple):
    """A unit of a quantity: value * factor + offset is that in the quantity's first unit."""

    quantity: str
    factor: Fraction
    offset: Fraction = Fraction(0)


IN, LB, GN, CAL, GAL = (Fraction(text) for text in ("0.0254", "0.45359237", "9.80665", "4.184", "0.003785411784"))
LBF, FT, BTU = LB * GN, IN * 12, Fraction("1055.05585262")
PSI, ATM, CELSIUS, RADIAN = LBF / IN**2, Fraction(101325), Fraction("273.15"), Fraction(180 / math.pi)

QUANTITIES: dict[str, dict[str, Fraction | int | str]] = {
    "length": {"m": 1, "km": 1000, "dm": "0.1", "cm": "0.01", "mm": "1e-3", "um": "1e-6", "nm": "1e-9", "in": IN,
               "ft": FT, "yd": FT * 3, "mi": FT * 5280, "nmi": 1852},
    "area": {"m2": 1, "km2": 1000_000, "cm2": "1e-4", "mm2": "1e-6", "ha": 10_000, "in2": IN**2, "ft2": FT**2,
             "acre": FT**2 * 43_560},
    "volume": {"m3": 1, "dm3": "1e-3", "cm3": "1e-6", "mm3": "1e-9", "l": "1e-3", "cl": "1e-5", "ml": "1e-6",
               "ul": "1e-9", "in3": IN**3, "ft3": FT**3, "gal": GAL, "gal_uk": "0.00454609", "bbl": GAL * 42},
    "mass": {"kg": 1, "g": "1e-3", "mg": "1e-6", "ug": "1e-9", "t": 1000, "lb": LB, "oz": LB / 16},
    "time": {"s": 1, "ms": "1e-3", "us": "1e-6", "ns": "1e-9", "min": 60, "h": 3600, "d": 86_400, "week": 604_800},
    "speed": {"m/s": 1, "mm/s": "1e-3", "m/min": Fraction(1, 60), "km/h": Fraction(10, 36), "ft/s": FT,
              "ft/min": FT / 60, "mph": FT * 5280 / 3600, "kn": Fraction(1852, 3600)},
    "acceleration": {"m/s2": 1, "mm/s2": "1e-3", "gn": GN},
    "force": {"N": 1, "mN": "1e-3", "kN": 1000, "lbf": LBF, "kgf": GN},
    "torque": {"Nm": 1, "kNm": 1000, "lbf.ft": LBF * FT, "lbf.in": LBF * IN, "kgf.m": GN},
    "pressure": {"Pa": 1, "hPa": 100, "kPa": 1000, "MPa": 1000_000, "bar": 100_000, "mbar": 100, "psi": PSI,
                 "atm": ATM, "Torr": ATM / 760, "mmHg": "133.322387415", "inHg": "3386.388640341",
                 "mmH2O": GN, "inH2O": GN * IN * 1000},
    "energy": {"J": 1, "kJ": 1000, "MJ": 1000_000, "Wh": 3600, "kWh": 3600_000, "MWh": 3600_000_000, "cal": CAL,
               "kcal": CAL * 1000, "BTU": BTU},
    "power": {"W": 1, "mW": "1e-3", "kW": 1000, "MW": 1000_000, "hp": LBF * FT * 550, "PS": GN * 75,
              "BTU/h": BTU / 3600},
    "current": {"A": 1, "uA": "1e-6", "mA": "1e-3", "kA": 1000},
    "voltage": {"V": 1, "uV": "1e-6", "mV": "1e-3", "kV": 1000},
    "resistance": {"ohm": 1, "mohm": "1e-3", "kohm": 1000, "Mohm": 1000_000},
    "charge": {"Ah": 1, "mAh": "1e-3"},
    "frequency": {"Hz": 1, "kHz": 1000, "MHz": 1000_000, "GHz": 1000_000_000, "rpm": Fraction(1, 60)},
    "angle": {"deg": 1, "arcmin": Fraction(1, 60), "arcsec": Fraction(1, 3600), "rev": 360, "rad": RADIAN,
              "mrad": RADIAN / 1000},
    "volume flow": {"m3/s": 1, "m3/h": Fraction(1, 3600), "l/s": "1e-3", "l/min": Fraction(1, 60_000),
                    "l/h": Fraction(1, 3600_000), "gal/min": GAL / 60, "ft3/min": FT**3 / 60},
    "mass flow": {"kg/s": 1, "g/s": "1e-3", "kg/h": Fraction(1, 3600), "t/h": Fraction(10, 36), "lb/h": LB / 3600},
    "density": {"kg/m3": 1, "g/l": 1, "g/cm3": 1000, "lb/ft3": LB / FT**3},
    "ratio": {"1": 1, "%": "0.01", "permille": "1e-3", "ppm": "1e-6", "ppb": "1e-9"},
    "data": {"B": 1, "bit": Fraction(1, 8), "kB": 1000, "MB": 1000_000, "GB": 1000_000_000, "KiB": 1 << 10,
             "MiB": 1 << 20, "GiB": 1 << 30},
    "data rate": {"bit/s": 1, "kbit/s": 1000, "Mbit/s": 1000_000, "Gbit/s": 1000_000_000, "B/s": 8, "kB/s": 8000,
                  "MB/s": 8000_000},
    "dynamic viscosity": {"Pa.s": 1, "mPa.s": "1e-3", "cP": "1e-3"},
    "kinematic viscosity": {"m2/s": 1, "mm2/s": "1e-6", "cSt": "1e-6"},
    "magnetic flux density": {"T": 1, "mT": "1e-3", "uT": "1e-6", "G": "1e-4"},
    "conductivity": {"S/m": 1, "mS/cm": "0.1", "uS/cm": "1e-4"},
    "equivalent dose": {"Sv": 1, "mSv": "1e-3", "uSv": "1e-6"},
    "illuminance": {"lx": 1, "klx": 1000, "fc": 1 / FT**2},
}  # fmt: skip
"""Quantity → unit → how many of its first unit that is. Temperatures, which have an offset, stand in TEMPERATURES."""
TEMPERATURES = {
    "K": Unit("temperature", Fraction(1)),
    "degC": Unit("temperature", Fraction(1), CELSIUS),
    "degF": Unit("temperature", Fraction(5, 9), Fraction("459.67") * 5 / 9),
    "degR": Unit("temperature", Fraction(5, 9)),
}
ALIASES: dict[str, str] = {
    "C": "degC", "°C": "degC", "Cel": "degC", "celsius": "degC", "F": "degF", "°F": "degF", "fahrenheit": "degF",
    "kelvin": "K", "µm": "um", "μm": "um", "µA": "uA", "µV": "uV", "µg": "ug", "µl": "ul", "µs": "us", "µT": "uT",
    "µSv": "uSv", "µS/cm": "uS/cm", "L": "l", "mL": "ml", "L/min": "l/min", "L/h": "l/h", "L/s": "l/s", "m²": "m2",
    "m³": "m3", "m³/h": "m3/h", "m/s²": "m/s2", "kg/m³": "kg/m3", "Ω": "ohm", "kΩ": "kohm", "MΩ": "Mohm", "°": "deg",
    "‰": "permille", "N.m": "Nm", "N·m": "Nm", "kph": "km/h", "gpm": "gal/min", "cfm": "ft3/min", "inch": "in",
}  # fmt: skip
"""Other spellings, as devices write them."""


def _all() -> dict[str, Unit]:
    plain = ((quantity, name, factor) for quantity, units in QUANTITIES.items() for name, factor in units.items())
    found = {name: Unit(quantity, Fraction(factor)) for quantity, name, factor in plain} | TEMPERATURES
    return found | {alias: found[name] for alias, name in ALIASES.items()}


UNITS: Mapping[str, Unit] = _all()


def table() -> str:
    """Return all units as a table in Markdown, as docs/concepts/units.md has it."""
    spelt: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        spelt.setdefault(name, []).append(alias)
    rows: dict[str, list[str]] = {"temperature": []}
    for name, known in UNITS.items():
        if name not in ALIASES:
            more = f" ({', '.join(f'`{alias}`' for alias in spelt[name])})" if name in spelt else ""
            rows.setdefault(known.quantity, []).append(f"`{name}`{more}")
    lines = [f"| {quantity} | {', '.join(names)} |" for quantity, names in sorted(rows.items())]
    return "\n".join(["| quantity | units |", "| --- | --- |", *lines])


def unit(name: str) -> Unit:
    """Return a unit by its name; raises ValueError with the one that was meant."""
    if name not in UNITS:
        cased = next((known for known in UNITS if known.lower() == name.lower()), "")
        hint = f"did you mean '{cased}'?" if cased else did_you_mean(name, UNITS)
        raise ValueError("a unit (docs/concepts/units.md)" + (f"; {hint}" if hint else ""))
    return UNITS[name]


def conversion(source: str, target: str) -> tuple[float, float]:
    """Return factor and offset that turn a value of one unit into one of another; raises ValueError."""
    one, other = unit(source), unit(target)
    if one.quantity != other.quantity:
        raise ValueError(f"a unit of {other.quantity}, as {target} is")
    return float(one.factor / other.factor), float((one.offset - other.offset) / other.factor)


def conversions(target: str) -> dict[str, tuple[float, float]]:
    """Return factor and offset for each unit of the quantity of `target`; raises ValueError."""
    quantity = unit(target).quantity
    return {name: conversion(name, target) for name, known in UNITS.items() if known.quantity == quantity}
