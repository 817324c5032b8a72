"""What the list is narrowed down to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from oauth_connect.models import Connection

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
EXPIRIES = {"past": -HOUR, "minutes": HOUR / 2, "hours": 5 * HOUR, "days": 3 * DAY, "month": 30 * DAY}


@pytest.fixture
def listed(superuser):
    def listed(**query: Any) -> set[str]:
        response = superuser.get("changelist", **query)
        assert response.status_code == 200
        return {row.account_label for row in response.context["cl"].result_list}

    return listed


@pytest.fixture
def expiring(make_connection, change):
    now = datetime.now(UTC)
    for name, distance in EXPIRIES.items():
        change(make_connection(account_label=name), expires_at=now + distance)
    change(make_connection(account_label="never"), expires_at=None)
    ended = make_connection(account_label="ended")
    change(ended, expires_at=now + HOUR / 2, status="reauthorization_required")


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("expired", {"past"}),
        ("hour", {"minutes"}),
        ("day", {"minutes", "hours"}),
        ("week", {"minutes", "hours", "days"}),
        ("nonsense", {*EXPIRIES, "never", "ended"}),
    ],
)
def test_expiring(expiring, listed, choice, names):
    assert listed(expiring=choice) == names


def test_who_must_reconnect_soon(make_connection, change, listed):
    now = datetime.now(UTC)
    for name, distance in {"late": -DAY, "soon": 29 * DAY, "some day": 31 * DAY}.items():
        change(make_connection(account_label=name), reconnect_before=now + distance)
    make_connection(account_label="never")
    ended = change(make_connection(account_label="ended"), reconnect_before=now)
    change(ended, status="revoked")
    assert listed(expiring="reconnect") == {"late", "soon"}


def test_failing(make_connection, change, listed):
    change(make_connection(account_label="ill"), failures=2)
    make_connection(account_label="well")
    assert listed(failing="yes") == {"ill"}
    assert listed(failing="no") == {"well"}
    assert listed() == {"ill", "well"}


def test_status_and_provider(make_connection, change, listed, scripted_entry, configure):
    configure(PROVIDERS={"scripted": scripted_entry, "second": scripted_entry})
    change(make_connection(account_label="ended"), status="revoked")
    make_connection("second", account_label="other")
    assert listed(status__exact="revoked") == {"ended"}
    assert listed(provider="second") == {"other"}
    assert Connection.objects.count() == 2


@pytest.mark.parametrize("words", ["grace", "4711", "octo cat", "team:core"])
def test_search_knows_owners_and_accounts(make_connection, listed, words):
    facts = {
        "grace": {},
        "4711": {"owner": "a", "account_id": "4711"},
        "octo cat": {"owner": "b", "account_id": "5"},
        "team:core": {"owner": "team:core"},
    }
    labels = {"octo cat": "octocat"}
    for name, options in facts.items():
        make_connection(account_label=labels.get(name, name.upper()), **options)
    expected = {"octo cat": "octocat"}.get(words, words.upper())
    assert listed(q=words) == {expected}


@pytest.mark.compliance("D19")
@pytest.mark.parametrize("words", ["\x00", "%' OR 1=1 --", "x" * 16_000, "\\", '"'])
def test_a_strange_search_finds_nothing_and_breaks_nothing(make_connection, listed, words):
    make_connection(account_label="there")
    assert listed(q=words) <= {"there"}
