"""Where an MQTT broker is and who we are there."""

import ssl
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import SecretStr

_EXPECTED = "expected mqtt[s]://user:password@host:port"
_QUOTE = " (in a password, write / as %2F, # as %23, ? as %3F)"


@dataclass(frozen=True)
class MqttAddress:
    """A broker's address; its text never shows the password.

    For TLS, `ca` is a file with the certificates that are trusted (default: the system's), `certificate` and `key` are
    the files by which the broker knows us; all in PEM.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: SecretStr | None = None
    tls: bool = False
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

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

    def with_files(self, ca: str | None, certificate: str | None, key: str | None) -> Self:
        """Return the address with files for TLS; raises ValueError where they are of no use."""
        if (ca or certificate or key) and not self.tls:
            raise ValueError("MQTT address: expected mqtts:// where there are certificates; got mqtt://")
        if key and not certificate:
            raise ValueError("MQTT address: expected a certificate beside the key; got none")
        return replace(self, ca=ca, certificate=certificate, key=key)

    def context(self) -> ssl.SSLContext | None:
        """Return how to speak TLS, or None for none; raises OSError, with the file's name, for one of no use."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as fault:
            raise OSError(f"{self.ca}: a file with certificates; {fault.strerror or fault}") from None
        if self.certificate:
            try:
                context.load_cert_chain(self.certificate, self.key)
            except OSError as fault:
                files = " and ".join(filter(None, (self.certificate, self.key)))
                raise OSError(f"{files}: a certificate and its key; {fault.strerror or fault}") from None
        return context

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
