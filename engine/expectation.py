"""What a flow test expects, beside what came out: matchers, lists and the differences between both.

A mapping that has the names of a matcher only is one, unless what came out has a field of that name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.functions_text import searcher
from engine.matching import aligned, paired

MOST_LINES, LONGEST = 6, 160
LISTED = frozenset({"count", "first", "last", "unordered", "includes"})


class _Absent:
    """Stands for a field that is not there; it is shown as none."""

    def __repr__(self) -> str:
        return "None"


ABSENT = _Absent()


def compare(name: str, expected: Any, actual: Sequence[Any], *, exactly: bool = False) -> Iterator[str]:
    """Yield the differences between what came out and what must have come out: a list in order, or `{count: 3}`."""
    if isinstance(expected, Mapping):
        yield from _listed(expected, actual, name, exactly)
    elif len(expected) != len(actual):
        yield f"{name}: {_events(len(expected))}; got {len(actual)}{_unmatched(expected, actual, exactly)}"
    else:
        found = list(_each(expected, actual, name, exactly))
        if found and len(expected) > 1 and None not in paired(expected, actual, _fits(exactly)):
            order = f"these {_events(len(expected))} in this order; got them in another"
            found = [f"{name}: {order}{_lines('got', actual)}"]
        yield from found


def differences(wanted: Any, got: Any, path: str = "", *, exactly: bool = False) -> Iterator[str]:
    """Yield where `got` is not as wanted: of mappings the named fields; `exactly`: no others."""
    matcher = _matcher(wanted, got)
    if matcher is not None:
        said, holds = matcher
        if not holds:
            yield f"{path}: {said}; got {got!r}"
    elif isinstance(wanted, Mapping) and isinstance(got, Mapping):
        yield from _fields(wanted, got, path, exactly)
    elif isinstance(got, list) and _is_of_list(wanted, got):
        yield from (_listed if isinstance(wanted, Mapping) else _each)(wanted, got, path, exactly)
    elif not _same(wanted, got):
        yield f"{path}: {wanted!r}; got {got!r}"


def _is_of_list(wanted: Any, got: list[Any]) -> bool:
    if isinstance(wanted, Mapping):
        return bool(wanted) and wanted.keys() <= LISTED
    return isinstance(wanted, list) and len(wanted) == len(got)


def _fields(wanted: Mapping[str, Any], got: Mapping[str, Any], path: str, exactly: bool) -> Iterator[str]:
    for key, value in wanted.items():
        yield from differences(value, got.get(key, ABSENT), f"{path}.{key}", exactly=exactly)
    for key in [key for key in got if exactly and key not in wanted]:
        yield f"{path}.{key}: no such field; got {got[key]!r}"


def _each(wanted: Sequence[Any], got: Sequence[Any], path: str, exactly: bool) -> Iterator[str]:
    for index, (one, other) in enumerate(zip(wanted, got, strict=True)):
        yield from differences(one, other, f"{path}[{index}]", exactly=exactly)


def _listed(wanted: Mapping[str, Any], got: Sequence[Any], path: str, exactly: bool) -> Iterator[str]:
    """Yield what is wrong with a list of which something is said, not all in order."""
    if "count" in wanted and len(got) != wanted["count"]:
        yield f"{path}: {_events(wanted['count'])}; got {len(got)}{_lines('got', got)}"
    for name, place in (("first", 0), ("last", -1)):
        if name in wanted:
            one = got[place] if got else ABSENT
            yield from differences(wanted[name], one, f"{path}.{name}", exactly=exactly)
    for name in ("unordered", "includes"):
        if name in wanted:
            yield from _anywhere(name, wanted[name], got, path, exactly)


def _anywhere(name: str, wanted: Sequence[Any], got: Sequence[Any], path: str, exactly: bool) -> Iterator[str]:
    pairs = paired(wanted, got, _fits(exactly))
    missing = [one for one, pair in zip(wanted, pairs, strict=True) if pair is None]
    others = [one for index, one in enumerate(got) if index not in pairs]
    if missing:
        yield f"{path}.{name}: {len(wanted)}, in any order{_lines('wanted', missing)}{_lines('got', others)}"
    elif others and name == "unordered":
        yield f"{path}.{name}: {len(wanted)} and no others{_lines('got', others)}"


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"


def _fits(exactly: bool) -> Callable[[Any, Any], bool]:
    return lambda wanted, got: next(differences(wanted, got, exactly=exactly), None) is None


def _unmatched(wanted: Sequence[Any], got: Sequence[Any], exactly: bool) -> str:
    """Return what has no partner on the other side, in order, at most a few lines."""
    lines = []
    for one, other in aligned(wanted, got, _fits(exactly)):
        if other is None and one is not None:
            lines.append(f"\n    wanted [{one}] {shown(wanted[one])}")
        elif one is None and other is not None:
            lines.append(f"\n    got    [{other}] {shown(got[other])}")
    return _cut(lines)


def _lines(said: str, events: Sequence[Any]) -> str:
    return _cut([f"\n    {said:6} {shown(event)}" for event in events])


def _cut(lines: list[str]) -> str:
    more = len(lines) - MOST_LINES
    return "".join(lines[:MOST_LINES]) + (f"\n    … and {more} more" if more > 0 else "")


def shown(value: Any) -> str:
    """Return an event as one short line."""
    text = msgspec.json.encode(value, enc_hook=repr).decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _matcher(wanted: Any, got: Any) -> tuple[str, bool] | None:
    """Return what a matcher says and whether it holds; None: it is none."""
    if not isinstance(wanted, Mapping) or (isinstance(got, Mapping) and wanted.keys() <= got.keys()):
        return None
    found = MATCHERS.get(frozenset(wanted))
    return None if found is None else found(wanted, got)


def _contains(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    one = wanted["contains"]
    if isinstance(got, list):
        return f"a list with {one!r}", any(_fits(False)(one, other) for other in got)
    return f"text that contains '{one}'", str(one) in str(got)


def _any(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    return "any value", got is not None and got is not ABSENT


def _absent(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    return "no such field", got is ABSENT


def _approx(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    about = wanted["approx"]
    within = wanted.get("within", abs(about) * 1e-6)
    number = isinstance(got, int | float) and not isinstance(got, bool)
    return f"{about!r} ± {within:g}", number and abs(got - about) <= within * (1 + 1e-9)


def _matches(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    pattern = wanted["matches"]
    return f"text that matches {pattern}", isinstance(got, str) and searcher(pattern)(got) is not None


def _one_of(wanted: Mapping[str, Any], got: Any) -> tuple[str, bool]:
    return f"one of {wanted['one_of']!r}", any(_fits(False)(one, got) for one in wanted["one_of"])


MATCHERS: dict[frozenset[str], Callable[[Mapping[str, Any], Any], tuple[str, bool]]] = {
    frozenset({"contains"}): _contains,
    frozenset({"any"}): _any,
    frozenset({"absent"}): _absent,
    frozenset({"approx"}): _approx,
    frozenset({"approx", "within"}): _approx,
    frozenset({"matches"}): _matches,
    frozenset({"one_of"}): _one_of,
}


def unfit(wanted: Any) -> Iterator[str]:
    """Yield what is wrong with the matchers in what is expected."""
    if isinstance(wanted, Mapping):
        if frozenset(wanted) in MATCHERS:
            yield from _unfit(wanted)
        wanted = list(wanted.values())
    if isinstance(wanted, list):
        for inner in wanted:
            yield from unfit(inner)


def _unfit(wanted: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a matcher; a mapping may be the fields of an event as well, so it is not much."""
    if isinstance(pattern := wanted.get("matches"), str):
        try:
            searcher(pattern)
        except ValueError as fault:
            yield f"a regular expression; {fault}"
    if "within" in wanted and not all(isinstance(wanted[name], int | float) for name in ("approx", "within")):
        yield "numbers as approx and within"


def _same(wanted: Any, got: Any) -> bool:
    """Compare values: true is not 1, and computed numbers may differ in the last digits; none: it may be absent."""
    if wanted is None:
        return got is None or got is ABSENT
    if isinstance(wanted, bool) or isinstance(got, bool):
        return wanted is got
    if isinstance(wanted, float) and isinstance(got, int | float):
        return abs(wanted - got) < 1e-9
    return bool(wanted == got)
