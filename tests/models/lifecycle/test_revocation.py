"""A revocation that would end another connection is skipped."""

from __future__ import annotations

import logging

import pytest

from oauth_connect import presets
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.lifecycle.revocation import attempt
from tests.servers.scripted import Answer
from tests.support.tokens import tokens

pytestmark = pytest.mark.django_db


@pytest.fixture
def two(scripted, scripted_entry, configure, make_connection, user, other_user):
    """Make two owners' connections to one account. ``effect``: what a revocation ends at the provider."""

    def make(
        effect="grant", *, account="1", other="1", variables=None, others=None, entry=None, **revocation
    ):
        scripted.on("/revoke", Answer(200))
        revoked = {"revocation": {"effect": effect, **revocation}}
        configure(PROVIDERS={"scripted": {**scripted_entry, **revoked, **(entry or {})}})
        mine = make_connection(
            owner=user, account_id=account, variables=variables or {}, response=tokens("mine")
        )
        return mine, make_connection(
            owner=other_user, account_id=other, variables=others or {}, response=tokens("other")
        )

    return make


@pytest.fixture(autouse=True)
def commits(django_capture_on_commit_callbacks):
    return django_capture_on_commit_callbacks


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ({"effect": "token"}, 1),
        ({"effect": "grant"}, 0),
        ({"effect": "grant", "other": "2"}, 1),
        ({"effect": "grant", "account": "", "other": ""}, 1),
        ({"effect": "account"}, 0),
        ({"effect": "account", "other": "2"}, 1),
        ({"effect": "account", "other": "2", "variables": {"t": "a"}, "others": {"t": "a"}}, 0),
        ({"effect": "account", "other": "2", "variables": {"t": "a"}, "others": {"t": "b"}}, 1),
        ({"effect": "grant", "style": "none"}, 0),
    ],
)
def test_a_grant_that_another_connection_uses_is_not_revoked(how, asked, two, scripted, commits):
    mine, _ = two(**how)
    with commits(execute=True):
        mine.disconnect()
    assert len(scripted.asked("/revoke")) == asked
    assert Connection.objects.get(pk=mine.pk).sealed_token is None
    spared = not asked and how.get("style") != "none"
    assert PendingRevocation.objects.kept().count() == PendingRevocation.objects.count() == spared


BY_BROWSER = {"identity": {"source": "callback", "id": ["realmId"]}}
REALM = {
    "variables": {"t": {"source": "callback", "field": "realmId", "pattern": "[a-z]"}},
    "api_base_url": "https://api.example/{t}/",  # once filled in, the provider does not list the variable
}
SIGNED = {"callback": {"verify": "hmac_sha256_query"}}


@pytest.mark.parametrize(
    ("entry", "how", "asked"),
    [
        (BY_BROWSER, {"effect": "grant"}, 1),
        (BY_BROWSER, {"effect": "account"}, 1),
        ({**BY_BROWSER, **SIGNED}, {"effect": "grant"}, 0),
        (REALM, {"effect": "grant"}, 0),
        (REALM, {"effect": "account", "other": "2", "variables": {"t": "a"}, "others": {"t": "a"}}, 1),
        (
            {**REALM, **SIGNED},
            {"effect": "account", "other": "2", "variables": {"t": "a"}, "others": {"t": "a"}},
            0,
        ),
    ],
)
def test_what_a_browser_says_spares_no_other_owners_revocation(entry, how, asked, two, scripted, commits):
    mine, _ = two(**how, entry=entry)
    with commits(execute=True):
        mine.disconnect()
    assert len(scripted.asked("/revoke")) == asked


@pytest.mark.parametrize(
    ("name", "variables"), [("hubspot", {"hub_id": "24680135"}), ("intercom", {"workspace": "abc123"})]
)
def test_disconnecting_spares_colleagues_whose_workspace_would_lose_the_app(
    name, variables, two, scripted, commits
):
    preset = presets.load(name)
    assert set(variables) <= set(preset["variables"])
    named = {"variables": preset["variables"], "identity": {"source": "userinfo"}}
    mine, other = two(
        preset["revocation"]["effect"],
        account="abc123:1",
        other="abc123:2",
        variables=variables,
        others=variables,
        entry={**named, "userinfo_endpoint": f"{scripted.url}/me"},
    )
    with commits(execute=True):
        mine.disconnect()
    assert not scripted.asked("/revoke")
    with commits(execute=True):
        other.disconnect()
    assert scripted.asked("/revoke")


def test_a_skipped_revocation_is_logged(two, commits, caplog):
    mine, _ = two()
    with caplog.at_level(logging.INFO, "oauth_connect"), commits(execute=True):
        mine.disconnect()
    assert [record.action for record in caplog.records if "not revoked" in record.message] == [
        "revocation_skipped"
    ]


def test_the_last_connection_ends_the_grant_and_what_was_kept_of_it(two, scripted, commits):
    for connection in two():
        with commits(execute=True):
            connection.disconnect()
    assert len(scripted.asked("/revoke")) == 2
    assert not PendingRevocation.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_of_two_accounts_is_revoked_although_the_owner_keeps_the_other(
    scripted, scripted_provider, make_connection
):
    """A revocation ends a grant, and each account has a grant of its own."""
    gone, stays = (make_connection(account_id=name, response=tokens(name)) for name in ("ada", "linus"))
    scripted.on("/revoke", Answer(200))
    gone.delete()
    assert attempt(PendingRevocation.objects.get(), Connection).outcome == "revoked"
    assert Connection.objects.get() == stays


@pytest.mark.django_db(transaction=True)
def test_a_retry_does_not_revoke_a_grant_that_was_connected_again(
    user, scripted, scripted_provider, make_connection
):
    scripted.on("/revoke", Answer(503))
    make_connection(account_id="ada").disconnect()
    make_connection(account_id="ada", response=tokens("new"))
    scripted.on("/revoke", Answer(200))
    assert attempt(PendingRevocation.objects.get(), Connection).outcome == "spared"
    assert len(scripted.asked("/revoke")) == 1
    assert PendingRevocation.objects.kept().get().open().refresh_token == "refresh-0"
