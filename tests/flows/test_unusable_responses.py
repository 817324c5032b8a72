"""The tokens of a first response that is unusable otherwise are revoked, unless a connection shares them."""

from __future__ import annotations

import pytest

from oauth_connect.models import Connection
from tests.servers.scripted import Answer

pytestmark = pytest.mark.django_db

UNUSABLE = {
    "no access token": ({"refresh_token": "new-refresh", "token_type": "Bearer"}, "new-refresh"),
    "an unknown token type": (
        {"access_token": "new-access", "refresh_token": "new-refresh", "token_type": "mac"},
        "new-refresh",
    ),
    "a refresh token that cannot be sent": (
        {"access_token": "new-access", "refresh_token": "a\nb", "token_type": "Bearer"},
        "new-access",
    ),
    "an error and tokens": (
        {"access_token": "new-access", "refresh_token": "new-refresh", "error": "warning"},
        "new-refresh",
    ),
}


@pytest.fixture
def revoked(scripted, scripted_provider):
    """The tokens that the provider was asked to revoke."""
    scripted.on("/revoke", Answer())
    return lambda: [request.form["token"] for request in scripted.asked("/revoke")]


@pytest.mark.parametrize(("body", "token"), UNUSABLE.values(), ids=UNUSABLE)
def test_they_are_revoked_and_nothing_is_stored(scripted, visitor, revoked, body, token):
    scripted.on("/token", Answer(body=body))
    visitor.connect()
    assert revoked() == [token]
    assert not Connection.objects.exists()


def test_they_are_not_revoked_while_a_connection_may_share_the_grant(
    scripted, visitor, user, revoked, make_connection
):
    connection = make_connection(owner=user, account_id="1")
    scripted.on("/token", Answer(body=UNUSABLE["no access token"][0]))
    visitor.connect()
    assert revoked() == []
    assert Connection.objects.get().version == connection.version


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, {"error": "invalid_grant", "refresh_token": "new-refresh"}),
        Answer(body={"token_type": "Bearer"}),
        Answer(body=b"<p>"),
        Answer(body={"error": "access_denied"}),
    ],
)
def test_where_no_token_came_nothing_is_revoked(scripted, visitor, revoked, answer):
    scripted.on("/token", answer)
    visitor.connect()
    assert revoked() == []
