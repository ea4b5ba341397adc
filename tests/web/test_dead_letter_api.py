"""The operations' API of dead letters over real HTTP, with a real inbox behind it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.arrival import Intake
from engine.dead_letters import DeadLetterStore
from engine.event import derived_id
from engine.flow import Flow
from engine.letter import Letter, Selection
from engine.retry import RETRY, Retried
from tests.web.gateway_site import Site, error
from web.api import api_routes
from web.dead_letter_api import dead_letter_endpoints
from web.letter_desk import IN_AGAIN, NO_OBJECT, TIMER, LetterDesk, Task

PATH = "/api/flows/line/deadletters"
TIME = 1_700_000_000_000_000


class Board:
    """What the desk sees of the site."""

    def __init__(self, site: Site, store: DeadLetterStore) -> None:
        self.site, self.store = site, store

    @property
    def definitions(self) -> Mapping[str, Flow]:
        return {"line": self.site.flow}

    def letters(self, flow: str) -> DeadLetterStore:
        return self.store

    def intake(self, flow: str, source: str) -> Intake:
        return self.site.services.intake(flow, source)


def letter(number: int, **changes: Any) -> Letter:
    fields: dict[str, Any] = {
        "id": number.to_bytes(16, "big"), "node": "named", "time": TIME + number * 1_000_000, "source": "readings",
        "topic": "", "reason": f"device: text; got {number}", "details": {"device": number},
        "payload": msgspec.json.encode({"device": number}), "version": "3f2a", "meta": {"account": "kim"},
    }  # fmt: skip
    return Letter(**fields | changes)


@pytest.fixture
async def board(site: Site, tmp_path: Path) -> AsyncIterator[Board]:
    board = Board(site, DeadLetterStore(tmp_path / "deadletters.db"))
    site.app.router.routes[:0] = api_routes(dead_letter_endpoints(LetterDesk(board)), site.app.guard)
    board.store.add(
        [letter(1), letter(2), letter(3, node="readings", payload=b'{"device": \xff'), letter(2, node="results")]
    )
    yield board
    board.store.close()


def retried(site: Site) -> list[Retried]:
    events = site.services.events()
    assert {source for source, _, _ in events} <= {RETRY}
    return [msgspec.msgpack.decode(payload, type=Retried) for _, payload, _ in events]


async def do(site: Site, what: str, **body: Any) -> Any:
    answer = await site.post(f"{PATH}/{what}", "manager", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_roles(site: Site, board: Board) -> None:
    assert (await site.get(PATH, None)).status_code == 401
    for path in (PATH, f"{PATH}/causes"):
        answer = await site.get(path, "viewer")
        assert answer.status_code == 200
        assert "kim" not in answer.text
    error(await site.get(f"{PATH}/1", "viewer"), 403, "forbidden")
    assert (await site.get(f"{PATH}/1", "employee")).status_code == 200
    for what in ("retry", "drop", "fix"):
        error(await site.post(f"{PATH}/{what}", "employee", json={"ids": ["1"]}), 403, "forbidden")
    assert board.store.counts() == {"new": 4}
    error(await site.get("/api/flows/other/deadletters", "viewer"), 404, "not_found")


async def test_lists_and_pages(site: Site, board: Board) -> None:
    found = (await site.get(f"{PATH}?limit=3")).json()
    assert ([one["number"] for one in found["letters"]], found["next"], found["total"]) == ([4, 3, 2], 2, 4)
    found = (await site.get(f"{PATH}?limit=3&before=2")).json()
    assert ([one["number"] for one in found["letters"]], found["next"]) == ([1], None)
    assert found["letters"][0] == {
        "number": 1, "id": f"{1:032x}", "node": "named", "time": "2023-11-14T22:13:21.000Z", "source": "readings",
        "topic": "", "reason": "device: text; got 1", "cause": "device: text; got …", "version": "3f2a", "state": "new",
        "attempt": 1, "changed_at": None, "changed_by": "", "edited": False,
    }  # fmt: skip
    query = "node=named&since=2023-11-14T22:13:22Z&until=2023-11-14T22:13:23&state=new&cause=device: text; got …"
    assert [one["number"] for one in (await site.get(f"{PATH}?{query}")).json()["letters"]] == [2]
    assert (await site.get(f"{PATH}?limit=0")).json()["total"] == 4
    for wrong in ("state=lost", "since=yesterday", "limit=x", "limit=1001", "until=9999999"):
        error(await site.get(f"{PATH}?{wrong}"), 422, "invalid_parameter")


async def test_causes(site: Site, board: Board) -> None:
    board.store.mark(board.store.rows(Selection(node="results")), "dropped", "ada")
    found = (await site.get(f"{PATH}/causes")).json()
    assert found["states"] == {"dropped": 1, "new": 3}
    assert [(cause["node"], cause["count"], cause["reason"]) for cause in found["causes"]] == [
        ("named", 2, "device: text; got 2"), ("readings", 1, "device: text; got 3"),
    ]  # fmt: skip
    assert found["causes"][0]["latest"] == "2023-11-14T22:13:22.000Z"
    assert len((await site.get(f"{PATH}/causes?state=dropped")).json()["causes"]) == 1


async def test_a_letter_with_everything(site: Site, board: Board) -> None:
    found = (await site.get(f"{PATH}/{2:032x}")).json()["letters"]
    assert [one["node"] for one in found] == ["named", "results"]
    [one] = (await site.get(f"{PATH}/{2:032x}/results")).json()["letters"]
    assert (one["data"], one["text"], one["values"], one["meta"]) == (
        {"device": 2},
        None,
        {"device": 2},
        {"account": "kim"},
    )
    [one] = (await site.get(f"{PATH}/3")).json()["letters"]
    assert (one["data"], one["text"]) == (None, '{"device": �')
    message = error(await site.get(f"{PATH}/{'0' * 20}"), 422, "invalid")["message"]
    assert message.startswith(f"'{'0' * 20}' begins the ids of several events: {1:032x}, {2:032x}")
    error(await site.get(f"{PATH}/{2:032x}/nowhere"), 404, "not_found")
    error(await site.get(f"{PATH}/77"), 404, "not_found")


async def test_a_retry_is_in_the_inbox_once_however_often_it_is_asked_for(site: Site, board: Board) -> None:
    assert await do(site, "retry", node="named") == {"changed": 2, "skipped": {}, "next": None}
    assert [(one.id, one.node, one.data) for one in retried(site)] == [
        (letter(n).id, "named", letter(n).payload) for n in (1, 2)
    ]
    assert {(one.state, one.changed_by) for one in board.store.rows(Selection(node="named"))} == {
        ("retried", "manager")
    }
    assert await do(site, "retry", node="named") == {"changed": 0, "skipped": {}, "next": None}
    assert await do(site, "retry", ids=["1"]) == {"changed": 0, "skipped": {IN_AGAIN: 1}, "next": None}
    assert len(retried(site)) == 2


async def test_a_crash_between_commit_and_mark_doubles_nothing(site: Site, board: Board, tmp_path: Path) -> None:
    """The store forgets the mark, as if the gateway had been killed before it."""
    await do(site, "retry", ids=["1"])
    board.store.close()
    forgotten = DeadLetterStore(tmp_path / "again.db")
    forgotten.add([letter(1)])
    board.store = forgotten
    assert (await do(site, "retry", ids=["1"]))["changed"] == 1
    assert len(retried(site)) == 1
    forgotten.add([letter(1, time=TIME + 99_000_000)])
    assert (await do(site, "retry", ids=["1"]))["changed"] == 1
    assert len(retried(site)) == 2


async def test_what_is_edited_is_what_is_retried(site: Site, board: Board) -> None:
    assert (await do(site, "fix", ids=["3"], data={"device": "a"}))["changed"] == 1
    [one] = (await site.get(f"{PATH}/3")).json()["letters"]
    assert (one["fixed"], one["text"], one["changed_by"], one["edited"]) == (
        {"device": "a"},
        '{"device": �',
        "manager",
        True,
    )
    found = await do(site, "fix", all=True, set={"device": "b", "extra": 1})
    assert found == {"changed": 4, "skipped": {}, "next": None}
    assert (await do(site, "fix", ids=["2"], original=True))["changed"] == 1
    await do(site, "retry", all=True)
    assert [msgspec.json.decode(one.data) for one in retried(site)] == [
        {"device": "b", "extra": 1}, {"device": 2}, {"device": "b", "extra": 1}, {"device": "b", "extra": 1},
    ]  # fmt: skip
    assert (await do(site, "fix", ids=["1"], data={}))["skipped"] == {IN_AGAIN: 1}


async def test_fields_cannot_be_set_in_what_is_no_object(site: Site, board: Board) -> None:
    assert await do(site, "fix", all=True, set={"device": "b"}) == {
        "changed": 3,
        "skipped": {NO_OBJECT: 1},
        "next": None,
    }


@pytest.mark.parametrize(
    ("what", "body", "message"),
    [
        ("drop", {}, "which letters: ids, node, cause, since, until or state; or all"),
        ("drop", {"nodes": "x"}, "Object contains unknown field `nodes`"),
        ("drop", {"ids": [str(n) for n in range(1001)]}, "ids: at most 1000; got 1001"),
        ("fix", {"ids": ["1"]}, "exactly one of data, set, original"),
        ("fix", {"ids": ["1"], "data": 1, "set": {}}, "exactly one of data, set, original"),
        ("fix", {"ids": ["1"], "data": [1]}, "data: a JSON object"),
        ("fix", {"all": True, "data": {}}, "data are for one letter"),
        ("fix", {"ids": [f"{2:032x}"], "data": {}}, "data are for one letter"),
    ],
)
async def test_what_makes_no_sense(site: Site, board: Board, what: str, body: dict[str, Any], message: str) -> None:
    answer = await site.post(f"{PATH}/{what}", "manager", json=body)
    assert error(answer, 422, "invalid")["message"].startswith(message)
    assert [one.changed_by for one in board.store.rows()] == [""] * 4


async def test_drop(site: Site, board: Board) -> None:
    await do(site, "retry", ids=["1"])
    assert await do(site, "drop", ids=["1", f"{2:032x}"]) == {"changed": 2, "skipped": {IN_AGAIN: 1}, "next": None}
    assert board.store.counts() == {"dropped": 2, "new": 1, "retried": 1}
    assert (await do(site, "retry", ids=["2"]))["changed"] == 1


async def test_portions(site: Site, board: Board) -> None:
    board.store.add([letter(n) for n in range(10, 20)])
    seen = 0
    after: int | None = 0
    while after is not None:
        found = await do(site, "retry", all=True, limit=3, after=after)
        seen, after = seen + found["changed"], found["next"]
    assert (seen, len(retried(site)), board.store.counts()) == (14, 14, {"retried": 14})


async def test_a_timer_that_failed_cannot_be_retried(site: Site, board: Board) -> None:
    board.store.add([letter(5, id=derived_id("named", "k", 7), key="k", event_time=7)])
    assert (await do(site, "retry", ids=["5"]))["skipped"] == {TIMER: 1}


async def test_a_full_inbox_is_for_later(site: Site, board: Board) -> None:
    site.services.inbox.close()
    answer = await site.post(f"{PATH}/retry", "manager", json={"all": True})
    error(answer, 503, "unavailable")
    assert board.store.counts() == {"new": 4}


async def test_changes_of_one_flow_wait_for_each_other(site: Site, board: Board) -> None:
    """A retry and an edit at once: what is marked as retried is what was read for it."""
    desk = LetterDesk(board)
    tasks = [
        desk.retry(Task("line", Selection(states=("new",)), "a")),
        desk.fix(Task("line", Selection(), "b"), lambda one: b"{}"),
    ]
    done = await asyncio.gather(*tasks)
    assert [outcome.changed for outcome in done] == [4, 0]
