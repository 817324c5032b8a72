"""What each method returns, what it asks the network for, and what callers meet when that fails."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.urls import reverse

from oauth_connect.conf import conf
from oauth_connect.errors import ProviderMisconfigured, ProviderUnavailable
from oauth_connect.models import Connection, PendingRevocation
from tests.conf.issuer import CLIENT, CONNECT, ISS
from tests.servers.codeyard import CLIENT_ID, CLIENT_SECRET
from tests.servers.scripted import Answer
from tests.support.discovery import WELL_KNOWN, forget_metadata
from tests.support.our_checks import our_messages
from tests.support.visitor import Visitor, answer_of_codeyard, query_of

# --- a server that connects no accounts ---------------------------------------------------------

ONLY_MACHINES = {"grant_types_supported": ["client_credentials"]}


@pytest.mark.django_db
def test_a_server_that_gives_users_no_grant_is_no_button_once_that_is_known(acme, user, scripted) -> None:
    acme(ONLY_MACHINES)
    visitor = Visitor(user)
    assert visitor.get(CONNECT).status_code == 200, "nothing is fetched for a page"
    assert scripted.requests == []
    assert visitor.post(CONNECT).status_code == 404
    assert visitor.get(CONNECT).status_code == 404
    assert CONNECT not in visitor.get(reverse("oauth_connect:connections")).content.decode()


@pytest.mark.django_db
def test_what_another_process_knows_of_a_server_is_enough(acme, user, monkeypatch, scripted) -> None:
    acme(ONLY_MACHINES)
    conf.provider("acme")
    forget_metadata(monkeypatch)
    assert Visitor(user).get(CONNECT).status_code == 404
    assert len(scripted.requests) == 1


@pytest.mark.once
def test_pages_do_not_wait_for_the_cache_again_and_again(acme, monkeypatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(caches["default"], "get", lambda key: looked.append(key))
    acme(ONLY_MACHINES)
    assert conf.connectable_provider("acme") is not None
    assert conf.connectable_provider("acme") is not None
    assert len(looked) == 1


@pytest.mark.parametrize(
    ("says", "entry", "connects"),
    [
        ({}, {}, True),
        ({"grant_types_supported": ["authorization_code"]}, {}, True),
        ({"authorization_endpoint": None}, {}, False),
        (ONLY_MACHINES, {"grant_types": ["authorization_code"]}, True),
    ],
)
def test_the_entry_overrides_what_the_server_says_of_grants(acme, says, entry, connects) -> None:
    acme(says, **entry)
    conf.provider("acme")
    assert (conf.connectable_provider("acme") is not None) is connects


# --- without network ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"client_id": ""}, r"acme\.client_id"),
        ({"issuer": "http://id.example"}, r"acme\.issuer: Use https"),
        ({"issuer": "https://id.example?x=1"}, r"acme\.issuer: cannot be discovered"),
        ({"issuer": "https://id.example#x"}, r"acme\.issuer: "),
        (
            {"issuer": "https://{tenant}.example", "variables": {"tenant": {"pattern": "[a-z]+"}}},
            r"acme\.issuer",
        ),
        ({"issuer": ""}, r"acme\.token_endpoint: missing"),
        ({"scope": ["x"]}, r"acme\.scope: unknown key"),
        ({ISS: False}, r"acme\.authorize\.without_iss_because"),
    ],
)
def test_an_entry_is_checked_as_far_as_it_goes(
    configure, no_network, in_production, entry: Any, path: str
) -> None:
    configure(PROVIDERS={"acme": {"issuer": "https://id.example", **CLIENT, **entry}})
    with pytest.raises(ImproperlyConfigured, match=path):
        conf.provider("acme")
    assert "oauth_connect.E005" in {message.id for message in our_messages()}


@pytest.mark.django_db(databases="__all__")  # since 6.1 some of Django's own ask the database
def test_check_sends_no_request(configure, no_network) -> None:
    configure(
        PROVIDERS={"acme": {"issuer": "https://id.example", "api_base_url": "https://api.example", **CLIENT}}
    )
    call_command("check", deploy=True, stdout=StringIO(), stderr=StringIO())
    assert not {one.id for one in our_messages()} & {
        f"oauth_connect.{number}" for number in ("E004", "E005", "W006", "W015")
    }


@pytest.mark.django_db
def test_pages_and_valid_tokens_send_no_request(configure, user, visitor, no_network) -> None:
    entry = {"issuer": "https://id.example", "api_base_url": "https://api.example/", **CLIENT}
    configure(PROVIDERS={"acme": entry})
    answer = {"access_token": "a", "refresh_token": "r", "token_type": "Bearer", "expires_in": 3600}
    connection = Connection.objects.store(owner=user, provider="acme", token_response=answer, account_id="1")
    assert connection.access_token() == "a"
    assert connection.session().base_url == "https://api.example/"
    assert CONNECT in visitor.get(reverse("oauth_connect:connections")).content.decode()
    assert visitor.get(CONNECT).status_code == 200


# --- failure at the moment of use ----------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(("answer", "code"), [(Answer(503), "http_503"), (Answer(404), "http_404")])
def test_a_start_that_learns_no_endpoint_gets_a_page(acme, scripted, visitor, answer, code, caplog) -> None:
    acme()
    scripted.on(WELL_KNOWN, answer)
    with caplog.at_level(logging.WARNING, logger="oauth_connect.views"):
        response = visitor.post(CONNECT)
    assert response.status_code == 502
    assert CONNECT in response.content.decode()  # try again
    assert code in caplog.text
    asked_for_json = visitor.post(CONNECT, headers={"Accept": "application/json"})
    assert (asked_for_json.status_code, asked_for_json.json()) == (502, {"error": code})


@pytest.mark.django_db(transaction=True)
def test_a_token_that_still_works_serves_while_nothing_can_be_learnt(acme, scripted, make_connection) -> None:
    acme()
    scripted.on(WELL_KNOWN, Answer(503))
    within_leeway = make_connection("acme", age=2800)
    assert within_leeway.access_token(900) == "access-0"
    expired = make_connection("acme", age=7200)
    with pytest.raises(ProviderUnavailable):
        expired.access_token()
    assert Connection.objects.get(pk=expired.pk).status == "active"


@pytest.mark.django_db(transaction=True)
def test_a_disconnected_token_is_kept_while_nothing_can_be_learnt(acme, scripted, make_connection) -> None:
    acme()
    scripted.on(WELL_KNOWN, Answer(503))
    connection = make_connection("acme")
    connection.disconnect()
    assert connection.status == "revoked"
    assert PendingRevocation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_disabled_provider_gets_no_request(acme, scripted, make_connection) -> None:
    acme(enabled=False)
    with pytest.raises(ProviderMisconfigured, match="disabled"):
        make_connection("acme", age=7200).access_token()
    assert not scripted.requests


# --- against a real server ----------------------------------------------------------------------


@pytest.fixture
def by_issuer(codeyard, configure) -> Any:
    entry = {"issuer": f"{codeyard.url}/o", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    configure(PROVIDERS={"codeyard": entry})
    return codeyard


@pytest.mark.compliance("A25")
@pytest.mark.django_db(transaction=True)
def test_codeyard_is_configured_by_its_issuer_and_refreshes(by_issuer, user) -> None:
    token = by_issuer.grant()
    connection = Connection.objects.store(
        owner=user, provider="codeyard", token_response=token, account_id="1"
    )
    connection.refresh()
    assert by_issuer.refreshes == 1
    assert connection.token.refresh_token != token["refresh_token"]
    connection.disconnect()
    assert not PendingRevocation.objects.exists()


@pytest.mark.compliance("A8")
@pytest.mark.django_db(transaction=True)
def test_an_account_is_connected_at_codeyard_by_its_issuer(by_issuer, visitor: Visitor) -> None:
    url = visitor.start("codeyard")
    assert query_of(url)["code_challenge_method"] == "S256"
    answer = answer_of_codeyard(url)
    assert answer["iss"] == f"{by_issuer.url}/o"
    assert visitor.come_back("codeyard", **answer).status_code == 302
    assert Connection.objects.get().token.refresh_token
