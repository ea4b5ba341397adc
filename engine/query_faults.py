"""Say what is wrong with a query, each as what is expected."""

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from engine.document import Document
from engine.errors import SpecProblem, did_you_mean
from engine.model_faults import report
from engine.parameters import ParameterFault, ScalarType, from_json

Where = tuple[str | int, ...]


def exactly_one(what: str, found: list[str], known: Iterable[str]) -> Iterator[SpecProblem]:
    """Yield a problem unless exactly one was found."""
    if len(found) != 1:
        got = ", ".join(found) or "none"
        yield SpecProblem((found[1],) if found else (), f"exactly one {what} of {', '.join(known)}; got {got}")


def said(fault: ValidationError, model: type[BaseModel], method: str) -> Iterator[SpecProblem]:
    """Yield pydantic's errors; that of the path stands where the method is."""
    document = Document("")
    report(document, fault, (), model, node="")
    for finding in document.findings:
        where = tuple(int(part) if part.isdigit() else part for part in finding.option.split("."))
        yield SpecProblem((method,) if where == ("path",) else where, finding.message, finding.hint)


def unknown_name(what: str, where: Where, name: str, known: Iterable[str]) -> SpecProblem:
    """Return the problem of a name that nothing has."""
    return SpecProblem(where, f"a known {what}; got '{name}'", did_you_mean(name, known))


def unfit(kind: ScalarType, value: Any) -> str:
    """Return what is expected instead of a value, or nothing where it fits."""
    try:
        from_json(kind, value)
    except ParameterFault as fault:
        return fault.expected
    return ""
