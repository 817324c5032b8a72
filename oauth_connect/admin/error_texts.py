"""Explanations of the codes of ``last_error``, for staff."""

from __future__ import annotations

import re

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

_UNREACHED = gettext_lazy(
    "The provider could not be reached, or did not respond in time. The request is retried automatically."
)
_RESPONSE_LOST = gettext_lazy(
    "The request was sent, but no complete response came back. The refresh token may be spent. "
    "The next attempt shows whether the connection still works."
)
_TEMPORARY = gettext_lazy("The provider reports a temporary problem. The request is retried automatically.")
_CLIENT = gettext_lazy(
    "The provider does not accept this site as a client. Compare client id and secret in the "
    "settings with the provider's documentation. The owner cannot correct this."
)
_ENDPOINT = gettext_lazy(
    "The URL in the settings is not the provider's token endpoint. "
    "Compare it with the provider's documentation."
)
_REFUSED = gettext_lazy("The provider refused the refresh. Its documentation explains the code.")

EXPLANATIONS = {
    # Ended: the owner must connect again.
    "revoked": gettext_lazy(
        "The provider no longer accepts the refresh token. The owner withdrew access there, or the "
        "provider ended it. The owner must connect the account again."
    ),
    "rotation_lost": gettext_lazy(
        "The response to an earlier refresh may have been lost, together with the new refresh token. "
        "The owner must connect the account again."
    ),
    "expired": gettext_lazy(
        "The token has expired, and the provider issued no refresh token. The owner must connect the "
        "account again."
    ),
    "disconnected": gettext_lazy("The account has been disconnected."),
    "client_changed": gettext_lazy(
        "The settings have another client id than the one that obtained the token. Put the old one "
        "back, or ask the owner to connect the account again."
    ),
    "refused_without_reason": gettext_lazy(
        "The provider refuses the refresh token and names no reason. If that goes on for a day while it "
        "accepts other refresh tokens, the owner must connect the account again."
    ),
    "account_changed": gettext_lazy(
        "A refresh returned the token of another account. It is not used, and is revoked when that ends no "
        "other connection. The owner must connect the account again."
    ),
    # Transient.
    "unreachable": _UNREACHED,
    "certificate_invalid": gettext_lazy(
        "The certificate of the provider's server cannot be verified. Set REQUESTS_CA_BUNDLE to the file of "
        "your own CA, or compare the host name in the settings with the certificate."
    ),
    "host_not_found": gettext_lazy(
        "The host name of the provider's server cannot be resolved. Correct the URL in the settings, or the "
        "DNS of this site's machines."
    ),
    "connection_refused": gettext_lazy(
        "The provider's server refused the connection. The request is retried automatically. If it lasts, "
        "compare host and port in the settings with the provider's documentation."
    ),
    "proxy_failed": gettext_lazy(
        "The proxy between this site and the provider failed. Check HTTPS_PROXY, HTTP_PROXY and NO_PROXY."
    ),
    "timeout": _UNREACHED,
    "unavailable": _UNREACHED,
    "answer_lost": _RESPONSE_LOST,
    "malformed_response": _RESPONSE_LOST,
    "temporarily_unavailable": _TEMPORARY,
    "server_error": _TEMPORARY,
    "slow_down": _TEMPORARY,
    "http_408": _TEMPORARY,
    "http_425": _TEMPORARY,
    "http_429": gettext_lazy(
        "The provider received too many requests. The request is retried automatically."
    ),
    "busy": gettext_lazy("Another process was refreshing this token. Look again in a moment."),
    "connection_hidden": gettext_lazy(
        "Another database connection does not show the row. Nothing was sent. See CONNECTION_STATE."
    ),
    "connection_locked": gettext_lazy("Another transaction had locked the row. Nothing was sent. Try again."),
    # Settings.
    "invalid_client": _CLIENT,
    "unauthorized_client": _CLIENT,
    "unsupported_grant_type": _CLIENT,
    "unsendable": _CLIENT,
    "malformed_token_response": gettext_lazy(
        "The provider's token response does not fit its entry in the settings. Compare token_response there "
        "with the provider's documentation. The owner cannot correct this."
    ),
    "redirected": _ENDPOINT,
    "http_404": _ENDPOINT,
    "http_405": _ENDPOINT,
    "variable_missing": _ENDPOINT,
    "forbidden_address": gettext_lazy(
        "The token endpoint has a private address, which the settings do not allow for this provider."
    ),
    "id_token_issuer": gettext_lazy(
        "The ID token of a refresh names another issuer than before. Compare issuer and token endpoint in "
        "the settings with the provider's documentation. The owner cannot correct this."
    ),
    "id_token_audience": gettext_lazy(
        "The ID token of a refresh is for another client than before. Compare client id and token endpoint "
        "in the settings with the provider's documentation. The owner cannot correct this."
    ),
    "http_401": gettext_lazy(
        "The provider refused the refresh and names no reason: it does not accept this site as a client, or "
        "not this refresh token. If other connections work, the owner must connect the account again."
    ),
    "provider_missing": gettext_lazy(
        "The settings no longer contain this provider. Put it back. No data is lost."
    ),
    "invalid_settings": gettext_lazy(
        "The provider's entry in the settings is wrong. oauth_doctor shows where."
    ),
    "provider_disabled": gettext_lazy("This provider is disabled in the settings."),
    "owner_mismatch": gettext_lazy(
        "The owner and the user of the connection are not the same, so it is not used. "
        "The command “manage.py oauth_repair_owners” corrects this."
    ),
    "key_unavailable": gettext_lazy(
        "No configured key opens the token. Put back the key that sealed it. No data is lost."
    ),
}
# The provider may have chosen the code. A value that does not look like a code is not shown.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


def shown_code(code: str) -> str:
    """Return a code that is safe to show. Empty if there is none."""
    return code if not code or _CODE.fullmatch(code) else _("another error")


def explanation(code: str) -> str:
    """Return the explanation of a code. Empty if there is no code."""
    if not code:
        return ""
    if code.startswith("http_5"):
        return str(_TEMPORARY)
    return str(EXPLANATIONS.get(code, _REFUSED))
