"""Async views under a real ASGI server: many requests at one expiry, and a provider that takes its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from django.test import AsyncClient

from oauth_connect.protocol.background import THREADS
from tests.contrib.asgi import VIEWS, Site
from tests.contrib.test_httpx import run
from tests.servers.scripted import Answer
from tests.support.tokens import EXPIRED, FRESH, stored
from tests.support.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

# Django opens a database connection for each request under ASGI, and PostgreSQL has a hundred by default.
REQUESTS = 40


@pytest.fixture
def site() -> Iterator[Callable[[dict[str, Any]], Site]]:
    started: list[Site] = []

    def start(providers: dict[str, Any]) -> Site:
        started.append(Site(providers))
        return started[-1]

    yield start
    for one in started:
        one.stop()


async def fetch(http: httpx.AsyncClient, path: str) -> Any:
    response = await http.get(path)
    response.raise_for_status()
    return response.json()


def client_at(site: Site) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=REQUESTS)
    return httpx.AsyncClient(base_url=site.url, timeout=60, limits=limits, trust_env=False)


@pytest.mark.compliance("D30")
def test_many_requests_at_one_expiry_make_one_token_request_in_a_few_threads(
    codeyard, make_connection, site
) -> None:
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    paths = [f"/codeyard/{connection.owner}/", f"/{connection.pk}/"] * (REQUESTS // 2)
    served = site({"codeyard": codeyard.entry()})

    async def browse() -> tuple[list[Any], int]:
        async with client_at(served) as http:
            answers = await asyncio.gather(*[fetch(http, path) for path in paths])
            return answers, (await fetch(http, "/threads/"))["refreshing"]

    answers, refreshing = asyncio.run(browse())

    assert [answer["status"] for answer in answers] == [200] * REQUESTS
    assert {answer["body"]["login"] for answer in answers} == {"ada"}
    assert codeyard.refreshes == 1
    assert codeyard.stats["reuse_seen"] == 0
    assert 1 <= refreshing <= THREADS
    assert stored(connection).version == 1


@pytest.mark.compliance("D59")
def test_many_first_requests_for_a_machine_token_make_one_token_request_in_a_few_threads(
    codeyard, site
) -> None:
    served = site({"reports": codeyard.machine_entry()})

    async def browse() -> tuple[list[Any], int]:
        async with client_at(served) as http:
            answers = await asyncio.gather(*[fetch(http, "/figures/") for _ in range(REQUESTS)])
            return answers, (await fetch(http, "/threads/"))["refreshing"]

    answers, asking = asyncio.run(browse())

    assert answers == [{"status": 200, "same": True}] * REQUESTS
    assert codeyard.machine_requests == 1
    assert 1 <= asking <= THREADS


def test_a_view_that_hands_tokens_to_an_sdk_gets_a_fresh_one_and_a_new_one(
    codeyard, make_connection, site
) -> None:
    connection = make_connection("codeyard", age=3600, response=codeyard.grant())
    served = site({"codeyard": codeyard.entry()})

    async def browse() -> Any:
        async with client_at(served) as http:
            return await fetch(http, f"/{connection.pk}/tokens/")

    assert asyncio.run(browse()) == {"differ": True}
    assert codeyard.refreshes == 2
    assert codeyard.stats["reuse_seen"] == 0


@pytest.mark.compliance("D62")
def test_other_requests_are_answered_while_a_provider_takes_its_time(
    scripted, scripted_entry, scripted_provider, make_connection, site
) -> None:
    """The provider answers only when ten other requests have been answered, one after the other."""
    others_are_answered = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=others_are_answered))
    scripted.on("/api/user", Answer(body={"login": "grace"}))
    connection = make_connection(age=EXPIRED)
    served = site({"scripted": scripted_entry})

    async def browse() -> list[Any]:
        async with client_at(served) as http:
            waiting = asyncio.gather(*[fetch(http, f"/{connection.pk}/") for _ in range(20)])
            await scripted.awaited("/token")
            for _ in range(10):
                await fetch(http, "/ping/")
            assert not waiting.done()
            others_are_answered.set()
            return await waiting

    answers = asyncio.run(browse())
    assert [answer["body"]["login"] for answer in answers] == ["grace"] * 20
    assert len(scripted.asked("/token")) == 1


def test_a_visitor_who_leaves_during_a_refresh_takes_the_token_from_no_other(
    scripted, scripted_entry, scripted_provider, make_connection, site
) -> None:
    """The provider, which has been asked, answers only after the site has seen that the visitor is gone."""
    left = threading.Event()
    scripted.on("/token", Answer(body=FRESH, hold=left))
    connection = make_connection(age=EXPIRED)
    served = site({"scripted": scripted_entry})

    async def leave() -> None:
        async with client_at(served) as http:
            visit = asyncio.create_task(http.get(f"/{connection.pk}/"))
            await scripted.awaited("/token")
            assert not visit.done()
            visit.cancel()
            with pytest.raises(asyncio.CancelledError):
                await visit

    asyncio.run(leave())
    with httpx.Client(base_url=served.url, timeout=60, trust_env=False) as http:
        gone = {f"/{connection.pk}/": 1}
        eventually(lambda: http.get("/left/").json() == gone, "the site sees the visitor leave")
    assert stored(connection).version == 0
    left.set()
    eventually(lambda: stored(connection).version == 1, "the token saved")
    assert stored(connection).token.refresh_token == "refresh-1"


def test_a_view_of_a_site_is_tested_by_djangos_own_client(
    scripted, scripted_provider, make_connection, settings
) -> None:
    settings.ROOT_URLCONF = VIEWS
    scripted.on("/token", Answer(body=FRESH))
    scripted.on("/api/user", Answer(body={"login": "grace"}))
    connection = make_connection(age=EXPIRED)
    browser = AsyncClient()

    async def browse() -> list[Any]:
        paths = [f"/{connection.pk}/", f"/scripted/{connection.owner}/"] * 5
        return await asyncio.gather(*[browser.get(path) for path in paths])

    assert {response.json()["body"]["login"] for response in run(browse())} == {"grace"}
    assert len(scripted.asked("/token")) == 1
