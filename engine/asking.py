"""Operators that ask somebody outside: what they are to give, and what is said of how they ask.

The events that wait for an answer are the operator's state (engine/desk.py); asking runs on the worker's I/O thread
(engine/ask_lane.py). Whoever writes such an operator gives `request` and `merge`, pure functions of an event, and
`open`, which connects.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import msgspec
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from engine.component import Component, Emit, Place, Stateful
from engine.errors import EventFault, Unavailable
from engine.event import Event
from engine.field_docs import wanted
from engine.quantities import Duration, duration_text

if TYPE_CHECKING:
    from engine.given import GivenAnswer

Cause = Literal["connection", "timeout", "busy", "server"]
CAUSES: list[Cause] = ["connection", "timeout", "busy", "server"]
LONGEST_WAIT = 30.0  # seconds


class Retry(BaseModel):
    """How often and when the same is asked again; the wait doubles each time, up to half a minute."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    times: int = Field(default=2, ge=0, le=100)
    """How often it is asked again."""
    wait: Duration = 200_000
    """The time before the first repetition."""
    causes: list[Cause] = CAUSES
    """Why: no `connection`, `timeout`, `busy` (status 408, 425 or 429), `server` (5xx)."""

    def __str__(self) -> str:
        return f"{{times: {self.times}, wait: {duration_text(self.wait)}, causes: [{', '.join(self.causes)}]}}"

    def pause(self, attempt: int, asked: float = 0.0) -> float:
        """Return the seconds before the repetition after this attempt (from 0); `asked`: what the other side asks."""
        wait = self.wait / 1e6 * float(1 << min(attempt, 40))
        return min(LONGEST_WAIT, max(asked, wait))


class Breaker(BaseModel):
    """When nobody is asked any more, and for how long; then one request is a probe."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted(), populate_by_name=True)

    failures: int = Field(default=5, ge=1)
    """After how many failed requests in a row."""
    for_: Duration = Field(default=30_000_000, alias="for", gt=0)
    """How long nobody is asked."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """How an operator asks. `linger` and `timeout` are microseconds."""

    batch: int = 1
    linger: int = 0
    timeout: int = 10_000_000
    at_once: int = 4
    most: int = 10_000
    when_full: Literal["wait", "fallback"] = "wait"
    retry: Retry = Retry()
    breaker: Breaker | None = None


class NoAnswer(Unavailable):
    """Nobody has answered, for this cause; `after` are the seconds that the other side asks to wait."""

    def __init__(self, reason: str, cause: Cause | Literal["open", "full"], after: float = 0.0) -> None:
        super().__init__(reason)
        self.cause, self.after = cause, after


class Indivisible(EventFault):
    """A fault of a whole batch: asking for each half would not help."""


class Question:
    """One event that waits, what is asked for it, and in the end the answer or why there is none."""

    __slots__ = ("answer", "done", "event", "fault", "request")

    def __init__(self, event: Event) -> None:
        self.event = event
        self.request: Any = None
        self.answer: Any = None
        self.fault: Exception | None = None
        self.done = False

    def settle(self, answer: Any = None, fault: Exception | None = None) -> None:
        """Note the outcome; the dataflow's thread looks at it once it is done."""
        self.answer, self.fault = answer, fault
        self.done = True


class Asked(Protocol):
    """Somebody who is asked, open on the I/O thread."""

    async def ask(self, questions: Sequence[Question]) -> list[Any]:
        """Return the answers to what is in `request`, in order. Raises NoAnswer, and EventFault for what is refused.

        A batch that is refused is asked again in halves, down to the event that is at fault, but for Indivisible.
        """

    async def close(self) -> None:
        """Let go of the connection."""


class Asking(Stateful[list[Event]]):
    """An operator whose result comes from outside, in the order of arrival; nothing waits but what is behind it."""

    keyed: ClassVar[bool] = False
    state_type: ClassVar[Any] = list[Event]
    leftover: ClassVar[str] = "in_flight"
    makes: ClassVar[frozenset[str] | None] = frozenset()
    _muted: bool = PrivateAttr(default=False)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Keep the events that wait whatever option is changed: they are asked for in the new way."""
        super().__pydantic_init_subclass__(**kwargs)
        cls.state_free = frozenset(cls.model_fields)

    @property
    def muted(self) -> bool:
        """Tell whether nobody may be asked: a replay looks at what would come out."""
        return self._muted

    def deployed(self, place: Place) -> Component:
        """Ask nobody where nothing may be written."""
        if not place.muted:
            return self
        placed = self.model_copy()
        object.__setattr__(placed, "_muted", True)
        return placed

    def terms(self) -> Terms:
        """Return how it asks."""
        return Terms()

    async def open(self) -> Asked:
        """Connect, on the I/O thread."""
        raise NotImplementedError

    def request(self, event: Event) -> Any:
        """Return what is asked for an event; raises EventFault."""
        raise NotImplementedError

    def merge(self, event: Event, answer: Any) -> Event:
        """Return the event with its answer; raises EventFault where it is none for this event."""
        raise NotImplementedError

    def fall_back(self, event: Event) -> Event | None:
        """Return the event as it goes on without an answer; None: it is a dead letter."""
        return None

    def given(self, answer: "GivenAnswer") -> Any:
        """Return the answer to one event that a flow test gives; raises as `ask`."""
        raise NotImplementedError

    def on_event(self, state: list[Event] | None, event: Event, emit: Emit) -> list[Event] | None:
        """Not called: events wait at a desk, see engine/desk.py."""
        raise NotImplementedError
