"""Promise 4: a token is seen by nobody but the provider.

Every token here is real and unique, and looked for wherever it could have got to.
"""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from django.contrib.sessions.backends.base import SessionBase
from django.core import mail
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections
from django.views.debug import ExceptionReporter
from requests_oauthlib import OAuth2Session

from oauth_connect.errors import CallError, ForbiddenDestination
from oauth_connect.models import Connection
from tests.servers.codeyard import CLIENT_ID, CLIENT_SECRET
from tests.servers.scripted import Answer
from tests.support.visitor import answer_of_codeyard

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.compliance("D45")]

SECRETS = {
    "access_token": "canary-access-7f3a",
    "refresh_token": "canary-refresh-7f3a",
    "id_token": "canary-identity-7f3a",
}
RESPONSE = {**SECRETS, "token_type": "Bearer", "expires_in": 3600}
ROTATED = {
    "access_token": "canary-access-9b1c",
    "refresh_token": "canary-refresh-9b1c",
    "token_type": "Bearer",
    "expires_in": 3600,
}
CLIENT = "canary-client-secret-7f3a"


def as_text(place: object) -> str:
    if isinstance(place, bytes | memoryview):
        return bytes(place).decode("latin-1")
    return " ".join(map(as_text, place)) if isinstance(place, tuple) else str(place)


def leaks(place: object) -> list[str]:
    return [word for word in ("canary-", CLIENT_SECRET) if word in as_text(place)]


@pytest.fixture
def connection(scripted, scripted_entry, configure, make_connection) -> Connection:
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": CLIENT}})
    connection: Connection = make_connection(response=RESPONSE, age=7200)
    return connection


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that any logger says, at any level, while the test runs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Everything())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.removeHandler(handler)
    root.setLevel(level)


class _Everything(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{super().format(record)} {record.__dict__}"


def test_not_in_any_log(scripted, connection, log):
    scripted.on("/token", Answer(503, b"canary-body"), Answer(body=ROTATED))
    scripted.on("/api/me", Answer(401), Answer(body={}))
    scripted.on("/revoke", Answer(200))
    with pytest.raises(CallError):
        connection.session().get("me")
    connection.refresh()
    connection.session().get("me")
    connection.disconnect()

    assert "/token" in log.getvalue(), "the libraries' debug records are among them"
    assert leaks(log.getvalue()) == []


def test_a_whole_life_at_a_real_server_leaves_no_token_anywhere(codeyard, user, visitor, log):
    """Connect, call, refresh, disconnect: with every secret that came up, looked for afterwards."""
    answer = answer_of_codeyard(visitor.start("codeyard"))
    assert "&state=[masked]&" in log.getvalue(), "which a library would tell"
    pages = [visitor.come_back("codeyard", **answer).content]
    connection = Connection.objects.get()
    secrets = {
        answer["code"],
        answer["state"],
        CLIENT_SECRET,
        connection.token.access_token,
        connection.token.refresh_token,
    }
    connection.session().get("user").raise_for_status()
    connection.refresh()
    secrets |= {connection.token.access_token, connection.token.refresh_token}
    pages += [visitor.get("/oauth/").content, visitor.get(f"/oauth/{connection.pk}/disconnect/").content]
    places = [*every_cell(), pickle.dumps(connection), repr(vars(connection)), dict(visitor.session), *pages]
    connection.disconnect()
    places += [*every_cell(), log.getvalue()]

    assert len(secrets) == 7
    assert codeyard.stats["revocations"] == 1
    found = [place for place in places for secret in secrets if secret in as_text(place)]
    assert found == []


def test_not_in_what_the_libraries_log_of_a_site_that_uses_them_directly(codeyard, log, monkeypatch):
    """They write request and response bodies at DEBUG, tokens and all."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")
    token = codeyard.grant()
    session = OAuth2Session(CLIENT_ID, token=dict(token))
    entry = codeyard.entry()
    client = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
    fresh = session.refresh_token(entry["token_endpoint"], **client)
    session.get(f"{entry['api_base_url']}user", params={"access_token": fresh["access_token"]})

    secrets = {found[name] for found in (token, fresh) for name in ("access_token", "refresh_token")}
    secrets.add(CLIENT_SECRET)
    assert len(secrets) == 5
    assert "Prepared refresh token request body" in log.getvalue()
    assert [secret for secret in secrets if secret in log.getvalue()] == []


@pytest.mark.compliance("B3")
def test_not_in_the_database_nor_sessions_nor_the_cache(connection):
    cells = [cell for row in every_cell() for cell in row]
    assert any(is_sealed(cell) for cell in cells)
    assert [cell for cell in cells if leaks(cell)] == []
    assert leaks(cache.__dict__) == []


def is_sealed(cell: object) -> bool:
    return isinstance(cell, bytes | memoryview) and bytes(cell).startswith(b"gAAAA")


def every_cell() -> Iterator[tuple[Any, ...]]:
    database = connections["default"]
    with database.cursor() as cursor:
        for table in database.introspection.table_names():
            cursor.execute(f"SELECT * FROM {database.ops.quote_name(table)}")  # noqa: S608
            yield from cursor.fetchall()


def test_two_encryptions_of_one_token_differ(connection, make_connection):
    again = make_connection(response=RESPONSE)
    assert connection.sealed_token != again.sealed_token


def test_not_in_repr_str_format_nor_values(connection):
    token = connection.token
    shown = [repr(token), str(token), f"{token}", repr(connection), repr(connection.__dict__)]
    shown += [
        repr(list(Connection.objects.values())),
        repr(connection.get_provider()),
        repr(vars(connection.session())),
    ]
    assert leaks(shown) == []


def test_not_in_a_pickle_and_a_token_by_itself_is_not_pickled(connection):
    assert connection.token.access_token
    assert leaks(pickle.dumps(connection)) == []
    assert pickle.loads(pickle.dumps(connection)).token == connection.token  # noqa: S301
    with pytest.raises(TypeError, match="pk"):
        pickle.dumps(connection.token)


def test_not_in_dumpdata_and_loaddata_brings_it_back(connection, tmp_path):
    fixture = tmp_path / "connections.json"
    call_command("dumpdata", "oauth_connect", output=str(fixture))
    assert leaks(fixture.read_text()) == []
    Connection.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0)
    assert Connection.objects.get().token.access_token == SECRETS["access_token"]


FAULTS = {
    "refresh: connection dropped": {"/token": Answer(cut=-1)},
    "refresh: not JSON": {"/token": Answer(body=b"canary-body")},
    "refresh: refused": {"/token": Answer(400, {"error": "invalid_request"})},
    "refresh: revoked": {"/token": Answer(400, {"error": "invalid_grant"})},
    "refresh: client refused": {"/token": Answer(401, {"error": "invalid_client"})},
    "refresh: redirected": {"/token": Answer(307, headers={"Location": "http://127.0.0.1:1/"})},
    "refresh: server error": {"/token": Answer(500, b"canary-body")},
    "call: connection dropped": {"/token": Answer(body=ROTATED), "/api/me": Answer(cut=-1)},
    "call: nobody listens": {"/token": Answer(body=ROTATED), "url": "http://127.0.0.1:9/api/me"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_not_in_tracebacks_error_pages_nor_error_mail(
    scripted, scripted_entry, connection, configure, fault, rf
):
    """Error pages and error mail show the locals of every frame."""
    answers = dict(fault)
    url = answers.pop("url", "me")
    for path, answer in answers.items():
        scripted.on(path, answer)
    entry = {
        **scripted_entry,
        "client_secret": CLIENT,
        "api_hosts": [scripted.url.removeprefix("http://"), "127.0.0.1:9"],
    }
    configure(PROVIDERS={"scripted": entry})

    with pytest.raises(requests.RequestException) as caught:
        connection.session().get(url)

    report = ExceptionReporter(rf.get("/"), type(caught.value), caught.value, caught.value.__traceback__)
    # The test's own frame knows the secrets.
    frames = [frame for frame in report.get_traceback_frames() if frame["filename"] != __file__]
    assert any("oauth_connect" in frame["filename"] for frame in frames)
    assert leaks([frame["vars"] for frame in frames]) == []
    assert leaks("".join(traceback.format_exception(caught.value))) == []
    assert leaks([str(caught.value), caught.value.__dict__]) == []


WRONG_ENTRIES = {
    "a field that does not exist": {"refresh": {"stile": "none"}},
    "a preset that does not exist": {"preset": "nowhere"},
    "an issuer that does not answer": {"token_endpoint": "", "issuer": "http://127.0.0.1:9"},
}


@pytest.mark.parametrize("wrong", WRONG_ENTRIES.values(), ids=WRONG_ENTRIES)
def test_an_entry_that_cannot_work_shows_no_secret_in_error_pages(
    scripted_entry, connection, configure, wrong, rf
):
    configure(PROVIDERS={"scripted": {**scripted_entry, "client_secret": CLIENT, **wrong}})

    with pytest.raises((ImproperlyConfigured, requests.RequestException)) as caught:
        connection.refresh()

    report = ExceptionReporter(rf.get("/"), type(caught.value), caught.value, caught.value.__traceback__)
    frames = [frame for frame in report.get_traceback_frames() if frame["filename"] != __file__]
    assert any("oauth_connect/conf/" in frame["filename"] for frame in frames)
    assert leaks([frame["vars"] for frame in frames]) == []


def test_a_refused_destination_is_reported_without_the_token(connection):
    with pytest.raises(ForbiddenDestination) as caught:
        connection.session().get("https://elsewhere.example/canary")
    assert "elsewhere" not in str(caught.value)
    assert leaks(str(caught.value)) == []


def test_no_mail_was_sent_and_no_session_holds_a_token(connection, client, user):
    client.force_login(user)
    session: SessionBase = client.session
    assert leaks(dict(session)) == []
    assert mail.outbox == []
