"""Pictures and clips by content: stored once under the hash of their bytes, whole or not at all."""

import os
import re
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from engine.errors import UsageFault

_EXTENSION = re.compile(r"[a-z0-9]{1,8}", re.ASCII)
_NAME = re.compile(r"[0-9a-f]{64}\.[a-z0-9]{1,8}", re.ASCII)


class MediaStore:
    """A folder of files named `<sha256>.<extension>`, spread over 256 folders by the first two digits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path | None:
        """Return where a name is kept, or None where it is no name of this store."""
        return self.folder / name[:2] / name if _NAME.fullmatch(name) else None

    def put(self, data: bytes, extension: str) -> str:
        """Return the name of `data`, durable on disk when this returns; blocks for an fsync when it is new."""
        if not _EXTENSION.fullmatch(extension):
            raise UsageFault(f"an extension of 1 to 8 small letters and digits; got '{extension}'")
        name = f"{sha256(data).hexdigest()}.{extension}"
        target = self.folder / name[:2] / name
        if not target.exists():
            _write(target, data)
        return name


def _write(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    _sync_folder(target.parent)
    _sync_folder(target.parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
