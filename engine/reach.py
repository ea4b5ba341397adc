"""What a flow would reach, tried without effect: servers, the broker, files, ports. Each is tried once a run.

Nothing is published, written or kept: a connection is closed again, a session at the broker is a clean one under an id
of its own, and messages that a subscription brings are not acknowledged.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from engine.mqtt_address import MqttAddress
from engine.probe_files import readable, writable
from engine.probe_network import bind, dial, session
from engine.problem import Problem
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.probe_database import DatabaseProbe

AT_ONCE = 64
_SHARED = re.compile(r"\$share/[^/]*/")


class Reach:
    """Tries what nodes would reach: each once, however many ask, and none for longer than `patience` seconds.

    Every method returns what is wrong with the given option; nothing, where all is well.
    """

    def __init__(self, settings: Settings, patience: float) -> None:
        from engine.probe_database import DatabaseProbe  # workers import this module with engine.api and never try

        self.settings, self.patience = settings, patience
        self.database = DatabaseProbe(settings.database, patience)
        self._databases = {settings.database: self.database}
        self._tried: dict[Any, asyncio.Task[list[Problem]]] = {}
        self._room = asyncio.Semaphore(AT_ONCE)

    async def url(self, url: str, option: str) -> list[Problem]:
        """Try to connect to the server of an address like `https://host/path`; nothing is asked there."""
        parts = urlsplit(url)
        tls = parts.scheme in ("https", "wss")
        return await self.server(parts.hostname or "", parts.port or (443 if tls else 80), option, tls=tls)

    async def server(self, host: str, port: int, option: str = "", *, tls: bool = False) -> list[Problem]:
        """Try to connect to a server, with `tls` as far as that its certificate is trusted."""
        context = ssl.create_default_context() if tls else None
        return await self._once(("server", host, port, tls), option, lambda: dial(host, port, context, self.patience))

    async def broker(self, topics: Mapping[str, int], option: str = "") -> list[Problem]:
        """Try to log in at the broker, and to subscribe to topics (filter → QoS); a shared one is tried as its own."""
        if self.settings.mqtt_url is None:
            return await self._embedded(topics, option)
        try:
            address = MqttAddress.parse(self.settings.mqtt_url)
        except ValueError as fault:
            return [Problem("address", option, f"MILLSTREAM_MQTT: {fault}")]
        return await self.broker_at(address, topics, option)

    async def broker_at(self, address: MqttAddress, topics: Mapping[str, int], option: str = "") -> list[Problem]:
        """Try a broker at an address."""
        asked = {_SHARED.sub("", topic, count=1): qos for topic, qos in topics.items()}
        found = await self._once(("broker", address), option, lambda: _greeted(address, self.patience))
        return found or await self._once(
            ("broker", address, tuple(asked.items())), option, lambda: session(address, asked, self.patience)
        )

    async def _embedded(self, topics: Mapping[str, int], option: str) -> list[Problem]:
        """Try our own broker where the gateway runs; else its port must be free."""
        host, port = "127.0.0.1", self.settings.broker_port
        if await self.gateway():
            return await self.broker_at(MqttAddress(host, port), topics, option)
        return await self.port(host, port, "MILLSTREAM_BROKER_PORT", option)

    async def web(self, option: str = "") -> list[Problem]:
        """Try whether the gateway can listen, or listens already."""
        if await self.gateway():
            return []
        return await self.port(self.settings.host, self.settings.port, "MILLSTREAM_PORT", option)

    async def port(self, host: str, port: int, variable: str, option: str) -> list[Problem]:
        """Try whether a port is free."""
        return await self._once(("port", host, port), option, lambda: asyncio.to_thread(bind, host, port, variable))

    async def gateway(self) -> bool:
        """Tell whether a gateway runs on the data folder."""
        try:
            async with asyncio.timeout(self.patience):
                _, writer = await asyncio.open_unix_connection(self.settings.data / "control.sock")
        except OSError:
            return False
        writer.close()
        return True

    async def readable(self, path: Path, option: str) -> list[Problem]:
        """Try whether a file can be read; that it is not there yet is a warning."""
        return await self._once(("read", path), option, lambda: asyncio.to_thread(readable, path))

    async def writable(self, path: Path, option: str) -> list[Problem]:
        """Try whether a file can be written, or made where it and its folders are not there."""
        return await self._once(("write", path), option, lambda: asyncio.to_thread(writable, path))

    def database_at(self, address: str) -> "DatabaseProbe":
        """Return what tries another database."""
        from engine.probe_database import DatabaseProbe

        return self._databases.setdefault(address, DatabaseProbe(address, self.patience, "url"))

    async def _once(
        self, key: Any, option: str, attempt: Callable[[], Coroutine[Any, Any, list[Problem]]]
    ) -> list[Problem]:
        if key not in self._tried:
            self._tried[key] = asyncio.create_task(self._attempt(attempt))
        return [msgspec.structs.replace(found, option=option) for found in await asyncio.shield(self._tried[key])]

    async def _attempt(self, attempt: Callable[[], Coroutine[Any, Any, list[Problem]]]) -> list[Problem]:
        async with self._room:
            return await attempt()

    async def close(self) -> None:
        """Close what is open."""
        for task in self._tried.values():
            task.cancel()
        await asyncio.gather(*self._tried.values(), return_exceptions=True)
        await asyncio.gather(*(database.close() for database in self._databases.values()))


async def _greeted(address: MqttAddress, patience: float) -> list[Problem]:
    try:
        context = address.context()
    except OSError as fault:
        return [Problem("permission", "", f"certificates that can be read; {fault}")]
    return await dial(address.host, address.port, context, patience)
