"""A token response with two tokens, as of a bot and its user: two connections, stored and ended together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from oauth_connect import flows, signals
from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.terminal import DeviceLogin, KeyringTarget, UserConnectionTarget
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, raw
from tests.support.visitor import query_of

pytestmark = pytest.mark.django_db

IDENTITY = {"source": "token_response", "id": ["team.id+bot_id"], "label": ["team.name"]}
BOTH: dict[str, Any] = {
    "ok": True,
    "access_token": "bot-access",
    "refresh_token": "bot-refresh",
    "token_type": "bot",
    "expires_in": 3600,
    "scope": "chat:write,commands",
    "bot_id": "B1",
    "team": {"id": "T1", "name": "Mills"},
    "authed_user": {
        "id": "U1",
        "access_token": "user-access",
        "refresh_token": "user-refresh",
        "token_type": "user",
        "expires_in": 3600,
        "scope": "search:read,admin",
    },
}


def without_user(**fields: Any) -> dict[str, Any]:
    """Return the response with these fields of the user's token replaced. None leaves a field out."""
    changed = {**BOTH["authed_user"], **fields}
    return {**BOTH, "authed_user": {name: value for name, value in changed.items() if value is not None}}


@pytest.fixture
def two(scripted, scripted_entry, configure):
    """Two entries of one client: the bot's, and the user's, which reads the same response elsewhere."""
    scripted.on("/revoke", Answer())
    scripted.on("/token", Answer(body=BOTH))
    response = {"token_types": ["bot", "user"], "scope_separator": ","}
    common = {**scripted_entry, "identity": IDENTITY, "revocation": {"style": "bearer"}}
    entries = {
        "bot": {
            **common,
            "scopes": ["chat:write", "commands"],
            "authorize": {"scope_separator": ",", "extra_scopes": {"user_scope": ["search:read"]}},
            "token_response": {**response, "other_entries": ["person"]},
        },
        "person": {
            **common,
            "identity": {**IDENTITY, "id": ["team.id+id"]},
            "scopes": ["search:read"],
            "authorize": {"scope_separator": ",", "scope_parameter": "user_scope"},
            "token_response": {**response, "path": ["authed_user"]},
        },
    }

    def change(**changes: dict[str, Any]) -> None:
        configure(PROVIDERS={slug: {**entry, **changes.get(slug, {})} for slug, entry in entries.items()})

    change()
    return change


def revoked(scripted: Any) -> set[str]:
    return {request.headers["Authorization"].removeprefix("Bearer ") for request in scripted.asked("/revoke")}


def held() -> dict[str, tuple[str, str]]:
    rows = Connection.objects.all()
    return {row.provider: (row.token.access_token, row.token.refresh_token) for row in rows}


WHOLE = {"bot": ("bot-access", "bot-refresh"), "person": ("user-access", "user-refresh")}


@pytest.mark.parametrize("shape", ["a list", "other names"])
def test_no_row_keeps_the_other_token_wherever_it_stands(shape, two, visitor, scripted):
    person, fields = BOTH["authed_user"], {}
    if shape == "other names":
        fields = {"access_token": "tok", "refresh_token": "ref"}
        person = {fields.get(name, name): value for name, value in person.items()}
    scripted.on("/token", Answer(body={**BOTH, "authed_user": [person]}))
    response = {"token_types": ["bot", "user"], "scope_separator": ","}
    two(person={"token_response": {**response, "path": ["authed_user", "0"], "fields": fields}})
    visitor.come_back("bot", state=query_of(visitor.start("bot"))["state"], code="code")
    assert held() == WHOLE
    for row in Connection.objects.all():
        other = {"bot": "user-", "person": "bot-"}[row.provider]
        assert other not in str(row.token.extra)


def test_one_consent_makes_two_connections(two, visitor, user, scripted, django_capture_on_commit_callbacks):
    seen: list[tuple[str, int]] = []

    def connected(connection: Connection, **kwargs: Any) -> None:
        seen.append((connection.provider, Connection.objects.count()))

    signals.connected.connect(connected)
    asked = query_of(visitor.start("bot"))
    with django_capture_on_commit_callbacks(execute=True):
        visitor.come_back("bot", state=asked["state"], code="code")
    signals.connected.disconnect(connected)

    assert (asked["scope"], asked["user_scope"]) == ("chat:write,commands", "search:read")
    assert held() == WHOLE
    bot, person = (Connection.objects.for_owner(user).get(provider=slug) for slug in ("bot", "person"))
    assert (bot.account_id, person.account_id) == ("T1:B1", "T1:U1")
    assert (bot.account_label, person.account_label) == ("Mills", "Mills")
    assert (bot.scopes, person.scopes) == (["chat:write", "commands"], ["search:read"])
    assert bot.requested_scopes == ["chat:write", "commands"]
    assert person.has_scopes("search:read")
    assert person.token.expires_at == bot.token.expires_at
    assert sorted(seen) == [("bot", 2), ("person", 2)]
    assert revoked(scripted) == set()


def test_no_row_holds_the_token_of_another(two, visitor):
    visitor.connect("bot")
    for row in Connection.objects.all():
        text = str(row.token.to_dict())
        own, other = ("bot-", "user-") if row.provider == "bot" else ("user-", "bot-")
        assert other not in text
        assert text.count(own) == 2  # the access token and the refresh token, each once
        assert row.token.extra["authed_user"]["id"] == "U1"
        assert row.token.extra["team"] == {"id": "T1", "name": "Mills"}


def test_each_token_is_refreshed_by_itself(two, visitor, scripted):
    visitor.connect("bot")
    rows = {row.provider: row for row in Connection.objects.all()}
    fresh = {"ok": True, "access_token": "user-2", "refresh_token": "user-refresh-2", "token_type": "user"}
    scripted.on("/token", Answer(body={**fresh, "expires_in": 3600}))
    rows["person"].refresh()
    assert scripted.asked("/token")[-1].form["refresh_token"] == "user-refresh"
    assert held() == {**WHOLE, "person": ("user-2", "user-refresh-2")}


def test_a_run_over_many_rows_refreshes_both(two, visitor, scripted):
    visitor.connect("bot")
    for row in Connection.objects.all():
        raw(row).update(refresh_at=row.created_at - timedelta(seconds=EXPIRED))
    fresh = {"token_type": "bot", "expires_in": 3600}
    scripted.on("/token", *(Answer(body={**fresh, "access_token": n, "refresh_token": n}) for n in "ab"))
    call_command("oauth_refresh", verbosity=0)
    sent = {request.form["refresh_token"] for request in scripted.asked("/token")[1:]}
    assert sent == {"bot-refresh", "user-refresh"}
    assert {refresh for _, refresh in held().values()} == {"a", "b"}


@pytest.mark.parametrize(
    "body",
    [
        without_user(access_token=None, refresh_token=None),
        {name: value for name, value in BOTH.items() if name != "authed_user"},
        {**BOTH, "authed_user": None},
        {**BOTH, "authed_user": ["U1"]},
    ],
    ids=["no token", "absent", "null", "a list"],
)
def test_a_response_without_the_other_token_makes_one_connection(body, two, visitor, scripted):
    scripted.on("/token", Answer(body=body))
    assert visitor.connect("bot").status_code == 302
    assert held() == {"bot": WHOLE["bot"]}


@pytest.mark.parametrize(
    "body",
    [
        without_user(token_type="mac"),
        without_user(refresh_token="a\nb"),
        {name: value for name, value in BOTH.items() if name != "bot_id"},
        {name: value for name, value in BOTH.items() if name != "token_type"},
        without_user(id=None),
    ],
    ids=["its type", "its refresh token", "the flow's account", "the flow's type", "its account"],
)
def test_where_one_cannot_be_stored_both_are_revoked(body, two, visitor, scripted):
    scripted.on("/token", Answer(body=body))
    assert visitor.connect("bot").status_code in (400, 502)
    assert held() == {}
    assert revoked(scripted) == {"bot-access", "user-access"}


def test_the_other_token_is_revoked_where_the_flow_s_own_is_missing(two, visitor, scripted):
    body = {name: value for name, value in BOTH.items() if name not in ("access_token", "refresh_token")}
    scripted.on("/token", Answer(body=body))
    assert visitor.connect("bot").status_code == 502
    assert held() == {}
    assert revoked(scripted) == {"user-access"}


@pytest.mark.django_db(transaction=True)
def test_both_are_stored_in_one_transaction(two, visitor, scripted, monkeypatch):
    store = type(Connection.objects).store

    def fails_for_the_second(self: Any, **fields: Any) -> Any:
        if fields["provider"] == "person":
            raise OSError("the disk is full")
        return store(self, **fields)

    monkeypatch.setattr(type(Connection.objects), "store", fails_for_the_second)
    with pytest.raises(OSError, match="disk"):
        visitor.connect("bot")
    assert held() == {}
    assert revoked(scripted) == {"bot-access", "user-access"}


def test_a_repeated_consent_renews_both(two, visitor, scripted):
    visitor.connect("bot")
    again = without_user(access_token="user-2", refresh_token="user-refresh-2")
    scripted.on("/token", Answer(body={**again, "access_token": "bot-2", "refresh_token": "bot-refresh-2"}))
    visitor.connect("bot")
    assert held() == {"bot": ("bot-2", "bot-refresh-2"), "person": ("user-2", "user-refresh-2")}


def test_a_reconnect_asks_for_no_further_scope_twice(two, visitor, user, scripted):
    scripted.on("/token", Answer(body={**BOTH, "scope": "chat:write,search:read"}))
    visitor.connect("bot")
    bot = Connection.objects.get(provider="bot")
    assert bot.has_scopes("search:read")
    asked = query_of(visitor.start("bot", connection=str(bot.pk)))
    assert (asked["scope"], asked["user_scope"]) == ("chat:write,commands", "search:read")


def test_the_other_entry_connects_alone(two, visitor):
    asked = query_of(visitor.start("person"))
    assert asked["user_scope"] == "search:read"
    assert "scope" not in asked
    visitor.come_back("person", state=asked["state"], code="code")
    assert held() == {"person": WHOLE["person"]}


def test_a_login_at_a_terminal_stores_both(two, user, scripted, scripted_entry):
    two(bot={"device_authorization_endpoint": f"{scripted.url}/device"})
    device = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/", "interval": 1}
    scripted.on("/device", Answer(body=device))
    DeviceLogin("bot", UserConnectionTarget(user)).run(lambda authorization: None)
    assert held() == WHOLE


def test_a_login_into_the_keyring_stores_both(two, small, scripted):
    two(bot={"device_authorization_endpoint": f"{scripted.url}/device"})
    device = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/", "interval": 1}
    scripted.on("/device", Answer(body=device))
    DeviceLogin("bot", KeyringTarget()).run(lambda authorization: None)
    for slug, (access, _) in WHOLE.items():
        flows.session_for_keyring(slug).get("x")
        assert scripted.asked("/api/x")[-1].headers["Authorization"] == f"Bearer {access}"
    assert not Connection.objects.exists()


def test_a_login_whose_token_cannot_be_stored_revokes_both(two, user, scripted):
    two(bot={"device_authorization_endpoint": f"{scripted.url}/device"})
    device = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.example/", "interval": 1}
    scripted.on("/device", Answer(body=device))
    scripted.on("/token", Answer(body=without_user(id=None)))
    with pytest.raises(CallbackRefused):
        DeviceLogin("bot", UserConnectionTarget(user)).run(lambda authorization: None)
    assert held() == {}
    assert revoked(scripted) == {"bot-access", "user-access"}


def test_an_account_in_use_keeps_its_tokens_where_another_flow_fails(two, visitor, scripted):
    visitor.connect("bot")
    scripted.on("/token", Answer(body=without_user(id=None)))
    visitor.connect("bot")
    assert held() == WHOLE
    assert revoked(scripted) == set()


@pytest.mark.parametrize(
    ("bot", "person", "named"),
    [
        ({}, {"token_response": {}}, "no token_response.path"),
        ({"client_id": "another"}, {}, "another client_id"),
        ({"token_endpoint": "https://id.example/token"}, {}, "token_endpoint"),
        ({"token_response": {"other_entries": ["absent"]}}, {}, "'absent'"),
    ],
)
def test_an_entry_that_could_not_refresh_the_token_is_refused_before_the_consent(
    bot, person, named, two, visitor, user
):
    two(bot=bot, person=person)
    request = visitor.request()
    request.user = user
    with pytest.raises(ImproperlyConfigured, match=named):
        flows.begin(request, "bot")
