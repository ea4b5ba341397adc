"""Where an MQTT broker is and who we are there."""

from dataclasses import dataclass
from typing import Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import SecretStr

_EXPECTED = "expected mqtt[s]://user:password@host:port"
_QUOTE = " (in a password, write / as %2F, # as %23, ? as %3F)"


@dataclass(frozen=True)
class MqttAddress:
    """A broker's address; its text never shows the password."""

    host: str
    port: int = 1883
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `mqtt[s]://user:password@host:port`; the port's default is 1883, with TLS 8883.

        Raises ValueError, whose text holds no part of the address that could be the password.
        """
        parts, port = _split(text)
        if parts.scheme not in ("mqtt", "mqtts"):
            raise ValueError(f"MQTT address: {_EXPECTED}; got a scheme other than mqtt and mqtts")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError(f"MQTT address: {_EXPECTED}; got something after the port{_QUOTE}")
        if not parts.hostname:
            raise ValueError(f"MQTT address: {_EXPECTED}; got no host")
        tls = parts.scheme == "mqtts"
        password = None if parts.password is None else SecretStr(unquote(parts.password))
        username = unquote(parts.username) if parts.username else None
        return cls(parts.hostname, port or (8883 if tls else 1883), username, password, tls)

    def __str__(self) -> str:
        user = quote(self.username or "", safe="")
        login = f"{user}:***@" if self.password else f"{user}@" if user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{login}{host}:{self.port}"


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        raise ValueError(f"MQTT address: {_EXPECTED}; got no readable host") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError(f"MQTT address: {_EXPECTED}; the port is no number from 1 to 65535{_QUOTE}")
    return parts, port
