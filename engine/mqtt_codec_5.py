"""Read and write MQTT 5 packets, as a client does, by the package `mqtt5`.

Source: OASIS MQTT Version 5.0 (2019).
"""

from collections.abc import Sequence
from typing import Literal

import mqtt5

from engine.mqtt_codec import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    UNSUPPORTED_VERSION,
    Ack,
    ConnAck,
    Connect,
    Disconnect,
    MalformedPacket,
    Message,
    Packet,
    PingResp,
    SubAck,
    frame,
)

_OLD_REFUSAL = b"\x20\x02\x00\x01"
"""How a broker that speaks 3.1.1 only answers our CONNECT."""


class Mqtt5:
    """MQTT 5 by the package `mqtt5`."""

    version: Literal[4, 5] = 5

    def connect(self, connect: Connect) -> bytes:
        """Write CONNECT."""
        return mqtt5.ConnectPacket(
            connect.client_id,
            username=connect.username,
            password=connect.password.encode() if connect.password is not None else None,
            clean_start=connect.expiry == 0,
            keep_alive=connect.keepalive,
            session_expiry_interval=connect.expiry,
            receive_max=connect.receive_maximum,
        ).write()

    def subscribe(self, packet_id: int, topics: Sequence[tuple[str, int]], *, known: bool) -> bytes:
        """Write SUBSCRIBE; the retain flag of what arrives says "stored message", as in 3.1.1."""
        handling = mqtt5.RetainHandling.SEND_IF_SUBSCRIPTION_NOT_EXISTS if known else mqtt5.RetainHandling.SEND_ALWAYS
        filters = [
            mqtt5.TopicFilter(topic, max_qos=mqtt5.QoS(qos), retain_as_published=False, retain_handling=handling)
            for topic, qos in topics
        ]
        return mqtt5.SubscribePacket(packet_id, filters).write()

    def publish(self, message: Message) -> bytes:
        """Write PUBLISH."""
        return mqtt5.PublishPacket(
            message.topic,
            message.payload,
            qos=_QOS[message.qos],
            retain=message.retain,
            packet_id=message.packet_id or None,
            duplicate=message.dup,
        ).write()

    def disconnect(self) -> bytes:
        """Write a normal DISCONNECT."""
        return mqtt5.DisconnectPacket().write()

    def decode(self, data: bytes, packets: list[Packet], offset: int = 0, most: int | None = None) -> int:
        """Append the complete packets from `offset` on, at most so many, and return where the next one begins."""
        view, total = memoryview(data), len(data)
        try:
            while offset < total and most != 0:
                packet, size = mqtt5.read(view[offset:])
                packets.append(_translate(packet))
                offset, most = offset + size, None if most is None else most - 1
        except BaseException as error:
            if isinstance(error, IndexError) and _is_cut_off(data, offset):
                return offset
            if data[offset:] == _OLD_REFUSAL:
                packets.append(ConnAck(False, UNSUPPORTED_VERSION, "unsupported protocol version"))
                return total
            if (fault := _fault(error)) is None:
                raise
            raise fault from error
        return offset


def _is_cut_off(data: bytes, offset: int) -> bool:
    found = frame(data, offset)
    return found is None or found[1] > len(data)


def _fault(error: BaseException) -> MalformedPacket | None:
    """Say what `mqtt5` found wrong, if it was that: a panic is how 0.8 meets text that is not UTF-8."""
    if type(error).__name__ == "PanicException":
        return MalformedPacket("MQTT 5: a text that is not UTF-8")
    if isinstance(error, (ValueError, IndexError)) and not isinstance(error, MalformedPacket):
        return MalformedPacket(f"MQTT 5: {error}")
    return None


_QOS = (mqtt5.QoS.AT_MOST_ONCE, mqtt5.QoS.AT_LEAST_ONCE, mqtt5.QoS.EXACTLY_ONCE)
_ACKS: dict[type, int] = {
    mqtt5.PubAckPacket: PUBACK,
    mqtt5.PubRecPacket: PUBREC,
    mqtt5.PubRelPacket: PUBREL,
    mqtt5.PubCompPacket: PUBCOMP,
}


def _translate(packet: mqtt5.Packet) -> Packet:
    if isinstance(packet, mqtt5.PublishPacket):
        if not packet.topic:
            raise MalformedPacket("a PUBLISH without a topic, although we allow no topic alias")
        if packet.packet_id == 0:
            raise MalformedPacket("a PUBLISH with packet id 0")
        return Message(
            packet.topic, packet.payload, int(packet.qos), packet.retain, packet.duplicate, packet.packet_id or 0
        )
    if isinstance(packet, (mqtt5.PubAckPacket, mqtt5.PubRecPacket, mqtt5.PubRelPacket, mqtt5.PubCompPacket)):
        return Ack(_ACKS[type(packet)], packet.packet_id, int(packet.reason_code), _text(packet))
    return _translate_rare(packet)


def _translate_rare(packet: mqtt5.Packet) -> Packet:
    match packet:
        case mqtt5.ConnAckPacket():
            return ConnAck(
                packet.session_present,
                int(packet.reason_code),
                _text(packet),
                receive_maximum=packet.receive_max,
                keepalive=packet.server_keep_alive,
                maximum_qos=int(packet.max_qos),
                retain=packet.retain_available,
                maximum_packet=packet.max_packet_size,
            )
        case mqtt5.SubAckPacket():
            return SubAck(packet.packet_id, [int(code) for code in packet.reason_codes])
        case mqtt5.PingRespPacket():
            return PingResp()
        case mqtt5.DisconnectPacket():
            return Disconnect(int(packet.reason_code), _text(packet))
    raise MalformedPacket(f"a {type(packet).__name__}, which a broker does not send to us")


def _text(
    packet: mqtt5.ConnAckPacket
    | mqtt5.PubAckPacket
    | mqtt5.PubRecPacket
    | mqtt5.PubRelPacket
    | mqtt5.PubCompPacket
    | mqtt5.DisconnectPacket,
) -> str:
    if packet.reason_code == 0 and not packet.reason_str:
        return ""
    name = packet.reason_code.name.replace("_", " ").lower()
    return f"{name} ({packet.reason_str})" if packet.reason_str else name


def reason(code: int) -> str:
    """Name a SUBACK's reason code."""
    try:
        return mqtt5.SubAckReasonCode(code).name.replace("_", " ").lower()
    except ValueError:
        return f"reason code {code}"
