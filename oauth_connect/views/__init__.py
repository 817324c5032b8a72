"""The views, and the decorator and mixin for a site's own views."""

from oauth_connect.views.connections import (
    CallbackView,
    ConnectionsView,
    ConnectView,
    DisconnectView,
)
from oauth_connect.views.required import ConnectionRequiredMixin, connection_required

__all__ = [
    "CallbackView",
    "ConnectView",
    "ConnectionRequiredMixin",
    "ConnectionsView",
    "DisconnectView",
    "connection_required",
]
