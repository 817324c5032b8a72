"""Calling an API as the site itself, with no user behind it (RFC 6749 section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access, machine_row
from oauth_connect.protocol.provider import Provider, is_scope, scope_tuple
from oauth_connect.protocol.session import ApiSession


def machine_session(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> ApiSession:
    """Return a session that carries the site's own token; errors as in ``machine_connection``."""
    return machine_connection(provider, scopes, resource, audience).session()


def machine_access_token(
    provider: str,
    scopes: Iterable[str] = (),
    resource: str = "",
    audience: str = "",
    min_ttl: float = 60,
) -> str:
    """Return the site's own access token, valid for ``min_ttl`` seconds; for SDKs.

    Raises as ``machine_connection``, and ProviderUnavailable or ProviderMisconfigured where none is given.
    """
    return machine_connection(provider, scopes, resource, audience).access_token(min_ttl)


async def amachine_access_token(
    provider: str,
    scopes: Iterable[str] = (),
    resource: str = "",
    audience: str = "",
    min_ttl: float = 60,
) -> str:
    """``machine_access_token`` for async code; never blocks the event loop."""
    connection = await amachine_connection(provider, scopes, resource, audience)
    return await connection.aaccess_token(min_ttl)


def machine_connection(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Connection:
    """Return the connection that holds the site's own token, one for each thing that is asked for.

    ``scopes``: those of the provider's entry where none are named. ``resource``: an absolute URI (RFC 8707).
    Mostly nothing is asked of the provider here: its first use, in whatever process, gets the token.
    Raises ImproperlyConfigured where the provider's entry cannot do this, ProviderMisconfigured where it is
    turned off, ValueError or TypeError for arguments that cannot be sent.
    """
    connection, is_asked_for = _stored(provider, scopes, resource, audience)
    if is_asked_for:
        access.valid_token(connection, conf.refresh_leeway)
    return connection


async def amachine_connection(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Connection:
    """``machine_connection`` for async code; never blocks the event loop.

    Only its queries run in the thread of Django's async queries: a provider that hangs holds up none of them.
    """
    connection, is_asked_for = await sync_to_async(_stored)(provider, scopes, resource, audience)
    if is_asked_for:
        await access.avalid_token(connection, conf.refresh_leeway)
    return connection


def _stored(provider: str, scopes: Iterable[str], resource: str, audience: str) -> tuple[Connection, bool]:
    """Return the row, and whether its token must be asked for at once: where the API is comes with it."""
    owner = machine_row.owner_key(provider)
    entry = _entry(provider, owner)
    wanted = _scopes(scopes) or _scopes(entry.scopes)
    connection = Connection(
        owner=owner,
        provider=provider,
        grant=Connection.Grant.CLIENT_CREDENTIALS,
        client_id=entry.client_id,
        requested_scopes=wanted,
        resource=_resource(resource),
        audience=_audience(audience),
        account_label=" ".join(filter(None, [*wanted, resource, audience]))[:255],
    )
    access.usable_provider(connection)
    present = machine_row.find_or_insert(connection)
    return present, bool(entry.asked_of("token_response").keys() - present.variables.keys())


def _entry(slug: str, owner: str) -> Provider:
    """Return the provider, if its client can prove who it is: nothing else stands for such a token."""
    path = f'OAUTH_CONNECT["PROVIDERS"]: {slug}'
    try:
        entry = conf.declared_provider(slug, owner).resolve_with_client({})
    except InvalidProvider as error:
        raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {error}') from None
    if not entry.has_secret:
        raise ImproperlyConfigured(
            f"{path}.client_secret: missing; a token of the site's own is for clients with a secret "
            "(RFC 6749 section 4.4)."
        )
    if entry.client_authentication == "none":
        raise ImproperlyConfigured(
            f'{path}.token_endpoint_auth_method: "none" proves nothing, and a token of the site\'s own needs '
            "the client's secret (RFC 6749 section 4.4)."
        )
    return entry


def _scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes in one order, which means nothing (RFC 6749 section 3.3): the same token serves."""
    listed = sorted(set(scope_tuple(scopes)))
    for scope in listed:
        if not is_scope(scope):
            raise ValueError(f"scopes: {scope!r} is not one scope; list each by itself.")
    return listed


def _resource(resource: str) -> str:
    try:
        parts = urlsplit(resource)
        right = not resource or bool(parts.scheme and (parts.netloc or parts.path) and "#" not in resource)
    except ValueError:
        right = False
    if not (right and resource.isascii() and resource.isprintable()):
        raise ValueError("resource: an absolute URI without a fragment (RFC 8707 section 2).")
    return resource


def _audience(audience: str) -> str:
    if not audience.isprintable():
        raise ValueError("audience: has characters that cannot be printed.")
    return audience
