"""Requests in the shape that a provider wants, over real sockets."""

from __future__ import annotations

import base64
import json
import logging
from typing import Any

import pytest

from oauth_connect.errors import InvalidProvider, ProviderMisconfigured, ProviderRejected
from oauth_connect.redaction import install
from tests.protocol.calls import HELD, asked_once, exchange
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH

POST = {"token_endpoint_auth_method": "client_secret_post"}


# --- the token endpoint -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "method"), [({"method": "GET"}, "GET"), ({"body": "query"}, "POST")], ids=["GET", "POST"]
)
def test_parameters_may_be_in_the_query_after_the_endpoint_s_own(scripted, client, rules, method) -> None:
    scripted.on("/token", Answer(body=FRESH))
    exchange(client(**POST, token_request=rules, token_endpoint=f"{scripted.url}/token?v=2&x=a%20b"))
    request = asked_once(scripted, "/token")
    assert (request.method, request.body) == (method, b"")
    assert request.query == {
        "v": "2",
        "x": "a b",
        "grant_type": "authorization_code",
        "code": "the code",
        "redirect_uri": "https://app.example/cb",
        "code_verifier": "v" * 43,
        "client_id": "client",
        "client_secret": "secret",
    }


def test_secrets_in_a_query_reach_no_log_and_no_error(scripted, client, caplog) -> None:
    install()
    caplog.set_level(logging.DEBUG)
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    quirks = {"token_request": {"method": "GET"}, "client_secret": "canary-secret"}
    with pytest.raises(ProviderRejected) as raised:
        client(**POST, **quirks).refresh(HELD)
    assert asked_once(scripted, "/token").query["refresh_token"] == "canary-refresh"
    assert "GET /token?" in caplog.text  # urllib3 logs the request line
    assert "canary" not in caplog.text + str(raised.value)


@pytest.mark.parametrize(
    "rules",
    [
        {"token_parameter": "key"},
        {"token_parameter": "t"},
        {"token_parameter": "", "params": {"grant": "{token}"}},
    ],
    ids=str,
)
def test_a_secret_in_a_query_reaches_no_log_under_any_name(scripted, client, caplog, rules) -> None:
    install()
    caplog.set_level(logging.DEBUG)
    scripted.on("/revoke", Answer())
    client(revocation={"body": "query", "authentication": "none", **rules}).revoke(HELD)
    assert "canary-refresh" in asked_once(scripted, "/revoke").query.values()
    assert "POST /revoke?[masked] HTTP/1.1" in caplog.text
    assert "canary" not in caplog.text


def test_where_a_query_cannot_be_sent_the_error_names_the_host_alone(client) -> None:
    quirks = {"token_request": {"method": "GET"}, "token_endpoint": "http://127.0.0.1:1/token"}
    with pytest.raises(Exception, match=r"127\.0\.0\.1:1") as raised:
        client(**quirks).refresh(HELD)
    assert "canary" not in f"{raised.value!r} {raised.value.__cause__!r} {raised.value.__context__!r}"


def test_a_secret_may_be_the_user_of_basic(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH))
    rules = {"basic": "secret_as_username", "omit": ["redirect_uri"]}
    exchange(client(client_secret="sk_a+b/c", token_request=rules))
    request = asked_once(scripted, "/token")
    sent = base64.b64decode(request.headers["Authorization"].removeprefix("Basic ")).decode()
    assert sent == "sk_a+b/c:"
    assert request.form.keys() == {"grant_type", "code", "code_verifier"}


def test_a_device_flow_names_client_and_scopes_in_the_provider_s_words(scripted, client) -> None:
    device = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/device"}
    scripted.on("/device", Answer(body=device))
    server = client(
        device_authorization_endpoint=f"{scripted.url}/device",
        token_request={"client_id_parameter": "client_key"},
        device={"scope_parameter": "scopes"},
    )
    server.authorize_device(["a", "b"])
    assert asked_once(scripted, "/device").form == {"client_key": "client", "scopes": "a b"}


# --- refreshes ----------------------------------------------------------------------------------

GRAPH = {
    "style": "exchange_access_token",
    "method": "GET",
    "authentication": "none",
    "exchange_grant_type": "ig_refresh_token",
    "exchange_parameter": "access_token",
    "first_grant_type": "ig_exchange_token",
}
LONG = {"access_token": "long", "token_type": "bearer", "expires_in": 5184000}


def test_the_first_exchange_has_an_endpoint_a_grant_and_an_authentication_of_its_own(
    scripted, client
) -> None:
    scripted.on("/first", Answer(body=LONG))
    scripted.on("/later", Answer(body=LONG))
    rules = {**GRAPH, "endpoint": f"{scripted.url}/later", "first_endpoint": f"{scripted.url}/first"}
    server = client(**POST, refresh=rules)
    token = server.exchange_short_lived(HELD)
    server.refresh(token)
    first, later = asked_once(scripted, "/first"), asked_once(scripted, "/later")
    assert first.query == {
        "grant_type": "ig_exchange_token",
        "access_token": "canary-access",
        "client_id": "client",
        "client_secret": "secret",
    }
    assert (later.method, later.body) == ("GET", b"")
    assert later.query == {"grant_type": "ig_refresh_token", "access_token": "long"}


def test_a_refresh_may_be_authenticated_in_another_way(scripted, client) -> None:
    scripted.on("/token", Answer(body=FRESH))
    client(refresh={"authentication": "client_secret_post"}).refresh(HELD)
    request = asked_once(scripted, "/token")
    assert "Authorization" not in request.headers
    assert request.form["client_secret"] == "secret"


# --- the account --------------------------------------------------------------------------------


def test_a_graphql_query_asks_for_the_account(scripted, client) -> None:
    query = "{ viewer { id } }"
    scripted.on("/userinfo", Answer(body={"data": {"viewer": {"id": "7"}}}))
    server = client(identity={"method": "POST", "json": {"query": query}, "id": ["data.viewer.id"]})
    assert server.userinfo(HELD) == {"data": {"viewer": {"id": "7"}}}
    request = asked_once(scripted, "/userinfo")
    assert (request.method, json.loads(request.body)) == ("POST", {"query": query})
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Authorization"] == "Bearer canary-access"


@pytest.mark.parametrize(("scheme", "header"), [("OAuth", "OAuth canary-access"), ("", "canary-access")])
def test_the_account_s_endpoint_may_want_another_scheme(scripted, client, scheme, header) -> None:
    scripted.on("/userinfo", Answer(body={"id": "7"}))
    client(identity={"scheme": scheme}).userinfo(HELD)
    assert asked_once(scripted, "/userinfo").headers["Authorization"] == header


@pytest.mark.parametrize("body", ["form", "json"])
def test_introspection_is_a_form_with_the_client_s_authentication(scripted, client, body) -> None:
    scripted.on("/introspect", Answer(body={"active": True, "hub_id": 7}))
    server = client(
        introspection_endpoint=f"{scripted.url}/introspect", token_request={"body": body, "method": "GET"}
    )
    assert server.introspect(HELD) == {"active": True, "hub_id": 7}
    request = asked_once(scripted, "/introspect")
    assert request.method == "POST"
    assert request.headers["Authorization"].startswith("Basic ")
    assert request.form == {"token": "canary-access", "token_type_hint": "access_token"}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(body={"active": False}),
        Answer(body={"active": "false", "hub_id": 7}),
        Answer(body={"active": None, "hub_id": 7}),
        Answer(body={"error": "invalid_token"}),
        Answer(body=[{"hub_id": 7}]),
        Answer(body=b"<p>"),
        Answer(404, {"hub_id": 7}),
    ],
    ids=str,
)
def test_a_token_that_is_not_active_is_refused(scripted, client, answer) -> None:
    scripted.on("/introspect", answer)
    with pytest.raises(ProviderRejected, match="introspection_endpoint") as raised:
        client(introspection_endpoint=f"{scripted.url}/introspect").introspect(HELD)
    assert raised.value.endpoint == "introspection_endpoint"


# --- revocation ---------------------------------------------------------------------------------


def revoked(scripted: Any, client: Any, **rules: Any) -> Any:
    scripted.on("/revoke", Answer())
    server = client(**POST, revocation=rules)
    server.move_to(server.provider.resolve({}))
    assert server.revoke(HELD) is True
    return asked_once(scripted, "/revoke")


def test_a_revocation_may_have_parameters_of_its_own(scripted, client) -> None:
    rules = {"authentication": "none", "params": {"client_id": "{client_id}", "all": "1"}}
    assert revoked(scripted, client, **rules, token="access_token").form == {
        "token": "canary-access",
        "token_type_hint": "access_token",
        "client_id": "client",
        "all": "1",
    }


def test_a_revocation_may_have_its_token_in_the_query(scripted, client) -> None:
    request = revoked(scripted, client, body="query", authentication="none")
    assert (request.method, request.body, request.query) == ("POST", b"", {"token": "canary-refresh"})


def test_a_bearer_s_revocation_may_repeat_the_token(scripted, client) -> None:
    request = revoked(scripted, client, style="bearer", params={"token": "{token}"})
    assert request.form == {"token": "canary-access"}
    assert request.headers["Authorization"] == "Bearer canary-access"


def test_a_bearer_s_revocation_has_no_body_by_default(scripted, client) -> None:
    assert revoked(scripted, client, style="bearer").body == b""


def test_the_secret_may_have_a_scheme_in_the_header(scripted, client) -> None:
    request = revoked(
        scripted,
        client,
        body="json",
        authentication="client_secret_header",
        secret_scheme="Client",
        token_parameter="access_token",
        token="access_token",
        params={"client_id": "{client_id}"},
    )
    assert request.headers["Authorization"] == "Client secret"
    assert json.loads(request.body) == {"client_id": "client", "access_token": "canary-access"}


@pytest.mark.parametrize(
    "rules",
    [
        {"api": {"scheme": "A\nB"}},
        {"identity": {"scheme": "A\nB"}},
        {"revocation": {"secret_scheme": "A\nB"}},
    ],
    ids=str,
)
def test_a_scheme_that_no_header_can_have_is_refused_before_a_secret_follows_it(client, rules) -> None:
    with pytest.raises(InvalidProvider, match="scheme: must not contain unprintable characters"):
        client(**rules)


def test_a_secret_that_no_header_can_have_is_not_sent(scripted, client) -> None:
    server = client(client_secret="a\nb", revocation={"authentication": "client_secret_header"})
    with pytest.raises(ProviderMisconfigured) as raised:
        server.revoke(HELD)
    assert raised.value.error == "unsendable"
    assert scripted.requests == []


def test_a_revocation_may_name_the_account_and_no_token(scripted, client) -> None:
    scripted.on("/revoke", Answer())
    variable = {"source": "token_response", "pattern": "acct_[0-9]+"}
    rules = {
        "authentication": "client_secret_header",
        "token_parameter": "",
        "params": {"client_id": "{client_id}", "user": "{user}"},
    }
    server = client(variables={"user": variable}, revocation=rules)
    server.move_to(server.provider.resolve({"user": "acct_7"}))
    server.revoke(HELD)
    request = asked_once(scripted, "/revoke")
    assert request.form == {"client_id": "client", "user": "acct_7"}
    assert request.headers["Authorization"] == "Bearer secret"
