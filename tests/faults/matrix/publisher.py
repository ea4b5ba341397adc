"""The devices that speak MQTT: QoS 1, one connection, what is unacknowledged is sent again after a reconnect."""

from __future__ import annotations

import asyncio

from engine.mqtt import MqttAddress, MqttSession
from tests.faults.matrix.events import Device, Event

UNACKNOWLEDGED = 2_000


class Publisher:
    """Publishes for its devices; `resent` are events that a lost connection left without an answer."""

    def __init__(self, url: str, devices: list[Device]) -> None:
        self.devices, self.in_flight, self.connections = devices, 0, 0
        self.resent: set[tuple[str, int]] = set()
        self._open: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session = MqttSession(MqttAddress.parse(url), "matrix-devices", on_state=self._state)
        self._running = asyncio.create_task(self._session.run())

    def _state(self, state: str, _detail: str) -> None:
        if state == "connected":
            self.connections += 1
        else:
            self.resent |= self._open

    def offer(self, count: int) -> None:
        """Make and send so many events of each device, unless too many are unacknowledged."""
        if self.in_flight + count * len(self.devices) > UNACKNOWLEDGED:
            return
        for device in self.devices:
            task = asyncio.create_task(self._publish(device, device.make(count)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _publish(self, device: Device, events: list[Event]) -> None:
        names = {(device.name, event.n) for event in events if event.n}
        self.in_flight += len(events)
        self._open |= names
        await self._session.publish([(f"matrix/{device.name}", event.payload, 1, False) for event in events])
        self._open -= names
        self.in_flight -= len(events)
        device.taken(events)

    async def close(self) -> None:
        """Say goodbye."""
        self._running.cancel()
        await asyncio.gather(self._running, *self._tasks, return_exceptions=True)
