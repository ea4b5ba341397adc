"""Numbers as the console shows them; static/format.js says them the same way."""

from collections.abc import Callable

from markupsafe import Markup, escape

_SMALL = 10


def rate(value: float) -> str:
    """Return events a second: `0`, `0.4`, `12`, `3.4k`."""
    if 0 < value < _SMALL:
        return f"{value:.1f}" if value >= 0.05 else "0"
    return count(value)


def count(value: float) -> str:
    """Return a number: `950`, `12.3k`, `4.1M`, `2.0G`."""
    if value < 1e4:
        return f"{value:.0f}"
    if value < 1e6:
        return f"{value / 1e3:.1f}k"
    return f"{value / 1e6:.1f}M" if value < 1e9 else f"{value / 1e9:.1f}G"


def whole(value: float) -> str:
    """Return a number with all its digits: `12,345,678`."""
    return f"{value:,.0f}"


def size(value: float) -> str:
    """Return bytes: `0 B`, `84 MB`."""
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def percent(value: float) -> str:
    """Return a share: `0 %`, `0.4 %`, `37 %`."""
    return f"{value * 100:.1f} %" if 0.0005 <= value < 0.0995 else f"{value * 100:.0f} %"


def micros(value: float | None) -> str:
    """Return the time of one event, given in µs: `0.8 µs`, `340 µs`, `1.4 ms`; `-` where there was none."""
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.1f} µs" if value < 10 else f"{value:.0f} µs"
    return f"{value / 1000:.1f} ms"


def age(value: float) -> str:
    """Return how long something waits: `0 s`, `0.4 s`, and from ten seconds on as `duration`."""
    return f"{value:.1f} s" if 0.05 <= value < 10 else duration(value) if value >= 10 else "0 s"


def duration(value: float) -> str:
    """Return seconds in the two largest units: `42s`, `5m 12s`, `3h 04m`, `12d 3h`."""
    whole = int(value)
    days, hours, minutes, seconds = whole // 86400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"


def prose(text: str) -> Markup:
    """Return a docstring as HTML: paragraphs, and `code`."""
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return Markup("").join(Markup("<p>{}</p>").format(_with_code(part)) for part in paragraphs if part)


def _with_code(text: str) -> Markup:
    parts = text.split("`")
    coded = (Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts))
    return Markup("").join(coded) if len(parts) % 2 else escape(text)


def moment(text: str) -> str:
    """Return what begins with an ISO 8601 time in UTC as people read it: `2026-01-31 12:00:00 UTC`."""
    return f"{text[:10]} {text[11:19]} UTC{text[24:]}" if text[10:11] == "T" else text


FILTERS: dict[str, Callable[..., str]] = {
    "rate": rate, "count": count, "whole": whole, "size": size, "duration": duration, "prose": prose, "moment": moment,
    "percent": percent, "micros": micros, "age": age,
}  # fmt: skip
