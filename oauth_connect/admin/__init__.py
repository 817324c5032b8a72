"""The admin of connections: everything can be seen but what opens an account, and nothing can be edited.

Django imports this where ``django.contrib.admin`` is installed, and nobody else does.
"""

from oauth_connect.admin.connection import ConnectionAdmin
from oauth_connect.admin.tables import ConnectionEventAdmin, PendingRevocationAdmin, ProviderStateAdmin

__all__ = ["ConnectionAdmin", "ConnectionEventAdmin", "PendingRevocationAdmin", "ProviderStateAdmin"]
