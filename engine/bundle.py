"""A flow's text with the files that it includes behind it, so that one text is all of a version.

Each further file begins with a line `--- # file: NAME`, its name relative to the flow's folder.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from engine.document import Document, Where

_BEGIN = re.compile(r"^--- # file: (.+)\n", re.MULTILINE)
LARGEST = 1 << 20


def bundle(text: str, files: Mapping[str, str]) -> str:
    """Return one text of a flow and its files."""
    parts = [f"--- # file: {name}\n{_ended(part)}" for name, part in sorted(files.items())]
    return "".join([_ended(text), *parts]) if parts else text


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"


def unbundle(text: str) -> tuple[str, dict[str, str]]:
    """Return the flow's own text, and the files behind it by name."""
    main, *rest = _BEGIN.split(text)
    return main, dict(zip(rest[::2], rest[1::2], strict=True))


class Files:
    """The files beside a flow: those that came with its text, else those in its folder; `read` are the ones in use."""

    def __init__(self, folder: Path, given: Mapping[str, str]) -> None:
        self.folder, self.read = folder, dict[str, str]()
        self._given = given

    def text(self, document: Document, name: object, where: Where) -> str | None:
        """Return the text of a file; None, and a finding, where it cannot be read."""
        if not isinstance(name, str) or not name or Path(name).is_absolute() or ".." in Path(name).parts:
            document.find("include", where, f"a file in the flow's folder or below; got {name!r}")
            return None
        if name not in self.read:
            found = self._given.get(name)
            text = found if found is not None else self._from_disk(document, name, where)
            if text is None:
                return None
            self.read[name] = text
        return self.read[name]

    def _from_disk(self, document: Document, name: str, where: Where) -> str | None:
        try:
            blob = (self.folder / name).read_bytes()
        except OSError as fault:
            document.find("include", where, f"a file that can be read; {name}: {fault.strerror or fault}")
            return None
        try:
            text = blob.decode()
        except UnicodeDecodeError:
            document.find("include", where, f"a file in UTF-8; {name} is not")
            return None
        if len(blob) > LARGEST:
            document.find("include", where, f"a file of at most {LARGEST} bytes; {name} has {len(blob)}")
            return None
        return text
