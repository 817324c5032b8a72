"""Owners, providers and accounts are the same only if each byte is, whatever the database's collation."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection as database
from django.db.models import F
from django.urls import reverse

from oauth_connect.conf import conf
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.flows import session_for
from oauth_connect.jobs.prune import EventsOf
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.models import Connection, ConnectionEvent, Owner, PendingRevocation, ProviderState
from oauth_connect.models.lifecycle import provider_health
from oauth_connect.models.lifecycle.revocation import make_kept_due, siblings
from oauth_connect.models.pending_revocation import GrantKey
from oauth_connect.models.row import rows_of
from tests.support.visitor import Visitor

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.usefixtures("scripted_provider"),
    pytest.mark.compliance("CVE-2024-32879"),
]
LOOKALIKES = pytest.mark.parametrize(
    ("key", "other"),
    [("org:aBC9", "org:AbC9"), ("org:café", "org:cafe"), ("org:a", "org:a "), ("org:ß", "org:ss")],
    ids=["case", "accent", "trailing blank", "sharp s"],
)


@LOOKALIKES
def test_an_owner_finds_its_own_connections_only(make_connection: Any, key: str, other: str) -> None:
    mine, theirs = make_connection(owner=key), make_connection(owner=other)
    assert list(Connection.objects.for_owner(key)) == [mine]
    assert list(Connection.objects.filter(owner__in=[other, "x"])) == [theirs]
    assert list(Connection.objects.exclude(owner=key)) == [theirs]
    assert list(Due(owner=key).stored) == [mine]
    assert ConnectionEvent.objects.filter(owner=key).count() == 1
    assert EventsOf(Owner(key)).count() == 1


@LOOKALIKES
def test_an_owner_does_not_call_with_anothers_token(make_connection: Any, key: str, other: str) -> None:
    make_connection(owner=key)
    with pytest.raises(ReauthorizationRequired):
        session_for(other, "scripted")


@LOOKALIKES
@pytest.mark.compliance("D17")
def test_an_owner_does_not_see_or_end_anothers_connection(
    make_connection: Any, visitor: Visitor, configure: Callable[..., None], key: str, other: str
) -> None:
    theirs = make_connection(owner=key, account_label="Theirs")
    configure(OWNER=lambda request: Owner(other))
    page = visitor.get(reverse("oauth_connect:connections"))
    assert page.status_code == 200
    assert b"Theirs" not in page.content
    end = reverse("oauth_connect:disconnect", kwargs={"pk": theirs.pk})
    assert (visitor.get(end).status_code, visitor.post(end).status_code) == (404, 404)
    theirs.refresh_from_db()
    assert theirs.status == Connection.Status.ACTIVE


@LOOKALIKES
def test_a_join_compares_bytes(make_connection: Any, key: str, other: str) -> None:
    make_connection(owner=key, account_id=other)
    make_connection(owner=key, account_id=key)
    assert [row.account_id for row in Connection.objects.filter(owner=F("account_id"))] == [key]


@LOOKALIKES
def test_another_account_does_not_share_the_grant(make_connection: Any, key: str, other: str) -> None:
    make_connection(account_id=key)
    rows = rows_of(Connection, "default")
    grant = GrantKey("scripted", "client", "user:x", other, {})
    assert not siblings(rows, grant, conf.provider("scripted")).exists()


@LOOKALIKES
def test_the_end_of_an_account_revokes_nothing_of_another(make_connection: Any, key: str, other: str) -> None:
    mine, theirs = make_connection(account_id=key), make_connection(account_id=other)
    kept = PendingRevocation.of(theirs)
    kept.seal(theirs.token)
    kept.next_attempt_at = None
    kept.save()
    assert make_kept_due(mine, "default", datetime.now(UTC)) == []
    assert make_kept_due(theirs, "default", datetime.now(UTC)) == [kept]


@LOOKALIKES
def test_each_provider_has_an_alarm_of_its_own(key: str, other: str) -> None:
    provider_health.begin_alarm("default", key, "invalid_client")
    provider_health.begin_alarm("default", other, "invalid_client")
    provider_health.end_alarm("default", other)
    alarms = ProviderState.objects.values_list("provider", "alarm")
    assert sorted(alarms) == sorted([(key, "invalid_client"), (other, "")])


def test_the_owner_of_machine_tokens_is_one_spelling(make_connection: Any) -> None:
    make_connection(owner="machine:scripted")
    assert not Connection.objects.for_owner("MACHINE:scripted").exists()


@pytest.mark.parametrize(
    ("lookup", "text"),
    [("iexact", "ORG:ABC"), ("icontains", "G:AB"), ("istartswith", "ORG"), ("iendswith", "BC")],
)
def test_a_search_still_ignores_case(make_connection: Any, lookup: str, text: str) -> None:
    mine = make_connection(owner="org:Abc")
    assert list(Connection.objects.filter(**{f"owner__{lookup}": text})) == [mine]
    assert list(Connection.objects.filter(owner__iregex="^ORG:a")) == [mine]


@pytest.mark.vendor("mysql")
@pytest.mark.django_db(transaction=True)  # ANALYZE commits
def test_an_owner_is_found_by_the_index(make_connection: Any) -> None:
    Connection.objects.bulk_create(
        Connection(owner=f"org:{number}", provider="acme", identity=uuid.uuid4().hex) for number in range(500)
    )
    with database.cursor() as cursor:
        cursor.execute(f"ANALYZE TABLE {Connection._meta.db_table}")
    assert "oauth_connect_owner" in Connection.objects.filter(owner="org:7", provider="acme").explain()
