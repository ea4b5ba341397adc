"""`list`, `explain` and `schema`: the language, generated from the component classes."""

from pathlib import Path
from typing import Annotated

import typer

from cli.output import AsJson, print_json
from engine.errors import UsageFault, did_you_mean


def list_kinds(json: AsJson = False) -> None:
    """Print every kind of source, operator and sink with one line of what it does."""
    from engine.reference import summary
    from engine.registry import SECTIONS, components

    kinds = {section: {name: summary(cls) for name, cls in sorted(components(section).items())} for section in SECTIONS}
    if json:
        print_json(kinds)
        return
    for section, found in kinds.items():
        typer.echo(section)
        for name, text in found.items():
            typer.echo(f"  {name:12} {text}")


def explain(
    kind: Annotated[str, typer.Argument(help="A kind, such as validate or sinks.mqtt.")] = "",
    into: Annotated[Path | None, typer.Option(help="Write the pages of all kinds into this folder.")] = None,
) -> None:
    """Print what a kind does: options, outputs, delivery, examples."""
    from engine.reference import markdown
    from engine.registry import SECTIONS, components

    if into is not None:
        _write(into)
        return
    if not kind:
        raise UsageFault("explain: a kind (see `millstream list`), or --into FOLDER for all of them")
    section, _, name = kind.rpartition(".")
    found = [cls for s in SECTIONS if not section or s == section for k, cls in components(s).items() if k == name]
    if not found:
        names = [name for s in SECTIONS for name in components(s)]
        hint = did_you_mean(name, names)
        raise UsageFault(f"explain: a kind (see `millstream list`); got '{kind}'" + (f" ({hint})" if hint else ""))
    typer.echo("\n".join(markdown(cls) for cls in found))


def _write(folder: Path) -> None:
    from engine.reference import markdown
    from engine.registry import SECTIONS, components

    for section in SECTIONS:
        (folder / section).mkdir(parents=True, exist_ok=True)
        for name, cls in components(section).items():
            (folder / section / f"{name}.md").write_text(markdown(cls))


def schema() -> None:
    """Print the JSON Schema of the flow language; editors complete with it."""
    from engine.schema import language_schema

    print_json(language_schema())
