"""Rows as social-auth-app-django's model holds them."""

from __future__ import annotations

import fcntl
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.contrib.importers.conftest import OtherSite
from tests.support.processes import Forked
from tests.support.tokens import id_token as id_token_of

NOW = int(time.time())
ROW = "social_django.UserSocialAuth"
CLIENT = {"client_id": "google client", "client_secret": "google secret"}
# Their lines are more than a pipe holds: the command waits for its reader before it is done. Linux can make
# a pipe smaller.
PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)
MANY = 600 if PIPE_SIZE else 4000
KEPT = {"access_token": "old-access", "refresh_token": "old-refresh", "auth_time": NOW - 600}


@pytest.fixture
def site(other_site: Callable[..., OtherSite]) -> OtherSite:
    made = other_site("social_auth")
    made.orders["providers"] = {"google": CLIENT}
    return made


def row(provider: str = "google-oauth2", uid: str = "108", **extra_data: Any) -> list[Any]:
    kept = {**KEPT, **extra_data}
    return [ROW, {"provider": provider, "uid": uid, "user": ["user", "grace"], "extra_data": kept}]


def imported(site: OtherSite, *written: list[Any], status: int = 0) -> dict[str, int]:
    site.do("write", rows={str(number): one for number, one in enumerate(written)})
    run = site.command("oauth_import", "social_auth", "--json")
    assert run.status == status, run.err
    assert "old-" not in run.out + run.err
    return {outcome: number for outcome, number in run.document["outcomes"].items() if number}


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"expires": 3600}, NOW + 3000),
        ({"expires_in": 3600}, NOW + 3000),
        ({"expires": NOW + 3600}, NOW + 3600),
        ({"expires_on": str(NOW - 3600)}, NOW - 3600),
        ({"expires_at": NOW + 3600.5}, NOW + 3600),
        ({"expires": (NOW + 3600) * 1000}, NOW + 3600),
        ({"expires": "2033-05-18T03:33:20Z"}, 2_000_000_000),
        ({"expires_on": "soon", "expires_in": "3600"}, NOW + 3000),
        ({"expires_in": 3600, "auth_time": str(NOW - 600)}, NOW + 3000),
    ],
    ids=[
        "expires",
        "expires_in",
        "expires at a time",
        "expires_on",
        "expires_at",
        "milliseconds",
        "ISO 8601",
        "the next name",
        "auth_time as text",
    ],
)
def test_each_form_of_an_expiry_is_kept(site: OtherSite, fields: dict[str, Any], end: int) -> None:
    assert imported(site, row(**fields)) == {"imported": 1}
    (row_found,) = site.do("tell", tokens=["old-access", "old-refresh"])
    assert row_found["holds"]
    assert row_found["expires_at"] == pytest.approx(end, abs=2)


def test_a_lifetime_without_its_time_counts_from_when_the_row_was_written(site: OtherSite) -> None:
    written = row(expires_in=3600, auth_time=None)
    written[1]["modified"] = ["time", NOW - 1800]
    assert imported(site, written) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert row_found["expires_at"] == pytest.approx(NOW + 1800, abs=2)


def test_the_name_of_an_openid_account_comes_from_its_id_token(site: OtherSite) -> None:
    assert imported(site, row(id_token=id_token_of(sub="108", email="grace@example.org"))) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert (row_found["account_id"], row_found["account_label"]) == ("108", "grace@example.org")


def test_an_expiry_that_makes_no_sense_says_nothing(site: OtherSite) -> None:
    assert imported(site, row(expires="soon")) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert row_found["expires_at"] is None


def test_an_account_known_by_its_address_gets_the_id_by_which_it_is_known_here(site: OtherSite) -> None:
    assert imported(site, row(uid="grace@example.org", sub="108")) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert row_found["account_id"] == "108"


def test_two_names_of_one_provider_make_one_connection(site: OtherSite) -> None:
    twice = [row(uid="grace@example.org", sub="108"), row("google-openidconnect", "108", sub="108")]
    site.orders["changes"] = {"SOCIAL_AUTH_GOOGLE_OPENIDCONNECT_KEY": "google client"}
    assert imported(site, *twice) == {"imported": 1, "already_here": 1}
    assert len(site.do("tell")) == 1


@pytest.mark.parametrize("scope", ["calendar drive", ["calendar", "drive"]])
def test_granted_scopes_are_kept_where_they_are_known(site: OtherSite, scope: Any) -> None:
    imported(site, row(scope=scope))
    (row_found,) = site.do("tell")
    assert row_found["scopes"] == ["calendar", "drive"]


def test_a_row_without_a_token_is_left_out(site: OtherSite) -> None:
    assert imported(site, row(access_token=None)) == {"no_token": 1}


def test_a_token_of_oauth_1_is_left_out(site: OtherSite) -> None:
    pair = {"oauth_token": "old-token", "oauth_token_secret": "old-secret"}
    assert imported(site, row(access_token=pair)) == {"not_oauth2": 1}


def test_data_from_the_days_of_text_fields_is_read(site: OtherSite) -> None:
    written = row()
    written[1]["extra_data"] = json.dumps(KEPT)
    assert imported(site, written) == {"imported": 1}


def test_a_backend_that_is_gone_still_counts_by_its_key(site: OtherSite) -> None:
    site.orders["changes"] = {"AUTHENTICATION_BACKENDS": ["django.contrib.auth.backends.ModelBackend"]}
    assert imported(site, row()) == {"imported": 1}


def test_without_its_key_nobody_knows_whose_a_token_is(site: OtherSite) -> None:
    site.orders["changes"] = {"SOCIAL_AUTH_GOOGLE_OAUTH2_KEY": None}
    assert imported(site, row(), status=1) == {"unknown_client": 1}


def test_the_instance_that_came_with_a_token_is_kept(site: OtherSite) -> None:
    site.orders["providers"] = {"salesforce": CLIENT}
    site.orders["changes"] = {"SOCIAL_AUTH_SALESFORCE_OAUTH2_KEY": "google client"}
    written = row("salesforce-oauth2", instance_url="https://mills.my.salesforce.com")
    assert imported(site, written) == {"imported": 1}
    (row_found,) = site.do("tell")
    assert row_found["variables"] == {"instance": "mills.my.salesforce.com"}


def test_an_import_that_was_killed_is_completed_by_the_next(site: OtherSite) -> None:
    site.do("write", rows={str(number): row(uid=str(number)) for number in range(MANY)})
    killed = begun(site)
    killed.kill()
    killed.communicate()
    outcomes = site.command("oauth_import", "social_auth", "--json").document["outcomes"]
    assert outcomes["already_here"] > 0
    assert outcomes["imported"] > 0
    assert outcomes["already_here"] + outcomes["imported"] == MANY
    assert len(site.do("tell")) == MANY


def test_asked_to_stop_it_ends_after_what_is_under_way_and_says_so(site: OtherSite) -> None:
    site.do("write", rows={str(number): row(uid=str(number)) for number in range(MANY)})
    process = begun(site)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "Stopped on request. Run it again for the rest." in out
    assert len(site.do("tell")) < MANY


def begun(site: OtherSite) -> Forked:
    """Start an import, and return once it has imported something."""
    process = site.start("django", "oauth_import", "social_auth", "-v", "2")
    assert process.stdout is not None
    if PIPE_SIZE:
        fcntl.fcntl(process.stdout, PIPE_SIZE, 4096)
    assert process.stdout.readline().endswith(": imported\n")
    return process
