"""What the web layer needs of the rest of the gateway."""

from typing import Protocol

import msgspec
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.component import Intake
from engine.flow import Flow
from engine.media import MediaStore


class FlowState(msgspec.Struct, kw_only=True):
    """How a deployed flow is: `state` is starting, running, restarting, parked or stopped.

    `backlog` counts the events in the inbox that were not read, `lag` is the age of the oldest of them in seconds.
    `nodes` counts what went in, out and wrong at each node, `rates` is what it did a second; `sources` is how each
    connection is (state, detail); `since` is a Unix time, `rss` in bytes, `dead` counts the dead letters that are new.
    `ledger` has the terms of the ledger by name, `unbalanced` what is lost (above 0) or doubled at which node.
    """

    state: str
    restarts: int = 0
    last_error: str = ""
    nodes: dict[str, dict[str, float]] = {}
    backlog: int = 0
    lag: float = 0.0
    since: float = 0.0
    pid: int = 0
    rss: int = 0
    dead: int = 0
    rates: dict[str, float] = {}
    sources: dict[str, tuple[str, str]] = {}
    ledger: dict[str, int] = {}
    unbalanced: dict[str, int] = {}


class Services(Protocol):
    """What the gateway carries: the database, the token key, pictures, and its flows."""

    database: AsyncEngine
    secret: bytes
    media: MediaStore

    def metadata(self, flow: Flow) -> MetaData:
        """Return the tables and views of a flow."""

    def kept(self, flow: str, channel: str, event: str) -> bytes | None:
        """Return the JSON of the value that a channel keeps of an event."""

    def flows(self) -> dict[str, FlowState]:
        """Return every deployed flow's state by its name."""

    def intake(self, flow: str, source: str) -> Intake:
        """Return what a pushed source writes to."""
