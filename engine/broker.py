"""The embedded MQTT 3.1.1 broker: amqtt in a process of its own, for one machine and no other."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable

from amqtt.contexts import BrokerConfig, ListenerConfig

from engine.broker_amqtt import Anyone, EmbeddedBroker
from engine.errors import EnvironmentFault

log = logging.getLogger(__name__)

STOP_TIMEOUT = 3.0
"""Seconds for saying goodbye to the clients."""


def serve(host: str, port: int) -> None:
    """Run the broker until SIGTERM, SIGINT or, where stdin is a pipe, its end.

    Everyone is let in, so `host` is a loopback address. Raises EnvironmentFault when it is not, or the port is taken.
    """
    if not _is_loopback(host):
        raise EnvironmentFault(
            f"the embedded MQTT broker lets everyone in, so it cannot listen on {host}: expected a loopback address;"
            " for a network, run Mosquitto and set MILLSTREAM_MQTT"
        )
    for name in ("amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.ERROR)
    asyncio.run(_serve(host, port))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _serve(host: str, port: int) -> None:
    listener = ListenerConfig(bind=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    config = BrokerConfig(listeners={"default": listener}, plugins={f"{Anyone.__module__}.{Anyone.__name__}": {}})
    await _check_port(host, port)
    broker = EmbeddedBroker(config)
    await broker.start()
    log.info("the embedded MQTT broker listens on %s:%d", host, port)
    await _told_to_stop()
    with contextlib.suppress(TimeoutError):  # all that it holds is in memory: there is nothing to wait longer for
        async with asyncio.timeout(STOP_TIMEOUT):
            await broker.shutdown()
    log.info("the embedded MQTT broker has stopped")


async def _check_port(host: str, port: int) -> None:
    """Try the port before amqtt does, which would log a stack trace. Raises EnvironmentFault."""
    try:
        server = await asyncio.get_running_loop().create_server(asyncio.Protocol, host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            text = f"port {port} is already in use: set MILLSTREAM_BROKER_PORT or MILLSTREAM_MQTT"
        else:
            text = f"the embedded MQTT broker cannot listen on {host}:{port}: {error.strerror}"
        raise EnvironmentFault(text) from error
    server.close()
    await server.wait_closed()


async def _told_to_stop() -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    mode = os.fstat(0).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):  # asyncio gives its children a socket for a pipe
        loop.add_reader(0, _read_end, stopped.set)
    await stopped.wait()


def _read_end(at_end: Callable[[], None]) -> None:
    if not os.read(0, 4096):
        asyncio.get_running_loop().remove_reader(0)
        at_end()


def main(arguments: list[str]) -> int:
    """Run `python -m engine.broker HOST PORT`; return the exit code (2: usage, 3: the port cannot be had)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if len(arguments) != 2 or not arguments[1].isdecimal():
        log.error("usage: python -m engine.broker HOST PORT")
        return 2
    try:
        serve(arguments[0], int(arguments[1]))
    except EnvironmentFault as fault:
        log.error("%s", fault)
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
