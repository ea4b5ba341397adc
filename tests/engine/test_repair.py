"""A repair beside a worker that writes the same rows, and a database that is away."""

from pathlib import Path

import pytest
import sqlalchemy as sa

import engine.repair
from engine.appended import appended_tables
from engine.database import open_database
from engine.deployed import load_deployed
from engine.errors import EnvironmentFault, UsageFault
from engine.load import load_text
from engine.past import Extent, Past
from engine.repair import Beside, Repair, Repaired
from engine.tables import to_sqlalchemy
from tests.cli.test_replay import Site
from tests.process import LOCALHOST, free_port


class Bench:
    """A repair, step by step."""

    def __init__(self, site: Site, database: str | None = None) -> None:
        self.past = Past(site.inbox)
        flow, _ = load_deployed(site.settings, "line")
        self.database = open_database(database or site.settings.database)
        self.outside = Beside("line", self.database, to_sqlalchemy(flow.tables, appended_tables(flow)))
        self.flow = flow

    def repair(self, sink: str) -> Repair:
        return Repair(self.flow, self.past, sink, self.outside, self.past.extent(), {})

    async def run(self, repair: Repair) -> None:
        for block in self.past.blocks(1, 60):
            await repair.write(block)

    async def sql(self, text: str) -> list[tuple[object, ...]]:
        async with self.database.begin() as connection:
            found = await connection.execute(sa.text(text))
            return [tuple(row) for row in found] if found.returns_rows else []

    async def close(self) -> None:
        self.past.close()
        await self.database.dispose()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path).deploy().arrive()


async def test_what_the_worker_writes_meanwhile_is_not_overwritten(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.repair, "AT_ONCE", 5)
    bench = Bench(site)
    repair = bench.repair("states")
    await bench.run(repair)
    await bench.sql("insert into state (device, n) values ('d1', 99)")
    await repair.finish()
    assert sorted(await bench.sql("select device, n from state")) == [("d0", 7), ("d1", 99), ("d2", 6)]
    await bench.close()


async def test_rows_are_there_as_they_come(site: Site) -> None:
    bench = Bench(site)
    repair = bench.repair("rows")
    await bench.run(repair)
    assert await repair.finish() == Repaired(60, 0, 18, 0, {})
    assert await bench.sql("select count(*) from row") == [(18,)]
    await bench.close()


async def test_a_database_that_stays_away(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.repair, "PATIENCE", 0.1)
    monkeypatch.setattr(engine.repair, "AGAIN", 0.05)
    bench = Bench(site, f"mysql://millstream:hidden@{LOCALHOST}:{free_port()}/nowhere")
    repair = bench.repair("rows")
    await bench.run(repair)
    with pytest.raises(EnvironmentFault, match="run it again to go on") as fault:
        await repair.finish()
    assert "hidden" not in str(fault.value)
    await bench.close()


async def test_behind_answers_that_are_not_kept_nothing_is_repaired() -> None:
    text = """
flow: f
tables: {row: {id: serial, n: int}}
sources: {given: {mqtt: {topics: [t]}}}
operators: {asked: {from: given, call: {url: http://h/p}}}
sinks: {rows: {from: asked, sql: {table: row}}}
"""
    flow = load_text(text).raise_findings()
    database = open_database("sqlite+aiosqlite://")
    outside = Beside("f", database, to_sqlalchemy(flow.tables, appended_tables(flow)))
    with pytest.raises(UsageFault, match="'rows' lies behind asked, whose answers are not kept"):
        Repair(flow, None, "rows", outside, Extent(1, 1, 1), {})  # type: ignore[arg-type]
    await database.dispose()
