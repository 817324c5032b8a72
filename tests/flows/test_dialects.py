"""Requests in a provider's own shape, from every place that sends them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import call_command

from oauth_connect.contrib.httpx import client
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED

pytestmark = pytest.mark.django_db

LATER = {
    "style": "exchange_access_token",
    "method": "GET",
    "authentication": "none",
    "exchange_grant_type": "later",
    "exchange_parameter": "access_token",
}


def call(connection: Connection) -> None:
    with connection.session() as http:
        http.get("x")


def call_by_httpx(connection: Connection) -> None:
    with client(connection) as http:
        http.get("x")


def refresh_in_bulk(connection: Connection) -> None:
    call_command("oauth_refresh", verbosity=0)


WAYS = [call, call_by_httpx, Connection.refresh, Connection.access_token, refresh_in_bulk]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_refresh_is_a_get_without_the_client_wherever_it_comes_from(
    way: Any, scripted, scripted_entry, configure, make_connection
):
    refresh = {**LATER, "endpoint": f"{scripted.url}/later"}
    configure(PROVIDERS={"scripted": {**scripted_entry, "refresh": refresh}})
    scripted.on("/later", Answer(body={"access_token": "new", "token_type": "Bearer", "expires_in": 3600}))
    scripted.on("/api/x", Answer())
    old = {"access_token": "old", "token_type": "Bearer", "expires_in": EXPIRED + 30}
    connection = make_connection(age=EXPIRED, response=old)

    way(connection)

    [request] = scripted.asked("/later")
    assert (request.method, request.body) == ("GET", b"")
    assert request.query == {"grant_type": "later", "access_token": "old"}
    assert "Authorization" not in request.headers
    assert Connection.objects.get().token.access_token == "new"


def test_a_disconnect_names_the_account_that_the_token_response_named(
    scripted, scripted_entry, configure, issues, visitor, django_capture_on_commit_callbacks
):
    variable = {"source": "token_response", "pattern": "acct_[0-9]+", "field": "account"}
    rules = {
        "authentication": "client_secret_header",
        "token_parameter": "",
        "params": {"client_id": "{client_id}", "user": "{user}"},
    }
    configure(
        PROVIDERS={"scripted": {**scripted_entry, "variables": {"user": variable}, "revocation": rules}}
    )
    issues(account="acct_7")
    scripted.on("/revoke", Answer())
    visitor.connect()
    with django_capture_on_commit_callbacks(execute=True):
        Connection.objects.get().disconnect()
    [request] = scripted.asked("/revoke")
    assert request.form == {"client_id": "client", "user": "acct_7"}
    assert request.headers["Authorization"] == "Bearer secret"
