"""Connecting an account: the authorization code flow (RFC 6749 section 4.1) with PKCE (RFC 7636)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.http import HttpRequest
from django.urls import reverse

from oauth_connect import signals
from oauth_connect.conf import conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.account import Account
from oauth_connect.flows.completion import (
    Completion,
    exchanged_for_long_lived,
    initial_values,
    warn_if_no_refresh_token,
)
from oauth_connect.flows.paths import local_path
from oauth_connect.flows.pending import PendingAuthorization, remember, take
from oauth_connect.models import Connection, ConsumedState
from oauth_connect.models.lifecycle import access, revocation
from oauth_connect.models.owner import owner_of
from oauth_connect.models.pending_revocation import GrantKey
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.callback import Callback, check_issuer, read_callback
from oauth_connect.protocol.grants.requests import authorization_url, new_code_verifier
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


@dataclass(frozen=True, slots=True)
class Connected:
    """A finished flow; ``next`` is a path on this site, or ""."""

    connection: Connection
    next: str


def redirect_uri(request: HttpRequest, provider: str) -> str:
    """Return the URI to register at the provider: one for each provider, never made from Host."""
    path = reverse("oauth_connect:callback", kwargs={"provider": provider})
    return f"{conf.site_origin(request)}{path}"


def begin(
    request: HttpRequest,
    slug: str,
    *,
    next_path: str = "",
    scopes: Iterable[str] = (),
    connection: Connection | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Begin to connect an account and return the URL to send the browser to.

    ``scopes`` are asked for beyond the provider's own. ``connection``: the one to connect again; the
    flow then ends well only with the same account. ``variables``: the shop, tenant or instance, where the
    provider has one for each user. Raises ImproperlyConfigured, and InvalidProvider for a bad variable.
    """
    owner = owner_of(request)
    known = _provider(slug, owner.key)
    values = initial_values(known, variables or {}, connection)
    provider = known.resolve_with_client(values)
    asked = asked_scopes(provider, scopes, connection)
    pending = PendingAuthorization(
        state=secrets.token_urlsafe(32),
        provider=slug,
        owner=owner.key,
        user=str(request.user.pk),
        client_id=provider.client_id,
        issuer=provider.issuer,
        token_endpoint=provider.token_endpoint,
        redirect_uri=redirect_uri(request, slug),
        code_verifier=new_code_verifier(),
        nonce=secrets.token_urlsafe(16) if "openid" in asked else "",
        scopes=asked,
        next=local_path(next_path),
        connection=str(connection.pk) if connection else "",
        variables=values,
    )
    remember(request, pending)
    return authorization_url(
        provider,
        redirect_uri=pending.redirect_uri,
        state=pending.state,
        scopes=asked,
        code_verifier=pending.code_verifier,
        nonce=pending.nonce,
    )


def asked_scopes(provider: Provider, scopes: Iterable[str], connection: Connection | None) -> list[str]:
    """Return what will be asked for: the provider's, those named, and what was granted before."""
    granted = connection.scopes if connection else ()
    return list(dict.fromkeys([*provider.scopes, *provider.authorize.offline_scopes, *scopes, *granted]))


def store_connection(token: Token, account: Account, **fields: Any) -> Connection:
    """Store the token of a flow, as ``objects.store`` does, and send the signal after the commit.

    Ends an alarm about the provider's settings, because the provider has accepted them.
    """
    connection = Connection.objects.store(
        token_response=token, account_id=account.id, account_label=account.label, **fields
    )
    transaction.on_commit(partial(_after_commit, connection), using=connection._state.db)
    return connection


def _after_commit(connection: Connection) -> None:
    if conf.has_one_client(connection.provider):  # else this proves nothing about other clients
        access.end_alarm(connection)
    signals.connected.send_robust(sender=Connection, connection=connection)


def is_shared(provider: Provider, owner: str, account: Account | None, variables: Mapping[str, str]) -> bool:
    """Tell whether revoking a token that is not kept could end a grant that a connection lives on.

    Which those are tells the account; as long as it is not known, any of the owner's might.
    """
    grant = GrantKey(
        provider=provider.slug,
        client_id=provider.client_id,
        owner=owner,
        account_id=account.id if account else None,
        variables=variables,
    )
    return revocation.is_shared(Connection, grant, provider)


def complete(request: HttpRequest, slug: str) -> Connected:
    """Finish what ``begin`` began, from the provider's answer in the query.

    Raises CallbackRefused, and the errors of AuthorizationServer; existing connections are untouched.
    """
    pairs = [(name, value) for name, values in request.GET.lists() for value in values]
    callback = read_callback(pairs)
    pending = _matching(request, slug, callback)
    renewed = _connection(pending)
    known = _provider(slug, pending.owner)
    completion = Completion(known, pending.variables, pairs)
    provider = known.resolve_with_client(completion.values)
    _check_client(provider, pending)
    completion.read_callback()
    _check_answer(provider, callback)
    with AuthorizationServer(provider, timeout=conf.http_timeout) as server:
        token = server.exchange_code(
            code=callback.code,
            redirect_uri=pending.redirect_uri,
            code_verifier=pending.code_verifier,
            scopes=pending.scopes,
        )
        account = None
        try:
            completion.read_token(server, token)
            token = exchanged_for_long_lived(server, token)
            account = completion.find_account(server, token, nonce=pending.nonce or None)
            _check_account(renewed, account)
            connection = _store(request, pending, account, token, completion.values)
        except Exception:
            if not is_shared(server.provider, pending.owner, account, completion.values):
                revoke(server, token)
            raise
    warn_if_no_refresh_token(connection, provider, connection.token)
    return Connected(connection, pending.next)


def _provider(slug: str, owner: str) -> Provider:
    provider = conf.provider(slug, owner)
    if not provider.connects_accounts:
        raise ImproperlyConfigured(
            f"{slug}: set authorization_endpoint (and enabled) to connect accounts there."
        )
    return provider


def _matching(request: HttpRequest, slug: str, callback: Callback) -> PendingAuthorization:
    """Return the flow that the state belongs to, spent by this, or raise CallbackRefused."""
    pending = take(request, callback.state) if callback.state else None
    if pending is None:
        raise CallbackRefused("This sign-in was not begun here, or is over already.", code="state_unknown")
    if pending.has_expired:
        raise CallbackRefused("This sign-in took too long. Begin again.", code="state_expired")
    if not ConsumedState.objects.consume(callback.state, pending.expires_at):
        raise CallbackRefused("This answer has been used already.", code="state_replayed")
    if not request.user.is_authenticated or str(request.user.pk) != pending.user:
        raise CallbackRefused("Another user began this. Begin again.", code="other_user")
    owner = owner_of(request)
    if owner.key != pending.owner or not owner.may_manage:
        raise CallbackRefused("This was begun for another owner. Begin again.", code="other_owner")
    if slug != pending.provider:
        raise CallbackRefused("The answer belongs to another provider.", code="other_provider")
    return pending


def _check_client(provider: Provider, pending: PendingAuthorization) -> None:
    began_with = (pending.client_id, pending.issuer, pending.token_endpoint)
    if (provider.client_id, provider.issuer, provider.token_endpoint) != began_with:
        raise CallbackRefused("The settings have changed meanwhile. Begin again.", code="provider_changed")


def _check_answer(provider: Provider, callback: Callback) -> None:
    check_issuer(provider, callback.iss)
    if callback.error == "access_denied":
        raise CallbackRefused(f"You did not give access to {provider.label}.", code="access_denied")
    if callback.error or not callback.code:
        raise CallbackRefused(f"{provider.label} could not give access.", code="authorization_failed")


def _connection(pending: PendingAuthorization) -> Connection | None:
    if not pending.connection:
        return None
    # Never from a replica: for what it does not show, any account would do.
    rows = Connection.objects.using(router.db_for_write(Connection)).for_owner(pending.owner)
    return rows.filter(pk=pending.connection, provider=pending.provider).first()


def _check_account(renewed: Connection | None, account: Account) -> None:
    if renewed is not None and renewed.account_id not in ("", account.id):
        raise CallbackRefused(
            f"You came back with {account.label}, but {renewed.account_label} was to be connected again.",
            code="other_account",
        )


def _store(
    request: HttpRequest,
    pending: PendingAuthorization,
    account: Account,
    token: Token,
    variables: Mapping[str, str],
) -> Connection:
    return store_connection(
        token,
        account,
        owner=owner_of(request),
        provider=pending.provider,
        connected_by=request.user,
        redirect_uri=pending.redirect_uri,
        variables=dict(variables),
    )
