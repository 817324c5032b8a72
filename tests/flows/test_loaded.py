"""An entry of PROVIDER_LOADER may hold a user's text. It reaches no internal server, log line or pattern."""

from __future__ import annotations

import logging
import socket
from typing import Any

import httpx
import httpx2
import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import conf
from oauth_connect.contrib.httpx import ConnectionAuth, aclient, client
from oauth_connect.errors import ForbiddenDestination, ProviderMisconfigured
from oauth_connect.flows import machine_access_token
from oauth_connect.models import Connection
from oauth_connect.protocol.net import addresses
from oauth_connect.protocol.quirks import Refresh, Variable
from tests.contrib.test_httpx import run
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED
from tests.support.visitor import Visitor, callback_path, query_of, state_of

pytestmark = [pytest.mark.django_db, pytest.mark.compliance("A26", "D51")]
REFUSED = {"forbidden_address"}


@pytest.fixture
def loaded(scripted, scripted_entry, configure):
    """Let PROVIDER_LOADER return an entry, and answer any request to its endpoints."""

    def load(**changes: Any) -> dict[str, Any]:
        entry = {**scripted_entry, **changes}
        configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry if owner else None)
        return entry

    for path in ("/token", "/userinfo", "/revoke", "/device", "/refresh", "/list", "/api/x"):
        scripted.on(path, Answer(body={"access_token": "a", "token_type": "Bearer", "sub": "1"}))
    return load


# --- addresses ----------------------------------------------------------------------------------


def test_the_token_endpoint_is_not_reached_by_a_flow(loaded, scripted, visitor):
    loaded()

    assert visitor.connect().status_code == 502
    assert scripted.requests == []


@pytest.mark.parametrize("name", ["access_token", "refresh", "disconnect"])
def test_no_endpoint_is_reached_for_a_stored_token(
    name, loaded, scripted, scripted_provider, make_connection
):
    connection = make_connection(age=EXPIRED)
    loaded(refresh={"endpoint": f"{scripted.url}/refresh"})

    if name == "disconnect":
        connection.disconnect()
    else:
        with pytest.raises(ProviderMisconfigured, match="not a public address"):
            getattr(connection, name)()
    assert scripted.requests == []


def test_a_machine_token_is_not_requested(loaded, scripted):
    loaded()
    with pytest.raises(ProviderMisconfigured, match="not a public address"):
        machine_access_token("scripted")
    assert scripted.requests == []


def test_a_session_does_not_reach_the_api(loaded, scripted, scripted_provider, make_connection):
    connection = make_connection()
    loaded()
    with pytest.raises(ForbiddenDestination, match="not a public address"):
        connection.session().get("x")
    assert scripted.requests == []


@pytest.fixture
def named(loaded, scripted, scripted_provider, make_connection, monkeypatch, request):
    """Return a connection to a loaded API, by a name that resolves to this machine: allowed or not."""
    connection = make_connection()
    is_public = addresses.is_public
    allowed = {"127.0.0.1": request.param}
    monkeypatch.setattr(
        addresses, "is_public", lambda address: allowed[address] if address in allowed else is_public(address)
    )
    loaded(api_base_url=f"http://id.localtest:{scripted.port}/api/")
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        return real("127.0.0.1" if host == "id.localtest" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    # http is for loopback addresses. The test's server has no certificate for the name.
    monkeypatch.setattr("oauth_connect.protocol.net.destination.is_loopback", lambda host: True)
    return connection


def by_requests(connection: Connection) -> int:
    return int(connection.session().get("x").status_code)


def by_httpx(connection: Connection) -> int:
    with client(connection) as http:
        return int(http.get("x").status_code)


def by_httpx2(connection: Connection) -> int:
    with client(connection, client_class=httpx2.Client) as http:
        return int(http.get("x").status_code)


def by_async_httpx(connection: Connection) -> int:
    async def call() -> int:
        async with await aclient(connection) as http:
            return int((await http.get("x")).status_code)

    return int(run(call()))


def by_own_client(connection: Connection) -> int:
    with httpx.Client(auth=ConnectionAuth(connection)) as http:
        return int(http.get(f"{connection.get_provider().api_base_url}x").status_code)


CALLS = pytest.mark.parametrize("call", [by_requests, by_httpx, by_httpx2, by_async_httpx, by_own_client])


@CALLS
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("named", [False], indirect=True)
def test_a_name_that_resolves_to_a_private_address_gets_no_call(named, call, scripted):
    with pytest.raises(ForbiddenDestination, match="not a public address"):
        call(named)
    assert scripted.requests == []


@CALLS
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("named", [True], indirect=True)
def test_a_name_that_resolves_to_a_public_address_is_called_by_its_name(named, call, scripted):
    assert call(named) == 200
    [asked] = scripted.asked("/api/x")
    assert asked.headers["Host"] == f"id.localtest:{scripted.port}"
    assert asked.headers["Authorization"] == "Bearer access-0"


@pytest.mark.parametrize("call", [by_requests, by_httpx, by_httpx2])
@pytest.mark.parametrize("named", [True], indirect=True)
def test_a_redirect_does_not_lead_to_a_private_address(named, call, scripted, monkeypatch):
    scripted.on("/api/x", Answer(302, headers={"Location": f"http://127.0.0.2:{scripted.port}/internal"}))

    if call is by_requests:
        with pytest.raises(ForbiddenDestination):
            call(named)
    else:
        class_ = httpx.Client if call is by_httpx else httpx2.Client
        http = client(named, client_class=class_, follow_redirects=True)
        with http, pytest.raises(ForbiddenDestination):
            http.get("x")
    assert [one.path for one in scripted.requests] == ["/api/x"]


def test_the_settings_may_allow_a_private_host(loaded, visitor, configure):
    loaded()
    configure(DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])

    assert visitor.connect().status_code == 302
    assert Connection.objects.get().session().get("x").status_code == 200


def test_the_settings_own_endpoints_are_not_guarded(scripted_provider, visitor, issues):
    assert visitor.connect().status_code == 302


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "changes"),
    [
        ("issuer", {"issuer": "https://id.example/\r\nERROR forged"}),
        ("name", {"name": "Acme\nERROR forged"}),
        ("client_id", {"client_id": "a\x00b"}),
        ("token_endpoint", {"token_endpoint": "https://id.example/\u2028token"}),
        ("api.headers.X-Key", {"api": {"headers": {"X-Key": "a\r\nHost: internal"}}}),
        ("api.headers", {"api": {"headers": {"X-Key\r\nHost": "internal"}}}),
        (r"scopes\[1\]", {"scopes": ["a", "b\n"]}),
    ],
)
def test_no_text_forges_a_line_of_a_log_or_a_header(path, changes, loaded, visitor, caplog):
    loaded(**changes)
    caplog.set_level(logging.DEBUG)

    with pytest.raises(ImproperlyConfigured, match=rf"scripted\.{path}: must not contain unprintable"):
        conf.provider("scripted", "user:1")
    assert visitor.post("/oauth/scripted/connect/").status_code == 404
    assert caplog.records
    assert all(record.getMessage().isprintable() for record in caplog.records)


@pytest.mark.parametrize(
    "variables",
    [
        {"t": {"source": "user", "pattern": "(a+)+"}},
        {"shop": {"pattern": "(a+)+"}},
        {"shop": {"pattern": ".*"}},
    ],
)
def test_a_regular_expression_comes_from_the_settings_or_a_preset(variables, loaded, configure):
    loaded(preset="shopify", variables=variables)
    with pytest.raises(ImproperlyConfigured, match=r"variables\.\w+\.pattern: not allowed in an entry"):
        conf.provider("scripted", "user:1")


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://id.example", "refresh": Refresh(endpoint="https://evil.example/token")},
        {"variables": {"t": Variable(source="user", pattern="(a+)+")}},
    ],
)
def test_an_entry_is_plain_data(changes, loaded):
    """Its checks would not see what another object says."""
    loaded(**changes)
    with pytest.raises(ImproperlyConfigured, match="expected plain data"):
        conf.provider("scripted", "user:1")


def test_an_environment_brings_no_regular_expression_either(loaded):
    own = {"x": {"variables": {"shop": {"pattern": "(a+)+"}}}}
    loaded(preset="shopify", environment="x", environments=own)
    with pytest.raises(ImproperlyConfigured, match=r"variables\.shop\.pattern"):
        conf.provider("scripted", "user:1")


def test_values_choices_and_the_presets_own_patterns_are_allowed(configure):
    shop = {"preset": "shopify", "client_id": "c", "client_secret": "s", "variables": {"shop": "acme"}}
    chosen = {**shop, "variables": {"shop": "acme", "region": {"source": "user", "choices": ["eu", "us"]}}}
    for entry in (shop, chosen):
        configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner, entry=entry: entry)
        provider = conf.provider("acme", "user:1").resolve({"region": "eu"})
        assert provider.token_endpoint == "https://acme.myshopify.com/admin/oauth/access_token"


@pytest.mark.parametrize("key", ["addresses", "from_loader", "guard", "api_guard"])
def test_an_entry_has_no_say_in_its_guard(key, loaded):
    loaded(**{key: False})
    with pytest.raises(ImproperlyConfigured, match=rf"scripted\.{key}: unknown key"):
        conf.provider("scripted", "user:1")


@pytest.mark.parametrize("entry", [5, [], "x", {"client_id": 5}, {"client_id": "x"}, {"scopes": "a"}])
def test_an_entry_that_cannot_be_used_is_not_found_and_logged(entry, configure, visitor, caplog):
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry)

    assert visitor.get("/oauth/scripted/connect/").status_code == 404
    assert visitor.post("/oauth/scripted/connect/").status_code == 404
    assert {getattr(record, "action", None) for record in caplog.records} >= {"provider_invalid"}


# --- the callback -------------------------------------------------------------------------------


def test_a_posted_answer_ends_a_flow_of_a_provider_that_only_its_owner_knows(loaded, visitor, configure):
    """The browser posts without the session's cookie. The loader knows nobody's provider."""
    loaded(authorize={"response_mode": "form_post"})
    configure(DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
    answer = {"state": state_of(visitor.start()), "code": "c"}

    posted = Visitor().post(callback_path("scripted"), answer)

    assert posted.status_code == 303
    assert query_of(posted["Location"]) == answer
    assert visitor.get(posted["Location"]).status_code == 302
    assert Connection.objects.count() == 1


def test_who_is_signed_out_at_the_callback_gets_a_page_with_its_headers(loaded, visitor):
    loaded()
    answer = {"state": state_of(visitor.start()), "code": "c"}
    visitor.client.logout()

    page = visitor.come_back(**answer)

    assert page.status_code == 400
    assert b'href="/oauth/scripted/connect/"' in page.content
    assert page["Referrer-Policy"] == "strict-origin"
    assert "no-store" in page["Cache-Control"]


def test_a_provider_that_is_withdrawn_during_a_flow_is_a_page(loaded, visitor, configure, scripted):
    for changes in ({"PROVIDER_LOADER": None}, {"PROVIDER_LOADER": lambda slug, owner: {"name": "a\nb"}}):
        loaded()
        state = state_of(visitor.start())
        configure(**changes)
        page = visitor.come_back(state=state, code="c")
        assert page.status_code == 400
        assert b"settings of the provider have changed" in page.content
    assert scripted.requests == []


# --- a user's word in an entry of the settings --------------------------------------------------


@pytest.fixture
def chosen(scripted_entry, configure):
    """An entry of the settings in which the user chooses a host."""

    def change(field: str, source: str = "user", pattern: str = "[a-z0-9.:]+", **changes: Any) -> None:
        url = {"accounts": {"endpoint": "https://{host}/", "variable": "host"}}.get(field, "https://{host}/")
        entry = {**scripted_entry, field: url, "variables": {"host": {"source": source, "pattern": pattern}}}
        configure(PROVIDERS={"scripted": {**entry, **changes}})

    return change


FIELDS = ["token_endpoint", "userinfo_endpoint", "revocation_endpoint", "api_base_url"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_host_that_a_user_chooses_is_guarded(field, chosen):
    chosen(field)
    provider = conf.provider("scripted").resolve({"host": "10.0.0.1"})
    assert provider.guard is not None
    assert provider.api_guard is not None
    assert not provider.api_guard.permits("10.0.0.1", "10.0.0.1")


def test_no_internal_server_is_reached_by_the_name_that_a_user_typed(
    chosen, scripted, visitor, make_connection, caplog
):
    data = {"host": f"127.0.0.1:{scripted.port}"}
    chosen("token_endpoint", revocation_endpoint="", api_base_url="")
    page = visitor.come_back(state=state_of(visitor.start(data=data)), code="c")
    assert page.status_code == 502
    assert "forbidden_address" in caplog.text
    chosen("api_base_url", revocation_endpoint="", token_endpoint="https://id.example/")
    connection = make_connection(variables=data)
    with pytest.raises(ForbiddenDestination, match="not a public address"):
        connection.session().get("x")
    assert scripted.requests == []


@pytest.mark.parametrize("source", ["token_response", "identity"])
def test_a_host_that_a_response_chooses_is_guarded(source, chosen):
    chosen("api_base_url", source=source, userinfo_endpoint="https://id.example/me")
    assert conf.provider("scripted").resolve({"host": "10.0.0.1"}).api_guard is not None


@pytest.mark.parametrize("pattern", [r"(?:[a-z]+\.)+acme\.example", r"a\.acme\.example|b\.acme\.example"])
def test_a_host_within_a_fixed_domain_needs_no_guard(pattern, chosen):
    chosen("api_base_url", pattern=pattern)
    assert conf.provider("scripted").api_guard is None


@pytest.mark.parametrize("field", ["authorization_endpoint", "issuer"])
def test_a_host_to_which_no_request_goes_needs_no_guard(field, chosen):
    chosen(field)
    assert conf.provider("scripted").guard is None


def test_the_hosts_that_the_settings_name_are_still_allowed(chosen):
    chosen("userinfo_endpoint")
    guard = conf.provider("scripted").guard
    assert guard.permits("127.0.0.1", "127.0.0.1")
    assert not guard.permits("127.0.0.2", "127.0.0.2")


def test_a_host_that_the_settings_choose_needs_no_guard(chosen):
    chosen("api_base_url", source="config")
    assert conf.provider("scripted").api_guard is None


def test_a_private_host_that_users_may_choose_is_named_in_the_settings(chosen, configure):
    chosen("api_base_url")
    assert not conf.provider("scripted").api_guard.permits("git.corp", "10.0.0.1")
    configure(DISCOVERY_PRIVATE_HOSTS=["git.corp"])
    assert conf.provider("scripted").api_guard.permits("git.corp", "10.0.0.1")
