"""Bearer tokens: 256 random bits, of which files only hold the hash.

A plain SHA-256 is enough for a secret that nobody can guess; slow hashes are for passwords.
"""

import hashlib
import re
import secrets

PREFIX = "trts_"
"""So that scanners for leaked secrets find a token by its look."""

HASH_PREFIX = "sha256:"

_HASH = re.compile(r"sha256:[0-9a-f]{64}")

MAX_TOKEN_CHARACTERS = 1024
"""A longer one is refused unread."""


def make_token() -> str:
    """A new token."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """What an access file holds for a token."""
    return HASH_PREFIX + hashlib.sha256(token.encode()).hexdigest()


def is_hash(text: str) -> bool:
    """Whether a text has the form of `hash_of`."""
    return _HASH.fullmatch(text) is not None
