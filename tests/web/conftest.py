"""Fixtures of the web layer's tests: a running site on SQLite, or on each kind of database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.web import gateway_site
from tests.web.gateway_site import Site, serving
from web import accounts


@pytest.fixture
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash passwords with the least work: what is tested is not how long that takes."""
    monkeypatch.setattr(accounts, "HASHER", gateway_site.QUICK)


@pytest.fixture
async def site(tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    """A running site on SQLite."""
    async with serving(tmp_path, f"sqlite:///{tmp_path}/millstream.db") as running:
        yield running


@pytest.fixture(params=["sqlite", "mariadb"])
async def any_site(request: pytest.FixtureRequest, tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    """A running site on SQLite, and one on MariaDB."""
    url = f"sqlite:///{tmp_path}/millstream.db"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb").database("web_queries")
    async with serving(tmp_path, url) as running:
        yield running


@pytest.fixture
async def mariadb_site(request: pytest.FixtureRequest, tmp_path: Path, quick_passwords: None) -> AsyncIterator[Site]:
    """A running site on MariaDB."""
    async with serving(tmp_path, request.getfixturevalue("mariadb").database("web_mariadb")) as running:
        yield running
