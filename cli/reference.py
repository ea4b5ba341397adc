"""`list`, `explain` and `schema`: the language, generated from the component classes."""

from collections.abc import Iterator
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
    kind: Annotated[
        str,
        typer.Argument(help="A kind, function or code of lint, such as validate, sinks.mqtt, upper or unknown-node."),
    ] = "",
    into: Annotated[Path | None, typer.Option(help="Write all pages, with pictures, into this folder.")] = None,
) -> None:
    """Print what a kind does (options, outputs, delivery, examples), a function of expressions, or a code of lint.

    `functions` and `lint` are all of them.
    """
    from engine.finding_codes import finding_codes
    from engine.functions import FUNCTIONS
    from engine.reference import markdown
    from engine.registry import SECTIONS, components

    if into is not None:
        from cli.reference_pages import write_pages

        write_pages(into)
        return
    if not kind:
        raise UsageFault("explain: a kind (see `millstream list`), or --into FOLDER for all of them")
    section, _, name = kind.rpartition(".")
    kinds = [cls for s in SECTIONS if not section or s == section for k, cls in components(s).items() if k == name]
    found = [*map(markdown, kinds), *_functions(section, name), *_codes(section, name)]
    if not found:
        names = [*(name for s in SECTIONS for name in components(s)), *FUNCTIONS, "functions", *finding_codes(), "lint"]
        hint = did_you_mean(name, names)
        raise UsageFault(f"explain: a kind (see `millstream list`); got '{kind}'" + (f" ({hint})" if hint else ""))
    typer.echo("\n".join(found))


def _functions(section: str, name: str) -> Iterator[str]:
    """Yield the text of a function (`upper`, `functions.split`), or of all (`functions`)."""
    from engine.function_reference import function_text, functions_page
    from engine.functions import FUNCTIONS

    if not section and name == "functions":
        yield functions_page()
    elif section in ("", "functions") and name in FUNCTIONS:
        yield function_text(FUNCTIONS[name])


def _codes(section: str, name: str) -> Iterator[str]:
    """Yield the text of a code of lint (`unknown-node`, `lint.file`), or of all (`lint`)."""
    from engine.finding_codes import code_text, codes_page, finding_codes

    if not section and name == "lint":
        yield codes_page()
    elif section in ("", "lint") and name in finding_codes():
        yield code_text(finding_codes()[name])


def schema() -> None:
    """Print the JSON Schema of the flow language; editors complete with it."""
    from engine.schema import language_schema

    print_json(language_schema())
