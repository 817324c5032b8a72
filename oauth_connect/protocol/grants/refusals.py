"""The error responses of RFC 6749 section 5.2: which they are, what they mean, and the error to raise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oauth_connect.errors import (
    ProtocolError,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    printable_line,
)
from oauth_connect.protocol.grants import client_refusal, id_tokens
from oauth_connect.protocol.net.causes import CAUSES, explained
from oauth_connect.protocol.paths import pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.redaction import redacted

# A refresh was refused with 400 and without an error code that can be read.
REFUSED_WITHOUT_REASON = "refused_without_reason"
# The response has no token where the entry says that it is.
MALFORMED_TOKEN_RESPONSE = "malformed_token_response"
WRONG_ENDPOINT = (404, 405)  # unless the error code says what a token endpoint says
WRONG_URL = frozenset(f"http_{status}" for status in WRONG_ENDPOINT)
# In both sets: first the codes of servers, then the codes of this package.
MISCONFIGURED = frozenset(
    {"invalid_client", "unauthorized_client", "unsupported_grant_type", MALFORMED_TOKEN_RESPONSE}
    | {"redirected", *WRONG_URL, "forbidden_address", "variable_missing", "unsendable"}
    | set(id_tokens.MISMATCHES.values())
)
REFUSALS = frozenset({"invalid_request", "invalid_grant", "invalid_scope"})  # RFC 6749 section 5.2
# RFC 8628 section 3.5
DEVICE_FLOW = frozenset({"authorization_pending", "slow_down", "access_denied", "expired_token"})
# Timeout, Too Early, Too Many Requests: the server did not act on the request (RFC 9110, 8470, 6585).
TRY_AGAIN = frozenset({408, 425, 429})
TRANSIENT = frozenset(
    {"temporarily_unavailable", "server_error", "slow_down"}
    | {"unavailable", "timeout", "answer_lost", "malformed_response"}
    | {f"http_{status}" for status in TRY_AGAIN}
    | CAUSES
)
# Some servers write these in capitals. A cause is never a server's: it claims that nothing was sent.
IN_ANY_CASE = (MISCONFIGURED | DEVICE_FLOW | TRANSIENT | REFUSALS) - CAUSES
# Values of a field "error" that name none. False is 0.
_NO_ERRORS: tuple[object, ...] = (None, "", 0, "0", [], {})


def is_refusal(provider: Provider, document: Any) -> bool:
    """Return whether a document is an error response. The status does not matter."""
    rules = provider.token_response
    code = pick(document, [rules.error_field])
    if code and rules.errors.get(code) == "":
        return False
    named = code not in ("", "0")
    if not isinstance(document, Mapping):
        return named
    refused = document.get("error") not in _NO_ERRORS or document.get("ok") is False
    failed = bool(rules.success_field) and document.get(rules.success_field) is not True
    return named or refused or failed


def refusal(
    provider: Provider,
    status: int,
    document: Any,
    retry_after: float | None = None,
    *,
    client_only: bool = False,
) -> ProtocolError | ProviderUnavailable:
    """Return the error for an error response (RFC 6749 section 5.2). The document is never quoted.

    ``client_only``: the request has no credentials but the client's, so a 401 can mean nothing else.
    """
    provider_code = code_of(provider, document)
    said = pick(document, [provider.token_response.error_description_field, "error_description"])
    # Some servers quote the token that they refuse.
    description = redacted(printable_line(said))
    code = _rfc_code(provider, provider_code, description) if provider_code else ""
    if not code or (status in WRONG_ENDPOINT and not _is_explicit(provider, code)):
        code = _rfc_code(provider, f"http_{status}", description)
        if code == "http_401" and client_only:
            code = "invalid_client"
    # Keep the provider's own code in the description.
    details = [provider_code if provider_code != code else "", description]
    return error_for(
        provider,
        code,
        description=". ".join(filter(None, details)),
        status=status,
        retry_after=retry_after,
    )


def code_of(provider: Provider, document: Any) -> str:
    """Return the provider's error code: where its entry says, or where the RFC does."""
    return printable_line(pick(document, [provider.token_response.error_field, "error"]), 64)


def _is_explicit(provider: Provider, code: str) -> bool:
    """Return whether a code is meant also with a status that a wrong URL has."""
    return code in MISCONFIGURED | DEVICE_FLOW or code in provider.refresh.ended_errors


def refuses_client(provider: Provider, status: int, document: Any) -> bool:
    """Return whether a response refuses only the client's credentials (RFC 6749 section 5.2).

    In that case the server did not use the rest of the request, so no code or token is spent. A 401 without
    a code may refuse the code or token instead. That is not spent either, and another secret does no harm.
    """
    if 200 <= status < 300 and not is_refusal(provider, document):
        return False
    code = refusal(provider, status, document).code
    # Some servers send unauthorized_client for a wrong secret. A 401 confirms that meaning.
    by_status = code == "unauthorized_client" or not code_of(provider, document)
    return code == "invalid_client" or (status == 401 and by_status)


def ends_grant(provider: Provider, status: int, document: Any) -> bool:
    """Return whether an error response to a refresh says that the grant has ended, with any status."""
    return refusal(provider, status, document).code in provider.refresh.ended_errors


def is_of_device_flow(provider: Provider, status: int, document: Any) -> bool:
    """Return whether an error response names a code of the device flow (RFC 8628), with any status."""
    return refusal(provider, status, document).code in DEVICE_FLOW


def _rfc_code(provider: Provider, provider_code: str, description: str) -> str:
    """Translate a provider's error code. A key "code: text" also matches the start of the description."""
    errors = provider.token_response.errors
    for key in sorted(errors, key=len, reverse=True):
        code, _, text = key.partition(": ")
        if code == provider_code and description.startswith(text):
            return errors[key]
    lowered = provider_code.lower()
    return lowered if lowered in IN_ANY_CASE or lowered in provider.refresh.ended_errors else provider_code


def is_transient(code: str) -> bool:
    """Return whether a code of a server or of this package says that a retry may succeed."""
    return code in TRANSIENT or code.startswith("http_5")


def is_transient_status(status: int) -> bool:
    """Return whether an HTTP status alone says that a retry may succeed."""
    return status in TRY_AGAIN or status >= 500


def error_for(
    provider: Provider,
    code: str,
    *,
    description: str = "",
    status: int = 0,
    retry_after: float | None = None,
) -> ProtocolError | ProviderUnavailable:
    """Return the error for a code of a server or of this package."""
    if code in CAUSES:
        return ProviderUnavailable(
            f"{provider.label} cannot be reached. {explained(code, provider.token_endpoint)}",
            code=code,
            retry_after=retry_after,
        )
    if is_transient(code):
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
    if code == MALFORMED_TOKEN_RESPONSE:
        return ProviderMisconfigured(
            f"{provider.label} sends a token response that its entry does not fit. Compare "
            f"{provider.slug}.token_response with the provider's documentation.",
            **details,
        )
    if code in WRONG_URL:
        return ProviderMisconfigured(
            f"{provider.label} has no endpoint at this URL, or another one ({code}). Compare the endpoints "
            f"of {provider.slug!r} with the provider's documentation.",
            **details,
        )
    if code in MISCONFIGURED:
        return ProviderMisconfigured(
            f"{provider.label} does not accept this site's client ({code}). Compare client_id, "
            f"client_secret and endpoints of {provider.slug!r} with the provider's documentation."
            + (f" {client_refusal.advice(provider)}" if code == "invalid_client" else ""),
            **details,
        )
    hint = _without_code(provider, code)
    end = "." if hint and description and not description.endswith(".") else ""
    words = [f"{provider.label} refused the request: {code}.", description + end, hint]
    return ProviderRejected(" ".join(filter(None, words)), **details)


def _without_code(provider: Provider, code: str) -> str:
    """Return the hint for a refusal that names no error code."""
    errors, settings = f"{provider.slug}.token_response.errors", f"{provider.slug}.token_response.error_field"
    if code == "http_401":
        return (
            "It named no error code: either the client (client_id, client_secret, "
            "token_endpoint_auth_method) or the code or token is refused. If its response has one, set "
            f"{settings}. If it refuses a refresh token in this way, set {errors}."
        )
    if code == REFUSED_WITHOUT_REASON or code.startswith("http_"):
        return f"It named no error code. If its response has one, set {settings}."
    return ""
