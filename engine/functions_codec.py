"""Functions of the expression language for hashes, base64 and JSON."""

import base64
import binascii
import hashlib
import hmac
import zlib
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, uuid5

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
def sha1(value: str | bytes) -> str:
    """Hash text (as UTF-8) by SHA-1, in hexadecimal: for systems that ask for it, not for secrets.

    >>> substring(sha1("led"), 0, 8)
    "6a9a37af"
    """
    return hashlib.sha1(_octets(value), usedforsecurity=False).hexdigest()


@function()
def sha512(value: str | bytes) -> str:
    """Hash text (as UTF-8) by SHA-512, in hexadecimal.

    >>> substring(sha512("led"), 0, 8)
    "bee9db04"
    """
    return hashlib.sha512(_octets(value)).hexdigest()


@function()
def md5(value: str | bytes) -> str:
    """Hash text (as UTF-8) by MD5, in hexadecimal: for systems that ask for it, not for secrets.

    >>> substring(md5("led"), 0, 8)
    "0b98f7bc"
    """
    return hashlib.md5(_octets(value), usedforsecurity=False).hexdigest()


@function()
def hmac_sha256(value: str | bytes, key: str) -> str:
    """Sign text (as UTF-8) with a key by HMAC-SHA-256, in hexadecimal.

    >>> substring(hmac_sha256("led", "key"), 0, 8)
    "675c6e76"
    """
    return hmac.digest(_octets(key), _octets(value), "sha256").hex()


@function()
def uuid(text: str) -> str:
    """Make the UUID of a text (version 5, of the URL namespace): the same text gives the same one.

    >>> uuid("led")
    "83b9bb09-e052-56f5-973c-f1263fcc2787"
    """
    return str(uuid5(NAMESPACE_URL, text))


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
def url_encode(text: str) -> str:
    """Write text as a part of an address, with % before what may not stand there.

    >>> url_encode("line 1/a")
    "line%201%2Fa"
    """
    return quote(text, safe="")


@function()
def url_decode(text: str) -> str:
    """Read a part of an address.

    >>> url_decode("line%201%2Fa")
    "line 1/a"
    """
    return unquote(text, errors="strict")


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
