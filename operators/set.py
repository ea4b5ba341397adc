"""`set`: give fields new values."""

from engine.api import Code, Example, Expression, Stateless, component


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

    def code(self, code: Code) -> bool:
        """Write an assignment a field."""
        code.go_on(code.with_fields(self.fields.items()))
        return True
