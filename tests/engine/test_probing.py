"""`lint --connect`: what is wrong with a place is told at the node that needs it, in bounded time, and nothing changes."""

import asyncio
import os
import socket
import sqlite3
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pymysql
import pytest

from engine.component import Component
from engine.deployed import record_of, write_record
from engine.flow import Flow
from engine.load import load_text
from engine.probing import probe_flows
from engine.reach import Reach
from engine.settings import read_environment
from tests.process import LOCALHOST, binary, free_port
from tests.services import MariaDB, Mosquitto, PostgreSQL

SIMPLE = """\
flow: line
sources: {in: {mqtt: {topics: [line/1]}}}
sinks: {out: {from: in, log: hello}}
"""
TABLES = """\
flow: line
tables: {reading: {id: serial, celsius: number, device: text(9)}}
sources: {in: {mqtt: {topics: [line/1]}}}
sinks: {rows: {from: in, sql: {table: reading, mode: upsert}}}
queries: {hot: {get: /hot, sql: "select device from reading where celsius > :least limit :n", params: {least: number, n: int}}}
"""


def flow_of(text: str, folder: Path) -> Flow:
    return load_text(text, folder / "flow.yaml").raise_findings()


def names(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def told(folder: Path, *texts: str, patience: float = 5, **environment: str) -> list[str]:
    """Return what is said of flows at a place; the data folder is empty, the embedded broker's port free."""
    variables = {"MILLSTREAM_DATA": str(folder / "data"), "MILLSTREAM_PORT": str(free_port())}
    variables |= {"MILLSTREAM_BROKER_PORT": str(free_port())} | environment
    flows = [flow_of(text, folder) for text in texts]
    found = await probe_flows(flows, read_environment(variables), patience)
    return [str(finding).removeprefix(f"{folder}/") for finding in found]


async def test_a_fresh_place_has_nothing_wrong_and_nothing_is_made_there(tmp_path: Path) -> None:
    assert await told(tmp_path, SIMPLE, TABLES) == []
    assert names(tmp_path) == []


async def test_a_broker_that_is_away_is_told_once_with_all_that_need_it(tmp_path: Path) -> None:
    text = SIMPLE.replace("{in:", "{more: {mqtt: {topics: [x]}}, in:").replace("from: in", "from: [in, more]")
    port = free_port()
    assert await told(tmp_path, text, MILLSTREAM_MQTT=f"mqtt://{LOCALHOST}:{port}") == [
        f"flow.yaml:2:25: node 'more': topics: a server at {LOCALHOST}:{port}; Connection refused (so has in) [unreachable]"
    ]


async def test_an_address_that_is_none(tmp_path: Path) -> None:
    found = await told(tmp_path, TABLES, MILLSTREAM_MQTT="tcp://x", MILLSTREAM_DATABASE="oracle://u:hunter2@host/x")
    assert [line.rpartition(" ")[2] for line in found] == ["[address]", "[address]"]
    assert "hunter2" not in str(found)


async def test_a_broker_that_takes_us(mosquitto: Mosquitto, tmp_path: Path) -> None:
    text = SIMPLE.replace("[line/1]", '[line/1, "$share/g/line/#"]').replace("log: hello", "mqtt: {}")
    assert await told(tmp_path, text, MILLSTREAM_MQTT=mosquitto.url) == []


class Guarded(Mosquitto):
    """A broker that asks for a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        known, conf = folder / "passwords", folder / "mosquitto.conf"
        subprocess.run([binary("mosquitto_passwd"), "-b", "-c", known, "u", "secret"], check=True, capture_output=True)
        known.chmod(0o644)
        conf.write_text(conf.read_text().replace("anonymous true", "anonymous false") + f"password_file {known}\n")


async def test_a_broker_that_refuses_our_credentials(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    guarded.start()
    try:
        url = f"mqtt://u:hunter2@{LOCALHOST}:{guarded.port}"
        (found,) = await told(tmp_path, SIMPLE, MILLSTREAM_MQTT=url)
        assert await told(tmp_path, SIMPLE, MILLSTREAM_MQTT=url.replace("hunter2", "secret")) == []
    finally:
        guarded.stop()
    assert found.startswith("flow.yaml:2:23: node 'in': topics: a broker that takes our credentials; ")
    assert found.endswith("[login]")
    assert "hunter2" not in found


@asynccontextmanager
async def answering(*answers: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Give the port of a server that answers what it reads with these bytes, one after the other."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            if not await reader.read(4096):
                break
            writer.write(answer)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, LOCALHOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_broker_that_refuses_a_subscription(tmp_path: Path) -> None:
    """CONNACK of MQTT 5, then a SUBACK with reason code 0x87. A group is not joined: it would get its messages."""
    shared = SIMPLE.replace("line/1", '"$share/g/line/1"')
    async with answering(bytes.fromhex("2003000000"), bytes.fromhex("900400010087")) as port:
        (found,) = await told(tmp_path, shared, MILLSTREAM_MQTT=f"mqtt://{LOCALHOST}:{port}")
    assert "a broker that lets us subscribe; the broker refused to subscribe us to 'line/1'" in found
    assert found.endswith("[permission]")


async def test_a_broker_that_says_nothing_costs_no_more_than_the_patience(tmp_path: Path) -> None:
    begin = time.monotonic()
    async with answering() as port:
        texts = [SIMPLE.replace("line", f"line_{i}") for i in range(20)]
        found = await told(tmp_path, *texts, patience=0.5, MILLSTREAM_MQTT=f"mqtt://{LOCALHOST}:{port}")
    assert time.monotonic() - begin < 10
    assert {line.rpartition("; ")[2] for line in found} == {"no answer within 0.5 s [unreachable]"}


CALL = """\
flow: line
sources: {in: {timer: {every: 10s}}}
operators: {asked: {from: in, call: {url: "https://localhost:PORT/predict"}}}
sinks: {out: {from: asked, log: hello}}
"""


def self_signed(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    made = [binary("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_server_whose_certificate_nobody_trusts(tmp_path: Path) -> None:
    async with answering(tls=self_signed(tmp_path)) as port:
        (found,) = await told(tmp_path, CALL.replace("localhost", LOCALHOST).replace("PORT", str(port)))
    assert found.startswith(
        f"flow.yaml:3:38: node 'asked': url: a server at {LOCALHOST}:{port} with a certificate that "
    )
    assert found.endswith("[tls]")


async def test_a_server_that_does_not_speak_tls(tmp_path: Path) -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        (found,) = await told(tmp_path, CALL.replace("PORT", str(port)).replace("localhost", LOCALHOST))
        assert (
            await told(tmp_path, CALL.replace("PORT", str(port)).replace("https://localhost", f"http://{LOCALHOST}"))
            == []
        )
    assert found.endswith("[tls]")


async def test_a_host_that_has_no_address(tmp_path: Path) -> None:
    (found,) = await told(tmp_path, CALL.replace("localhost:PORT", "no-such-host.invalid"))
    assert found.endswith("[unreachable]")


async def test_files_and_ports(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    text = """\
flow: line
sources:
  a: {file: {path: missing.csv, format: csv}}
  b: {file: {path: pipe}}
  c: {http: {post: /readings}}
sinks: {out: {from: [a, b, c], log: hello}}
"""
    with socket.create_server((LOCALHOST, 0)) as taken:
        port = taken.getsockname()[1]
        found = await told(tmp_path, text, MILLSTREAM_PORT=str(port))
    assert [line.replace(str(tmp_path), "…") for line in found] == [
        "flow.yaml:3:14: warning: node 'a': path: a file that is there; '…/missing.csv' is not, and is waited for [no-file]",
        "flow.yaml:4:14: node 'b': path: a file that can be read; '…/pipe' is none [permission]",
        f"flow.yaml:5:14: node 'c': post: a free port {port} on {LOCALHOST} (MILLSTREAM_PORT); Address already in use [port-taken]",
    ]


async def test_what_other_systems_are_asked_and_told(tmp_path: Path) -> None:
    """Servers of sources and sinks, mail among them; a database of its own; a folder that is a file."""
    (tmp_path / "taken").write_text("")
    (tmp_path / "other.db").write_bytes(b"")
    port, text = free_port(), OUTSIDE.replace("FOLDER", str(tmp_path))
    found = await told(tmp_path, text.replace("PORT", str(port)))
    assert [(line.split(":")[1], line.split("'")[1], line.rpartition(" ")[2]) for line in found] == [
        ("3", "asked", "[unreachable]"),
        ("4", "polled", "[query-fails]"),
        ("8", "mail", "[address]"),
        ("9", "file", "[permission]"),
    ]
    assert "(so has hook, points, mail, notice)" in found[0]


OUTSIDE = """\
flow: line
sources:
  asked: {http_poll: {url: "http://127.0.0.1:PORT/state", every: 1m}}
  polled: {sql_poll: {url: "sqlite:///FOLDER/other.db", table: orders, by: id}}
sinks:
  hook: {from: [asked, polled], http: {url: "http://127.0.0.1:PORT/hook"}}
  points: {from: asked, influx: {url: "http://127.0.0.1:PORT", bucket: b, measurement: "'m'"}}
  mail: {from: asked, notify: {urls: ["mailto://h?from=a@b.c&to=x", "mailto://127.0.0.1:PORT?from=a@b.example&to=c@d.example"], text: hello}}
  file: {from: asked, file: {path: "FOLDER/taken/out.jsonl"}}
  notice: {from: asked, notify: {urls: ["json://127.0.0.1:PORT/notices"], text: hello}}
"""


async def test_somebody_else_has_the_port_of_the_embedded_broker(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (found,) = await told(tmp_path, SIMPLE, MILLSTREAM_BROKER_PORT=str(mosquitto.port))
    assert found.endswith("(MILLSTREAM_BROKER_PORT); Address already in use [port-taken]")


async def test_a_database_that_has_something_else(mariadb: MariaDB, tmp_path: Path) -> None:
    url = mariadb.database("drifted")
    assert await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url) == []
    mariadb.execute("CREATE TABLE drifted.reading (id BIGINT AUTO_INCREMENT PRIMARY KEY, celsius VARCHAR(9), name INT)")
    drift, query = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url)
    assert drift.startswith(
        "flow.yaml:2:32: reading.celsius: a database as it is declared; a deploy would change column "
    )
    assert drift.endswith("[table-drift]")
    assert query.endswith("Unknown column 'device' in 'SELECT' [query-fails]")
    assert query.startswith("flow.yaml:5:")


async def test_what_was_deployed_and_is_gone(mariadb: MariaDB, tmp_path: Path) -> None:
    url = mariadb.database("gone")
    mariadb.execute("CREATE TABLE gone.reading (id BIGINT AUTO_INCREMENT PRIMARY KEY, celsius DOUBLE)")
    settings = read_environment({"MILLSTREAM_DATA": str(tmp_path / "data")})
    flow = msgspec.structs.replace(flow_of(TABLES, tmp_path), path=tmp_path / "flow.yaml")
    flow.path.write_text(TABLES)
    assert await told(tmp_path, TABLES.partition("queries")[0], MILLSTREAM_DATABASE=url) == []
    write_record(settings, "line", record_of(flow, {}, {}))
    (found,) = await told(tmp_path, TABLES.partition("queries")[0], MILLSTREAM_DATABASE=url)
    message = "what was deployed; the database does not have column device"
    assert found == f"flow.yaml:2:49: reading.device: {message} [table-drift]"


async def test_a_database_that_refuses_us_or_a_table(mariadb: MariaDB, tmp_path: Path) -> None:
    url = mariadb.database("guarded")
    mariadb.execute(
        "CREATE TABLE guarded.reading (id BIGINT AUTO_INCREMENT PRIMARY KEY, celsius DOUBLE, device VARCHAR(9))",
        "INSERT INTO guarded.reading (celsius) VALUES (1)",
    )
    with pymysql.connect(unix_socket=str(mariadb.folder / "data" / "mariadb.sock"), user="root") as root:
        root.cursor().execute("CREATE OR REPLACE USER reader@'%' IDENTIFIED BY 'secret'")
        root.cursor().execute("GRANT SELECT ON guarded.* TO reader@'%'")
    (refused,) = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url.replace("millstream:secret", "reader:hunter2"))
    assert refused.startswith("flow.yaml:2:1: a database that takes our credentials; ")
    assert refused.endswith("[login]")
    assert "hunter2" not in refused
    found = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url.replace("millstream:secret", "reader:secret"))
    assert [line.partition(";")[0] for line in found] == [
        "flow.yaml:4:32: node 'rows': table: the right to add rows to table 'reading'",
        "flow.yaml:4:32: node 'rows': table: the right to change rows of table 'reading'",
    ]
    assert await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url) == []
    assert mariadb.execute("SELECT celsius FROM guarded.reading") == [(1.0,)]


async def test_a_postgresql_that_refuses_us_or_has_something_else(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """Tables that are there are compared, credentials and rights tried, and a query's SQL explained."""
    url = postgresql.database("probed")
    assert await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url) == []
    (refused,) = await told(
        tmp_path, TABLES, MILLSTREAM_DATABASE=url.replace("millstream:secret", "millstream:hunter2")
    )
    assert refused.endswith("[login]")
    assert "hunter2" not in refused
    postgresql.execute("CREATE TABLE reading (id BIGSERIAL PRIMARY KEY, celsius TEXT)", database="probed")
    found = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=url)
    assert [line.rpartition(" ")[2] for line in found] == ["[table-drift]", "[query-fails]"]


async def test_a_database_that_is_away_or_is_not_there(mariadb: MariaDB, tmp_path: Path) -> None:
    (away,) = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=f"mysql://u:hunter2@{LOCALHOST}:{free_port()}/x")
    (unknown,) = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=mariadb.url.replace("smart_factory", "nowhere"))
    assert away.endswith("[unreachable]")
    assert unknown.endswith("error 1049: Unknown database 'nowhere' [unreachable]")
    assert "hunter2" not in away


async def test_a_file_as_the_database(tmp_path: Path) -> None:
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE TABLE reading (id INTEGER PRIMARY KEY AUTOINCREMENT, celsius TEXT, device VARCHAR(9))"
        )
    connection.close()
    before = path.read_bytes()
    found = await told(tmp_path, TABLES, MILLSTREAM_DATABASE=f"sqlite:///{path}")
    assert [line.rpartition(" ")[2] for line in found] == ["[table-drift]"]
    assert path.read_bytes() == before
    assert names(tmp_path) == ["some.db"]


async def test_a_probe_that_fails_or_hangs_costs_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flow = flow_of(SIMPLE, tmp_path)

    async def broken(self: Component, node: object, reach: Reach) -> list[object]:
        raise ValueError("no idea")

    async def hanging(self: Component, node: object, reach: Reach) -> list[object]:
        await asyncio.sleep(60)
        return []

    monkeypatch.setattr(type(flow.nodes["in"].component), "probe", broken)
    monkeypatch.setattr(type(flow.nodes["out"].component), "probe", hanging)
    monkeypatch.setattr("engine.probing.MORE", 0.1)
    found = await told(tmp_path, SIMPLE, patience=0.1)
    assert found == [
        "flow.yaml:2:16: node 'in': an answer; got ValueError: no idea [probe]",
        "flow.yaml:3:25: node 'out': an answer; got none within 0.2 s [probe]",
    ]
