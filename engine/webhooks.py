"""Requests that carry events to others: what goes together, its id, and its signature."""

import base64
import hmac
from hashlib import blake2b

import msgspec

from engine.event import Event


class Request(msgspec.Struct, eq=False):
    """What is sent at once: events with their bodies, to one address; `tries` is how often it had no answer."""

    url: str
    events: list[Event]
    bodies: list[bytes]
    tries: int = 0

    @property
    def id(self) -> str:
        """Return the id of its event, or that of all of a batch."""
        if len(self.events) == 1:
            return self.events[0].id.hex()
        return blake2b(b"".join(event.id for event in self.events), digest_size=16).hexdigest()

    def halves(self) -> "list[Request]":
        """Return two requests in its place."""
        middle = len(self.events) // 2
        parts = (slice(None, middle), slice(middle, None))
        return [Request(self.url, self.events[part], self.bodies[part]) for part in parts]


def signing_key(secret: str) -> bytes:
    """Return the key of a secret; raises binascii.Error where what follows `whsec_` is no base64."""
    if secret.startswith("whsec_"):
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secret.encode()


def signature(key: bytes, id_: str, at: str, body: bytes) -> str:
    """Return the signature of a request. Source: Standard Webhooks 1.0, signature scheme v1 (symmetric)."""
    signed = hmac.digest(key, f"{id_}.{at}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(signed).decode()}"
