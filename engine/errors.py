"""Every exception that Millstream raises on purpose; they carry data, and their texts are pinned by a test."""

import difflib
from collections.abc import Iterable, Sequence

import msgspec


class MillstreamError(Exception):
    """Base of all; `exit_code` is what the command line answers with (1 findings, 2 usage, 3 environment)."""

    exit_code = 1


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One problem in a flow file: where it is, what is expected there and what was found instead.

    What has the severity `warning` runs as it is written; everything else is an `error`.
    """

    code: str
    message: str
    path: str = ""
    line: int = 0
    column: int = 0
    node: str = ""
    option: str = ""
    hint: str = ""
    severity: str = "error"

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}:{self.column}: " if self.line else f"{self.path}: " if self.path else ""
        where += f"{self.severity}: " if self.severity != "error" else ""
        node = f"node '{self.node}': " if self.node else ""
        option = f"{self.option}: " if self.option else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{node}{option}{self.message}{hint} [{self.code}]"


class FlowInvalid(MillstreamError):
    """A flow cannot run as it is written; carries every finding, in file order."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


class UsageFault(MillstreamError):
    """The command line or an API was called in a way that makes no sense."""

    exit_code = 2


class EnvironmentFault(MillstreamError):
    """Something outside is missing or in the way: a port, a folder, a server, a permission."""

    exit_code = 3


class DiskFull(MillstreamError):
    """There is no room on a disk; what ends by it starts again and goes on when there is (75: EX_TEMPFAIL)."""

    exit_code = 75


class EventFault(MillstreamError):
    """One event is at fault and goes to the dead letters with this reason; `values` are what was looked at."""

    def __init__(self, reason: str, values: dict[str, object] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.values = values or {}


class KeyReused(MillstreamError):
    """A key that stands for one message, and names what is sent again, came with another one."""


class Unavailable(MillstreamError):
    """The target of a sink or source is away; the same call is tried again later."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the known word nearest to `word`, or an empty string."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


class SpecProblem(msgspec.Struct, frozen=True):
    """One problem in a table, query or channel; `where` is the path inside it."""

    where: tuple[str | int, ...]
    message: str
    hint: str = ""


class SpecFault(MillstreamError):
    """A table, query or channel cannot be read; carries every problem."""

    def __init__(self, problems: Sequence[SpecProblem]) -> None:
        super().__init__("; ".join(problem.message for problem in problems))
        self.problems = tuple(problems)
