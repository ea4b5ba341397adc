"""A client's WebSocket as a source sees it."""

from collections.abc import Mapping
from typing import Protocol


class ClientSocket(Protocol):
    """One WebSocket that was let in; who sends without being able to read still gets what is sent, or is cut."""

    @property
    def path(self) -> str:
        """Return the path that it is connected to."""

    @property
    def params(self) -> Mapping[str, str]:
        """Return the parameters of the path."""

    @property
    def query(self) -> Mapping[str, str]:
        """Return the parameters behind the question mark."""

    @property
    def account(self) -> str | None:
        """Return the name of who is there."""

    @property
    def open(self) -> bool:
        """Tell whether it still stands."""

    def limit(self, largest: int) -> None:
        """Close with 1009 at a message of more than `largest` bytes."""

    async def receive(self) -> str | bytes | None:
        """Return the next message, text or binary; None: it is closed."""

    async def send(self, text: str) -> None:
        """Send a text message, waiting for room; on a connection that is lost nothing happens."""

    async def close(self, code: int, reason: str) -> None:
        """Close with a code of RFC 6455, 7.4, and a reason of at most 123 bytes."""

    def hold(self, held: bool) -> None:
        """Tell that nothing will be read for a while (True): a client that answers no ping is not cut meanwhile."""
