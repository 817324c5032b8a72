"""Finds the account that a new token belongs to, by an id that the account's user cannot change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from oauth_connect.errors import CallbackRefused, printable_line
from oauth_connect.models.row import MAX_ACCOUNT_ID, is_account_id
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token


@dataclass(frozen=True, slots=True)
class Account:
    """An account at a provider. ``id`` is the provider's id for it, or "" if the entry names no source."""

    id: str
    label: str


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
    document: Mapping[str, Any]
    if source == "userinfo":
        document = server.userinfo(token)
        _check_subject(provider, token, document, nonce)
    elif source == "id_token":
        document = responses.id_token_claims(provider, token, nonce=nonce or "", now=datetime.now(UTC))
    elif source == "callback":
        document = parameters
    else:
        document = token.extra
    account_id = responses.pick(document, provider.identity.id)
    if not is_account_id(account_id):
        raise CallbackRefused(f"{provider.label} did not say which account this is.", code="account_unknown")
    return Account(
        account_id,
        printable_line(responses.pick(document, provider.identity.label), MAX_ACCOUNT_ID) or account_id,
    )


def _check_subject(provider: Provider, token: Token, document: Mapping[str, Any], nonce: str | None) -> None:
    """Check that the userinfo and the ID token name one subject (OpenID Connect Core section 5.3.2)."""
    if nonce is None or not (provider.issuer and token.extra.get("id_token") and "sub" in document):
        return
    claims = responses.id_token_claims(provider, token, nonce=nonce, now=datetime.now(UTC))
    if claims.get("sub") != document["sub"]:
        raise CallbackRefused(f"{provider.label} names two different accounts.", code="account_unknown")


def accessible_id(server: AuthorizationServer, token: Token) -> object:
    """Return the id of the site or tenant that the token can access; None where it can access none.

    The provider's entry may choose it; otherwise it is the first. Raises CallbackRefused where the token
    cannot access the chosen site.
    """
    rules = server.provider.accounts
    found = [site for site in server.accounts(token) if isinstance(site, Mapping)]
    if rules.choose:
        found = [
            site for site in found if rules.choose in (responses.pick(site, [path]) for path in rules.match)
        ]
        if not found:
            raise CallbackRefused(
                f"{server.provider.slug}.accounts.choose: this account has no access to {rules.choose!r}.",
                code="variable_refused",
            )
    return responses.pick(found[0], [rules.id]) if found else None
