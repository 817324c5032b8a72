"""Connects an account: the authorization code flow (RFC 6749 section 4.1) with PKCE (RFC 7636)."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db import router
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from oauth_connect.conf import InvalidLoadedEntry, UnknownProvider, conf
from oauth_connect.engine.revoke import revoke
from oauth_connect.errors import CallbackRefused, CallError, ProtocolError, ProviderUnavailable
from oauth_connect.flows import finished, flow_cookie
from oauth_connect.flows.account import Account
from oauth_connect.flows.completion import (
    Completion,
    exchanged_for_long_lived,
    initial_values,
    warn_if_no_refresh_token,
)
from oauth_connect.flows.grant_types import check_allowed
from oauth_connect.flows.other_tokens import OtherToken, OtherTokens, holds_token
from oauth_connect.flows.paths import callback_path, connect_path, local_path, mount_of, record_of
from oauth_connect.flows.pending import PendingAuthorization, find, remember
from oauth_connect.flows.site import is_undecided, site_in_use
from oauth_connect.flows.storage import check_active, is_shared, store_connection
from oauth_connect.models import Connection, ConsumedState
from oauth_connect.models.owner import Owner, owner_of
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants.authorization_errors import clean_code, refusal_of
from oauth_connect.protocol.grants.callback import Callback, check_issuer, read_callback
from oauth_connect.protocol.grants.requests import authorization_url, new_code_verifier
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import without_locals

NO_SESSION = (
    " Nobody is signed in at this address. The cookie of a session belongs to one host: open the site at the "
    "host of the redirect URI (localhost is not 127.0.0.1). Over http it needs SESSION_COOKIE_SECURE = False."
)


@dataclass(frozen=True, slots=True)
class Connected:
    """The result of a finished flow. ``next`` is a path on this site, or "".

    ``is_undecided``: the account has several sites, and the user must choose one (``flows.site``).
    """

    connection: Connection
    next: str
    is_undecided: bool = False


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
    conf.check_other_entries(unresolved, owner.key)  # an error must come before the user consents
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
    flow_cookie.note(request, pending)
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
    """Return the scopes to request: the provider's, ``scopes``, and what the user consented to before.

    Those that the entry requests in another parameter are left out.
    """
    before = [*connection.requested_scopes, *connection.scopes] if connection else []
    asked = dict.fromkeys([*provider.scopes, *provider.authorize.offline_scopes, *scopes, *before])
    elsewhere = {*chain.from_iterable(provider.authorize.extra_scopes.values())}
    return [scope for scope in asked if scope not in elsewhere]


@without_locals
def complete(request: HttpRequest, slug: str, record: str = "") -> Connected:
    """Finish a flow that ``begin`` started, from the provider's response in the query.

    ``slug`` and ``record`` are those of the callback's path, which must be the flow's redirect URI.
    Raises CallbackRefused, and the errors of AuthorizationServer; they leave existing connections unchanged.
    Their ``connect_url`` starts the same attempt again. Raises RepeatedResponse for a response that the same
    browser has sent a moment ago.
    """
    pairs = [(name, value) for name, values in request.GET.lists() for value in values]
    callback = read_callback(pairs)
    pending = _taken(request, slug, callback)
    try:
        _check_request(request, slug, pending)
        _check_path(request, slug, record, pending)
        connected = _finish(request, pending, callback, pairs)
    except Exception as error:
        if isinstance(error, CallbackRefused | CallError):
            error.connect_url = error.connect_url or _path_to_retry(request, slug, pending)
        finished.end(request, pending, error)
        raise
    finished.end(request, pending)
    return connected


def _finish(
    request: HttpRequest,
    pending: PendingAuthorization,
    callback: Callback,
    pairs: Sequence[tuple[str, str]],
) -> Connected:
    previous = _previous_connection(pending)
    unresolved = _same_provider(pending)
    owner = Owner.of(pending.owner)
    chosen = partial(site_in_use, owner, unresolved)
    completion = Completion(unresolved, pending.variables, pairs, chosen)
    provider = unresolved.resolve_with_client(completion.values)
    _check_client(provider, pending)
    if not callback.error:  # an error response has no values of variables (RFC 6749 section 4.1.2.1)
        provider = completion.read_callback(provider)
    callback = read_callback(pairs, provider.callback.code_parameter)
    check_issuer(provider, callback.iss, several_servers=unresolved.has_several_servers)
    if callback.error or not callback.code:
        raise refusal_of(provider, callback, pending.redirect_uri)

    others = OtherTokens(unresolved, pending.owner, pending.variables)

    def revoke_others() -> None:
        others.revoke(lambda one: is_shared(one.provider, pending.owner, one.account, one.completion.values))

    def revoke_unusable(token: Token) -> None:
        if holds_token(token) and not is_shared(server.provider, pending.owner, None, completion.values):
            revoke(server, token)
        with suppress(ProtocolError, ProviderUnavailable):
            others.take(token)
        revoke_others()

    with AuthorizationServer(provider, timeout=conf.http_timeout, on_unusable=revoke_unusable) as server:
        token = server.exchange_code(
            code=callback.code,
            redirect_uri=pending.redirect_uri,
            code_verifier=pending.code_verifier,
            scopes=pending.scopes,
        )
        account = None
        try:
            token = others.take(token, pairs)
            completion.read_token(server, token)
            token = completion.read_scopes(token, pending.scopes)
            token = exchanged_for_long_lived(server, token)
            account = completion.find_account(server, token, nonce=pending.nonce or None)
            _check_account(previous, account)
            others.find_accounts()
            connection = _store(request, pending, account, token, completion, others.found)
        except Exception:
            if not is_shared(server.provider, pending.owner, account, completion.values):
                revoke(server, token)
            revoke_others()
            raise
    warn_if_no_refresh_token(connection, provider, connection.token)
    return Connected(connection, pending.next, is_undecided(unresolved, connection))


def _provider(slug: str, owner: str) -> Provider:
    provider = conf.provider(slug, owner)
    check_allowed(provider, "authorization_code")
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


def _taken(request: HttpRequest, slug: str, callback: Callback) -> PendingAuthorization:
    """Return the flow that the state belongs to, and consume the state. Raises CallbackRefused."""
    pending = find(request, callback.state) or flow_cookie.find(request, callback.state)
    if pending is None:
        finished.raise_if_finished(request, slug, callback.state)
        hint = "" if request.user.is_authenticated else NO_SESSION
        raise CallbackRefused(
            f"This browser has no such sign-in under way. Start again.{hint}",
            code="state_unknown",
            error=clean_code(callback.error) if callback.error else "",
        )
    if pending.has_expired:
        raise CallbackRefused(
            "This sign-in took too long. Start again.",
            code="state_expired",
            connect_url=_path_to_retry(request, slug, pending),
        )
    if not ConsumedState.objects.consume(callback.state, pending.expires_at):
        finished.raise_if_own(request, slug, pending)
        raise CallbackRefused("This response was used already. Start again.", code="state_replayed")
    flow_cookie.note_end(request, pending)
    if not finished.begin(request, pending):
        raise CallbackRefused(
            "The session ended while the response arrived. Sign in and start again.",
            code="session_ended",
            connect_url=_path_to_retry(request, slug, pending),
        )
    return pending


def _check_request(request: HttpRequest, slug: str, pending: PendingAuthorization) -> None:
    """Refuse a response that another user, owner or provider's URL got than the one that the flow is for."""
    if not request.user.is_authenticated or str(request.user.pk) != pending.user:
        raise CallbackRefused("Another user started this sign-in. Start again.", code="other_user")
    check_active(request.user)
    owner = owner_of(request)
    if owner.key != pending.owner or not owner.may_manage:
        raise CallbackRefused("This sign-in was started for another owner. Start again.", code="other_owner")
    if slug != pending.provider:
        raise CallbackRefused("Another provider sent this response. Start again.", code="other_provider")


def _path_to_retry(request: HttpRequest, slug: str, pending: PendingAuthorization) -> str:
    """Return the path that starts the same attempt again: connection, scopes, variables and next page.

    "" for another user or provider than the flow's.
    """
    if (slug, str(request.user.pk)) != (pending.provider, pending.user):
        return ""
    try:
        provider = conf.declared_provider(pending.provider, pending.owner)
    except ImproperlyConfigured:
        return ""
    usual = {*provider.scopes, *provider.authorize.offline_scopes}
    mount = mount_of(request)
    at_list = pending.next == reverse("oauth_connect:connections", current_app=mount)
    return connect_path(
        pending.provider,
        next_path="" if at_list else pending.next,
        scopes=[scope for scope in pending.scopes if scope not in usual],
        connection=pending.connection,
        owner=pending.owner,
        variables={} if pending.connection else pending.variables,
        mount=mount,
    )


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
    completion: Completion,
    others: Sequence[OtherToken],
) -> Connection:
    return store_connection(
        token,
        account,
        others=others,
        owner=owner_of(request),
        provider=pending.provider,
        connected_by=request.user,
        redirect_uri=pending.redirect_uri,
        requested_scopes=completion.consented,
        variables=dict(completion.values),
    )
