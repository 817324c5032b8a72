"""Registers a client at a server once, and keeps it for every process of the site."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from django.db import IntegrityError, router

from oauth_connect import crypto
from oauth_connect.models.fields import Sealed
from oauth_connect.models.registered_client import RegisteredClient
from oauth_connect.stores.columns import binding, bindings
from oauth_connect.stores.lock_timeouts import inserted
from oauth_connect.tracebacks import without_locals

REDIRECT_URI = "redirect_uri"


@without_locals
def client_at(
    provider: str, server: str, redirect_uri: str, register: Callable[[], Mapping[str, str]]
) -> dict[str, str]:
    """Return ``client_id`` and ``client_secret`` of the site's client at a server. Register it if needed.

    A client for another redirect URI is replaced. Of two that register at the same time, the first is kept.
    Raises KeyUnavailable if no key opens the stored client, and what ``register`` raises.
    """
    row = _find(provider, server)
    if row is not None and (client := _open(row)).get(REDIRECT_URI) == redirect_uri:
        return _credentials(client)
    client = {**register(), REDIRECT_URI: redirect_uri}
    new = row or RegisteredClient(provider=provider, server=server)
    new.sealed_client = Sealed(crypto.seal(client, binding(new)))
    alias = router.db_for_write(RegisteredClient)
    try:
        inserted(alias, lambda: new.save(using=alias, force_insert=row is None))
        return _credentials(client)
    except IntegrityError:
        first = _find(provider, server)
        if first is None:
            raise
    return _credentials(_open(first))


def _find(provider: str, server: str) -> RegisteredClient | None:
    rows = RegisteredClient.objects.using(router.db_for_write(RegisteredClient))
    return rows.filter(provider=provider, server=server).first()


def _open(row: RegisteredClient) -> dict[str, str]:
    client: dict[str, str] = crypto.unseal(row.sealed_client, *bindings(row))
    return client


def _credentials(client: Mapping[str, str]) -> dict[str, str]:
    return {name: client[name] for name in ("client_id", "client_secret")}
