"""`tap`: what passes a wire of a running flow, and real traffic as a test of the flow."""

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from cli.control import Control, part
from cli.replay import moment_of, opened
from engine.errors import EnvironmentFault, UsageFault
from engine.settings import Settings, read_environment

LATEST = 100
Name = Annotated[str, typer.Argument(help="A deployed flow.", metavar="FLOW")]
Wire = Annotated[str | None, typer.Argument(help="A node, or node.rejected, node.late, …", metavar="WIRE")]
Count = Annotated[int | None, typer.Option(help="Stop after so many; with --record, the latest so many (100).", min=1)]
Record = Annotated[Path | None, typer.Option(help="Write what has arrived to this file, as a test of the flow.")]
Since = Annotated[str | None, typer.Option(help="With --record: where to begin, 5m ago or a time.")]


def tap(flow: Name, wire: Wire = None, count: Count = None, record: Record = None, since: Since = None) -> None:
    """Show what passes a wire as JSON lines until Ctrl-C; or record real traffic as a flow test.

    A tap shows at most 200 events a second; how many it left out is told. `--record` reads the inbox by itself.
    """
    if (wire is None) == (record is None) or (since and count) or (wire and since):
        raise UsageFault("tap: either FLOW WIRE [--count N], or FLOW --record FILE [--since 5m | --count N]")
    settings = read_environment()
    if record is not None:
        _record(settings, flow, record, count, since)
    else:
        _show(settings, flow, str(wire), count)


def _show(settings: Settings, flow: str, wire: str, count: int | None) -> None:
    shown = skipped = 0
    try:
        for line in Control(settings).lines(f"/flows/{part(flow)}/tap", wire=wire):
            if "end" in line:
                raise EnvironmentFault(f"the tap ends: {line['end']}")
            if "skipped" in line:
                skipped += line["skipped"]
                typer.echo(f"left out {line['skipped']} events: a tap shows at most 200 a second", err=True)
                continue
            _print(line)
            shown += 1
            if shown == count:
                return
        raise EnvironmentFault("the tap ends: the gateway has stopped")
    except KeyboardInterrupt:
        typer.echo(f"{shown} events shown, {skipped} left out", err=True)


def _print(line: Any) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _record(settings: Settings, name: str, file: Path, count: int | None, since: str | None) -> None:
    from engine.deployed import read_flow, read_record, record_path
    from engine.past import Part, elsewhere
    from engine.recording import recorded

    deployed = read_record(settings, name)
    if deployed is None:
        raise UsageFault(f"a flow that is deployed; '{name}' is not ({record_path(settings, name)})")
    flow = read_flow(settings, deployed).raise_findings()
    with opened(settings, name) as past:
        extent = past.extent()
        first = past.since(moment_of("--since", since)) if since else extent.head + 1 - (count or LATEST)
        span = Part(extent.oldest, max(first, extent.oldest), extent.head)
        found = recorded(flow, past.blocks(span.first, span.last))
    file.write_bytes(found.text.encode())
    typer.echo(f"{file}: {found.sent:,} events; put it into the flow, `millstream test` passes it")
    for note in found.notes:
        typer.echo(f"note: {note}")
    if elsewhere(flow):
        typer.echo(f"note: {', '.join(elsewhere(flow))}: read by the worker itself, not in the inbox, so not recorded")
    if deployed.overrides:
        typer.echo(f"note: expected with the settings of the deployment: {', '.join(sorted(deployed.overrides))}")
    typer.echo("warning: the payloads in it are real data: look through them before you share the file", err=True)
