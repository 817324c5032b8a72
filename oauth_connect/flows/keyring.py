"""Tokens that command-line tools of a site find in the keyring of the machine they run on."""

from __future__ import annotations

from oauth_connect.conf import conf
from oauth_connect.errors import CallError
from oauth_connect.protocol.session import ApiSession
from oauth_connect.stores import keyring


def session_for_keyring(provider: str) -> ApiSession:
    """Return a session with the token that ``oauth_login PROVIDER --store keyring`` put into the keyring.

    Raises ReauthorizationRequired where nobody has logged in on this machine, KeyringUnavailable, and
    ImproperlyConfigured for an unknown provider. Without settings: ``oauth_connect.stores.keyring``.
    """
    return keyring.session_for(
        conf.declared_provider(provider),
        leeway=conf.refresh_leeway,
        http_timeout=conf.http_timeout,
        api_timeout=conf.api_timeout,
        resolved=lambda: conf.provider(provider),
    )


def forget_in_keyring(provider: str) -> keyring.Forgotten:
    """Revoke and forget the token in this machine's keyring; see ``stores.keyring.forget``.

    ``pending`` also where the provider's endpoints cannot be discovered now.
    """
    declared = conf.declared_provider(provider)
    # First of all: whatever fails below, the token is used no more.
    if keyring.KeyringStore(declared).end() is None:
        return "absent"
    try:
        resolved = conf.provider(provider)
    except CallError:
        return "pending"
    return keyring.forget(declared, resolved=resolved, http_timeout=conf.http_timeout)
