"""What the codes of ``last_error`` mean, for people."""

from __future__ import annotations

import re

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

_UNREACHED = gettext_lazy(
    "The provider could not be reached, or did not answer in time. It is tried again by itself."
)
_ANSWER_LOST = gettext_lazy(
    "The request was sent, and no whole answer came back: the refresh token may be spent. "
    "The next attempt shows whether the connection still works."
)
_ILL = gettext_lazy("The provider says that it cannot answer at present. It is tried again by itself.")
_CLIENT = gettext_lazy(
    "The provider does not accept this site as a client. Compare client id and secret in the settings "
    "with the provider's page; the owner can do nothing about it."
)
_ENDPOINT = gettext_lazy(
    "The token endpoint in the settings is not one. Compare it with the provider's documentation."
)
_REFUSED = gettext_lazy("The provider refused the refresh. Its documentation says what the code means.")

EXPLANATIONS = {
    # Over: the owner is needed.
    "revoked": gettext_lazy(
        "The provider no longer accepts the refresh token: the owner withdrew access there, or the "
        "provider ended it. The owner must connect the account again."
    ),
    "rotation_lost": gettext_lazy(
        "The answer to an earlier refresh may have been lost, and with it the new refresh token. "
        "The owner must connect the account again."
    ),
    "expired": gettext_lazy(
        "The token has run out, and the provider gave none to refresh it with. "
        "The owner must connect the account again."
    ),
    "disconnected": gettext_lazy("The account has been disconnected."),
    "client_changed": gettext_lazy(
        "The settings name another client id than the one that obtained the token. Put it back, or have "
        "the owner connect the account again."
    ),
    # Transient.
    "unreachable": _UNREACHED,
    "timeout": _UNREACHED,
    "unavailable": _UNREACHED,
    "answer_lost": _ANSWER_LOST,
    "malformed_response": _ANSWER_LOST,
    "temporarily_unavailable": _ILL,
    "server_error": _ILL,
    "slow_down": _ILL,
    "http_429": gettext_lazy("The provider was asked too often. It is tried again by itself."),
    "busy": gettext_lazy("Another process was refreshing this token. Look again in a moment."),
    "connection_locked": gettext_lazy("A transaction held the row; nothing was sent. Try again."),
    # Settings.
    "invalid_client": _CLIENT,
    "unauthorized_client": _CLIENT,
    "unsupported_grant_type": _CLIENT,
    "redirected": _ENDPOINT,
    "http_404": _ENDPOINT,
    "http_405": _ENDPOINT,
    "forbidden_address": gettext_lazy(
        "The token endpoint lies at a private address, which the settings do not allow for this provider."
    ),
    "provider_missing": gettext_lazy(
        "The settings do not name this provider any more. Put it back; nothing is lost."
    ),
    "invalid_settings": gettext_lazy(
        "The provider's entry in the settings is wrong; oauth_doctor says where."
    ),
    "provider_disabled": gettext_lazy("The settings have turned this provider off."),
    "key_unavailable": gettext_lazy(
        "No configured key opens the token. Put back the key that sealed it; nothing is lost."
    ),
}
# The code may be the provider's own word: what does not look like a code is not repeated.
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")


def shown_code(code: str) -> str:
    """Return a code fit to be shown; empty for none."""
    return code if not code or _CODE.fullmatch(code) else _("another error")


def explanation(code: str) -> str:
    """Return a sentence or two for a code; empty for none."""
    if not code:
        return ""
    if code.startswith("http_5"):
        return str(_ILL)
    return str(EXPLANATIONS.get(code, _REFUSED))
