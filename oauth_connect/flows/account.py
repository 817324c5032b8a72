"""Finds the account that a new token belongs to, by an id that the account's user cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from oauth_connect.errors import CallbackRefused, printable_line
from oauth_connect.models.row import MAX_ACCOUNT_ID, is_account_id
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import id_tokens, responses
from oauth_connect.protocol.paths import at, outline, pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider. ``id`` is the provider's id for it, or "" if the entry names no source.

    ``document``: the provider's document that names the account.
    """

    id: str
    label: str
    document: Any = field(default=None, repr=False, compare=False)


def identify(
    server: AuthorizationServer, token: Token, *, nonce: str | None, parameters: Mapping[str, str]
) -> Account:
    """Return the account. Raises CallbackRefused when the provider does not name it.

    ``nonce``: None where no ID token was requested; empty where an ID token has none, as in the device flow.
    ``parameters``: the query parameters of the callback.
    """
    provider = server.provider
    source = provider.identity_source
    if source == "none":
        return Account("", "")
    document: Any
    if source == "userinfo":
        document = server.userinfo(token)
        _check_subject(provider, token, document, nonce)
    elif source == "introspection":
        document = server.introspect(token)
    elif source == "id_token":
        document = responses.id_token_claims(provider, token, nonce=nonce or "", now=datetime.now(UTC))
    elif source == "callback":
        document = parameters
    else:
        document = token.extra
    account_id = pick(document, provider.identity.id)
    if not is_account_id(account_id):
        raise _account_unknown(provider, document)
    return Account(
        account_id,
        printable_line(pick(document, provider.identity.label), MAX_ACCOUNT_ID) or account_id,
        document,
    )


def _account_unknown(provider: Provider, document: Any) -> CallbackRefused:
    """Return the error for a document without an id. It names the setting, and keys that are there."""
    tried = ", ".join(provider.identity.id)
    return CallbackRefused(
        f"{provider.label} did not say which account this is. No path of {provider.slug}.identity.id "
        f"({tried}) leads to an id of at most {MAX_ACCOUNT_ID} characters in the answer "
        f"({provider.slug}.identity.source = {provider.identity_source!r}). It has: {outline(document)}.",
        code="account_unknown",
    )


def _check_subject(provider: Provider, token: Token, document: Any, nonce: str | None) -> None:
    """Check that the userinfo and the ID token name one subject (OpenID Connect Core section 5.3.2)."""
    named = isinstance(document, Mapping) and "sub" in document
    if nonce is None or not (provider.issuer and token.extra.get("id_token") and named):
        return
    claims = responses.id_token_claims(provider, token, nonce=nonce, now=datetime.now(UTC))
    subject = id_tokens.subject_of(claims)
    is_same = claims.get("sub") == document["sub"] or subject == id_tokens.subject_of(document) != ""
    if not is_same:
        raise CallbackRefused(f"{provider.label} names two different accounts.", code="account_unknown")


ENTRIES = (Mapping, list, str, int)


@dataclass(frozen=True, slots=True)
class Site:
    """Something that a token can access: a site, a tenant, an organisation.

    ``values``: those of the provider's variables that lead to it.
    """

    id: str
    label: str
    values: Mapping[str, str]


def accessible_sites(server: AuthorizationServer, token: Token) -> list[Site]:
    """Return what the token can access, each once, the preferred one first.

    The provider's entry may choose one. Raises CallbackRefused where the token cannot access that one, or
    where one has no id, and the errors of AuthorizationServer.
    """
    rules = server.provider.accounts
    found = [_entry(one, rules.id) for one in server.accounts(token) if isinstance(one, ENTRIES)]
    if rules.choose:
        found = [site for site in found if rules.choose in (pick(site, [path]) for path in rules.match)]
        if not found:
            raise CallbackRefused(
                f"{server.provider.slug}.accounts.choose: this account has no access to {rules.choose!r}.",
                code="variable_refused",
            )
    if rules.preferred:
        found.sort(key=lambda site: not _is_true(at(site, rules.preferred)))
    sites: dict[object, Site] = {}
    for site in (_site(one, server.provider) for one in found):
        sites.setdefault(tuple(site.values.items()), site)  # some list a site once for each product
    return list(sites.values())


def _entry(one: Any, path: str) -> Any:
    """Return an entry of the list. One that is only an id becomes an object with that id."""
    return {path: one} if isinstance(one, str | int) else one


def _site(one: Any, provider: Provider) -> Site:
    rules = provider.accounts
    named = {rules.variable: ("id", rules.id)}
    named |= {name: (f"variables.{name}", path) for name, path in rules.variables.items()}
    values = {name: _value_in(one, provider, *where) for name, where in named.items()}
    own = values[rules.variable]
    label = pick(one, [path for path in rules.match if path != rules.id])
    return Site(own, printable_line(label, MAX_ACCOUNT_ID) or own, values)


def _is_true(value: object) -> bool:
    return value is True or value == "true"


def _value_in(site: Any, provider: Provider, field: str, path: str) -> str:
    if value := pick(site, [path]):
        return value
    raise CallbackRefused(
        f"{provider.slug}.accounts.{field}: {path!r} leads to no value in an entry of the list. "
        f"It has: {outline(site)}.",
        code="variable_refused",
    )
