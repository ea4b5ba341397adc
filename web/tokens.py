"""Tokens: JWT (RFC 7519) signed with HS256, the only algorithm that is taken."""

import secrets
import time
from hashlib import blake2b

import jwt
import msgspec

from engine.refusal import Refusal

ALGORITHM = "HS256"
SECONDS = 8 * 3600
_REQUIRED = ["sub", "role", "exp", "iat", "jti", "ver"]


class Claims(msgspec.Struct, frozen=True):
    """What a token says: whose it is, for which password, and until when (Unix seconds)."""

    name: str
    version: str
    until: float


def password_version(password_hash: str, secret: bytes) -> str:
    """Return a mark of a stored password that says nothing of it: another password, another mark."""
    return blake2b(password_hash.encode(), key=secret[:64], digest_size=9).hexdigest()


def issue(name: str, role: str, version: str, secret: bytes, now: float | None = None) -> str:
    """Return a token for 8 hours from `now`."""
    start = int(time.time() if now is None else now)
    claims = {
        "sub": name, "role": role, "iat": start, "exp": start + SECONDS, "jti": secrets.token_hex(8), "ver": version,
    }  # fmt: skip
    return jwt.encode(claims, secret, ALGORITHM)


def read(token: str, secret: bytes) -> Claims:
    """Return what a token says; raises Refusal 401 `token_expired` or `token_invalid`."""
    try:
        claims = jwt.decode(token, secret, [ALGORITHM], options={"require": _REQUIRED})
        return msgspec.convert({"name": claims["sub"], "version": claims["ver"], "until": claims["exp"]}, Claims)
    except jwt.ExpiredSignatureError:
        raise unauthorized("token_expired", "the token has expired; log in again") from None
    except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeError):
        raise invalid_token() from None


def invalid_token() -> Refusal:
    """Return the refusal of a token that is not ours, or whose account is gone or changed."""
    return unauthorized("token_invalid", "the token is not valid; log in again")


def unauthorized(code: str, message: str) -> Refusal:
    """Return a 401 that says how to come back (RFC 6750)."""
    error = "" if code == "token_missing" else ', error="invalid_token"'
    return Refusal(401, code, message, headers={"WWW-Authenticate": f'Bearer realm="millstream"{error}'})
