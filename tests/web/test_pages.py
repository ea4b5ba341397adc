"""A pack's pages and the files beside them: the right type, asked again only when changed, and nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from starlette.applications import Starlette

from engine.load import load_text
from engine.substitution import Surroundings
from web.pages import page_routes

FLOW = """
flow: line
about: <A & B>
settings: {open: {default: true}, key: {env: BOARD_KEY, secret: true}}
pages: {/board: pages/board.html}
"""


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    folder = tmp_path / "pack" / "pages"
    (folder / "more").mkdir(parents=True)
    (folder / "board.html").write_text("{{ flow }} {{ about }} {{ settings.open }} {{ settings.key }}.")
    for name in ("board.css", "board.js", "mark.svg", "notes.txt", ".hidden.js", "more/inner.js", "../outside.js"):
        (folder / name).write_text(f"this is {name}")
    (folder / "link.js").symlink_to(folder / ".." / "outside.js")
    around = Surroundings(environment={"BOARD_KEY": "hidden"})
    app = Starlette(routes=list(page_routes(load_text(FLOW, tmp_path / "pack" / "flow.yaml", around))))
    app.router.redirect_slashes = False
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://site") as client:
        yield client


async def test_a_page_is_rendered_with_settings_but_no_secrets(site: httpx2.AsyncClient) -> None:
    answer = await site.get("/board")
    assert answer.text == "line &lt;A &amp; B&gt; True ."
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("board.css", "text/css; charset=utf-8"),
        ("board.js", "text/javascript; charset=utf-8"),
        ("mark.svg", "image/svg+xml"),
    ],
)
async def test_files_beside_a_page(site: httpx2.AsyncClient, name: str, kind: str) -> None:
    answer = await site.get(f"/pages/line/{name}")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, f"this is {name}", kind)
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_browser_keeps_a_file_until_it_changes(site: httpx2.AsyncClient, tmp_path: Path) -> None:
    first = await site.get("/pages/line/board.css")
    again = await site.get("/pages/line/board.css", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    (tmp_path / "pack" / "pages" / "board.css").write_text("changed")
    changed = await site.get("/pages/line/board.css", headers={"If-None-Match": first.headers["etag"]})
    assert (changed.status_code, changed.text) == (200, "changed")


@pytest.mark.parametrize(
    "name",
    [
        "board.html", "notes.txt", ".hidden.js", "more/inner.js", "..%2foutside.js", "%2e%2e/outside.js", "link.js",
        "more%2finner.js", "board.css%00.js", "board.css/", "absent.css", "%2fetc%2fpasswd", "board%0a.css",
    ],
)  # fmt: skip
async def test_nothing_else_is_served(site: httpx2.AsyncClient, name: str) -> None:
    assert (await site.get(f"/pages/line/{name}")).status_code == 404
    assert (await site.get(f"/pages/other/{name}")).status_code == 404


def test_a_flow_without_pages_has_no_routes() -> None:
    assert list(page_routes(load_text("flow: bare"))) == []
