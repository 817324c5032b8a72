"""The life of a connection, end to end: more scopes, several accounts, organisations, a lost provider."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse

from oauth_connect.errors import AmbiguousConnection, ReauthorizationRequired
from oauth_connect.flows import connection_for, disconnect, session_for
from oauth_connect.models import Connection, ConnectionEvent, Owner, PendingRevocation
from tests.management.conftest import command as command
from tests.support.visitor import Visitor, answer_of_codeyard, query_of

pytestmark = pytest.mark.django_db(transaction=True)


def connect(visitor, path=None, **options):
    url = visitor.follow(path) if path else visitor.start("codeyard")
    return visitor.come_back("codeyard", **answer_of_codeyard(url, **options))


# --- more scopes ----------------------------------------------------------------------------------


@pytest.fixture
def modest(codeyard, configure):
    """Codeyard, asked for little at first."""
    configure(PROVIDERS={"codeyard": codeyard.entry(scopes=["profile"])})
    return codeyard


@pytest.mark.compliance("A17", "A40", "B4")
def test_more_scopes_are_asked_for_with_those_granted_and_the_same_row_has_them(modest, user, visitor):
    connect(visitor)
    assert session_for(user, "codeyard").get("user").status_code == 200
    before = Connection.objects.get()
    assert before.scopes == ["profile"]

    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "codeyard", scopes=["repositories"])
    assert required.value.reason == "missing_scopes"
    url = visitor.follow(required.value.connect_url)
    assert set(query_of(url)["scope"].split()) == {"profile", "repositories"}
    assert visitor.come_back("codeyard", **answer_of_codeyard(url)).status_code == 302

    after = Connection.objects.get()
    assert (after.pk, set(after.scopes)) == (before.pk, {"profile", "repositories"})
    http = session_for(user, "codeyard", scopes=["repositories", "profile"])
    assert http.get("repositories").status_code == 200
    assert ConnectionEvent.objects.get(action="scopes_changed").detail["added"] == ["repositories"]


@pytest.mark.compliance("D56")
def test_another_account_is_refused_on_the_way_back_and_nothing_changes(modest, user, visitor):
    connect(visitor)
    with pytest.raises(ReauthorizationRequired) as required:
        session_for(user, "codeyard", scopes=["repositories"])

    response = connect(visitor, required.value.connect_url, username="linus")

    assert (response.status_code, response.context["code"]) == (400, "other_account")
    assert Connection.objects.get().scopes == ["profile"]
    assert session_for(user, "codeyard").get("user").json()["login"] == "ada"


@pytest.mark.compliance("B4")
@pytest.mark.parametrize("widened", ["scopes=repositories", "scope=repositories", "scopes=x:repositories"])
def test_what_a_visitor_writes_into_the_url_asks_for_nothing(modest, visitor, widened):
    path = reverse("oauth_connect:connect", kwargs={"provider": "codeyard"})
    assert query_of(visitor.follow(f"{path}?{widened}"))["scope"] == "profile"


# --- several accounts -----------------------------------------------------------------------------


def test_two_accounts_of_one_owner_live_side_by_side(codeyard, user, visitor):
    for username in ("ada", "linus"):
        assert connect(visitor, username=username).status_code == 302
    accounts = {row.account_label: row for row in Connection.objects.all()}
    assert set(accounts) == {"ada", "linus"}
    with pytest.raises(AmbiguousConnection):
        session_for(user, "codeyard")
    for login, row in accounts.items():
        http = session_for(user, "codeyard", account_id=row.account_id)
        assert http.get("user").json()["login"] == login
    page = visitor.get(reverse("oauth_connect:connections")).content.decode()
    assert "ada" in page
    assert "linus" in page

    disconnect(Owner.of(user), accounts["linus"].pk)
    assert session_for(user, "codeyard").get("user").json()["login"] == "ada"


# --- organisations --------------------------------------------------------------------------------


def test_the_person_who_connected_leaves_and_the_connection_stays(codeyard, configure, user, other_user):
    configure(OWNER=lambda request: Owner("org:1", label="The organisation"))
    leaver, stays = Visitor(user), Visitor(other_user)
    connect(leaver)
    connection = Connection.objects.get()
    assert (connection.owner, connection.user, connection.connected_by) == ("org:1", None, user)

    get_user_model().objects.filter(pk=user.pk).update(is_active=False)
    assert session_for("org:1", "codeyard").get("user").status_code == 200
    user.delete()

    connection = Connection.objects.get()
    assert (connection.status, connection.connected_by) == ("active", None)
    connection.refresh()
    assert session_for(Owner("org:1"), "codeyard").get("user").status_code == 200
    assert not PendingRevocation.objects.exists()
    assert "ada" in stays.get(reverse("oauth_connect:connections")).content.decode()

    with pytest.raises(ReauthorizationRequired) as required:
        session_for("org:1", "codeyard", scopes=["elsewhere"])
    assert str(connection.pk) in required.value.connect_url
    response = stays.post(reverse("oauth_connect:disconnect", args=[connection.pk]))
    assert response.status_code == 302
    assert codeyard.stats["revocations"] == 1
    assert ConnectionEvent.objects.get(action="disconnected").actor == other_user


def test_an_organisation_that_goes_takes_its_connections_along(codeyard, configure, user, make_connection):
    make_connection("codeyard", owner="org:1", response=codeyard.grant())
    make_connection("codeyard", owner="org:2", response=codeyard.grant("linus"))
    Connection.objects.for_owner("org:1").delete()
    assert Connection.objects.get().owner == "org:2"
    assert PendingRevocation.objects.get().owner == "org:1"


# --- a provider leaves the settings ---------------------------------------------------------------


@pytest.mark.compliance("D61")
def test_a_provider_that_has_left_the_settings_keeps_its_rows_and_says_so(
    codeyard, configure, user, visitor, command
):
    connect(visitor)
    entries = {"codeyard": codeyard.entry()}
    connection = Connection.objects.get()
    configure(PROVIDERS={})

    for use in (lambda: session_for(user, "codeyard"), connection.session, connection.refresh):
        with pytest.raises(ImproperlyConfigured, match=r"'codeyard' in OAUTH_CONNECT\[\"PROVIDERS\"\]"):
            use()
    page = visitor.get(reverse("oauth_connect:connections"))
    assert (page.status_code, "No longer offered" in page.content.decode()) == (200, True)
    admin = Visitor(get_user_model().objects.create_superuser("root", password="x"))
    for path in ("changelist", "change"):
        arguments = [connection.pk] if path == "change" else []
        shown = admin.get(reverse(f"admin:oauth_connect_connection_{path}", args=arguments))
        assert (shown.status_code, "No longer offered" in shown.content.decode()) == (200, True)
    doctor = command("oauth_doctor")
    assert doctor.status == 1
    assert "'codeyard' is not in the settings" in doctor.out
    assert command("oauth_refresh", "--within", "9999").status == 0

    configure(PROVIDERS=entries)
    assert session_for(user, "codeyard").get("user").status_code == 200

    configure(PROVIDERS={})
    visitor.post(reverse("oauth_connect:disconnect", args=[connection.pk]))
    with pytest.raises(ImproperlyConfigured):
        connection_for(user, "codeyard")
    assert Connection.objects.get().sealed_token is None
    assert PendingRevocation.objects.get().last_error == "provider_missing"
