"""Connecting again: the same row for the same account, and never another account in its place."""

from __future__ import annotations

import pytest

from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.models import Connection
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, answer_of_codeyard, query_of

pytestmark = pytest.mark.django_db

IDENTITY = {"source": "token_response", "id": ["account"], "label": ["account"]}


@pytest.fixture
def entry(scripted_entry, configure):
    entry = {**scripted_entry, "identity": IDENTITY, "scopes": ["read"]}
    configure(PROVIDERS={"scripted": entry})
    return entry


@pytest.fixture
def connection(entry, make_connection, canary):
    answer = {"access_token": f"{canary}-old", "refresh_token": f"{canary}-kept", "token_type": "Bearer"}
    return make_connection(account_id="ada", account_label="ada", response={**answer, "scope": "read"})


def test_the_same_account_is_the_same_row_with_a_newer_version(connection, visitor, issues, canary):
    issues(account="ada")

    assert visitor.connect(connection=connection.pk).status_code == 302

    again = Connection.objects.get()
    assert (again.pk, again.version, again.status) == (connection.pk, connection.version + 1, "active")
    assert again.token.access_token == f"{canary}-access"
    assert again.created_at == connection.created_at


def test_the_same_account_is_the_same_row_without_being_named(connection, visitor, issues):
    issues(account="ada")

    visitor.connect()

    assert Connection.objects.get().pk == connection.pk


@pytest.mark.compliance("A18", "D29")
def test_a_repeated_consent_without_a_refresh_token_keeps_the_old_one(connection, visitor, issues, canary):
    issues(account="ada", refresh_token=None)

    visitor.connect(connection=connection.pk)

    token = Connection.objects.get().token
    assert (token.access_token, token.refresh_token) == (f"{canary}-access", f"{canary}-kept")


def test_a_dead_connection_s_refresh_token_is_not_kept(connection, visitor, scripted, issues):
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    with pytest.raises(ReauthorizationRequired):
        connection.refresh()
    issues(account="ada", refresh_token=None)

    visitor.connect(connection=connection.pk)

    assert Connection.objects.get().token.refresh_token == ""


@pytest.mark.compliance("D56")
def test_another_account_is_refused_and_nothing_changes(connection, visitor, scripted, issues, canary):
    issues(account="linus")

    response = visitor.connect(connection=connection.pk)

    assert (response.status_code, response.context["code"]) == (400, "other_account")
    row = Connection.objects.get()
    assert (row.version, row.account_id, row.token.access_token) == (0, "ada", f"{canary}-old")
    # No connection lives on the other account's grant; the one that was to be renewed does not either.
    assert len(scripted.asked("/revoke")) == 1
    assert f"{canary}-old" not in scripted.asked("/revoke")[0].form["token"]


@pytest.mark.compliance("D56")
def test_another_account_that_a_user_of_this_site_has_connected_keeps_its_grant(
    connection, visitor, scripted, issues, make_connection, other_user
):
    make_connection(owner=other_user, account_id="linus")
    issues(account="linus")

    visitor.connect(connection=connection.pk)

    assert scripted.asked("/revoke") == []


@pytest.mark.compliance("D56")
def test_another_account_is_another_connection_where_none_was_named(connection, visitor, issues):
    issues(account="linus")

    visitor.connect()

    assert {row.account_id for row in Connection.objects.all()} == {"ada", "linus"}
    assert Connection.objects.get(pk=connection.pk).version == connection.version


@pytest.mark.compliance("A17", "A40", "B4")
def test_what_was_granted_is_asked_for_again_and_the_new_grant_is_stored(
    entry, make_connection, visitor, issues
):
    old = {"access_token": "old", "token_type": "Bearer", "scope": "read"}
    connection = make_connection(account_id="ada", response=old)
    issues(account="ada", scope="read write")
    path = f"/oauth/scripted/connect/?connection={connection.pk}"

    url = visitor.follow(path)
    visitor.come_back(state=query_of(url)["state"], code="code")

    assert query_of(url)["scope"] == "read"
    assert Connection.objects.get().scopes == ["read"]


@pytest.mark.compliance("D17")
def test_no_user_reconnects_another_user_s_connection(connection, other_user, issues):
    stranger = Visitor(other_user)
    path = f"/oauth/scripted/connect/?connection={connection.pk}"

    assert stranger.get(path).status_code == stranger.post(path).status_code == 404
    missing = "/oauth/scripted/connect/?connection=00000000-0000-0000-0000-000000000000"
    assert stranger.get(path).content == stranger.get(missing).content


def test_a_connection_deleted_meanwhile_is_created_again(connection, visitor, issues):
    issues(account="ada")
    url = visitor.start(connection=connection.pk)
    connection.delete()

    assert visitor.come_back(state=query_of(url)["state"], code="code").status_code == 302
    assert Connection.objects.get().account_id == "ada"


def test_a_reconnect_that_fails_leaves_the_old_token_at_work(connection, visitor, scripted, canary):
    scripted.on("/token", Answer(503))

    assert visitor.connect(connection=connection.pk).status_code == 502
    assert Connection.objects.get().token.access_token == f"{canary}-old"


@pytest.mark.django_db(transaction=True)
def test_an_account_removed_at_the_provider_is_connected_again_there(codeyard, user):
    visitor = Visitor(user)
    visitor.come_back("codeyard", **answer_of_codeyard(visitor.start("codeyard")))
    first = Connection.objects.get()
    codeyard.revoke()

    url = visitor.follow(first.connect_url)
    visitor.come_back("codeyard", **answer_of_codeyard(url))

    again = Connection.objects.get()
    assert (again.pk, again.version) == (first.pk, first.version + 1)
    assert again.session().get("user").status_code == 200
