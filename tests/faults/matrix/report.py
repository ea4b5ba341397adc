"""Say what the rows have shown: a table for people, JSON for programs, and the README."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tests.faults.matrix.check import Outcome
from tests.process import ROOT

COLUMNS: dict[str, Callable[[Outcome], str]] = {
    "fault, under load of 2,000 events/s": lambda found: found.fault,
    "acknowledged": lambda found: f"{found.acknowledged:,}",
    "stored": lambda found: f"{found.stored:,}" + (f", {found.dead:,} dead letters" if found.dead else ""),
    "lost": lambda found: f"{found.lost:,}",
    "doubled": lambda found: f"{found.doubled:,}",
    "windows split": lambda found: f"{found.split:,} of {found.windows:,}",
    "longest gap, stored": lambda found: f"{found.gap_stored:.1f} s",
    "longest gap, pushed": lambda found: f"{found.gap_pushed:.1f} s",
    "time to recover": lambda found: f"{found.recover:.1f} s" if found.recoveries else "-",
    "": lambda found: "holds" if found.holds else "FAILS",
}
OUT = ROOT / "bench" / "out" / "faults.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- make faults: begin -->", "<!-- make faults: end -->"


def table(outcomes: Sequence[Outcome], head: bool = True) -> str:
    """Return the table, with what does not hold and what is worth a note under each row."""
    lines = [" | ".join(COLUMNS)] if head else []
    for found in outcomes:
        lines.append(" | ".join(show(found) for show in COLUMNS.values()))
        more = [f"  load: {found.load_cpu:.0%} of a core, {found.busy} times told to come later, {found.seconds:.0f} s"]
        if found.resent:
            more.append(
                f"  {found.resent} sent again by the publisher, {found.resent_twice} of them came twice (QoS 1)"
            )
        if found.recoveries:
            more.append("  recovered after " + ", ".join(f"{seconds:.1f}" for seconds in found.recoveries) + " s")
        lines += [*more, *(f"  {note}" for note in found.notes), *(f"  FAILS: {why}" for why in found.fails)]
    return "\n".join(lines)


def markdown(outcomes: Sequence[Outcome]) -> str:
    """Return the table for the README, with the machine that it was made on."""
    rows = [list(COLUMNS), ["---"] + ["---:"] * (len(COLUMNS) - 2) + ["---"]]
    rows += [[show(found) for show in COLUMNS.values()] for found in outcomes]
    cores = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + f"\n\nMade by `make faults` on {cores}.\n"


def write_json(outcomes: Sequence[Outcome], short: bool) -> None:
    """Write everything to bench/out/faults.json."""
    OUT.parent.mkdir(exist_ok=True)
    rows = [{**msgspec.to_builtins(found), "holds": found.holds} for found in outcomes]
    found = {"short": short, "machine": platform.machine(), "cores": os.cpu_count(), "rows": rows}
    OUT.write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")


def write_readme(outcomes: Sequence[Outcome], readme: Path = README) -> None:
    """Put the table between its two comments in the README; of a row that ran several times, the last."""
    last = {found.fault: found for found in outcomes}
    before, _, rest = readme.read_text().partition(BEGIN)
    _, mark, after = rest.partition(END)
    assert mark, f"{readme}: the comments {BEGIN} and {END}"
    readme.write_text(f"{before}{BEGIN}\n{markdown(list(last.values()))}{END}{after}")
