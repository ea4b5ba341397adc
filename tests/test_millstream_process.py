"""The Millstream process of the tests, seen on a stand-in that listens, has a worker and ends as it is told."""

import sys
from pathlib import Path

import psutil
import pytest

from tests.millstream_process import Millstream
from tests.process import wait_until

STAND_IN = """
import http.server, os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()", "worker", "a_flow"])
def end(*_):
    if "orphan" not in sys.argv:
        child.kill()
        child.wait()
    os._exit(3 if "fail" in sys.argv else 0)
signal.signal(signal.SIGTERM, end)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(os.environ["MILLSTREAM_PORT"])), Health).serve_forever()
"""


class StandIn(Millstream):
    def command(self) -> list[str]:
        return [sys.executable, "-c", STAND_IN, *self.paths]


def test_it_starts_with_its_worker_and_stops_clean(tmp_path: Path) -> None:
    with StandIn(tmp_path) as process:
        assert process.health() == 200
        assert len(process.worker_pids()) == 1
        assert process.output() == "listening\n"
        assert process.stop() == 0
        assert process.health() is None
        assert process.worker_pids() == []


def test_it_starts_again_on_the_same_port_and_folder(tmp_path: Path) -> None:
    with StandIn(tmp_path) as process:
        url, first = process.url, process.pid
        process.stop()
        process.start()
        assert process.url == url
        assert process.pid != first
        assert process.output() == "listening\n" * 2


def test_a_kill_takes_the_gateway_only_and_leaving_takes_the_rest(tmp_path: Path) -> None:
    with StandIn(tmp_path) as process:
        process.kill()
        [worker] = process.worker_pids()
    wait_until(
        lambda: not psutil.pid_exists(worker) or psutil.Process(worker).status() == "zombie", "the worker is gone"
    )


def test_a_bad_exit_code_is_told(tmp_path: Path) -> None:
    with StandIn(tmp_path, "fail") as process, pytest.raises(AssertionError, match=r"ended with 3 after SIGTERM"):
        process.stop()


def test_a_process_left_behind_is_told(tmp_path: Path) -> None:
    with StandIn(tmp_path, "orphan") as process, pytest.raises(AssertionError, match=r"left behind: .*worker"):
        process.stop()


def test_settings_of_the_machine_are_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MQTT", "mqtt://elsewhere")
    environment = Millstream(tmp_path, env={"MAX_DEFECT_IMAGE_COUNT": "2"}).environment()
    assert "MILLSTREAM_MQTT" not in environment
    assert environment["MAX_DEFECT_IMAGE_COUNT"] == "2"
