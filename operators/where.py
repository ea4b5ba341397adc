"""`where`: let through what a condition holds for."""

from collections.abc import Mapping

from engine.api import Code, Example, Expression, Stateless, Type, component


@component("where")
class Where(Stateless):
    """Let an event through when the condition holds; the others are counted as filtered.

    Every node has `where` as an option too: use this kind where a branch needs a name of its own.
    """

    condition: Expression
    """What must hold."""

    shorthand = "condition"
    examples = (
        Example(
            about="Only defects go on.",
            config='where: result == "DEFECT"',
            given=[{"result": "OK"}, {"result": "DEFECT"}, {}],
            expect=[{"result": "DEFECT"}],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in."""
        return given

    def code(self, code: Code) -> bool:
        """Write an `if`."""
        with code.block(f"if {code.expression(self.condition)}:"):
            code.same()
        return True
