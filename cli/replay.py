"""`replay`: a version of a flow over what its inbox still holds, beside the gateway and the worker."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from cli.output import AsJson, print_json
from cli.processes import read_overrides
from engine.errors import UsageFault
from engine.settings import Settings, read_environment

if TYPE_CHECKING:
    from engine.deployed import Deployed
    from engine.flow import Flow
    from engine.past import Extent, Part, Past
    from engine.repair import Repaired
    from engine.shadow import Comparison, Shadow

SHADOW = "shadow"
Name = Annotated[str, typer.Argument(help="A deployed flow, or the file of another version of it.")]
Since = Annotated[str | None, typer.Option(help="Where to begin: 1h ago, or a time like 2026-03-01T08:00Z.")]
From = Annotated[int | None, typer.Option("--from-offset", help="Where to begin, as an offset of the inbox.", min=1)]
Until = Annotated[str | None, typer.Option(help="Where to end, written like --since.")]
Into = Annotated[str | None, typer.Option(help="`shadow`: compare with the deployed version, write nothing.")]
Mend = Annotated[str | None, typer.Option("--repair", help="A sink: add the rows that its table lacks.")]
Number = Annotated[int | None, typer.Option("--version", help="An earlier version of the flow, by its number.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the flow.")]


def replay(
    flow: Name, since: Since = None, from_offset: From = None, until: Until = None, into: Into = None,
    repair: Mend = None, version: Number = None, set_: Overrides = None, json: AsJson = False,
) -> None:  # fmt: skip
    """Run a version over what the inbox of its flow still holds.

    `--into shadow` writes nothing and shows how what comes out differs from what the deployed version gives; it ends
    with 1 when something differs. `--repair SINK` brings back the rows that the table of a sink lacks.
    """
    if (into is None) == (repair is None) or into not in (None, SHADOW):
        raise UsageFault("replay: either --into shadow or --repair SINK")
    if since is not None and from_offset is not None:
        raise UsageFault("replay: either --since or --from-offset")
    settings = read_environment()
    span = Span(since, from_offset, until)
    if repair is not None:
        if version is not None or set_ or Path(flow).is_file():
            raise UsageFault("--repair: the name of a deployed flow, as it is deployed")
        _repair(settings, flow, repair, span, json)
    else:
        _shadow(settings, flow, version, read_overrides(set_ or []), span, json)


class Span(msgspec.Struct, frozen=True):
    """What was asked for, as it was written."""

    since: str | None
    from_offset: int | None
    until: str | None

    def part(self, past: "Past", extent: "Extent", last: int) -> "Part":
        """Return the offsets; what comes before makes the state."""
        from engine.past import Part

        if self.since is not None:
            first = past.since(moment_of("--since", self.since))
        else:
            first = self.from_offset or extent.oldest
        if self.until is not None:
            last = min(last, past.since(moment_of("--until", self.until) + 1) - 1)
        return Part(extent.oldest, max(first, extent.oldest), last)


def moment_of(option: str, text: str) -> int:
    """Return a time (microseconds) that is written as how long ago it was, or as it is."""
    from engine.event import microseconds
    from engine.quantities import parse_duration

    try:
        return time.time_ns() // 1000 - parse_duration(text)
    except ValueError:
        pass
    try:
        return microseconds(datetime.fromisoformat(text))
    except ValueError:
        raise UsageFault(f"{option}: a duration like 1h, or a time like 2026-03-01T08:00Z; got '{text}'") from None


@contextmanager
def opened(settings: Settings, flow: str) -> "Iterator[Past]":
    """Give the inbox of a flow."""
    from engine.past import Past

    past = Past(settings.flow_folder(flow) / "inbox.db")
    try:
        yield past
    finally:
        past.close()


@contextmanager
def progress(total: int) -> Iterator[Any]:
    """Give what takes how many events were done: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=total)
        yield lambda count: bar.advance(task, count)


def _shadow(
    settings: Settings, target: str, version: int | None, overrides: dict[str, str], span: Span, json: bool
) -> None:
    from engine.past import elsewhere
    from engine.shadow import Shadow

    new, other = _other(settings, target, version, overrides)
    deployed, record = _deployed(settings, new.name)
    new = _muted(settings, new, record)
    with opened(settings, new.name) as past:
        extent = past.extent()
        part = span.part(past, extent, extent.head)
        shadow = Shadow(deployed, new, past.stream, past.gaps())
        for flow in (deployed, new):
            past.know(flow, part.start)
        found = _compared(past, part, shadow)
    unseen = sorted({*elsewhere(deployed), *elsewhere(new)})
    head = {
        "flow": new.name, "deployed": record.version, "new": other, "first": part.first, "last": part.last,
        "before": part.before, "whole": extent.whole, "not_in_the_inbox": unseen,
    }  # fmt: skip
    if json:
        print_json(head | {"differs": found.differs} | msgspec.structs.asdict(found))
    else:
        from cli.replay_text import shadow_text

        typer.echo(shadow_text(head, found))
    raise typer.Exit(1 if found.differs else 0)


def _compared(past: "Past", part: "Part", shadow: "Shadow") -> "Comparison":
    with progress(part.before + part.count) as advance:
        for block in past.blocks(part.start, min(part.first - 1, part.last)):
            shadow.warm(block)
            advance(len(block.payloads))
        for block in past.blocks(part.first, part.last):
            shadow.compare(block)
            advance(len(block.payloads))
    return shadow.finish()


def _other(settings: Settings, target: str, version: int | None, overrides: dict[str, str]) -> "tuple[Flow, str]":
    """Return the version to look at and what it is called: a file, an earlier version, or what is deployed."""
    from engine.deployed import read_flow, read_record
    from engine.load import find_flows
    from engine.versions import Versions

    path = Path(target)
    if path.exists():
        if len(find_flows([path])) != 1 or version is not None:
            raise UsageFault(f"replay: one flow file, without --version; got {path}")
        return _from_file(settings, find_flows([path])[0], overrides), target
    record = read_record(settings, target)
    if record is None:
        raise UsageFault(f"a file, or a flow that is deployed; got '{target}'")
    name = f"{target}, deployed"
    if version is not None:
        found = Versions(settings.flow_folder(target)).get(version)
        record = msgspec.structs.replace(record, text=found.text, source=found.source, overrides=found.overrides)
        name = f"{target}, version {version}"
    record = msgspec.structs.replace(record, overrides=record.overrides | overrides)
    return read_flow(settings, record).raise_findings(), name


def _from_file(settings: Settings, path: Path, overrides: dict[str, str]) -> "Flow":
    """Return the flow of a file, with the settings that were given when it was deployed."""
    from engine.deployed import read_record, surroundings
    from engine.load import load

    record = read_record(settings, load(path, surroundings(settings, overrides)).name)
    return load(path, surroundings(settings, (record.overrides if record else {}) | overrides)).raise_findings()


def _deployed(settings: Settings, name: str) -> "tuple[Flow, Deployed]":
    from engine.deployed import load_deployed, read_flow

    _, record = load_deployed(settings, name)
    return _muted(settings, read_flow(settings, record), record), record


def _muted(settings: Settings, flow: "Flow", record: "Deployed") -> "Flow":
    from engine.deployed import place_flow

    return place_flow(flow, settings, record.highest, muted=True)


def _repair(settings: Settings, name: str, sink: str, span: Span, json: bool) -> None:
    from engine.past import elsewhere

    flow, _ = _deployed(settings, name)
    with opened(settings, name) as past:
        extent = past.extent()
        part = span.part(past, extent, extent.used)
        repaired = asyncio.run(_mend(settings, flow, sink, past, extent, part, span))
    head = {"flow": name, "node": sink, "first": part.first, "last": part.last, "whole": extent.whole,
            "not_in_the_inbox": elsewhere(flow)}  # fmt: skip
    if json:
        print_json(head | msgspec.structs.asdict(repaired))
    else:
        from cli.replay_text import repair_text

        typer.echo(repair_text(head, repaired))


async def _mend(
    settings: Settings, flow: "Flow", sink: str, past: "Past", extent: "Extent", part: "Part", span: Span
) -> "Repaired":
    from engine.appended import appended_tables
    from engine.database import open_database
    from engine.repair import Beside, Repair, changes
    from engine.tables import to_sqlalchemy
    from engine.versions import Versions

    database = open_database(settings.database)
    outside = Beside(flow.name, database, to_sqlalchemy(flow.tables, appended_tables(flow)))
    try:
        changed = changes(Versions(settings.flow_folder(flow.name)).all())
        repair = Repair(flow, past, sink, outside, extent, changed)
        past.know(flow, part.start)
        if repair.whole and (part.first > part.start or span.until is not None):
            reason = "a row that is upserted is what its last event left, so all events have to be seen"
            raise UsageFault(f"--repair {sink}: without --since, --from-offset and --until; {reason}")
        with progress(part.before + part.count) as advance:
            for block in past.blocks(part.start, min(part.first - 1, part.last)):
                repair.warm(block)
                advance(len(block.payloads))
            for block in past.blocks(part.first, part.last):
                await repair.write(block)
                advance(len(block.payloads))
        found = await repair.finish()
        await repair.close()
        return found
    finally:
        await database.dispose()
