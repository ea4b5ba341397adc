"""`alert`: what is wrong, since when, and who sees to it."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Node,
    Problem,
    Stateful,
    Type,
    alert_desk,
    alert_levels,
    alert_machine,
    check_path,
    component,
    derived_id,
)

Level = alert_levels.Level
Watch = alert_machine.Watch
LONGEST_MESSAGE, MOST_ACTS = 1000, 100
Role = Literal["anyone", "viewer", "employee", "manager", "admin"]


@component("alert")
class Alert(Stateful[Watch]):
    """Tell when something is wrong, for each key by itself: what begins, gets worse, is seen to and ends, by time too.

    A condition that holds for as long as `for` says raises an alert, whether or not anything more comes; it is cleared
    when the condition has not held for `clear_for`. With `levels` the alert is at the highest one that is raised. A
    reading that lacks a field of a condition changes nothing there, unless the condition speaks of `none`, `exists`,
    `default`, `coalesce` or `if_none`. Time is that of arrival; it goes on over restarts and redeploys. While the
    gateway is down nothing can come that ends a condition: a hold (`for`, `clear_for`, `absent`) goes on after it where
    it stood, and where the next reading says that the condition still holds, that time counts as well; `again_after`,
    `repeat` and what is muted go by the clock. A key is watched from its first event on.

    What comes out are new events, one a change: `alert` (the same in all events of one alert), `name` (of the node),
    `key`, `change` (fired, escalated, eased, repeated, acknowledged, muted, unmuted, cleared), `state` (firing,
    acknowledged, cleared), `severity`, `since` (when the condition began), `fired_at`, `at`, `cleared_at`,
    `acknowledged_at`, `acknowledged_by`, `muted_until`, `episode` and `number` (which alert of the key this is, which
    event of the alert), `count` (readings so far), `reading` (the `fields` of the last one) and `message`.

    With it come a table of one row an alert, `GET /flows/NAME/alerts` (by `state`, `name`, `key`, `severity` and
    `alert`, the newest first) and `POST /flows/NAME/alerts/{do}`, which acknowledges, clears and mutes: the source
    `alerts` says how. What people do goes through the inbox, so that a replay gives the same.
    """

    when: Expression | None = None
    """The condition."""
    for_: Duration = Field(0, alias="for")
    """How long it must hold before the alert fires."""
    for_seconds: Expression | None = None
    """How many seconds instead, where that depends on the reading or on a live table; where it is none, `for` holds."""
    clear_when: Expression | None = None
    """The condition that ends it, such as a lower bound; default: `when` does not hold."""
    clear_for: Duration = 0
    """How long that must hold before the alert is cleared."""
    severity: str = Field("warning", min_length=1, max_length=40)
    """What the level is called where there is one only."""
    absent: Duration | None = Field(None, gt=0)
    """Instead of `when`: how long nothing must come before the alert fires; it is cleared when something comes."""
    levels: list[Level] = []
    """Instead of `when`: levels, the least severe first, each with `level` (its name), `when` or `absent`, `for` and
    `clear_when`; the highest that is raised counts."""
    again_after: Duration = 0
    """The least time between two alerts of a key; one whose condition still holds then fires then."""
    repeat: Duration = 0
    """How often people are reminded while an alert is neither cleared nor acknowledged nor muted; 0s: never."""
    fields: list[str] | None = None
    """The fields of the last reading that are told; default: those that the conditions name."""
    message: Expression | None = None
    """What people are told."""
    on_resume: Literal["rebase", "advance"] = "rebase"
    """Whether holds go on where they stood after the gateway was down, or count that time in any case."""
    forget: Duration = Field(7 * 86_400_000_000, gt=0)
    """How long a key is remembered after its last event, where no alert is open; `episode` begins at 1 again then."""
    table: str = "alert"
    """The table of one row an alert, made where the flow has none of that name; `none`: nothing comes with it."""
    path: str = ""
    """Where the alerts are served; default: `/flows/NAME/alerts`."""
    allow: Role = "viewer"
    """The least role that may read them."""
    handle: Role = "employee"
    """The least role that may acknowledge, clear and mute."""

    shorthand = "when"
    state_type = Watch
    state_free = frozenset(
        {"when", "for_", "for_seconds", "clear_when", "clear_for", "severity", "absent", "levels", "again_after"}
        | {"repeat", "fields", "message", "on_resume", "forget", "table", "path", "allow", "handle"}
    )
    makes = frozenset({"", "muted"})
    outputs = {"muted": "changes of alerts that are muted, which people are not told of; the table has them"}

    examples = (
        Example(
            about="Too hot for half a minute; it is over below 35 degrees.",
            config="alert: {when: t > 38, for: 30s, clear_when: t < 35, message: '\"too hot: \" + text(t)'}",
            given=[{"at": "0s", "t": 39}, {"at": "10s", "t": 40}, {"at": "60s", "t": 36}, {"at": "70s", "t": 34}],
            expect=[
                {"change": "fired", "state": "firing", "reading": {"t": 40}, "message": "too hot: 40"},
                {"change": "cleared", "state": "cleared", "reading": {"t": 34}},
            ],
        ),
        Example(
            about="Two levels: it escalates and eases.",
            config="""\
alert:
  levels:
    - {level: warning, when: load > 60, for: 30s}
    - {level: critical, when: load > 80}
""",
            given=[
                {"at": "0s", "load": 70},
                {"at": "40s", "load": 90},
                {"at": "50s", "load": 65},
                {"at": "1m", "load": 1},
            ],
            expect=[
                {"change": "fired", "severity": "warning"},
                {"change": "escalated", "severity": "critical"},
                {"change": "eased", "severity": "warning"},
                {"change": "cleared", "severity": "warning"},
            ],
        ),
        Example(
            about="A device that is silent for five minutes is off line.",
            config="alert: {absent: 5m, severity: critical, table: none}",
            given=[{"at": "0s", "t": 1}, {"at": "4m", "t": 1}, {"at": "12m", "t": 1}],
            expect=[{"change": "fired", "severity": "critical"}, {"change": "cleared"}, {"change": "fired"}],
        ),
        Example(
            about="Crying is told at most once in two minutes, and again after ten while nobody sees to it.",
            config='alert: {when: status == "Crying", for: 3s, again_after: 2m, repeat: 10m}',
            given=[
                {"at": "0s", "status": "Crying"},
                {"at": "5s", "status": "Not Crying"},
                {"at": "20s", "status": "Crying"},
                {"at": "13m", "status": "Not Crying"},
            ],
            expect=[{"change": name} for name in ("fired", "cleared", "fired", "repeated", "cleared")],
        ),
    )

    @model_validator(mode="after")
    def _one_way(self) -> "Alert":
        ways = [name for name in ("when", "absent", "levels") if getattr(self, name)]
        if len(ways) != 1:
            raise ValueError(f"when: one of when, absent and levels; got {' and '.join(ways) or 'none'}")
        if self.when is None and self.clear_when is not None:
            raise ValueError(f"clear_when: when with it; got {ways[0]}")
        names = [level.level for level in self.levels]
        if len(set(names)) < len(names):
            raise ValueError("levels: names of their own")
        return self

    @cached_property
    def steps(self) -> list[Level]:
        """Return the levels, the least severe first."""
        if self.levels:
            return self.levels
        one = Level.model_construct(
            level=self.severity, when=self.when, absent=self.absent, for_=None, clear_when=self.clear_when
        )
        return [one]

    @cached_property
    def machine(self) -> alert_machine.Machine:
        """Return what the options say of the life of an alert."""
        rules = alert_levels.rules(self.steps, self.for_, varies=self.for_seconds is not None)
        return alert_machine.Machine(rules, self.clear_for, self.again_after, self.repeat, self.forget)

    @cached_property
    def _is_timed(self) -> bool:
        """Tell whether a key is watched even where no condition holds."""
        return any(rule.silence for rule in self.machine.rules)

    @cached_property
    def conditions(self) -> alert_levels.Conditions:
        """Return the conditions of all levels."""
        return alert_levels.Conditions(self.steps)

    @cached_property
    def _told(self) -> list[str]:
        """Return the fields of a reading that are told."""
        return self.conditions.fields if self.fields is None else self.fields

    @cached_property
    def _hands(self) -> str:
        return alert_desk.desk_name(self.path)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields of a change."""
        return alert_desk.FIELDS if output in ("", "muted") else given

    def implies(self, name: str, flow: str = "") -> dict[str, dict[str, Any]]:
        """Return the table of alerts, its sink and its query, and the source of what people do."""
        if self.table == "none":
            return {}
        found = alert_desk.desk(flow, self.table, self.path, self.allow, self.handle)
        return found | {"sinks": alert_desk.row_sink(name, flow, self.table)}

    def beside(self) -> Iterable[str]:
        """Return the source of what people do."""
        return () if self.table == "none" else (self._hands,)

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a path that cannot be served, and alerts that are served at one path in two ways."""
        for message in check_path(self.path) if self.path else ():
            yield Problem("path", "path", message)
        if self.table != "none":
            others = [other for other in flow.section("operators") if isinstance(other.component, Alert)]
            yield from alert_desk.differences(self, others)

    def on_event(self, state: Watch | None, event: Event, emit: Emit) -> Watch | None:
        """Take a reading, or what somebody does."""
        if event.source == self._hands:
            return self._by_hand(state, event, emit)
        judged, wait = self.conditions.judge(event), alert_levels.waited(self.for_seconds, event)
        if state is None:
            if not self._is_timed and not any(holds for holds, _ in judged):
                return None
            state = Watch({})
        self._read(state, event)
        for rule, found in zip(self.machine.rules, judged, strict=True):
            self.machine.observe(state, rule, found, event.arrival, wait)
        state.count = state.count + 1 if state.level or state.is_held else 0
        if self.machine.is_due(state, event.arrival):
            return self._settled(state, event.key, event.arrival, emit)
        return state

    def _read(self, state: Watch, event: Event) -> None:
        """Keep what people are told of a reading; what may fail comes first."""
        message = None if self.message is None else self.message(event)
        state.message = "" if message is None else str(message)[:LONGEST_MESSAGE]
        if told := {name: event.data[name] for name in self._told if name in event.data}:
            state.reading = told
        state.heard = max(state.heard, event.arrival)

    def _settled(self, state: Watch, key: str, now: int, emit: Emit) -> Watch | None:
        self._tell(state, key, self.machine.settle(state, now), now, emit)
        return None if self.machine.is_over(state, now) else state

    def due(self, state: Watch) -> int | None:
        """Return when a hold, a mute or a cool-down is over, or a reminder is due."""
        return self.machine.due(state)

    def on_time(self, state: Watch, key: str, now: int, emit: Emit) -> Watch | None:
        """Let happen what time brings, and then what people have done at that time."""
        self._tell(state, key, self.machine.settle(state, now), now, emit)
        for act in [act for act in state.acts if act.at <= now]:
            state.acts.remove(act)
            if not act.alert or act.alert == self._id(state, key, emit):
                self._tell(state, key, self.machine.act(state, act), now, emit)
        return self._settled(state, key, now, emit)

    def on_gap(self, state: Watch, length: int) -> Watch:
        """Let holds begin later by the time in which nothing could come."""
        if self.on_resume == "rebase":
            self.machine.shift(state, length)
        return state

    def on_events(self, states: dict[str, Watch], events: Sequence[Event], emit: Emit, one: Any) -> Iterable[str]:
        """Let what is done about every key reach each key of the shard, and those that come later."""
        return alert_desk.spread(states, events, self._hands, one)

    def _by_hand(self, state: Watch | None, event: Event, emit: Emit) -> Watch | None:
        """Note what somebody does; it is done when time comes to it, so that what was before it comes first."""
        act = alert_desk.act_of(event)
        if event.data.get("name") not in (None, emit.node):
            return state
        state = Watch({}) if state is None else state
        if len(state.acts) >= MOST_ACTS:
            raise EventFault(f"at most {MOST_ACTS} acts at a time for a key")
        state.acts.append(act)
        return state

    def _id(self, state: Watch, key: str, emit: Emit) -> str:
        return alert_desk.alert_id(emit.node, key, state.name)

    def _tell(self, state: Watch, key: str, changes: Iterable[str], now: int, emit: Emit) -> None:
        """Emit changes as the watch shows them; while the alert is muted, to the side."""
        for change in changes:
            state.number += 1
            data = {"alert": self._id(state, key, emit), "name": emit.node, "key": key, **state.told(change, now)}
            made = derived_id(emit.node, key, f"{state.name}.{state.number}")
            muted = now < state.muted and change != "muted"
            emit(Event(made, now, key, "", "", data, None, now), "muted" if muted else "")
