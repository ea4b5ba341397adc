"""The row of the full disk: the data folder lies on a small tmpfs that is filled to the last byte."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.matrix.check import Outcome, outcome
from tests.faults.matrix.load import Spec
from tests.faults.matrix.rig import Rig, Services
from tests.faults.matrix.scale import Scale
from tests.process import binary

SIZE = "512m"
PIECE = 1 << 20


def can_mount(folder: Path) -> bool:
    """Tell whether we may mount a tmpfs."""
    try:
        with _small_disk(folder):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    place = folder / "disk"
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [binary("mount"), "-t", "tmpfs", "-o", f"size={SIZE}", "matrix", str(place)], check=True, capture_output=True
    )
    try:
        yield place
    finally:
        subprocess.run([binary("umount"), "--lazy", str(place)], check=True, capture_output=True)


def disk_full(folder: Path, services: Services, scale: Scale) -> Outcome:
    """Fill the disk, and make room again."""
    with (
        _small_disk(folder) as disk,
        Rig(folder, services, Spec("", "", "", scale.rate), data=disk / "data") as rig,
    ):
        rig.run_for(scale.pause)
        filler = _fill(disk / "filler")
        rig.until(lambda: rig.load.status.busy > 0, "the sender is told to come later", 30)
        rig.run_for(scale.disk_full)
        filler.unlink()
        rig.recovers(time.time(), "there was room again")
        rig.run_for(scale.pause)
        final = rig.finish()
        found = outcome("disk", rig, final, time.monotonic() - rig.began, may_begin_anew=True)
    found.fault = f"disk full (a tmpfs), {scale.disk_full:g} s"
    found.notes.append(f"{found.busy} answers of 503")
    return found


def _fill(file: Path) -> Path:
    """Write until nothing more fits."""
    piece = b"\0" * PIECE
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as out:
        while True:
            out.write(piece)
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as out:
        while os.write(out.fileno(), b"\0" * 4096):
            pass
    return file
