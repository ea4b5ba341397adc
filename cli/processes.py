"""`run` and `worker`: the processes."""

import asyncio
import logging
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import EnvironmentFault, FlowInvalid, MillstreamError, UsageFault
from engine.field_docs import leave_out
from engine.parent import Parent
from engine.settings import Settings, kept_secret, read_environment

if TYPE_CHECKING:
    from engine.deployment import Candidate, Consent
    from engine.flow import Flow

FORCED, CRASHED = 130, 70
Watched = dict[Path, dict[str, str]]

Paths = Annotated[list[Path], typer.Argument(help="Flow files, or folders of packs.", metavar="PATH...")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the flows.")]
Resets = Annotated[list[str] | None, typer.Option("--reset-state", help="A node whose state may be given up.")]


def run(
    paths: Paths, set_: Overrides = None, reset_state: Resets = None,
    watch: Annotated[bool, typer.Option("--watch", help="Deploy a flow file whenever it is saved.")] = False,
) -> None:  # fmt: skip
    """Start everything for these flows: gateway, embedded broker, one worker a flow.

    Ctrl-C stops it cleanly, a second one at once.
    """
    leave_out()
    from engine.deployment import Consent

    _logging()
    settings = read_environment()
    overrides = read_overrides(set_ or [])
    versions = _load(paths, settings, overrides)
    watching = {Path(version.source): overrides for version in versions} if watch else {}
    _start(settings, versions, Consent(frozenset(reset_state or [])), watching)


def gateway() -> None:
    """Start everything that is deployed in the data folder; `deploy` adds to it and changes it."""
    leave_out()
    from engine.deployment import Consent

    _logging()
    _start(read_environment(), [], Consent(), {})


def _start(settings: Settings, versions: "list[Candidate]", consent: "Consent", watching: Watched) -> None:
    import uvloop

    uvloop.run(_serve(settings, versions, consent, watching))
    typer.echo("stopped")


async def _serve(settings: Settings, versions: "list[Candidate]", consent: "Consent", watching: Watched) -> None:
    """Run the gateway until a signal; the workers load while the web layer is imported."""
    from engine.ahead import begun_ahead
    from engine.deployment import records_to_run

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    ahead = await begun_ahead(records_to_run(settings, versions))
    from web.gateway import Gateway

    gateway = Gateway(settings, versions, consent, typer.echo, watching, ahead)
    typer.echo(f"data     {settings.data}")

    def told() -> None:
        if stop.is_set():
            gateway.kill()
            os._exit(FORCED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)
    await gateway.run(stop)


def read_overrides(texts: list[str]) -> dict[str, str]:
    """Return `NAME=VALUE` texts as a dict; raises UsageFault."""
    pairs = [text.partition("=") for text in texts]
    wrong = next((text for text, pair in zip(texts, pairs, strict=True) if not pair[1] or not pair[0]), None)
    if wrong is not None:
        raise UsageFault(f"--set: NAME=VALUE; got '{wrong}'")
    return {name: value for name, _, value in pairs}


def _load(paths: list[Path], settings: Settings, overrides: dict[str, str]) -> "list[Candidate]":
    from cli.paths import flow_files
    from engine.deployed import surroundings, whole_text
    from engine.deployment import Candidate
    from engine.load import load_all

    around = surroundings(settings, overrides)
    flows = [flow for file in flow_files(paths) for flow in load_all(file, around)]
    findings = [finding for flow in flows for finding in flow.document.findings]
    if findings:
        raise FlowInvalid(findings)
    by_name: dict[str, Flow] = {}
    for flow in flows:
        if (first := by_name.setdefault(flow.name, flow)) is not flow:
            raise UsageFault(f"two flows are called '{flow.name}': {first.path} and {flow.path}")
    return [Candidate(flow, whole_text(flow), str(flow.path.resolve()), overrides | flow.instance) for flow in flows]


def worker(flow: str, ahead: Annotated[bool, typer.Option("--ahead")] = False) -> None:
    """Run one deployed flow (started by the gateway); `--ahead`: load it, and wait until it is its turn."""
    leave_out()
    os.environ.pop("RUST_BACKTRACE", None)
    parent = Parent()
    _logging()
    code = 0
    try:
        _work(flow, parent if ahead else None)
    except MillstreamError as fault:
        code = fault.exit_code
        typer.echo(f"millstream: {fault}", err=True)
    except Exception as fault:
        code = CRASHED
        traceback.print_exception(fault)
        typer.echo(f"millstream: {type(fault).__name__}: {fault}", err=True)
    os._exit(code)  # a library's thread that still runs keeps nothing waiting


def _work(flow: str, ahead_of: Parent | None) -> None:
    from engine.disk import told_when_full

    settings = read_environment()
    with told_when_full(settings.data):
        from engine.ahead import loaded_ahead
        from engine.worker import Worker

        version = loaded_ahead(settings, ahead_of) if ahead_of else None
        Worker(settings, flow, kept_secret(settings.data / "link.token"), version).run()


def _logging() -> None:
    import structlog

    name = os.environ.get("MILLSTREAM_LOG") or "INFO"
    level = getattr(logging, name.upper(), None)
    if not isinstance(level, int):
        raise EnvironmentFault(f"MILLSTREAM_LOG: one of DEBUG, INFO, WARNING, ERROR; got '{name}'")
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("engine").setLevel(level)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
