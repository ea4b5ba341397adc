"""`python -m bench [NAME…] [--short]`: run the parts of the bench, print what they found and write bench/RESULTS.md.

`python -m bench report` writes it again from what is in bench/out; what bench/limits.md says stands in it too. Parts
are the modules here that have `measure`. What `--short` measures (some seconds a part, for trying) is printed only.
"""

import argparse
import signal
import sys

from rich.console import Console

from bench import plots, report
from bench.machine import machine
from bench.record import LIMITS, OUT, PLOTS, RESULTS, Record, read_records
from bench.run import parts, run

BROKEN, UNKNOWN, ENDED, WIDE = 1, 2, 143, 150


def main(arguments: list[str] | None = None) -> int:
    """Return 0, 1 when a part failed, or 2 for a part that is not there."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Millstream.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which parts (default: all), or `report`")
    parser.add_argument("--short", action="store_true", help="some seconds a part, for trying; not written down")
    given = parser.parse_args(arguments)
    known, names = parts(), given.names
    if names == ["report"]:
        return write(_console())
    if unknown := [name for name in names if name not in known]:
        sys.stderr.write(f"bench: no part {', '.join(unknown)}; there are {', '.join(known)}\n")
        return UNKNOWN
    return measure(names or known, given.short)


def measure(names: list[str], short: bool) -> int:
    """Run parts one after the other, print their figures and, if not short, write the results."""
    console, found = _console(), list[Record]()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))
    for name in names:
        console.print(f"bench: {name} …")
        found.append(run(name, short))
        console.print(report.outcome(found[-1]))
    console.print(report.table(found))
    if not short:
        write(console)
    return BROKEN if any(record.fault for record in found) else 0


def _console() -> Console:
    console = Console(highlight=False, soft_wrap=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def write(console: Console) -> int:
    """Draw the plots and write RESULTS.md of all records."""
    records = read_records(OUT, parts())
    drawn = {record.name: plots.draw(record, PLOTS) for record in records}
    RESULTS.write_text(report.markdown(records, machine(), drawn, LIMITS.read_text()))
    console.print(f"bench: {len(records)} parts in {RESULTS.relative_to(RESULTS.parents[1])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
