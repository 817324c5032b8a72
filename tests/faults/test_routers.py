"""Reads go to a replica that lags behind, and the app lives on an alias that is not the default."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.http import HttpRequest
from django.test import RequestFactory

from oauth_connect.engine.store import ACTIVE
from oauth_connect.errors import OAuthConnectError, ReauthorizationRequired
from oauth_connect.flows import access_token_for, machine_access_token
from oauth_connect.flows.terminal import DeviceLogin, UserConnectionTarget
from oauth_connect.models import Connection, ConnectionEvent
from oauth_connect.stores.transactions import Placement, placement
from oauth_connect.views import connection_required
from tests.admin.pages import Staff, text
from tests.servers.scripted import Answer
from tests.support.follow_ups import wait_for_follow_ups
from tests.support.tokens import EXPIRED, FRESH
from tests.support.visitor import state_of

pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.usefixtures("scripted_provider"),
]

REFUSED = Answer(400, {"error": "invalid_grant"})
REPLICA = "other"


class ReadsFromAReplica:
    def db_for_read(self, model: Any, **hints: Any) -> str:
        return REPLICA

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, *args: Any, **hints: Any) -> bool:
        return True


class LivesElsewhere(ReadsFromAReplica):
    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "other"


@pytest.fixture
def behind(settings: Any, make_connection: Any, user: Any, scripted: Any) -> Connection:
    """A connection whose copy in the replica never hears of what happens to it."""
    scripted.on("/token", Answer(body=FRESH), REFUSED)
    connection: Connection = make_connection(age=EXPIRED)
    for row in (user, connection):
        copy = type(row)._base_manager.get(pk=row.pk)
        copy.save(using=REPLICA, force_insert=True)
    settings.DATABASE_ROUTERS = [ReadsFromAReplica()]
    return connection


def master(connection: Connection) -> Connection:
    return Connection._base_manager.using("default").get(pk=connection.pk)


def test_a_replica_that_lags_behind_makes_no_caller_spend_a_token_twice(behind, scripted):
    for _ in range(3):
        stale = Connection.objects.get()
        assert (stale._state.db, stale.version) == (REPLICA, 0)
        assert stale.access_token() == "access-1"
        assert stale.version == 1
    assert len(scripted.asked("/token")) == 1
    assert master(behind).token.refresh_token == "refresh-1"


def test_the_flows_take_over_what_the_replica_has_not_heard_of(behind, scripted, user):
    assert [access_token_for(user, "scripted") for _ in range(2)] == ["access-1"] * 2
    assert len(scripted.asked("/token")) == 1


def test_a_mark_is_set_and_seen_where_writes_go(behind, scripted):
    scripted.on("/token", REFUSED)
    for _ in range(2):
        with pytest.raises(ReauthorizationRequired):
            Connection.objects.get().access_token()
    assert len(scripted.asked("/token")) == 1
    assert master(behind).status == "reauthorization_required"


def test_inside_a_transaction_of_the_caller_the_token_stays(behind, scripted):
    with transaction.atomic(using="default"):
        assert Connection.objects.get().access_token() == "access-1"
        transaction.set_rollback(True, using="default")
    wait_for_follow_ups()
    assert master(behind).token.refresh_token == "refresh-1"


def test_a_disconnect_of_what_the_replica_still_shows_revokes_the_present_token(behind, scripted):
    scripted.on("/revoke", Answer(200))
    master(behind).refresh()

    Connection.objects.get().disconnect()

    assert [request.form["token"] for request in scripted.asked("/revoke")] == ["refresh-1"]
    assert master(behind).sealed_token is None


def test_the_command_is_not_sent_after_what_the_replica_takes_for_due(behind, scripted):
    master(behind).refresh()
    call_command("oauth_refresh", verbosity=0)
    assert len(scripted.asked("/token")) == 1


def test_a_machine_token_is_looked_for_where_writes_go(settings, scripted):
    settings.DATABASE_ROUTERS = [ReadsFromAReplica()]
    scripted.on("/token", Answer(body=FRESH), REFUSED)
    assert [machine_access_token("scripted") for _ in range(3)] == ["access-1"] * 3
    assert Connection._base_manager.using("default").count() == 1


# --- flows that end badly, beside a connection that the replica does not show ----------------------


class ReadsConnectionsFromAReplica(ReadsFromAReplica):
    """Sessions and users are read where they are written."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return REPLICA if model in (Connection, ConnectionEvent) else "default"


@pytest.fixture
def shown_then_not(settings: Any, make_connection: Any, user: Any, scripted: Any) -> Connection:
    """A connection with a copy in the replica, until that is taken away."""
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/revoke", Answer(200))
    connection: Connection = make_connection(account_id="ada")
    user.save(using=REPLICA, force_insert=True)
    Connection._base_manager.get(pk=connection.pk).save(using=REPLICA, force_insert=True)
    settings.DATABASE_ROUTERS = [ReadsConnectionsFromAReplica()]
    return connection


def test_who_comes_back_with_another_account_is_refused_and_ends_no_grant(shown_then_not, scripted, visitor):
    state = state_of(visitor.start(connection=shown_then_not.pk))
    Connection._base_manager.using(REPLICA).all().delete()

    assert visitor.come_back(state=state, code="code").status_code == 400

    assert len(scripted.asked("/token")) == 1
    assert not scripted.asked("/revoke")
    assert master(shown_then_not).version == 0


def test_a_login_at_a_terminal_that_fails_ends_no_grant(
    shown_then_not, scripted, scripted_entry, configure, user
):
    ways = {
        "device_authorization_endpoint": f"{scripted.url}/device",
        "userinfo_endpoint": f"{scripted.url}/nobody",
    }
    configure(PROVIDERS={"scripted": {**scripted_entry, **ways}})
    begun = {"device_code": "d", "user_code": "u", "verification_uri": "https://id.test/", "expires_in": 60}
    scripted.on("/device", Answer(body={**begun, "interval": 1}))
    Connection._base_manager.using(REPLICA).all().delete()

    with pytest.raises(OAuthConnectError):
        DeviceLogin("scripted", UserConnectionTarget(user)).run(lambda begun: None)

    assert len(scripted.asked("/token")) == 1
    assert not scripted.asked("/revoke")


# --- pages and calls right after an account was connected or disconnected ---------------------------


@pytest.fixture
def lagging(settings: Any, scripted: Any) -> None:
    """The replica shows no connection yet."""
    settings.DATABASE_ROUTERS = [ReadsConnectionsFromAReplica()]
    scripted.on("/token", Answer(body=FRESH))


@pytest.fixture
def just_connected(lagging: None, make_connection: Any) -> Connection:
    connection: Connection = make_connection()
    assert not Connection.objects.exists()
    return connection


@pytest.fixture
def just_disconnected(shown_then_not: Connection) -> Connection:
    """The replica still shows the account as connected."""
    master(shown_then_not).disconnect()
    assert Connection.objects.get().status == ACTIVE
    return shown_then_not


PAGES = ["/oauth/", "/oauth/scripted/connect/?connection={}", "/oauth/{}/disconnect/"]


@pytest.mark.parametrize("page", PAGES)
def test_each_page_shows_an_account_that_was_just_connected(just_connected, visitor, page):
    response = visitor.get(page.format(just_connected.pk))
    assert response.status_code == 200
    assert str(just_connected.pk) in response.text or just_connected.account_id in response.text


@pytest.mark.parametrize("page", PAGES)
def test_no_page_offers_an_account_that_was_just_disconnected(just_disconnected, visitor, page):
    response = visitor.get(page.format(just_disconnected.pk))
    assert response.status_code == 404 or str(just_disconnected.pk) not in response.text


def test_an_account_that_was_just_connected_is_disconnected_by_its_page(just_connected, visitor):
    assert visitor.post(f"/oauth/{just_connected.pk}/disconnect/").status_code == 302
    assert master(just_connected).status == "revoked"


def test_a_view_that_needs_a_connection_serves_the_user_who_has_just_connected(just_connected, user):
    assert access_token_for(user, "scripted") == "access-0"
    assert connection_required("scripted")(lambda request: "served")(visit(user)) == "served"


def test_a_view_that_needs_a_connection_sends_away_the_user_who_has_just_disconnected(
    just_disconnected, user
):
    with pytest.raises(ReauthorizationRequired):
        access_token_for(user, "scripted")
    assert connection_required("scripted")(lambda request: "served")(visit(user)).status_code == 302


def test_finding_a_connection_costs_one_query(just_connected, user, django_assert_num_queries):
    with django_assert_num_queries(1, connection=connections["default"]):
        access_token_for(user, "scripted")


def visit(user: Any) -> HttpRequest:
    request = RequestFactory().get("/page/")
    request.user = user
    return request


def test_the_terminal_disconnects_what_was_just_connected(just_connected, user, capsys):
    call_command("oauth_logout", "scripted", user=user.get_username())
    assert master(just_connected).status == "revoked"


def test_the_terminal_says_that_the_provider_has_not_revoked_the_token_yet(just_connected, scripted, user):
    scripted.on("/revoke", Answer(503))
    with pytest.raises(CommandError, match="has not revoked the token yet"):
        call_command("oauth_logout", "scripted", user=user.get_username(), verbosity=0)


def test_staff_act_on_the_row_that_the_primary_has(shown_then_not, scripted):
    master(shown_then_not).disconnect()
    response = Staff().act("disconnect_selected", [shown_then_not], confirmed="yes")
    assert "Already disconnected" in response.text


def test_staff_see_at_once_what_their_action_did(just_connected, scripted):
    scripted.on("/revoke", Answer())
    staff = Staff()
    assert staff.get("changelist").context["cl"].result_count == 1
    data = {"action": "disconnect_selected", "confirmed": "yes", "from_page": "1"}

    staff.post("changelist", **data, _selected_action=str(just_connected.pk))

    page = staff.get("change", just_connected.pk)
    assert page.context["original"].status == "revoked"
    assert "revoked by staff" in text(page)


# --- on an alias of its own -----------------------------------------------------------------------


@pytest.fixture
def elsewhere(settings: Any, make_connection: Any, scripted: Any) -> Connection:
    settings.DATABASE_ROUTERS = [LivesElsewhere()]
    scripted.on("/token", Answer(body=FRESH), REFUSED)
    connection: Connection = make_connection(
        owner=get_user_model().objects.create_user(username="ada"), age=EXPIRED
    )
    return connection


@pytest.mark.compliance("D47")
def test_a_transaction_of_the_site_on_the_default_alias_is_none_of_the_apps(elsewhere):
    with transaction.atomic(using="default"):
        assert placement("other") is Placement.CALLER
        assert Connection.objects.get().access_token() == "access-1"
        transaction.set_rollback(True, using="default")
    kept = Connection.objects.using("other").get()
    assert (kept.status, kept.version, kept.token.refresh_token) == (ACTIVE, 1, "refresh-1")


@pytest.mark.compliance("D47")
def test_a_transaction_on_the_apps_own_alias_decides_nothing_about_the_token(elsewhere):
    with transaction.atomic(using="other"):
        assert placement("other") is not Placement.CALLER
        assert Connection.objects.get().access_token() == "access-1"
        transaction.set_rollback(True, using="other")
    wait_for_follow_ups()
    assert Connection.objects.using("other").get().token.refresh_token == "refresh-1"
    assert not hasattr(connections._connections, "other:oauth_connect")  # type: ignore[attr-defined]
    assert not Connection.objects.using("default").exists()


@pytest.mark.compliance("D47")
@pytest.mark.parametrize("alias", ["default", "other"])
def test_a_machine_token_lives_on_the_apps_own_alias(settings, scripted, alias):
    settings.DATABASE_ROUTERS = [LivesElsewhere()]
    scripted.on("/token", Answer(body=FRESH), REFUSED)
    with transaction.atomic(using=alias):
        assert machine_access_token("scripted") == "access-1"
    assert machine_access_token("scripted") == "access-1"
    assert Connection.objects.using("other").get().token.refresh_token == ""
    assert not Connection.objects.using("default").exists()
    assert not hasattr(connections._connections, "other:oauth_connect")  # type: ignore[attr-defined]
