"""The `tests:` of a flow: what is sent, when, and what must come out, on a virtual clock."""

from typing import Any

from pydantic import BaseModel, ConfigDict

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
    times: int = 1
    """How often it is sent."""


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
