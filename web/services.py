"""What the web layer needs of the rest of the gateway."""

from typing import Protocol

import msgspec
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.arrival import Intake
from engine.flow import Flow
from engine.media import MediaStore


class StepLine(msgspec.Struct):
    """What a step of a flow takes: `cpu` is its share of a core, over the last seconds, `seconds` all since the start.

    `kind` is start, read, stretch, keyed, sink or rest (`engine`: between the steps; `io`: links and queues; `threads`:
    those of drivers); `nodes` are those that the step runs. `rate` is how many events it takes a second, `micros` the
    CPU time of one in µs (None: there were none). A sink was at work for `busy` of the time, in all for
    `busy_seconds`; of a keyed node, `snapshot` is the part of `cpu` that went into snapshots, `keys` and `state`
    (bytes) what they held.
    """

    kind: str
    name: str
    nodes: tuple[str, ...]
    cpu: float = 0.0
    seconds: float = 0.0
    rate: float = 0.0
    micros: float | None = None
    busy: float = 0.0
    busy_seconds: float = 0.0
    snapshot: float = 0.0
    keys: int = 0
    state: int = 0


class Queue(msgspec.Struct):
    """What waits somewhere, and how full that is (0 to 1).

    `kind` is inbox, lane (a sink's, in memory), spill (a sink's, on disk) or clients (of a channel: the fullest queue).
    """

    kind: str
    name: str
    waiting: int = 0
    fill: float = 0.0


class Footprint(msgspec.Struct):
    """What a process takes: its share of a core over the last seconds, all CPU seconds, and memory in bytes."""

    cpu: float = 0.0
    seconds: float = 0.0
    rss: int = 0


class FlowState(msgspec.Struct, kw_only=True):
    """How a deployed flow is: `state` is starting, running, restarting, parked or stopped.

    `backlog` counts the events in the inbox that were not read, `lag` is the age of the oldest of them in seconds.
    `nodes` counts what went in, out and wrong at each node, `node_rates` the same a second, `rates` what it let out;
    `rate_in` and `rate_out` are those of all sources and all sinks. `cpu` is the worker's share of a core,
    `cpu_seconds` all that it took, `steps` says what for; `queues` is what waits where. `sources` is how each
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
    node_rates: dict[str, dict[str, float]] = {}
    rate_in: float = 0.0
    rate_out: float = 0.0
    cpu: float = 0.0
    cpu_seconds: float = 0.0
    steps: list[StepLine] = []
    queues: list[Queue] = []
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
