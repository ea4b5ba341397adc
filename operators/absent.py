"""`absent`: a key has been silent for a time, and is back."""

from collections.abc import Mapping

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, Type, component, derived_id, moment


class Silence(msgspec.Struct, array_like=True):
    """When a key was last heard (arrival), when it is said next that it is absent, how often that was, until when."""

    heard: int
    next: int
    said: int = 0
    until: int = 0


@component("absent")
class Absent(Stateful[Silence]):
    """Say that no event of a key has come for a time, and when one comes again.

    What comes out is a new event with `key`, `since` (when the last one came), `seconds` (how long ago that is) and
    `repeated` (how often it was said before); on `.back`, when the key is heard again: `key`, `since`, `until`,
    `seconds`. A key is known from its first event on. Time is that of arrival; that in which the gateway was down, when
    nobody could be heard, is no silence. The events themselves do not go on: take them from where they come from.
    """

    for_: Duration = Field(alias="for", gt=0)
    """How long a key must be silent."""
    when: Expression | None = None
    """What holds for an event that counts; default: each."""
    repeat: Duration = 0
    """The time between two events while the key is absent; 0s: it is said once."""
    forget: Duration = Field(7 * 86_400_000_000, gt=0)
    """How long after it was found absent a key is forgotten: it is then not said to be back."""

    state_type = Silence
    state_free = frozenset({"for_", "when", "repeat", "forget"})
    makes = frozenset({"", "back"})
    outputs = {"back": "one event when a key that was absent is heard again: key, since, until, seconds"}
    examples = (
        Example(
            about="A device that is not heard for a minute is off line; it is back with its next message.",
            config="absent: {for: 1m}",
            given=[{"at": "0s", "t": 1}, {"at": "30s", "t": 2}, {"at": "200s", "t": 3}, {"at": "201s", "t": 4}],
            expect=[{"key": "", "seconds": 60.0, "repeated": 0}, {"key": "", "seconds": 60.0, "repeated": 0}],
            side={"back": [{"key": "", "seconds": 170.0}]},
        ),
        Example(
            about="No good part for ten minutes, said again every five.",
            config='absent: {for: 10m, when: result == "OK", repeat: 5m, forget: 10m}',
            given=[{"at": "0s", "result": "OK"}, {"at": "9m", "result": "BAD"}],
            expect=[
                {"seconds": 600.0, "repeated": 0},
                {"seconds": 900.0, "repeated": 1},
            ],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what is said of a silence."""
        if output not in ("", "back"):
            return given
        known = {"key": Type("text"), "since": Type("time"), "seconds": Type("float")}
        return known | ({"until": Type("time")} if output else {"repeated": Type("number")})

    def on_event(self, state: Silence | None, event: Event, emit: Emit) -> Silence:
        """Take note of a sign of life."""
        if self.when is not None and not self.when(event) and state is not None:
            return state
        if state is not None and state.said:
            self._say(state, event.key, event.arrival, emit, "back")
        heard = event.arrival if state is None else max(state.heard, event.arrival)
        return Silence(heard, heard + self.for_)

    def _say(self, state: Silence, key: str, now: int, emit: Emit, output: str) -> None:
        data = {"key": key, "since": moment(state.heard), "seconds": round((now - state.heard) / 1_000_000, 3)}
        data |= {"until": moment(now)} if output else {"repeated": state.said}
        start = f"{state.heard} {output or state.said}"
        emit(Event(derived_id(emit.node, key, start), now, key, "", "", data, None, now), output)

    def due(self, state: Silence) -> int | None:
        """Return when it is said, or when the key is forgotten."""
        return min(state.next, state.until) if state.until else state.next

    def on_time(self, state: Silence, key: str, now: int, emit: Emit) -> Silence | None:
        """Say that the key is absent."""
        if state.until and now >= state.until:
            return None
        self._say(state, key, now, emit, "")
        state.said += 1
        state.until = state.until or now + self.forget
        state.next = now + self.repeat if self.repeat else state.until
        return state

    def on_gap(self, state: Silence, length: int) -> Silence:
        """Wait longer by the time in which nobody could be heard."""
        state.next += length
        if state.until:
            state.until += length
        return state
