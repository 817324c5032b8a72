"""Which account a token belongs to: from userinfo, the ID token or the token response."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
from django.contrib.auth import get_user_model

from oauth_connect.errors import CallbackRefused
from oauth_connect.flows.account import identify
from oauth_connect.models import Connection
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from tests.servers.scripted import Answer
from tests.support import tokens
from tests.support.visitor import Visitor, query_of

pytestmark = pytest.mark.django_db

ISSUER = "https://id.example"
IN_ANSWER = {"source": "token_response", "id": ["account.id"], "label": ["account.name", "account.mail"]}


@pytest.fixture
def identified_by(scripted, scripted_entry, configure):
    """Set the provider's identity, and more keys of its entry."""

    def change(identity, **changes):
        configure(PROVIDERS={"scripted": {**scripted_entry, "identity": identity, **changes}})

    return change


@pytest.fixture
def userinfo(scripted, identified_by, issues):
    """Let userinfo answer, and set the provider up to ask it."""
    identified_by({"id": ["id"], "label": ["login"]}, userinfo_endpoint=f"{scripted.url}/userinfo")
    return lambda *answers: scripted.on("/userinfo", *answers)


def test_an_account_s_id_and_label_come_from_userinfo(visitor, scripted, userinfo, canary):
    userinfo(Answer(body={"id": 17, "login": "ada", "sub": "another"}))

    visitor.connect()

    connection = Connection.objects.get()
    assert (connection.account_id, connection.account_label) == ("17", "ada")
    [asked] = scripted.asked("/userinfo")
    assert asked.headers["Authorization"] == f"Bearer {canary}-access"
    assert asked.query == {}


def test_an_account_s_id_and_label_come_from_the_token_response(visitor, identified_by, issues):
    identified_by(IN_ANSWER)
    issues(account={"id": "T1", "name": "", "mail": "ada@example.com"})

    visitor.connect()

    connection = Connection.objects.get()
    assert (connection.account_id, connection.account_label) == ("T1", "ada@example.com")


def test_an_account_without_a_label_shows_its_id(visitor, identified_by, issues):
    identified_by(IN_ANSWER)
    issues(account={"id": "T1"})

    visitor.connect()

    assert Connection.objects.get().account_label == "T1"


def id_token(expected_nonce: str, **claims) -> str:
    defaults = {"iss": ISSUER, "aud": "client", "exp": time.time() + 60, "sub": "s-1"}
    defaults["nonce"] = expected_nonce
    payload = {name: value for name, value in {**defaults, **claims}.items() if value is not None}
    return f"e30.{base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip('=')}.signature"


@pytest.fixture
def openid(identified_by, visitor, issues):
    """Connect by an ID token with these claims; returns the response and the nonce that was asked for."""
    identity = {"source": "id_token", "id": ["sub"], "label": ["name"]}
    identified_by(identity, issuer=ISSUER, scopes=["openid"])

    def connect(**claims):
        query = query_of(visitor.start())
        issues(id_token=id_token(query["nonce"], **claims))
        return visitor.come_back(state=query["state"], code="code")

    return connect


@pytest.mark.compliance("A39")
@pytest.mark.parametrize("party", [{"aud": "client"}, {"aud": ["client", "another"], "azp": "client"}])
def test_an_account_s_id_and_label_come_from_the_id_token(openid, party):
    assert openid(**party, name="Ada").status_code == 302

    connection = Connection.objects.get()
    assert (connection.account_id, connection.account_label) == ("s-1", "Ada")


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": f"{ISSUER}/"},
        {"aud": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"nonce": "another"},
        {"nonce": None},
        {"sub": None},
        {"sub": ["s-1"]},
    ],
)
def test_an_id_token_for_another_sign_in_connects_nothing(openid, claims, scripted, canary):
    response = openid(**claims)

    assert response.status_code == 400
    assert not Connection.objects.exists()
    assert scripted.asked("/revoke")[0].form["token"] == f"{canary}-refresh"


@pytest.mark.compliance("A39")
@pytest.mark.parametrize(
    ("in_id_token", "in_userinfo", "status"),
    [("42", 42, 302), (42, "42", 302), ("42", "43", 400), (["42"], ["43"], 400), ("42", None, 400)],
)
def test_id_token_and_userinfo_name_one_subject_as_a_number_or_as_its_digits(
    identified_by, visitor, issues, scripted, in_id_token, in_userinfo, status
):
    identified_by(
        {"id": ["id"]}, issuer=ISSUER, scopes=["openid"], userinfo_endpoint=f"{scripted.url}/userinfo"
    )
    scripted.on("/userinfo", Answer(body={"id": "7", "sub": in_userinfo}))
    query = query_of(visitor.start())
    issues(id_token=id_token(query["nonce"], sub=in_id_token))
    assert visitor.come_back(state=query["state"], code="code").status_code == status


@pytest.mark.compliance("A39")
def test_nonces_are_never_alike(identified_by, visitor):
    identified_by({"source": "id_token"}, issuer=ISSUER, scopes=["openid"])

    assert len({query_of(visitor.start())["nonce"] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("path", "document"),
    [("data.0.id", {"data": [{"id": "7", "login": "ada"}]}), ("0.id", [{"id": 7}, {"id": 8}])],
)
def test_an_account_s_id_may_be_in_a_list(path, document, visitor, scripted, identified_by, issues):
    identified_by({"id": [path]}, userinfo_endpoint=f"{scripted.url}/userinfo")
    scripted.on("/userinfo", Answer(body=document))
    visitor.connect()
    assert Connection.objects.get().account_id == "7"


@pytest.mark.parametrize(
    ("document", "status"),
    [
        ({"status": "active", "id": 7}, 302),
        ({"status": "no_such_token"}, 502),
        ({"error": "x", "id": "of-the-request"}, 502),
    ],
)
def test_an_account_may_have_a_field_that_is_an_error_in_a_token_response(
    document, status, visitor, scripted, identified_by, issues
):
    rules = {"error_field": "status", "success_field": "ok"}
    identified_by({"id": ["id"]}, userinfo_endpoint=f"{scripted.url}/userinfo", token_response=rules)
    issues(ok=True)
    scripted.on("/userinfo", Answer(body=document))
    assert visitor.connect().status_code == status


def test_signed_userinfo_names_the_account(visitor, scripted, userinfo):
    userinfo(Answer(body=tokens.id_token(id="7").encode(), headers={"Content-Type": "application/jwt"}))
    visitor.connect()
    assert Connection.objects.get().account_id == "7"


@pytest.mark.parametrize(
    ("identity", "document", "named"),
    [
        ({}, {"data": {"user": {"open_id": "canary"}}}, "(sub, id)"),
        ({"id": ["data.id", "x+y"]}, [{"open_id": "canary"}], "(data.id, x+y)"),
        ({"source": "token_response"}, {}, "'token_response'"),
        ({"id": ["open_id"]}, {"open_id": "canary" * 100}, "at most 255 characters"),
    ],
)
def test_an_unknown_account_names_the_setting_and_the_keys_that_were_there(
    scripted, scripted_entry, identity, document, named
):
    scripted.on("/userinfo", Answer(body=document))
    entry = {**scripted_entry, "userinfo_endpoint": f"{scripted.url}/userinfo", "identity": identity}
    token = Token("canary", datetime.now(UTC), extra={"account": {"open_id": "canary"}})
    provider = Provider.from_mapping("scripted", entry)
    with (
        AuthorizationServer(provider, timeout=50) as server,
        pytest.raises(CallbackRefused, match=r"scripted\.identity\.id .*open_id") as refused,
    ):
        identify(server, token, nonce=None, parameters={})
    assert refused.value.code == "account_unknown"
    assert named in str(refused.value)
    assert "canary" not in str(refused.value)


HOSTILE_DOCUMENTS = [
    {},
    {"id": ""},
    {"id": None},
    {"id": True},
    {"id": 1.5},
    {"id": {"nested": 1}},
    {"id": ["7"]},
    {"id": "x" * 256},
    {"id": "a\x00b"},
    {"id": "\ud800"},
    [],
    "7",
]


@pytest.mark.parametrize("document", HOSTILE_DOCUMENTS, ids=repr)
def test_a_provider_that_does_not_say_which_account_connects_nothing(
    document, visitor, scripted, userinfo, canary
):
    userinfo(Answer(body=document))

    assert visitor.connect().status_code in (400, 502)
    assert not Connection.objects.exists()
    assert scripted.asked("/revoke")[0].form["token"] == f"{canary}-refresh"


@pytest.mark.parametrize("answer", [*map(Answer, (302, 401, 403, 500)), Answer(cut=-1)], ids=repr)
def test_where_userinfo_fails_nothing_is_connected_and_the_token_is_dropped(
    answer, visitor, scripted, userinfo
):
    userinfo(answer)

    response = visitor.connect()

    assert response.status_code == 502
    assert not Connection.objects.exists()
    assert len(scripted.asked("/revoke")) == 1


def test_a_token_is_not_dropped_where_that_could_end_a_living_connection(
    visitor, scripted, userinfo, make_connection
):
    """Some providers end the whole grant of user and app with one token of it."""
    make_connection()
    userinfo(Answer(500))

    visitor.connect()

    assert scripted.asked("/revoke") == []


def test_nor_where_another_owner_lives_on_the_same_instance(
    visitor, scripted, identified_by, issues, make_connection, other_user
):
    """Which instance it is, only the token's answer has said."""
    identified_by(
        {"id": ["id"]},
        userinfo_endpoint=f"{scripted.url}/nobody",
        api_base_url=f"{scripted.url}/{{team}}/",
        variables={"team": {"source": "token_response", "field": "team", "pattern": r"\w+"}},
        revocation={"effect": "account"},
    )
    make_connection(owner=other_user, variables={"team": "blue"})
    for name, asked in (("blue", 0), ("red", 1)):
        issues(team=name)
        visitor.connect()
        assert len(scripted.asked("/revoke")) == asked


@pytest.mark.compliance("D60")
@pytest.mark.parametrize("label", ["x" * 10_000, "<script>alert(1)</script>", "a\x00b\ud800\nc"])
def test_any_label_is_stored_short_and_shown_escaped(label, visitor, userinfo):
    userinfo(Answer(body={"id": 7, "login": label}))

    visitor.connect()

    stored = Connection.objects.get().account_label
    assert stored.isprintable()
    assert len(stored) <= 255
    assert b"<script>" not in visitor.get("/oauth/").content


@pytest.mark.compliance("CVE-2024-32879")
def test_accounts_that_differ_in_case_are_two(visitor, userinfo):
    for account in ("abc", "ABC"):
        userinfo(Answer(body={"id": account}))
        visitor.connect()

    assert {row.account_id for row in Connection.objects.all()} == {"abc", "ABC"}


@pytest.mark.compliance("CVE-2025-61783", "CVE-2025-65431")
def test_what_the_provider_says_of_a_person_never_finds_a_user_here(visitor, user, other_user, userinfo):
    get_user_model().objects.filter(pk=other_user.pk).update(email="mallory@example.com")
    userinfo(Answer(body={"id": str(other_user.pk), "login": "mallory", "email": "mallory@example.com"}))

    visitor.connect()

    assert Connection.objects.get().user == user


@pytest.mark.compliance("CVE-2025-65431")
def test_an_account_renamed_at_the_provider_stays_the_same_connection(visitor, userinfo):
    for name in ("ada", "somebody else's former name"):
        userinfo(Answer(body={"id": 7, "login": name}))
        visitor.connect()

    connection = Connection.objects.get()
    assert (connection.account_id, connection.account_label) == ("7", "somebody else's former name")


@pytest.mark.compliance("D57")
def test_two_users_with_one_account_share_no_token(visitor, user, other_user, userinfo, issues, canary):
    userinfo(Answer(body={"id": 7, "login": "shared"}))
    visitor.connect()
    issues(access_token=f"{canary}-theirs", refresh_token=None)
    Visitor(other_user).connect()

    mine, theirs = (Connection.objects.for_owner(owner).get() for owner in (user, other_user))
    assert mine.pk != theirs.pk
    assert mine.token.access_token == f"{canary}-access"
    assert (theirs.token.access_token, theirs.token.refresh_token) == (f"{canary}-theirs", "")


@pytest.mark.compliance("A15", "CVE-2021-41580")
@pytest.mark.parametrize(
    "body",
    [{}, [], {"access_token": ""}, {"access_token": 7, "token_type": "Bearer"}, {"access_token": "a"}],
)
def test_an_answer_without_a_usable_token_connects_nothing(body, visitor, scripted, scripted_provider):
    scripted.on("/token", Answer(body=body))

    assert visitor.connect().status_code == 502
    assert not Connection.objects.exists()


@pytest.mark.compliance("A17", "CVE-2022-31690")
@pytest.mark.parametrize(
    ("scope", "granted"),
    [(None, ["read", "write"]), ("", []), ("read", ["read"]), ("read admin", ["read"])],
)
def test_the_scopes_that_were_granted_are_stored(scope, granted, visitor, identified_by, issues):
    identified_by({}, scopes=["read", "write"])
    issues(scope=scope)

    visitor.connect()

    connection = Connection.objects.get()
    assert connection.scopes == granted
    assert connection.has_scopes("write") == ("write" in granted)
