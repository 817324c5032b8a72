"""Each preset keeps its quirks at the fake provider: the same walk through all of them."""

from __future__ import annotations

import pytest

from oauth_connect import presets
from oauth_connect.errors import ProviderUnavailable, ReauthorizationRequired
from oauth_connect.flows import session_for
from oauth_connect.models import Connection
from oauth_connect.testing import FakeProvider

pytestmark = [pytest.mark.django_db, pytest.mark.once, pytest.mark.usefixtures("no_settings")]


@pytest.mark.parametrize("name", presets.names())
def test_an_account_is_connected_called_and_refreshed(name, client, user):
    with FakeProvider(name) as fake:
        connection = fake.connect(client, account="hubot")
        assert Connection.objects.count() == 1
        again = fake.store(user, "hubot")
        assert (again.pk, again.account_label) == (connection.pk, connection.account_label)
        fake.api("GET", "/me", json={"login": "hubot"})
        assert session_for(user, name).get("me").json() == {"login": "hubot"}
        if connection.token.refresh_token and connection.expires_at:
            before = connection.token.access_token
            fake.expire(connection)
            connection.refresh()
            assert connection.token.access_token != before
            assert session_for(user, name).get("me").json() == {"login": "hubot"}


@pytest.mark.parametrize("name", ["slack", "shopify", "github", "google", "atlassian"])
def test_the_end_of_a_grant_reads_as_one_in_the_words_of_the_provider(name, client, user):
    with FakeProvider(name) as fake:
        connection = fake.connect(client)
        fake.end_grant(connection)
        with pytest.raises(ReauthorizationRequired) as error:
            connection.refresh()
        assert error.value.reason == "revoked"


def test_slack_refuses_in_a_200_and_is_understood(client):
    with FakeProvider("slack") as fake:
        connection = fake.connect(client)
        fake.expire(connection)
        fake.fail("token", error="internal_error")
        with pytest.raises(ProviderUnavailable):
            connection.access_token()


def test_shopify_signs_its_response_and_the_signature_is_checked(client):
    with FakeProvider("shopify") as fake:
        connection = fake.connect(client, shop="my-shop")
        assert connection.variables["shop"] == "my-shop"
        fake.server.serve(None)  # a server that does not sign
        assert fake.callback(client, shop="my-shop").status_code == 400


def test_the_header_of_the_token_is_the_providers(user):
    with FakeProvider("shopify") as fake:
        connection = fake.store(user)
        fake.api("GET", "/shop.json", json={})
        connection.session().get("shop.json")
        assert fake.requests[-1].headers["x-shopify-access-token"] == connection.token.access_token


def test_the_site_of_an_account_is_chosen_as_the_provider_lists_it(client):
    with FakeProvider("atlassian") as fake:
        assert fake.connect(client).variables["cloud_id"]
        assert "/accounts" in [one.path for one in fake.requests]
