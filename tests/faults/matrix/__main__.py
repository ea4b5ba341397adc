"""`python -m tests.faults.matrix`: run the fault matrix and print what it shows."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.matrix.matrix import ROWS, run_row
from tests.faults.matrix.report import table, write_json, write_readme
from tests.faults.matrix.rig import Services
from tests.faults.matrix.scale import SHORT, WHOLE
from tests.services import MariaDB, Mosquitto


def main(arguments: list[str] | None = None) -> int:
    """Run rows; return 0 when all of them hold."""
    asked = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    scale, outcomes = SHORT if asked.short else WHOLE, []
    with tempfile.TemporaryDirectory(prefix="matrix") as folder, _services(Path(folder)) as services:
        for turn in range(asked.repeat):
            for name in asked.row or ROWS:
                found = run_row(name, Path(folder) / f"{name}{turn}", services, scale)
                outcomes.append(found)
                print(table([found], head=len(outcomes) == 1), flush=True)  # noqa: T201 - its result
    write_json(outcomes, asked.short)
    if asked.readme:
        write_readme(outcomes)
    failed = [found for found in outcomes if not found.holds]
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} rows hold")  # noqa: T201 - its result
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.faults.matrix", description=__doc__)
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only this row; may come several times")
    parser.add_argument("--short", action="store_true", help="a few seconds of load each, as the tests do")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run them so many times")
    parser.add_argument("--readme", action="store_true", help="write the table into the README")
    return parser


@contextmanager
def _services(folder: Path) -> Iterator[Services]:
    places = [folder / "mosquitto", folder / "mariadb"]
    for place in places:
        place.mkdir()
    broker, database = Mosquitto(places[0]), MariaDB(places[1])
    try:
        database.install()
        database.start()
        broker.start()
        yield Services(broker, database)
    finally:
        broker.stop()
        database.stop()


if __name__ == "__main__":
    sys.exit(main())
