"""`replay`: two versions compared over what the inbox holds, and rows that a table lacks brought back."""

import asyncio
import contextlib
import http.client
import json
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from engine.appended import appended_tables
from engine.arrival import Arrival
from engine.database import open_database
from engine.deploy_plan import NodeChange
from engine.deployed import read_record, record_of, surroundings, write_record
from engine.event import moment
from engine.load import load
from engine.past import Past
from engine.settings import Settings, read_environment
from engine.tables import create, to_sqlalchemy
from engine.versions import Version, Versions
from tests.cli.command import millstream, write
from tests.cli.conftest import Call
from tests.engine.inbox_case import put, writing
from tests.process import LOCALHOST, wait_until
from tests.services import MariaDB, Millstream, MillstreamFactory

FLOW = """\
flow: line
tables:
  row:   {id: serial, device: text(20), n: int, created_at: time}
  state: {device: text(20), n: int, note: text(20), unique: [[device]]}
  car:   {id: serial, device: text(20)}
sources:
  gate: {http: {post: /gate, allow: anyone}}
operators:
  checked: {from: gate, validate: {device: text, n: int}}
  big:     {from: checked, where: n > 5}
  cars:    {from: big, number: {as: id, table: car}}
  stats:   {from: checked, key: device, window: {every: 10s}}
sinks:
  rows:   {from: big, sql: {table: row}}
  states: {from: checked, sql: {table: state, mode: upsert, by: [device]}}
  made:   {from: cars, sql: {table: car}}
  told:   {from: big, mqtt: {topic: "'told'"}}
  means:  {from: stats, log: {message: mean}}
"""
EVENTS = [{"device": f"d{i % 3}", "n": "x" if i % 10 == 9 else i % 10} for i in range(60)]


class Site:
    """A data folder with a deployed flow and its inbox, without any process."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        data = {"MILLSTREAM_DATA": str(folder / "data")}
        self.settings: Settings = read_environment(data | ({"MILLSTREAM_DATABASE": database} if database else {}))
        self.settings.prepare()
        self.folder, self.inbox = folder, self.settings.flow_folder("line") / "inbox.db"

    def deploy(self, text: str = FLOW) -> "Site":
        flow = load(write(self.folder / "line.yaml", text), surroundings(self.settings)).raise_findings()
        write_record(self.settings, flow.name, record_of(flow, {}, {}))
        asyncio.run(self._tables(flow))
        return self

    async def _tables(self, flow: Any) -> None:
        database = open_database(self.settings.database)
        await create(database, to_sqlalchemy(flow.tables, appended_tables(flow)))
        await database.dispose()

    def arrive(self, events: Sequence[Any] = EVENTS, used: int | None = None) -> "Site":
        """Commit events, ten at once; the worker is done with all of them, or up to `used`."""

        async def fill() -> None:
            async with writing(self.inbox, "line") as writer:
                for begin in range(0, len(events), 10):
                    await put(writer, [Arrival(json.dumps(one).encode()) for one in events[begin : begin + 10]])
                writer.used(writer.head if used is None else used)

        asyncio.run(fill())
        return self

    def trim(self, first: int) -> None:
        with contextlib.closing(sqlite3.connect(self.inbox)) as connection, connection:
            connection.execute("delete from block where first < ?", [first])

    def sql(self, text: str) -> list[tuple[Any, ...]]:
        async def run() -> list[tuple[Any, ...]]:
            database = open_database(self.settings.database)
            try:
                async with database.begin() as connection:
                    found = await connection.execute(sa.text(text))
                    return [tuple(row) for row in found] if found.returns_rows else []
            finally:
                await database.dispose()

        return asyncio.run(run())

    def changed(self, *changes: tuple[str, str]) -> Path:
        text = FLOW
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return write(self.folder / "new.yaml", text)


@pytest.fixture
def site(tmp_path: Path, call: Call) -> Site:
    return Site(tmp_path).deploy().arrive()


@pytest.fixture(params=["sqlite", "mariadb"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> Site:
    """The same on both databases."""
    url = None
    if request.param == "mariadb":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        url = mariadb.database("repaired")
        monkeypatch.setenv("MILLSTREAM_DATABASE", url)
    return Site(tmp_path, url).deploy().arrive()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".db-shm", ".db-wal")
    }


def test_the_deployed_version_does_not_differ_from_itself(site: Site, call: Call) -> None:
    done = call("replay", "line", "--into", "shadow")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1:3] == [
        "events: 60, offsets 1 to 60",
        "state: empty at first; the inbox still holds the flow from its first event",
    ]
    assert [line.split() for line in lines if line.startswith("rows")] == [["rows", "18", "18", "0", "0", "0"]]
    assert lines[-1] == "nothing that comes out differs"


def test_another_version_differs(site: Site, call: Call) -> None:
    new = site.changed(("n > 5", "n > 6"), ("n: int}", "n: {type: int, max: 7}}"))
    done = call("replay", new, "--into", "shadow")
    assert done.exit_code == 1, done.stderr
    table = [line for line in done.stdout.splitlines() if ":" not in line]
    assert [line.split() for line in table if line.startswith(("rows", "made", "dead", "big"))] == [
        ["rows", "18", "6", "12", "0", "0"],
        ["made", "18", "6", "12", "0", "6", "id", "6"],
        ["dead", "letters", "6", "12", "0", "6", "0"],
        ["big", "18", "6"],
    ]
    assert "rows: only deployed, the first 5 of 12\n" in done.stdout
    assert '    - {"device":"d0","n":6}\n' in done.stdout
    assert done.stdout.endswith("\nwhat comes out differs\n")


def test_as_json(site: Site, call: Call) -> None:
    done = call("replay", site.changed(("n > 5", "n > 6")), "--into", "shadow", "--from-offset", "21", "--json")
    found = json.loads(done.stdout)
    assert (done.exit_code, found["differs"], found["events"], found["before"]) == (1, True, 40, 20)
    assert (found["whole"], found["not_in_the_inbox"]) == (True, [])
    rows = found["outputs"]["rows"]
    assert (rows["deployed"], rows["new"], rows["only_deployed"]) == (12, 8, 4)
    assert rows["examples"]["only_deployed"][0]["deployed"] == {"device": "d2", "n": 6}
    assert found["wires"]["big"] == [12, 8]


def test_nothing_is_written(site: Site, call: Call) -> None:
    before = files(site.folder)
    assert call("replay", "line", "--into", "shadow").exit_code == 0
    assert files(site.folder) == before


def test_pictures_are_not_stored(tmp_path: Path, call: Call) -> None:
    text = FLOW.replace("where: n > 5}", "image: {of: picture, as: pictures}}")
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"
    site = Site(tmp_path).deploy(text.replace("n: int}", "n: int, picture: text}"))
    site.arrive([{"device": "d", "n": 1, "picture": pixel}])
    done = call("replay", site.folder / "line.yaml", "--into", "shadow")
    assert done.exit_code == 0, done.stdout + done.stderr
    assert not (site.settings.data / "media").exists()


def test_a_part_by_time(site: Site, call: Call) -> None:
    with contextlib.closing(sqlite3.connect(site.inbox)) as connection:
        times = [time for (time,) in connection.execute("select time from block order by first")]

    def asked(*arguments: str) -> tuple[int, int, int]:
        found = json.loads(call("replay", "line", "--into", "shadow", "--json", *arguments).stdout)
        return found["first"], found["last"], found["before"]

    def iso(time: int) -> str:
        return moment(time).isoformat()

    assert asked("--since", "1h") == (1, 60, 0)
    assert asked("--since", iso(times[2])) == (21, 60, 20)
    assert asked("--since", iso(times[2]), "--until", iso(times[3])) == (21, 40, 20)
    assert asked("--from-offset", "15", "--until", iso(times[1])) == (15, 20, 14)
    assert asked("--since", iso(times[5] + 1)) == (61, 60, 60)


def test_an_inbox_that_was_trimmed_gives_an_approximate_state(site: Site, call: Call) -> None:
    site.trim(31)
    done = call("replay", "line", "--into", "shadow", "--from-offset", "41")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[1:3] == [
        "events: 20, offsets 41 to 60",
        "state: from the 10 events before that the inbox still holds; the first events of the flow are trimmed, "
        "so what depends on memory is approximate",
    ]


def test_sources_that_the_worker_reads_itself_are_left_out(tmp_path: Path, call: Call) -> None:
    text = FLOW.replace("operators:", "  drill: {file: {path: given.csv}}\noperators:")
    write(tmp_path / "given.csv", "device,n\nd1,1\n")
    site = Site(tmp_path)
    site.deploy(text.replace("from: gate", "from: [gate, drill]")).arrive()
    done = call("replay", "line", "--into", "shadow")
    assert done.exit_code == 0, done.stderr
    assert "left out: drill: read by the worker itself, not in the inbox\n" in done.stdout
    refused = call("replay", "line", "--repair", "made")
    assert refused.exit_code == 2
    assert "those of drill are read by the worker itself" in refused.stderr
    assert call("replay", "line", "--repair", "rows").exit_code == 0


def test_settings_of_another_version(tmp_path: Path, call: Call) -> None:
    text = FLOW.replace("tables:", "settings: {least: {default: 5}}\ntables:").replace("n > 5", "n > settings.least")
    Site(tmp_path).deploy(text).arrive()
    assert call("replay", "line", "--into", "shadow").exit_code == 0
    done = call("replay", "line", "--into", "shadow", "--set", "least=6", "--json")
    assert json.loads(done.stdout)["outputs"]["rows"]["only_deployed"] == 6


def test_an_earlier_version(site: Site, call: Call) -> None:
    earlier = Version(
        number=1, digest="", author="kim", time=0.0, source=str(site.folder / "line.yaml"),
        text=FLOW.replace("n > 5", "n > 6"), outcome="deployed",
    )  # fmt: skip
    Versions(site.settings.flow_folder("line")).write(earlier)
    done = call("replay", "line", "--version", "1", "--into", "shadow")
    assert done.exit_code == 1
    assert done.stdout.startswith(f"line: deployed version {read_version(site)} and line, version 1, sinks muted\n")


def read_version(site: Site) -> str:
    record = read_record(site.settings, "line")
    assert record is not None
    return record.version


def counts(done: Any) -> str:
    assert done.exit_code == 0, done.stderr
    return next(str(line) for line in done.stdout.splitlines() if line.startswith("rows: "))


def test_missing_rows_come_back(stored: Site, call: Call) -> None:
    assert counts(call("replay", "line", "--repair", "rows")) == "rows: 0 were there, 18 added, 0 refused"
    whole = sorted(stored.sql("select device, n, created_at, _event from row"))
    stored.sql("delete from row where n = 7")
    stored.sql("update row set device = 'by hand' where n = 8")
    assert counts(call("replay", "line", "--repair", "rows")) == "rows: 12 were there, 6 added, 0 refused"
    rows = sorted(stored.sql("select device, n, created_at, _event from row"))
    assert len(rows) == 18
    assert {row for row in rows if row[0] != "by hand"} == {row for row in whole if row[1] != 8}


def test_only_a_part_comes_back(stored: Site, call: Call) -> None:
    done = call("replay", "line", "--repair", "rows", "--from-offset", "41", "--json")
    assert (done.exit_code, json.loads(done.stdout)["added"]) == (0, 6)
    assert stored.sql("select count(*) from row") == [(6,)]


def test_rows_behind_memory_come_back_with_the_numbers_that_they_had(stored: Site, call: Call) -> None:
    assert counts(call("replay", "line", "--repair", "made")) == "rows: 0 were there, 18 added, 0 refused"
    whole = sorted(stored.sql("select id, device, _event from car"))
    stored.sql("delete from car where id > 5 and id < 9")
    done = call("replay", "line", "--repair", "made", "--from-offset", "11")
    assert counts(done) == "rows: 12 were there, 3 added, 0 refused"
    assert sorted(stored.sql("select id, device, _event from car")) == whole


def test_a_place_that_is_taken_is_refused(stored: Site, call: Call) -> None:
    stored.sql("insert into car (id, device, _event) values (3, 'other', '0123456789abcdef')")
    done = call("replay", "line", "--repair", "made")
    assert counts(done) == "rows: 0 were there, 17 added, 1 refused"
    assert "  1 refused: duplicate id 3 in car\n" in done.stdout


def test_of_rows_that_are_upserted_only_the_missing_are_written(stored: Site, call: Call) -> None:
    """What is there may be newer than all that the worker has done; what is missing gets its last state."""
    stored.sql("insert into state (device, n) values ('d1', 99)")
    done = call("replay", "line", "--repair", "states")
    assert counts(done) == "rows: 1 were there, 2 added, 0 refused"
    assert sorted(stored.sql("select device, n from state")) == [("d0", 7), ("d1", 99), ("d2", 6)]
    refused = call("replay", "line", "--repair", "states", "--from-offset", "41")
    assert refused.exit_code == 2
    assert "a row that is upserted is what its last event left" in refused.stderr


def test_an_upserted_row_is_not_made_of_a_part_of_its_events(stored: Site, call: Call) -> None:
    """`note` may have come with an event that is trimmed; a row with all its columns is whole without it."""
    stored.trim(31)
    done = call("replay", "line", "--repair", "states")
    assert counts(done) == "rows: 0 were there, 0 added, 3 refused"
    assert "earlier events that made this row are trimmed" in done.stdout


def test_what_the_worker_has_not_done_yet_is_left_to_it(tmp_path: Path, call: Call) -> None:
    Site(tmp_path).deploy().arrive(used=30)
    done = call("replay", "line", "--repair", "rows")
    assert counts(done) == "rows: 0 were there, 9 added, 0 refused"
    assert "events: 30, offsets 1 to 30\n" in done.stdout


def test_memory_without_the_first_event_is_refused(site: Site, call: Call) -> None:
    site.trim(31)
    refused = call("replay", "line", "--repair", "made")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr == (
        "millstream: --repair: an inbox that still has the flow's first event; the inbox begins at offset 31: what was "
        "before is trimmed. 'made' lies behind cars, whose state comes from all events\n"
    )
    assert counts(call("replay", "line", "--repair", "rows")) == "rows: 0 were there, 9 added, 0 refused"


def test_memory_that_an_earlier_version_filled_is_refused(site: Site, call: Call) -> None:
    store = Versions(site.settings.flow_folder("line"))
    for number, effect in ((1, "new"), (2, "unchanged"), (3, "restarts")):
        change = NodeChange("big", effect)
        version = Version(
            number=number, digest="", author="kim", time=0.0, source="line.yaml", text=FLOW, nodes=[change]
        )
        version.outcome = "deployed"
        store.write(version)
        refused = call("replay", "line", "--repair", "made")
        assert refused.exit_code == (2 if number == 3 else 0), refused.stderr
    assert "'big' was changed by version 3, and events came before it. 'made' lies behind cars" in refused.stderr
    assert call("replay", "line", "--repair", "rows").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["line"], "replay: either --into shadow or --repair SINK"),
        (["line", "--into", "shade"], "replay: either --into shadow or --repair SINK"),
        (["line", "--into", "shadow", "--repair", "rows"], "replay: either --into shadow or --repair SINK"),
        (["line", "--into", "shadow", "--since", "1h", "--from-offset", "1"], "replay: either --since or --from-offset"),
        (["line", "--into", "shadow", "--since", "soon"], "--since: a duration like 1h, or a time like"),
        (["lime", "--into", "shadow"], "a file, or a flow that is deployed; got 'lime'"),
        (["line", "--into", "shadow", "--version", "7"], "a version of this flow (none yet); got 7"),
        (["line", "--repair", "rows", "--set", "a=b"], "--repair: the name of a deployed flow, as it is deployed"),
        (["line", "--repair", "row"], "--repair: a sink of 'line' (rows, states, made, told, means, "),
        (["line", "--repair", "told"], "--repair: a sink that knows what it has, such as sql; here: rows, states, made"),
        (["line", "--repair", "means"], "'means' is of kind log: what is written there a second time is seen a second"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked(site: Site, call: Call, arguments: list[str], said: str) -> None:
    done = call("replay", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said.removesuffix(", ") in done.stderr


def test_a_flow_that_has_no_inbox_yet(tmp_path: Path, call: Call) -> None:
    site = Site(tmp_path).deploy()
    done = call("replay", "line", "--into", "shadow")
    assert (done.exit_code, done.stderr.startswith(f"millstream: {site.inbox}: expected an inbox")) == (3, True)


def test_a_file_with_findings(site: Site, call: Call) -> None:
    done = call("replay", site.changed(("from: big", "from: bigg")), "--into", "shadow")
    assert done.exit_code == 1
    assert "did you mean 'big'?" in done.stderr


class Sender(threading.Thread):
    """Posts numbered events until it is told to stop, 20 at once and 400 a second; `count` were acknowledged."""

    def __init__(self, line: Millstream) -> None:
        super().__init__(daemon=True)
        self._line, self._stopped, self.count = line, threading.Event(), 0

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            connection = http.client.HTTPConnection(LOCALHOST, self._line.port, timeout=20)
            events = [{"device": f"N{n}", "n": 6 + n % 3} for n in range(self.count, self.count + 20)]
            connection.request("POST", "/gate", json.dumps(events), {"content-type": "application/json"})
            assert connection.getresponse().status == 202
            connection.close()
            self.count += 20

    def stop(self) -> None:
        self._stopped.set()
        self.join(30)


def test_beside_a_running_worker(tmp_path: Path, millstream_process: MillstreamFactory) -> None:
    """Rows that were deleted come back while others are written; nothing is there twice."""
    text = FLOW.replace("  told:   {from: big, mqtt: {topic: told}}\n", "")
    line = millstream_process(write(tmp_path / "line.yaml", text))
    database = line.data / "millstream.db"

    def query(text: str) -> list[Any]:
        with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection, connection:
            return connection.execute(text).fetchall()

    def rows() -> int:
        return int(query("select count(*) from row")[0][0])

    def states() -> int:
        return int(query("select count(*) from state")[0][0])

    sender = Sender(line)
    sender.start()
    wait_until(lambda: rows() > 500, "rows are stored", within=60)
    query("delete from row where id % 2 = 0 and id < 400")
    wait_until(lambda: _used(line) > 500, "the worker has told how far it is", within=30)
    for sink in ("rows", "states"):
        done = millstream(line.data, "replay", "line", "--repair", sink)
        assert done.returncode == 0, done.stderr
    same = millstream(line.data, "replay", "line", "--into", "shadow")
    new = write(tmp_path / "new.yaml", text.replace("n > 5", "n > 6"))
    other = millstream(line.data, "replay", new, "--since", "1h", "--into", "shadow")
    sender.stop()
    assert (same.returncode, other.returncode) == (0, 1), same.stderr + other.stderr
    wait_until(lambda: rows() >= sender.count <= states(), "all is stored by both sinks", within=60)
    assert query("select count(*), count(distinct device) from row") == [(sender.count, sender.count)]
    assert states() == sender.count


def _used(line: Millstream) -> int:
    past = Past(line.data / "flows" / "line" / "inbox.db")
    try:
        return past.extent().used
    finally:
        past.close()
