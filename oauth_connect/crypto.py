"""Seals values: authenticated encryption with the key ring. Each ciphertext contains its binding.

The format is Fernet (version 0x80, of the package ``cryptography``) over a JSON array ``[binding, value]``.
The first key seals, and every key unseals. The binding names the row, column and table. It replaces
associated data, which Fernet lacks: a ciphertext that is copied to another place is refused there.
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
from oauth_connect.tracebacks import without_locals

Binding = tuple[str, ...]
# Made once, because json.dumps would make one for each token.
_encode = json.JSONEncoder(separators=(",", ":")).encode


@without_locals
def seal(value: Any, binding: Binding) -> str:
    """Return the ciphertext of a JSON-ready value. Raises KeyUnavailable if no key is usable."""
    plain = _encode([binding, value])
    return _ring().encrypt(plain.encode()).decode("ascii")


@without_locals
def unseal(sealed: str, *bindings: Binding) -> Any:
    """Return the value. Raises KeyUnavailable if no key unseals it, or if it has none of the bindings."""
    return _opened(_ring(), sealed, bindings)


@without_locals
def reencrypt(sealed: str, *bindings: Binding) -> str:
    """Return a new ciphertext of the same value, with the first key and binding. Raises KeyUnavailable."""
    return seal(unseal(sealed, *bindings), bindings[0])


def new_key() -> str:
    """Return a new key for the key ring: 32 random bytes in urlsafe base64."""
    return Fernet.generate_key().decode("ascii")


@without_locals
def check_sealing() -> None:
    """Raise KeyUnavailable unless a value can be sealed and unsealed now."""
    _try_out(_ring())


@without_locals
def fingerprint(parts: Sequence[str]) -> str:
    """Return a keyed hash (SHA-256, hex). It shows whether the parts have changed, and nothing else."""
    return hmac.new(conf.keys[0], json.dumps(list(parts)).encode(), "sha256").hexdigest()


@without_locals
def key_index(sealed: str, *bindings: Binding) -> int | None:
    """Return the index of the key that unseals a value, or None if no key does.

    Raises ImproperlyConfigured if the key ring is not usable.
    """
    for index, key in enumerate(conf.keys):
        try:
            _opened(_ring_of((key,)), sealed, bindings)
        except KeyUnavailable:
            continue
        return index
    return None


def _opened(ring: MultiFernet, sealed: str, bindings: Sequence[Binding]) -> Any:
    try:
        its_binding, value = json.loads(ring.decrypt(sealed.encode()))
    except (InvalidToken, TypeError, ValueError):  # or another program encrypted it with this key
        raise KeyUnavailable(
            'No key in OAUTH_CONNECT["KEYS"] unseals this value. Put back the key that sealed it.'
        ) from None
    if its_binding not in map(list, bindings):
        raise KeyUnavailable(
            "This value was sealed for another row or column and copied here. It is refused."
        )
    return value


@lru_cache(maxsize=8)
def _try_out(ring: MultiFernet) -> None:
    """Seal and unseal a value, once for each ring. The result of a ring does not change."""
    binding = ("proof",)
    plain = json.dumps([list(binding), ""])
    _opened(ring, ring.encrypt(plain.encode()).decode("ascii"), [binding])


def _ring() -> MultiFernet:
    try:
        return _ring_of(conf.keys)
    except ImproperlyConfigured as error:
        raise KeyUnavailable(str(error)) from None


@lru_cache(maxsize=8)
def _ring_of(keys: tuple[bytes, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
