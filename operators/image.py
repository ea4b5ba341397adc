"""`image`: pictures out of a payload, checked and stored once."""

import base64
import binascii
import os
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha256
from typing import Any

from pydantic import Field, PrivateAttr

from engine.api import (
    Component,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    MediaStore,
    Node,
    Place,
    Problem,
    Size,
    Slow,
    Stateless,
    Type,
    component,
    derived_id,
)

_KINDS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC"


@component("image")
class Image(Stateless):
    """Decode base64 pictures, check that each is a real one, store it once under its content's hash.

    The field `as` gets the list of their addresses (`/media/<sha256>.<type>`). A broken picture is a dead letter with
    its place in the list, and goes to `name.rejected` too where that is wired; the event itself goes on with the rest.
    Storing is idempotent; a picture is on disk before the event goes on.
    """

    of: Expression
    """The picture (base64 text) or the list of pictures."""
    as_: str = Field(alias="as")
    """The field that gets the addresses."""
    most: int = Field(default=100, ge=0)
    """How many of a list are taken; the rest is left out."""
    largest: Size = 10 << 20
    """The greatest size of one picture, decoded from base64."""
    drop: list[str] = []
    """Fields that do not go on, such as the one that held the base64 text."""

    _store: MediaStore | None = PrivateAttr(default=None)
    outputs = {"rejected": "events with `reason`, one for each broken picture"}
    fault_output = "rejected"
    examples = (
        Example(
            about="A broken picture costs itself only.",
            config="image: {of: pictures, as: images, drop: [pictures]}",
            given=[{"pictures": [PIXEL, "bm90IGEgcGljdHVyZQ=="]}],
            expect=[{"images": [f"/media/{sha256(base64.b64decode(PIXEL)).hexdigest()}.png"]}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find an option that undoes another."""
        if self.as_ in self.drop:
            yield Problem("option-value", "drop", f"other fields than '{self.as_}', which gets the addresses")

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what goes on, with the addresses; what is rejected has the picture's place in the list."""
        if given is None or output not in ("", "rejected"):
            return super().gives(given, output)
        kept = {name: kind for name, kind in given.items() if name not in self.drop}
        return {**kept, "index": Type("number", null=True)} if output else {**kept, self.as_: Type("list")}

    def slow(self, flow: Flow, node: Node) -> Iterable[Slow]:
        """Warn of events that are refused only after their pictures were decoded."""
        after = [other for other, output in flow.consumers(node.name) if not output]
        checked = any(other.kind == "validate" for other in flow.before(node))
        if after and not checked and all(other.kind == "validate" for other in after):
            costs = f"0.1 to 4 ms a picture (160 x 120 to 1280 x 720), also for what '{after[0].name}' then refuses"
            yield Slow("of", costs, "validate before it, with the field of the pictures: a check takes 1 µs")

    def deployed(self, place: Place) -> Component:
        """Store under the data folder."""
        _opencv()
        if place.muted:
            return self
        placed = self.model_copy()
        object.__setattr__(placed, "_store", MediaStore(place.data / "media"))
        return placed

    def apply(self, event: Event, emit: Emit) -> None:
        """Check and store the pictures of one event."""
        value = self.of(event)
        pictures = [] if value is None else value if isinstance(value, list) else [value]
        addresses: list[str] = []
        data = {name: kept for name, kept in event.data.items() if name not in self.drop}
        for index, picture in enumerate(pictures[: self.most]):
            try:
                addresses.append(self._stored(picture))
            except EventFault as fault:
                broken = event.derive({**data, "index": index})
                broken.id = derived_id(emit.node, event.id.hex(), index)
                emit.fault(broken, f"picture {index}: {fault.reason}", {"index": index, **fault.values})
        emit(event.derive({**data, self.as_: addresses}))

    def _stored(self, picture: Any) -> str:
        blob = self._decoded(picture)
        kind = next((name for magic, name in _KINDS.items() if blob.startswith(magic)), "")
        if blob[:4] == b"RIFF" and blob[8:12] == b"WEBP":
            kind = "webp"
        if not kind:
            raise EventFault(f"a JPEG, PNG, GIF, BMP or WebP picture; got bytes that begin with {blob[:8].hex()}")
        if not _decodes(blob):
            raise EventFault(f"a {kind} picture that can be decoded; got {len(blob)} bytes that cannot")
        name = f"{sha256(blob).hexdigest()}.{kind}" if self._store is None else self._store.put(blob, kind)
        return f"/media/{name}"

    def _decoded(self, picture: Any) -> bytes:
        if not isinstance(picture, str):
            raise EventFault(f"base64 text; got {type(picture).__name__}")
        if len(picture) > self.largest * 4 // 3 + 4:
            raise EventFault(f"at most {self.largest} bytes; got {len(picture) * 3 // 4}")
        try:
            return base64.b64decode(
                picture.rpartition(",")[2] if picture.startswith("data:") else picture, validate=True
            )
        except (binascii.Error, ValueError):
            raise EventFault(f"base64 text; got '{picture[:20]}…'") from None


@cache
def _opencv() -> Any:
    """Return OpenCV, which only flows with pictures load: it takes a quarter of a second and 30 MB."""
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))
    import cv2

    return cv2


def _decodes(blob: bytes) -> bool:
    """Tell whether a picture can be decoded: at half its size, which is fast, or whole where it is a pixel wide."""
    import numpy as np

    cv2 = _opencv()
    for way in (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_GRAYSCALE):
        try:
            if cv2.imdecode(np.frombuffer(blob, np.uint8), way) is not None:
                return True
        except cv2.error:
            continue
    return False
