"""Several servers under one name: a code reaches only the server that issued it (RFC 9700 section 4.4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from oauth_connect import flows
from oauth_connect.conf import conf
from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.terminal import BrowserLogin, UserConnectionTarget
from oauth_connect.models import Connection, Owner
from tests.flows.test_completion import Answering
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.visitor import Visitor, query_of, state_of

pytestmark = [pytest.mark.django_db, pytest.mark.compliance("A7", "A8", "A9")]
HONEST = "https://honest.example"
DISCOVERED = object()
WITHOUT = {"token_endpoint": "", "authorization_endpoint": "", "revocation_endpoint": ""}


@pytest.fixture
def evil():
    server = ScriptedServer()
    server.on("/token", Answer(body={"access_token": "evil", "token_type": "Bearer"}))
    yield server
    server.close()


@pytest.fixture
def tenants(scripted_entry, evil, configure) -> Callable[..., None]:
    """Let two organisations have an entry under one name. The evil one names the honest server's page."""

    def change(*, record: bool = False, **evil_changes: Any) -> None:
        entries = {
            "org:honest": scripted_entry,
            "org:evil": {**scripted_entry, "token_endpoint": f"{evil.url}/token", **evil_changes},
        }
        entries["org:evil"] = {
            name: one for name, one in entries["org:evil"].items() if one is not DISCOVERED
        }
        configure(
            PROVIDERS={},
            PROVIDER_LOADER=lambda slug, owner: entries.get(owner),
            DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"],
            RECORD_REDIRECTS=["t"] if record else [],
            OWNER=lambda request: Owner(request.COOKIES.get("org", "org:evil")),
        )

    change()
    return change


def record(slug: str, owner: str) -> str:
    return hashlib.sha256(json.dumps([slug, owner]).encode()).hexdigest()[:32]


def of(visitor: Visitor, owner: str) -> Visitor:
    visitor.client.cookies["org"] = owner
    return visitor


EXCHANGED = {"style": "exchange_access_token", "exchange_grant_type": "x", "exchange_parameter": "x"}


# --- the issuer ---------------------------------------------------------------------------------


def test_an_answer_that_names_its_issuer_does_not_reach_an_entry_without_one(tenants, visitor, evil):
    page = visitor.come_back("t", state=state_of(visitor.start("t")), code="honest", iss=HONEST)

    assert page.status_code == 400
    assert evil.requests == []


@pytest.mark.parametrize(
    "endpoints",
    [
        {},
        {"token_endpoint": ""},
        *(
            {**WITHOUT, **one}
            for one in (
                {"refresh": {"endpoint": "https://evil.example/"}},
                {"refresh": {**EXCHANGED, "first_endpoint": "https://evil.example/"}},
                {"userinfo_endpoint": "https://evil.example/"},
                {"introspection_endpoint": "https://evil.example/"},
                {"device_authorization_endpoint": "https://evil.example/"},
                {"accounts": {"endpoint": "https://evil.example/", "variable": "a"}},
            )
        ),
    ],
)
def test_an_issuer_takes_no_endpoints_of_the_entrys_own(endpoints, tenants, visitor, evil):
    tenants(issuer=HONEST, **endpoints)

    assert visitor.post("/oauth/t/connect/").status_code == 404
    assert evil.requests == []
    with pytest.raises(Exception, match=r"endpoint: not allowed in an entry .* that has an issuer"):
        conf.declared_provider("t", "org:evil")


def test_an_issuer_takes_no_endpoints_of_a_preset_either(configure):
    entry = {"preset": "google", "client_id": "c", "issuer": HONEST}
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry)
    with pytest.raises(Exception, match="that has an issuer"):
        conf.declared_provider("t", "org:1")


def test_a_presets_own_issuer_and_endpoints_stay_together(configure, monkeypatch):
    preset = {"issuer": HONEST, "authorization_endpoint": f"{HONEST}/a", "token_endpoint": f"{HONEST}/t"}
    monkeypatch.setattr("oauth_connect.presets._load", lambda name: preset if name == "honest" else None)
    entry = {"preset": "honest", "client_id": "c"}
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry)
    assert conf.declared_provider("t", "org:1").token_endpoint == f"{HONEST}/t"
    entry["token_endpoint"] = "https://evil.example/"
    with pytest.raises(Exception, match=r"token_endpoint: not allowed .* that has an issuer"):
        conf.declared_provider("t", "org:1")


def test_the_settings_may_still_name_both(configure, scripted_entry):
    configure(PROVIDERS={"mine": {**scripted_entry, "issuer": HONEST}})
    provider = conf.provider("mine")
    assert (provider.issuer, provider.token_endpoint) == (HONEST, scripted_entry["token_endpoint"])


def test_a_discovered_entry_refuses_the_issuer_of_another(tenants, visitor, scripted, evil):
    metadata = {
        "issuer": evil.url,
        "authorization_endpoint": f"{scripted.url}/authorize",
        "token_endpoint": f"{evil.url}/token",
    }
    evil.on("/.well-known/oauth-authorization-server", Answer(body=metadata))
    tenants(issuer=evil.url, **WITHOUT)
    assert visitor.post("/oauth/t/connect/").status_code == 404, "empty endpoints hide those of the metadata"
    tenants(issuer=evil.url, **dict.fromkeys(WITHOUT, DISCOVERED))

    assert visitor.come_back("t", state=state_of(visitor.start("t")), code="c", iss=HONEST).status_code == 400
    assert evil.asked("/token") == []


@pytest.fixture
def chosen(scripted_entry, configure, evil) -> None:
    """A provider whose user chooses the server that asks for consent."""
    urls = {"authorization_endpoint": "https://{host}/authorize", "token_endpoint": f"{evil.url}/token"}
    variables = {"host": {"source": "user", "pattern": "[a-z.]+"}}
    configure(PROVIDERS={"p": {**scripted_entry, **urls, "variables": variables}})


CHOICE = {"host": "honest.example"}


def test_where_a_user_chooses_the_server_a_foreign_issuer_is_refused(chosen, evil, visitor):
    page = visitor.come_back("p", state=state_of(visitor.start("p", data=CHOICE)), code="c", iss=HONEST)

    assert page.status_code == 400
    assert evil.requests == []
    assert (
        visitor.come_back("p", state=state_of(visitor.start("p", data=CHOICE)), code="c").status_code == 302
    )


def test_at_a_terminal_a_foreign_issuer_is_refused_too(chosen, evil, user):
    login = BrowserLogin("p", UserConnectionTarget(user), variables=CHOICE)
    with pytest.raises(CallbackRefused, match="another server"):
        login.run(Answering(iss=HONEST))
    assert evil.requests == []


def test_one_server_without_an_issuer_may_send_one(scripted_provider, visitor, issues):
    state = state_of(visitor.start())
    assert visitor.come_back(state=state, code="c", iss=HONEST).status_code == 302


# --- the redirect URI ---------------------------------------------------------------------------


def test_each_record_has_a_redirect_uri_of_its_own(tenants, visitor, rf):
    tenants(record=True)
    for owner in ("org:evil", "org:honest"):
        uri = query_of(of(visitor, owner).start("t"))["redirect_uri"]
        assert uri == f"https://app.example/oauth/t/callback/{record('t', owner)}/"
        assert flows.redirect_uri(rf.get("/"), "t", owner=owner) == uri


def test_no_other_provider_and_no_other_key_changes_a_redirect_uri(tenants, visitor, configure):
    tenants(record=True)
    assert query_of(visitor.start("plain"))["redirect_uri"] == "https://app.example/oauth/plain/callback/"
    before = query_of(visitor.start("t"))["redirect_uri"]
    configure(KEYS=["bmV3".ljust(43, "A") + "="])
    assert query_of(visitor.start("t"))["redirect_uri"] == before


def test_a_flow_ends_at_its_record(tenants, visitor, scripted, issues):
    tenants(record=True)
    start = of(visitor, "org:honest").start("t")
    path = f"/oauth/t/callback/{record('t', 'org:honest')}/"

    posted = Visitor().post(path, {"state": state_of(start), "code": "c"})
    assert posted["Location"].startswith(f"{path}?")
    assert visitor.get(posted["Location"]).status_code == 302

    connection = Connection.objects.get()
    assert scripted.asked("/token")[0].form["redirect_uri"] == query_of(start)["redirect_uri"]
    assert connection.redirect_uri == query_of(start)["redirect_uri"]


@pytest.mark.parametrize("owner", ["org:honest", "", "org:other"])
def test_an_answer_for_another_record_is_refused(owner, tenants, visitor, evil):
    """The honest server sends its code to the redirect URI that its own record registered."""
    tenants(record=True)
    state = state_of(visitor.start("t"))
    other = f"/oauth/t/callback/{record('t', owner)}/" if owner else "/oauth/t/callback/"

    page = visitor.get(other, {"state": state, "code": "honest"})

    assert page.status_code == 400
    assert evil.requests == []
    again = visitor.get(f"/oauth/t/callback/{record('t', 'org:evil')}/", {"state": state, "code": "honest"})
    assert again.status_code == 400, "the state is spent"


def test_an_answer_at_a_record_does_not_end_a_plain_flow(tenants, visitor, evil):
    state = state_of(visitor.start("t"))
    page = visitor.get(f"/oauth/t/callback/{record('t', 'org:evil')}/", {"state": state, "code": "c"})
    assert page.status_code == 400
    assert evil.requests == []


def test_an_entry_has_no_say_in_it(tenants, visitor):
    tenants(RECORD_REDIRECTS=["t"])
    assert visitor.post("/oauth/t/connect/").status_code == 404
