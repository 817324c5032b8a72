"""Sealing: authenticated encryption under the key ring, with what a value belongs to inside.

The format is Fernet (cryptography's, version 0x80) over a JSON array ``[binding, value]``. The
first key seals, all open. A ciphertext copied to another row, column or table has the wrong binding
there and is refused: Fernet itself has no associated data.
"""

from __future__ import annotations

import json
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


def opener(sealed: str, binding: Binding) -> int | None:
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


def _ring() -> MultiFernet:
    try:
        return _ring_of(conf.keys)
    except ImproperlyConfigured as error:
        raise KeyUnavailable(str(error)) from None


@lru_cache(maxsize=8)
def _ring_of(keys: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
