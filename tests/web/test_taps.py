"""Who looks at which wire: one tap for all viewers of a wire, off with the last one, on again with the next worker."""

import json
from typing import Any

import pytest

import web.taps
from engine.errors import UsageFault
from engine.flow import Flow
from engine.frames import Tapped
from engine.load import load_text
from engine.refusal import Refusal
from tests.engine.test_tap import FLOW
from web.taps import TapHub, Viewer


class Site:
    """A hub with one flow, and what it told the workers."""

    def __init__(self) -> None:
        self.flows: dict[str, Flow] = {"line": load_text(FLOW).raise_findings()}
        self.told: list[tuple[str, list[str]]] = []
        self.hub = TapHub(self.flows, lambda flow, wires: self.told.append((flow, wires)))


@pytest.fixture
def site() -> Site:
    return Site()


async def seen(viewer: Viewer, count: int) -> list[Any]:
    """Return the next lines, without the empty ones."""
    found: list[Any] = []
    async for chunk in viewer.lines():
        found += [json.loads(line) for line in chunk.split(b"\n") if line]
        if len(found) >= count:
            break
    return found


def test_one_tap_for_all_who_look_at_a_wire(site: Site) -> None:
    first, second, other = site.hub.open("line", "big"), site.hub.open("line", "big"), site.hub.open("line", "gate")
    assert site.told[-1] == ("line", ["big", "gate"])
    site.hub.close(first)
    assert site.told[-1] == ("line", ["big", "gate"])
    site.hub.close(second)
    assert site.told[-1] == ("line", ["gate"])
    site.hub.close(other)
    assert site.told[-1] == ("line", [])
    told = len(site.told)
    site.hub.linked("line")
    site.hub.close(other)
    assert site.told[told:] in ([], [("line", [])])


async def test_each_sees_its_wire(site: Site) -> None:
    big, also, gate = site.hub.open("line", "big"), site.hub.open("line", "big"), site.hub.open("line", "gate")
    site.hub.take("line", Tapped([("big", b'{"n":1}\n'), ("gate", b'{"n":2}\n'), ("big", b'{"n":3}\n')], {"big": 4}))
    site.hub.take("other", Tapped([("big", b'{"n":9}\n')]))
    assert await seen(big, 3) == await seen(also, 3) == [{"n": 1}, {"n": 3}, {"skipped": 4}]
    assert await seen(gate, 1) == [{"n": 2}]


def test_the_next_worker_is_told_again(site: Site) -> None:
    site.hub.open("line", "checked.errors")
    site.told.clear()
    site.hub.linked("line")
    assert site.told == [("line", ["checked.rejected"])]


async def test_a_version_without_the_wire_ends_what_looks_at_it(site: Site) -> None:
    big, gate = site.hub.open("line", "big"), site.hub.open("line", "gate")
    site.hub.take("line", Tapped([("big", b'{"n":1}\n')]))
    site.flows["line"] = load_text(FLOW.replace("big", "large")).raise_findings()
    site.hub.linked("line")
    assert site.told[-1] == ("line", ["gate"])
    shown, end = await seen(big, 2)
    assert (shown, end["end"][:18]) == ({"n": 1}, "wire: a node of 'l")
    site.hub.gone("line")
    assert await seen(gate, 1) == [{"end": "'line' is not deployed any more"}]


async def test_one_who_does_not_read_costs_bounded_memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.taps, "MOST_WAITING", 10)
    viewer = site.hub.open("line", "big")
    for number in range(7):
        site.hub.take("line", Tapped([("big", b'{"n":%d}\n' % (3 * number + n)) for n in range(3)]))
    assert await seen(viewer, 11) == [*({"n": n} for n in range(10)), {"skipped": 11}]


async def test_a_line_comes_at_once_and_now_and_then(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a client knows that it is connected, and that it still is."""
    monkeypatch.setattr(web.taps, "HEARTBEAT", 0.05)
    lines = site.hub.open("line", "big").lines()
    assert [await anext(lines) for _ in range(3)] == [b"\n", b"\n", b"\n"]


def test_there_are_so_many_at_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.taps, "MOST_VIEWERS", 2)
    for _ in range(2):
        site.hub.open("line", "big")
    with pytest.raises(Refusal) as refused:
        site.hub.open("line", "big")
    assert refused.value.status == 503


def test_a_wire_that_is_none_costs_nothing(site: Site) -> None:
    with pytest.raises(UsageFault, match="did you mean 'big'"):
        site.hub.open("line", "bigg")
    assert site.told == []
