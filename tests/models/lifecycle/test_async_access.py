"""What the callers of one shared refresh get: each its own error, with the URL of its own request."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.handlers.asgi import ASGIHandler
from django.dispatch import Signal
from django.test import Client
from django.test.utils import override_script_prefix
from django.urls import get_script_prefix, include, path, set_script_prefix, set_urlconf
from django.utils import translation

from oauth_connect import signals
from oauth_connect.contrib.httpx import ConnectionAuth, aclient
from oauth_connect.errors import ReauthorizationRequired
from oauth_connect.models import Connection
from oauth_connect.views import connection_required
from tests.contrib.test_httpx import run
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED

pytestmark = pytest.mark.django_db(transaction=True)

Call = Callable[[Connection], Awaitable[Any]]


def urlconf(*patterns: Any) -> ModuleType:
    module = ModuleType("urlconf")
    module.urlpatterns = list(patterns)
    return module


LANGUAGES = urlconf(*i18n_patterns(path("connections/", include("oauth_connect.urls"))))
PARTNERS = urlconf(path("partners/", include("oauth_connect.urls")))
NONE = urlconf()


async def token(connection: Connection) -> None:
    await connection.aaccess_token()


async def refresh(connection: Connection) -> None:
    await connection.arefresh()


async def call_api(connection: Connection) -> None:
    async with await aclient(connection) as http:
        await http.get("user")


async def renewed(connection: Connection) -> None:
    """After a 401 of the API."""
    source = await ConnectionAuth(connection).asource()
    await source.arenewed(connection.token)


def in_request(connection: Connection, call: Call, **request: Any) -> asyncio.Task[ReauthorizationRequired]:
    """Call as a view does, in the task of its request, which an ASGI server starts. Return the error."""
    return asyncio.create_task(_view(connection, call, **request), context=contextvars.Context())


async def _view(
    connection: Connection,
    call: Call,
    *,
    prefix: str = "/",
    language: str = "en",
    urls: ModuleType | None = None,
) -> ReauthorizationRequired:
    set_script_prefix(prefix)
    set_urlconf(urls)
    translation.activate(language)
    with pytest.raises(ReauthorizationRequired) as raised:
        await call(connection)
    return raised.value


REQUESTS: dict[str, dict[str, Any]] = {
    "/de/connections/": {"language": "de"},
    "/app/en/connections/": {"prefix": "/app/"},
    "/other/fr/connections/": {"prefix": "/other/", "language": "fr"},
    "/app/partners/": {"prefix": "/app/", "language": "de", "urls": PARTNERS},
    "": {"urls": NONE},
}


@pytest.fixture
def dead(settings, scripted, scripted_provider, make_connection) -> Connection:
    """A connection that has expired, and whose grant the provider has ended."""
    settings.ROOT_URLCONF = LANGUAGES
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    scripted.on("/api/user", Answer(401))
    return make_connection(age=EXPIRED)


def expected(connection: Connection, mount: str) -> str:
    return f"{mount}scripted/connect/?connection={connection.pk}" if mount else ""


@pytest.mark.parametrize("call", [token, refresh, call_api, renewed], ids=lambda call: call.__name__)
def test_each_caller_of_a_shared_refresh_is_sent_to_the_page_of_its_own_request(
    dead, scripted, call: Call
) -> None:
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}, hold=(asked := threading.Event())))
    loaded = [Connection.objects.get(pk=dead.pk) for _ in REQUESTS]

    async def browse() -> list[ReauthorizationRequired]:
        requests = zip(loaded, REQUESTS.values(), strict=True)
        tasks = [in_request(row, call, **request) for row, request in requests]
        await scripted.awaited("/token")
        asked.set()
        return await asyncio.gather(*tasks)

    errors = run(browse())

    assert [error.connect_url for error in errors] == [expected(dead, mount) for mount in REQUESTS]
    assert len(scripted.asked("/token")) == 1
    assert [error.connection for error in errors] == loaded
    assert all(error.connection is row for error, row in zip(errors, loaded, strict=True))
    assert len({id(error) for error in errors}) == len(REQUESTS)


def test_threads_that_share_a_refresh_get_each_its_own_error(dead, scripted, calls_at_once) -> None:
    languages = iter(["en", "de", "fr"])

    def call() -> None:
        row = Connection.objects.get(pk=dead.pk)
        with translation.override(next(languages)):
            row.access_token()

    errors = calls_at_once(3, call)

    assert sorted(error.connect_url for error in errors) == [
        expected(dead, f"/{language}/connections/") for language in ("de", "en", "fr")
    ]
    assert len(scripted.asked("/token")) == 1


def test_a_receiver_of_a_signal_builds_urls_of_the_request_that_asked_first(dead) -> None:
    built = []

    def receiver(connection: Connection, **_: Any) -> None:
        built.append(connection.connect_url)

    async def browse() -> None:
        await in_request(dead, token, prefix="/app/", language="fr")

    with connected(signals.reauthorization_required, receiver):
        run(browse())

    assert built == [expected(dead, "/app/fr/connections/")]


@contextmanager
def connected(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    signal.connect(receiver)
    yield
    signal.disconnect(receiver)


@connection_required("scripted")
async def page(request: Any) -> None:
    await (await Connection.objects.aget()).aaccess_token()


def test_an_async_view_under_a_sub_path_leads_to_the_connect_page_there(dead, settings, user) -> None:
    settings.ROOT_URLCONF = urlconf(path("page/", page), *LANGUAGES.urlpatterns)
    settings.LANGUAGE_CODE = "de"
    server = httpx.ASGITransport(ASGIHandler(), root_path="/app")
    browser = Client()
    browser.force_login(user)
    cookies = {name: morsel.value for name, morsel in browser.cookies.items()}

    async def browse() -> Any:
        async with httpx.AsyncClient(
            transport=server, base_url="https://app.example", cookies=cookies
        ) as http:
            return await http.get("/app/page/")

    # With asgiref 3.8, what the handler sets in its task is also seen here.
    with override_script_prefix(get_script_prefix()):
        response = run(browse())

    assert response.headers["Location"] == f"{expected(dead, '/app/de/connections/')}&next=%2Fapp%2Fpage%2F"
