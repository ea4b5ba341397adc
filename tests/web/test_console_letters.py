"""The page of dead letters over real HTTP: who sees what; and in a real browser, with the API behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from tests.services import Node
from tests.web.console_server import ConsoleSite, serve_console

PAGE = "/console/flows/line/deadletters"
LETTERS = f"{PAGE}/letters?node=verdict"


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[ConsoleSite]:
    async with serve_console(tmp_path) as running:
        running.board.add_letters("line", "verdict", 25)
        yield running


async def client(site: ConsoleSite, name: str) -> AsyncClient:
    return AsyncClient(base_url=site.url, cookies={"millstream_session": await site.guard.token_for(name)})


async def test_strangers_are_led_to_the_login(site: ConsoleSite) -> None:
    async with AsyncClient(base_url=site.url) as http:
        answer = await http.get(PAGE)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/console/login?next={PAGE}")
        assert (await http.get(LETTERS)).status_code == 401


async def test_viewers_see_causes_and_reasons_only(site: ConsoleSite) -> None:
    async with await client(site, "vera") as http:
        for path in (PAGE, LETTERS):
            text = (await http.get(path)).text
            assert "one_of OK, DEFECT" in text
            assert "onerror" not in text
            assert "data-do" not in text


async def test_managers_see_all_of_it_escaped(site: ConsoleSite) -> None:
    async with await client(site, "ada") as http:
        text = (await http.get(LETTERS)).text
        assert "&lt;img src=x" in text
        assert "<img" not in text
        assert "data-do" in text
        assert text.count('class="letter"') == 20
        assert f"{LETTERS.partition('?')[2]}&amp;before=6" in text
        assert (await http.get(f"{LETTERS}&before=6")).text.count('class="letter"') == 5


async def test_what_is_not_there(site: ConsoleSite) -> None:
    async with await client(site, "ada") as http:
        assert (await http.get("/console/flows/nothing/deadletters")).status_code == 404
        assert "Every event could be processed" in (await http.get("/console/flows/office/deadletters")).text
        assert "None is dropped" in (await http.get(f"{PAGE}?state=dropped")).text
        assert (await http.get(f"{PAGE}?state=lost")).status_code == 200
        assert "None is left here" in (await http.get(f"{PAGE}/letters?node=x&before=x")).text


async def test_other_sites_change_nothing_with_our_cookie(site: ConsoleSite) -> None:
    async with await client(site, "ada") as http:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = await http.post("/api/flows/line/deadletters/drop", json={"all": True}, headers=headers)
            assert answer.status_code == 403
    assert site.board.stores["line"].counts() == {"new": 25}


async def test_in_a_browser(site: ConsoleSite, node: Node) -> None:
    """Open a cause, page, edit, keep the edit, retry, drop, retry all, look at what is retried."""
    token = await site.guard.token_for("ada")
    seen = json.loads(await asyncio.to_thread(node.run, "letters.mjs", site.url, token))
    assert seen.pop("errors") == []
    assert "onerror" in seen.pop("original")
    assert seen == {
        "path": PAGE,
        "tabs": ["25", "0", "0"],
        "count": "25",
        "page": 20,
        "with earlier ones": 25,
        "on a phone": True,
        "no JSON": [True, True],
        "as edited": "Retry as edited",
        "edited": {"device": "a"},
        "asks first": "Really drop?",
        "tabs after": ["23", "1", "1"],
        "all": "23 in the flow again. ",
        "retried": "24",
        "buttons of what is done": 0,
    }
    assert site.board.stores["line"].counts() == {"retried": 24, "dropped": 1}
    assert {letter.changed_by for letter in site.board.stores["line"].rows()} == {"ada"}
    assert site.board.inboxes["line"].head == 24
