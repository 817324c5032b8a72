"""The error of an authorization response (RFC 6749 section 4.1.2.1): what it means, and what to correct."""

from __future__ import annotations

import re

from oauth_connect.errors import CallbackRefused
from oauth_connect.protocol.grants.callback import Callback
from oauth_connect.protocol.provider import Provider
from oauth_connect.redaction import redacted, without_values

ACCESS_DENIED = "access_denied"
TRANSIENT = frozenset({"server_error", "temporarily_unavailable"})
# OpenID Connect Core section 3.1.2.6.
INTERACTION = frozenset(
    {"login_required", "consent_required", "interaction_required", "account_selection_required"}
)
# What to compare with the app's settings at the provider. After the RFC's codes those of OpenID Connect Core
# section 3.1.2.6 and of RFC 8707, and a word that many providers use.
SETTINGS = {
    "invalid_request": "client_id, scopes, authorize.params and the redirect URI",
    "unauthorized_client": "client_id and the flows of the app",
    "invalid_client": "client_id",
    "invalid_scope": "scopes",
    "unsupported_response_type": "client_id and the flows of the app",
    "redirect_uri_mismatch": "the redirect URI",
    "invalid_target": "authorize.params.resource",
    "invalid_request_uri": "authorize.params",
    "invalid_request_object": "authorize.params",
    "request_not_supported": "authorize.params",
    "request_uri_not_supported": "authorize.params",
    "registration_not_supported": "authorize.params",
}
_PART = r"(?:[A-Za-z]{1,24}\d{0,6}|\d{1,6})"
_CODE = re.compile(rf"{_PART}(?:[_.-]{_PART})*")
MAX_CODE = 64


def clean_code(word: str) -> str:
    """Return an error code of a provider that is safe to show; "other_error" for text that may be a token.

    A code is made of words and short numbers. A token mixes letters with digits, or is long.
    """
    return word if len(word) <= MAX_CODE and _CODE.fullmatch(word) else "other_error"


def refusal_of(provider: Provider, callback: Callback, redirect_uri: str) -> CallbackRefused:
    """Return the refusal for a response without a code. ``redirect_uri``: the one that this flow sent."""
    if not callback.error:
        return CallbackRefused(
            f"{provider.label} sent neither a code nor an error.{_said(callback)} Compare "
            f"authorization_endpoint of "
            f"{provider.slug!r} with the provider's documentation.",
            code="authorization_failed",
        )
    code, error = _rfc_code(provider, callback.error), clean_code(callback.error)
    return CallbackRefused(
        _sentence(provider, code, error, _said(callback), redirect_uri),
        code=ACCESS_DENIED if code == ACCESS_DENIED else "authorization_failed",
        error=error,
    )


def _rfc_code(provider: Provider, code: str) -> str:
    """Return the RFC's code for a provider's. Some servers write it in capitals."""
    if (known := provider.callback.errors.get(code)) is not None:
        return known
    lowered = code.lower()
    return lowered if lowered in {ACCESS_DENIED, *TRANSIENT, *INTERACTION, *SETTINGS} else code


def _said(callback: Callback) -> str:
    said = without_values(callback.error_description, [callback.state])  # some servers quote it
    description = redacted(said).rstrip(".")
    return f" The provider says: {description}." if description else ""


def _sentence(provider: Provider, code: str, error: str, said: str, redirect_uri: str) -> str:
    """Return what happened, and what to correct. ``code`` is the RFC's, and ``error`` the provider's."""
    label, slug = provider.label, provider.slug
    if code == ACCESS_DENIED:
        return f"You did not give access to {label} ({error}).{said}"
    if code in SETTINGS:
        return (
            f"{label} refused the authorization request ({error}).{said} In the entry {slug!r}, compare "
            f"{SETTINGS[code]} with the settings of the app at the provider. The redirect URI of this flow "
            f"is {redirect_uri}"
        )
    if code in TRANSIENT:
        hint = "Try again later."
    elif code in INTERACTION:
        hint = (
            f"The user must be asked. Remove prompt=none from authorize.params of {slug!r}, or the parameter "
            "that has the same effect."
        )
    else:
        hint = (
            "The provider's documentation explains this error. If it means that the user refused, set "
            f"callback.errors of {slug!r}."
        )
    return f"{label} could not give access ({error}).{said} {hint}"
