"""The `tests:` of a flow: what is sent, when, and what must come out, on a virtual clock."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

from engine.field_docs import wanted
from engine.quantities import Duration


class Send(BaseModel):
    """One message of a flow test."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    to: str
    """The source that gets it."""
    at: Duration = 0
    """When it arrives, counted from the start of the test."""
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
    """One test. `expect` maps a node (or `deadletters`, or `node.output`) to what came out of it, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    name: str
    """What must hold."""
    start: datetime | None = None
    """When the clock begins, written "2026-03-01T08:00:00Z": for payloads that carry times of their own."""
    send: list[Send] = []
    """What comes in."""
    advance: Duration = 0
    """How far the clock goes on after the last message."""
    restart: list[Restart] = []
    """When the flow is stopped and started again from its snapshot; `{at: 10s, down: 1h}` is an outage."""
    expect: dict[str, list[Any]] = {}
    """What comes out: each event must have at least these fields."""
