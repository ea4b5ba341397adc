"""`new`: begin a flow with one of the examples."""

import re
import shutil
from pathlib import Path
from typing import Annotated

import typer

from engine.errors import UsageFault, did_you_mean

EXAMPLES = Path(__file__).parent.parent / "flows" / "examples"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_FLOW = re.compile(r"^flow\s*:.*$", re.MULTILINE)
_ABOUT = re.compile(r"^about\s*:\s*(.*)$", re.MULTILINE)


def new(
    name: Annotated[str, typer.Argument(help="The flow's name; without one the examples are listed.")] = "",
    template: Annotated[str, typer.Option("--from", help="The example to begin with.")] = "",
    into: Annotated[Path | None, typer.Option("--into", help="The folder to make; default: the flow's name.")] = None,
) -> None:
    """Begin a flow: copies an example under a new name; `millstream new` lists the examples."""
    known = examples()
    if not name:
        width = max(map(len, known), default=0)
        typer.echo("\n".join(f"{example:{width}}  {_about(file)}" for example, file in known.items()))
        return
    if not _NAME.fullmatch(name):
        raise UsageFault(f"new: a name of small letters, digits and _; got '{name}'")
    if template not in known:
        hint = did_you_mean(template, known)
        raise UsageFault(f"new: --from: one of {', '.join(known)}; got '{template}'{f' ({hint})' if hint else ''}")
    file = _copied(known[template], into or Path(name), name)
    typer.echo(f"{file}\ntry it: millstream test {file}\nrun it: millstream run {file}")


def examples() -> dict[str, Path]:
    """Return the examples' flow files: `NAME.yaml`, or `NAME/NAME.yaml` with what it needs beside it."""
    files = [*EXAMPLES.glob("*.yaml"), *(file for file in EXAMPLES.glob("*/*.yaml") if file.stem == file.parent.name)]
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def _about(file: Path) -> str:
    found = _ABOUT.search(file.read_text())
    return found[1] if found else ""


def _copied(example: Path, folder: Path, name: str) -> Path:
    """Copy an example into a new folder; raises UsageFault where it is there already."""
    if folder.exists():
        raise UsageFault(f"new: a folder that is not there yet; {folder} is")
    if example.parent == EXAMPLES:
        folder.mkdir(parents=True)
    else:
        shutil.copytree(example.parent, folder, ignore=shutil.ignore_patterns(example.name, "README.md", "__pycache__"))
    text = example.read_text()
    own = re.search(r"\$\{[^}]*\}", (_FLOW.search(text) or [""])[0])
    file = folder / f"{name}.yaml"
    file.write_text(_FLOW.sub(f"flow: {name}_{own[0]}" if own else f"flow: {name}", text, count=1))
    return file
