"""Successful responses (RFC 6749 section 5.1), as pure functions that return a Token or an error."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from oauth_connect.errors import (
    CallbackRefused,
    ProtocolError,
    ProviderMisconfigured,
    ProviderUnavailable,
)
from oauth_connect.protocol.grants import id_tokens
from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.grants.lifetimes import expiry, is_short, refresh_token_expiry
from oauth_connect.protocol.grants.refusals import (
    MALFORMED_TOKEN_RESPONSE,
    REFUSED_WITHOUT_REASON,
    error_for,
    is_refusal,
    refusal,
)
from oauth_connect.protocol.grants.scopes import granted_scopes, named_scopes
from oauth_connect.protocol.paths import inside, outline
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import RESPONSE_FIELDS
from oauth_connect.protocol.token import Token


def token_from(
    provider: Provider,
    status: int,
    document: Any,
    *,
    obtained_at: datetime,
    received_at: datetime | None = None,
    requested_scopes: Iterable[str] = (),
    previous_type: str = "",
    retry_after: float | None = None,
    client_only: bool = False,
) -> Token:
    """Return the token of a response (RFC 6749 section 5.1).

    ``previous_type``: the type of the token that is refreshed, for a response that names none.
    ``client_only``: as for ``refusal``.
    Raises ProviderRejected or ProviderMisconfigured for an error response (section 5.2), with any status.
    Raises ProviderUnavailable with ``answer_lost`` for an unreadable success, whose effect is unknown.
    Raises ProviderMisconfigured with ``malformed_token_response`` for one that the entry does not fit.
    """
    if not 200 <= status < 300 or is_refusal(provider, document):
        raise refusal(provider, status, document, retry_after, client_only=client_only)
    return read_token(
        provider,
        _inside(provider, document),
        obtained_at=obtained_at,
        received_at=received_at,
        requested_scopes=requested_scopes,
        previous_type=previous_type,
    )


def refreshed(
    provider: Provider,
    status: int,
    document: Any,
    *,
    previous: Token,
    obtained_at: datetime,
    received_at: datetime | None = None,
    retry_after: float | None = None,
) -> Token:
    """Return the token of a response to a refresh of ``previous`` (RFC 6749 section 6).

    If only the refresh token of a 2xx response is usable, return ``previous`` with that one, ``carried``, and
    with the response's ID token. The refresh token was rotated, so the previous one is spent, also where the
    response names an error. If it is the previous one, nothing was spent. Raises as ``token_from``, but an
    unusable success is always ProviderUnavailable, because its token may have been issued.
    """
    provider = _read_at_top(provider, document)
    try:
        new = token_from(
            provider,
            status,
            document,
            obtained_at=obtained_at,
            received_at=received_at,
            requested_scopes=previous.scopes,
            previous_type=previous.token_type,
            retry_after=retry_after,
        )
    except (ProtocolError, ProviderUnavailable) as raised:
        error = _error_of_refresh(provider, raised)
        refresh_token = _refresh_token(provider, document) if 200 <= status < 300 else ""
        answer_lost = isinstance(error, ProviderUnavailable) and error.answer_lost
        is_same = refresh_token == previous.refresh_token
        if not refresh_token or not previous.refresh_token or (is_same and not answer_lost):
            raise error from None
    else:
        merged = id_tokens.keep_readable(new, previous).after(previous)
        if new.refresh_token or not provider.refresh.lifetime_seconds:
            return merged
        # The previous refresh token was used now, so its idle time starts again.
        ends = refresh_token_expiry(provider, new.extra, obtained_at, assume=True)
        return replace(merged, refresh_token_expires_at=ends)
    if is_same:
        raise unreadable(provider, "no usable access_token", answer_lost=False)
    found = _inside(provider, document)
    expires_at = refresh_token_expiry(provider, found, obtained_at, assume=True)
    carried = previous.carrying(refresh_token, expires_at)
    id_token = found.get("id_token")
    if id_tokens.claims_of(id_token) is None:
        return carried
    return replace(carried, extra={**carried.extra, "id_token": id_token})


def _read_at_top(provider: Provider, document: Any) -> Provider:
    """Return the provider without its ``path`` if that leads nowhere, and a token is at the top.

    Some servers nest the token in the first response only. The rotated refresh token must not be lost.
    """
    rules = provider.token_response
    if isinstance(inside(document, rules.path), Mapping) or not _has_token(provider, document):
        return provider
    return replace(provider, token_response=replace(rules, path=()))


def _has_token(provider: Provider, document: Any) -> bool:
    return isinstance(document, Mapping) and any(
        value and isinstance(value, str) for value in map(document.get, _token_names(provider))
    )


def _error_of_refresh(
    provider: Provider, error: ProtocolError | ProviderUnavailable
) -> ProtocolError | ProviderUnavailable:
    """Return the error of a refresh: a token may have been issued, and a refusal may end the grant."""
    if error.code == MALFORMED_TOKEN_RESPONSE:
        return ProviderUnavailable(str(error), code="malformed_response", answer_lost=True)
    if error.code == "http_400":
        description = error.description if isinstance(error, ProtocolError) else ""
        return error_for(provider, REFUSED_WITHOUT_REASON, description=description, status=400)
    return error


def _refresh_token(provider: Provider, document: Any) -> str:
    """Return the refresh token of a response that is unusable otherwise; empty where it has none."""
    try:
        found = _inside(provider, document).get(provider.token_response.name_of("refresh_token"))
    except (ProtocolError, ProviderUnavailable):
        return ""
    usable = provider.refresh.style == "grant" and is_printable(found)
    return str(found) if found and usable else ""


def unusable_tokens(provider: Provider, status: int, document: Any, obtained_at: datetime) -> Token | None:
    """Return the tokens of a 2xx response that is unusable otherwise, to revoke them. None: it has none.

    If the response may have tokens of other entries, ``extra`` has them, and its own may be missing.
    """
    try:
        found = _inside(provider, document) if 200 <= status < 300 else Body()
    except (ProtocolError, ProviderUnavailable):
        return None
    values = map(found.get, _token_names(provider))
    access_token, refresh_token = (str(value) if value and is_printable(value) else "" for value in values)
    rules = provider.revocation
    by_access_token = rules.style == "bearer" or rules.token == "access_token"
    revocable = access_token if by_access_token else access_token or refresh_token
    own = (access_token, refresh_token) if revocable else ("", "")
    if provider.token_response.other_entries:
        return Token(own[0], obtained_at, own[1], extra=found)
    return Token(own[0], obtained_at, own[1]) if revocable else None


def other_token(provider: Provider, token: Token, *, requested_scopes: Iterable[str] = ()) -> Token | None:
    """Return another token of the response of ``token``, at the path of ``provider``. None: there is none.

    Raises as ``read_token``.
    """
    if not _has_token(provider, inside(token.extra, provider.token_response.path)):
        return None
    return read_token(
        provider,
        _inside(provider, token.extra),
        obtained_at=token.obtained_at,
        received_at=token.received_at,
        requested_scopes=requested_scopes,
    )


def without_tokens(token: Token, entries: Iterable[Provider]) -> Token:
    """Return a token whose ``extra`` has no tokens where these entries read theirs: they hold them."""
    extra: Any = token.extra
    for entry in entries:
        names = {"access_token", "refresh_token", *_token_names(entry)}
        extra = _without(extra, entry.token_response.path, names)
    return replace(token, extra=extra)


def _without(document: Any, path: tuple[str, ...], names: Collection[str]) -> Any:
    """Return a document without these fields of the object at a path."""
    if not path:
        is_object = isinstance(document, Mapping)
        return (
            {name: value for name, value in document.items() if name not in names} if is_object else document
        )
    key, *rest = path
    found = inside(document, [key])
    if found is None:
        return document
    inner = _without(found, tuple(rest), names)
    if isinstance(document, list):
        return [inner if index == int(key) else one for index, one in enumerate(document)]
    return {**document, key: inner}


def _token_names(provider: Provider) -> tuple[str, str]:
    name_of = provider.token_response.name_of
    return name_of("access_token"), name_of("refresh_token")


def read_token(
    provider: Provider,
    body: Mapping[str, Any],
    *,
    obtained_at: datetime,
    received_at: datetime | None = None,
    requested_scopes: Iterable[str] = (),
    previous_type: str = "",
) -> Token:
    """Return the token of a successful response (RFC 6749 section 5.1).

    Raises ProviderMisconfigured if the provider's entry does not fit the response.
    """
    rules = provider.token_response
    access_token = body.get(rules.name_of("access_token"))
    refresh_token = body.get(rules.name_of("refresh_token")) or ""
    if not access_token or not is_printable(access_token) or not is_printable(refresh_token):
        hint = f"Compare {_settings(provider, 'path', 'fields')} with the provider's documentation."
        raise _unfitting(provider, "without a usable access_token", hint, body)
    if provider.refresh.style == "none":
        refresh_token = ""
    standard = {rules.name_of(name) for name in RESPONSE_FIELDS}
    scope = body.get(rules.name_of("scope"))
    return Token(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=_token_type(provider, body, previous_type),
        scopes=granted_scopes(provider, scope, tuple(requested_scopes)),
        names_scopes=bool(named_scopes(provider, scope)),
        obtained_at=obtained_at,
        expires_at=expiry(provider, body, obtained_at),
        refresh_token_expires_at=refresh_token_expiry(
            provider, body, obtained_at, assume=bool(refresh_token)
        ),
        extra={key: value for key, value in body.items() if key not in standard},
        exchangeable=provider.refresh.style == "exchange_access_token",
        received_at=received_at,
        short_lived=is_short(provider, body, obtained_at),
    )


def is_printable(token: object) -> bool:
    """Return whether a token has only allowed characters (RFC 6749 appendix A). Others cannot be sent."""
    return isinstance(token, str) and token.isascii() and token.isprintable()


def unreadable(provider: Provider, why: str, *, answer_lost: bool = True) -> ProviderUnavailable:
    """Return the error for a success with an unusable body. ``answer_lost``: a token may have been issued."""
    return ProviderUnavailable(
        f"{provider.label} sent a response that is not a token response ({why}).",
        code="malformed_response",
        answer_lost=answer_lost,
    )


def id_token_claims(provider: Provider, token: Token, *, nonce: str, now: datetime) -> Body:
    """Return the claims of an ID token that came directly from the token endpoint.

    Check issuer, audience, authorized party, expiry and nonce. The device flow sends no nonce and passes "".
    TLS authenticates the sender, so the signature is not checked (OpenID Connect Core section 3.1.3.7, point
    6). Raises CallbackRefused.
    """
    found = id_tokens.claims_of(token.extra.get("id_token"))
    claims = None if found is None else Body(found)
    if fault := id_tokens.fault_of(claims, provider, nonce=nonce, now=now):
        raise CallbackRefused(
            f"{provider.label} sent an ID token that is not for this sign-in. {fault}",
            code="id_token_invalid",
        )
    return claims or Body()


def unwrapped(provider: Provider, document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a token response with the token. A document that is this part stays as it is."""
    is_outer = isinstance(inside(document, provider.token_response.path), Mapping)
    return _inside(provider, document) if is_outer else document


def _inside(provider: Provider, document: Any) -> Body:
    if provider.token_response.path_optional:
        provider = _read_at_top(provider, document)
    path = provider.token_response.path
    found = inside(document, path)
    if isinstance(found, Mapping):
        outer = document.items() if path and isinstance(document, Mapping) else ()
        # Keep the fields outside of ``path`` too, because they may identify the account.
        return Body({**{key: value for key, value in outer if key not in RESPONSE_FIELDS}, **found})
    if isinstance(document, Mapping | list) and document:
        keys = [*path] or "none"
        hint = f"Compare {_settings(provider, 'path')} (now: {keys}) with the provider's documentation."
        raise _unfitting(provider, "without an object where the token should be", hint, document)
    raise unreadable(provider, f"no JSON and no form; compare {provider.slug}.token_endpoint")


def _token_type(provider: Provider, body: Mapping[str, Any], previous: str) -> str:
    rules = provider.token_response
    value = body.get(rules.name_of("token_type"))
    if value in (None, ""):
        if previous or not rules.token_type_required:
            return previous or "Bearer"
        hint = (
            f"If its tokens are of type Bearer, set {_settings(provider, 'token_type_required')} to False. "
            f"If the field has another name, set {_settings(provider, 'fields')}."
        )
        raise _unfitting(provider, "without token_type", hint, body)
    kind = value.strip() if isinstance(value, str) else ""
    if kind.lower() not in map(str.lower, rules.token_types):
        listed = f"{_settings(provider, 'token_types')} ({', '.join(rules.token_types)})"
        hint = f"If it means the type Bearer, add it to {listed}."
        raise _unfitting(provider, "with an unknown token_type", hint, body)
    return kind


def _settings(provider: Provider, *names: str) -> str:
    return " and ".join(f"{provider.slug}.token_response.{name}" for name in names)


def _unfitting(provider: Provider, what: str, hint: str, document: Any) -> ProviderMisconfigured:
    return ProviderMisconfigured(
        f"{provider.label} sent a token response {what}. {hint} It has: {outline(document)}.",
        error=MALFORMED_TOKEN_RESPONSE,
    )
