"""The other end of an MQTT connection, by hand: it breaks off, repeats itself or talks nonsense at a chosen moment."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

from msgspec.structs import replace

from engine.mqtt import MqttAddress
from engine.mqtt_codec import Message, Packet
from engine.mqtt_messages import Messages

BOUND = 15


def one_by_one(packets: Iterable[Packet | Messages]) -> list[Packet]:
    """Return packets with the messages of runs as if each had come by itself."""
    singles: list[Packet] = []
    for packet in packets:
        singles += list(packet) if isinstance(packet, Messages) else [packet]
    return [replace(packet, batch=None) if isinstance(packet, Message) else packet for packet in singles]


class Peer:
    """The broker's end of one connection, by hand, in MQTT 3.1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def receive(self) -> bytes:
        """Return the next packet that is no PINGREQ; all packets of these tests are short."""
        while True:
            head = await asyncio.wait_for(self._reader.readexactly(2), BOUND)
            packet = head + await self._reader.readexactly(head[1])
            if packet != b"\xc0\x00":
                return packet

    async def acknowledged(self, count: int) -> list[bytes]:
        """Return the packet ids of so many PUBACKs, which come in large writes."""
        data, found = b"", list[bytes]()
        while len(found) < count:
            data += await asyncio.wait_for(self._reader.read(1 << 20), BOUND)
            at = 0
            while at + 4 <= len(data):
                if data[at] == 0xC0:
                    at += 2
                    continue
                assert data[at : at + 2] == b"\x40\x02"
                found.append(data[at + 2 : at + 4])
                at += 4
            data = data[at:]
        return found

    async def pinged(self) -> None:
        """Wait for the next packet, which is a PINGREQ."""
        assert await asyncio.wait_for(self._reader.readexactly(2), BOUND) == b"\xc0\x00"

    async def begin(self, connack: bytes, packet: bytes) -> None:
        """Let the client in, and send a packet when its first PINGREQ has come."""
        await self.greet(connack)
        await self.pinged()
        self.send(packet)

    async def greet(self, connack: bytes) -> None:
        assert (await self.receive())[0] == 0x10
        self.send(connack)

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    def cut(self) -> None:
        self._writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def scripted(
    *scripts: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[MqttAddress, "asyncio.Future[None]"]]:
    """Serve each connection by the next script; the future resolves after the last, or fails with the first to fail."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left, writers = list(scripts), list[asyncio.StreamWriter]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        if not left:
            writer.transport.abort()
            return
        try:
            await left.pop(0)(Peer(reader, writer))
        except Exception as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not left and not done.done():
                done.set_result(None)
            await _until_disconnect(reader)
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as server:
        yield MqttAddress("127.0.0.1", server.sockets[0].getsockname()[1], tls=tls is not None), done
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _until_disconnect(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while not (await reader.read(1000) or b"\xe0\x00").endswith(b"\xe0\x00"):
            pass
