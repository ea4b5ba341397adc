"""What is kept of a part of the bench: what it found, when, and why it failed if it did."""

from pathlib import Path

import msgspec

from bench.result import OUT, Section

HERE = Path(__file__).parent
PLOTS, RESULTS, LIMITS = HERE / "plots", HERE / "RESULTS.md", HERE / "limits.md"
FIRST = ("side_by_side", "car_inspection", "stages", "latency", "sql", "recovery", "start", "soak")
"""The parts that stand at the head of the results, in this order; the others follow by name."""

__all__ = ["LIMITS", "OUT", "PLOTS", "RESULTS", "Record", "read_record", "read_records", "record_path"]


class Record(msgspec.Struct):
    """The last good section of a part and the time when it was measured; `fault` is why a later run failed."""

    name: str
    at: str = ""
    seconds: float = 0.0
    section: Section | None = None
    fault: str = ""


def record_path(folder: Path, name: str) -> Path:
    """Return where a part's record is kept."""
    return folder / f"{name}.json"


def read_record(folder: Path, name: str) -> Record:
    """Return a part's record; an empty one if there is none that can be read."""
    try:
        return msgspec.json.decode(record_path(folder, name).read_bytes(), type=Record)
    except (OSError, msgspec.MsgspecError):
        return Record(name)


def read_records(folder: Path, names: list[str]) -> list[Record]:
    """Return the records of the parts that have been measured or have failed."""
    records = [read_record(folder, name) for name in sorted(names, key=_place)]
    return [record for record in records if record.section or record.fault]


def _place(name: str) -> tuple[int, str]:
    return (FIRST.index(name) if name in FIRST else len(FIRST), name)
