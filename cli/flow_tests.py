"""`test`: run the flows' own tests, record what they expect, and tell what they reach."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.flows import Paths, loaded
from cli.output import AsJson, print_json
from engine.errors import UsageFault

if TYPE_CHECKING:
    from engine.coverage import Coverage
    from engine.flow import Flow
    from engine.testing import Outcome

Junit = Annotated[Path | None, typer.Option(metavar="FILE", help="Write the outcomes as JUnit XML, for CI servers.")]
Covered = Annotated[bool, typer.Option("--coverage", help="Tell which nodes and ways no test reaches.")]
CoverMin = Annotated[int | None, typer.Option(metavar="PERCENT", min=0, max=100, help="Fail below this coverage.")]
Record = Annotated[bool, typer.Option("--record", help="Write `expect:` into the tests that have none.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="With --record: into all tests.")]


def run_flow_tests(
    paths: Paths, json: AsJson = False, coverage: Covered = False, cover_min: CoverMin = None, junit: Junit = None,
    record: Record = False, overwrite: Overwrite = False,
) -> None:  # fmt: skip
    """Run the flows' own tests on a virtual clock; needs no broker and no database."""
    from engine.testing import run_tests

    if overwrite and not record:
        raise UsageFault("--overwrite: with --record")
    if record:
        _record(loaded(paths), overwrite)
    flows = [flow.raise_findings() for instances in loaded(paths) for flow in instances]
    outcomes = [outcome for flow in flows for outcome in run_tests(flow)]
    covered = _covered(flows) if coverage or cover_min is not None else []
    if junit is not None:
        _write(junit, outcomes)
    if json:
        print_json(_as_json(outcomes, covered))
    else:
        _print(outcomes, covered)
    low = _low(covered, cover_min or 0)
    raise typer.Exit(1 if low or any(outcome.differences for outcome in outcomes) else 0)


def _covered(flows: "list[Flow]") -> "list[Coverage]":
    from engine.coverage import coverage

    return [coverage(flow) for flow in flows]


def _write(file: Path, outcomes: "list[Outcome]") -> None:
    from engine.junit import junit

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(junit(outcomes))


def _record(flows: "list[list[Flow]]", overwrite: bool) -> None:
    """Write what comes out into each file, instances of a flow together; nothing is written where any is refused."""
    from engine.expectation_recording import with_expectations

    for instances in flows:
        if instances[0].path.suffix not in (".yaml", ".yml"):
            raise UsageFault(f"--record: flow files; got {instances[0].path}")
    read = [[flow.raise_findings() for flow in instances] for instances in flows]
    for found in [with_expectations(instances, overwrite=overwrite) for instances in read]:
        if found.tests:
            found.path.write_bytes(found.text.encode())
        for name in found.tests:
            typer.echo(f"recorded {found.path}: {name}", err=True)


def _print(outcomes: "list[Outcome]", covered: "list[Coverage]") -> None:
    for outcome in outcomes:
        typer.echo(f"{'FAIL' if outcome.differences else 'ok  '} {outcome.flow}: {outcome.test}")
        for line in [line for difference in outcome.differences for line in difference.splitlines()]:
            typer.echo(f"     {line}")
    for one in covered:
        typer.echo("\n".join(one.lines()))
    failed = sum(bool(outcome.differences) for outcome in outcomes)
    typer.echo(f"{len(outcomes) - failed} passed, {failed} failed")


def _low(covered: "list[Coverage]", least: int) -> bool:
    low = [one for one in covered if one.percent < least]
    for one in low:
        typer.echo(f"--cover-min: {one.flow}: at least {least} %; got {one.percent} %", err=True)
    return bool(low)


def _as_json(outcomes: "list[Outcome]", covered: "list[Coverage]") -> Any:
    """Return a list of the outcomes; with coverage, a mapping of both."""
    tests = [{"flow": one.flow, "test": one.test, "differences": one.differences} for one in outcomes]
    return {"tests": tests, "coverage": covered} if covered else tests
