"""The texts that a user reads after a connection failed. The texts of the errors are for logs."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

TEXTS = {
    "access_denied": _("You did not give this site access."),
    "authorization_failed": _("The provider could not give access."),
    "state_expired": _("Connecting took too long. Start again."),
    "state_replayed": _("This response of the provider has already been used."),
    "state_unknown": _("This attempt was not started in this browser, or it has already ended. Start again."),
    "other_user": _("Another user started this attempt. Start again."),
    "other_owner": _("This attempt was started for another owner. Start again."),
    "user_inactive": _("Your user account has been deactivated."),
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
