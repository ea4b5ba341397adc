"""A session with an MQTT broker that outlives its connections: subscribe, receive in batches, acknowledge, publish."""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from engine.mqtt_address import MqttAddress
from engine.mqtt_codec import FAILURE, UNSUPPORTED_VERSION, Ack, Codec, ConnAck, Connect, Message
from engine.mqtt_codec_5 import Mqtt5, reason
from engine.mqtt_codec_311 import Mqtt311
from engine.mqtt_link import Link
from engine.mqtt_messages import Messages
from engine.mqtt_outbox import Outbox, PublishRefused

__all__ = ["Message", "Messages", "MqttAddress", "MqttSession", "PublishRefused"]

log = logging.getLogger(__name__)

Version = Literal["auto", 5, 4]
State = Literal["connecting", "connected", "refused", "stopped"]

SESSION_EXPIRY = 7 * 24 * 3600
"""Seconds for which the broker keeps a persistent session while we are away."""
ANSWER_TIMEOUT = 10.0
"""Seconds that the broker has for the connection, for CONNACK and for SUBACK."""
PROBE_TIMEOUT = 3.0
"""Seconds for CONNACK while we do not know the broker's version: some never answer a CONNECT of MQTT 5."""
FIRST_DELAY, LAST_DELAY, REFUSED_DELAY = 0.2, 5.0, 30.0
STOP_TIMEOUT = 2.0
"""Seconds that the broker has for closing the connection when we say DISCONNECT."""
STEADY = 10.0
"""A connection that lived this many seconds starts the back-off anew."""

_CODECS: dict[int, Codec] = {5: Mqtt5(), 4: Mqtt311()}
_LASTING = {UNSUPPORTED_VERSION, 133, 134, 135, 138, 140, 144, 156, 157}
"""CONNACK reason codes that trying again does not mend."""


class _RefusedError(Exception):
    """The broker does not want us, and trying again will not change that."""


class _NoConnAckError(ConnectionError):
    """The broker did not answer CONNECT: perhaps it does not speak this version."""


class MqttSession:
    """One client at one broker.

    `topics` are (filter, QoS) pairs. Each batch that arrives goes to `on_messages`, which must not block; messages of
    QoS 1 and 2 stay with the broker until `acknowledge`, at most `receive_maximum` of them at a time. What the
    application has not acknowledged when a connection is lost comes again, with `dup` set. With `persistent`, the
    broker keeps messages of QoS 1 and 2 for us while we are away. `on_state` is told each (state, last error).
    """

    def __init__(
        self,
        address: MqttAddress,
        client_id: str,
        *,
        on_messages: Callable[[Messages], None] | None = None,
        topics: Sequence[tuple[str, int]] = (),
        version: Version = "auto",
        persistent: bool = True,
        receive_maximum: int = 1000,
        keepalive: int = 30,
        on_state: Callable[[str, str], None] | None = None,
    ) -> None:
        self.address = address
        self.state: State = "connecting"
        self.last_error = ""
        self._topics = tuple(topics)
        self._version = version
        self._known: Literal[5, 4] | None = None
        self._persistent = persistent
        self._receive_maximum = receive_maximum
        password = address.password.get_secret_value() if address.password else None
        expiry = SESSION_EXPIRY if persistent else 0
        self._connect = Connect(client_id, address.username, password, keepalive, expiry, receive_maximum)
        self._on_messages = on_messages or self.acknowledge
        self._on_state = on_state
        self._outbox = Outbox()
        self._released: set[int] = set()
        self._limits = ConnAck(False, 0, "")
        self._link: Link | None = None
        self._ready = asyncio.Event()
        self._held = False

    async def run(self) -> None:
        """Connect, stay connected and reconnect until cancelled; then say DISCONNECT and fail what is unpublished."""
        delay = FIRST_DELAY
        loop = asyncio.get_running_loop()
        try:
            while True:
                begin = loop.time()
                refused = await self._attempt()
                delay = FIRST_DELAY if loop.time() - begin > STEADY and not refused else delay
                pause = REFUSED_DELAY if refused else delay
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
                delay = min(delay * 2, LAST_DELAY)
        finally:
            await self._stop()

    async def connected(self, timeout: float) -> None:  # noqa: ASYNC109 - the interface's own bound, with its own text
        """Wait until the broker has accepted the connection and every subscription. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout):
                await self._ready.wait()
        except TimeoutError:
            why = self.last_error or "no answer yet"
            raise TimeoutError(f"not connected to {self.address} within {timeout:g} s: {why}") from None

    def acknowledge(self, messages: Iterable[Message], confirmed: Callable[[], None] | None = None) -> None:
        """Tell the broker, in one write, that these messages are safe with us; give them in the order of arrival.

        Messages of an earlier connection are ignored: the broker sends those again. QoS 0 needs none and may be passed.
        `confirmed` is called once the broker is known to have read this; a connection that is lost before leaves open
        whether it has, and it may send them again.
        """
        if self._link is not None:
            self._link.acknowledge(messages, confirmed)

    async def publish(self, messages: Sequence[tuple[str, bytes, int, bool]]) -> None:
        """Publish (topic, payload, QoS, retain) tuples; return once QoS 0 is written and the others are acknowledged.

        While there is no connection the call waits, and what was in flight is sent again. Raises ValueError for what
        MQTT cannot carry, PublishRefused for what the broker does not take, ConnectionError once this is stopped.
        """
        if self.state == "stopped":
            raise ConnectionError(f"the MQTT session with {self.address} is stopped")
        receipt = self._outbox.add(messages)
        self._pump()
        await receipt.future

    def pause(self) -> None:
        """Stop reading, so that the broker feels it at QoS 0 too; acknowledgements of `publish` wait as well."""
        self._hold(True)

    def resume(self) -> None:
        """Read on."""
        self._hold(False)

    def _hold(self, held: bool) -> None:
        self._held = held
        if self._link is not None and self._ready.is_set():
            self._link.hold(held)

    async def _attempt(self) -> bool:
        """Live through one connection; return whether the broker refused us for good."""
        try:
            link = await self._dial()
            await self._subscribe(link)
        except _RefusedError as error:
            self._enter("refused", str(error))
            return True
        except (OSError, UnicodeError) as error:  # a host name that is none is a UnicodeError
            self._enter("connecting", _describe(error))
            return False
        finally:
            if not self._ready.is_set() and self._link is not None:
                self._link.drop("given up")
                self._link = None
        self._enter("connected", "")
        self._pump()
        why = await link.keep_alive((self._limits.keepalive or self._connect.keepalive or 60) * 0.75)
        self._link = None
        self._ready.clear()
        self._enter("connecting", why)
        return False

    async def _dial(self) -> Link:
        versions = [self._known or 5, 4] if self._version == "auto" else [self._version]
        for version in dict.fromkeys(versions):
            try:
                link = await self._open(_CODECS[version])
            except _NoConnAckError:
                self._known = None
                if version == versions[-1]:
                    raise
            else:
                self._known = 5 if version == 5 else 4
                return link
        raise AssertionError("there is always a version to try")

    async def _open(self, codec: Codec) -> Link:
        context = self.address.context()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                _, link = await loop.create_connection(
                    lambda: self._new_link(codec), self.address.host, self.address.port, ssl=context
                )
        except ssl.SSLCertVerificationError as error:
            raise _RefusedError(f"the broker's certificate is not trusted: {error.verify_message}") from error
        self._link = link
        link.write(codec.connect(self._connect))
        self._limits = await self._greeted(link)
        return link

    def _new_link(self, codec: Codec) -> Link:
        return Link(
            codec,
            on_messages=self._on_messages,
            on_ack=self._on_ack,
            on_writable=self._pump,
            receive_maximum=self._receive_maximum,
            released=self._released,
        )

    async def _greeted(self, link: Link) -> ConnAck:
        """Wait for CONNACK. Raises _RefusedError, _NoConnAckError, or ConnectionError for a refusal that may pass."""
        bound = PROBE_TIMEOUT if self._version == "auto" and self._known is None else ANSWER_TIMEOUT
        await asyncio.wait((link.connack, link.closed), timeout=bound, return_when=asyncio.FIRST_COMPLETED)
        if not link.connack.done():
            why = link.closed.result() if link.closed.done() else f"nothing within {bound:g} s"
            link.drop(why)
            raise _NoConnAckError(f"no answer to CONNECT (MQTT {_name(link.codec)}): {why}")
        answer = link.connack.result()
        if not answer.code:
            return answer
        link.drop(answer.text)
        if answer.code == UNSUPPORTED_VERSION and self._version == "auto":
            raise _NoConnAckError(f"the broker does not speak MQTT {_name(link.codec)}")
        text = f"the broker refused the connection: {answer.text}"
        raise _RefusedError(text) if answer.code in _LASTING else ConnectionError(text)

    async def _subscribe(self, link: Link) -> None:
        if self._topics:
            packet_id = self._outbox.packet_id()
            link.write(link.codec.subscribe(packet_id, self._topics, known=self._persistent))
            await asyncio.wait((link.suback, link.closed), timeout=ANSWER_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not link.suback.done():
                why = link.closed.result() if link.closed.done() else f"nothing within {ANSWER_TIMEOUT:g} s"
                raise ConnectionError(f"no answer to SUBSCRIBE: {why}")
            answers = zip(self._topics, link.suback.result().codes, strict=False)
            refusals = [f"{topic!r}: {reason(code)}" for (topic, _), code in answers if code >= FAILURE]
            if refusals:
                raise _RefusedError(f"the broker refused to subscribe us to {', '.join(refusals)}")
        self._outbox.resume(session_present=self._limits.session_present)
        self._ready.set()
        link.hold(self._held)

    def _on_ack(self, answer: Ack) -> None:
        if self._link is not None:
            self._link.write(self._outbox.settle(answer))
        self._pump()

    def _pump(self) -> None:
        link = self._link
        while link is not None and self._ready.is_set() and link.writable:
            chunk = self._outbox.take(link.codec, self._limits)
            if not chunk:
                return
            link.write(chunk)

    async def _stop(self) -> None:
        link, self._link = self._link, None
        self._ready.clear()
        self._enter("stopped", self.last_error)
        self._outbox.abandon(ConnectionError(f"the MQTT session with {self.address} was stopped"))
        if link is not None:
            await link.close(STOP_TIMEOUT)

    def _enter(self, state: State, error: str) -> None:
        if (state, error) == (self.state, self.last_error):
            return
        self.state, self.last_error = state, error
        if state == "connected":
            log.info("connected to %s by MQTT %s", self.address, _name(_CODECS[self._known or 5]))
        elif state != "stopped":
            log.warning("%s: %s", self.address, error)
        if self._on_state is not None:
            self._on_state(state, error)


def _name(codec: Codec) -> str:
    return "5" if codec.version == 5 else "3.1.1"


def _describe(error: Exception) -> str:
    return str(error) or f"no connection within {ANSWER_TIMEOUT:g} s"
