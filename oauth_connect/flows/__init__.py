"""What a user or a site requests. Start reading here, then read ``engine/refresh.py``."""

from oauth_connect.flows.authorize import asked_scopes, begin, complete, redirect_uri
from oauth_connect.flows.calling import (
    aaccess_token_for,
    access_token_for,
    aconnection_for,
    connection_for,
    session_for,
)
from oauth_connect.flows.completion import asked_variables
from oauth_connect.flows.disconnect import disconnect
from oauth_connect.flows.keyring import forget_in_keyring, session_for_keyring
from oauth_connect.flows.machine import (
    amachine_access_token,
    amachine_connection,
    machine_access_token,
    machine_connection,
    machine_session,
)
from oauth_connect.flows.paths import connect_path

__all__ = [
    "aaccess_token_for",
    "access_token_for",
    "aconnection_for",
    "amachine_access_token",
    "amachine_connection",
    "asked_scopes",
    "asked_variables",
    "begin",
    "complete",
    "connect_path",
    "connection_for",
    "disconnect",
    "forget_in_keyring",
    "machine_access_token",
    "machine_connection",
    "machine_session",
    "redirect_uri",
    "session_for",
    "session_for_keyring",
]
