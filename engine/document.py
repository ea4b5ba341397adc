"""A flow file as it was read: plain values, the position of each, and what is wrong with it."""

from collections.abc import Iterable
from typing import Any

from engine.errors import Finding, did_you_mean

GUESSES = 50
Where = tuple[str | int, ...]
_NAMED: dict[str | int, str] = {"table": "tables", "channel": "channels", "name": "channels", "query": "queries"}


class Document:
    """A parsed file: `value` is plain Python, `at(where)` gives (line, column) of any part, `findings` what is wrong.

    What cannot be read is told once: `lose` a part, and nothing more is said of it; `broken` holds, by section, the
    names that are declared but cannot be used, so that nothing is said of those who use them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.value: Any = None
        self.findings: list[Finding] = []
        self.broken: dict[str, set[str]] = {}
        self._marks: dict[Where, tuple[int, int]] = {}
        self._texts: dict[Where, tuple[int, int, str | None]] = {}
        self._homes: dict[Where, tuple[str, str]] = {}
        self._lost: set[Where] = set()
        self._found: set[Finding] = set()
        self._guesses = 0

    def has(self, where: Where) -> bool:
        """Tell whether the file has this part."""
        return where in self._marks

    def at(self, where: Where) -> tuple[int, int]:
        """Return line and column (from 1) of a part, or of the nearest part around it."""
        while where and where not in self._marks:
            where = where[:-1]
        return self._marks.get(where, (1, 1))

    def inside(self, where: Where, text: str, offset: int) -> tuple[int, int]:
        """Return line and column of a place in a text; of the text's begin where it is not in the file as it is."""
        line, column, written = self._texts.get(where, (*self.at(where), None))
        return line, column + (offset if written == text else 0)

    def said(self, where: Where) -> Any:
        """Return what stands in the file at a part, or at the nearest part around it."""
        value = self.value
        for step in where:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return value
        return value

    def follows(self, where: Where) -> bool:
        """Tell whether a part names (`car`, `car.id`) what is broken itself, so that nothing is to be said of it."""
        return str(self.said(where)).partition(".")[0] in self._broken_at(where)

    def _broken_at(self, where: Where) -> set[str]:
        return self.broken.get(_NAMED.get(where[-1], str(where[0])), set())

    def near(self, where: Where) -> str:
        """Return "did you mean 'x'?" for a broken name that a part may mean."""
        known = self._broken_at(where)
        return self.guess(str(self.said(where)).partition(".")[0], known) if known else ""

    def mark(self, where: Where, line: int, column: int) -> None:
        """Remember where a part stands; line and column count from 0."""
        self._marks[where] = (line + 1, column + 1)

    def mark_text(self, where: Where, line: int, column: int, written: str | None) -> None:
        """Remember where a text begins, and the text if it stands there letter by letter."""
        self._texts[where] = (line + 1, column + 1, written)

    def adopt(self, part: "Document", where: Where, there: Where, by: str) -> None:
        """Let `there` stand where another file has `where`; `by` says who included it."""
        self._marks[there] = part.at(where)
        self._texts[there] = part._texts.get(where, (*part.at(where), None))
        self._homes[there] = (part.path, by)
        if part.lost(where):
            self.lose(there)

    def home(self, where: Where) -> str:
        """Return the file in which a part stands."""
        return self._home(where)[0]

    def _home(self, where: Where) -> tuple[str, str]:
        while where and where not in self._marks:
            where = where[:-1]
        return self._homes.get(where, (self.path, ""))

    def take(self, findings: Iterable[Finding]) -> None:
        """Add findings of another file."""
        for finding in findings:
            if finding not in self._found:
                self._found.add(finding)
                self.findings.append(finding)

    def lose(self, where: Where) -> None:
        """Say nothing more of a part: what is wrong with it has been said."""
        self._lost.add(where)

    def lost(self, where: Where) -> bool:
        """Tell whether a part, or one around it, could not be read."""
        return bool(self._lost) and any(where[:length] in self._lost for length in range(len(where) + 1))

    def guess(self, word: str, known: Any) -> str:
        """Return "did you mean 'x'?", or nothing where many names were wrong already: guessing takes time."""
        self._guesses += 1
        return did_you_mean(word, known) if self._guesses <= GUESSES else ""

    def find(
        self, code: str, where: Where, message: str, *, node: str = "", option: str = "", hint: str = "",
        text: str = "", offset: int | None = None,
    ) -> None:  # fmt: skip
        """Add a finding at a part of the file, or at an offset in the value there; the same one is added once."""
        if self.lost(where):
            return
        line, column = self.at(where) if offset is None else self.inside(where, text, offset)
        path, by = self._home(where)
        message += f" (included by {by})" if by else ""
        self.take(
            [
                Finding(
                    code=code, message=message, path=path, line=line, column=column, node=node, option=option, hint=hint
                )
            ]
        )
