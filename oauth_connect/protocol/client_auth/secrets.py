"""The order in which a client's secrets are tried: first the one that the server accepted last.

This allows a change of secret without downtime. The site lists the new secret before the old one. Each
process switches to the new secret when the server accepts it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from oauth_connect.protocol.provider import Provider

MAX_CLIENTS = 256
_PEPPER = os.urandom(32)
_accepted: dict[tuple[str, str, str], bytes] = {}


class Secret(str):
    """A secret that its ``repr`` does not show, because tracebacks print locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<Secret>"


def in_order(provider: Provider) -> Sequence[Secret]:
    """Return the client's secrets in the order to try. Raises the errors of ``provider.secrets``."""
    secrets = [Secret(one) for one in provider.secrets()]
    accepted = _accepted.get(_client(provider)) if len(secrets) > 1 else None
    if accepted is None:
        return secrets
    return sorted(secrets, key=lambda secret: _digest(secret) != accepted)


def remember(provider: Provider, secrets: Sequence[Secret], secret: Secret) -> None:
    """Remember in this process which of several secrets the server accepted."""
    if len(secrets) < 2:
        return
    if len(_accepted) >= MAX_CLIENTS:
        _accepted.clear()
    _accepted[_client(provider)] = _digest(secret)


def _client(provider: Provider) -> tuple[str, str, str]:
    return (provider.issuer, provider.token_endpoint, provider.client_id)


def _digest(secret: str) -> bytes:
    """Return a keyed hash, so that no copy of the secret is stored here."""
    return hashlib.blake2b(secret.encode(), key=_PEPPER).digest()
