"""The admin of connections. It shows everything except secrets, and edits nothing.

Only Django imports this package, if ``django.contrib.admin`` is installed.
"""

from oauth_connect.admin.connection import ConnectionAdmin
from oauth_connect.admin.tables import (
    ConnectionEventAdmin,
    PendingRevocationAdmin,
    ProviderStateAdmin,
    RegisteredClientAdmin,
)

__all__ = [
    "ConnectionAdmin",
    "ConnectionEventAdmin",
    "PendingRevocationAdmin",
    "ProviderStateAdmin",
    "RegisteredClientAdmin",
]
