"""Every preset, by its name alone, against what its provider documents: see ``exchanges/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect import errors
from oauth_connect.conf import conf
from oauth_connect.flows import machine_session
from oauth_connect.models import Connection, PendingRevocation
from tests.contract.golden import PROVIDERS, load, named
from tests.contract.matching import listed
from tests.contract.play import Play, refusal_of
from tests.support.visitor import query_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

Playing = Callable[[str], Play]
Case = Mapping[str, Any]


def every(section: str) -> Any:
    """A test for each case that the providers' files list in a section."""
    cases = [pytest.param(name, case, id=f"{name}-{case['name']}") for name, case in named(section)]
    return pytest.mark.parametrize(("provider", "case"), cases)


each = pytest.mark.parametrize("provider", PROVIDERS)
each_that_refreshes = pytest.mark.parametrize(
    "provider", [name for name in PROVIDERS if load(name)["refresh"]]
)


@each
def test_connect(provider: str, play: Playing) -> None:
    playing = play(provider)

    connection = playing.connected()

    playing.check_token(connection)
    playing.check_stored(connection, playing.golden["stored"])


@each
def test_scopes_that_a_developer_types_do_not_cost_the_refresh_token(provider: str, play: Playing) -> None:
    """Settings replace lists: what a refresh token needs must not stand among a preset's scopes only."""
    playing = play(provider)
    scope = playing.golden["authorization"]["scope"]
    playing.type(scopes=scope.get("asked", []))

    query = query_of(playing.start(scopes=()))

    sent = query.get(scope["parameter"] or "scope", "").split(scope.get("separator"))
    missing = [one for one in scope.get("offline", ()) if one not in sent]
    assert not missing, f"{query}: without {missing} the provider gives no refresh token"


def test_scopes_are_not_sent_where_the_provider_knows_none(play: Playing) -> None:
    playing = play("notion")
    playing.type(scopes=["read_content"])

    assert "scope" not in query_of(playing.start(scopes=["update_content"]))


@each
def test_label(provider: str, play: Playing) -> None:
    playing = play(provider)

    playing.check_account(playing.connected())


@each
def test_call(provider: str, play: Playing) -> None:
    playing = play(provider)
    connection = playing.connected()
    golden = playing.golden["call"]

    with connection.session() as http:
        for exchange in golden["exchanges"]:
            with playing.server.playing([exchange]):
                assert http.get(exchange["request"]["url"]).status_code == exchange["answer"].get(
                    "status", 200
                )
        assert http.absolute("probe").startswith(golden["base"]), f"relative URLs lead to {http.base_url}"


@each
def test_call_to_a_wrong_host(provider: str, play: Playing) -> None:
    playing = play(provider)
    connection = playing.connected()

    with connection.session() as http, playing.server.playing([]):
        for url in playing.golden["call"]["refused"]:
            with pytest.raises(errors.ForbiddenDestination):
                http.get(url)
        assert playing.server.asked == []


@each_that_refreshes
def test_refresh(provider: str, play: Playing) -> None:
    playing = play(provider)
    connection = playing.connected()

    refresh(playing, connection, 0)


@each_that_refreshes
def test_rotate(provider: str, play: Playing) -> None:
    """A second refresh spends what the first one left, rotated or not."""
    playing = play(provider)
    connection = playing.connected()

    refresh(playing, connection, 0)
    refresh(playing, Connection.objects.get(), 1)


def refresh(playing: Play, connection: Connection, number: int) -> None:
    step = playing.golden["refresh"][number]
    spent = playing.facts.values["access_token"]
    with playing.server.playing(step["exchanges"]):
        connection.refresh()
    assert playing.facts.values["access_token"] != spent
    playing.check_token(connection)
    playing.check_stored(connection, step.get("stored", {}))
    if "base" in step:
        with Connection.objects.get().session() as http:
            assert http.absolute("probe").startswith(step["base"]), f"relative URLs lead to {http.base_url}"


@each
def test_revoke(provider: str, play: Playing, django_capture_on_commit_callbacks: Any) -> None:
    playing = play(provider)
    connection = playing.connected()

    with (
        playing.server.playing(playing.golden["revoke"]),
        django_capture_on_commit_callbacks(execute=True),
    ):
        connection.disconnect()

    gone = Connection.objects.get()
    assert (gone.status, gone.sealed_token) == (Connection.Status.REVOKED, None)
    assert not PendingRevocation.objects.exists()


@every("own_tokens")
def test_token_of_the_client_alone(provider: str, case: Case, play: Playing) -> None:
    playing = play(provider)
    playing.type(**case["settings"])

    with playing.server.playing(case["exchanges"]), machine_session(provider) as http:
        assert http.get(case["url"]).status_code == 200


@every("other_answers")
def test_another_answer(provider: str, case: Case, play: Playing) -> None:
    """The same provider, otherwise set up: it may answer without what it gives elsewhere."""
    playing = play(provider)
    [token, *others] = playing.golden["connect"]

    response = playing.connect([{**token, "answer": case["answer"]}, *others])

    assert response.status_code == 302, refusal_of(response)
    connection = Connection.objects.get()
    playing.check_token(connection)
    playing.check_stored(connection, case.get("stored", {}))


@every("said_by_the_user")
def test_connect_where_the_user_says_it(provider: str, case: Case, play: Playing) -> None:
    """What the settings leave open, whoever connects writes into the page."""
    playing = play(provider)
    playing.type(variables={})
    playing.said = case["said"]

    connection = playing.connected()

    playing.check_token(connection)
    playing.check_stored(connection, playing.golden["stored"])
    refresh(playing, Connection.objects.get(), 0)


@every("refused_of_the_user")
def test_what_the_user_says_leads_nowhere_else(provider: str, case: Case, play: Playing) -> None:
    playing = play(provider)
    playing.type(variables={})

    response = playing.visitor.post(playing.path(), case["said"])

    assert response.status_code == 400
    assert "Location" not in response.headers


@every("bad_variables")
def test_settings_name_what_does_not_fit(provider: str, case: Case, play: Playing) -> None:
    playing = play(provider)
    [name] = case["variables"]
    playing.type(variables=case["variables"])

    refused = (ImproperlyConfigured, errors.InvalidProvider)
    with pytest.raises(refused, match=rf"{provider}\.variables\.{name}"):
        conf.provider(provider).resolve({})


@every("errors_at_connect")
def test_error_at_connect(provider: str, case: Case, play: Playing) -> None:
    """Nothing is stored, and the page names the error by its code."""
    playing = play(provider)
    [token, *others] = playing.golden["connect"]
    exchanges = [{**token, "answer": case["answer"]}, *map(perhaps, [*others, *playing.golden["revoke"]])]

    response = playing.connect(exchanges)

    assert not Connection.objects.exists()
    assert response.status_code in (400, 502)
    if "code" in case:
        assert refusal_of(response) in listed(case["code"])


def perhaps(exchange: Case) -> Case:
    return {**exchange, "optional": True}


@every("errors_on_callback")
def test_error_on_the_callback(provider: str, case: Case, play: Playing) -> None:
    """What is wrong on the way back is refused before the provider is sent anything."""
    playing = play(provider)

    response = playing.connect([], case["callback"])

    assert response.status_code == 400, refusal_of(response)
    assert not Connection.objects.exists()
    assert playing.server.asked == []


@every("errors_at_refresh")
def test_error_at_refresh(provider: str, case: Case, play: Playing) -> None:
    """Told for what it is; only the end of the grant marks the connection."""
    playing = play(provider)
    connection = playing.connected()
    [exchange] = playing.golden["refresh"][0]["exchanges"]

    with (
        playing.server.playing([{**exchange, "answer": case["answer"]}]),
        pytest.raises(errors.CallError) as raised,
    ):
        connection.refresh()

    assert type(raised.value).__name__ in listed(case["raises"]), f"{raised.value!r}"
    stored = Connection.objects.get()
    ended = case["raises"] == "ReauthorizationRequired"
    assert stored.status == ("reauthorization_required" if ended else "active")
    if not ended:
        playing.check_token(stored)
