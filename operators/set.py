"""`set`: give fields new values."""

from collections.abc import Iterable, Iterator, Mapping

from engine.api import Code, Example, Expression, Flow, Node, Problem, Stateless, Type, component

NO_FIELDS = frozenset(("meta", "settings", "table", "true", "false", "none"))


@component("set")
class Set(Stateless):
    """Set fields to the values of expressions, one after the other; a later one sees what the earlier ones set."""

    fields: dict[str, Expression]
    """Field name → expression."""

    shorthand = "fields"
    examples = (
        Example(
            about="Fahrenheit from Celsius, and whether it is hot.",
            config="set: {fahrenheit: celsius * 9 / 5 + 32, hot: fahrenheit > 100}",
            given=[{"celsius": 40}, {"celsius": 20}, {}],
            expect=[
                {"celsius": 40, "fahrenheit": 104.0, "hot": True},
                {"celsius": 20, "fahrenheit": 68.0, "hot": False},
                {"fahrenheit": None, "hot": False},
            ],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find names that mean something else in an expression: nothing could read such a field."""
        for name in self.fields:
            if name in NO_FIELDS:
                yield Problem("option-value", name, f"a name that expressions can read; got '{name}'")

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in, with the types of what is set."""
        if output or given is None:
            return super().gives(given, output)
        types = dict(given)
        for name, expression in self.fields.items():
            types[name] = expression.evident(types)
        return types

    def reads(self, given: Mapping[str, Type]) -> Iterator[tuple[str, Expression, Mapping[str, Type]]]:
        """Yield each expression with what comes in and what was set before it."""
        types = dict(given)
        for name, expression in self.fields.items():
            yield f"fields.{name}", expression, types
            types[name] = expression.evident(types)

    def code(self, code: Code) -> bool:
        """Write an assignment a field."""
        code.go_on(code.with_fields(self.fields.items()))
        return True
