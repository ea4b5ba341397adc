"""A small disk of its own, to be filled: a tmpfs, where this user may mount one."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.process import binary

SmallDisk = Callable[[str], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mount a disk of a size such as 4m and return its folder; it is unmounted when the test ends."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = [binary("mount"), "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run([binary("umount"), "--lazy", str(folder)], check=True, timeout=10)


def fill(file: Path) -> None:
    """Fill the disk of a file up to its last block."""
    with file.open("wb", buffering=0) as ballast:
        for part in (1 << 20, 1 << 12):
            try:
                while ballast.write(bytes(part)):
                    pass
            except OSError:
                continue
