"""Alarms about the settings of a provider."""

from __future__ import annotations

import pytest

from oauth_connect.errors import (
    ProviderMisconfigured,
    ProviderUnavailable,
)
from oauth_connect.models import Connection, ProviderState
from oauth_connect.models.lifecycle import provider_health
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("scripted_provider")]


@pytest.mark.compliance("D34", "A19")
@pytest.mark.parametrize(
    "answer", [Answer(401, {"error": "invalid_client"}), Answer(404), Answer(307, headers={"Location": "/x"})]
)
def test_wrong_settings_raise_one_alarm_and_mark_no_connection(scripted, make_connection, answer, caplog):
    scripted.on("/token", answer)
    connections = [make_connection(age=EXPIRED) for _ in range(3)]
    for connection in connections:
        with pytest.raises(ProviderMisconfigured):
            connection.access_token()
    assert {row.status for row in Connection.objects.all()} == {"active"}
    assert ProviderState.objects.get().provider == "scripted"
    alarms = [
        record for record in caplog.records if getattr(record, "action", "") == "provider_misconfigured"
    ]
    assert len(alarms) == 1


def test_the_alarm_ends_when_the_provider_accepts_the_client_again(scripted, make_connection):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}), Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    with pytest.raises(ProviderMisconfigured):
        connection.access_token()
    assert ProviderState.objects.get().alarm == "invalid_client"
    connection.refresh()
    assert ProviderState.objects.get().alarm == ""


def test_the_alarm_ends_even_if_the_provider_was_unavailable_in_between(scripted, make_connection):
    scripted.on("/token", Answer(401, {"error": "invalid_client"}), Answer(503), Answer(body=FRESH))
    connection = make_connection(age=EXPIRED)
    for error in (ProviderMisconfigured, ProviderUnavailable):
        with pytest.raises(error):
            connection.refresh()
    assert ProviderState.objects.get().alarm == "invalid_client"
    connection.refresh()
    assert ProviderState.objects.get().alarm == ""


@pytest.mark.django_db(transaction=True)
def test_a_connected_account_ends_the_alarm_about_the_settings(visitor, scripted_provider, issues):
    """The connection that started the alarm may have been reconnected, and then has no error any more."""
    provider_health.begin_alarm("default", "scripted", "invalid_client")
    visitor.connect()
    assert ProviderState.objects.get().alarm == ""
