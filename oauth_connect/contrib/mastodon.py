"""Registers this site's client at a Mastodon server, which each user chooses.

Mastodon has a registration of its own, not RFC 7591's: https://docs.joinmastodon.org/methods/apps/.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import ProviderRejected
from oauth_connect.flows.paths import callback_path
from oauth_connect.models.lifecycle.registered_client import client_at
from oauth_connect.protocol.exchange import Exchange
from oauth_connect.protocol.grants.requests import Parameters
from oauth_connect.protocol.provider import Provider
from oauth_connect.tracebacks import without_locals

# An authorization request may name only scopes of the registration, or parts of them.
BROAD_SCOPES = ("read", "write")


@without_locals
def register_client(provider: Provider, variables: Mapping[str, Any]) -> dict[str, str]:
    """Return this site's client at the server. The hook ``register_client`` of a provider's entry.

    Raises ImproperlyConfigured without one redirect URI for all users, the errors of AuthorizationServer, and
    KeyUnavailable.
    """
    server = urlsplit(provider.token_endpoint)
    redirect_uri = _redirect_uri(provider.slug)

    def register() -> dict[str, str]:
        return _register(provider, f"{server.scheme}://{server.netloc}/api/v1/apps", redirect_uri)

    return client_at(provider.slug, server.netloc, redirect_uri, register)


def _redirect_uri(slug: str) -> str:
    base = conf.base_url
    if not isinstance(base, str) or slug in conf.record_redirects:
        raise ImproperlyConfigured(
            f"{slug}: a client is registered with one redirect URI. Set BASE_URL to the site's address, and "
            f"take {slug!r} out of RECORD_REDIRECTS."
        )
    return base.rstrip("/") + callback_path(slug)


def _register(provider: Provider, url: str, redirect_uri: str) -> dict[str, str]:
    site = urlsplit(redirect_uri)
    scopes = dict.fromkeys([*BROAD_SCOPES, *provider.scopes])
    fields = {
        "client_name": site.netloc,
        "website": f"{site.scheme}://{site.netloc}/",
        "redirect_uris": redirect_uri,
        "scopes": " ".join(scopes),
    }
    exchange = Exchange(provider, timeout=conf.http_timeout, session=None, now=lambda: datetime.now(UTC))
    try:
        reply = exchange.send(
            "POST", url, form=Parameters(fields), headers=Parameters(), credentials=Parameters()
        )
    finally:
        exchange.close()
    document = reply.document if isinstance(reply.document, Mapping) else {}
    client = {name: document.get(name) for name in ("client_id", "client_secret")}
    if not 200 <= reply.status < 300 or not all(isinstance(one, str) and one for one in client.values()):
        raise ProviderRejected(
            f"{urlsplit(url).netloc} did not register a client (HTTP {reply.status}). It may "
            "not be a Mastodon server. Enter another one.",
            error=f"http_{reply.status}",
            status=reply.status,
        )
    return {name: str(one) for name, one in client.items()}
