"""Gives a site's command-line tools the token in the keyring of their machine."""

from __future__ import annotations

from oauth_connect.conf import conf
from oauth_connect.errors import CallError
from oauth_connect.protocol.session import ApiSession
from oauth_connect.stores import keyring
from oauth_connect.tracebacks import without_locals


@without_locals
def session_for_keyring(provider: str) -> ApiSession:
    """Return a session with the token that ``oauth_login PROVIDER --store keyring`` stored.

    Raises ReauthorizationRequired where the keyring holds no token, KeyringUnavailable, and
    ImproperlyConfigured for an unknown provider. ``oauth_connect.stores.keyring`` works without settings.
    """
    return keyring.session_for(
        conf.declared_provider(provider),
        leeway=conf.refresh_leeway,
        http_timeout=conf.http_timeout,
        api_timeout=conf.api_timeout,
        resolved=lambda: conf.provider(provider),
    )


@without_locals
def forget_in_keyring(provider: str) -> keyring.Forgotten:
    """Revoke the token in this machine's keyring and remove it, as ``stores.keyring.forget`` does.

    Return ``pending`` also where the provider's endpoints cannot be discovered now.
    """
    declared = conf.declared_provider(provider)
    # First, so that the token is not used any more, even if a step below fails.
    if keyring.KeyringStore(declared).end() is None:
        return "absent"
    try:
        resolved = conf.provider(provider)
    except CallError:
        return "pending"
    return keyring.forget(declared, resolved=resolved, http_timeout=conf.http_timeout)
