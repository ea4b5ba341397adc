"""The `tests:` of a flow: what is sent, when, and what must come out, on a virtual clock."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from engine.expectation import unfit
from engine.field_docs import wanted
from engine.given import GivenAnswer
from engine.quantities import Duration


class Send(BaseModel):
    """One message of a flow test."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    to: str
    """The source that gets it."""
    at: Duration | None = None
    """When it arrives, counted from the start of the test; default: when the step before it does."""
    topic: str = ""
    """Its topic."""
    data: Any = None
    """Its payload; sent as JSON."""
    raw: str | None = None
    """Its payload as it is, for what is not JSON."""
    meta: dict[str, Any] | None = None
    """What the source would know of it, such as the account."""
    times: int = Field(1, ge=1, le=10_000)
    """How often it is sent."""

    @model_validator(mode="after")
    def _one_payload(self) -> "Send":
        if self.data is not None and self.raw is not None:
            raise ValueError("raw: either data or raw")
        return self


class Change(BaseModel):
    """A change of a live table between the messages of a flow test: either `put` or `remove`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    table: str
    """The live table."""
    at: Duration | None = None
    """When it changes, counted from the start; default: as the step before. What arrives then sees it changed."""
    put: dict[str, Any] | None = None
    """A row; where there is one with its key, the columns that are named."""
    remove: Any = None
    """The key of a row that goes; a list of values where rows are found by several columns."""

    @model_validator(mode="after")
    def _one_change(self) -> "Change":
        if (self.put is None) == (self.remove is None):
            raise ValueError("put: either put or remove")
        return self


class Advance(BaseModel):
    """Time in which nothing comes; the steps behind it that have no `at` come after it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    advance: Duration
    """How far the clock goes on from the step before."""


def _kind_of_step(value: Any) -> str:
    """Tell steps by the option that only they have. The brackets keep the name out of locations."""
    if isinstance(value, dict):
        return "change()" if "table" in value else "advance()" if "advance" in value and "to" not in value else "send()"
    return "change()" if isinstance(value, Change) else "advance()" if isinstance(value, Advance) else "send()"


Step = Annotated[
    Annotated[Send, Tag("send()")] | Annotated[Change, Tag("change()")] | Annotated[Advance, Tag("advance()")],
    Discriminator(_kind_of_step),
]


class Listed(BaseModel):
    """What is said of the events that came out, where they are not all listed in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    count: int | None = Field(None, ge=0)
    """How many there are."""
    first: Any = None
    """The first."""
    last: Any = None
    """The last; of an event of a channel that keeps it (`keep: last`), what those see who connect now."""
    unordered: list[Any] | None = None
    """These and no others, in any order."""
    includes: list[Any] | None = None
    """These are among them, in any order."""

    @model_validator(mode="after")
    def _something(self) -> "Listed":
        if not self.model_fields_set:
            raise ValueError("something: count, first, last, unordered or includes")
        return self


def _kind_of_expected(value: Any) -> str:
    return "listed()" if isinstance(value, dict | Listed) else "events()"


Expected = Annotated[
    Annotated[list[Any], Tag("events()")] | Annotated[Listed, Tag("listed()")], Discriminator(_kind_of_expected)
]


class Restart(BaseModel):
    """A stop and a start from the snapshot, written `10s`, or `{at: 10s, down: 1h}` where the gateway is down between.

    What is sent to a gateway that is down arrives when it is back.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    at: Duration
    """When it stops."""
    down: Duration = 0
    """How long the gateway is down; 0 where only the flow is restarted."""

    @model_validator(mode="before")
    @classmethod
    def _time_alone(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"at": value}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = handler.resolve_ref_schema(handler(core))
        return {"anyOf": [whole["properties"]["at"], whole]}


class FlowTest(BaseModel):
    """One test. `expect` maps a node, `node.output`, `channel.event` or `deadletters` to what came out, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    name: str
    """What must hold."""
    start: datetime | None = None
    """When the clock begins, written "2026-03-01T08:00:00Z": for payloads that carry times of their own."""
    tables: dict[str, list[dict[str, Any]]] = {}
    """The rows of live tables at the start, by table."""
    send: list[Step] = []
    """What comes in, and how live tables change and time passes between."""
    answers: dict[str, list[GivenAnswer]] = {}
    """What comes back to the nodes that ask somebody outside, by node: nobody else is asked in a test."""
    advance: Duration = 0
    """How far the clock goes on after the last step."""
    restart: list[Restart] = []
    """When the flow is stopped and started again from its snapshot; `{at: 10s, down: 1h}` is an outage."""
    exactly: bool = False
    """Whether events have the fields that are named and no others; else at least these."""
    expect: dict[str, Expected] = {}
    """What comes out; values may be matchers such as `{approx: 1.5, within: 0.1}`."""

    @field_validator("expect")
    @classmethod
    def _matchers(cls, expect: dict[str, Any]) -> dict[str, Any]:
        for name, expected in expect.items():
            for message in unfit(wanted_of(expected)):
                raise ValueError(f"{name}: {message}")
        return expect


def wanted_of(expected: list[Any] | Listed) -> Any:
    """Return what is expected as it stands in the file."""
    return expected.model_dump(exclude_unset=True) if isinstance(expected, Listed) else expected
