"""The responses of RFC 6749, as pure functions that return a Token or an error. No I/O, no clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from oauth_connect.errors import (
    CallbackRefused,
    ProtocolError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    printable_line,
)
from oauth_connect.protocol.grants import id_tokens
from oauth_connect.protocol.grants.lifetimes import expiry, is_short, refresh_token_expiry
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import RESPONSE_FIELDS
from oauth_connect.protocol.token import Token
from oauth_connect.redaction import redacted

# In both sets: first the codes of servers, then the codes of this package.
MISCONFIGURED = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type"}
    | {"redirected", "http_404", "http_405", "forbidden_address", "variable_missing", "unsendable"}
    | set(id_tokens.MISMATCHES.values())
)
WRONG_ENDPOINT = (404, 405)  # with any error code
TRANSIENT = frozenset(
    {"temporarily_unavailable", "server_error", "slow_down"}
    | {"unavailable", "unreachable", "timeout", "answer_lost", "malformed_response"}
)


class Body(dict[str, Any]):
    """A response body. Its ``repr`` shows only names, because values may be secrets."""

    def __repr__(self) -> str:
        return f"<Body {', '.join(map(str, self))}>"


def read_body(content_type: str, body: bytes) -> Body | None:
    """Parse a body as ``read_document`` does. Return None if it is not an object."""
    document = read_document(content_type, body)
    return document if isinstance(document, Body) else None


def read_document(content_type: str, body: bytes) -> Any:
    """Parse a JSON object with any content type, and a form by its content type. Return None otherwise.

    Some servers send JSON as text/plain, as text/html or as a form, and a token in it must not be lost. Other
    JSON values count only if the content type is JSON, because any text may begin with a number.
    """
    kind = content_type.partition(";")[0].strip().lower()
    parsed = _json(body)
    if isinstance(parsed, dict):
        return Body(parsed)
    if kind == "application/x-www-form-urlencoded":
        return Body(parse_qsl(body.decode("utf-8-sig", "replace").strip())) or None
    return parsed if kind == "application/json" or kind.endswith("+json") else None


def _json(body: bytes) -> Any:
    """Parse JSON, also if a text in it has a line break or is not in UTF-8. Return None if it is none.

    Tokens are ASCII. They must not be lost because of a name in another field.
    """
    try:
        try:
            return json.loads(body, strict=False, parse_int=_whole_number)
        except UnicodeDecodeError:
            return json.loads(body.decode("latin-1"), strict=False, parse_int=_whole_number)
    except (ValueError, RecursionError):
        return None


def _whole_number(digits: str) -> int | float:
    """Return a number of JSON. Python refuses one of thousands of digits, and the token must not be lost."""
    try:
        return int(digits)
    except ValueError:
        return float(digits)


def token_from(
    provider: Provider,
    status: int,
    body: Body | None,
    *,
    obtained_at: datetime,
    received_at: datetime | None = None,
    requested_scopes: Iterable[str] = (),
    previous_type: str = "",
    retry_after: float | None = None,
) -> Token:
    """Return the token of a response (RFC 6749 section 5.1).

    ``previous_type``: the type of the token that is refreshed, for a response that names none.
    Raises ProviderRejected or ProviderMisconfigured for an error response (section 5.2), with any status.
    Raises ProviderUnavailable with ``answer_lost`` for an unreadable success, whose effect is unknown.
    """
    if body is not None and is_refusal(provider, body):
        raise refusal(provider, status, body, retry_after)
    if not 200 <= status < 300:
        raise refusal(provider, status, Body(), retry_after)
    return read_token(
        provider,
        _inside(provider, body),
        obtained_at=obtained_at,
        received_at=received_at,
        requested_scopes=requested_scopes,
        previous_type=previous_type,
    )


def refreshed(
    provider: Provider,
    status: int,
    body: Body | None,
    *,
    previous: Token,
    obtained_at: datetime,
    received_at: datetime | None = None,
    retry_after: float | None = None,
) -> Token:
    """Return the token of a response to a refresh of ``previous`` (RFC 6749 section 6).

    If only the refresh token of a 2xx response is usable, return ``previous`` with that one, ``carried``, and
    with the response's ID token. The refresh token was rotated, so the previous one is spent, also where the
    response names an error. If it is the previous one, nothing was spent. Raises as ``token_from``.
    """
    try:
        new = token_from(
            provider,
            status,
            body,
            obtained_at=obtained_at,
            received_at=received_at,
            requested_scopes=previous.scopes,
            previous_type=previous.token_type,
            retry_after=retry_after,
        )
    except (ProtocolError, ProviderUnavailable) as error:
        refresh_token = _refresh_token(provider, body) if 200 <= status < 300 else ""
        answer_lost = isinstance(error, ProviderUnavailable) and error.answer_lost
        is_same = refresh_token == previous.refresh_token
        if not refresh_token or not previous.refresh_token or (is_same and not answer_lost):
            raise
    else:
        merged = id_tokens.keep_readable(new, previous).after(previous)
        if new.refresh_token or not provider.refresh.lifetime_seconds:
            return merged
        # The previous refresh token was used now, so its idle time starts again.
        ends = refresh_token_expiry(provider, new.extra, obtained_at, assume=True)
        return replace(merged, refresh_token_expires_at=ends)
    if is_same:
        raise unreadable(provider, "no usable access_token", answer_lost=False)
    expires_at = refresh_token_expiry(provider, body or {}, obtained_at, assume=True)
    carried = previous.carrying(refresh_token, expires_at)
    id_token = _inside(provider, body).get("id_token")
    if id_tokens.claims_of(id_token) is None:
        return carried
    return replace(carried, extra={**carried.extra, "id_token": id_token})


def _refresh_token(provider: Provider, body: Body | None) -> str:
    """Return the refresh token of a response that is unusable otherwise; empty where it has none."""
    try:
        found = _inside(provider, body).get(provider.token_response.name_of("refresh_token"))
    except ProviderUnavailable:
        return ""
    usable = provider.refresh.style == "grant" and is_printable(found)
    return str(found) if found and usable else ""


def unusable_tokens(
    provider: Provider, status: int, body: Body | None, obtained_at: datetime
) -> Token | None:
    """Return the tokens of a 2xx response that is unusable otherwise, to revoke them. None: it has none."""
    try:
        found = _inside(provider, body) if 200 <= status < 300 else Body()
    except ProviderUnavailable:
        return None
    access_token, refresh_token = (
        str(value) if value and is_printable(value) else ""
        for value in map(found.get, map(provider.token_response.name_of, ("access_token", "refresh_token")))
    )
    rules = provider.revocation
    by_access_token = rules.style == "bearer" or rules.token == "access_token"
    revocable = access_token if by_access_token else access_token or refresh_token
    return Token(access_token, obtained_at, refresh_token) if revocable else None


def is_refusal(provider: Provider, body: Mapping[str, Any]) -> bool:
    """Return whether a body is an error response. The status does not matter."""
    needed = provider.token_response.success_field
    return bool(
        body.get("error")
        or body.get("ok") is False
        or pick(body, [provider.token_response.error_field]) not in ("", "0")
        or (needed and body.get(needed) is not True)
    )


def read_token(
    provider: Provider,
    body: Mapping[str, Any],
    *,
    obtained_at: datetime,
    received_at: datetime | None = None,
    requested_scopes: Iterable[str] = (),
    previous_type: str = "",
) -> Token:
    """Return the token of a successful response (RFC 6749 section 5.1), as ``token_from`` does."""
    rules = provider.token_response
    access_token = body.get(rules.name_of("access_token"))
    refresh_token = body.get(rules.name_of("refresh_token")) or ""
    if not access_token or not is_printable(access_token) or not is_printable(refresh_token):
        raise unreadable(provider, "no usable access_token")
    if provider.refresh.style == "none":
        refresh_token = ""
    standard = {rules.name_of(name) for name in RESPONSE_FIELDS}
    return Token(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=_token_type(provider, body.get(rules.name_of("token_type")), previous_type),
        scopes=granted_scopes(provider, body.get(rules.name_of("scope")), tuple(requested_scopes)),
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


def refusal(
    provider: Provider, status: int, body: Mapping[str, Any], retry_after: float | None = None
) -> ProtocolError | ProviderUnavailable:
    """Return the error for an error response (RFC 6749 section 5.2). The body is never quoted."""
    provider_code = printable_line(pick(body, [provider.token_response.error_field]), 64)
    # Some servers quote the token that they refuse.
    description = redacted(printable_line(body.get("error_description") or ""))
    code = _rfc_code(provider, provider_code, description)
    if not code or (status in WRONG_ENDPOINT and code not in MISCONFIGURED):
        code = "invalid_client" if status == 401 else f"http_{status}"
    # Keep the provider's own code in the description.
    details = [provider_code if provider_code != code else "", description]
    return error_for(
        provider,
        code,
        description=". ".join(filter(None, details)),
        status=status,
        retry_after=retry_after,
    )


def refuses_client(provider: Provider, status: int, body: Body | None) -> bool:
    """Return whether a response refuses only the client's credentials (RFC 6749 section 5.2).

    In that case the server did not use the rest of the request, so no code or token is spent.
    """
    body = body or Body()
    if 200 <= status < 300 and not is_refusal(provider, body):
        return False
    code = refusal(provider, status, body).code
    # Some servers send unauthorized_client for a wrong secret. A 401 confirms that meaning.
    return code == "invalid_client" or (status == 401 and code == "unauthorized_client")


def _rfc_code(provider: Provider, provider_code: str, description: str) -> str:
    """Translate a provider's error code. A key "code: text" also matches the start of the description."""
    errors = provider.token_response.errors
    for key in sorted(errors, key=len, reverse=True):
        code, _, text = key.partition(": ")
        if code == provider_code and description.startswith(text):
            return errors[key]
    return provider_code


def error_for(
    provider: Provider,
    code: str,
    *,
    description: str = "",
    status: int = 0,
    retry_after: float | None = None,
) -> ProtocolError | ProviderUnavailable:
    """Return the error for a code of a server or of this package."""
    if code in TRANSIENT or code.startswith(("http_429", "http_5")):
        return ProviderUnavailable(
            f"{provider.label} is not available now ({code}). Try again later.",
            code=code,
            retry_after=retry_after,
        )
    details: dict[str, Any] = {"error": code, "description": description, "status": status}
    if code in id_tokens.MISMATCHES.values():
        return ProviderMisconfigured(
            f"{provider.label} answered a refresh with an ID token of another issuer or client than before "
            f"({code}). Compare issuer, token_endpoint and client_id of {provider.slug!r} with the "
            f"provider's documentation. If its issuer has a new name, set {provider.slug}.issuer to that.",
            **details,
        )
    if code in MISCONFIGURED:
        return ProviderMisconfigured(
            f"{provider.label} does not accept this site's client ({code}). Compare client_id, "
            f"client_secret and endpoints of {provider.slug!r} with the provider's documentation.",
            **details,
        )
    return ProviderRejected(f"{provider.label} refused the request: {code}. {description}".strip(), **details)


def unreadable(provider: Provider, why: str, *, answer_lost: bool = True) -> ProviderUnavailable:
    """Return the error for a success with an unusable body. ``answer_lost``: a token may have been issued."""
    return ProviderUnavailable(
        f"{provider.label} sent a response that is not a token response ({why}).",
        code="malformed_response",
        answer_lost=answer_lost,
    )


def granted_scopes(provider: Provider, value: object, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the granted scopes (RFC 6749 section 3.3), or the requested ones if the response omits them.

    Drop scopes that were not requested, unless the provider sets ``wider_scopes``.
    """
    if value is None:
        return requested
    named: list[Any] = []
    if isinstance(value, str):
        named = value.replace(provider.token_response.scope_separator, " ").split()
    elif isinstance(value, list):
        named = value
    # Some databases refuse unprintable characters. A failed save would lose the token.
    granted = [scope for scope in named if isinstance(scope, str) and scope.isprintable()]
    if requested and not provider.token_response.wider_scopes:
        granted = [scope for scope in granted if scope in requested]
    return tuple(dict.fromkeys(granted))


def id_token_claims(provider: Provider, token: Token, *, nonce: str, now: datetime) -> Body:
    """Return the claims of an ID token that came directly from the token endpoint.

    Check issuer, audience, authorized party, expiry and nonce. The device flow sends no nonce and passes "".
    TLS authenticates the sender, so the signature is not checked (OpenID Connect Core section 3.1.3.7, point
    6). Raises CallbackRefused.
    """
    claims = Body(id_tokens.claims_of(token.extra.get("id_token")) or {})
    valid = (
        claims.get("iss") == provider.issuer
        and id_tokens.is_for(claims, provider.client_id)
        and id_tokens.is_current(claims, now)
        and claims.get("nonce", "") == nonce
    )
    if not valid:
        raise CallbackRefused(
            f"{provider.label} sent an ID token that is not for this sign-in.",
            code="id_token_invalid",
        )
    return claims


def pick(document: Mapping[str, Any], paths: Iterable[str]) -> str:
    """Return the value at the first dotted path that holds a string or a whole number, else "".

    Parts joined by ``+`` form one path. All its parts must have a value, and ``:`` joins the values.
    """
    for path in paths:
        parts = [_at(document, part) for part in path.split("+")]
        if all(parts):
            return ":".join(parts)
    return ""


def _at(document: Mapping[str, Any], path: str) -> str:
    found: Any = document
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return str(found) if isinstance(found, str | int) and not isinstance(found, bool) else ""


def _inside(provider: Provider, body: Body | None) -> Body:
    found: Any = body
    for key in provider.token_response.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise unreadable(provider, "not an object")
    if provider.token_response.path:
        # Keep the fields outside of ``path`` too, because they may identify the account.
        outer = {key: value for key, value in (body or {}).items() if key not in RESPONSE_FIELDS}
        return Body({**outer, **found})
    return Body(found)


def _token_type(provider: Provider, value: object, previous: str) -> str:
    if value is None and (previous or not provider.token_response.token_type_required):
        return previous or "Bearer"
    if not isinstance(value, str) or value.lower() not in provider.token_response.token_types:
        raise unreadable(provider, "unknown token_type")
    return value
