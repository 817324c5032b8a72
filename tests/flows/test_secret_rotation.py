"""A client's secret is changed without downtime, at a real authorization server."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from oauth_connect.errors import ProviderMisconfigured
from oauth_connect.flows import machine_access_token, machine_connection
from oauth_connect.models import Connection, ProviderState
from oauth_connect.protocol.client_auth import secrets
from tests.servers.codeyard import CLIENT_ID, CLIENT_SECRET, MACHINE_ID, Codeyard
from tests.support.visitor import answer_of_codeyard

pytestmark = pytest.mark.django_db(transaction=True)

NEW = "the new: one+&%"


@pytest.fixture
def rotating(codeyard, configure) -> Iterator[Codeyard]:
    """The settings list the new secret before the one that Codeyard still takes."""
    listed = {"client_secret": [NEW, CLIENT_SECRET]}
    configure(PROVIDERS={"codeyard": codeyard.entry(**listed), "reports": codeyard.machine_entry(**listed)})
    secrets._accepted.clear()
    yield codeyard
    for client_id in (CLIENT_ID, MACHINE_ID):
        codeyard.change_secret(client_id, CLIENT_SECRET)
    secrets._accepted.clear()


def change_over(codeyard: Codeyard) -> None:
    for client_id in (CLIENT_ID, MACHINE_ID):
        codeyard.change_secret(client_id, NEW)


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_connect_refresh_revoke_and_machine_tokens_work_before_and_after(
    rotating, visitor, configure, settings, caplog, method
):
    providers = settings.OAUTH_CONNECT["PROVIDERS"]
    entries: dict[str, Any] = {
        slug: {**entry, "token_endpoint_auth_method": method} for slug, entry in providers.items()
    }
    configure(PROVIDERS=entries)

    for change in (lambda codeyard: None, change_over):
        with caplog.at_level(logging.ERROR):
            change(rotating)
            answer = answer_of_codeyard(visitor.start("codeyard"))
            assert visitor.come_back("codeyard", **answer).status_code == 302
            connection = Connection.objects.get(provider="codeyard")
            connection.refresh()
            assert connection.session().get("user").ok
            machine = machine_connection("reports")
            machine.refresh()
            assert machine.session().get("analytics").ok
            before = rotating.stats["revocations"]
            connection.disconnect()
            machine.disconnect()
            assert rotating.stats["revocations"] == before + 2
        assert not ProviderState.objects.exclude(alarm="").exists()
        assert caplog.records == []


def test_a_process_asks_once_with_the_wrong_one(rotating):
    machine = machine_connection("reports")
    for _ in range(4):
        machine.refresh()
    assert rotating.machine_requests == 5

    change_over(rotating)
    for _ in range(4):
        machine.refresh()
    assert rotating.machine_requests == 10


def test_the_alarm_is_raised_when_none_works_and_ends_with_the_first_that_does(rotating, configure, settings):
    entry = settings.OAUTH_CONNECT["PROVIDERS"]["reports"]
    configure(PROVIDERS={"reports": {**entry, "client_secret": ["wrong", "worse"]}})
    with pytest.raises(ProviderMisconfigured, match="invalid_client"):
        machine_access_token("reports")
    assert ProviderState.objects.get().alarm == "invalid_client"

    configure(PROVIDERS={"reports": entry})
    machine_connection("reports").refresh()
    assert ProviderState.objects.get().alarm == ""
