"""`switch`: each event to the output whose condition holds."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import field_validator

from engine.api import Code, Example, Expression, Stateless, Type, component

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@component("switch")
class Switch(Stateless):
    """Send an event to the side output of the first case whose condition holds; the main output has those of no case.

    Each case is an output of the node: what takes from `name.hot` gets the events of the case `hot`. What nothing takes
    is counted as filtered.
    """

    cases: dict[str, Expression]
    """Name of an output → condition, in the order in which they are tried."""
    take: Literal["first", "all"] = "first"
    """Whether an event goes to the first case that holds, or to all that do."""

    shorthand = "cases"
    examples = (
        Example(
            about="Hot and cold go different ways, the rest goes on; what nothing takes is filtered.",
            config="switch: {hot: t > 80, cold: t < 0}",
            given=[{"t": 95}, {"t": -3}, {"t": 20}, {}],
            expect=[{"t": 20}, {}],
            side={"hot": [{"t": 95}], "cold": [{"t": -3}]},
        ),
        Example(
            about="Every case that holds gets the event.",
            config='switch: {cases: {defect: result == "DEFECT", slow: seconds > 60}, take: all}',
            given=[
                {"result": "DEFECT", "seconds": 70},
                {"result": "OK", "seconds": 65},
                {"result": "OK", "seconds": 9},
            ],
            expect=[{"result": "OK", "seconds": 9}],
            side={
                "defect": [{"result": "DEFECT", "seconds": 70}],
                "slow": [{"result": "DEFECT", "seconds": 70}, {"result": "OK", "seconds": 65}],
            },
        ),
    )

    @field_validator("cases")
    @classmethod
    def _named(cls, cases: dict[str, Expression]) -> dict[str, Expression]:
        if not cases:
            raise ValueError("one case or more")
        wrong = [name for name in cases if not NAME.fullmatch(name) or name == "errors"]
        if wrong:
            raise ValueError(f"{wrong[0]}: a name of small letters, digits and _, other than errors")
        return cases

    @classmethod
    def options(cls, value: Any) -> Any:
        """Return the options: a mapping without `cases` has the cases themselves."""
        long = isinstance(value, dict) and isinstance(value.get("cases"), dict) and value.keys() <= {"cases", "take"}
        return value if long or not isinstance(value, dict) else {"cases": value}

    def side_outputs(self) -> Mapping[str, str]:
        """Return an output a case."""
        return {name: f"events for which {condition.text}" for name, condition in self.cases.items()}

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in."""
        return given

    def code(self, code: Code) -> bool:
        """Write a chain of `if`, or one `if` a case."""
        if self.take == "all":
            self._all(code)
            return True
        for head, output in self._heads(code):
            with code.block(head):
                code.same(output)
        return True

    def _heads(self, code: Code) -> Iterator[tuple[str, str]]:
        word = "if"
        for name, condition in self.cases.items():
            yield f"{word} {code.expression(condition)}:", name
            word = "elif"
        yield "else:", ""

    def _all(self, code: Code) -> None:
        holds = {name: code.name("w") for name in self.cases}
        for name, condition in self.cases.items():
            code.line(f"{holds[name]} = {code.expression(condition)}")
        for name, value in holds.items():
            with code.block(f"if {value}:"):
                code.same(name)
        with code.block(f"if not ({' or '.join(holds.values())}):"):
            code.same()
