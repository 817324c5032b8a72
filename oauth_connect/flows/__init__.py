"""What a person or a site asks for. Begin reading here, then ``engine/refresh.py``."""

from oauth_connect.flows.authorize import asked_scopes, begin, complete, redirect_uri
from oauth_connect.flows.calling import access_token_for, connection_for, session_for
from oauth_connect.flows.disconnect import disconnect
from oauth_connect.flows.instance import asked_variables
from oauth_connect.flows.paths import connect_path

__all__ = [
    "access_token_for",
    "asked_scopes",
    "asked_variables",
    "begin",
    "complete",
    "connect_path",
    "connection_for",
    "disconnect",
    "redirect_uri",
    "session_for",
]
