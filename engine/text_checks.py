"""What text may have to be: an address, an id, a date, in the form that the standards give."""

import ipaddress
import re
from collections.abc import Callable
from datetime import date, time

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MAC = re.compile(r"[0-9a-fA-F]{2}(?:([:-])[0-9a-fA-F]{2})(?:\1[0-9a-fA-F]{2}){4}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?")


def is_host(text: str) -> bool:
    """Tell whether a text is a host's name (RFC 1123)."""
    return len(text) <= 253 and _HOST.fullmatch(text) is not None


def is_email(text: str) -> bool:
    """Tell whether a text is an address of e-mail, as HTML's input of that type takes one (RFC 5321 for its length)."""
    local, _, host = text.rpartition("@")
    return len(text) <= 254 and len(local) <= 64 and _LOCAL.fullmatch(local) is not None and is_host(host)


def _reads(read: Callable[[str], object], form: re.Pattern[str] | None = None) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        if form is not None and not form.fullmatch(text):
            return False
        try:
            read(text)
        except ValueError:
            return False
        return True

    return check


TEXT_CHECKS: dict[str, Callable[[str], bool]] = {
    "uuid": lambda text: _UUID.fullmatch(text) is not None,
    "email": is_email,
    "host": is_host,
    "ipv4": _reads(ipaddress.IPv4Address),
    "ipv6": _reads(ipaddress.IPv6Address),
    "mac": lambda text: _MAC.fullmatch(text) is not None,
    "date": _reads(date.fromisoformat, _DATE),
    "time": _reads(time.fromisoformat, _TIME),
}
"""Name → what tells whether a text has that form."""
