"""The messages of RFC 6749 as pure functions: parameters out, response in. No I/O, no clock.

Each grant is a pair: one function makes the request's parameters, one reads the response and
returns a Token or raises a typed error.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

from oauthlib.oauth2 import WebApplicationClient
from requests_oauthlib import OAuth2Session

from oauth_connect.errors import (
    CallbackRefused,
    ProtocolError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    clean,
)
from oauth_connect.protocol.lifetimes import expiry, refresh_token_expiry
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import RESPONSE_FIELDS
from oauth_connect.protocol.token import Token

VERIFIER_LENGTH = 64
PARAMETER_LIMIT = 4096
# The servers' words, then this package's own.
MISCONFIGURED = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type"}
    | {"redirected", "http_404", "http_405", "forbidden_address"}
)
TRANSIENT = frozenset(
    {"temporarily_unavailable", "server_error", "slow_down"}
    | {"unavailable", "unreachable", "timeout", "answer_lost", "malformed_response"}
)


class Parameters(dict[str, str]):
    """Request parameters whose ``repr`` shows names only: they hold secrets, and tracebacks show locals."""

    def __repr__(self) -> str:
        return f"<Parameters {', '.join(self)}>"


class Answer(dict[str, Any]):
    """A response body whose ``repr`` shows names only."""

    def __repr__(self) -> str:
        return f"<Answer {', '.join(map(str, self))}>"


@dataclass(frozen=True, slots=True, repr=False)
class Callback:
    """An authorization response (RFC 6749 section 4.1.2), each parameter at most once."""

    state: str = ""
    code: str = ""
    error: str = ""
    error_description: str = ""
    error_uri: str = ""
    iss: str | None = None


CALLBACK_PARAMETERS = frozenset(field.name for field in fields(Callback))


# --- the authorization request and its response -------------------------------------------------


def new_code_verifier() -> str:
    """Return a fresh PKCE verifier (RFC 7636 section 4.1)."""
    return str(WebApplicationClient("").create_code_verifier(VERIFIER_LENGTH))


def authorization_url(
    provider: Provider,
    *,
    redirect_uri: str,
    state: str,
    scopes: Iterable[str],
    code_verifier: str,
    nonce: str = "",
) -> str:
    """Return the URL to send the user's browser to (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
    parameters = dict(provider.authorize.params)
    scope = provider.authorize.scope_separator.join(scopes)
    if scope and provider.authorize.scope_parameter:
        parameters[provider.authorize.scope_parameter] = scope
    if provider.authorize.response_mode:
        parameters["response_mode"] = provider.authorize.response_mode
    if nonce:
        parameters["nonce"] = nonce
    client = WebApplicationClient(provider.client_id)
    if provider.authorize.code_challenge_method == "S256":
        parameters["code_challenge"] = client.create_code_challenge(code_verifier, "S256")
        parameters["code_challenge_method"] = "S256"
    # oauthlib refuses plain http even on loopback, and its switch for that is process-wide.
    scheme, _, rest = provider.authorization_endpoint.partition("://")
    session = OAuth2Session(client=client, redirect_uri=redirect_uri, scope=parameters.pop("scope", None))
    url, _ = session.authorization_url(f"https://{rest}", state=state, **parameters)
    return f"{scheme}://{url.partition('://')[2]}"


def read_callback(pairs: Iterable[tuple[str, str]]) -> Callback:
    """Read an authorization response's query. Unknown parameters are ignored (RFC 6749 section 4.1.2).

    Raises CallbackRefused for a repeated, overlong or unprintable parameter (RFC 6749 section 3.1,
    appendix A). A description may be anything: real ones have line breaks, and it is only words.
    """
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in CALLBACK_PARAMETERS:
            continue
        if name in found:
            raise CallbackRefused(f"The answer repeats the parameter {name}.", code="repeated_parameter")
        if name == "error_description":
            value = clean(value)
        elif len(value) > PARAMETER_LIMIT or not _is_printable(value):
            raise CallbackRefused(f"The answer's parameter {name} is malformed.", code="malformed_parameter")
        found[name] = value
    found = {name: value for name, value in found.items() if value}  # empty is absent (section 3.1)
    if found.get("code") and found.get("error"):
        raise CallbackRefused("The answer is both a success and an error.", code="malformed_parameter")
    return Callback(**found)


def check_issuer(provider: Provider, iss: str | None) -> None:
    """Compare ``iss`` with the issuer the flow began with, exactly (RFC 9207 section 2.4)."""
    if iss is None:
        if provider.authorization_response_iss_parameter_supported:
            raise CallbackRefused("The answer does not say who sent it.", code="issuer_missing")
    elif provider.issuer and iss != provider.issuer:
        raise CallbackRefused("The answer comes from another server.", code="issuer_mismatch")


# --- requests to the token endpoint -------------------------------------------------------------


def code_request(provider: Provider, *, code: str, redirect_uri: str, code_verifier: str) -> Parameters:
    """Return the parameters that exchange a code (RFC 6749 section 4.1.3, RFC 7636 section 4.5)."""
    with_pkce = provider.authorize.code_challenge_method != "none"
    body = WebApplicationClient(provider.client_id).prepare_request_body(
        code=code,
        redirect_uri=redirect_uri,
        include_client_id=False,
        code_verifier=code_verifier if with_pkce else None,
    )
    return Parameters({**dict(parse_qsl(body)), **provider.token_request.params})


def refresh_request(provider: Provider, *, token: Token, redirect_uri: str = "") -> Parameters:
    """Return the parameters of a refresh (RFC 6749 section 6). The scope stays what was granted."""
    rules = provider.refresh
    if rules.style == "exchange_access_token":
        exchange = {"grant_type": rules.exchange_grant_type, rules.exchange_parameter: token.access_token}
        return Parameters({**exchange, **provider.token_request.refresh_params})
    body = WebApplicationClient(provider.client_id).prepare_refresh_body(refresh_token=token.refresh_token)
    parameters = Parameters({**dict(parse_qsl(body)), **provider.token_request.refresh_params})
    if provider.token_request.repeat_redirect_uri_on_refresh:
        parameters["redirect_uri"] = redirect_uri
    return parameters


def revocation_request(provider: Provider, token: Token) -> Parameters:
    """Return a revocation's parameters (RFC 7009 section 2.1); none where the token is the credential."""
    rules = provider.revocation
    if rules.style == "bearer":
        return Parameters()
    hint = rules.token if token.refresh_token else "access_token"
    parameters = Parameters({rules.token_parameter: getattr(token, hint)})
    if rules.body == "form":
        parameters["token_type_hint"] = hint
    return parameters


# --- the token response -------------------------------------------------------------------------


def read_body(content_type: str, body: bytes) -> Answer | None:
    """Parse a body by its content type only; None for what is not an object."""
    document = read_document(content_type, body)
    return document if isinstance(document, Answer) else None


def read_document(content_type: str, body: bytes) -> Any:
    """Parse a body by its content type only: an Answer, another JSON value, or None."""
    kind = content_type.partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            return Answer(parse_qsl(body.decode("utf-8"), strict_parsing=True))
        if kind == "application/json" or kind.endswith("+json"):
            parsed = json.loads(body)
            return Answer(parsed) if isinstance(parsed, dict) else parsed
    except (ValueError, RecursionError):
        pass
    return None


def token_from(
    provider: Provider,
    status: int,
    answer: Answer | None,
    *,
    obtained_at: datetime,
    requested_scopes: Iterable[str] = (),
    retry_after: float | None = None,
) -> Token:
    """Return the token of a response (RFC 6749 section 5.1) or raise what it amounts to.

    ProviderRejected and ProviderMisconfigured: the server said no (section 5.2), with any status.
    ProviderUnavailable with ``answer_lost``: a success that cannot be read, whose effect is unknown.
    """
    if answer is not None and is_refusal(provider, answer):
        raise refusal(provider, status, answer, retry_after)
    if not 200 <= status < 300:
        raise refusal(provider, status, Answer(), retry_after)
    return read_token(
        provider,
        _inside(provider, answer),
        obtained_at=obtained_at,
        requested_scopes=requested_scopes,
    )


def is_refusal(provider: Provider, answer: Mapping[str, Any]) -> bool:
    """Tell whether an answer says no, with whatever status."""
    needed = provider.token_response.success_field
    return bool(
        answer.get("error")
        or answer.get("ok") is False
        or pick(answer, [provider.token_response.error_field]) not in ("", "0")
        or (needed and answer.get(needed) is not True)
    )


def read_token(
    provider: Provider,
    answer: Mapping[str, Any],
    *,
    obtained_at: datetime,
    requested_scopes: Iterable[str] = (),
) -> Token:
    """Return the token of a successful response's parameters (RFC 6749 section 5.1)."""
    rules = provider.token_response
    access_token = answer.get(rules.name_of("access_token"))
    refresh_token = answer.get(rules.name_of("refresh_token")) or ""
    if not access_token or not _is_printable(access_token) or not _is_printable(refresh_token):
        raise unreadable(provider, "no usable access_token")
    if provider.refresh.style == "none":
        refresh_token = ""
    own = {rules.name_of(name) for name in RESPONSE_FIELDS}
    return Token(
        access_token=access_token,
        refresh_token=refresh_token,
        token_type=_token_type(provider, answer.get(rules.name_of("token_type"))),
        scopes=granted_scopes(provider, answer.get(rules.name_of("scope")), tuple(requested_scopes)),
        obtained_at=obtained_at,
        expires_at=expiry(provider, answer, obtained_at),
        refresh_token_expires_at=refresh_token_expiry(
            provider, answer, obtained_at, assume=bool(refresh_token)
        ),
        extra={key: value for key, value in answer.items() if key not in own},
        exchangeable=provider.refresh.style == "exchange_access_token",
    )


def _is_printable(token: object) -> bool:
    """Tell whether these are a token's characters (RFC 6749 appendix A); others could not be sent."""
    return isinstance(token, str) and token.isascii() and token.isprintable()


def refusal(
    provider: Provider, status: int, answer: Mapping[str, Any], retry_after: float | None = None
) -> ProtocolError | ProviderUnavailable:
    """Return the error for an error response (RFC 6749 section 5.2). The body is never quoted."""
    named = clean(pick(answer, [provider.token_response.error_field]), 64)
    description = clean(answer.get("error_description") or "")
    code = _rfc_word(provider, named, description)
    if not code:
        code = "invalid_client" if status == 401 else f"http_{status}"
    # The provider's own word stays beside the RFC's.
    said = [named if named != code else "", description]
    return error_for(
        provider,
        code,
        description=". ".join(filter(None, said)),
        status=status,
        retry_after=retry_after,
    )


def _rfc_word(provider: Provider, named: str, description: str) -> str:
    """Translate a provider's error code; an entry "code: words" is for descriptions that begin so."""
    errors = provider.token_response.errors
    for key in sorted(errors, key=len, reverse=True):
        code, _, words = key.partition(": ")
        if code == named and description.startswith(words):
            return errors[key]
    return named


def error_for(
    provider: Provider,
    code: str,
    *,
    description: str = "",
    status: int = 0,
    retry_after: float | None = None,
) -> ProtocolError | ProviderUnavailable:
    """Return the error that a code stands for: the server's, or one of this package's own."""
    if code in TRANSIENT or code.startswith(("http_429", "http_5")):
        return ProviderUnavailable(
            f"{provider.label} cannot answer at present ({code}); try again later.",
            code=code,
            retry_after=retry_after,
        )
    details: dict[str, Any] = {"error": code, "description": description, "status": status}
    if code in MISCONFIGURED or status in (404, 405):
        return ProviderMisconfigured(
            f"{provider.label} does not accept this site's client ({code}). Compare client_id, "
            f"client_secret and endpoints of {provider.slug!r} with the provider's page.",
            **details,
        )
    return ProviderRejected(f"{provider.label} refused the request: {code}. {description}".strip(), **details)


def unreadable(provider: Provider, why: str) -> ProviderUnavailable:
    """Return the error for a success whose body says nothing: the token may have been issued."""
    return ProviderUnavailable(
        f"{provider.label} answered with something that is not a token response ({why}).",
        code="malformed_response",
        answer_lost=True,
    )


def granted_scopes(provider: Provider, value: object, requested: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scopes that were granted (RFC 6749 section 3.3); left out means as requested.

    Never wider than what was asked for, unless the provider's entry says that its scopes widen.
    """
    if value is None:
        return requested
    named: list[Any] = []
    if isinstance(value, str):
        named = value.replace(provider.token_response.scope_separator, " ").split()
    elif isinstance(value, list):
        named = value
    # Some databases refuse what cannot be printed, and a refused save would lose the token.
    granted = [scope for scope in named if isinstance(scope, str) and scope.isprintable()]
    if requested and not provider.token_response.wider_scopes:
        granted = [scope for scope in granted if scope in requested]
    return tuple(dict.fromkeys(granted))


def id_token_claims(provider: Provider, token: Token, *, nonce: str, now: datetime) -> Answer:
    """Return the claims of an ID token that came straight from the token endpoint.

    TLS vouches for the sender, so the signature is not looked at (OpenID Connect Core section
    3.1.3.7, point 6); issuer, audience, expiry and nonce are. Raises CallbackRefused.
    """
    try:
        payload = str(token.extra["id_token"]).split(".")[1]
        claims = Answer(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        right = (
            claims["iss"] == provider.issuer
            and provider.client_id in audience
            and claims["exp"] > now.timestamp()
            and claims.get("nonce") == nonce
        )
    except (KeyError, IndexError, TypeError, ValueError, RecursionError):
        right = False
    if not right:
        raise CallbackRefused(
            f"{provider.label} sent an ID token that is not for this sign-in.",
            code="id_token_invalid",
        )
    return claims


def pick(document: Mapping[str, Any], paths: Iterable[str]) -> str:
    """Return the first of several dotted paths that leads to a string or a whole number.

    Paths joined by ``+`` count as one whose parts must all be there; their values are joined by ``:``.
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


def _inside(provider: Provider, answer: Answer | None) -> Answer:
    found: Any = answer
    for key in provider.token_response.path:
        found = found.get(key) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping):
        raise unreadable(provider, "not an object")
    if provider.token_response.path:
        # What stands around the token is told as well; it may say whose it is.
        outer = {key: value for key, value in (answer or {}).items() if key not in RESPONSE_FIELDS}
        return Answer({**outer, **found})
    return Answer(found)


def _token_type(provider: Provider, value: object) -> str:
    if value is None and not provider.token_response.token_type_required:
        return "Bearer"
    if not isinstance(value, str) or value.lower() not in provider.token_response.token_types:
        raise unreadable(provider, "unknown token_type")
    return value
