"""The types of expressions: the kind of a value, whether it may be none, and which values alone it may have."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

UNCERTAIN = ("any", "none")


class Type(NamedTuple):
    """The kind that a part of an expression evidently has ("any": not known), and whether it may be none.

    `values`, for the check only: the values that it may have, where they are counted up.
    """

    kind: str
    null: bool = False
    values: frozenset[object] | None = None

    @property
    def numeric(self) -> bool:
        """Tell if it is evidently a number: arithmetic with it cannot repeat or format text."""
        return self.kind in ("number", "float", "boolean")

    @property
    def shown(self) -> str:
        """Name the kind for people."""
        return "number" if self.kind == "float" else self.kind


ANY = Type("any", null=True)
NONE = Type("none", null=True)
META = {
    "topic": Type("text", null=True),
    "levels": Type("list", null=True),
    "key": ANY,
    "time": Type("time", null=True),
    "arrival": Type("time", null=True),
    "source": Type("text", null=True),
    "id": Type("text", null=True),
    "data": Type("dict"),
}


def union(types: Sequence[Type]) -> Type:
    """Return what is evident about a value that has one of these types."""
    kinds = {one.kind for one in types if one.kind != "none"}
    kind = kinds.pop() if len(kinds) == 1 else "number" if kinds == {"number", "float"} else "any"
    return Type(kind, any(one.null for one in types), _all_values(one.values for one in types if one.kind != "none"))


def _all_values(values: Iterable[frozenset[object] | None]) -> frozenset[object] | None:
    found: frozenset[object] = frozenset()
    for each in values:
        if each is None:
            return None
        found |= each
    return found or None
