"""Tell people what was found: a table on the terminal, and RESULTS.md."""

from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

from bench.record import Record
from bench.result import Figure

HEAD = """# What was measured

`make bench` measures all of this again and writes this page; `make bench BENCH="NAME… --short"` tries a part. The cores
are shared by all that takes part, and a machine is never twice the same: ratios, which are taken within one run, tell
more than figures do.
"""
HOLDS: Mapping[bool | None, str] = {True: "holds", False: "**does not hold**", None: ""}
COLOURS: Mapping[bool | None, str] = {True: "green", False: "red", None: ""}
PLOTS = "plots"


def number(value: float) -> str:
    """Return a number with as many places as people read."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def outcome(record: Record) -> str:
    """Return one line: how it went."""
    if record.fault or record.section is None:
        return f"bench: {record.name} failed: {record.fault}"
    held = [figure.holds for figure in record.section.figures if figure.holds is not None]
    reached = f", {sum(held)} of {len(held)} targets hold" if held else ""
    return f"bench: {record.name} took {record.seconds:.0f} s{reached}"


def table(records: Iterable[Record]) -> Table:
    """Return all figures, for a terminal; their notes are in RESULTS.md."""
    found = Table(box=None, pad_edge=False, show_header=False)
    for kind in ("part", "figure", "value", "unit", "target", "holds"):
        found.add_column(justify="right" if kind == "value" else "left", no_wrap=kind in ("part", "value", "unit"))
    for record in records:
        figures = record.section.figures if record.section and not record.fault else ()
        found.add_row(Text(record.name, "bold"), "" if figures else Text("failed", "red"))
        for one in figures:
            held = Text(HOLDS[one.holds].strip("*"), COLOURS[one.holds])
            found.add_row("", Text(one.name), number(one.value), one.unit, one.target, held)
    return found


def markdown(
    records: Sequence[Record],
    machine: Mapping[str, str],
    plots: Mapping[str, Sequence[tuple[str, str]]],
    limits: str = "",
) -> str:
    """Return the text of RESULTS.md: `plots` has (title, file name) of each part's, `limits` stands before them."""
    blocks = [HEAD.strip(), _grid(("", "measured on"), machine.items())]
    judged = [
        (record.section.title, *_judged(figure))
        for record in records if record.section
        for figure in record.section.figures if figure.holds is not None
    ]  # fmt: skip
    if judged:
        blocks += ["## Targets", _grid(("part", "figure", "measured", "target", ""), judged)]
    if limits:
        blocks.append(limits.strip())
    for record in records:
        blocks += _section(record, plots.get(record.name, ()))
    return "\n\n".join(blocks) + "\n"


def _judged(figure: Figure) -> tuple[str, str, str, str]:
    return figure.name, f"{number(figure.value)} {figure.unit}", figure.target, HOLDS[figure.holds]


def _section(record: Record, plots: Sequence[tuple[str, str]]) -> list[str]:
    blocks = [f"## {record.section.title if record.section else record.name}"]
    if record.fault:
        blocks.append(f"**The last run failed**: {record.fault}")
    if record.section is None:
        return blocks
    blocks.append(f"Measured {record.at} by `bench/{record.name}.py` in {record.seconds:.0f} s.")
    rows = [(f.name, number(f.value), f.unit, f.target, HOLDS[f.holds], f.note) for f in record.section.figures]
    blocks.append(_grid(("figure", "measured", "unit", "target", "", "note"), rows))
    blocks += [f"![{title}]({PLOTS}/{name})" for title, name in plots]
    return blocks + record.section.notes


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
