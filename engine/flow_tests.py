"""The `tests:` of a flow: what is sent, when, and what must come out, on a virtual clock."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.quantities import Duration


class Send(BaseModel):
    """One message of a flow test."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

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


class FlowTest(BaseModel):
    """One test. `expect` maps a node (or `deadletters`, or `node.output`) to what came out of it, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """What must hold."""
    send: list[Send] = []
    """What comes in."""
    advance: Duration = 0
    """How far the clock goes on after the last message."""
    restart: list[Duration] = []
    """When the flow is stopped and started again from its snapshot."""
    expect: dict[str, list[Any]] = {}
    """What comes out: each event must have at least these fields."""
