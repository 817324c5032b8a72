"""When a user is sent to consent: not for scopes that the server writes otherwise, but for refused ones."""

from __future__ import annotations

import pytest
import requests
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.urls import include, path

from oauth_connect.contrib.httpx import client_for
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows import aconnection_for, connection_for, machine_connection, session_for
from oauth_connect.flows.terminal import BrowserLogin, DeviceLogin, UserConnectionTarget
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.models.querysets import ProtocolColumnsError
from oauth_connect.views import connection_required
from tests.contrib.test_httpx import run
from tests.servers.scripted import Answer
from tests.support.tokens import FRESH, stored
from tests.support.visitor import query_of, state_of

pytestmark = pytest.mark.django_db
UMBRELLA = {"scope_aliases": {"user": ["read:user", "user:email"]}}
LISTS_ALL = {"token_response": {"lists_all_scopes": True}}


@pytest.fixture
def entry(scripted_entry, configure):
    """Set the provider's scopes and rules; identity from the token response, one account."""

    def change(scopes=("read", "write"), **rules):
        identity = {"source": "token_response", "id": ["account"]}
        configure(PROVIDERS={"scripted": {**scripted_entry, "identity": identity, "scopes": scopes, **rules}})

    change()
    return change


@pytest.fixture
def connect(visitor, issues):
    """Connect as a browser does. ``said``: the ``scope`` of the callback; ``at``: the connect page."""

    def flow(scope=None, said=None, at=None):
        issues(scope=scope, account="ada")
        url = visitor.follow(at) if at else visitor.start()
        extra = {} if said is None else {"scope": said}
        assert visitor.come_back(state=state_of(url), code="code", **extra).status_code == 302
        return query_of(url).get("scope", "").split()

    return flow


def missing(user, *scopes) -> ReauthorizationRequired:
    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "scripted", scopes=scopes)
    assert required.value.reason == "missing_scopes"
    return required.value


# --- written otherwise --------------------------------------------------------------------------------


@pytest.mark.compliance("A17", "C-empty-scope")
@pytest.mark.parametrize(
    "scope", ["read", "READ WRITE", "https://api.example/read", "", "read,write", ["read"], None, "all"]
)
def test_nobody_is_sent_to_consent_to_what_was_just_consented_to(scope, user, entry, connect):
    connect(scope)
    assert connection_for(user, "scripted", scopes=["read", "write"]).requested_scopes == ["read", "write"]
    missing(user, "admin")


@pytest.mark.compliance("A17")
@pytest.mark.parametrize(
    ("scope", "granted"), [("read", True), ("read write", True), (None, True), ("", False), ("READ", False)]
)
def test_what_was_granted_stays_what_the_server_said(scope, granted, user, entry, connect):
    connect(scope)
    assert Connection.objects.get().has_scopes("read") is granted


def test_every_door_knows_the_consent(user, entry, connect):
    connect("")
    with client_for(user, "scripted", scopes=["write"]) as http:
        assert http.auth is not None
    assert session_for(user, "scripted", scopes=["write"]).auth is not None


@pytest.mark.django_db(transaction=True)
def test_async_code_knows_the_consent(user, entry, connect):
    connect("")
    assert run(aconnection_for(user, "scripted", None, ["write"])) == Connection.objects.get()


@connection_required("scripted", scopes=["user:email"])
def emails(request):
    return HttpResponse("inside")


urlpatterns = [path("emails/", emails), path("oauth/", include("oauth_connect.urls"))]


@pytest.mark.urls(__name__)
def test_a_view_is_reached_after_one_consent(visitor, entry, connect):
    entry(scopes=["user"])
    connect("user")
    sent_to = visitor.get("/emails/")
    assert set(connect("user", at=sent_to["Location"])) == {"user", "user:email"}
    assert visitor.get("/emails/").content == b"inside"


@pytest.mark.compliance("A40")
def test_views_that_each_need_another_scope_do_not_send_the_user_back_and_forth(user, entry, connect):
    connect("read write")
    for scope in ("one", "two"):
        connect("read write", at=missing(user, scope).connect_url)
    assert session_for(user, "scripted", scopes=["one"])
    assert session_for(user, "scripted", scopes=["two", "read"])


# --- aliases ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", ["grace", "org:1"])
def test_a_granted_scope_counts_for_those_that_it_includes(user, entry, make_connection, owner):
    entry(scopes=[], **UMBRELLA)
    whose = user if owner == "grace" else owner
    connection = make_connection(owner=whose, response={**FRESH, "scope": "user"})
    assert connection.has_scopes("user", "user:email", "read:user")
    assert not connection.has_scopes("user:email", "repo")
    assert session_for(whose, "scripted", scopes=["user:email"])


def test_an_alias_of_a_providers_entry_counts_for_a_machine_token_too(scripted, entry):
    entry(**UMBRELLA)
    scripted.on("/token", Answer(body={**FRESH, "scope": "user"}))
    machine = machine_connection("scripted", scopes=["user"])
    machine.access_token()
    assert stored(machine).has_scopes("user:email")


def test_without_an_entry_the_names_are_compared(entry, configure, make_connection):
    entry(scopes=[], **UMBRELLA)
    connection = make_connection(response={**FRESH, "scope": "user"})
    configure(PROVIDERS={})
    assert connection.has_scopes("user")
    assert not connection.has_scopes("user:email")
    with pytest.raises(ImproperlyConfigured):
        connection_for(connection.user, "scripted", scopes=["user:email"])


@pytest.mark.parametrize(
    ("preset", "asked", "answered", "wanted"),
    [
        ("github", ["user", "user:email"], "user", ["user:email", "read:user"]),
        ("github", ["repo", "admin:org"], "repo,admin:org", ["public_repo", "repo:status", "read:org"]),
        ("google", ["openid", "email"], "openid https://www.googleapis.com/auth/userinfo.email", ["email"]),
        ("google", ["profile"], "https://www.googleapis.com/auth/userinfo.profile openid", ["profile"]),
        ("microsoft", ["user.read"], "User.Read profile openid email", ["user.read", "User.Read"]),
    ],
)
def test_the_presets_know_how_their_servers_write_scopes(
    configure, make_connection, preset, asked, answered, wanted
):
    configure(PROVIDERS={preset: {"client_id": "c", "client_secret": "s", "scopes": asked}})
    connection = make_connection(preset, response={**FRESH, "scope": answered})
    assert connection.has_scopes(*wanted)
    assert connection.requested_scopes == []


def test_a_scope_in_another_case_is_no_change_in_the_history(scripted, entry, connect):
    entry(token_response={"scopes_ignore_case": True})
    connect("READ Write")
    scripted.on("/token", Answer(body={**FRESH, "scope": "Write read"}))
    connection = Connection.objects.get()
    connection.refresh()
    assert stored(connection).scopes == ["write", "read"]
    connect("Read WRITE")
    assert not ConnectionEvent.objects.filter(action="scopes_changed").exists()


# --- visibly refused ----------------------------------------------------------------------------------


@pytest.mark.compliance("A17")
@pytest.mark.parametrize("said", ["read", "read,profile", "profile read"])
def test_what_the_callback_shows_as_refused_is_asked_for_again(said, user, entry, connect):
    connect(None, said)
    connection = connection_for(user, "scripted", scopes=["read"])
    assert connection.scopes == connection.requested_scopes == ["read"]
    assert not connection.has_scopes("write")
    assert connect(None, "read,write", at=missing(user, "write").connect_url) == ["read", "write"]
    assert session_for(user, "scripted", scopes=["write"])


@pytest.mark.parametrize("said", ["READ,WRITE", "https://id.example/read https://id.example/write"])
def test_scopes_that_the_callback_writes_otherwise_are_not_asked_for_again(said, user, entry, connect):
    connect(None, said)
    connection = connection_for(user, "scripted", scopes=["read", "write"])
    assert connection.requested_scopes == ["read", "write"]


@pytest.mark.compliance("A17")
def test_the_token_response_is_believed_before_the_callback(user, entry, connect):
    connect("read", said="read write admin")
    assert Connection.objects.get().scopes == ["read"]
    connect("read write", said="read")
    assert Connection.objects.get().scopes == ["read", "write"]


@pytest.mark.compliance("B4")
def test_the_callback_grants_nothing(user, entry, connect):
    connect(None, said="read write admin")
    assert Connection.objects.get().scopes == ["read", "write"]
    connect("", said="read write")
    assert Connection.objects.get().scopes == []


@pytest.mark.parametrize("said", ["", "x" * 9000, "read\n\x00"])
def test_an_odd_scope_in_the_callback_stops_no_sign_in(said, entry, connect):
    connect("read write", said)
    connect(None, said)
    assert Connection.objects.count() == 1


def test_a_response_that_lists_all_scopes_shows_what_was_refused(user, entry, connect):
    entry(**LISTS_ALL)
    connect("read")
    assert Connection.objects.get().requested_scopes == ["read"]
    missing(user, "write")


def test_where_all_scopes_are_listed_a_narrower_refresh_asks_again(scripted, user, entry, connect):
    entry(**LISTS_ALL)
    connect("read write")
    scripted.on("/token", Answer(body={**FRESH, "scope": "read"}))
    connection = connection_for(user, "scripted", scopes=["write"])
    connection.refresh()
    missing(user, "write")
    assert stored(connection).requested_scopes == ["read", "write"]


# --- the column ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["read", "", None, "x"])
def test_a_refresh_does_not_change_what_was_consented_to(scope, scripted, user, entry, connect):
    connect("read write")
    scripted.on("/token", Answer(body={**FRESH, "scope": scope}))
    connection = Connection.objects.get()
    connection.refresh()
    assert stored(connection).requested_scopes == ["read", "write"]
    assert session_for(user, "scripted", scopes=["write"])


def test_the_last_flow_counts(user, entry, connect):
    connect("read", at=None)
    entry(scopes=["read"])
    connect("read")
    assert Connection.objects.get().requested_scopes == ["read"]
    missing(user, "write")


def test_a_row_of_an_older_release_asks_once(user, entry, connect, make_connection):
    connection = make_connection(account_id="ada", response={**FRESH, "scope": "read"})
    assert connection.requested_scopes == []
    connect("read", at=missing(user, "write").connect_url)
    assert session_for(user, "scripted", scopes=["write"])


def test_code_that_stores_a_token_changes_the_consent_only_if_it_names_one(user, entry, connect):
    connect("read")
    store = {"owner": user, "provider": "scripted", "account_id": "ada"}
    again = Connection.objects.store(**store, token_response={**FRESH, "scope": "read"})
    assert stored(again).requested_scopes == ["read", "write"]
    named = Connection.objects.store(
        **store, token_response={**FRESH, "scope": "read more"}, requested_scopes=("read", "more")
    )
    assert (stored(named).requested_scopes, stored(named).scopes) == (["read", "more"], ["read", "more"])
    with pytest.raises(TypeError, match="pass a list"):
        Connection.objects.store(**store, token_response=FRESH, requested_scopes="read")


def test_a_users_identity_does_not_depend_on_what_was_requested(user, entry, connect):
    connect("read")
    before = Connection.objects.get()
    entry(scopes=["read"])
    connect("read")
    after = Connection.objects.get()
    assert (after.pk, after.identity) == (before.pk, before.identity)
    after.check_identity(["requested_scopes"])


def test_a_stale_instance_does_not_bring_an_older_consent_back(user, entry, connect):
    connect("read")
    stale = Connection.objects.get()
    entry(scopes=["read"])
    connect("read")
    stale.save()
    assert stored(stale).requested_scopes == ["read"]
    with pytest.raises(ProtocolColumnsError):
        Connection.objects.update(requested_scopes=["read", "write"])


# --- at a terminal ------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["read", ""])
def test_a_device_login_stores_what_was_consented_to(scripted, user, entry, issues, scope):
    entry(device_authorization_endpoint=f"{scripted.url}/device")
    started = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.test/", "expires_in": 60}
    scripted.on("/device", Answer(body={**started, "interval": 1}))
    issues(scope=scope, account="ada")
    DeviceLogin("scripted", UserConnectionTarget(user), scopes=["more"]).run(lambda authorization: None)
    assert Connection.objects.get().requested_scopes == ["read", "write", "more"]
    assert session_for(user, "scripted", scopes=["more"])


def test_a_login_in_a_browser_sees_what_the_callback_shows_as_refused(user, entry, issues):
    issues(scope=None, account="ada")

    def answer(url: str) -> None:
        sent = query_of(url)
        response = {"code": "code", "state": sent["state"], "scope": "write"}
        assert requests.get(sent["redirect_uri"], response, timeout=60).ok

    BrowserLogin("scripted", UserConnectionTarget(user)).run(answer)
    connection = Connection.objects.get()
    assert connection.scopes == connection.requested_scopes == ["write"]
    missing(user, "read")
