"""Password hashes of other systems: recognised, bounded, verified. They are replaced at the next sign-in."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable

import argon2
import bcrypt

from services.chassis.errors import InvalidArgument

BCRYPT_BYTES_MAX = 72  # bcrypt reads no more; the systems that made these hashes cut silently.
BCRYPT_COST_MAX = 15  # About 3 s; a costlier hash would be a way to stall sign-ins.
PBKDF2_PASSES_MAX = 5_000_000
SCRYPT_BYTES_MAX = 128 * 2**20
SCRYPT_PARALLEL_MAX = 8
ARGON2_KIB_MAX, ARGON2_PASSES_MAX = 262_144, 12

BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
ARGON2 = re.compile(r"\$argon2(?:id|i|d)\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=\d{1,3}\$[^$]+\$[^$]+")
SCRYPT_PHC = re.compile(r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([^$]+)\$([^$]+)")
SCRYPT_DJANGO = re.compile(r"scrypt\$(\d{1,8})\$([^$]+)\$(\d{1,3})\$(\d{1,3})\$([^$]+)")
PBKDF2 = re.compile(r"pbkdf2_(sha256|sha1)\$(\d{1,8})\$([^$]+)\$([^$]+)")


class HashRefused(InvalidArgument):
    """The password hash breaks the rule {rule}."""


def check(text: str) -> None:
    """Raises HashRefused for a kind that is unknown, or too costly to verify."""
    for pattern, bounded, _ in KINDS:
        if found := pattern.fullmatch(text):
            if not bounded(found):
                raise HashRefused(field="password_hash", rule="too_costly")
            return
    raise HashRefused(field="password_hash", rule="unknown_kind")


def verifies(text: str, password: str) -> bool:
    """Whether `password` made the hash. CPU-bound: seconds at the bounds."""
    for pattern, _, verify in KINDS:
        if found := pattern.fullmatch(text):
            return verify(found, password)
    return False


def _bcrypt(found: re.Match[str], password: str) -> bool:
    return bcrypt.checkpw(password.encode()[:BCRYPT_BYTES_MAX], found[0].encode())


def _argon2(found: re.Match[str], password: str) -> bool:
    try:
        return argon2.PasswordHasher().verify(found[0], password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def _scrypt_phc(found: re.Match[str], password: str) -> bool:
    return _scrypt(password, _decoded(found[4]), 1 << int(found[1]), int(found[2]), int(found[3]), found[5])


def _scrypt_django(found: re.Match[str], password: str) -> bool:
    return _scrypt(password, found[2].encode(), int(found[1]), int(found[3]), int(found[4]), found[5])


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int, expected: str) -> bool:
    """RFC 7914; its parameters go by one letter each."""
    wanted = _decoded(expected)
    if not wanted:
        return False
    memory = 128 * n * r + 2**20
    made = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=len(wanted))
    return hmac.compare_digest(made, wanted)


def _pbkdf2(found: re.Match[str], password: str) -> bool:
    wanted = _decoded(found[4])
    made = hashlib.pbkdf2_hmac(found[1], password.encode(), found[3].encode(), int(found[2]))
    return hmac.compare_digest(made, wanted)


def _decoded(text: str) -> bytes:
    """Base64 with or without its padding; empty when it is none."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _scrypt_bounded(n: int, r: int, p: int) -> bool:
    power = n > 1 and n & (n - 1) == 0
    return power and r > 0 and 0 < p <= SCRYPT_PARALLEL_MAX and 128 * n * r <= SCRYPT_BYTES_MAX


Match = re.Match[str]
KINDS: tuple[tuple[re.Pattern[str], Callable[[Match], bool], Callable[[Match, str], bool]], ...] = (
    (BCRYPT, lambda found: 4 <= int(found[1]) <= BCRYPT_COST_MAX, _bcrypt),
    (ARGON2, lambda found: int(found[1]) <= ARGON2_KIB_MAX and int(found[2]) <= ARGON2_PASSES_MAX, _argon2),
    (
        SCRYPT_PHC,
        lambda found: _scrypt_bounded(1 << min(int(found[1]), 40), int(found[2]), int(found[3])),
        _scrypt_phc,
    ),
    (
        SCRYPT_DJANGO,
        lambda found: _scrypt_bounded(int(found[1]), int(found[3]), int(found[4])),
        _scrypt_django,
    ),
    (PBKDF2, lambda found: 0 < int(found[2]) <= PBKDF2_PASSES_MAX, _pbkdf2),
)
