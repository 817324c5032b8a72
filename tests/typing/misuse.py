"""Mistakes in a site's code. Each checker must report exactly the lines that are marked."""

from __future__ import annotations

from datetime import datetime

import httpx
import httpx2
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client, TestCase
from django.views import View

from oauth_connect import errors
from oauth_connect.contrib import celery as tasks
from oauth_connect.contrib.httpx import ConnectionAuth, client
from oauth_connect.flows import access_token_for, connect_path, machine_session, session_for
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.models import Connection, Owner
from oauth_connect.tasks import refresh_connections
from oauth_connect.testing import FakeProvider, FakeProviderMixin
from oauth_connect.testing.fixtures import OpenFakeProvider
from oauth_connect.views import ConnectionRequiredMixin, connection_required

RESPONSE = {"access_token": "t"}


def a_connection(connection: Connection) -> None:
    connection.acces_token()  # wrong
    connection.access_token(min_tll=60)  # wrong
    connection.access_token(min_ttl="60")  # wrong
    connection.access_token().refresh()  # wrong
    connection.session(timeout=5)  # wrong
    connection.has_scopes(["repo"])  # wrong
    connection.disconnect("a user")  # wrong
    connection.account_label = 7  # wrong
    connection.expires_at.isoformat()  # wrong


async def in_async_code(connection: Connection) -> None:
    connection.aaccess_token().upper()  # wrong
    (await connection.aaccess_token()).upper()


def rows(user: User, now: datetime) -> None:
    Connection.objects.for_owner()  # wrong
    Connection.objects.for_user(user)  # wrong
    Connection.objects.due(within=3600)  # wrong
    store = Connection.objects.store
    store(user, "github", RESPONSE)  # wrong
    store(owner=user, provider="github", token_response="t")  # wrong
    store(owner=user, provider="github", token_response=RESPONSE, obtained_at="2026-11-30")  # wrong
    store(owner=user, provider="github", token_response=RESPONSE, account_id=7)  # wrong
    store(owner=user, provider="github", token_response=RESPONSE, obtained_at=now)
    Connection.objects.for_owner(user).first().refresh()  # wrong


def calls(user: User) -> None:
    session_for(user)  # wrong
    session_for(user, "github", scope=["repo"])  # wrong
    session_for(user, "github", account_id=7)  # wrong
    access_token_for(user, "github", min_ttl="60")  # wrong
    machine_session(["read"])  # wrong
    connect_path("github", next="/")  # wrong
    Owner(name="Team 7")  # wrong
    Owner(key=7)  # wrong


@connection_required("github")
def view(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(number)


class ClassBasedView(ConnectionRequiredMixin, View):
    connection_provider = None  # wrong


def views(request: HttpRequest) -> None:
    connection_required(view)  # wrong
    connection_required("github", scope=["repo"])  # wrong
    view(request)  # wrong
    view(request, number="1")  # wrong


def error_handling(connection: Connection) -> None:
    try:
        connection.refresh()
    except errors.ProviderUnavailable as unavailable:
        _ = unavailable.retry_after + 1  # wrong
    except errors.ReauthorizationRequired as ended:
        ended.connection.disconnect()  # wrong
        _ = ended.connect_uri  # wrong
    except errors.ProviderMissconfigured:  # wrong
        pass


def httpx_clients(connection: Connection) -> None:
    client("github")  # wrong
    client(connection, client_class="httpx.Client")  # wrong
    successor: httpx2.Client = client(connection)  # wrong
    default: httpx.Client = client(connection, client_class=httpx2.Client)  # wrong
    ConnectionAuth(connection.pk, connection)  # wrong
    _ = successor, default


def jobs() -> None:
    Due(within=60)  # wrong
    refresh_due(Due(), worker=8)  # wrong
    refresh_connections(["1"], 60)  # wrong
    tasks.dispatch_due.delay(withn=600)  # wrong
    tasks.dispatch_due.delay("github", chunk="50")  # wrong
    tasks.refresh_connections()  # wrong
    for result in refresh_due(Due()):
        _ = result.error  # wrong


def fakes(browser: Client, fake_provider: OpenFakeProvider) -> None:
    fake_provider("github", acounts=["ada"])  # wrong
    with FakeProvider("github", account="ada") as wrong:  # wrong
        wrong.connect(browser)
    with FakeProvider("github") as fake:
        fake.connect(scopes=["repo"])  # wrong
        fake.connect(browser, scope=["repo"])  # wrong
        fake.fail("token", retry_after="30")  # wrong
        fake.api("GET", "/user", jsn={})  # wrong
        fake.expire("github")  # wrong


class OwnTest(FakeProviderMixin, TestCase):
    def test_a_view(self) -> None:
        self.fake("github", life_time=60)  # wrong
