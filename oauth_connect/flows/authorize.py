"""Connects an account: the authorization code flow (RFC 6749 section 4.1) with PKCE (RFC 7636)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import router, transaction
from django.http import HttpRequest
from django.urls import NoReverseMatch

from oauth_connect import signals
from oauth_connect.conf import InvalidLoadedEntry, UnknownProvider, conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.account import Account
from oauth_connect.flows.completion import (
    Completion,
    exchanged_for_long_lived,
    initial_values,
    warn_if_no_refresh_token,
)
from oauth_connect.flows.paths import callback_path, local_path, mount_of, record_of
from oauth_connect.flows.pending import PendingAuthorization, remember, take
from oauth_connect.models import Connection, ConsumedState
from oauth_connect.models.lifecycle import access, revocation
from oauth_connect.models.owner import Owner, owner_of
from oauth_connect.models.pending_revocation import GrantKey
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.callback import Callback, check_issuer, read_callback
from oauth_connect.protocol.grants.requests import authorization_url, new_code_verifier
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import without_locals


@dataclass(frozen=True, slots=True)
class Connected:
    """The result of a finished flow. ``next`` is a path on this site, or ""."""

    connection: Connection
    next: str


@without_locals
def redirect_uri(request: HttpRequest, provider: str, *, owner: Any = None) -> str:
    """Return the URI to register at the provider. It never depends on the request's Host header.

    ``owner``: a user, an Owner or its key, for providers in ``RECORD_REDIRECTS``; default the request's.
    """
    record = ""
    if provider in conf.record_redirects:
        record = record_of(provider, (owner_of(request) if owner is None else Owner.of(owner)).key)
    return f"{conf.site_origin(request)}{callback_path(provider, record, mount=mount_of(request))}"


@without_locals
def begin(
    request: HttpRequest,
    slug: str,
    *,
    next_path: str = "",
    scopes: Iterable[str] = (),
    connection: Connection | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Start to connect an account, and return the URL to send the browser to.

    ``scopes``: requested in addition to the provider's. ``connection``: the connection to reconnect; the flow
    then succeeds only with the same account. ``variables``: the shop, tenant or instance, where the provider
    has one for each user. Raises ImproperlyConfigured, InvalidProvider for a bad variable, and
    PermissionDenied for a user who has been deactivated.
    """
    if not getattr(request.user, "is_active", True):
        raise PermissionDenied("This user has been deactivated.")
    owner = owner_of(request)
    unresolved = _provider(slug, owner.key)
    values = initial_values(unresolved, variables or {}, connection)
    provider = unresolved.resolve_with_client(values)
    asked = asked_scopes(provider, scopes, connection)
    pending = PendingAuthorization(
        state=secrets.token_urlsafe(32),
        provider=slug,
        owner=owner.key,
        user=str(request.user.pk),
        client_id=provider.client_id,
        issuer=provider.issuer,
        token_endpoint=provider.token_endpoint,
        redirect_uri=redirect_uri(request, slug, owner=owner),
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


@without_locals
def asked_scopes(provider: Provider, scopes: Iterable[str], connection: Connection | None) -> list[str]:
    """Return the scopes to request: the provider's, ``scopes``, and those that were granted before."""
    granted = connection.scopes if connection else ()
    return list(dict.fromkeys([*provider.scopes, *provider.authorize.offline_scopes, *scopes, *granted]))


def store_connection(token: Token, account: Account, **fields: Any) -> Connection:
    """Store the token of a flow as ``objects.store`` does, and send the signal after the commit.

    Ends an alarm about the provider's settings, because the provider has accepted them. Raises
    CallbackRefused if the user has been deactivated during the flow.
    """
    for user in {Owner.of(fields["owner"]).user, fields.get("connected_by")} - {None}:
        check_active(_present(user))
    connection: Connection = Connection.objects.store(
        token_response=token, account_id=account.id, account_label=account.label, **fields
    )
    transaction.on_commit(partial(_after_commit, connection), using=connection._state.db)
    return connection


def check_active(user: Any) -> None:
    """Raise CallbackRefused for a user who has been deactivated or deleted.

    Some authentication back ends keep such users signed in.
    """
    if user is None or not getattr(user, "is_active", True):
        raise CallbackRefused("This user has been deactivated.", code="user_inactive")


def _present(user: Any) -> Any:
    """Return the user as the database has it now, or None."""
    users = get_user_model()
    return users._base_manager.using(router.db_for_write(users)).filter(pk=user.pk).first()


def _after_commit(connection: Connection) -> None:
    if conf.has_one_client(connection.provider):  # otherwise other clients may still be refused
        access.end_alarm(connection)
    signals.connected.send_robust(sender=Connection, connection=connection)


def is_shared(provider: Provider, owner: str, account: Account | None, variables: Mapping[str, str]) -> bool:
    """Return whether revoking a token that is not stored could end the grant of a connection.

    The account decides which connections share the grant. While it is unknown, assume any of the owner's
    does.
    """
    grant = GrantKey(
        provider=provider.slug,
        client_id=provider.client_id,
        owner=owner,
        account_id=account.id if account else None,
        variables=variables,
    )
    return revocation.is_shared(Connection, grant, provider)


@without_locals
def complete(request: HttpRequest, slug: str, record: str = "") -> Connected:
    """Finish a flow that ``begin`` started, from the provider's response in the query.

    ``slug`` and ``record`` are those of the callback's path, which must be the flow's redirect URI.
    Raises CallbackRefused, and the errors of AuthorizationServer; they leave existing connections unchanged.
    """
    pairs = [(name, value) for name, values in request.GET.lists() for value in values]
    callback = read_callback(pairs)
    pending = _matching(request, slug, callback)
    _check_path(request, slug, record, pending)
    previous = _previous_connection(pending)
    unresolved = _same_provider(pending)
    completion = Completion(unresolved, pending.variables, pairs)
    provider = unresolved.resolve_with_client(completion.values)
    _check_client(provider, pending)
    if not callback.error:  # an error response has no values of variables (RFC 6749 section 4.1.2.1)
        provider = completion.read_callback(provider)
    _check_response(provider, callback, several_servers=unresolved.has_several_servers)

    def revoke_unusable(token: Token) -> None:
        if not is_shared(server.provider, pending.owner, None, completion.values):
            revoke(server, token)

    with AuthorizationServer(provider, timeout=conf.http_timeout, on_unusable=revoke_unusable) as server:
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
            _check_account(previous, account)
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
            f"{slug}: set authorization_endpoint (and enabled) to connect accounts of this provider."
        )
    return provider


def _same_provider(pending: PendingAuthorization) -> Provider:
    """Return the provider of a flow. Raises CallbackRefused if it is not offered any more."""
    try:
        provider = conf.provider(pending.provider, pending.owner)
    except (UnknownProvider, InvalidLoadedEntry) as error:
        raise _changed() from error
    if not provider.connects_accounts:
        raise _changed()
    return provider


def _changed() -> CallbackRefused:
    return CallbackRefused(
        "The provider's settings changed during this sign-in. Start again.", code="provider_changed"
    )


def _matching(request: HttpRequest, slug: str, callback: Callback) -> PendingAuthorization:
    """Return the flow that the state belongs to, and consume the state. Raises CallbackRefused."""
    pending = take(request, callback.state) if callback.state else None
    if pending is None:
        raise CallbackRefused(
            "This browser has no such sign-in under way. Start again.", code="state_unknown"
        )
    if pending.has_expired:
        raise CallbackRefused("This sign-in took too long. Start again.", code="state_expired")
    if not ConsumedState.objects.consume(callback.state, pending.expires_at):
        raise CallbackRefused("This response was used already. Start again.", code="state_replayed")
    if not request.user.is_authenticated or str(request.user.pk) != pending.user:
        raise CallbackRefused("Another user started this sign-in. Start again.", code="other_user")
    check_active(request.user)
    owner = owner_of(request)
    if owner.key != pending.owner or not owner.may_manage:
        raise CallbackRefused("This sign-in was started for another owner. Start again.", code="other_owner")
    if slug != pending.provider:
        raise CallbackRefused("Another provider sent this response. Start again.", code="other_provider")
    return pending


def _check_path(request: HttpRequest, slug: str, record: str, pending: PendingAuthorization) -> None:
    """Refuse a response that arrived at another redirect URI than the flow's (RFC 9700 section 4.4.2).

    Another server under the same name sent it. The language of the path may be another one.
    """
    try:
        path = callback_path(slug, record, mount=mount_of(request))
    except NoReverseMatch:
        path = ""
    if path != urlsplit(pending.redirect_uri).path:
        raise CallbackRefused("Another server sent this response. Start again.", code="other_redirect")


def _check_client(provider: Provider, pending: PendingAuthorization) -> None:
    at_start = (pending.client_id, pending.issuer, pending.token_endpoint)
    if (provider.client_id, provider.issuer, provider.token_endpoint) != at_start:
        raise _changed()


def _check_response(provider: Provider, callback: Callback, *, several_servers: bool) -> None:
    check_issuer(provider, callback.iss, several_servers=several_servers)
    if callback.error == "access_denied":
        raise CallbackRefused(f"You did not give access to {provider.label}.", code="access_denied")
    if callback.error or not callback.code:
        raise CallbackRefused(f"{provider.label} could not give access.", code="authorization_failed")


def _previous_connection(pending: PendingAuthorization) -> Connection | None:
    if not pending.connection:
        return None
    # Read from the primary. If a replica lagged and showed no row, the account check would be skipped.
    rows = Connection.objects.using(router.db_for_write(Connection)).for_owner(pending.owner)
    return rows.filter(pk=pending.connection, provider=pending.provider).first()


def _check_account(previous: Connection | None, account: Account) -> None:
    if previous is not None and previous.account_id not in ("", account.id):
        raise CallbackRefused(
            f"You signed in as {account.label}. To reconnect, sign in as {previous.account_label}.",
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
