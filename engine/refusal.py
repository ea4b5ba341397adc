"""A request that is not done: the one JSON shape that every error answer of the gateway has."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.errors import MillstreamError


class Field(msgspec.Struct, frozen=True):
    """One part of a request that is not as it should be."""

    field: str
    expected: str
    got: str


class Refusal(MillstreamError):
    """A request is answered with an error: an HTTP status, a code for programs and a message for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        fields: Sequence[Field] = (),
        *,
        id: str = "",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.fields = tuple(fields)
        self.id = id
        self.headers = dict(headers or {})
        self.more = dict(more or {})

    def body(self) -> bytes:
        """Return `{"error": {"code", "message", "fields", "id"}}` as JSON; parts that say nothing are left out.

        What is in `more` stands beside them.
        """
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.fields:
            error["fields"] = self.fields
        if self.id:
            error["id"] = self.id
        error |= self.more
        return msgspec.json.encode({"error": error})


def busy(message: str, seconds: int = 1) -> Refusal:
    """Return the refusal of a request that will succeed later: 503 with Retry-After."""
    return Refusal(503, "unavailable", message, headers={"Retry-After": str(seconds)})


def short(value: object) -> str:
    """Return what a client sent as it may stand in an error: at most 80 characters."""
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"
