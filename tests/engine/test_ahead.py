"""A worker that is started ahead: it loads, and touches nothing of its flow until it is told to go."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest

from engine.deployed import Deployed, Loaded, digest, load_deployed, record_of, write_record
from engine.load import load
from engine.settings import Settings, kept_secret, lock, read_environment
from tests.engine.inbox_case import writing
from tests.process import ROOT, wait_until

FLOW = """\
flow: line
sources:
  in: {http: {post: /in, allow: anyone}}
operators:
  checked: {from: in, validate: {n: int}}
  counted: {from: checked, number: {as: id}}
sinks:
  out: {from: counted, log: {}}
"""


class Ahead:
    """A worker that was started ahead, and the gateway's end of its stdin."""

    def __init__(self, process: "subprocess.Popen[bytes]", line: socket.socket) -> None:
        self.process, self._line = process, line

    def send(self, line: bytes) -> None:
        self._line.sendall(line + b"\n")

    def answer(self) -> bytes:
        self._line.settimeout(30)
        return self._line.recv(64)

    def hang_up(self) -> None:
        self._line.close()

    def ended(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said.decode()


@pytest.fixture
async def settings(tmp_path: Path) -> Settings:
    """Return the settings of a data folder in which the flow is deployed and has an inbox, but no gateway runs."""
    file, settings = tmp_path / "line.yaml", read_environment({"MILLSTREAM_DATA": str(tmp_path / "data")})
    file.write_text(FLOW)
    write_record(settings, "line", record_of(load(file).raise_findings(), {}, {}))
    kept_secret(settings.data / "link.token")
    async with writing(settings.flow_folder("line") / "inbox.db", "line"):
        return settings


@contextmanager
def ahead(settings: Settings) -> Iterator[Ahead]:
    """Start a worker ahead, as the gateway does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "millstream", "worker", "line", "--ahead"],
            cwd=ROOT, env=os.environ | {"MILLSTREAM_DATA": str(settings.data)}, stdin=theirs.fileno(), stderr=subprocess.PIPE,
        )  # fmt: skip
    with ours, process:
        try:
            yield Ahead(process, ours)
        finally:
            process.kill()


def record(settings: Settings, text: str = FLOW) -> bytes:
    return msgspec.json.encode(Deployed("line.yaml", text, digest(text)))


def files(settings: Settings) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in settings.flow_folder("line").rglob("*")}


def opened(pid: int) -> set[str]:
    return {Path(file.path).name for file in psutil.Process(pid).open_files()}


def test_it_loads_and_touches_nothing_until_it_may_go(settings: Settings) -> None:
    before = files(settings)
    with ahead(settings) as worker:
        worker.send(record(settings))
        assert worker.answer() == b"loaded\n"
        assert files(settings) == before
        assert not opened(worker.process.pid) & set(before)
        os.close(lock(settings.flow_folder("line") / "worker.lock", "it has the lock"))
        worker.send(b"go")
        wait_until(lambda: (settings.flow_folder("line") / "recovery").exists(), "it runs")
        with pytest.raises(Exception, match="it has the lock"):
            lock(settings.flow_folder("line") / "worker.lock", "it has the lock")
        worker.process.send_signal(signal.SIGTERM)
        assert worker.ended()[0] == 0


def test_what_is_deployed_by_then_counts_and_not_what_it_has_loaded(settings: Settings) -> None:
    with ahead(settings) as worker:
        worker.send(record(settings))
        assert worker.answer() == b"loaded\n"
        other = FLOW.replace("counted:", "numbered:").replace("from: counted", "from: numbered")
        write_record(settings, "line", Deployed("line.yaml", other, digest(other)))
        worker.send(b"go")
        states = settings.flow_folder("line") / "recovery" / "states.json"
        wait_until(states.exists, "it runs")
        assert "numbered" in states.read_text()


def test_a_version_that_cannot_be_read_ends_it_with_the_findings(settings: Settings) -> None:
    with ahead(settings) as worker:
        worker.send(record(settings, FLOW.replace("validate", "vaildate")))
        code, said = worker.ended()
    assert code == 1
    assert "did you mean 'validate'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("loaded", [False, True])
def test_it_ends_with_its_gateway(settings: Settings, loaded: bool) -> None:
    with ahead(settings) as worker:
        if loaded:
            worker.send(record(settings))
            assert worker.answer() == b"loaded\n"
        worker.hang_up()
        assert worker.ended()[0] != 0
    assert not (settings.flow_folder("line") / "recovery").exists()


def test_a_version_is_read_again_only_where_it_is_another(settings: Settings) -> None:
    flow, found = load_deployed(settings, "line")
    known = Loaded(msgspec.structs.replace(found, number=7, highest={"row": 5}), flow)
    known.flow = msgspec.structs.replace(flow, about="the one that was loaded")
    assert load_deployed(settings, "line", known)[0].about == "the one that was loaded"
    for change in ({"text": found.text + "\n"}, {"source": "elsewhere.yaml"}, {"overrides": {"a": "1"}}):
        other = Loaded(msgspec.structs.replace(known.record, **change), known.flow)
        assert load_deployed(settings, "line", other)[0].about != "the one that was loaded"
