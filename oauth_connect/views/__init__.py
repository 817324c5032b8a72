"""The views, and the decorator and mixin for a site's own views."""

from oauth_connect.views.choose import ChooseView
from oauth_connect.views.connections import (
    CallbackView,
    ConnectionsView,
    ConnectView,
    DisconnectView,
)
from oauth_connect.views.required import ConnectionRequiredMixin, connection_required
from oauth_connect.views.site import SiteView

__all__ = [
    "CallbackView",
    "ChooseView",
    "ConnectView",
    "ConnectionRequiredMixin",
    "ConnectionsView",
    "DisconnectView",
    "SiteView",
    "connection_required",
]
