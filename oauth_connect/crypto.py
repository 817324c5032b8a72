"""Sealing: authenticated encryption under the key ring, with what a value belongs to inside.

The format is Fernet (cryptography's, version 0x80) over a JSON array ``[binding, value]``. The
first key seals, all open. A ciphertext copied to another row, column or table has the wrong binding
there and is refused: Fernet itself has no associated data.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import KeyUnavailable

Binding = tuple[str, ...]


def seal(value: Any, binding: Binding) -> str:
    """Return the ciphertext of a JSON-ready value. Raises KeyUnavailable without a usable key."""
    plain = json.dumps([list(binding), value], separators=(",", ":"))
    return _ring().encrypt(plain.encode()).decode("ascii")


def unseal(sealed: str, binding: Binding) -> Any:
    """Return the value. Raises KeyUnavailable: no key opens it, or it was sealed for something else."""
    return _opened(_ring(), sealed, binding)


def reencrypt(sealed: str, binding: Binding) -> str:
    """Return what a value holds, sealed anew under the first key. Raises KeyUnavailable."""
    return seal(unseal(sealed, binding), binding)


def new_key() -> str:
    """Return a key for the ring: 32 random bytes in urlsafe base64."""
    return Fernet.generate_key().decode("ascii")


def check_sealing() -> None:
    """Raise KeyUnavailable unless a value could be sealed now, and opened again."""
    _prove(_ring())


def fingerprint(parts: Sequence[str]) -> str:
    """Return a keyed hash (SHA-256, hex) by which to see that something changed, and nothing else."""
    return hmac.new(conf.keys[0], json.dumps(list(parts)).encode(), "sha256").hexdigest()


def key_index(sealed: str, binding: Binding) -> int | None:
    """Return the place in the ring of the key that opens a value; None where no key does.

    Raises ImproperlyConfigured without a usable ring.
    """
    for place, key in enumerate(conf.keys):
        try:
            _opened(_ring_of((key,)), sealed, binding)
        except KeyUnavailable:
            continue
        return place
    return None


def _opened(ring: MultiFernet, sealed: str, binding: Binding) -> Any:
    try:
        found, value = json.loads(ring.decrypt(sealed.encode()))
    except (InvalidToken, TypeError, ValueError):  # also what another program sealed with this key
        raise KeyUnavailable(
            'No key in OAUTH_CONNECT["KEYS"] opens this value. Put back the key that sealed it.'
        ) from None
    if found != list(binding):
        raise KeyUnavailable(
            "This value was sealed for another row or column and is refused here; it has been copied."
        )
    return value


@lru_cache(maxsize=8)
def _prove(ring: MultiFernet) -> None:
    """Once for each ring: what it did once, it does again."""
    binding = ("proof",)
    plain = json.dumps([list(binding), ""])
    _opened(ring, ring.encrypt(plain.encode()).decode("ascii"), binding)


def _ring() -> MultiFernet:
    try:
        return _ring_of(conf.keys)
    except ImproperlyConfigured as error:
        raise KeyUnavailable(str(error)) from None


@lru_cache(maxsize=8)
def _ring_of(keys: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
