"""One worker a flow: another one waits for it, and an orphan that is stopped does not keep the flow."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from engine import worker_lock as module
from engine.errors import EnvironmentFault
from engine.settings import lock
from engine.worker_lock import worker_lock
from tests.process import ROOT

CODE = """
import sys
from pathlib import Path
from engine.worker_lock import worker_lock
held = worker_lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_worker(folder: Path) -> Iterator[psutil.Process]:
    """Run another process that has the lock."""
    command = [sys.executable, "-c", CODE, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield psutil.Process(process.pid)
        process.kill()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK", 0.05)


def test_the_file_names_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "worker.lock").write_text("the text of an older version")
    os.close(worker_lock(tmp_path))
    assert (tmp_path / "worker.lock").read_text() == str(os.getpid())


def test_a_worker_that_runs_keeps_its_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.3)
    with other_worker(tmp_path) as other:
        with pytest.raises(EnvironmentFault) as caught:
            worker_lock(tmp_path)
        assert other.is_running()
    assert str(caught.value) == f"{tmp_path}: another worker of this flow is still running (pid {other.pid})"


def test_a_worker_that_ends_is_waited_for(tmp_path: Path) -> None:
    with other_worker(tmp_path) as other:
        other.terminate()
        os.close(worker_lock(tmp_path))


def test_a_stopped_one_is_killed(tmp_path: Path) -> None:
    with other_worker(tmp_path) as other:
        other.suspend()
        os.close(worker_lock(tmp_path))
        assert other.wait(5) is not None


@pytest.mark.parametrize("text", ["", "none", "1", "999999999"])
def test_only_who_has_the_file_is_taken_for_its_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    held = lock(tmp_path / "worker.lock", "")
    (tmp_path / "worker.lock").write_text(text)
    with pytest.raises(EnvironmentFault, match=r"is still running$"):
        worker_lock(tmp_path)
    os.close(held)


def test_a_stopped_process_that_has_nothing_to_do_with_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    (tmp_path / "elsewhere").mkdir()
    with other_worker(tmp_path / "elsewhere") as other:
        other.suspend()
        held = lock(tmp_path / "worker.lock", "")
        (tmp_path / "worker.lock").write_text(str(other.pid))
        with pytest.raises(EnvironmentFault):
            worker_lock(tmp_path)
        os.close(held)
        assert other.status() == psutil.STATUS_STOPPED
