"""What `replay` prints for people."""

from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from engine.repair import Repaired
    from engine.shadow import Comparison, Difference, Shown

WIDEST = 160
WIDTH = 120
_HOW = {"changed": "changed", "only_deployed": "only deployed", "only_new": "only new"}


def shadow_text(head: dict[str, Any], found: "Comparison") -> str:
    """Return how two versions differ."""
    lines = [f"{head['flow']}: deployed version {head['deployed']} and {head['new']}, sinks muted", *_part(head)]
    differences = {**found.outputs, "dead letters": found.deadletters}
    lines += ["", _outputs(differences)]
    wires = {name: counts for name, counts in found.wires.items() if counts[0] != counts[1]}
    if wires:
        lines += ["", _wires(wires)]
    for name, difference in differences.items():
        lines += list(_examples(name, difference))
    lines += ["", "what comes out differs" if found.differs else "nothing that comes out differs"]
    return "\n".join(lines)


def repair_text(head: dict[str, Any], found: "Repaired") -> str:
    """Return what a repair did."""
    lines = [f"{head['flow']}: the deployed version into '{head['node']}' only", *_part(head)]
    lines.append(f"rows: {found.there:,} were there, {found.added:,} added, {found.refused:,} refused")
    lines += [f"  {count:,} refused: {_short(reason)}" for reason, count in found.reasons.items()]
    return "\n".join(lines)


def _part(head: dict[str, Any]) -> Iterator[str]:
    count = max(0, head["last"] - head["first"] + 1)
    yield f"events: {count:,}" + (f", offsets {head['first']} to {head['last']}" if count else "")
    before = head.get("before", head["first"] - 1)
    if head["whole"]:
        whole = "the inbox still holds the flow from its first event"
        yield f"state: from {before:,} events before; {whole}" if before else f"state: empty at first; {whole}"
    else:
        gone = "the first events of the flow are trimmed, so what depends on memory is approximate"
        yield f"state: from the {before:,} events before that the inbox still holds; {gone}"
    if head["not_in_the_inbox"]:
        yield f"left out: {', '.join(head['not_in_the_inbox'])}: read by the worker itself, not in the inbox"


def _outputs(differences: "dict[str, Difference]") -> str:
    table = _table("sink", "deployed", "new", "only deployed", "only new", "changed", "fields")
    for name, found in differences.items():
        counts = (found.deployed, found.new, found.only_deployed, found.only_new, found.changed)
        fields = ", ".join(f"{field} {count:,}" for field, count in list(found.fields.items())[:6])
        table.add_row(Text(name), *(f"{count:,}" for count in counts), Text(fields))
    return _drawn(table)


def _wires(wires: dict[str, tuple[int, int]]) -> str:
    table = _table("wire", "deployed", "new")
    for name, counts in wires.items():
        table.add_row(Text(name), *(f"{count:,}" for count in counts))
    return _drawn(table)


def _examples(name: str, difference: "Difference") -> Iterator[str]:
    for how, said in _HOW.items():
        shown = difference.examples.get(how, [])
        if shown:
            count = getattr(difference, how)
            yield f"\n{name}: {said}" + (f", the first {len(shown)} of {count:,}" if count > len(shown) else "")
        for one in shown:
            yield from _example(one)


def _example(one: "Shown") -> Iterator[str]:
    fields = f"  ({', '.join(one.fields[:6])})" if one.fields else ""
    yield f"  {one.id} {one.time}" + (f" key {one.key}" if one.key else "") + fields
    if one.deployed is not None:
        yield f"    - {_json(one.deployed)}"
    if one.new is not None:
        yield f"    + {_json(one.new)}"


def _json(value: Any) -> str:
    return _short(msgspec.json.encode(value).decode())


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="left" if column == "fields" else "right")
    return table


def _drawn(table: Table) -> str:
    console = Console(file=StringIO(), width=WIDTH, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
