"""Connections to servers and brokers, tried without effect: opened, greeted, closed."""

import asyncio
import errno
import os
import re
import secrets
import socket
import ssl
from collections.abc import Mapping
from contextlib import suppress

from engine.mqtt import MqttSession
from engine.mqtt_address import MqttAddress
from engine.problem import Problem

_NUMBER = re.compile(r"\[Errno (-?\d+)\]")


async def dial(host: str, port: int, context: ssl.SSLContext | None, patience: float) -> list[Problem]:
    """Return why no connection to a server can be had, with `context` one that can be trusted; it is closed again."""
    there = f"a server at {f'[{host}]' if ':' in host else host}:{port}"
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except ssl.SSLCertVerificationError as fault:
        return [Problem("tls", "", f"{there} with a certificate that is trusted; {fault.verify_message}")]
    except (ssl.SSLError, ConnectionResetError) as fault:
        return [
            Problem(
                "tls" if context else "unreachable",
                "",
                f"{there}{' that speaks TLS' * bool(context)}; {_reason(fault)}",
            )
        ]
    except TimeoutError:
        return [Problem("unreachable", "", f"{there}; no answer within {patience:g} s")]
    except (OSError, UnicodeError) as fault:
        return [Problem("unreachable", "", f"{there}; {_reason(fault)}")]
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    return []


def _reason(fault: Exception) -> str:
    """Return what the system calls a failure."""
    if isinstance(fault, ssl.SSLError):
        return (fault.reason or str(fault)).replace("_", " ").lower()
    number = getattr(fault, "errno", None)
    found = _NUMBER.search(str(fault))
    if isinstance(fault, socket.gaierror):
        return fault.strerror or str(fault)
    number = number or (int(found[1]) if found else None)
    return os.strerror(number) if number and number > 0 else str(fault) or type(fault).__name__


async def session(address: MqttAddress, topics: Mapping[str, int], patience: float) -> list[Problem]:
    """Return why a broker does not take us or our subscriptions; the session leaves nothing behind."""
    told: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    tried = MqttSession(
        address, f"millstream-lint-{secrets.token_hex(3)}", on_messages=lambda _: None, topics=list(topics.items()),
        persistent=False, on_state=lambda state, error: told.put_nowait((state, error)),
    )  # fmt: skip
    running = asyncio.create_task(tried.run())
    try:
        async with asyncio.timeout(patience):
            state, error = await told.get()
    except TimeoutError:
        state, error = "connecting", f"no answer within {patience:g} s"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return [] if state == "connected" else [_refused(address, state, error)]


def _refused(address: MqttAddress, state: str, error: str) -> Problem:
    if error.startswith("the broker refused to subscribe"):
        return Problem("permission", "", f"a broker that lets us subscribe; {error} ({address})")
    if state == "refused":
        return Problem("login", "", f"a broker that takes our credentials; {error} ({address})")
    return Problem("unreachable", "", f"a broker at {address}; {error}")


def bind(host: str, port: int, variable: str) -> list[Problem]:
    """Return why nobody could listen on a port; `variable` is what names it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE:
            return [Problem("port-taken", "", f"a free port {port} on {host} ({variable}); {_reason(fault)}")]
        code = "permission" if fault.errno == errno.EACCES else "address"
        return [Problem(code, "", f"a port that we may listen on; {port} on {host} ({variable}): {_reason(fault)}")]
    return []
