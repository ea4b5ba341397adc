"""Cut a stream of bytes, in whatever pieces it comes, into MQTT packets, without I/O."""

from engine.mqtt_codec import Codec, Packet, frame
from engine.mqtt_messages import Messages, read_run


class PacketReader:
    """Cut a stream of bytes, in whatever pieces it comes, into packets, and runs of simple PUBLISHes."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._rest = bytearray()
        self._need = 0

    def feed(self, data: bytes, packets: list[Packet | Messages]) -> None:
        """Append what `data` completes to `packets`, in order.

        Raises MalformedPacket; what came before the fault is appended, and the reader is of no use afterwards.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        end = self._read(data, packets)
        if end < len(data):
            found = frame(data, end)
            self._need = found[1] - end if found else len(data) - end + 1
            self._rest += memoryview(data)[end:]

    def _read(self, data: bytes, packets: list[Packet | Messages]) -> int:
        offset, other = 0, list[Packet]()
        while offset < len(data):
            packets.append(run := Messages())
            offset = read_run(data, offset, run, properties=self._codec.version == 5)
            end = self._codec.decode(data, other, offset, most=1)
            packets += other
            if end == offset:
                break
            offset = end
            other.clear()
        return offset
