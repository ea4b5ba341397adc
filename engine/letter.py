"""One dead letter as it is stored, a choice of several, and the group of those with one cause."""

from typing import Any

import msgspec

STATES = ("new", "retried", "dropped")
CHANGES = {"retried": ("new", "dropped"), "dropped": ("new",)}
"""From which states a letter may come to each."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that failed at one node.

    `time` is when it arrived and `event_time` the event's own time, microseconds since 1970. `payload` is the event's
    data as JSON or the raw bytes that could not be decoded; `exact` is the data as MessagePack where JSON says less;
    `fixed` is the edited data that a retry takes in their place. `version` is that of the flow, `attempt` counts from
    1, `changed_at` and `changed_by` tell of the last change by somebody. `number` grows with each letter of a store, 0
    in one that is not stored yet; `cause` is the reason without its values.
    """

    id: bytes
    node: str
    time: int
    source: str
    topic: str
    reason: str
    details: dict[str, Any]
    payload: bytes
    version: str
    event_time: int = 0
    key: str = ""
    meta: dict[str, Any] | None = None
    exact: bytes = b""
    fixed: bytes | None = None
    cause: str = ""
    state: str = "new"
    attempt: int = 1
    changed_at: int = 0
    changed_by: str = ""
    number: int = 0


class Cause(msgspec.Struct, frozen=True):
    """How many letters of a node have a cause, when the latest arrived, and its reason in full."""

    node: str
    cause: str
    count: int
    latest: int
    reason: str


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters: what is given must all hold. `since` and `until` are arrival times in microseconds, inclusive."""

    numbers: tuple[int, ...] | None = None
    node: str | None = None
    cause: str | None = None
    since: int | None = None
    until: int | None = None
    states: tuple[str, ...] | None = None

    def conditions(self, *, in_order: bool = False) -> list[tuple[str, list[Any]]]:
        """Return conditions in SQL with their values.

        Where letters are wanted in the order of their numbers, an index that does not have them so is kept from use:
        it would sort all that is there for each page.
        """
        groups = None not in (self.node, self.cause) and len(self.states or ()) == 1
        no_index = "+" if in_order and not groups else ""
        found: list[tuple[str, list[Any]]] = []
        for name, several in (("number", self.numbers), (f"{no_index}state", self.states)):
            if several is not None:
                found.append((f"{name} IN ({', '.join('?' * len(several))})", list(several)))
        single = {
            f"{no_index}node = ?": self.node, f"{no_index}cause = ?": self.cause,
            "time >= ?": self.since, "time <= ?": self.until,
        }  # fmt: skip
        return found + [(text, [value]) for text, value in single.items() if value is not None]


ALL = Selection()
