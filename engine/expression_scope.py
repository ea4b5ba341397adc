"""How the generated source of an expression reaches the event and the constants around it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.expression_check import Type


@dataclass
class Scope:
    """The names of one generated function; all expressions that are inlined into it share its scope.

    Each attribute is the source text that yields that part of the event: `data` (a dict), `meta` (a dict or None),
    `time` and `arrival` (µs since 1970), `id` (bytes), `topic`, `key`, `source`; `levels` the topic split at its
    slashes, where that is at hand. `fields`, where all fields are known and at hand one by one, has the source of each
    (what is not there is none), and `types` what is known of them. Locals named `f_…` and `v1`, `v2`, … belong to the
    expressions. `constants` (named `x_…`) become globals of the generated function.
    """

    data: str = "d"
    meta: str = "meta"
    topic: str = "topic"
    time: str = "t"
    key: str = "key"
    source: str = "source"
    id: str = "id"
    arrival: str = "arrival"
    levels: str | None = None
    fields: Mapping[str, str] | None = None
    types: Mapping[str, Type] = field(default_factory=dict)
    constants: dict[str, object] = field(default_factory=dict)
    temporaries: int = 0

    def bind(self, value: object, name: str = "c") -> str:
        """Return the name of a constant; the same object under the same `name` is bound once."""
        candidate, number = f"x_{name}", 0
        while candidate in self.constants:
            if self.constants[candidate] is value:
                return candidate
            number += 1
            candidate = f"x_{name}{number}"
        self.constants[candidate] = value
        return candidate

    def temporary(self) -> str:
        """Return a name for a local that no other expression of the scope uses."""
        self.temporaries += 1
        return f"v{self.temporaries}"
