"""Tenants, shops and instances: asked for, taken from the provider's answers, and never trusted."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from oauth_connect import flows
from oauth_connect.conf import conf
from oauth_connect.contrib.httpx import client
from oauth_connect.errors import ForbiddenDestination, InvalidProvider, ProviderMisconfigured
from oauth_connect.flows.completion import initial_values
from oauth_connect.flows.pending import SESSION_KEY
from oauth_connect.flows.terminal import BrowserLogin, DeviceLogin, UserConnectionTarget
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED
from tests.support.visitor import callback_path, query_of, state_of
from tests.support.waiting import TIMEOUT

pytestmark = pytest.mark.django_db

CONNECT = callback_path("scripted").replace("callback", "connect")
HOSTS = "(?:https://)?((?:[a-z0-9-]+\\.)+mills\\.example)"


@pytest.fixture
def shops(scripted_entry, configure, issues):
    """A provider with a shop for each user, which the callback repeats."""

    def change(**changes: Any) -> None:
        entry = {
            **scripted_entry,
            "api_hosts": ["{shop}.mills.example"],
            "variables": {
                "shop": {
                    "source": "user",
                    "label": "Your shop",
                    "pattern": "([a-z0-9-]+)(?:\\.mills\\.example)?",
                    "field": "shop",
                }
            },
            **changes,
        }
        configure(PROVIDERS={"scripted": entry})

    change()
    return change


def test_the_page_asks_for_the_shop(visitor, shops):
    page = visitor.get(CONNECT, {"shop": "acme"}).content.decode()
    assert "Your shop" in page
    assert 'name="shop" value="acme"' in page


@pytest.mark.parametrize("given", ["", "evil.example/", "a.b", "mills.example@evil.example", "ä"])
def test_a_shop_that_does_not_fit_is_refused_with_its_path(given, visitor, shops, scripted):
    told = visitor.post(CONNECT, {"shop": given}, headers={"accept": "application/json"})
    page = visitor.post(CONNECT, {"shop": given, "next": "/back/"})

    assert told.status_code == page.status_code == 400
    assert list(told.json()["errors"]) == ["scripted.variables.shop"]
    assert 'value="/back/"' in page.content.decode()
    assert SESSION_KEY not in visitor.session
    assert not Connection.objects.exists()
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, r"^scripted\.variables\.shop: missing"),
        ({"shop": "a/b"}, r"^scripted\.variables\.shop: the value"),
        ({"shop": "acme", "tenant": "x"}, r"^scripted\.variables\.tenant: "),
    ],
)
def test_a_flow_does_not_begin_without_its_variables(variables, told, visitor, user, shops):
    request = visitor.request()
    request.user = user
    with pytest.raises(InvalidProvider, match=told):
        flows.begin(request, "scripted", variables=variables)
    assert SESSION_KEY not in request.session


def test_the_shop_is_kept_with_the_connection(visitor, shops):
    state = state_of(visitor.start(data={"shop": "acme.mills.example"}))
    visitor.come_back(state=state, code="code", shop="acme.mills.example")

    connection = Connection.objects.get()
    assert connection.variables == {"shop": "acme"}
    assert connection.get_provider().api_hosts == ("acme.mills.example",)


@pytest.mark.parametrize("shop", ["other.mills.example", "acme.mills.example.evil.example", "", None])
def test_a_callback_of_another_shop_is_refused(shop, visitor, shops, scripted):
    state = state_of(visitor.start(data={"shop": "acme"}))
    query = {"state": state, "code": "code", **({} if shop is None else {"shop": shop})}
    response = visitor.come_back(**query)

    assert response.status_code == 400
    assert response.context["code"] in ("variable_mismatch", "variable_refused")
    assert not Connection.objects.exists()
    assert scripted.requests == []


def test_a_reconnect_asks_for_no_shop_again(visitor, shops, make_connection):
    connection = make_connection(account_id="", variables={"shop": "acme"})
    state = state_of(visitor.start(connection=connection.pk))
    visitor.come_back(state=state, code="code", shop="acme.mills.example")
    assert Connection.objects.get().variables == {"shop": "acme"}


def test_a_site_may_say_the_shop_itself(visitor, shops):
    shops(variables={"shop": {"pattern": "[a-z]+", "default": "acme"}})
    assert '<input type="text"' not in visitor.get(CONNECT).content.decode()
    visitor.connect()
    assert Connection.objects.get().get_provider().api_hosts == ("acme.mills.example",)


TYPED = [
    "acme",
    " acme ",
    "ACME",
    "Acme.mills.example",
    "https://acme.mills.example/",
    "HTTPS://ACME",
    "https://acme.mills.example/admin/orders?page=2#top",
    "acme.mills.example/admin",
    "http://ACME.mills.example:80",
    "https://acme.mills.example:443/",
    "acme.mills.example.",
    "acme.mills.example?x",
]


@pytest.mark.parametrize("typed", TYPED)
def test_a_shop_may_be_written_as_a_browser_shows_it(typed, visitor, user, shops):
    visitor.start(data={"shop": typed})
    request = visitor.request()
    request.user = user
    flows.begin(request, "scripted", variables={"shop": typed})
    assert initial_values(conf.provider("scripted"), {"shop": typed}, None) == {"shop": "acme"}


@pytest.mark.parametrize(
    "typed",
    [
        "acme/evil.example",
        "https://evil.example/acme",
        "https://user:word@acme.mills.example",
        "acme?x" * 400,
    ],
)
def test_nothing_of_a_name_is_dropped_to_make_it_fit(typed, shops):
    with pytest.raises(InvalidProvider, match=r"^scripted\.variables\.shop: "):
        initial_values(conf.provider("scripted"), {"shop": typed}, None)


@pytest.mark.parametrize(
    "typed", ["Git.Mills.example", "https://git.mills.example/group/project", "git.mills.example"]
)
def test_a_host_is_one_value_however_it_is_written(typed, shops):
    host = {"source": "user", "pattern": "[A-Za-z0-9.-]+", "lowercase": True}
    shops(variables={"shop": host})
    assert initial_values(conf.provider("scripted"), {"shop": typed}, None) == {"shop": "git.mills.example"}


# --- a signed callback --------------------------------------------------------------------------


def signed(query: dict[str, str], secret: str = "secret") -> dict[str, str]:
    message = "&".join(f"{name}={value}" for name, value in sorted(query.items()))
    return {**query, "hmac": hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()}


@pytest.mark.parametrize("secret", ["secret", "older"])
def test_an_answer_signed_with_any_valid_secret_is_taken(secret, visitor, shops):
    shops(callback={"verify": "hmac_sha256_query"}, client_secret=["secret", "older"])
    state = state_of(visitor.start(data={"shop": "acme"}))
    query = signed({"state": state, "code": "code", "shop": "acme.mills.example", "timestamp": "1"}, secret)
    assert visitor.come_back(**query).status_code == 302


@pytest.mark.parametrize(
    "spoil",
    [
        lambda query: {**query, "hmac": "0" * 64},
        lambda query: {**query, "hmac": "ä"},
        lambda query: {**query, "hmac": [query["hmac"], query["hmac"]]},
        lambda query: {**query, "code": "other"},
        lambda query: {**query, "added": "x"},
        lambda query: {name: value for name, value in query.items() if name != "hmac"},
    ],
)
def test_an_answer_that_is_not_signed_is_refused(spoil, visitor, shops, scripted):
    shops(callback={"verify": "hmac_sha256_query"})
    state = state_of(visitor.start(data={"shop": "acme"}))
    response = visitor.come_back(**spoil(signed({"state": state, "code": "code", "shop": "acme"})))
    assert (response.status_code, response.context["code"]) == (400, "signature_invalid")
    assert scripted.requests == []


# --- what the provider's answers say ------------------------------------------------------------


COMPANY = {"company": {"source": "callback", "field": "companyId", "pattern": "[0-9]{4}"}}


def test_the_callback_names_the_company(visitor, shops):
    shops(variables=COMPANY, identity={"source": "callback", "id": ["companyId"]}, api_hosts=["a.example"])
    visitor.come_back(state=state_of(visitor.start()), code="code", companyId="1234")
    connection = Connection.objects.get()
    assert (connection.account_id, connection.variables) == ("1234", {"company": "1234"})


@pytest.mark.parametrize("company", ["", "12345", "1/../"])
def test_a_company_that_does_not_fit_is_refused(company, visitor, shops, scripted):
    shops(variables=COMPANY, identity={"source": "callback", "id": ["companyId"]}, api_hosts=["a.example"])
    response = visitor.come_back(state=state_of(visitor.start()), code="code", companyId=company)
    assert (response.status_code, response.context["code"]) == (400, "variable_refused")
    assert scripted.requests == []


@pytest.fixture
def instances(shops):
    """A provider whose API stands where the token answer says."""
    variables = {"instance": {"source": "token_response", "field": "instance_url", "pattern": HOSTS}}
    shops(variables=variables, api_hosts=[], api_base_url="https://{instance}/api/")


def test_the_token_answer_names_the_host_of_the_api(visitor, instances, issues):
    issues(instance_url="https://acme.mills.example")
    visitor.connect()
    connection = Connection.objects.get()
    assert connection.variables == {"instance": "acme.mills.example"}
    assert connection.get_provider().token_hosts() == {("acme.mills.example", 443)}


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example",
        "https://acme.mills.example.evil.example",
        "http://acme.mills.example",
        "https://acme.mills.example@evil.example",
        "https://acme.mills.example:8443",
        "https://169.254.169.254",
        "",
        None,
        5,
    ],
)
def test_an_instance_outside_of_the_allowed_hosts_is_refused(url, visitor, instances, issues, scripted):
    issues(instance_url=url)
    scripted.on("/revoke", Answer(200))

    response = visitor.connect()

    assert (response.status_code, response.context["code"]) == (400, "variable_refused")
    assert not Connection.objects.exists()
    assert [request.path for request in scripted.requests] == ["/token", "/revoke"]


def test_a_refresh_follows_the_instance_and_refuses_a_foreign_one(visitor, instances, issues, caplog):
    issues(instance_url="https://acme.mills.example")
    visitor.connect()
    connection = Connection.objects.get()

    issues(access_token="second", instance_url="https://acme2.mills.example")
    connection.refresh()
    assert Connection.objects.get().variables == {"instance": "acme2.mills.example"}

    issues(access_token="third", instance_url="https://evil.example")
    connection.refresh()
    assert Connection.objects.get().variables == {"instance": "acme2.mills.example"}
    assert "scripted.variables.instance" in caplog.text


@pytest.fixture
def moved(scripted, scripted_entry, configure, make_connection):
    """Two instances of one row: another process has connected it again elsewhere, and the first is stale."""
    place = {"source": "callback", "field": "location", "pattern": "[a-z]+"}
    entry = {**scripted_entry, "api_base_url": f"{scripted.url}/{{place}}/", "variables": {"place": place}}
    configure(PROVIDERS={"scripted": entry})
    scripted.on("/eu/me", Answer(401))
    scripted.on("/com/me", Answer(200))
    stale = make_connection(account_id="1", variables={"place": "eu"})
    make_connection(
        account_id="1",
        variables={"place": "com"},
        response={"access_token": "access-1", "refresh_token": "refresh-1", "token_type": "Bearer"},
    )
    return stale


def test_an_adopted_token_is_sent_where_it_belongs(moved, scripted):
    assert moved.session().get("me").status_code == 200
    assert scripted.asked("/com/me")[0].headers["Authorization"] == "Bearer access-1"
    assert scripted.asked("/token") == []


def test_a_stale_instance_does_not_set_the_variables_back(moved, scripted, issues):
    issues(access_token="second")
    moved.refresh()
    assert Connection.objects.get().variables == moved.variables == {"place": "com"}


def test_a_stale_instance_refreshes_at_the_server_of_the_row(
    scripted, scripted_entry, configure, make_connection
):
    place = {"source": "callback", "field": "location", "pattern": "[a-z]+"}
    entry = {
        **scripted_entry,
        "token_endpoint": f"{scripted.url}/{{place}}/token",
        "variables": {"place": place},
    }
    configure(PROVIDERS={"scripted": entry})
    scripted.on("/com/token", Answer(body={"access_token": "access-2", "token_type": "Bearer"}))
    stale = make_connection(account_id="1", variables={"place": "eu"}, age=EXPIRED)
    response = {
        "access_token": "access-1",
        "refresh_token": "of com",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
    make_connection(account_id="1", variables={"place": "com"}, response=response, age=EXPIRED)
    assert stale.access_token() == "access-2"
    assert [request.form["refresh_token"] for request in scripted.asked("/com/token")] == ["of com"]
    assert scripted.asked("/eu/token") == []


def test_without_its_instance_a_connection_reaches_nothing(make_connection, instances):
    connection = make_connection()
    with connection.session() as http, pytest.raises(ForbiddenDestination):
        http.get("orders")


SITES = [{"id": "s-1", "name": "one"}, {"id": "s-2", "name": "two", "url": "https://two.example"}]


@pytest.mark.parametrize(
    ("choose", "found", "site"),
    [
        ("", SITES, ""),
        ("", SITES[:1], "s-1"),
        ("two", SITES, "s-2"),
        ("https://two.example", SITES, "s-2"),
        ("", [], None),
    ],
)
def test_one_of_the_sites_that_a_token_reaches(choose, found, site, visitor, shops, scripted):
    scripted.on("/sites", Answer(body=found))
    variables = {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}}
    accounts = {"endpoint": f"{scripted.url}/sites", "variable": "site", "choose": choose}
    shops(variables=variables, accounts=accounts, api_hosts=["a.example"])
    assert visitor.connect().status_code == 302
    assert Connection.objects.get().variables.get("site") == site


def test_sites_and_their_ids_may_be_in_lists(visitor, shops, scripted):
    found = [{"sites": [{"ids": ["s-1"], "names": ["one"]}, {"ids": ["s-2"], "names": ["two"]}]}]
    scripted.on("/sites", Answer(body=found))
    rules = {"path": ["0", "sites"], "id": "ids.0", "match": ["names.0"], "choose": "two"}
    shops(
        variables={"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}},
        accounts={"endpoint": f"{scripted.url}/sites", "variable": "site", **rules},
        api_hosts=["a.example"],
    )
    visitor.connect()
    assert Connection.objects.get().variables == {"site": "s-2"}


def test_an_instance_may_be_in_a_list_of_the_token_response(visitor, shops, issues, make_connection):
    field = {"source": "token_response", "pattern": HOSTS, "field": "api.1.url"}
    shops(variables={"instance": field}, api_hosts=["{instance}"])
    issues(api=[{}, {"url": "https://acme.mills.example"}])
    visitor.connect()
    assert Connection.objects.get().variables == {"instance": "acme.mills.example"}
    issues(access_token="second", api=[{}, {"url": "https://acme2.mills.example"}])
    Connection.objects.get().refresh()
    assert Connection.objects.get().variables == {"instance": "acme2.mills.example"}


BASES = [
    {"id": "1", "base": "https://one.mills.example", "is_default": "false"},
    {"id": "2", "base": "https://two.mills.example", "is_default": True},
    {"id": "3", "base": "https://three.mills.example", "is_default": True},
]


@pytest.fixture
def bases(shops, scripted):
    """A provider whose second request names an account and the host of its API."""

    def change(found: Any, **rules: Any) -> None:
        scripted.on("/bases", Answer(body=found))
        whole = {"endpoint": f"{scripted.url}/bases", "variable": "account", "variables": {"base": "base"}}
        variables = {
            "account": {"source": "accounts", "pattern": "[0-9]+"},
            "base": {"source": "accounts", "pattern": HOSTS},
        }
        shops(variables=variables, accounts={**whole, **rules}, api_hosts=["{base}"])

    return change


@pytest.mark.parametrize(
    ("rules", "first"), [({}, "1"), ({"preferred": "is_default"}, "2"), ({"preferred": "absent"}, "1")]
)
def test_the_preferred_account_of_several_is_listed_first(rules, first, visitor, bases):
    bases(BASES, **rules)
    page = visitor.get(visitor.connect()["Location"])
    assert page.context["sites"][0].id == first


def test_an_account_of_several_names_several_variables(visitor, bases):
    bases(BASES, preferred="is_default", choose="3")
    visitor.connect()
    assert Connection.objects.get().variables == {"account": "3", "base": "three.mills.example"}


@pytest.mark.parametrize(
    ("entry", "named"),
    [({"id": "1"}, "scripted.accounts.variables.base"), ({"id": "1", "base": "evil.example"}, "base")],
)
def test_an_account_without_a_usable_value_connects_nothing(entry, named, visitor, bases, scripted, caplog):
    bases([entry])
    assert visitor.connect().status_code == 400
    assert not Connection.objects.exists()
    assert named in caplog.text
    assert len(scripted.asked("/revoke")) == 1


DC = {"dc": {"source": "identity", "pattern": "[a-z]+[0-9]*", "field": "login.dc"}}


@pytest.fixture
def data_centres(shops, scripted):
    """A provider whose account's document names the host of the API."""

    def change(document: Any, **changes: Any) -> None:
        scripted.on("/metadata", Answer(body=document))
        scripted.on("/introspect", Answer(body=document))
        whole = {
            "userinfo_endpoint": f"{scripted.url}/metadata",
            "introspection_endpoint": f"{scripted.url}/introspect",
            "identity": {"id": ["id"], "scheme": "OAuth"},
            "variables": DC,
            "api_hosts": ["{dc}.mills.example"],
        }
        shops(**{**whole, **changes})

    return change


@pytest.mark.parametrize("source", ["userinfo", "introspection"])
def test_the_account_s_document_names_the_host_of_the_api(source, visitor, data_centres):
    data_centres({"id": 7, "login": {"dc": "us6"}}, identity={"id": ["id"], "source": source})
    visitor.connect()
    connection = Connection.objects.get()
    assert (connection.account_id, connection.variables) == ("7", {"dc": "us6"})
    assert connection.get_provider().token_hosts() == {("us6.mills.example", None)}


def test_the_account_s_document_may_decide_the_second_request(visitor, data_centres, scripted):
    scripted.on("/us6/sites", Answer(body=SITES[:1]))
    data_centres(
        {"id": 7, "login": {"dc": "us6"}},
        variables={**DC, "site": {"source": "accounts", "pattern": "[a-z0-9-]+"}},
        accounts={"endpoint": f"{scripted.url}/{{dc}}/sites", "variable": "site"},
    )
    visitor.connect()
    assert Connection.objects.get().variables == {"dc": "us6", "site": "s-1"}


@pytest.mark.parametrize("document", [{"id": 7}, {"id": 7, "login": {"dc": "us6.evil.example/"}}])
def test_a_value_of_the_account_s_document_that_does_not_fit_connects_nothing(
    document, visitor, data_centres, scripted
):
    data_centres(document)
    assert visitor.connect().status_code == 400
    assert not Connection.objects.exists()
    assert len(scripted.asked("/revoke")) == 1


@pytest.mark.parametrize(("choose", "found"), [("three", SITES), ("", [{"id": "a/b"}])])
def test_a_site_that_is_not_there_or_does_not_fit_is_refused(choose, found, visitor, shops, scripted):
    scripted.on("/sites", Answer(body=found))
    variables = {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}}
    accounts = {"endpoint": f"{scripted.url}/sites", "variable": "site", "choose": choose}
    shops(variables=variables, accounts=accounts, api_hosts=["a.example"])
    assert visitor.connect().status_code == 400
    assert not Connection.objects.exists()


@pytest.mark.parametrize(
    ("found", "named"),
    [
        ([{"uuid": "s-1"}], ["scripted.accounts.id", "It has: uuid."]),
        ({"data": [{"id": "s-1"}]}, ["accounts.path"]),
    ],
    ids=["no id", "no list"],
)
def test_sites_that_are_written_otherwise_name_the_setting(found, named, visitor, shops, scripted, caplog):
    scripted.on("/sites", Answer(body=found))
    variables = {"site": {"source": "accounts", "pattern": "[a-z0-9-]+"}}
    accounts = {"endpoint": f"{scripted.url}/sites", "variable": "site"}
    shops(variables=variables, accounts=accounts, api_hosts=["a.example"])
    visitor.connect()
    assert not Connection.objects.exists()
    assert [words for words in named if words not in caplog.text] == []


# --- refresh tokens, as far as connecting is concerned ------------------------------------------


def test_the_end_of_the_grant_is_known_from_the_start(visitor, shops):
    shops(variables={}, api_hosts=[], refresh={"absolute_seconds": 86400, "lifetime_seconds": 3600})
    visitor.connect()
    connection = Connection.objects.get()
    obtained = connection.token.obtained_at
    assert connection.reconnect_before == obtained + timedelta(days=1)
    assert connection.refresh_token_expires_at == obtained + timedelta(hours=1)

    connection.refresh()
    assert Connection.objects.get().reconnect_before == obtained + timedelta(days=1)


@pytest.mark.parametrize(
    ("expected", "fields", "told"),
    [
        ("always", {"refresh_token": None}, True),
        ("conditional", {"refresh_token": None}, True),
        ("conditional", {"refresh_token": None, "expires_in": None}, False),
        ("never", {"refresh_token": None}, False),
        ("always", {}, False),
    ],
)
def test_a_missing_refresh_token_is_reported_immediately(
    expected, fields, told, visitor, shops, issues, caplog
):
    shops(variables={}, api_hosts=[], refresh={"expected": expected})
    issues(**fields)
    with caplog.at_level(logging.WARNING, "oauth_connect"):
        visitor.connect()
    assert ("gave no refresh token" in caplog.text) is told


EXCHANGE = {
    "style": "exchange_access_token",
    "exchange_grant_type": "lengthen",
    "exchange_parameter": "old",
    "expected": "never",
}


def test_a_short_lived_token_is_exchanged_immediately_and_again(visitor, shops, scripted):
    bodies = [{"access_token": f"t-{n}", "token_type": "bearer", "expires_in": 3600} for n in range(3)]
    scripted.on("/token", *(Answer(body=body) for body in bodies))
    shops(variables={}, api_hosts=[], refresh=EXCHANGE)
    visitor.connect()
    connection = Connection.objects.get()
    assert connection.token.access_token == "t-1"
    assert connection.refresh_at is not None

    connection.refresh()
    assert Connection.objects.get().token.access_token == "t-2"
    assert [one.form.get("old") for one in scripted.asked("/token")] == [None, "t-0", "t-1"]
    assert scripted.asked("/token")[2].form["grant_type"] == "lengthen"


def test_a_refused_exchange_leaves_the_short_token(visitor, shops, scripted):
    short = Answer(body={"access_token": "short", "token_type": "bearer", "expires_in": 3600})
    scripted.on("/token", short, Answer(400, {"error": "invalid_request"}))
    shops(variables={}, api_hosts=[], refresh=EXCHANGE)
    visitor.connect()
    assert Connection.objects.get().token.access_token == "short"


def test_a_first_exchange_of_its_own_is_followed_by_the_usual_ones(visitor, shops, scripted):
    first, later = ({"access_token": name, "token_type": "bearer"} for name in ("long", "longer"))
    scripted.on("/first", Answer(body={**first, "expires_in": 5184000}))
    scripted.on("/later", Answer(body={**later, "expires_in": 5184000}))
    endpoints = {"endpoint": f"{scripted.url}/later", "first_endpoint": f"{scripted.url}/first"}
    own = {"method": "GET", "authentication": "none", "first_grant_type": "start"}
    shops(variables={}, api_hosts=[], refresh={**EXCHANGE, **endpoints, **own})
    visitor.connect()
    assert Connection.objects.get().token.access_token == "long"
    Connection.objects.get().refresh()
    assert Connection.objects.get().token.access_token == "longer"
    [begun], [lengthened] = scripted.asked("/first"), scripted.asked("/later")
    assert begun.query["grant_type"] == "start"
    assert lengthened.query == {"grant_type": "lengthen", "old": "long"}


# --- the code's own name ------------------------------------------------------------------------

OWN_NAME = {"callback": {"code_parameter": "spapi_oauth_code"}, "variables": {}, "api_hosts": []}


def come_back(visitor, **response: str) -> Any:
    return visitor.come_back(state=state_of(visitor.start()), **response)


def test_the_code_is_read_where_the_provider_sends_it(visitor, shops, scripted):
    shops(**OWN_NAME)
    assert come_back(visitor, spapi_oauth_code="the code", code="of another").status_code == 302
    assert [request.form["code"] for request in scripted.asked("/token")] == ["the code"]


@pytest.mark.parametrize(
    "response",
    [
        {"code": "of another"},
        {"spapi_oauth_code": ""},
        {"spapi_oauth_code": "a\nb"},
        {"spapi_oauth_code": "x" * 5000},
        {"spapi_oauth_code": "the code", "error": "access_denied"},
    ],
    ids=["another name", "empty", "unprintable", "too long", "with an error"],
)
def test_a_response_without_a_usable_code_of_that_name_is_refused(response, visitor, shops, scripted):
    shops(**OWN_NAME)
    assert come_back(visitor, **response).status_code == 400
    assert scripted.asked("/token") == []


def test_a_repeated_code_of_that_name_is_refused(visitor, shops, scripted):
    shops(**OWN_NAME)
    query = [("state", state_of(visitor.start())), ("spapi_oauth_code", "a"), ("spapi_oauth_code", "b")]
    assert visitor.get(f"{callback_path('scripted')}?{urlencode(query)}").status_code == 400
    assert scripted.asked("/token") == []


def test_the_code_is_read_there_at_a_terminal_too(user, shops, scripted):
    shops(**OWN_NAME)
    BrowserLogin("scripted", UserConnectionTarget(user)).run(Answering(spapi_oauth_code="the code"))
    assert [request.form["code"] for request in scripted.asked("/token")] == ["the code"]


# --- hooks and form_post ------------------------------------------------------------------------


def made_secret(provider: Any) -> str:
    return f"made-for-{provider.client_id}"


def registered(provider: Any, variables: Any) -> dict[str, str]:
    return {"client_id": f"client-at-{variables['shop']}", "client_secret": "given"}


def registered_badly(provider: Any, variables: Any) -> dict[str, str]:
    return {"client_id": "x", "token_endpoint": "https://evil.example/"}


def test_a_client_secret_may_be_made_for_each_request(visitor, shops, scripted):
    hooks = {"client_secret": f"{__name__}.made_secret"}
    shops(
        variables={},
        api_hosts=[],
        hooks=hooks,
        client_secret="",
        token_endpoint_auth_method="client_secret_post",
    )
    visitor.connect()
    assert scripted.asked("/token")[0].form["client_secret"] == "made-for-client"


def test_a_client_may_be_registered_at_each_instance(visitor, shops, scripted):
    hooks = {"register_client": f"{__name__}.registered"}
    shops(hooks=hooks, client_id="", client_secret="", token_endpoint_auth_method="client_secret_post")
    url = visitor.start(data={"shop": "acme"})
    assert query_of(url)["client_id"] == "client-at-acme"
    visitor.come_back(state=state_of(url), code="code", shop="acme")

    connection = Connection.objects.get()
    assert connection.client_id == "client-at-acme"
    connection.refresh()
    assert {one.form["client_id"] for one in scripted.asked("/token")} == {"client-at-acme"}
    assert {one.form["client_secret"] for one in scripted.asked("/token")} == {"given"}


@pytest.mark.parametrize("hook", ["registered_badly", "nowhere", "__name__"])
def test_a_hook_that_does_not_work_is_named(hook, visitor, user, shops):
    shops(hooks={"register_client": f"{__name__}.{hook}"}, client_id="", client_secret="")
    request = visitor.request()
    request.user = user
    with pytest.raises(InvalidProvider, match=r"^scripted\.hooks\.register_client: "):
        flows.begin(request, "scripted", variables={"shop": "acme"})


def test_a_posted_answer_is_brought_in_by_a_redirect(visitor, shops):
    shops(variables={}, api_hosts=[], authorize={"response_mode": "form_post"})
    url = visitor.start()
    assert query_of(url)["response_mode"] == "form_post"
    posted = visitor.post(callback_path("scripted"), {"state": state_of(url), "code": "c", "user": "{}"})
    assert posted.status_code == 303
    assert set(query_of(posted["Location"])) == {"state", "code"}
    assert visitor.get(posted["Location"]).status_code == 302
    assert Connection.objects.count() == 1


def test_a_posted_answer_needs_no_csrf_token(shops):
    shops(variables={}, api_hosts=[], authorize={"response_mode": "form_post"})
    stranger = Client(enforce_csrf_checks=True)
    posted = stranger.post(callback_path("scripted"), {"state": "x", "code": "c"}, secure=True)
    assert posted.status_code == 303


# --- values from the callback, before they are used ---------------------------------------------

REGION = {"region": {"source": "callback", "field": "loc", "pattern": "[a-z]{2}"}}
USED = {
    "token_endpoint": "token",
    "userinfo_endpoint": "me",
    "revocation_endpoint": "revoke",
    "refresh.endpoint": "refresh",
    "api_base_url": "api/",
}


@pytest.mark.parametrize("field", USED)
def test_a_value_of_the_callback_decides_an_endpoint(
    field, visitor, shops, scripted, canary, django_capture_on_commit_callbacks
):
    url = f"{scripted.url}/{{region}}/{USED[field]}"
    part, _, key = field.partition(".")
    shops(variables=REGION, api_hosts=[], identity={"id": ["id"]}, **{part: {key: url} if key else url})
    token = {"access_token": f"{canary}-1", "refresh_token": f"{canary}-2", "token_type": "Bearer", "id": 1}
    for path in ("/eu/token", "/eu/me", "/eu/revoke", "/eu/refresh", "/eu/api/x"):
        scripted.on(path, Answer(body=token))
    answer = {"state": state_of(visitor.start()), "code": "c", "loc": "eu"}

    assert visitor.come_back(**answer).status_code == 302
    connection = Connection.objects.get()
    connection.session().get("x" if field == "api_base_url" else f"{scripted.url}/eu/api/x")
    connection.refresh()
    with django_capture_on_commit_callbacks(execute=True):
        connection.disconnect()

    assert scripted.asked(f"/eu/{USED[field]}{'x' * (field == 'api_base_url')}")
    assert not [one.path for one in scripted.requests if "{" in one.path or "%7B" in one.path]


@pytest.mark.compliance("A9", "A10")
def test_the_code_goes_only_to_the_client_that_asked_for_it(visitor, shops, scripted, scripted_entry):
    """An instance that the callback names may have another client."""

    def register(provider, variables):
        return {"client_id": f"client-{variables.get('region', '')}", "client_secret": "s"}

    shops(
        variables=REGION,
        api_hosts=[],
        token_endpoint=f"{scripted.url}/{{region}}/token",
        hooks={"register_client": register},
    )
    page = visitor.come_back(state=state_of(visitor.start()), code="c", loc="eu")

    assert page.status_code == 400
    assert b"settings of the provider have changed" in page.content
    assert scripted.requests == []


def test_a_missing_value_is_refused_before_a_request(visitor, shops, scripted):
    shops(variables=REGION, api_hosts=[], token_endpoint=f"{scripted.url}/{{region}}/token")

    assert visitor.come_back(state=state_of(visitor.start()), code="c").status_code == 400
    assert scripted.requests == []


def test_a_stored_connection_without_the_value_sends_nothing(shops, scripted, make_connection):
    shops(
        variables=REGION,
        api_hosts=[],
        token_endpoint=f"{scripted.url}/{{region}}/token",
        revocation_endpoint=f"{scripted.url}/{{region}}/revoke",
        api_base_url=f"{scripted.url}/{{region}}/",
    )
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderMisconfigured, match="No value is known for a variable"):
        connection.refresh()
    with pytest.raises(ForbiddenDestination, match="no value for the variable region"):
        connection.session().get("x")
    with (
        pytest.raises(ForbiddenDestination, match="no value for the variable region"),
        client(connection) as http,
    ):
        http.get("x")
    connection.disconnect()
    assert scripted.requests == []


def test_a_value_from_accounts_is_in_a_header_of_calls_and_of_no_earlier_request(visitor, shops, scripted):
    shops(
        variables={"tenant": {"source": "accounts", "pattern": "[a-z]+"}},
        api_hosts=[],
        accounts={"endpoint": f"{scripted.url}/sites", "variable": "tenant"},
        api={"headers": {"X-Tenant": "{tenant}"}},
        identity={"source": "none"},
    )
    scripted.on("/sites", Answer(body=[{"id": "acme"}]))
    scripted.on("/api/x", Answer(body={}))
    assert visitor.come_back(state=state_of(visitor.start()), code="c").status_code == 302
    Connection.objects.get().session().get("x")
    with client(Connection.objects.get()) as http:
        http.get("x")

    assert "X-Tenant" not in scripted.asked("/sites")[0].headers
    assert [asked.headers["X-Tenant"] for asked in scripted.asked("/api/x")] == ["acme", "acme"]


class Answering:
    """Shows the address of a login at a terminal to a browser that the provider sends straight back."""

    def __init__(self, **answer: str) -> None:
        self.answer = answer

    def __call__(self, url: str) -> None:
        asked = query_of(url)
        back = f"{asked['redirect_uri']}?{urlencode({'state': asked['state'], 'code': 'c', **self.answer})}"
        threading.Thread(target=requests.get, args=(back,), kwargs={"timeout": TIMEOUT}).start()


def test_a_value_of_the_callback_decides_the_token_endpoint_at_a_terminal(user, shops, scripted):
    shops(variables=REGION, api_hosts=[], token_endpoint=f"{scripted.url}/{{region}}/token")
    scripted.on("/eu/token", Answer(body={"access_token": "a", "token_type": "Bearer"}))

    target = UserConnectionTarget(user)
    BrowserLogin("scripted", target).run(Answering(loc="eu"))

    assert [one.path for one in scripted.requests] == ["/eu/token"]
    assert target.connection.variables == {"region": "eu"}


def test_the_device_flow_has_no_callback_that_could_name_the_value(user, shops, scripted):
    shops(
        variables=REGION,
        api_hosts=[],
        token_endpoint=f"{scripted.url}/{{region}}/token",
        device_authorization_endpoint=f"{scripted.url}/device",
    )
    with pytest.raises(ImproperlyConfigured, match=r"scripted\.token_endpoint: a variable of the callback"):
        DeviceLogin("scripted", UserConnectionTarget(user)).run(lambda authorization: None)
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("listed", "path"),
    [
        ([{"id": "7", "product": "wiki"}, {"id": "7", "product": "issues"}], "id"),  # once for each product
        (["7"], "id"),
        ([7], "id"),
        ([["7", "Mill"]], "0"),
        ([None, {"ids": ["7"]}], "ids.0"),
    ],
)
def test_an_account_is_listed_in_the_ways_of_servers(listed, path, visitor, shops, scripted):
    scripted.on("/bases", Answer(body=listed))
    shops(
        variables={"account": {"source": "accounts", "pattern": "[0-9]+"}},
        accounts={"endpoint": f"{scripted.url}/bases", "variable": "account", "id": path},
        api_hosts=["api.mills.example"],
    )
    assert visitor.connect().status_code == 302
    assert Connection.objects.get().variables == {"account": "7"}
