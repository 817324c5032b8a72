"""A fake OAuth 2.0 provider: a small HTTP server on loopback, for tests and for trying out (no Django).

``python -m oauth_connect.testing.server`` runs it as a process (docs/fake-server.md).
"""

from oauth_connect.testing.server.failures import ENDPOINTS, Failure
from oauth_connect.testing.server.fake_server import FakeServer
from oauth_connect.testing.server.grants import UnknownToken
from oauth_connect.testing.server.messages import Account
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.rules import CLIENT_ID, CLIENT_SECRET

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "ENDPOINTS",
    "Account",
    "Failure",
    "FakeServer",
    "ReceivedRequest",
    "UnknownToken",
]
