"""Rows as django-allauth's models hold them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contrib.importers.conftest import OtherSite

NOW = int(time.time())
APP = "socialaccount.SocialApp"
ACCOUNT = "socialaccount.SocialAccount"
TOKEN = "socialaccount.SocialToken"
CLIENT = {"client_id": "google client", "client_secret": "google secret"}


@pytest.fixture
def site(other_site: Callable[..., OtherSite]) -> OtherSite:
    made = other_site("allauth")
    made.orders["providers"] = {"google": CLIENT}
    return made


def rows(provider: str = "google", *, app: str | None = "google client", **token: Any) -> dict[str, Any]:
    """An account of the user grace, its token, and the app where there is one in the database."""
    account = {"provider": provider, "uid": "108", "user": ["user", "grace"]}
    profile = {"sub": "108", "email": "grace@example.org"}
    made: dict[str, Any] = {
        "account": [ACCOUNT, {**account, "extra_data": profile}],
        "token": [TOKEN, {"account": ["row", "account"], "token": "old-access", **token}],
    }
    if app is not None:
        made = {"app": [APP, {"provider": provider, "name": "an app", "client_id": app}], **made}
        made["token"][1]["app"] = ["row", "app"]
    return made


def imported(site: OtherSite, written: dict[str, Any], status: int = 0) -> dict[str, int]:
    """Write rows, import them, and return the outcomes that there were."""
    site.do("write", rows=written)
    run = site.command("oauth_import", "allauth", "--json")
    assert run.status == status, run.err
    assert "old-access" not in run.out + run.err
    return {outcome: number for outcome, number in run.document["outcomes"].items() if number}


def test_a_token_that_has_run_out_keeps_its_expiry_and_waits_for_its_refresh(site: OtherSite) -> None:
    ended = NOW - 3600
    token = {"expires_at": ["time", ended], "token_secret": "old-refresh"}
    assert imported(site, rows(**token)) == {"imported": 1}
    (row_found,) = site.do("tell", tokens=["old-access", "old-refresh"])
    assert row_found["holds"]
    assert row_found["expires_at"] == ended
    assert row_found["due"]
    assert (row_found["account_id"], row_found["account_label"]) == ("108", "grace@example.org")


@pytest.mark.parametrize(
    ("extra_data", "label"),
    [
        ({"userinfo": {"sub": "108", "name": "Grace"}, "id_token": {"sub": "108", "name": "G."}}, "Grace"),
        ({"id_token": {"sub": "108", "email": "grace@example.org"}}, "grace@example.org"),
        ('{"sub": "108", "name": "Grace"}', "Grace"),
        ({"id_token": "a.b.c", "name": "Grace"}, "Grace"),
    ],
    ids=["userinfo", "ID token", "JSON as text", "flat"],
)
def test_the_name_is_found_where_an_openid_account_keeps_it(
    site: OtherSite, extra_data: Any, label: str
) -> None:
    written = rows(token_secret="old-refresh")
    written["account"][1]["extra_data"] = extra_data
    assert imported(site, written) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert (row_found["account_id"], row_found["account_label"]) == ("108", label)


def test_scopes_that_nobody_wrote_down_are_not_claimed(site: OtherSite) -> None:
    site.orders["providers"]["google"] = {**CLIENT, "scopes": ["openid", "email", "calendar"]}
    imported(site, rows(token_secret="old-refresh"))
    (row_found,) = site.do("tell")
    assert row_found["scopes"] == []


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        ({"token": ""}, "no_token"),
        ({"expires_at": ["time", NOW - 60]}, "expired"),
        ({"token": "old-access\u00e9"}, "unreadable"),
        ({"token_secret": "line\nbreak"}, "unreadable"),
    ],
)
def test_a_row_without_a_usable_token_is_left_out(
    site: OtherSite, token: dict[str, Any], outcome: str
) -> None:
    assert imported(site, rows(**token), status=int(outcome == "unreadable")) == {outcome: 1}
    assert site.do("tell") == []


def test_a_token_without_end_is_imported_without_a_refresh_token(site: OtherSite) -> None:
    assert imported(site, rows()) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert row_found["expires_at"] is None
    assert not row_found["due"]


def test_the_app_in_the_settings_counts_where_the_row_names_none(site: OtherSite) -> None:
    assert imported(site, rows(app=None)) == {"imported": 1}


def test_with_two_apps_in_the_settings_nobody_knows_whose_a_token_is(site: OtherSite) -> None:
    two = [{"client_id": "google client", "secret": "-"}, {"client_id": "another", "secret": "-"}]
    site.orders["changes"] = {"SOCIALACCOUNT_PROVIDERS": {"google": {"APPS": two}}}
    assert imported(site, rows(app=None), status=1) == {"unknown_client": 1}


def test_of_an_account_with_two_apps_only_our_app_s_token_is_taken(site: OtherSite) -> None:
    written = rows(token_secret="old-refresh")
    written["app of old"] = [APP, {"provider": "google", "name": "old", "client_id": "another"}]
    foreign = {"app": ["row", "app of old"], "account": ["row", "account"], "token": "foreign"}
    written["foreign"] = [TOKEN, foreign]
    assert imported(site, written, status=1) == {"imported": 1, "other_client": 1}
    (row_found,) = site.do("tell", tokens=["old-access", "old-refresh"])
    assert row_found["holds"]


def test_a_token_of_oauth_1_is_left_out(site: OtherSite) -> None:
    site.orders["providers"] = {"twitter": {**CLIENT, "token_endpoint": "https://api.x.com/2/oauth2/token"}}
    assert imported(site, rows("twitter", token_secret="old-secret")) == {"not_oauth2": 1}


def test_a_provider_whose_instance_is_not_known_is_connected_again(site: OtherSite) -> None:
    site.orders["providers"] = {"salesforce": CLIENT}
    assert imported(site, rows("salesforce"), status=1) == {"variable_missing": 1}


def test_an_entry_that_is_wrong_costs_only_its_own_rows(site: OtherSite) -> None:
    site.orders["providers"]["github"] = {"client_id": "an id", "oops": 1}
    written = {f"github {name}": row for name, row in rows("github").items()}
    written["github token"][1].update(account=["row", "github account"], app=["row", "github app"])
    assert imported(site, {**rows(), **written}, status=1) == {"imported": 1, "invalid_settings": 1}
