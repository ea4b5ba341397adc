"""What the environment says: one place for every `MILLSTREAM_…` variable."""

import fcntl
import ipaddress
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from pydantic import SecretStr

from engine.errors import EnvironmentFault
from engine.mqtt_address import MqttAddress

SECRET_LENGTH = 32


class MqttPlace(msgspec.Struct, frozen=True):
    """The broker, the MQTT version to speak there (4 is 3.1.1), and how our client ids begin."""

    address: MqttAddress
    version: Literal["auto", 5, 4]
    client_id: str


class Settings(msgspec.Struct, frozen=True):
    """The settings of one installation; `mqtt_url` is None where the embedded broker is used."""

    host: str
    port: int
    data: Path
    database: str
    mqtt_url: str | None
    broker_port: int
    secret: SecretStr | None
    admin_password: SecretStr | None
    mqtt_ca: str | None = None
    mqtt_certificate: str | None = None
    mqtt_key: str | None = None

    @property
    def local(self) -> bool:
        """Tell if the gateway listens on this host only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def mqtt(self) -> MqttPlace:
        """Return the broker to use; raises EnvironmentFault for an address that cannot be read."""
        instance = kept_secret(self.data / "instance")[:12]
        if self.mqtt_url is None:
            return MqttPlace(MqttAddress("127.0.0.1", self.broker_port), 4, f"millstream-{instance}")
        try:
            address = MqttAddress.parse(self.mqtt_url)
            files = address.with_files(self.mqtt_ca, self.mqtt_certificate, self.mqtt_key)
            return MqttPlace(files, "auto", f"millstream-{instance}")
        except ValueError as fault:
            raise EnvironmentFault(f"MILLSTREAM_MQTT: {fault}") from None

    def token_key(self) -> str:
        """Return the key that tokens are signed with: given, or made once and kept in the data folder."""
        return self.secret.get_secret_value() if self.secret else kept_secret(self.data / "secret")

    def prepare(self) -> None:
        """Make the data folder; raises EnvironmentFault when nothing can be written there."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as fault:
            raise EnvironmentFault(f"MILLSTREAM_DATA: a folder to write to; {self.data}: {fault.strerror}") from None
        if not os.access(self.data, os.W_OK | os.X_OK):
            raise EnvironmentFault(f"MILLSTREAM_DATA: a folder to write to; {self.data}: Permission denied")

    def flow_folder(self, flow: str) -> Path:
        """Return the folder of one flow's inbox, recovery store and dead letters."""
        return self.data / "flows" / flow


def read_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings; raises EnvironmentFault for a port that is none."""
    data = Path(environment.get("MILLSTREAM_DATA") or "data").resolve()
    return Settings(
        host=environment.get("MILLSTREAM_HOST") or "127.0.0.1",
        port=_port(environment, "MILLSTREAM_PORT", 8000),
        data=data,
        database=environment.get("MILLSTREAM_DATABASE") or f"sqlite+aiosqlite:///{data}/millstream.db",
        mqtt_url=environment.get("MILLSTREAM_MQTT") or None,
        broker_port=_port(environment, "MILLSTREAM_BROKER_PORT", 1883),
        secret=_secret(environment, "MILLSTREAM_SECRET"),
        admin_password=_secret(environment, "MILLSTREAM_ADMIN_PASSWORD"),
        mqtt_ca=environment.get("MILLSTREAM_MQTT_CA") or None,
        mqtt_certificate=environment.get("MILLSTREAM_MQTT_CERTIFICATE") or None,
        mqtt_key=environment.get("MILLSTREAM_MQTT_KEY") or None,
    )


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise EnvironmentFault(f"{name}: a port from 1 to 65535; got '{text}'")
    return int(text)


def _secret(environment: Mapping[str, str], name: str) -> SecretStr | None:
    value = environment.get(name)
    if name == "MILLSTREAM_SECRET" and value and len(value) < SECRET_LENGTH:
        raise EnvironmentFault(f"{name}: at least {SECRET_LENGTH} characters; got {len(value)}")
    return SecretStr(value) if value else None


def kept_secret(path: Path) -> str:
    """Return the random text that a file holds; made once, whole or not at all, mode 0600."""
    if not path.exists():
        _make_secret(path)
    text = path.read_text().strip()
    if not text:
        raise EnvironmentFault(f"{path}: a key; the file is empty. Remove it, then a new one is made")
    return text


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
        file.flush()
        os.fsync(file.fileno())
    with suppress(FileExistsError):  # another process was first: its text counts
        os.link(part, path)
    part.unlink()


def lock(path: Path, fault: str, patience: float = 0.0) -> int:
    """Return a descriptor that holds the lock of a file until it is closed.

    Raises EnvironmentFault with the text `fault` when another process holds it for more than `patience` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                raise EnvironmentFault(fault) from None
        time.sleep(0.05)
