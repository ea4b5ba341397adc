"""The component class: a frozen model whose fields, docstrings and examples are its options, docs, schema and tests."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict

from engine.arrival import Intake, Reader
from engine.client_socket import ClientSocket
from engine.event import Event
from engine.field_docs import wanted
from engine.option_expressions import option_expressions
from engine.problem import Problem, Slow
from engine.writer import Mender, Writer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from engine.code_writer import Code
    from engine.expression_check import Type
    from engine.expressions import Expression
    from engine.flow import Flow, Node
    from engine.outside import Outside
    from engine.reach import Reach


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One example of a component: the options as YAML, what goes in, and what comes out of it.

    `answers` are what comes back from outside, as in a flow test.
    """

    about: str
    config: str
    given: Sequence[dict[str, Any]] = ()
    expect: Sequence[dict[str, Any]] = ()
    side: dict[str, Sequence[dict[str, Any]]] = {}
    tables: dict[str, Sequence[dict[str, Any]]] = {}
    answers: Sequence[dict[str, Any]] = ()


class Place(msgspec.Struct, frozen=True):
    """What is known of the place where a flow runs: the data folder, each table's highest id at the first deploy."""

    data: Path
    highest: dict[str, int] = {}
    muted: bool = False
    """Nothing may be written here: a replay looks at what would come out."""


class Component(BaseModel):
    """What a node does: its class is its configuration. Constructing never connects."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=wanted(), arbitrary_types_allowed=True
    )

    kind: ClassVar[str] = ""
    section: ClassVar[str] = ""
    shorthand: ClassVar[str] = ""
    guarantee: ClassVar[str] = ""
    examples: ClassVar[tuple[Example, ...]] = ()
    outputs: ClassVar[dict[str, str]] = {}
    fault_output: ClassVar[str] = "errors"

    def __eq__(self, other: object) -> bool:
        """Tell whether the options are the same; what a component holds beside them is none of it."""
        return type(self) is type(other) and all(getattr(self, n) == getattr(other, n) for n in type(self).model_fields)

    def check(self, flow: "Flow", node: "Node") -> Iterable[Problem]:
        """Yield what is wrong with this node in its flow; never connects."""
        return ()

    def reads(self, given: "Mapping[str, Type]") -> "Iterable[tuple[str, Expression, Mapping[str, Type]]]":
        """Yield each expression of the options with its path and the fields that it may name, for the check of types.

        By default those are the fields of what comes in; an expression that looks at something else says so here, or
        is left out.
        """
        return ((option, expression, given) for option, expression in option_expressions(self))

    def check_fields(self, flow: "Flow", node: "Node", given: "Mapping[str, Type]") -> Iterable[Problem]:
        """Yield what is wrong with options that name fields, where all fields that come in are known."""
        return ()

    async def probe(self, node: "Node", reach: "Reach") -> Iterable[Problem]:
        """Return what is wrong with what this node would reach; only `lint --connect` asks.

        It changes nothing there: `reach` has what is tried alike, each with a bound of time.
        """
        return ()

    def slow(self, flow: "Flow", node: "Node") -> Iterable[Slow]:
        """Yield what is known to be slow about this node in its flow: it runs, and `lint` warns of it."""
        return ()

    def explain(self, fault: Exception, event: Event) -> Exception:
        """Return what an exception on an event means in the terms of this component's options."""
        return fault

    def deployed(self, place: Place) -> "Component":
        """Return the component as it runs at a place; in flow tests this is not called."""
        return self

    def side_outputs(self) -> Mapping[str, str]:
        """Return the outputs beside the main one with what they have: those of the class, unless options name them."""
        return self.outputs

    def implies(self, name: str, flow: str = "") -> dict[str, dict[str, Any]]:
        """Return what comes with this node: section → name → what stands there, as in YAML.

        Those of `tables` and `queries` come where the flow has none of that name; a source that comes with several
        nodes comes once.
        """
        return {}

    def beside(self) -> Iterable[str]:
        """Return the sources whose events this operator gets past its `where` and `key`; they come with it."""
        return ()

    @classmethod
    def options(cls, value: Any) -> Any:
        """Return the mapping of options that `kind: value` in a flow stands for."""
        whole = len(cls.model_fields) == 1
        if cls.shorthand and (whole or not isinstance(value, dict)):
            return {cls.shorthand: value}
        return {} if value is None else value


class Source(Component):
    """Where events come in. A pushed source runs in the gateway and writes to the inbox before it acknowledges."""

    section: ClassVar[str] = "sources"

    def gives(self) -> "Mapping[str, Type] | None":
        """Return all fields that its events may have, with their types; None: not known."""
        return None

    async def run(self, intake: Intake) -> None:
        """Receive until cancelled."""

    @classmethod
    async def run_all(cls, members: Sequence[tuple[Self, Intake]]) -> None:
        """Receive for all sources of this kind in one flow until cancelled; by default each by itself."""
        async with asyncio.TaskGroup() as group:
            for source, intake in members:
                group.create_task(source.run(intake))


class RoutedSource(Source):
    """A pushed source that is served by the gateway's HTTP port."""

    def route(self) -> tuple[str, str, str | None]:
        """Return method, path and the role that is asked for (None: anybody)."""
        raise NotImplementedError

    async def answer(self, request: "Request", intake: Intake) -> "Response":
        """Take one request, answer it after the commit."""
        raise NotImplementedError


class SocketSource(Source):
    """A pushed source whose clients hold a WebSocket to the gateway's HTTP port."""

    def socket(self) -> tuple[str, str | None]:
        """Return path and the role that is asked for (None: anybody)."""
        raise NotImplementedError

    async def serve(self, socket: ClientSocket, intake: Intake) -> None:
        """Take what one client sends, until it is gone."""
        raise NotImplementedError


class ChannelSource(Source):
    """A pushed source of what the clients of a channel send."""

    def channel(self) -> str:
        """Return the channel's name."""
        raise NotImplementedError


class PulledSource(Source):
    """A source that can be read again from a position: the worker reads it directly, without the inbox."""

    def open(self) -> Reader:
        """Open on the process that reads."""
        raise NotImplementedError


class Emit(Protocol):
    """Where an operator puts its events. `node` is the node's name: it belongs into the ids of what the node makes."""

    node: str

    def __call__(self, event: Event, output: str = "") -> None:
        """Send to the main output or to the side output with this name."""

    def fault(self, event: Event, reason: str, values: dict[str, Any] | None = None) -> None:
        """Send an event to the dead letters and to the fault output; nothing else is lost by it."""


class Operator(Component):
    """What happens to events on their way: a pure function, without clock, randomness or I/O."""

    section: ClassVar[str] = "operators"

    def gives(self, given: "Mapping[str, Type] | None", output: str = "") -> "Mapping[str, Type] | None":
        """Return all fields that events of an output may have, with their types; None: not known.

        `given` are those of the events that come in. By default nothing is known of the main output, and the fault
        output has what came in.
        """
        return given if output in ("errors", self.fault_output) else None

    def empty(self) -> dict[str, Any] | None:
        """Return what stands for its output before there is one, such as a count of nothing; None: there is none."""
        return None


class Stateless(Operator):
    """An operator without memory. Give `apply`; the built-in ones give `code` and are inlined."""

    def apply(self, event: Event, emit: Emit) -> None:
        """Emit what comes out for one event; raise EventFault to send it to the dead letters."""
        raise NotImplementedError

    def code(self, code: "Code") -> bool:
        """Write the operator into the generated function; False: call `apply` instead."""
        return False


S = TypeVar("S")


class Stateful(Operator, Generic[S]):
    """An operator with memory, one value of `state_type` a key (one for all, unless `keyed`). None forgets the key."""

    state_type: ClassVar[Any] = Any
    keyed: ClassVar[bool] = True
    state_free: ClassVar[frozenset[str]] = frozenset()
    """Options that may change and leave a stored state what it is; by default any change makes it another."""
    leftover: ClassVar[str] = "state"
    """For the ledger: what an event is that comes out nowhere: state, deduplicated, dropped; "": each comes out."""
    makes: ClassVar[frozenset[str] | None] = None
    """For the ledger: the outputs whose events are its own, not those that came in; None: it may be either."""
    unwired: ClassVar[dict[str, str]] = {}
    """For the ledger: what an event is that goes to a side output which nothing takes; by default filtered."""

    def on_event(self, state: S | None, event: Event, emit: Emit) -> S | None:
        """Return the key's next state."""
        raise NotImplementedError

    def on_events(
        self, states: dict[str, S], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Take events between which no time passes, with the same outcome as by `on_event`, many at once.

        What is not simple, or has raised, is left to `one`, its state as it was. Returns the keys due earlier now.
        """
        for event in events:
            one(event)
        return ()

    def due(self, state: S) -> int | None:
        """Return when (microseconds of arrival time) `on_time` is to be called for this key; None: never."""
        return None

    def on_time(self, state: S, key: str, now: int, emit: Emit) -> S | None:
        """Return the key's next state after its time has come; `now` is the time that `due` gave."""
        return state

    def on_gap(self, state: S, length: int) -> S:
        """Return the state after `length` microseconds of arrival time in which the gateway was down.

        What waits for silence moves its times on by them; what waits for the clock leaves the state as it is.
        """
        return state


class Sink(Component):
    """Where events go."""

    section: ClassVar[str] = "sinks"
    spills: ClassVar[bool] = True
    """Whether events wait on the disk while the target is away, so that the flow goes on."""

    async def open(self, node: "Node", outside: "Outside") -> Writer:
        """Connect and return the open Writer; runs in the worker on its I/O thread."""
        raise NotImplementedError

    def mend(self, node: "Node", outside: "Outside") -> Mender | None:
        """Return what writes only what the target lacks, for `replay --repair`; None: this kind cannot."""
        return None
