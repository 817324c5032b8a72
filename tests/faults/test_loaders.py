"""PROVIDER_LOADER fails for one provider: pages and commands go on with the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import (
    ImproperlyConfigured,
    ObjectDoesNotExist,
    PermissionDenied,
    SuspiciousOperation,
)
from django.db import OperationalError
from django.http import Http404
from django.utils import timezone

from oauth_connect.conf import LoaderFailed, UnknownProvider, conf
from oauth_connect.flows import session_for
from oauth_connect.models import Connection, PendingRevocation
from tests.admin.pages import Staff
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, stored

pytestmark = [pytest.mark.django_db, pytest.mark.compliance("D61")]
NOT_FOUND = [Http404, ObjectDoesNotExist]
FAILURES = [PermissionDenied, SuspiciousOperation, KeyError, RuntimeError]
ERRORS = [*NOT_FOUND, *FAILURES, ImproperlyConfigured]


@pytest.fixture
def failing(configure, scripted_entry, make_connection) -> Callable[[Any], Connection]:
    """Store a connection that works, and return how to store one whose loader raises an error."""

    def fail(error: Any) -> Connection:
        broken: Connection = make_connection("tenant", account_label="the broken one", age=EXPIRED)

        def load(slug: str, owner: str) -> None:
            if slug == "tenant":
                raise error("the loader says")

        configure(PROVIDERS={"scripted": scripted_entry}, PROVIDER_LOADER=load)
        return broken

    configure(PROVIDERS={"scripted": scripted_entry, "tenant": scripted_entry})
    make_connection(account_label="the good one", age=EXPIRED)
    make_connection(account_label="another good one", age=EXPIRED)
    return fail


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("page", ["/oauth/", "/oauth/api/"])
def test_a_page_shows_the_other_providers(page, error, failing, visitor):
    failing(error)
    response = visitor.get(page)
    assert response.status_code == 200
    for label in ("the good one", "the broken one"):
        assert label in response.content.decode()
    assert "the loader says" not in response.content.decode()


@pytest.mark.parametrize("error", ERRORS)
def test_the_admin_shows_all_rows(error, failing):
    broken, superuser = failing(error), Staff()
    for response in (superuser.get("changelist"), superuser.get("change", broken.pk)):
        assert response.status_code == 200
        assert "the broken one" in response.content.decode()


@pytest.mark.parametrize("error", ERRORS)
def test_which_account_is_answered_for_each_provider(error, failing, visitor):
    failing(error)
    for slug, label in (("scripted", "the good one"), ("tenant", "the broken one")):
        response = visitor.get(f"/oauth/{slug}/accounts/")
        assert response.status_code == 200
        assert label in response.content.decode()


@pytest.mark.parametrize("error", ERRORS)
def test_the_broken_one_can_be_disconnected(error, failing, visitor):
    broken = failing(error)
    assert visitor.get(f"/oauth/{broken.pk}/disconnect/").status_code == 200
    assert visitor.post(f"/oauth/{broken.pk}/disconnect/").status_code == 302
    assert stored(broken).status == "revoked"


@pytest.mark.parametrize("error", ERRORS)
def test_a_refresh_run_goes_on(error, failing, command, scripted, issues):
    broken = failing(error)
    run = command("oauth_refresh", json=True)
    assert run.document["providers"]["scripted"]["refreshed"] == 2
    assert run.document["providers"]["tenant"]["refreshed"] == 0
    assert stored(broken).status == "active"


@pytest.mark.parametrize("error", ERRORS)
def test_revocations_go_on(error, failing, command, scripted):
    broken = failing(error)
    scripted.on("/revoke", Answer(503))
    for connection in (broken, *Connection.objects.filter(provider="scripted")):
        connection.disconnect()
    scripted.on("/revoke", Answer(200))
    PendingRevocation.objects.update(next_attempt_at=timezone.now())
    providers = command("oauth_prune", json=True).document["revocations"]
    assert (providers["scripted"]["revoked"], providers["tenant"]["revoked"]) == (2, 0)
    assert PendingRevocation.objects.get().provider == "tenant"


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("name", ["oauth_doctor", "oauth_providers"])
def test_a_command_that_lists_providers_lists_the_others(name, error, failing, command):
    failing(error)
    run = command(name)
    assert "scripted" in run.out


@pytest.mark.parametrize("error", NOT_FOUND)
def test_a_provider_that_the_loader_does_not_find_is_unknown(error, failing, visitor):
    failing(error)
    with pytest.raises(UnknownProvider, match=r"PROVIDER_LOADER.* found no provider 'tenant'"):
        conf.provider("tenant")
    assert visitor.get("/oauth/tenant/connect/").status_code == 404


@pytest.mark.parametrize("error", FAILURES)
def test_another_error_is_one_of_the_settings_and_has_its_cause(error, failing, user):
    failing(error)
    with pytest.raises(LoaderFailed, match=f"raised {error.__name__}") as caught:
        session_for(user, "tenant")
    assert "the loader says" not in str(caught.value)
    assert isinstance(caught.value.__cause__, error)


def test_the_page_logs_the_cause(failing, visitor, caplog):
    failing(RuntimeError)
    visitor.get("/oauth/")
    (record,) = [one for one in caplog.records if getattr(one, "action", "") == "provider_invalid"]
    assert isinstance(record.exc_info[1].__cause__, RuntimeError)


def test_an_error_of_the_database_reaches_the_caller(failing):
    """A transaction that conflicts is repeated by whoever began it."""
    failing(OperationalError)
    with pytest.raises(OperationalError):
        conf.provider("tenant")
