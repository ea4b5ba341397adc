"""What sources deal in: arrivals, the intake that pushed sources write to, and the reader of replayable ones."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import msgspec

if TYPE_CHECKING:
    from engine.arrivals import Arrivals
    from engine.settings import MqttPlace


class Arrival(msgspec.Struct, gc=False):
    """One message as it came in, not yet decoded.

    `packet` is the MQTT packet id, 0 where there is none. `once` is the key by which the inbox knows a message that is
    sent again ("" where it has none): what has the key of a stored one is not stored, and has its event id. `digest` is
    what must be the same then; where it is not, KeyReused is raised.
    """

    payload: bytes
    topic: str = ""
    meta: dict[str, Any] | None = None
    packet: int = 0
    dup: bool = False
    once: str = ""
    digest: bytes = b""


class Reply(msgspec.Struct, gc=False):
    """The answer of a flow to one request: an HTTP status and a JSON body."""

    status: int
    body: bytes


class Intake(Protocol):
    """What a pushed source writes to: the durable inbox of its flow."""

    flow: str
    source: str
    mqtt: "MqttPlace"

    async def append(self, arrivals: "Arrivals | Sequence[Arrival]", *, expect_reply: bool = False) -> list[bytes]:
        """Return the event ids once all are committed; raises Unavailable when the inbox is full or cannot write.

        What is sent again has the id that it was given first, and the answer too. Raises KeyReused.
        """

    async def store(self, arrivals: "Arrivals") -> None:
        """Return once all are committed; raises as `append`. For who needs no ids."""

    def submit(self, arrivals: "Arrivals | Sequence[Arrival]", done: Callable[[BaseException | None], None]) -> None:
        """Append without a task: `done` is called on the loop after the commit, with the error or None."""

    def acknowledged(self, packets: Iterable[int]) -> None:
        """Tell that the broker has the acknowledgements of these MQTT packets, so that their ids may come again."""

    async def reply(self, event_id: bytes, timeout: float) -> Reply:  # noqa: ASYNC109 - part of the answer's meaning
        """Return what the flow answers to the event; raises TimeoutError after `timeout` seconds."""

    def state(self, state: str, detail: str = "") -> None:
        """Tell operations how the source is: connecting, connected, refused, stopped."""


class Pull(msgspec.Struct):
    """What a reader found: arrivals with their times (microseconds), where to go on, and when to look again.

    `skipped` is how many it has left out before them: they keep their numbers, so that an id is never used for another.
    """

    arrivals: list[tuple[int, Arrival]]
    position: Any
    wake_at: int | None = None
    done: bool = False
    skipped: int = 0


class Reader(Protocol):
    """An open replayable source, read by the worker by position."""

    def read(self, position: Any, now: int, limit: int) -> Pull:
        """Return up to `limit` arrivals after `position` (None: from the start); never blocks."""

    def close(self) -> None:
        """Release what open() took."""


@runtime_checkable
class DurableReader(Protocol):
    """A reader that is told when its position is durable."""

    def durable(self) -> None:
        """Take note that all which was read so far, and the position with it, is durable everywhere."""
