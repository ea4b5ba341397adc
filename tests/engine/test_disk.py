"""A full disk is recognised, whatever a library makes of it."""

import errno
import sqlite3
from pathlib import Path

import pytest

from engine.disk import blames_disk, is_full, told_when_full
from engine.errors import DiskFull, EnvironmentFault
from tests.disk import SmallDisk, fill


def test_a_disk_with_room(tmp_path: Path) -> None:
    assert not is_full(tmp_path)
    assert not is_full(tmp_path / "nowhere")
    assert is_full(tmp_path, least=1 << 60)


@pytest.mark.parametrize(
    "fault",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError('SqliteFailure(Error { code: DiskFull }, Some("database or disk is full"))'),
    ],
)
def test_who_blames_the_disk(tmp_path: Path, fault: Exception) -> None:
    assert blames_disk(fault)
    wrapped = RuntimeError("it did not work")
    wrapped.__cause__ = fault
    with pytest.raises(DiskFull) as caught, told_when_full(tmp_path):
        raise wrapped
    assert str(caught.value) == f"the disk of {tmp_path} is full; this goes on when there is room"


def test_other_faults_are_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="no such table"), told_when_full(tmp_path):
        raise EnvironmentFault("no such table")


def test_what_fails_on_a_full_disk_fails_by_it(small_disk: SmallDisk) -> None:
    disk = small_disk("8m")

    def work() -> None:
        with told_when_full(disk):
            fill(disk / "ballast")
            raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(DiskFull, match=r"there is room \(disk I/O error\)$"):
        work()


def test_nothing_begins_on_a_full_disk(small_disk: SmallDisk) -> None:
    disk = small_disk("8m")
    fill(disk / "ballast")
    assert is_full(disk)
    with pytest.raises(DiskFull), told_when_full(disk):
        raise AssertionError("it has begun")
    (disk / "ballast").unlink()
    with told_when_full(disk):
        assert not is_full(disk)
