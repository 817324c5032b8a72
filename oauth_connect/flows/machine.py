"""Calls an API as the site itself, without a user (RFC 6749 section 4.4)."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.flows.grant_types import check_allowed
from oauth_connect.models import Connection
from oauth_connect.models.lifecycle import access, machine_row
from oauth_connect.protocol.provider import Provider, is_scope, scope_tuple
from oauth_connect.protocol.session import ApiSession
from oauth_connect.tracebacks import without_locals


@without_locals
def machine_session(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> ApiSession:
    """Return a session that carries the site's own token; errors as in ``machine_connection``."""
    return machine_connection(provider, scopes, resource, audience).session()


@without_locals
def machine_access_token(
    provider: str,
    scopes: Iterable[str] = (),
    resource: str = "",
    audience: str = "",
    min_ttl: float = 60,
) -> str:
    """Return the site's own access token, valid for ``min_ttl`` seconds; for SDKs.

    Raises as ``machine_connection``, and ProviderUnavailable or ProviderMisconfigured if the request fails.
    """
    return machine_connection(provider, scopes, resource, audience).access_token(min_ttl)


@without_locals
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


@without_locals
def machine_connection(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Connection:
    """Return the connection that holds the site's own token, one for each distinct request.

    ``scopes``: by default those of the provider's entry. ``resource``: an absolute URI (RFC 8707).
    Usually this sends no request: the first use of the connection, in any process, requests the token.
    Raises ImproperlyConfigured where the provider's entry does not allow this, ProviderMisconfigured where it
    is disabled, ValueError or TypeError for arguments that cannot be sent.
    """
    connection, needs_token = _stored(provider, scopes, resource, audience)
    if needs_token:
        access.valid_token(connection, conf.refresh_leeway)
    return connection


@without_locals
async def amachine_connection(
    provider: str, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
) -> Connection:
    """``machine_connection`` for async code; never blocks the event loop.

    Only its queries run in the thread of Django's async queries. A provider that hangs does not block them.
    """
    connection, needs_token = await sync_to_async(_stored)(provider, scopes, resource, audience)
    if needs_token:
        await access.avalid_token(connection, conf.refresh_leeway)
    return connection


def _stored(provider: str, scopes: Iterable[str], resource: str, audience: str) -> tuple[Connection, bool]:
    """Return the row, and whether to request its token now because the response names the API's host."""
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
    """Return the provider, if its client can authenticate. No user authorizes this token, only the client."""
    path = f'OAUTH_CONNECT["PROVIDERS"]: {slug}'
    try:
        entry = conf.declared_provider(slug, owner).resolve_with_client({})
    except InvalidProvider as error:
        raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {error}') from None
    check_allowed(entry, "client_credentials")
    if not entry.has_secret:
        raise ImproperlyConfigured(
            f"{path}.client_secret: missing. The site's own token needs a client with a secret "
            "(RFC 6749 section 4.4)."
        )
    if entry.client_authentication == "none":
        raise ImproperlyConfigured(
            f'{path}.token_endpoint_auth_method: "none" does not authenticate the client. The site\'s own '
            "token needs the client's secret (RFC 6749 section 4.4)."
        )
    return entry


def _scopes(scopes: Iterable[str]) -> list[str]:
    """Return scopes sorted: their order means nothing (RFC 6749 section 3.3), so one token is enough."""
    listed = sorted(set(scope_tuple(scopes)))
    for scope in listed:
        if not is_scope(scope):
            raise ValueError(f"scopes: {scope!r} is not one scope. Pass each scope as a separate item.")
    return listed


def _resource(resource: str) -> str:
    try:
        parts = urlsplit(resource)
        is_valid = not resource or bool(parts.scheme and (parts.netloc or parts.path) and "#" not in resource)
    except ValueError:
        is_valid = False
    if not (is_valid and resource.isascii() and resource.isprintable()):
        raise ValueError("resource: must be an absolute URI without a fragment (RFC 8707 section 2).")
    return resource


def _audience(audience: str) -> str:
    if not audience.isprintable():
        raise ValueError("audience: must not contain unprintable characters.")
    return audience
