"""Real pictures, made anew: the same number gives the same bytes."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray


def pixels(number: int, side: int = 32) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)


def encoded(number: int, extension: str, side: int = 32) -> bytes:
    """Return a picture as a file of this kind."""
    done, data = cv2.imencode(extension, pixels(number, side))
    assert done
    return bytes(data.tobytes())


def jpeg(number: int, side: int = 32) -> bytes:
    return encoded(number, ".jpg", side)


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()
