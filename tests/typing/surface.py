"""The public names as a site uses them. A comment says the type that each checker must reveal.

Modules are left out of names. ``(else: ...)`` is what is revealed without the plugin of django-stubs.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import reveal_type

import httpx
import httpx2
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, TestCase
from django.views import View

from oauth_connect import errors, signals
from oauth_connect.contrib import celery as tasks
from oauth_connect.contrib.httpx import ConnectionAuth, TokenAuth, aclient, aclient_for, client, client_for
from oauth_connect.flows import (
    aaccess_token_for,
    access_token_for,
    aconnection_for,
    amachine_access_token,
    amachine_connection,
    begin,
    complete,
    connect_path,
    connection_for,
    disconnect,
    machine_access_token,
    machine_connection,
    machine_session,
    redirect_uri,
    session_for,
    session_for_keyring,
)
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.middleware import ConnectionErrorsMiddleware
from oauth_connect.models import Connection, ConnectionEvent, Owner, history
from oauth_connect.tasks import dispatch_due, refresh_connections
from oauth_connect.testing import FakeProvider, FakeProviderMixin
from oauth_connect.testing.fixtures import OpenFakeProvider
from oauth_connect.views import ConnectionRequiredMixin, connection_required


def a_connection(connection: Connection, user: User) -> None:
    reveal_type(connection.session())  # ApiSession
    reveal_type(connection.session().get("/user"))  # Response
    reveal_type(connection.session().base_url)  # str
    reveal_type(connection.session().timeout)  # float
    reveal_type(connection.access_token())  # str
    reveal_type(connection.access_token(min_ttl=300))  # str
    reveal_type(connection.refresh())  # None
    reveal_type(connection.disconnect(actor=user))  # None
    reveal_type(connection.move_to(user, actor=user))  # None
    reveal_type(connection.has_scopes("repo", "user"))  # bool
    reveal_type(connection.token)  # Token
    reveal_type(connection.token.access_token)  # str
    reveal_type(connection.token.refresh_token)  # str
    reveal_type(connection.token.scopes)  # tuple[str, ...]
    reveal_type(connection.token.expires_at)  # datetime | None
    reveal_type(connection.is_machine)  # bool
    reveal_type(connection.reconnects_soon)  # bool
    reveal_type(connection.connect_url)  # str
    reveal_type(connection.get_provider())  # Provider
    reveal_type(connection.get_provider().api_base_url)  # str
    reveal_type(connection.get_provider().scopes)  # tuple[str, ...]


async def a_connection_in_async_code(connection: Connection) -> None:
    reveal_type(await connection.aaccess_token(min_ttl=300))  # str
    reveal_type(await connection.arefresh())  # None


def columns(connection: Connection) -> None:
    reveal_type(connection.pk)  # UUID (else: Any)
    reveal_type(connection.id)  # UUID
    reveal_type(connection.owner)  # str
    reveal_type(connection.user)  # User | None (else: AbstractBaseUser | None)
    reveal_type(connection.connected_by)  # User | None (else: AbstractBaseUser | None)
    reveal_type(connection.provider)  # str
    reveal_type(connection.account_id)  # str
    reveal_type(connection.account_label)  # str
    reveal_type(connection.scopes)  # list[str]
    reveal_type(connection.requested_scopes)  # list[str]
    reveal_type(connection.variables)  # dict[str, Any]
    reveal_type(connection.extra)  # dict[str, Any]
    reveal_type(connection.status)  # str
    reveal_type(connection.grant)  # str
    reveal_type(connection.expires_at)  # datetime | None
    reveal_type(connection.last_refreshed_at)  # datetime | None
    reveal_type(connection.reconnect_before)  # datetime | None
    reveal_type(connection.chosen_at)  # datetime | None
    reveal_type(connection.created_at)  # datetime
    reveal_type(connection.last_error)  # str
    reveal_type(connection.failures)  # int
    reveal_type(connection.in_doubt)  # bool
    connection.account_label = "work"
    connection.extra = {"plan": "team"}
    reveal_type(connection.status == "active")  # bool


def rows(user: User, pk: uuid.UUID) -> None:
    reveal_type(Connection.objects)  # ConnectionManager[Connection]
    reveal_type(Connection.objects.all())  # ConnectionQuerySet[Connection]
    reveal_type(Connection.objects.get(pk=pk))  # Connection
    reveal_type(Connection.objects.for_owner(user))  # ConnectionQuerySet[Connection]
    reveal_type(Connection.objects.for_owner(user).first())  # Connection | None
    reveal_type(Connection.objects.for_owner(user).get(provider="github"))  # Connection
    reveal_type(Connection.objects.due())  # ConnectionQuerySet[Connection]
    reveal_type(Connection.objects.due(within=timedelta(hours=1)).count())  # int
    reveal_type(Connection.objects.filter(provider="github").due())  # ConnectionQuerySet[Connection]
    reveal_type(Connection.objects.using("other").for_owner(user))  # ConnectionQuerySet[Connection]
    reveal_type(Connection.objects.from_primary().exists())  # bool
    reveal_type(ConnectionEvent.objects.first())  # ConnectionEvent | None


def stored(user: User, now: datetime) -> None:
    response = {"access_token": "t", "token_type": "bearer"}
    store = Connection.objects.store
    reveal_type(store(owner=user, provider="github", token_response=response))  # Connection
    connection = store(
        owner="team:7",
        provider="github",
        token_response=response,
        account_id="1",
        account_label="octocat",
        obtained_at=now,
        variables={"site": "acme"},
    )
    reveal_type(connection)  # Connection


def calls(user: User, pk: uuid.UUID) -> None:
    reveal_type(session_for(user, "github", scopes=["repo"]))  # ApiSession
    reveal_type(access_token_for(user, "github", account_id="1", min_ttl=300))  # str
    reveal_type(connection_for(user, "github"))  # Connection
    reveal_type(machine_session("reports", scopes=["read"]))  # ApiSession
    reveal_type(machine_access_token("reports", resource="https://api.example/"))  # str
    reveal_type(machine_connection("reports"))  # Connection
    reveal_type(session_for_keyring("github"))  # ApiSession
    reveal_type(connect_path("github", next_path="/", scopes=["repo"]))  # str
    reveal_type(Owner.of(user))  # Owner
    reveal_type(Owner(key="team:7", label="Team 7", may_manage=False))  # Owner
    reveal_type(disconnect(Owner.of(user), pk, actor=user))  # Connection


async def calls_in_async_code(user: User) -> None:
    reveal_type(await aconnection_for(user, "github"))  # Connection
    reveal_type(await aaccess_token_for(user, "github"))  # str
    reveal_type(await amachine_access_token("reports"))  # str
    reveal_type(await amachine_connection("reports"))  # Connection


def flow_of_a_site(request: HttpRequest) -> None:
    reveal_type(redirect_uri(request, "github"))  # str
    reveal_type(begin(request, "github", next_path="/"))  # str
    reveal_type(complete(request, "github").connection)  # Connection


@connection_required("github", scopes=["repo"])
def view(request: HttpRequest, number: int) -> JsonResponse:
    return JsonResponse({"number": number})


@connection_required("github", several=True)
async def async_view(request: HttpRequest, *, account: str) -> HttpResponse:
    return HttpResponse(account)


class ClassBasedView(ConnectionRequiredMixin, View):
    connection_provider = "github"
    connection_scopes = ["repo"]
    connection_several = True

    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


async def views(request: HttpRequest) -> None:
    reveal_type(view)  # (request: HttpRequest, number: int) -> JsonResponse
    reveal_type(await async_view(request, account="1"))  # HttpResponse
    reveal_type(ClassBasedView.as_view())  # (...) -> HttpResponseBase
    reveal_type(ClassBasedView.connection_provider)  # str
    reveal_type(ConnectionErrorsMiddleware(lambda request: HttpResponse()))  # ConnectionErrorsMiddleware


def errors_of_calls(connection: Connection) -> None:
    try:
        connection.session().get("/user")
    except errors.ProviderUnavailable as unavailable:
        reveal_type(unavailable.retry_after)  # float | None
        reveal_type(unavailable.answer_lost)  # bool
        reveal_type(unavailable.code)  # str
    except errors.ReauthorizationRequired as ended:
        reveal_type(ended.reason)  # str
        reveal_type(ended.connect_url)  # str
        reveal_type(ended.connection)  # Connection | None
        reveal_type(ended.code)  # str
    except errors.ProviderMisconfigured as refused:
        reveal_type(refused.error)  # str
        reveal_type(refused.description)  # str
        reveal_type(refused.status)  # int
    except errors.ConnectionLocked as locked:
        reveal_type(locked.code)  # str
    except errors.CallError as other:
        reveal_type(other.endpoint)  # str
        reveal_type(other.connect_url)  # str
        reveal_type(other.response)  # Response | None


def other_errors(user: User, request: HttpRequest, connection: Connection) -> None:
    try:
        session_for(user, "github")
        complete(request, "github")
        connection.move_to(user)
    except errors.AmbiguousConnection as ambiguous:
        reveal_type(ambiguous.choose_url)  # str
    except errors.RepeatedResponse as repeated:
        reveal_type(repeated.next_path)  # str
    except errors.CallbackRefused as refused:
        reveal_type(refused.code)  # str
        reveal_type(refused.error)  # str
        reveal_type(refused.connect_url)  # str
    except errors.AlreadyConnected as already:
        reveal_type(already.connection)  # Connection | None


def note(sender: type[Connection], connection: Connection, code: str = "", **details: object) -> None: ...


def receivers() -> None:
    reveal_type(signals.connected)  # Signal
    signals.refresh_failed.connect(note)
    signals.reauthorization_required.connect(note, sender=Connection)


class OwnClient(httpx.Client):
    pass


def httpx_clients(connection: Connection, user: User) -> None:
    reveal_type(client(connection))  # Client
    reveal_type(client(connection, timeout=5).get("/user"))  # Response
    reveal_type(client_for(user, "github", scopes=["repo"]))  # Client
    reveal_type(client(connection, client_class=OwnClient))  # OwnClient
    reveal_type(client_for(user, "github", client_class=OwnClient))  # OwnClient
    default: httpx.Client = client(connection)
    successor: httpx2.Client = client(connection, client_class=httpx2.Client)
    reveal_type((default, successor))  # tuple[Client, Client]
    auth = ConnectionAuth(connection)
    reveal_type(auth.connection)  # Connection
    reveal_type(httpx.Client(auth=auth))  # Client
    reveal_type(httpx2.AsyncClient(auth=auth))  # AsyncClient
    base: TokenAuth = auth
    reveal_type(base.source().current())  # Token


async def httpx_clients_in_async_code(connection: Connection, user: User) -> None:
    reveal_type(await aclient(connection))  # AsyncClient
    reveal_type(await aclient_for(user, "github"))  # AsyncClient
    async with await aclient_for(user, "github") as http:
        reveal_type(await http.get("/user"))  # Response
    successor: httpx2.AsyncClient = await aclient(connection, client_class=httpx2.AsyncClient)
    reveal_type(successor)  # AsyncClient


def jobs(connection: Connection, user: User) -> None:
    due = Due(["github"], within=timedelta(minutes=10), owner=user)
    reveal_type(due.counts())  # dict[str, int]
    for result in refresh_due(due, workers=8, at_most=100):
        reveal_type(result.outcome in ("refreshed", "not_needed"))  # bool
        reveal_type(result.code)  # str
        reveal_type(result.provider)  # str
        reveal_type(result.connection)  # UUID | None
    reveal_type(refresh_connections([str(connection.pk)], provider="github"))  # dict[str, int]
    reveal_type(dispatch_due(lambda provider, pks: None, chunk=50))  # int


def celery_tasks(connection: Connection) -> None:
    reveal_type(tasks.dispatch_due(["github"], within=600))  # int
    reveal_type(tasks.refresh_connections([str(connection.pk)], workers=4))  # dict[str, int]
    reveal_type(tasks.dispatch_due.name)  # str
    tasks.dispatch_due.delay(within=600, chunk=50)
    tasks.dispatch_due.apply_async(kwargs={"within": 600}, queue="oauth")
    tasks.dispatch_due.signature(kwargs={"within": 600})


def past(connection: Connection) -> None:
    reveal_type(history.record(connection, history.Action.MOVED))  # None
    event = history.of(connection, history.Action.CONNECTED)
    reveal_type(event.action)  # str
    reveal_type(event.connection_id)  # UUID
    reveal_type(event.created_at)  # datetime
    reveal_type(event.actor)  # User | None (else: AbstractBaseUser | None)


def fakes(browser: Client, user: User, fake_provider: OpenFakeProvider) -> None:
    with FakeProvider("github", accounts=["ada"], entry={"scopes": ["repo"]}) as fake:
        reveal_type(fake)  # FakeProvider
        reveal_type(fake.connect(browser, account="ada", scopes=["repo"]))  # Connection
        reveal_type(fake.callback(browser, shop="my-shop"))  # HttpResponseBase
        reveal_type(fake.store(user, account="ada"))  # Connection
        reveal_type(fake.api("GET", "/user", json={"login": "ada"}))  # None
        reveal_type(fake.fail("token", status=503, retry_after=30, times=1))  # None
        reveal_type(fake.expire(fake.store(user)))  # None
        reveal_type(fake.end_grant(fake.store(user)))  # None
        reveal_type(fake.requests[0].path)  # str
        reveal_type(fake.requests[0].form)  # dict[str, str]
        reveal_type(fake.requests[0].headers)  # Mapping[str, str]
    reveal_type(fake_provider("slack", lifetime=60))  # FakeProvider


async def fakes_in_async_code(browser: AsyncClient, fake: FakeProvider) -> None:
    reveal_type(await fake.aconnect(browser, scopes=["repo"]))  # Connection


class OwnTest(FakeProviderMixin, TestCase):
    def test_a_view(self) -> None:
        reveal_type(self.fake("github", keep_api=True))  # FakeProvider
        reveal_type(self.client)  # Client
