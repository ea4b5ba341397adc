"""What is said when an expression is wrong."""

from typing import NamedTuple

from engine.errors import MillstreamError

WRONG, UNKNOWN_FIELD = "expression", "unknown-field"


class Fault(NamedTuple):
    """One problem in the text of an expression; `column` counts characters from 0, `code` is that of its finding."""

    message: str
    column: int
    hint: str | None = None
    code: str = WRONG


class ExpressionFault(MillstreamError):
    """An expression is not usable; carries every problem, in the order of the text."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.column))
        self.column = self.faults[0].column
        self.hint = self.faults[0].hint
        self.message = "; ".join(fault.message for fault in self.faults)
        super().__init__(self.message)
