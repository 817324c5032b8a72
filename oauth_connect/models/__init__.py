"""The models: connections, and the small tables that belong to them."""

from oauth_connect.models.connection import Connection
from oauth_connect.models.connection_event import ConnectionEvent
from oauth_connect.models.consumed_state import ConsumedState
from oauth_connect.models.lifecycle import history
from oauth_connect.models.owner import Owner
from oauth_connect.models.pending_revocation import PendingRevocation
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.models.registered_client import RegisteredClient
from oauth_connect.models.row import PROTOCOL_COLUMNS

__all__ = [
    "PROTOCOL_COLUMNS",
    "Connection",
    "ConnectionEvent",
    "ConsumedState",
    "Owner",
    "PendingRevocation",
    "ProviderState",
    "RegisteredClient",
    "history",
]
