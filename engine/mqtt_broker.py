"""Another broker than that of the installation, as a flow names it."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator

from engine.field_docs import wanted
from engine.mqtt_address import MqttAddress
from engine.settings import MqttPlace


class MqttBroker(BaseModel):
    """A broker: its address, and for TLS the files (PEM) that show who it is and who we are."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=wanted())

    url: SecretStr | str
    """`mqtt[s]://user:password@host:port`; a secret setting where it holds a password."""
    ca: str | None = None
    """The certificates that are trusted, relative to the flow's folder; default: those of the system."""
    certificate: str | None = None
    """The certificate by which the broker knows us."""
    key: str | None = None
    """Its key; default: in the certificate's file."""

    @field_validator("ca", "certificate", "key")
    @classmethod
    def _placed(cls, path: str | None, info: ValidationInfo) -> str | None:
        return path and str(getattr(info.context, "pack", Path()) / path)

    @classmethod
    def options(cls, value: Any) -> Any:
        """Return the options that a value in a flow stands for: an address alone is the `url`."""
        return {"url": value} if isinstance(value, str | SecretStr) else value

    def address(self) -> MqttAddress:
        """Return the address; raises ValueError, whose text holds no part of it that could be the password."""
        url = self.url.get_secret_value() if isinstance(self.url, SecretStr) else self.url
        return MqttAddress.parse(url).with_files(self.ca, self.certificate, self.key)

    def place(self, default: MqttPlace) -> MqttPlace:
        """Return the broker with client ids as the installation's."""
        address = self.address()
        return default if address == default.address else MqttPlace(address, "auto", default.client_id)
