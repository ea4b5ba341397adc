"""`python`: a function of the integrator's own."""

import ast
import importlib.util
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from engine.api import (
    Emit,
    EnvironmentFault,
    Event,
    EventFault,
    Example,
    Flow,
    Node,
    Problem,
    Stateless,
    component,
    derived_id,
    did_you_mean,
)


@component("python")
class Python(Stateless):
    """Call a function in a file beside the flow: `def f(data: dict) -> dict | list[dict] | None`.

    It must depend on its argument alone: no clock, randomness, network or memory, so that a replay gives the same.
    None filters the event, a list makes several; an exception sends the event to the dead letters.
    """

    file: str = ""
    """A Python file, relative to the flow's folder."""
    function: str = "process"
    """The function's name."""
    code_: str = Field(default="", alias="code")
    """The function itself, for a few lines, in place of a file."""

    _folder: Path = PrivateAttr(default=Path())
    examples = (
        Example(
            about="Words that are longer than three letters.",
            config='python: {code: "def process(data):\\n'
            "    return [{'word': w} for w in data['text'].split() if len(w) > 3]\"}",
            given=[{"text": "one three five"}],
            expect=[{"word": "three"}, {"word": "five"}],
        ),
    )

    @model_validator(mode="after")
    def _one_of_both(self, info: ValidationInfo) -> "Python":
        if bool(self.file) == bool(self.code_):
            raise ValueError("either file or code")
        object.__setattr__(self, "_folder", getattr(info.context, "pack", Path()))
        return self

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Read the source without running it, and look for the function."""
        option = "file" if self.file else "code"
        try:
            tree = ast.parse(self._source())
        except OSError as fault:
            yield Problem("python", option, f"a readable file; {fault.strerror}: {self.file}")
        except SyntaxError as fault:
            yield Problem("python", option, f"Python; {fault.msg} in line {fault.lineno}")
        except ValueError as fault:
            yield Problem("python", option, f"Python; {fault}")
        else:
            names = [item.name for item in tree.body if isinstance(item, ast.FunctionDef)]
            if self.function not in names:
                yield Problem(
                    "python", "function", f"a function in it; got '{self.function}'", did_you_mean(self.function, names)
                )

    def _source(self) -> str:
        return self.code_ or (self._folder / self.file).read_text()

    @cached_property
    def _call(self) -> Callable[[dict[str, Any]], Any]:
        path = str(self._folder / self.file) if self.file else "<python>"
        spec = importlib.util.spec_from_loader("flow_function", loader=None)
        if spec is None:
            raise EnvironmentFault(f"{path}: cannot be imported")
        module = importlib.util.module_from_spec(spec)
        exec(compile(self._source(), path, "exec"), module.__dict__)  # noqa: S102 - what this kind is for
        return getattr(module, self.function)  # type: ignore[no-any-return]

    def apply(self, event: Event, emit: Emit) -> None:
        """Call the function with a copy of the data; what comes out must be data as JSON has them, and times."""
        try:
            found = self._call(_copied(event.data))
        except SystemExit as fault:
            raise EventFault(f"{self.function}: a value; it left the program ({fault})") from None
        several = isinstance(found, list)
        for index, data in enumerate(found if several else [found]):
            if data is None:
                continue
            if not isinstance(data, dict):
                raise EventFault(f"{self.function}: a dict, a list of dicts or None; got {type(data).__name__}")
            made = event.derive(_copied(data))
            made.id = derived_id(emit.node, event.id.hex(), index) if several else event.id
            emit(made)


def _copied(data: dict[str, Any]) -> dict[str, Any]:
    """Return data of their own, down to the last list: branches share theirs."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(data), type=dict[str, Any])
