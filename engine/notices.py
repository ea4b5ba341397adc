"""Notices to people on their way out: how they are sent, and what is said of many at once.

Everything here blocks and is called on a thread of its own; it returns why a notice did not go out, without secrets.
"""

import asyncio
import json
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec
import structlog

if TYPE_CHECKING:
    from apprise import Apprise

LISTED = 10
SHORTEST_SECRET = 4
LONGEST_REASON = 600
log = structlog.get_logger()
OPEN = ("json", "jsons", "xml", "xmls", "form", "forms", "mailto", "mailtos")
"""Schemes whose hosts are hosts, and no tokens."""
_CAUSE = re.compile(r"[\w -]*(Exception|Error): ")
_TOKEN = re.compile(r"[^\s/?&=:@#;,]+")


class Notice(msgspec.Struct, frozen=True):
    """What is sent: title and text, the files beside it, and how many events it stands for."""

    title: str
    text: str
    files: tuple[str, ...] = ()
    events: int = 1


class Receiver(Protocol):
    """Somebody who gets notices; `name` may be shown."""

    name: str

    def send(self, notice: Notice) -> str:
        """Return an empty text, or why it was not taken."""


def server_of(address: str) -> tuple[str, int, bool] | None:
    """Return host, port and whether it speaks TLS at once, of an address whose host is one; None: apprise knows none.

    Mail goes to the server that apprise takes for the address; an unencrypted connection may become encrypted there.
    """
    import apprise

    found: Any = apprise.Apprise.instantiate(address)
    if found is None:
        return None
    host, tls = getattr(found, "smtp_host", "") or found.host, found.secure
    if hasattr(found, "smtp_host"):
        tls = found.secure and found.secure_mode == "ssl"
    return host, found.port or (443 if tls else 80), tls


def digest(notices: Sequence[Notice], dropped: int) -> Notice:
    """Return one notice for many; `dropped` events have none."""
    number = len(notices) + dropped
    if number == 1:
        return notices[0]
    lines = [" ".join((notice.title or notice.text).split())[:120] for notice in notices[:LISTED]]
    if number > len(lines):
        lines.append(f"and {number - len(lines)} more")
    same = len({notice.title for notice in notices}) == 1 and notices[0].title
    title = f"{notices[0].title} ({number} times)" if same else f"{number} notices: {lines[0]}"
    files = tuple(dict.fromkeys(file for notice in notices for file in notice.files))[:LISTED]
    return Notice(title, "\n".join(lines), files, number)


async def told(receiver: Receiver, notice: Notice) -> str:
    """Call `send` on a thread of its own: one that hangs takes none from others, and does not keep us from ending."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()

    def settle(reason: str) -> None:
        if not done.done():
            done.set_result(reason)

    def run() -> None:
        try:
            reason = receiver.send(notice)
        except Exception as fault:
            reason = type(fault).__name__
            log.debug("notice fails", to=receiver.name, exc_info=fault)
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, reason)

    threading.Thread(target=run, name="notice", daemon=True).start()
    return await done


class Service:
    """A service that apprise reaches, by its address."""

    def __init__(self, address: str, level: str, form: str, timeout: float) -> None:
        self._address, self._level, self._form, self._timeout = address, level, form, timeout
        scheme, host = urlsplit(address).scheme, urlsplit(address).hostname
        self.name = f"{scheme}://{host if scheme in OPEN else '…'}"
        self._apprise: Apprise | None = None

    def send(self, notice: Notice) -> str:
        """Send by apprise; its warnings say why it was not taken."""
        import apprise

        if self._apprise is None:
            logger = logging.getLogger("apprise")  # says more than it says aloud; what it says is in our reason
            logger.setLevel(logging.DEBUG)
            logger.propagate = False
            asset = apprise.AppriseAsset(app_id="Millstream", app_desc="Millstream", service_timeout=self._timeout)
            self._apprise = apprise.Apprise(asset=asset)
            if not self._apprise.add(self._address):
                self._apprise = None
                return "an address that apprise knows"
        with self._apprise.notify(
            notice.text or notice.title, notice.title, apprise.NotifyType(self._level), self._form,
            attach=list(notice.files) or None, log_level=logging.DEBUG,
        ) as done:  # fmt: skip
            if done:
                return ""
            said = [entry.message for entry in done.logs() if entry.level != "DEBUG" or _CAUSE.match(entry.message)]
        return scrubbed(" ".join(" ".join(said).split()) or "not taken", self._address)[:LONGEST_REASON]


def scrubbed(text: str, address: str) -> str:
    """Return a text without what the address holds beside scheme and host: users, passwords, tokens.

    Of a mail's address it is the password: to whom it was sent may be said.
    """
    parts = urlsplit(address)
    if parts.scheme.startswith("mailto"):
        return text.replace(unquote(parts.password), "…") if parts.password else text
    rest = address.removeprefix(f"{parts.scheme}://").replace(parts.hostname or "\0", " ", 1)
    found = {unquote(token) for token in _TOKEN.findall(rest)} | set(_TOKEN.findall(rest))
    for token in sorted(found, key=len, reverse=True):
        if len(token) >= SHORTEST_SECRET:
            text = text.replace(token, "…")
    return text


class Browser:
    """A browser's push subscription (Web Push, RFC 8030, 8291 and 8292)."""

    def __init__(self, subscription: Mapping[str, Any], key: str, contact: str, ttl: int, timeout: float) -> None:
        self._subscription, self._key, self._contact = subscription, key, contact
        self._ttl, self._timeout = ttl, timeout
        self.name = f"web push at {urlsplit(str(subscription.get('endpoint'))).hostname}"

    def send(self, notice: Notice) -> str:
        """Send encrypted to the subscription's key; the page's service worker gets JSON with title, body and events."""
        from pywebpush import WebPushException, webpush

        body = json.dumps({"title": notice.title, "body": notice.text, "events": notice.events})
        try:
            webpush(self._subscription, body, self._key, {"sub": self._contact}, ttl=self._ttl, timeout=self._timeout)
        except WebPushException as fault:
            status = getattr(fault.response, "status_code", None)
            if status in (404, 410):
                return "a subscription that is there; it has ended"
            return f"an answer; got status {status}" if status else "a subscription with endpoint and keys"
        except OSError as fault:
            return f"an answer; {type(fault).__name__}"
        except ValueError as fault:
            return f"a subscription and a key that can be read; {type(fault).__name__}"
        return ""


def subscriptions(value: Any) -> list[dict[str, Any]]:
    """Return the push subscriptions of a value: one or a list, as objects or JSON; raises ValueError."""
    if isinstance(value, str) and value:
        value = msgspec.json.decode(value)
    found = value if isinstance(value, list) else [] if value is None or value == "" else [value]
    for one in found:
        address = urlsplit(str(one.get("endpoint"))) if isinstance(one, dict) else None
        local = address is not None and address.hostname in ("127.0.0.1", "localhost")
        if address is None or not address.hostname or not (address.scheme == "https" or local):
            raise ValueError("an object with endpoint (https://…) and keys, or a list of them")
    return found
