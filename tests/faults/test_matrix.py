"""The fault matrix, each row for a few seconds: `make faults` runs it whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.matrix.disk import can_mount
from tests.faults.matrix.matrix import ROWS, run_row
from tests.faults.matrix.report import table
from tests.faults.matrix.rig import Services
from tests.faults.matrix.scale import SHORT
from tests.services import MariaDB, Mosquitto


@pytest.fixture
def services(mosquitto: Mosquitto, mariadb: MariaDB) -> Services:
    """The broker and the database of the test session."""
    return Services(mosquitto, mariadb)


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str, tmp_path: Path, services: Services) -> None:
    if name == "disk" and not can_mount(tmp_path):
        pytest.skip("only root may mount the small disk that this row fills")
    found = run_row(name, tmp_path / "row", services, SHORT)
    print(table([found]))  # noqa: T201 - what is not judged here, times above all, is shown with -s
    assert found.holds, table([found])
