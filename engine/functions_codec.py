"""Functions of the expression language for hashes, base64 and JSON."""

import base64
import binascii
import hashlib
import zlib

import msgspec

from engine.expression_values import as_json
from engine.function_registry import function


@function()
def sha256(value: str | bytes) -> str:
    """Hash text (as UTF-8) by SHA-256, in hexadecimal.

    >>> substring(sha256("led"), 0, 8)
    "021f8ffa"
    """
    return hashlib.sha256(_octets(value)).hexdigest()


@function()
def crc32(value: str | bytes) -> int:
    """Compute the CRC-32 of text (as UTF-8), as a number.

    >>> crc32("led") % 16
    5
    """
    return zlib.crc32(_octets(value))


@function()
def hex_(value: int | str | bytes) -> str:
    """Write a whole number, or the UTF-8 bytes of a text, in hexadecimal.

    >>> hex(255)
    "ff"
    """
    if isinstance(value, int):
        return format(value, "x")
    return _octets(value).hex()


@function()
def base64_encode(value: str | bytes) -> str:
    """Encode text (as UTF-8) in base64.

    >>> base64_encode("led")
    "bGVk"
    """
    return base64.b64encode(_octets(value)).decode()


@function()
def base64_decode(text: str) -> str:
    """Decode base64 into text (UTF-8); anything else in it is an error.

    >>> base64_decode("bGVk")
    "led"
    """
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ValueError("base64_decode: not base64 of a text in UTF-8") from None


@function()
def json_parse(text: str) -> object:
    """Read a value from JSON.

    >>> json_parse('{"a": [1]}').a[0]
    1
    """
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ValueError(f"json_parse: {error}") from None


@function()
def json_text(value: object) -> str:
    """Write a value as JSON.

    >>> json_text({"a": [1, true]})
    '{"a":[1,true]}'
    """
    return as_json(value)


def _octets(value: str | bytes) -> bytes:
    return value.encode(errors="surrogatepass") if isinstance(value, str) else value
