"""In which order a client's secrets are tried: the one that its server took last comes first.

So a secret is changed without an hour in which nothing works, and without a refusal at each request: the
site lists the new one before the old, and whenever the server changes over, so does each process.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from oauth_connect.protocol.provider import Provider

MOST_REMEMBERED = 256
_PEPPER = os.urandom(32)
_taken: dict[tuple[str, str, str], bytes] = {}


class Secret(str):
    """A secret whose ``repr`` shows nothing: tracebacks show locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Secret>"


def in_order(provider: Provider) -> Sequence[Secret]:
    """Return the client's secrets, the one to try first at the front. Raises as ``provider.secrets``."""
    secrets = [Secret(one) for one in provider.secrets()]
    taken = _taken.get(_client(provider)) if len(secrets) > 1 else None
    if taken is None:
        return secrets
    return sorted(secrets, key=lambda secret: _digest(secret) != taken)


def took(provider: Provider, secrets: Sequence[Secret], secret: Secret) -> None:
    """Remember, in this process, which of several the server took."""
    if len(secrets) < 2:
        return
    if len(_taken) >= MOST_REMEMBERED:
        _taken.clear()
    _taken[_client(provider)] = _digest(secret)


def _client(provider: Provider) -> tuple[str, str, str]:
    return (provider.issuer, provider.token_endpoint, provider.client_id)


def _digest(secret: str) -> bytes:
    """The secret itself is kept nowhere but where the settings have it."""
    return hashlib.blake2b(secret.encode(), key=_PEPPER).digest()
