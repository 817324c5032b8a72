"""Token responses (RFC 6749 section 5.1), and the kinds of tokens that a provider issues."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import RESPONSE_FIELDS, Moment
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.shapes.accounts import fields_of
from oauth_connect.testing.server.shapes.documents import document_of, with_lists
from oauth_connect.testing.server.shapes.written import JSON, Written, with_success, written_as_asked


def tokens_expire(provider: Provider | None) -> bool:
    """Return whether access tokens expire. They do not if nothing could replace them."""
    if provider is None:
        return True
    return provider.refresh.expected != "never" or provider.refresh.style == "exchange_access_token"


def issues_refresh_tokens(provider: Provider | None) -> bool:
    """Return whether the provider issues refresh tokens that the client uses."""
    return provider is None or (provider.refresh.style == "grant" and provider.refresh.expected != "never")


def rotates_refresh_tokens(provider: Provider | None) -> bool:
    """Return whether a refresh returns a new refresh token, and the old one is spent."""
    return provider is None or provider.refresh.rotation != "never"


def new_access_token(provider: Provider | None, opaque: str, expires_at: float) -> str:
    """Return an access token as the provider writes it: a JWT where its ``exp`` is the only expiry (monday).

    ``opaque``: the random part, which makes the token unique. ``expires_at``: in seconds since 1970.
    """
    if provider is None or provider.token_response.expires_unit != "jwt":
        return opaque
    return _jwt({"exp": int(expires_at), "jti": opaque})


def token_answer(
    provider: Provider | None,
    response: Mapping[str, Any],
    account: Account,
    *,
    accept: str = JSON,
    others: Iterable[tuple[Provider, Mapping[str, Any]]] = (),
    now: datetime | None = None,
) -> Written:
    """Return a token response as the provider writes it.

    ``response``: the fields of RFC 6749 section 5.1. ``scope`` is separated by spaces. ``id_token`` are its
    claims. ``accept``: the request's header. ``others``: further entries that read a token of the same
    response (``other_entries``), each with the fields of its own token.
    """
    now = now or datetime.now(UTC)
    if provider is None:
        return written_as_asked(None, _plain(response), accept)
    document = _nested(provider, response, account, now)
    for other, fields in others:
        _merge(document, _nested(other, fields, account, now))
    return written_as_asked(provider, with_success(provider, document), accept)


def _plain(response: Mapping[str, Any]) -> dict[str, Any]:
    claims = response.get("id_token")
    return {**response, "id_token": _jwt(claims)} if isinstance(claims, Mapping) else dict(response)


def _nested(
    provider: Provider, response: Mapping[str, Any], account: Account, now: datetime
) -> dict[str, Any]:
    """Return the document, with the token and what names the account at ``token_response.path``."""
    document: dict[str, Any] = document_of(fields_of(provider, "token_response", account))
    document |= _fields(provider, response, now) | _id_token(provider, response, account)
    for key in reversed(provider.token_response.path):
        document = {key: document}
    return document


def _fields(provider: Provider, response: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return the fields of a token response under the provider's names and in its formats."""
    rules = provider.token_response
    found = {name: value for name, value in response.items() if name not in (*RESPONSE_FIELDS, "id_token")}
    found |= _refresh_token_expiry(provider, found, now)
    scope = response.get("scope")
    own: dict[str, Any] = {
        "access_token": response["access_token"],
        "refresh_token": response.get("refresh_token") if issues_refresh_tokens(provider) else None,
        "token_type": rules.token_types[0] if rules.token_type_required else None,
        "scope": None if scope is None else rules.scope_separator.join(scope.split()),
        "expires_in": _expiry(provider, response.get("expires_in"), now),
    }
    return found | {rules.name_of(name): value for name, value in own.items() if value is not None}


def _expiry(provider: Provider, seconds: Any, now: datetime) -> Any:
    unit = provider.token_response.expires_unit
    if seconds is None or unit == "jwt" or not tokens_expire(provider):
        return None
    return _moment(unit, seconds, now)


def _refresh_token_expiry(provider: Provider, found: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Take ``refresh_token_expires_in`` out of the fields. Return it under the provider's name."""
    seconds = found.pop("refresh_token_expires_in", None)
    if seconds is None or not issues_refresh_tokens(provider):
        return {}
    rules = provider.token_response
    return {rules.refresh_token_expires_in: _moment(rules.refresh_token_expires_unit, seconds, now)}


def _moment(unit: Moment, seconds: float, now: datetime) -> Any:
    """Return a lifetime in a unit of ``token_response``."""
    at = now + timedelta(seconds=seconds)
    match unit:
        case "epoch_seconds":
            return int(at.timestamp())
        case "epoch_milliseconds":
            return int(at.timestamp() * 1000)
        case "iso8601":
            return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return seconds


def _id_token(provider: Provider, response: Mapping[str, Any], account: Account) -> dict[str, str]:
    """Return the ID token, if the response has its claims and the provider is one of OpenID Connect."""
    claims = response.get("id_token")
    if not isinstance(claims, Mapping) or not provider.issuer:
        return {}
    named = with_lists(document_of(fields_of(provider, "id_token", account)))
    return {"id_token": _jwt({**named, **claims})}


def _jwt(claims: Mapping[str, Any]) -> str:
    """Return an unsigned JWT. The client checks no signature of a token from the endpoint itself."""
    header = {"alg": "none", "typ": "JWT"}
    return f"{_base64url(header)}.{_base64url(claims)}."


def _base64url(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


def _merge(document: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Add the fields of another document that this one does not have."""
    for key, value in other.items():
        if isinstance(value, Mapping) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document.setdefault(key, value)
