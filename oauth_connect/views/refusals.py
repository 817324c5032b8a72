"""What a visitor reads when a connection did not come about; the errors' own texts are for logs."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

TEXTS = {
    "access_denied": _("You did not give this site access."),
    "authorization_failed": _("The provider could not give access."),
    "state_expired": _("It took too long. Begin again."),
    "state_replayed": _("This answer of the provider has been used already."),
    "state_unknown": _("This was not begun here, or is over already. Begin again."),
    "other_user": _("Another user began this. Begin again."),
    "other_owner": _("This was begun for somebody else. Begin again."),
    "provider_changed": _("The settings have changed meanwhile. Begin again."),
    "other_account": _("You came back with another account than the one that was to be connected again."),
    "variable_mismatch": _("You came back from another place than the one you named. Begin again."),
    "account_unknown": _("The provider did not say which account this is."),
}
HOSTILE = _("The answer is not one that this site can trust.")
FAILED = _("The provider could not complete the connection.")
