"""How the disconnect page and the JSON API disconnect an account."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import partial

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from oauth_connect import flows
from oauth_connect.errors import OwnerMismatch
from oauth_connect.flows.disconnect import Outlook, outlook, owned
from oauth_connect.models import Connection, Owner
from oauth_connect.views.pages import OwnerPage, UnknownConnection

STILL_USED = gettext_lazy(
    "Another connection uses the same access. The provider revokes it when that one is disconnected too."
)
WITHDRAW = gettext_lazy(
    "This site cannot revoke its access at the provider. Withdraw it in the settings of your account there."
)


class Disconnects(OwnerPage):
    """A view that disconnects one of the owner's connections."""

    def disconnect(self, pk: uuid.UUID) -> tuple[Outlook, str]:
        """Disconnect, and return what happens at the provider, and the sentence that says so."""
        # Before: with ATOMIC_REQUESTS the provider is asked after this response.
        present = self.with_own(owned, pk)
        before = outlook(present)
        if before == "unreadable":
            before = "unsupported"  # the user has to do the same
        connection = self.with_own(partial(flows.disconnect, actor=self.request.user), pk)
        text = _("%(account)s is disconnected.") % {
            "account": connection.account_label or connection.provider
        }
        if before == "kept":
            text = f"{text} {STILL_USED}"
        elif before == "unsupported":
            text = f"{text} {WITHDRAW}"
        return before, text

    def with_own(self, act: Callable[[Owner, uuid.UUID], Connection], pk: uuid.UUID) -> Connection:
        """Act on the owner's connection. Raises UnknownConnection for another owner's too."""
        try:
            return act(self.managing_owner(), pk)
        except (Connection.DoesNotExist, OwnerMismatch):  # it was handed over meanwhile
            raise UnknownConnection from None
