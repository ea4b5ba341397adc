"""The `channels:` section: where dashboards listen, who may, and what they get on connect."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, field_validator
from pydantic_core import ErrorDetails

from engine.errors import SpecFault, SpecProblem, did_you_mean
from engine.field_docs import wanted

if TYPE_CHECKING:
    from engine.flow import Flow

ROLES = ("anyone", "viewer", "employee", "manager", "admin")
CONTROL_EVENTS = ("ack", "connect", "connect_error", "disconnect", "disconnecting", "error", "gap")
Role = Literal["anyone", "viewer", "employee", "manager", "admin"]
_TAKEN = ("auth", "console", "docs", "health", "media", "metrics", "socket.io", "static")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+|\{[a-z_][a-z0-9_]*\}")
_NAMESPACE = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_LONGEST = 64
_TAGS = ("str", "bool", "<event>", "<query>")


class FromQuery(BaseModel):
    """What a declared query answers; the channel's path parameter is a parameter of the query."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    query: str
    """Name of a query of this flow."""


def _branch(value: Any) -> str:
    return "<query>" if isinstance(value, dict | FromQuery) else "<event>"


First = Annotated[Annotated[str, Tag("<event>")] | Annotated[FromQuery, Tag("<query>")], Discriminator(_branch)]


class ChannelSpec(BaseModel):
    """A live channel: events go to all its clients, over plain WebSocket and Socket.IO alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    path: str
    """Path of the WebSocket; one `{parameter}` in it makes rooms: `/ws/chat/{room}`."""
    socketio: bool | str = False
    """Whether Socket.IO clients get it too: `true` in the default namespace, or a namespace like `/line`."""
    allow: Role = "employee"
    """Lowest role that may listen."""
    open: bool = False
    """Whether anybody may listen, without a token."""
    on_connect: dict[str, First] = Field(default_factory=dict)
    """What a new client gets first: event name to the kept event of this channel, or to `{query: name}`."""
    history: int = Field(default=1000, ge=0, le=100_000)
    """How many events are kept for clients that come back."""
    sends: Role | None = None
    """Lowest role that may send, where a source takes what clients send; by default the one that may listen."""

    @classmethod
    def parse(cls, name: str, spec: Any) -> "ChannelSpec":
        """Return the channel of one entry of the section; raises SpecFault with every problem."""
        problems: list[SpecProblem] = []
        if not _NAME.fullmatch(name):
            problems.append(_problem((), f"a name of small letters, digits and _; got '{name}'"))
        if not isinstance(spec, dict):
            raise SpecFault([*problems, _problem((), f"a mapping of options; got {_shown(spec)}")])
        try:
            found = cls.model_validate(spec)
        except ValidationError as fault:
            raise SpecFault(problems + _explained(fault)) from fault
        if problems:
            raise SpecFault(problems)
        return found

    @field_validator("path")
    @classmethod
    def _path(cls, path: str) -> str:
        segments = path[1:].split("/")
        if not path.startswith("/") or len(path) > 200 or not all(map(_SEGMENT.fullmatch, segments)):
            raise ValueError("a path like /ws/dashboard or /ws/chat/{room}")
        if sum(segment.startswith("{") for segment in segments) > 1:
            raise ValueError("a path with at most one {parameter}")
        if segments[0] in _TAKEN or segments[0].startswith("{"):
            raise ValueError(f"a path that begins with none of {', '.join(_TAKEN)} and no parameter")
        return path

    @field_validator("socketio")
    @classmethod
    def _namespace(cls, socketio: bool | str) -> bool | str:
        if isinstance(socketio, str) and not _NAMESPACE.fullmatch(socketio):
            raise ValueError("true, false or a namespace like /line")
        return socketio

    @field_validator("on_connect")
    @classmethod
    def _events(cls, events: dict[str, str | FromQuery]) -> dict[str, str | FromQuery]:
        for event in events:
            if not event_name_fits(event):
                taken = ", ".join(CONTROL_EVENTS)
                raise ValueError(f"event names of 1 to {_LONGEST} printable characters, other than {taken}")
        return events

    @property
    def listens(self) -> Role:
        """Return the lowest role that may listen."""
        return "anyone" if self.open else self.allow

    @property
    def sender(self) -> Role:
        """Return the lowest role that may send; opening a channel to listeners opens it to no sender."""
        return self.sends or self.allow

    @property
    def parameter(self) -> str:
        """Return the name of the path's parameter, whose values are the rooms; an empty string: no rooms."""
        found = re.search(r"\{(\w+)\}", self.path)
        return found[1] if found else ""

    @property
    def namespace(self) -> str:
        """Return the Socket.IO namespace; an empty string: none."""
        return self.socketio if isinstance(self.socketio, str) else "/" if self.socketio else ""

    def check(self, flow: "Flow") -> Iterator[SpecProblem]:
        """Yield what is wrong with this channel in its flow: paths that clash, names that mean nothing."""
        name = next((name for name, channel in flow.channels.items() if channel is self), "")
        for other, channel in flow.channels.items():
            if other == name:
                break
            if _shape(channel.path) == _shape(self.path):
                yield _problem(("path",), f"a path of its own; channel '{other}' has {channel.path}")
        if ROLES.index(self.sender) < ROLES.index(self.listens):
            message = f"the role that may listen ({self.listens}) or a higher one; got '{self.sender}'"
            yield _problem(("sends",), message)
        kept = _kept_events(flow, name)
        for event, value in self.on_connect.items():
            if isinstance(value, FromQuery):
                yield from _unknown(("on_connect", event, "query"), "a query of this flow", value.query, flow.queries)
            else:
                what = "an event that a channel sink keeps here (keep: last)"
                yield from _unknown(("on_connect", event), what, value, kept)


def event_name_fits(event: str) -> bool:
    """Tell whether a channel can carry events of this name."""
    return 0 < len(event) <= _LONGEST and event.isprintable() and event not in CONTROL_EVENTS


def _shape(path: str) -> str:
    return re.sub(r"\{\w+\}", "{}", path)


def _kept_events(flow: "Flow", channel: str) -> list[str]:
    sinks = [node.component for node in flow.section("sinks") if node.kind == "channel"]
    mine = [sink for sink in sinks if getattr(sink, "name", None) == channel and getattr(sink, "keep", None) == "last"]
    return [str(getattr(sink, "event", "")) for sink in mine]


def _unknown(where: tuple[str, ...], what: str, got: str, known: Any) -> Iterator[SpecProblem]:
    if got not in known:
        names = ", ".join(sorted(set(known))) or "there is none"
        yield _problem(where, f"{what} ({names}); got '{got}'", did_you_mean(got, known))


def _problem(where: tuple[str | int, ...], message: str, hint: str = "") -> SpecProblem:
    return SpecProblem(where=where, message=message, hint=hint)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    text = f"'{value}'" if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _explained(fault: ValidationError) -> list[SpecProblem]:
    found = ((tuple(part for part in error["loc"] if part not in _TAGS), error) for error in fault.errors())
    return [_explain(error, where) for where, error in dict(found).items()]


def _explain(error: ErrorDetails, where: tuple[str | int, ...]) -> SpecProblem:
    kind, got = error["type"], _shown(error.get("input"))
    if kind == "extra_forbidden":
        known = ["query"] if where[0] == "on_connect" else list(ChannelSpec.model_fields)
        return _problem(where, f"one of {', '.join(known)}; got '{where[-1]}'", did_you_mean(str(where[-1]), known))
    if kind == "missing":
        return _problem(where, "required, but missing")
    if kind == "literal_error":
        return _problem(where, f"one of {', '.join(ROLES)}; got {got}", did_you_mean(str(error.get("input")), ROLES))
    if kind == "value_error":
        return _problem(where, f"{error['ctx']['error']}; got {got}")
    return _problem(where, f"{_EXPECTED[str(where[0])]}; got {got}")


_EXPECTED = {
    "path": "a path like /ws/dashboard or /ws/chat/{room}",
    "socketio": "true, false or a namespace like /line",
    "open": "true or false",
    "on_connect": "a mapping of event names, each to the name of a kept event or {query: name}",
    "history": "a whole number from 0 to 100000",
}
