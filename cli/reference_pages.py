"""The files of docs/components: a page a kind with its pictures, the functions, lint's codes, and the index."""

from collections.abc import Iterator
from pathlib import Path

from cli.graph_picture import graph_picture
from cli.plotted import PLOTS
from engine.component import Component
from engine.finding_codes import codes_page
from engine.function_reference import functions_page
from engine.reference import Picture, index_page, markdown
from engine.registry import SECTIONS, components

PICTURES = "pictures"


def pages() -> Iterator[tuple[str, str]]:
    """Yield each file's name, relative to the folder, and its text."""
    kinds = {section: dict(components(section).items()) for section in SECTIONS}
    yield "README.md", index_page(kinds)
    yield "functions.md", functions_page()
    yield "lint.md", codes_page()
    for found in kinds.values():
        for cls in found.values():
            yield from component_pages(cls)


def component_pages(cls: type[Component]) -> Iterator[tuple[str, str]]:
    """Yield the page of a component and its pictures: a graph for each example, then the plots of its kind."""
    drawn = []
    for number, example in enumerate(cls.examples, 1):
        file = f"{PICTURES}/{cls.kind}-{number}.svg"
        drawn.append(Picture(file, f"the graph of this example: {example.about}"))
        yield f"{cls.section}/{file}", graph_picture(cls, example)
    for number, plotted in enumerate(PLOTS.get(cls.kind, ()) if cls.section == "operators" else (), 1):
        file = f"{PICTURES}/{cls.kind}-plot-{number}.svg"
        drawn.append(Picture(file, plotted.about, plotted.config))
        yield f"{cls.section}/{file}", plotted.picture(cls)
    yield f"{cls.section}/{cls.kind}.md", markdown(cls, drawn)


def write_pages(folder: Path) -> None:
    """Write all files; pictures that are none any more are removed."""
    written = set()
    for name, text in pages():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        written.add(path)
    for old in set(folder.glob(f"*/{PICTURES}/*.svg")) - written:
        old.unlink()
