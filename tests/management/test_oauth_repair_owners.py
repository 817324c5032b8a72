"""oauth_repair_owners: lets the owner of a row follow its user, and says what it cannot decide."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from oauth_connect.models import Connection
from tests.support.tokens import raw, stored

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("scripted_provider")]


@pytest.fixture
def rows(make_connection: Any, user: Any, other_user: Any) -> dict[str, Connection]:
    """A row for each outcome, and one that agrees."""
    made = {
        "owner_corrected": make_connection(),
        "user_removed": make_connection(owner="org:1"),
        "user_added": make_connection(),
        "already_connected": make_connection(account_id="ada"),
        "no_user": make_connection(),
    }
    make_connection(owner=other_user, account_id="ada")
    raw(made["owner_corrected"]).update(user=other_user)
    raw(made["user_removed"]).update(user=user)
    raw(made["user_added"]).update(user=None)
    raw(made["already_connected"]).update(user=other_user)
    raw(made["no_user"]).update(user=None, owner=f"user:{uuid.uuid4()}")
    return made


def test_each_row_is_corrected_or_named(command: Any, rows: dict[str, Connection], other_user: Any) -> None:
    run = command("oauth_repair_owners")
    assert run.status == 1
    for outcome in ("already_connected", "no_user"):
        (line,) = (line for line in run.lines if line.startswith(str(rows[outcome].pk)))
        assert "Delete" in line
    assert stored(rows["owner_corrected"]).owner == f"user:{other_user.pk}"
    assert stored(rows["user_removed"]).user is None
    assert stored(rows["user_added"]).user is not None
    assert stored(rows["owner_corrected"]).access_token() == "access-0"
    raw(rows["already_connected"]).delete()
    raw(rows["no_user"]).delete()
    run = command("oauth_repair_owners")
    assert (run.status, run.lines) == (0, ["The owner and the user of every connection are the same."])


def test_a_dry_run_says_the_same_and_changes_nothing(command: Any, rows: dict[str, Connection]) -> None:
    before = list(Connection.objects.order_by("pk").values())
    dry = command("oauth_repair_owners", "--dry-run", json=True).document
    assert list(Connection.objects.order_by("pk").values()) == before
    real = command("oauth_repair_owners", json=True).document
    assert real == {**dry, "dry_run": False}
    outcomes = {entry["connection"]: entry["outcome"] for entry in real["connections"]}
    assert outcomes == {str(row.pk): outcome for outcome, row in rows.items()}
    assert real["outcomes"] == {**dict.fromkeys(rows, 1), "unchanged": 0}
