"""What travels on the link between a worker and the gateway: MessagePack, one tagged frame a WebSocket message."""

from typing import Any, TypeVar

import msgspec

from engine.errors import MillstreamError

FRAME_LIMIT = 64 << 20  # bytes
URI = "ws://localhost/"
REPLACED, REFUSED = 4409, 4401  # WebSocket close codes of our own (4000-4999: RFC 6455, 7.4.2)


class Push(msgspec.Struct, tag="push", array_like=True, gc=False):
    """One event for a channel: `body` is the JSON of its data, `room` narrows it, `keep` makes it the kept value.

    At most `at_most` a second (0: all) reach a client.
    """

    channel: str
    event: str
    id: bytes
    body: bytes
    room: str = ""
    keep: bool = False
    time: int = 0
    at_most: float = 0.0


class Answer(msgspec.Struct, tag="answer", array_like=True, gc=False):
    """A flow's answer to the request that came in as event `id`: an HTTP status and a JSON body."""

    id: bytes
    status: int
    body: bytes


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """Open a link for a flow's worker; the first frame."""

    flow: str
    token: str
    pid: int


class Batch(msgspec.Struct, tag="batch", array_like=True):
    """Items in order. It is acknowledged by its number, which grows, and sent again on the next link until then."""

    n: int
    items: list[Push | Answer]


class Used(msgspec.Struct, tag="used", array_like=True):
    """Everything up to `offset` is durable: the inbox may be trimmed up to here."""

    offset: int


class StepCost(msgspec.Struct, array_like=True):
    """What a step has cost since its worker started, and what it holds.

    `kind` is `start` (all before the first read), `read` (of the inbox, and decoding), `stretch` (the stateless nodes
    that begin after `name`), `keyed`, `sink`, or `thread` (`dataflow` or `io`, with the steps that run on it).
    In seconds: `cpu` (`elsewhere` is the part that other threads took), `snapshot` (what a keyed node took to make
    those of its state) and `busy` (how long a sink was at work, with all its waits). `keys` and `state` (bytes) are
    those of the last snapshot. Of a sink, `queued` events are in memory, which takes `room`, and `spilled` on the
    disk, full to `spill_fill` (0 to 1).
    """

    kind: str
    name: str
    cpu: float = 0.0
    elsewhere: float = 0.0
    busy: float = 0.0
    snapshot: float = 0.0
    keys: int = 0
    state: int = 0
    queued: int = 0
    room: int = 0
    spilled: int = 0
    spill_fill: float = 0.0


class Report(msgspec.Struct, tag="report", array_like=True):
    """What a worker counts: by node `{"in": …, "out": …, "dead": …}`; `lag` in seconds, `rss` in bytes.

    It has read up to `offset` of an inbox that is committed up to `head`, and `lag` is the age of the next record.
    `ledger` has the terms of the ledger, `unbalanced` the nodes where it does not balance. `cpu` are the seconds that
    the process has taken of one core, `steps` says what for.
    """

    nodes: dict[str, dict[str, int | float]] = {}
    lag: float = 0.0
    rss: int = 0
    offset: int = 0
    more: dict[str, Any] = {}
    head: int = 0
    ledger: dict[str, int] = {}
    unbalanced: dict[str, int] = {}
    cpu: float = 0.0
    steps: list[StepCost] = []


class AskMark(msgspec.Struct, tag="ask", array_like=True):
    """Ask up to when everything has been committed."""


class Tapped(msgspec.Struct, tag="tapped", array_like=True):
    """What passed the wires that are tapped, (wire, line of JSON) each, and how many events of which were left out."""

    lines: list[tuple[str, bytes]]
    skipped: dict[str, int] = {}


class Ack(msgspec.Struct, tag="ack", array_like=True):
    """All batches up to `n` were handled."""

    n: int


class Wake(msgspec.Struct, tag="wake", array_like=True):
    """The inbox was committed up to `head` at `time`; also the gateway's answer to Hello."""

    head: int
    time: int


class Mark(msgspec.Struct, tag="mark", array_like=True):
    """What arrived up to `time` is committed up to `head`; every later commit has a later time."""

    head: int
    time: int


class Tap(msgspec.Struct, tag="tap", array_like=True):
    """Tap these wires from now on, and no others."""

    wires: list[str]


T = TypeVar("T")
Upward = Hello | Batch | Used | Report | AskMark | Tapped
Downward = Ack | Wake | Mark | Tap
_encoder = msgspec.msgpack.Encoder()
_upward: msgspec.msgpack.Decoder[Upward] = msgspec.msgpack.Decoder(Upward)
_downward: msgspec.msgpack.Decoder[Downward] = msgspec.msgpack.Decoder(Downward)


class FrameInvalid(MillstreamError):
    """A message is not a frame."""


def encode(frame: Upward | Downward) -> bytes:
    """Return a frame as a message."""
    return _encoder.encode(frame)


def decode_upward(message: bytes | str) -> Upward:
    """Return what a worker sent; raises FrameInvalid."""
    return _decode(_upward, message)


def decode_downward(message: bytes | str) -> Downward:
    """Return what the gateway sent; raises FrameInvalid."""
    return _decode(_downward, message)


def _decode(decoder: "msgspec.msgpack.Decoder[T]", message: bytes | str) -> T:
    if isinstance(message, str):
        raise FrameInvalid("a text message")
    try:
        return decoder.decode(message)
    except (msgspec.MsgspecError, ValueError, RecursionError) as fault:
        raise FrameInvalid(str(fault)) from fault
