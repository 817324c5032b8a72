"""The texts that a user reads after a connection failed. The texts of the errors are for logs."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from oauth_connect.protocol.grants.authorization_errors import SETTINGS, TRANSIENT

TEXTS = {
    "access_denied": _("You did not give this site access."),
    "authorization_failed": _("The provider could not give access."),
    "state_expired": _("Connecting took too long. Start again."),
    "state_replayed": _("This response of the provider has already been used."),
    "state_unknown": _("This attempt was not started in this browser, or it has already ended. Start again."),
    "other_user": _("Another user started this attempt. Start again."),
    "other_owner": _("This attempt was started for another owner. Start again."),
    "user_inactive": _("Your user account has been deactivated."),
    "session_ended": _("Your session on this site has ended in the meantime. Sign in and start again."),
    "link_ended": _(
        "This link has expired. Go back to the page that needs the account, and start again there."
    ),
    "provider_changed": _("The settings of the provider have changed in the meantime. Start again."),
    "other_account": _(
        "You used a different account at the provider. Use the account that must be connected again."
    ),
    "variable_mismatch": _(
        "The provider's response is for a different shop, tenant or instance than you entered. Start again."
    ),
    "account_unknown": _("The provider did not say which account was connected."),
}
UNTRUSTED = _("This site cannot trust the response.")
FAILED = _("The provider could not complete the connection.")
UNAVAILABLE = _(
    "The provider could not complete the connection. It does not respond at the moment. Try again later."
)
MISCONFIGURED = _(
    "The provider could not complete the connection, because this site's settings do not match it. "
    "The operators of this site must correct them."
)
NOT_SET_UP = _("This site is not set up completely. Its operators must correct that.")
LATER = _("The provider has a temporary problem. Try again later.")
SITE_REFUSED = _(
    "The provider does not accept this site's request. The operators of this site can correct it."
)
# By the provider's error code (RFC 6749 section 4.1.2.1).
ERROR_TEXTS = {**dict.fromkeys(TRANSIENT, LATER), **dict.fromkeys(SETTINGS, SITE_REFUSED)}
# The messages of these codes name accounts.
PERSONAL = frozenset({"other_account"})


def text_for(code: str, error: str) -> object:
    """Return the text for a refusal's code and the provider's error code."""
    if code == "authorization_failed" and error in ERROR_TEXTS:
        return ERROR_TEXTS[error]
    return TEXTS.get(code, UNTRUSTED)
