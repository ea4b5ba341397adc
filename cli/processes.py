"""`run` and `worker`: the processes."""

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer
import uvloop

from engine.errors import EnvironmentFault, FlowInvalid, UsageFault
from engine.flow import Flow
from engine.load import find_flows, load
from engine.settings import Settings, kept_secret, read_environment

Paths = Annotated[list[Path], typer.Argument(help="Flow files, or folders of packs.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the flows.")]


def run(paths: Paths, set_: Overrides = None) -> None:
    """Start everything for these flows: gateway, embedded broker, one worker a flow. Ctrl-C stops it cleanly."""
    from web.gateway import Gateway

    _logging()
    settings = read_environment()
    overrides = _overrides(set_ or [])
    flows = _load(paths, settings, overrides)
    gateway = Gateway(settings, flows, overrides, lambda line: typer.echo(line))

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        await gateway.run(stop)

    typer.echo(f"data     {settings.data}")
    uvloop.run(serve())
    typer.echo("stopped")


def _overrides(texts: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    wrong = next((text for text, pair in zip(texts, pairs, strict=True) if not pair[1] or not pair[0]), None)
    if wrong is not None:
        raise UsageFault(f"--set: NAME=VALUE; got '{wrong}'")
    return {name: value for name, _, value in pairs}


def _load(paths: list[Path], settings: Settings, overrides: dict[str, str]) -> list[Flow]:
    from engine.deployed import surroundings

    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise UsageFault(f"{missing}: no such file or folder")
    files = find_flows(paths)
    if not files:
        raise UsageFault(f"{', '.join(map(str, paths))}: no flow in there (a YAML file with a line 'flow: name')")
    flows = [load(file, surroundings(settings, overrides)) for file in files]
    findings = [finding for flow in flows for finding in flow.document.findings]
    if findings:
        raise FlowInvalid(findings)
    names = [flow.name for flow in flows]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageFault(f"two flows are called '{twice}'")
    return flows


def worker(flow: str) -> None:
    """Run one deployed flow (started by the gateway)."""
    from engine.worker import Worker

    _logging()
    _end_with_parent()
    os.environ.pop("RUST_BACKTRACE", None)
    settings = read_environment()
    Worker(settings, flow, kept_secret(settings.data / "link.token")).run()


def _end_with_parent() -> None:
    """End when the gateway does, however it ends: its end of our stdin closes."""
    import threading

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    if not sys.stdin.isatty():
        threading.Thread(target=watch, name="parent", daemon=True).start()


def _logging() -> None:
    level = getattr(logging, os.environ.get("MILLSTREAM_LOG", "INFO").upper(), None)
    if not isinstance(level, int):
        raise EnvironmentFault("MILLSTREAM_LOG: one of DEBUG, INFO, WARNING, ERROR")
    logging.basicConfig(
        level=max(level, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s"
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
