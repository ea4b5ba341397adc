"""Statistics: SQLite takes the index that finds few rows, whichever of them was made last."""

from pathlib import Path

import pytest

from engine.database import open_database, transaction
from engine.errors import Unavailable
from engine.statistics import take_statistics

ROWS = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) select i, i / 20, 'OK' from n"
PLAN = "explain query plan select * from result where verdict in ('OK') and car = 77 order by id desc limit 100"


@pytest.mark.parametrize("columns", [("car", "verdict"), ("verdict", "car")])
async def test_the_selective_index_is_taken(tmp_path: Path, columns: tuple[str, str]) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/test.db")
    async with transaction(engine) as connection:
        await connection.exec_driver_sql(
            "create table result (id integer primary key, car bigint, verdict varchar(10))"
        )
        for column in columns:
            await connection.exec_driver_sql(f"create index i_{column} on result ({column})")
        await connection.exec_driver_sql(f"insert into result {ROWS}")
    await take_statistics(engine)
    async with transaction(engine) as connection:
        plan = (await connection.exec_driver_sql(PLAN)).mappings().all()
    await engine.dispose()
    assert [row["detail"] for row in plan] == ["SEARCH result USING INDEX i_car (car=?)"]


async def test_a_database_that_another_writes_to_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.database._SQLITE", ("busy_timeout = 50", "journal_mode = WAL"))
    engine = open_database(f"sqlite:///{tmp_path}/test.db")
    async with transaction(engine.execution_options(begin="IMMEDIATE")):
        with pytest.raises(Unavailable):
            await take_statistics(engine)
    await engine.dispose()
