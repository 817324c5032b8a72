"""Promise 6, by counts: what the common steps cost in statements, columns, decryptions, requests and sockets.

A number that grows is a step that became slower on every machine. A number that shrinks is corrected too.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.urls import reverse

from oauth_connect.crypto import check_sealing
from oauth_connect.flows import session_for
from oauth_connect.jobs.refresh.due import Due
from oauth_connect.jobs.refresh.run import refresh_due
from oauth_connect.models import Connection
from tests.protocol.certificates import self_signed
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.costs import Costs, counted
from tests.support.visitor import Visitor, state_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

EXPIRED = 3600  # seconds since a token was obtained
ROW = 34  # columns of a connection
MANY = 20
# The tests of the pages count their statements, tests/jobs/refresh/test_cost.py those of a run.
ELSEWHERE: Any = {"statements": None, "columns": None}


@dataclass
class Site:
    """A site with one provider, whose endpoints are all https."""

    server: ScriptedServer
    user: Any
    make_connection: Callable[..., Connection]

    def connected(self, **options: Any) -> Connection:
        """Return a connection that is loaded, as another request stored it."""
        return Connection.objects.get(pk=self.make_connection(**options).pk)

    def warmed(self) -> Connection:
        """Let a call open a socket to the provider, as in a process that works for some time."""
        connection = self.connected()
        call(connection.session())
        return connection


def call(http: Any) -> None:
    assert http.get("user").status_code == 200


def first_call(site: Site) -> Callable[[], Any]:
    site.make_connection()
    return lambda: call(session_for(site.user, "scripted"))


def second_by_user(site: Site) -> Callable[[], Any]:
    site.warmed()
    return lambda: call(session_for(site.user, "scripted"))


def second_by_key(site: Site) -> Callable[[], Any]:
    connection = site.warmed()
    return lambda: call(Connection.objects.get(pk=connection.pk).session())


def held(site: Site) -> Callable[[], Any]:
    http = site.connected().session()
    call(http)
    return lambda: call(http)


def refreshing(site: Site) -> Callable[[], Any]:
    site.warmed()
    connection = site.connected(age=EXPIRED)
    return lambda: call(connection.session())


def refused(site: Site) -> Callable[[], Any]:
    connection = site.connected(age=EXPIRED / 2)
    http = connection.session()
    call(http)
    site.server.on("/api/user", Answer(401), Answer(body={"id": 1}))
    return lambda: call(http)


def listing(site: Site) -> Callable[[], Any]:
    site.make_connection()
    visitor, path = Visitor(site.user), reverse("oauth_connect:connections")
    visitor.get(path)
    return lambda: visitor.get(path)


def beginning(site: Site) -> Callable[[], Any]:
    visitor = Visitor(site.user)
    return visitor.start


def callback(site: Site) -> Callable[[], Any]:
    visitor = Visitor(site.user)
    visitor.connect()
    state = state_of(visitor.start())
    return lambda: visitor.come_back(state=state, code="code")


def run(site: Site) -> Callable[[], Any]:
    for number in range(MANY):
        site.make_connection(age=EXPIRED + number)
    return lambda: list(refresh_due(Due(), workers=1))


# Each step is prepared by its function, which returns what is counted.
STEPS: dict[str, tuple[Callable[[Site], Callable[[], Any]], Costs]] = {
    "the first call of a process": (
        first_call,
        Costs(statements=1, columns=ROW, decryptions=1, requests=1, sockets=1, tls_contexts=1),
    ),
    "a second session by session_for": (
        second_by_user,
        Costs(statements=1, columns=ROW, decryptions=1, requests=1),
    ),
    "a second session by objects.get": (
        second_by_key,
        Costs(statements=1, columns=ROW, decryptions=1, requests=1),
    ),
    "a call on a session that is held": (held, Costs(requests=1)),
    "a call that refreshes": (
        refreshing,
        Costs(statements=4, columns=21, decryptions=1, requests=2, sockets=1),
    ),
    "a call that is refused and sent again": (
        refused,
        Costs(statements=5, columns=42, requests=3, sockets=1),
    ),
    "the page that lists connections": (listing, Costs(**ELSEWHERE)),
    "the view that begins to connect": (beginning, Costs(**ELSEWHERE)),
    "the callback": (
        callback,
        Costs(**ELSEWHERE, decryptions=3, requests=2, sockets=1),
    ),
    "a run over many rows": (
        run,
        Costs(**ELSEWHERE, decryptions=MANY, requests=MANY, sockets=1, tls_contexts=1),
    ),
}


@pytest.fixture
def site(
    user: Any,
    make_connection: Callable[..., Connection],
    configure: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    certificate = self_signed(x509.IPAddress(ipaddress.ip_address("127.0.0.1")), tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    server = ScriptedServer(tls)
    answer = {
        "access_token": "access-1",
        "refresh_token": "refresh-1",
        "token_type": "Bearer",
        "expires_in": 3600,
    }
    server.on("/token", Answer(body=answer))
    for path in ("/api/user", "/userinfo"):
        server.on(path, Answer(body={"id": 1}))
    entry = {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{server.url}/authorize",
        "token_endpoint": f"{server.url}/token",
        "userinfo_endpoint": f"{server.url}/userinfo",
        "api_base_url": f"{server.url}/api/",
    }
    configure(PROVIDERS={"scripted": entry})
    check_sealing()  # once a process
    yield Site(server, user, make_connection)
    server.close()


@pytest.mark.parametrize("name", STEPS)
def test_a_step_costs_exactly_what_the_table_says(site, name):
    prepare, budget = STEPS[name]
    step = prepare(site)
    with counted(site.server) as spent:
        step()
    assert spent.differences(budget) == {}, f"{name}: {spent}"
