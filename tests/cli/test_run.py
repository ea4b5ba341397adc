"""`run` as operations meet it: what it prints, how it stops, and what it says when it cannot start."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.command import TINY, environment, millstream, write
from tests.process import LOCALHOST, ROOT, free_port, wait_until
from tests.services import MariaDB, Millstream, MillstreamFactory, Mosquitto


class Terminal(Millstream):
    """Millstream in a terminal's foreground: Ctrl-C goes to its whole process group."""

    def start(self, within: float = 60) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=ROOT, env=self.environment(), stdout=log, stderr=log, process_group=0
            )
        wait_until(lambda: self.ready() or not self.running(), "it is ready", within=within)

    def interrupt(self) -> None:
        os.killpg(self.pid, signal.SIGINT)

    def ended(self, within: float) -> int | None:
        assert self._process is not None
        return self._process.wait(within)


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny" / "tiny.yaml")


@pytest.fixture
def terminal(tmp_path: Path, flow: Path) -> Iterator[Terminal]:
    with Terminal(tmp_path, flow.parent) as process:
        assert isinstance(process, Terminal)
        yield process


def test_it_says_a_line_for_each_thing_that_starts_and_ctrl_c_stops_it_clean(terminal: Terminal) -> None:
    terminal.interrupt()
    assert terminal.ended(within=10) == 0
    assert terminal._processes() == []
    lines = [line for line in terminal.output().splitlines() if not line.startswith("broker: ")]
    assert [line[:9].rstrip() for line in lines] == [
        "data", "broker", "database", "web", "source", "console", "flow", "stopping", "stopped",
    ]  # fmt: skip
    assert f"broker   embedded, mqtt://{LOCALHOST}:{terminal.broker_port}" in lines
    assert "source   tiny.in: http POST /in" in lines
    assert f"web      http://{LOCALHOST}:{terminal.port}" in lines


def test_a_second_ctrl_c_ends_it_at_once(terminal: Terminal) -> None:
    [worker] = terminal.worker_pids()
    psutil.Process(worker).suspend()  # it cannot stop by itself
    terminal.interrupt()
    wait_until(lambda: "stopping" in terminal.output(), "it is stopping", within=5)
    terminal.interrupt()
    assert terminal.ended(within=2) == 130
    wait_until(lambda: not terminal._processes(), "no process is left", within=5)
    assert "Traceback" not in terminal.output()


def test_ctrl_c_while_the_database_is_away_stops_it(tmp_path: Path, flow: Path) -> None:
    database = f"mysql://millstream:hidden@{LOCALHOST}:{free_port()}/nowhere"
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "millstream", "run", flow],
        cwd=ROOT, env=environment(tmp_path / "data", {"MILLSTREAM_DATABASE": database}), stdout=log, stderr=log,
    )  # fmt: skip
    with process, log:
        wait_until(lambda: "is away" in Path(log.name).read_text(), "it says that the database is away")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    said = Path(log.name).read_text()
    assert "hidden" not in said
    assert "Traceback" not in said
    assert said.count("is away") == 1


def test_it_waits_for_the_database(tmp_path: Path, flow: Path, mariadb: MariaDB) -> None:
    url = mariadb.database("away_at_start")
    mariadb.stop()
    log = (tmp_path / "log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "millstream", "run", flow],
        cwd=ROOT, env=environment(tmp_path / "data", {"MILLSTREAM_DATABASE": url}), stdout=log, stderr=log,
    )  # fmt: skip
    with process, log:
        wait_until(lambda: "is away, waiting for it: error 2003" in Path(log.name).read_text(), "it says so")
        mariadb.start()
        wait_until(lambda: "flow     tiny: running" in Path(log.name).read_text(), "it runs", within=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_it_does_not_wait_for_the_broker(
    tmp_path: Path, mosquitto: Mosquitto, millstream_process: MillstreamFactory
) -> None:
    text = TINY.replace("http: {post: /in, allow: anyone}", "mqtt: {topics: [late]}")
    mosquitto.stop()
    broker = f"mqtt://{LOCALHOST}:{mosquitto.port}"
    process = millstream_process(write(tmp_path / "late.yaml", text), env={"MILLSTREAM_MQTT": mosquitto.url})
    wait_until(lambda: f"WARNING engine.mqtt: {broker}: " in process.output(), "it says that the broker is away")
    mosquitto.start()
    wait_until(lambda: f"INFO engine.mqtt: connected to {broker}" in process.output(), "it is connected", within=40)


def refused(tmp_path: Path, flow: Path, **env: str) -> str:
    done = millstream(tmp_path / "data", "run", flow, env=env)
    assert done.returncode == 3, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("millstream: ")
    return last.removeprefix("millstream: ")


def test_ports_that_are_taken(tmp_path: Path, flow: Path) -> None:
    with socket.create_server((LOCALHOST, 0)) as server:
        port = str(server.getsockname()[1])
        assert refused(tmp_path, flow, MILLSTREAM_PORT=port) == (
            f"port {port} of {LOCALHOST} is already in use: set MILLSTREAM_PORT"
        )
        assert refused(tmp_path, flow, MILLSTREAM_BROKER_PORT=port) == (
            f"port {port} is already in use: set MILLSTREAM_BROKER_PORT, "
            "or MILLSTREAM_MQTT to use the broker that is there"
        )


def test_a_data_folder_that_is_in_use(terminal: Terminal) -> None:
    done = millstream(terminal.data, "run", *terminal.paths)
    assert done.returncode == 3
    assert done.stderr == (
        f"millstream: {terminal.data}: another gateway runs on this data folder; set MILLSTREAM_DATA to use another\n"
    )


def test_a_data_folder_that_cannot_be(tmp_path: Path, flow: Path) -> None:
    file = write(tmp_path / "file")
    said = refused(tmp_path, flow, MILLSTREAM_DATA=str(file / "data"))
    assert said == f"MILLSTREAM_DATA: a folder to write to; {file / 'data'}: Not a directory"


def test_settings_that_cannot_be(tmp_path: Path, flow: Path) -> None:
    assert refused(tmp_path, flow, MILLSTREAM_PORT="x") == "MILLSTREAM_PORT: a port from 1 to 65535; got 'x'"
    assert refused(tmp_path, flow, MILLSTREAM_SECRET="short").startswith("MILLSTREAM_SECRET: at least 32 characters")
    assert refused(tmp_path, flow, MILLSTREAM_MQTT="http://broker").startswith("MILLSTREAM_MQTT: ")
    assert refused(tmp_path, flow, MILLSTREAM_DATABASE="oracle://host/name").startswith("database: one of sqlite,")
    assert refused(tmp_path, flow, MILLSTREAM_HOST="10.254.254.254").endswith("Cannot assign requested address")
    assert refused(tmp_path, flow, MILLSTREAM_LOG="loud") == (
        "MILLSTREAM_LOG: one of DEBUG, INFO, WARNING, ERROR; got 'loud'"
    )


def test_a_database_file_that_cannot_be_opened_is_not_waited_for(tmp_path: Path, flow: Path) -> None:
    said = refused(tmp_path, flow, MILLSTREAM_DATABASE=f"sqlite:///{tmp_path}/missing/folder.db")
    assert said.endswith("missing/folder.db: unable to open database file")


def test_paths_that_are_wrong(tmp_path: Path, flow: Path) -> None:
    (tmp_path / "empty").mkdir()
    twin = write(tmp_path / "twin.yaml")
    for paths, expected in (
        ([tmp_path / "missing"], f"{tmp_path / 'missing'}: no such file or folder"),
        ([tmp_path / "empty"], f"{tmp_path / 'empty'}: no flow in there (a YAML file with a line 'flow: name')"),
        ([flow, twin], f"two flows are called 'tiny': {flow} and {twin}"),
    ):
        done = millstream(tmp_path / "data", "run", *paths)
        assert (done.returncode, done.stderr) == (2, f"millstream: {expected}\n")


def test_every_finding_is_told(tmp_path: Path) -> None:
    text = TINY.replace("allow: anyone", "allow: boss") + "  nothing: {from: inn, log: {}}\n"
    wrong = write(tmp_path / "wrong.yaml", text)
    done = millstream(tmp_path / "data", "run", wrong)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"{wrong}:") for line in lines)


def test_two_flows_with_one_path(tmp_path: Path, flow: Path) -> None:
    other = write(tmp_path / "other.yaml", TINY.replace("flow: tiny", "flow: other"))
    done = millstream(tmp_path / "data", "run", flow, other)
    assert done.returncode == 1
    assert "a path of its own; POST /in is that of tiny.in" in done.stderr


def test_set_needs_a_name_and_a_value(tmp_path: Path, flow: Path) -> None:
    done = millstream(tmp_path / "data", "run", flow, "--set", "limit")
    assert (done.returncode, done.stderr) == (2, "millstream: --set: NAME=VALUE; got 'limit'\n")
