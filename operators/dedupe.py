"""`dedupe`: the same again is dropped."""

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, Type, component


@component("dedupe")
class Dedupe(Stateful[dict[str, int]]):
    """Drop an event that was seen before within a time; what counts as the same is `by`, else the whole payload."""

    by: Expression | None = None
    """What makes two events the same; default: all their fields."""
    within: Duration = Field(600_000_000, gt=0)
    """How long (arrival time) an event is remembered since it was last let through."""
    most: int = Field(100_000, ge=1)
    """How many are remembered a key; the oldest are forgotten first."""

    state_type = dict[str, int]
    state_free = frozenset({"within", "most"})
    leftover, makes, unwired = "", frozenset[str](), {"repeated": "deduplicated"}
    outputs = {"repeated": "events that were seen before"}
    examples = (
        Example(
            about="A message id is let through once.",
            config="dedupe: {by: message_id, within: 10m}",
            given=[{"message_id": "a"}, {"message_id": "b"}, {"message_id": "a"}],
            expect=[{"message_id": "a"}, {"message_id": "b"}],
            side={"repeated": [{"message_id": "a"}]},
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in."""
        return given

    def _identity(self, event: Event) -> str:
        same: Any = event.data if self.by is None else self.by(event)
        return blake2b(msgspec.json.encode(same, order="deterministic"), digest_size=16).hexdigest()

    def on_event(self, state: dict[str, int] | None, event: Event, emit: Emit) -> dict[str, int]:
        """Remember what is let through, in the order of arrival."""
        seen = state if state is not None else {}
        oldest = event.arrival - self.within
        while seen and next(iter(seen.values())) <= oldest:
            del seen[next(iter(seen))]
        identity = self._identity(event)
        if identity in seen:
            emit(event, "repeated")
            return seen
        seen[identity] = event.arrival
        if len(seen) > self.most:
            del seen[next(iter(seen))]
        emit(event)
        return seen

    def due(self, state: dict[str, int]) -> int | None:
        """Return when the last one can be forgotten."""
        return next(reversed(state.values())) + self.within if state else None

    def on_time(self, state: dict[str, int], key: str, now: int, emit: Emit) -> dict[str, int] | None:
        """Forget the key."""
        return None
