"""The hub alone: numbers, de-duplication, kept values, pace, rooms, resume, snapshot."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.channels import ChannelSpec
from tests.web.channel_server import Pushes
from web.channel import KEPT
from web.channel_backlog import Backlog
from web.channel_log_file import SEEN
from web.channel_message import Message, Snapshot, Write, nothing
from web.channel_websocket import room_in
from web.channels import ChannelHub


class Clock:
    """Time and timers that the test advances."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, delay: float, call: Callable[[], None]) -> "Clock":
        self.timers.append((self.now + delay, call))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer[0] <= end), key=lambda timer: timer[0]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end


class Recorder:
    """A client that takes everything at once."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.closed: tuple[int, str] | None = None
        self.waiting = (0, 0.0)
        self.direct: Write | None = None
        self.on_change: Callable[[], None] = nothing

    def send(self, message: Message) -> None:
        self.got.append(message)

    def cut(self, code: int, reason: str) -> None:
        self.closed = (code, reason)

    def events(self) -> list[tuple[str, Any]]:
        return [(message.event, msgspec.json.decode(message.body)) for message in self.got]


def a_hub(clock: Clock | None = None, query: Any = None, **options: Any) -> ChannelHub:
    spec = ChannelSpec.parse("dashboard", {"path": "/ws/dashboard", **options})
    clock = clock or Clock()
    return ChannelHub("line", {"dashboard": spec}, clock, clock.later, query=query, run="r")


async def joined(hub: ChannelHub, room: str = "", after: str = "") -> Recorder:
    client = Recorder()
    await hub.join(hub.channels["dashboard"], client, None, room, after)
    return client


async def test_events_are_numbered_and_an_id_counts_once() -> None:
    hub = a_hub()
    client = await joined(hub)
    push = Pushes(hub)
    again = push("car_added", {"car_id": 1})
    push("car_added", {"car_id": 2})
    hub.publish([again])
    assert [(m.id, m.event, m.body) for m in client.got] == [
        ("r-1", "car_added", b'{"car_id":1}'),
        ("r-2", "car_added", b'{"car_id":2}'),
    ]
    assert hub.report()["dashboard"] == {
        "clients": 1, "number": 2, "sent": 2, "repeated": 1, "conflated": 0, "cut": 0, "refused": 0,
    }  # fmt: skip


async def test_one_reading_may_make_two_events() -> None:
    hub = a_hub()
    client = await joined(hub)
    push = Pushes(hub)
    first = push("sensor_defect", 1)
    first.event = "alarm"
    hub.publish([first])
    assert [m.event for m in client.got] == ["sensor_defect", "alarm"]


async def test_memory_is_bounded() -> None:
    hub = a_hub(history=10)
    push = Pushes(hub)
    for number in range(SEEN + 50):
        push("state", number, keep=True, room=str(number))
    channel = hub.channels["dashboard"]
    assert len(channel._seen) == SEEN
    assert len(channel._history) == 10
    assert len(channel.kept) == KEPT


async def test_kept_values_stand_by_event_and_room() -> None:
    hub = a_hub()
    push = Pushes(hub)
    push("level", 1, keep=True, room="a")
    push("level", 2, keep=True, room="b")
    push("level", 3, keep=True, room="a")
    push("noise", 4)
    assert hub.kept("dashboard", "level", "a") == b"3"
    assert hub.kept("dashboard", "level", "b") == b"2"
    assert hub.kept("dashboard", "level") is hub.kept("dashboard", "noise") is hub.kept("nowhere", "level") is None
    other = a_hub()
    other.publish(hub.keeps())
    assert other.kept("dashboard", "level", "b") == b"2"


async def test_pace_sends_the_first_at_once_and_the_last_always() -> None:
    clock = Clock()
    hub = a_hub(clock)
    client, push = await joined(hub), Pushes(hub)
    for number in range(1, 8):
        push("stats", number, keep=True, at_most=10.0)
    assert [data for _, data in client.events()] == [1]
    assert hub.kept("dashboard", "stats") == b"7", "the summary is never behind"
    clock.advance(0.1)
    assert [data for _, data in client.events()] == [1, 7]
    push("stats", 8, keep=True, at_most=10.0)
    assert [data for _, data in client.events()] == [1, 7], "the interval began with the last one sent"
    clock.advance(5)
    push("stats", 9, keep=True, at_most=10.0)
    assert [data for _, data in client.events()] == [1, 7, 8, 9]
    assert hub.report()["dashboard"]["conflated"] == 5


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.floats(0, 0.4)), max_size=40), st.sampled_from([1.0, 10.0]))
def test_pace_holds_the_rate_and_the_last_state_arrives(steps: list[tuple[str, float]], rate: float) -> None:
    clock = Clock()
    hub = a_hub(clock)
    push, client = Pushes(hub), Recorder()
    hub.channels["dashboard"].enter(client, "").release()
    last: dict[str, int] = {}
    for number, (event, wait) in enumerate(steps):
        push(event, number, at_most=rate)
        last[event] = number
        clock.advance(wait)
    clock.advance(2)
    assert dict(client.events()) == last
    for name in last:
        sent = [message.sent for message in client.got if message.event == name]
        assert all(after - before >= 1 / rate - 1e-9 for before, after in pairwise(sent))


async def test_resume_gives_what_was_missed_and_only_that() -> None:
    hub = a_hub(history=3)
    push = Pushes(hub)
    for number in range(1, 6):
        push("progress", number)
    assert [m.id for m in (await joined(hub, after="r-3")).got] == ["r-4", "r-5"]
    assert [m.id for m in (await joined(hub, after="r-2")).got] == ["r-3", "r-4", "r-5"]
    assert (await joined(hub, after="r-5")).got == []


@pytest.mark.parametrize("after", ["r-1", "other-5", "r-9", "r-", "r", "-1", "r--1", "r-٣", "r-" + "9" * 400, "\0"])
async def test_resume_from_elsewhere_gives_a_snapshot(after: str) -> None:
    hub = a_hub(history=3, on_connect={"stats": "stats_update"})
    push = Pushes(hub)
    for number in range(1, 6):
        push("stats_update", number, keep=True)
    client = await joined(hub, after=after)
    assert client.events() == [("stats", 5)]
    assert client.got[0].id == "r-5"


async def test_a_gap_that_no_snapshot_fills_is_told() -> None:
    hub = a_hub(history=1)
    push = Pushes(hub)
    for number in range(3):
        push("progress", number)
    assert [m.event for m in (await joined(hub, after="r-1")).got] == ["gap"]


async def test_a_snapshot_that_is_still_held_back_does_not_come_twice() -> None:
    clock = Clock()
    hub = a_hub(clock, on_connect={"stats": "stats_update"})
    push = Pushes(hub)
    push("stats_update", 1, keep=True, at_most=1.0)
    push("stats_update", 2, keep=True, at_most=1.0)
    client = await joined(hub)
    clock.advance(1)
    assert client.events() == [("stats", 2)]
    push("stats_update", 3, keep=True, at_most=1.0)
    clock.advance(1)
    assert client.events() == [("stats", 2), ("stats_update", 3)]


async def test_rooms_get_only_their_own() -> None:
    hub = a_hub(path="/ws/chat/{room}", on_connect={"topic": "topic"})
    push = Pushes(hub)
    push("topic", "lunch", keep=True, room="canteen")
    canteen, garage = await joined(hub, "canteen"), await joined(hub, "garage")
    push("message", "hello", room="garage")
    push("message", "to nobody")
    assert canteen.events() == [("topic", "lunch")]
    assert garage.events() == [("message", "hello")]
    assert [m.id for m in (await joined(hub, "garage", after="r-1")).got] == ["r-2"]


async def test_a_query_snapshot_neither_loses_nor_doubles() -> None:
    """While the query runs, one message is stored and sent, one is sent only; one was sent before and is not stored."""
    state: dict[str, Any] = {}

    async def history(name: str, parameters: Mapping[str, str], account: Any) -> Snapshot:
        assert (name, parameters) == ("chat_history", {"room": "garage"})
        stored = state["push"]("message", "stored and sent", room="garage")
        state["push"]("message", "sent only", room="garage")
        state["later"] = msgspec.structs.replace(stored, data="stored, sent later", id=b"later")
        return Snapshot(b'["stored and sent", "stored, sent later"]', frozenset({stored.id, b"later"}))

    hub = a_hub(query=history, path="/ws/chat/{room}", on_connect={"history": {"query": "chat_history"}})
    state["push"] = Pushes(hub)
    state["push"]("message", "on its way to the table", room="garage")
    client = await joined(hub, "garage")
    hub.publish([state["later"]])
    assert client.events() == [
        ("history", ["stored and sent", "stored, sent later"]),
        ("message", "on its way to the table"),
        ("message", "sent only"),
    ]


async def test_recent_events_that_are_not_of_the_rows_do_not_come_again() -> None:
    """A query answers rows of `message`; the last seconds of `stats` and of another sink's `notice` are no part of it."""
    state: dict[str, frozenset[bytes]] = {}

    async def rows(name: str, parameters: Mapping[str, str], account: Any) -> Snapshot:
        return Snapshot(b"[1]", state["ids"])

    hub = a_hub(query=rows, on_connect={"history": {"query": "rows"}})
    push = Pushes(hub)
    state["ids"] = frozenset({push("message", 1).id})
    push("stats", 2, keep=True)
    push("notice", 3)
    push("message", 4)
    assert (await joined(hub)).events() == [("history", [1]), ("message", 4)]


async def test_a_query_that_fails_is_told_and_live_events_go_on() -> None:
    async def broken(name: str, parameters: Mapping[str, str], account: Any) -> Snapshot:
        raise OSError("the database is away")

    hub = a_hub(query=broken, on_connect={"history": {"query": "rows"}})
    client = await joined(hub)
    Pushes(hub)("message", 1)
    assert [m.event for m in client.got] == ["error", "message"]
    assert b"database" not in client.got[0].body


async def test_a_new_version_keeps_the_channels_that_stay() -> None:
    hub = a_hub()
    old = hub.channels["dashboard"]
    client = await joined(hub)
    Pushes(hub)("stats", 1, keep=True)
    same = ChannelSpec.parse("dashboard", {"path": "/ws/dashboard"})
    hub.replace({"dashboard": same, "chat": ChannelSpec.parse("chat", {"path": "/ws/chat/{room}"})})
    assert hub.channels["dashboard"] is old
    hub.replace(
        {"dashboard": ChannelSpec.parse("dashboard", {"path": "/ws/dashboard", "history": 5, "sends": "admin"})}
    )
    assert (hub.report()["dashboard"]["clients"], client.closed) == (1, None)
    assert hub.channels["dashboard"].spec.history == 5
    assert list(hub.channels) == ["dashboard"]


async def test_clients_come_again_by_other_doors_and_miss_nothing() -> None:
    hub = a_hub()
    client, push = await joined(hub), Pushes(hub)
    push("stats", 1, keep=True)
    hub.replace({"dashboard": ChannelSpec.parse("dashboard", {"path": "/ws/line"})})
    assert client.closed == (1012, "the channel has changed")
    push("defect", 2)
    assert hub.report()["dashboard"]["clients"] == 0
    assert [message.id for message in (await joined(hub, after="r-1")).got] == ["r-2"]
    assert hub.kept("dashboard", "stats") == b"1"


async def test_a_channel_that_a_failed_deploy_removed_goes_on() -> None:
    hub = a_hub()
    client, push, specs = await joined(hub), Pushes(hub), {"dashboard": hub.channels["dashboard"].spec}
    push("defect", 1)
    hub.replace({})
    assert client.closed == (4404, "channel removed")
    push("defect", 2)
    hub.replace(specs)
    push("defect", 3)
    assert [message.body for message in (await joined(hub, after="r-0")).got] == [b"1", b"3"]


@given(st.lists(st.tuples(st.sampled_from(["stats", "level", ""]), st.integers(0, 300)), max_size=60))
def test_a_backlog_keeps_order_and_last_values_within_its_bounds(offered: list[tuple[str, int]]) -> None:
    backlog = Backlog(frames=20, size=2000)
    for number, (event, size) in enumerate(offered):
        if not backlog.add(Message(str(number), event or f"e{number}", b"x" * size, keep=bool(event))):
            assert len(backlog) > 20 or sum(len(m.body) for m in backlog._waiting.values()) > 2000
            return
    taken = [backlog.take() for _ in range(len(backlog))]
    assert [int(m.id) for m in taken] == sorted(int(m.id) for m in taken)
    kept = {event: number for number, (event, _) in enumerate(offered) if event}
    assert {m.event: int(m.id) for m in taken if m.keep} == kept
    assert sum(not m.keep for m in taken) == sum(not event for event, _ in offered)


@pytest.mark.parametrize(
    ("template", "path", "room"),
    [
        ("/ws/dashboard", "/ws/dashboard", ""),
        ("/ws/dashboard", "/ws/dashboards", None),
        ("/ws/chat/{room}", "/ws/chat/a b", "a b"),
        ("/ws/chat/{room}", "/ws/chat/a/b", None),
        ("/ws/chat/{room}", "/ws/chat/", None),
        ("/ws.x/{r}/live", "/wsax/1/live", None),
    ],
)
def test_paths(template: str, path: str, room: str | None) -> None:
    assert room_in(template, path) == room


async def test_the_fullest_queue_of_a_channels_clients_is_told() -> None:
    hub = a_hub()
    assert hub.queues() == [("dashboard", 0, 0.0)]
    (await joined(hub)).waiting = (40, 0.04)
    (await joined(hub)).waiting = (7, 0.9)
    assert hub.queues() == [("dashboard", 7, 0.9)], "few large messages may fill more than many small ones"


def test_a_backlog_is_as_full_as_its_nearer_bound() -> None:
    backlog = Backlog(frames=10, size=1000)
    assert backlog.fill == 0.0
    backlog.add(Message("r-1", "event", b"x" * 10))
    assert backlog.fill == 0.1
    backlog.add(Message("r-2", "event", b"x" * 490))
    assert backlog.fill == 0.5
    backlog.clear()
    assert backlog.fill == 0.0
