"""Errors of every kind, at every entrance of the package, in a site with Sentry. Each secret is a canary.

A case is a function without locals and arguments: a site's own frames are no business of the package.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import keyring.backend
import requests
import sentry_sdk
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.core.signals import got_request_exception
from django.db import connections
from django.test import Client, RequestFactory

import oauth_connect
from oauth_connect import crypto, flows, signals
from oauth_connect.conf import conf
from oauth_connect.contrib import httpx as oauth_httpx
from oauth_connect.contrib.apple import ClientSecret
from oauth_connect.contrib.httpx import LIBRARIES, ConnectionAuth
from oauth_connect.contrib.mastodon import register_client
from oauth_connect.errors import ConnectionHidden, ConnectionLocked, ProviderUnavailable
from oauth_connect.flows.terminal import BrowserLogin, DeviceLogin, Redirect, UserConnectionTarget
from oauth_connect.jobs.import_tokens import ForeignToken, TokenImport
from oauth_connect.jobs.refresh import Due, refresh_due
from oauth_connect.jobs.refresh.dispatch import dispatch_due
from oauth_connect.jobs.revoke import revoke_due
from oauth_connect.models import Connection, Owner, PendingRevocation, ProviderState
from oauth_connect.protocol.client import AuthorizationServer
from oauth_connect.protocol.device import DeviceAuthorization, await_token
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.session import TokenAuth
from oauth_connect.protocol.token import Token
from oauth_connect.stores import keyring as our_keyring
from oauth_connect.stores.row import RowStore
from tests.reporters import reports, site
from tests.reporters.tracing import traced
from tests.servers.scripted import Answer, ScriptedServer
from tests.support.tokens import id_token

Case = Callable[[], Any]
CASES: dict[str, Case] = {}
server: Any = ScriptedServer()


def canary(word: str) -> str:
    return f"{site.CANARY}-{word}:+%/&="


def case(function: Case) -> Case:
    CASES[function.__name__.replace("_", " ")] = function
    return function


def issued(word: str = "new", **more: Any) -> dict[str, Any]:
    tokens = {"access_token": canary(f"{word}-at"), "refresh_token": canary(f"{word}-rt")}
    return {**tokens, "token_type": "Bearer", "expires_in": 3600, **more}


def entry(**more: Any) -> dict[str, Any]:
    return {
        "client_id": "client",
        "client_secret": canary("secret"),
        "authorization_endpoint": f"{server.url}/authorize",
        "token_endpoint": f"{server.url}/token",
        "revocation_endpoint": f"{server.url}/revoke",
        "device_authorization_endpoint": f"{server.url}/device",
        "userinfo_endpoint": f"{server.url}/userinfo",
        "api_base_url": f"{server.url}/api/",
        "api_hosts": [server.url.removeprefix("http://"), "127.0.0.1:9"],
        "identity": {"source": "userinfo", "id": ["id"], "label": ["id"]},
        "api": {"header": "X-Key", "scheme": "", "headers": {"X-Subscription": canary("subscription")}},
        **more,
    }


PROVIDERS = {
    "header": {},
    "post": {"token_endpoint_auth_method": "client_secret_post"},
    "json": {"token_endpoint_auth_method": "client_secret_post", "token_request": {"body": "json"}},
}


def configure(**changes: Any) -> None:
    settings.OAUTH_CONNECT = {
        "KEYS": [site.KEY],
        "BASE_URL": "https://app.example",
        "HTTP_TIMEOUT": 60,  # no answer is late, except on a busy machine
        "PROVIDERS": {slug: entry(**more) for slug, more in PROVIDERS.items()},
        **changes,
    }


def reset() -> None:
    configure()
    server.script.clear()
    server.on("/token", Answer(body=issued()))
    server.on("/userinfo", Answer(body={"id": "account"}))
    server.on("/revoke", Answer(200))
    server.on("/api/me", Answer(body={}))
    for model in (Connection, PendingRevocation, ProviderState):
        model._base_manager.all().delete()
    sentry_sdk.get_isolation_scope().clear_breadcrumbs()
    reports.sent.clear()


def user() -> Any:
    return get_user_model().objects.get_or_create(username="grace")[0]


def connection(provider: str = "header", age: int = 7200, **more: Any) -> Connection:
    return Connection.objects.store(
        **{"owner": user(), "account_id": "1", **more},
        provider=provider,
        token_response=issued("old"),
        obtained_at=datetime.now(UTC) - timedelta(seconds=age),
    )


def held() -> Token:
    return Token(canary("old-at"), datetime.now(UTC), refresh_token=canary("old-rt"))


def provider(slug: str = "header") -> Provider:
    return conf.provider(slug)


# --- the token endpoint fails, at each entrance that reaches it -----------------------------------

FAILURES = {
    "is away": lambda: Answer(503, {}),
    "refuses the client": lambda: Answer(401, {"error": "invalid_client"}),
    "refuses the grant": lambda: Answer(
        400, {"error": "invalid_grant", "error_description": f"The token {site.CANARY} is spent."}
    ),
    "refuses the request": lambda: Answer(
        400, {"error": "invalid_scope", "error_description": f"client_secret={canary('secret')}"}
    ),
    "refuses without a reason": lambda: Answer(400, {"message": canary("body")}),
    "has the token in a list": lambda: Answer(body=[issued()]),
    "issues an odd type": lambda: Answer(body=issued(token_type="mac")),
    "issues a number": lambda: Answer(body=issued(access_token=5)),
    "does not speak JSON": lambda: Answer(body=canary("body").encode()),
    "redirects": lambda: Answer(307, headers={"Location": f"{server.url}/{site.CANARY}"}),
    "resets": lambda: Answer(reset=True),
    "breaks off": lambda: Answer(body=issued(), cut=20),
}
slugs = iter(list(PROVIDERS) * 1000)


async def asynchronously(call: Callable[[Connection], Any]) -> None:
    """Several tasks want the same."""
    row = await Connection.objects.aget()
    done = await asyncio.gather(*(call(row) for _ in range(3)), return_exceptions=True)
    assert len({id(error) for error in done}) == 3, done
    raise next(error for error in done if isinstance(error, BaseException))


async def by_async_httpx(row: Connection) -> None:
    async with await oauth_httpx.aclient(row) as client:
        await client.get("me")


def by_httpx(library: Any, row: Connection) -> None:
    with oauth_httpx.client(row, client_class=library.Client) as client:
        client.get("me")


def by_auth(row: Connection) -> None:
    with LIBRARIES[0].Client(auth=ConnectionAuth(row)) as client:
        client.get(f"{server.url}/api/me")


def by_device() -> None:
    clock = iter(range(10**6))
    await_token(
        AuthorizationServer(provider("post")),
        DeviceAuthorization(canary("device"), "USER", "https://a.example/", expires_in=60, interval=1),
        clock=lambda: next(clock),
        sleep=lambda seconds: None,
    )


def complete() -> None:
    flows.complete(returning(Client()), "header")


ENTRANCES: dict[str, Case] = {
    "a session": lambda: connection(next(slugs)).session().get("me"),
    "a session_for": lambda: flows.session_for(connection(next(slugs)).user, "header").get("me"),
    "a prepared request": lambda: (
        connection(next(slugs)).session().prepare_request(requests.Request("GET", f"{server.url}/api/me"))
    ),
    "requests with the auth object": lambda: requests.get(
        f"{server.url}/api/me",
        auth=TokenAuth(connection(next(slugs)).session().token_auth.source),
        timeout=9,
    ),
    "access_token": lambda: connection(next(slugs)).access_token(),
    "access_token_for": lambda: flows.access_token_for(connection().user, "header"),
    "refresh": lambda: connection(next(slugs)).refresh(),
    "refresh of a valid token": lambda: connection(next(slugs), age=0).refresh(),
    "arefresh": lambda: (connection(), asyncio.run(asynchronously(Connection.arefresh))),
    "aaccess_token": lambda: (connection(), asyncio.run(asynchronously(Connection.aaccess_token))),
    "aaccess_token_for": lambda: (connection(), asyncio.run(flows.aaccess_token_for(user(), "header"))),
    "an async client of httpx": lambda: (connection(), asyncio.run(asynchronously(by_async_httpx))),
    "a client of httpx": lambda: by_httpx(LIBRARIES[0], connection(next(slugs))),
    "a client of httpx2": lambda: by_httpx(LIBRARIES[-1], connection(next(slugs))),
    "a site's client of httpx": lambda: by_auth(connection()),
    "a machine": lambda: flows.machine_access_token(next(slugs)),
    "a machine's session": lambda: flows.machine_session(next(slugs)).get("me"),
    "an async machine": lambda: asyncio.run(flows.amachine_access_token("post")),
    "a device": by_device,
    "the callback": complete,
    "exchange_code": lambda: AuthorizationServer(provider(next(slugs))).exchange_code(
        code=canary("code"), redirect_uri="https://app.example/", code_verifier=canary("v" * 40)
    ),
    "client_credentials": lambda: AuthorizationServer(provider(next(slugs))).client_credentials(),
    "the client's refresh": lambda: AuthorizationServer(provider(next(slugs))).refresh(held()),
    "the keyring": lambda: (kept(), flows.session_for_keyring("header").get("me")),
    "a run": lambda: (connection(), next(iter(refresh_due(Due())))),
    "a run of several": lambda: (
        [connection(account_id=str(number)) for number in range(3)],
        list(refresh_due(Due())),
    ),
    "the command": lambda: (connection(), call_command("oauth_refresh", verbosity=0)),
}


def failing(failure: Callable[[], Answer], entrance: Case) -> Case:
    return lambda: (server.on("/token", failure()), entrance())


REPEATED: set[str] = set()  # cases that run no other function than those before
for _failure, _answer in FAILURES.items():
    for _entrance, _call in ENTRANCES.items():
        _name = f"{_entrance}: the server {_failure}"
        CASES[_name] = failing(_answer, _call)
        if _failure != next(iter(FAILURES)) and _entrance != next(iter(ENTRANCES)):
            REPEATED.add(_name)


# --- the API --------------------------------------------------------------------------------------

API_FAILURES = {
    "resets": lambda: Answer(reset=True),
    "is silent": lambda: Answer(silent=True),
    "breaks off": lambda: Answer(body={"a": 1}, cut=2),
    "redirects in a circle": lambda: Answer(302, headers={"Location": f"{server.url}/api/me"}),
    "redirects to http": lambda: Answer(302, headers={"Location": "http://api.example/"}),
    "redirects to nothing": lambda: Answer(302, headers={"Location": "http://127.0.0.1:9/"}),
    "refuses": lambda: (server.on("/token", Answer(503, {})), Answer(401, {}))[1],
}


def seconds() -> float:
    """Return how long a call waits: not long for an API that is silent."""
    return 0.1 if server.script["/api/me"][0].silent else 60


CALLS = {
    "requests": lambda: (
        connection("post", age=0)
        .session()
        .get(
            "me",
            timeout=seconds(),
            params={"access_token": canary("query")},
            headers={"X-Own": canary("own")},
        )
    ),
    "a post of requests": lambda: (
        connection("post", age=0).session().post("me", timeout=seconds(), data={"password": canary("own")})
    ),
    "httpx": lambda: oauth_httpx.client(connection("post", age=0)).get(
        "me", timeout=seconds(), follow_redirects=True, params={"access_token": canary("query")}
    ),
    "async httpx": lambda: (connection("post", age=0), asyncio.run(calling(user()))),
}


async def calling(who: Any) -> None:
    async with await oauth_httpx.aclient_for(who, "post") as client:
        await client.get("me", timeout=seconds(), follow_redirects=True, headers={"X-Own": canary("own")})


for _failure, _answer in API_FAILURES.items():
    for _entrance, _call in CALLS.items():
        CASES[f"a call by {_entrance}: the API {_failure}"] = lambda answer=_answer, call=_call: (
            server.on("/api/me", answer()),
            call(),
        )


@case
def the_api_is_not_there() -> None:
    connection(age=0).session().get("http://127.0.0.1:9/api", params={"token": canary("query")})


@case
def a_host_that_may_not_get_the_token() -> None:
    connection(age=0).session().get(f"https://elsewhere.example/?token={site.CANARY}")


@case
def a_header_that_requests_refuses() -> None:
    connection(age=0).session().get("me", headers={"X-Own": f"{site.CANARY}\r\n"})


@case
def a_header_that_httpx_refuses() -> None:
    oauth_httpx.client(connection(age=0)).get("me", headers={"X-Own": f"{site.CANARY}\r\n"})


@case
def a_header_in_the_settings_that_cannot_be_sent() -> None:
    configure(PROVIDERS={"header": entry(api={"headers": {"X-Subscription": f"{site.CANARY}\n"}})})
    connection(age=0).session().get("me")


# --- clients that are not in the settings --------------------------------------------------------


@case
def a_key_of_apple_s_that_cannot_sign() -> None:
    ClientSecret(client_id="site", team_id="team", key_id="key", private_key=canary("key"))()


@case
def a_server_that_registers_no_client() -> None:
    server.on("/api/v1/apps", Answer(body={"client_secret": canary("secret")}))
    register_client(provider(), {})


@case
def a_registration_without_one_redirect_uri() -> None:
    configure(BASE_URL=lambda request: "https://app.example")
    register_client(provider(), {})


# --- settings and keys ----------------------------------------------------------------------------

WRONG: dict[str, Callable[[], dict[str, Any]]] = {
    "a typo": lambda: {"tokn_endpoint": "x"},
    "a wrong type": lambda: {"scopes": "a b"},
    "an unknown preset": lambda: {"preset": "nowhere"},
    "a preset that is no name": lambda: {"preset": 5},
    "an unknown environment": lambda: {"environment": "x"},
    "plain http": lambda: {"token_endpoint": "http://a.example/"},
    "a list of secrets with a number": lambda: {"client_secret": [canary("secret"), 5]},
    "a wrong scope": lambda: {"scopes": ["a b"]},
    "an issuer that is not there": lambda: {"issuer": "http://127.0.0.1:9", "token_endpoint": ""},
    "a private issuer": lambda: {"issuer": "https://10.0.0.1", "token_endpoint": ""},
    "a disabled provider": lambda: {"enabled": False},
    "a hook that is not there": lambda: {"client_secret": "", "hooks": {"client_secret": "nowhere.at_all"}},
    "a function that fails": lambda: {"client_secret": failing_function},
    "a function without a secret": lambda: {"client_secret": lambda: [canary("secret"), 5]},
    "a nested typo": lambda: {"token_request": {"params": {"a": canary("parameter")}, "bdy": "form"}},
}
WAYS: dict[str, Case] = {
    "provider": lambda: conf.provider("wrong"),
    "declared": lambda: conf.declared_provider("wrong"),
    "session_for": lambda: flows.session_for(user(), "wrong"),
    "machine": lambda: flows.machine_session("wrong").get("me"),
    "store": lambda: connection("wrong"),
    "begin": lambda: flows.begin(request(), "wrong"),
    "the page": lambda: browser().post("/oauth/wrong/connect/", secure=True),
    "the JSON API": lambda: browser().post("/oauth/api/wrong/connect/", secure=True),
    "the checks": lambda: run_checks(include_deployment_checks=True),
    "the command": lambda: call_command("oauth_doctor", stdout=Nothing(), stderr=Nothing()),
    "from_mapping": lambda: Provider.from_mapping("wrong", settings.OAUTH_CONNECT["PROVIDERS"]["wrong"]),
    "the secret": lambda: conf.provider("wrong").secret(),
}
for _number, (_wrong, _fields) in enumerate(WRONG.items()):
    for _way, _call in WAYS.items():
        if _number and _way not in ("provider", "session_for", "machine", "the secret"):
            continue
        CASES[f"{_wrong}, by {_way}"] = lambda fields=_fields, call=_call: (
            configure(PROVIDERS={"wrong": entry(**fields())}, DISCOVERY_CACHE=None),
            call(),
        )


class Nothing:
    def write(self, text: str) -> None: ...

    def flush(self) -> None: ...


def failing_function() -> str:
    raise RuntimeError("the vault is away")


@case
def providers_that_are_no_dict() -> None:
    configure(PROVIDERS=[entry()])
    conf.provider("header")


@case
def settings_that_are_no_dict() -> None:
    settings.OAUTH_CONNECT = [("KEYS", [site.KEY]), ("PROVIDERS", entry())]
    conf.provider("header")


@case
def a_provider_without_an_endpoint() -> None:
    Provider(slug="own", client_id="client", client_secret=canary("secret"))


@case
def a_loader_that_fails() -> None:
    def load(slug: str, owner: str) -> Any:
        load.last = entry()  # type: ignore[attr-defined]
        raise RuntimeError("the table is away")

    configure(PROVIDER_LOADER=load)
    flows.session_for(user(), "own")


KEYS: dict[str, Case] = {
    "conf": lambda: conf.keys,
    "seal": lambda: crypto.seal(canary("value"), ("a",)),
    "fingerprint": lambda: crypto.fingerprint([canary("value")]),
    "key_index": lambda: crypto.key_index("gAAAA", ("a",)),
    "store": connection,
    "begin": lambda: flows.begin(request(), "header"),
    "the page": lambda: browser().post("/oauth/header/connect/", secure=True),
    "the JSON API": lambda: browser().post("/oauth/api/header/connect/", secure=True),
    "rotate": lambda: call_command("oauth_rotate_keys", stdout=Nothing(), stderr=Nothing()),
    "refresh": lambda: call_command("oauth_refresh", stdout=Nothing(), stderr=Nothing()),
    "the checks": lambda: run_checks(include_deployment_checks=True),
    "an open token": lambda: (row := connection(), configure(KEYS=malformed()), row.token),
    "a call": lambda: (row := connection(), configure(KEYS=malformed()), row.session().get("me")),
    "a disconnect": lambda: (row := connection(), configure(KEYS=malformed()), row.disconnect()),
    "a run": lambda: (connection(), configure(KEYS=malformed()), list(refresh_due(Due()))),
    "another key": lambda: (row := connection(), configure(KEYS=[site.OTHER_KEY]), row.session().get("me")),
    "an old key at the callback": lambda: flows.complete(returning(Client(), KEYS=malformed()), "header"),
}


def malformed() -> list[str]:
    return [site.KEY, f"{site.KEY}x", site.OTHER_KEY]


for _name, _call in KEYS.items():
    CASES[f"a malformed key, by {_name}"] = lambda name=_name, call=_call: (
        None if name.startswith(("an ", "a ")) else configure(KEYS=malformed()),
        call(),
    )


# --- connecting -----------------------------------------------------------------------------------


def request(path: str = "/") -> Any:
    made = RequestFactory().get(path, secure=True)
    made.user = user()
    made.session = browser().session
    return made


def browser() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user())
    return client


def back_from(client: Client) -> str:
    """Start a flow, and return the path and query of the callback."""
    client.force_login(user())
    started = client.post("/oauth/header/connect/", secure=True)
    (state,) = parse_qs(urlsplit(started["Location"]).query)["state"]
    return f"/oauth/header/callback/?{requests.models.urlencode({'code': canary('code'), 'state': state})}"


def returning(client: Client, **changes: Any) -> Any:
    made = request(back_from(client))
    made.session = client.session
    if changes:
        configure(**changes)
    return made


@case
def a_callback_of_another_browser() -> None:
    flows.complete(request(f"/?code={site.CANARY}&state={site.CANARY}"), "header")


@case
def a_callback_with_a_repeated_state() -> None:
    flows.complete(request(f"/?code={site.CANARY}&state={site.CANARY}&state=b"), "header")


def failed_once() -> Any:
    """Return a request whose response has already failed in this session."""
    server.on("/token", Answer(503))
    made = returning(Client())
    with contextlib.suppress(ProviderUnavailable):
        flows.complete(made, "header")
    return made


def second_of_two() -> Any:
    """Return a request that has read the session before another one finished the flow."""
    client = Client()
    first = returning(client)
    second = request(first.get_full_path())
    second.session = client.session
    second.session.get("oauth_connect_pending")
    server.on("/token", Answer(503))
    with contextlib.suppress(ProviderUnavailable):
        flows.complete(first, "header")
    return second


def signed_out_meanwhile() -> Any:
    made = returning(Client())
    made.session.get("oauth_connect_pending")
    type(made.session)(made.session.session_key).delete()
    return made


def without_code(**more: str) -> Any:
    made = returning(Client())
    made.GET = made.GET.copy()
    del made.GET["code"]
    made.GET.update(more)
    return made


@case
def a_callback_that_comes_twice() -> None:
    flows.complete(failed_once(), "header")


@case
def a_callback_that_comes_twice_in_parallel() -> None:
    flows.complete(second_of_two(), "header")


@case
def a_callback_whose_session_ends() -> None:
    flows.complete(signed_out_meanwhile(), "header")


@case
def a_callback_with_an_error() -> None:
    flows.complete(without_code(error="invalid_scope", error_description=f"code={canary('said')}"), "header")


@case
def a_callback_without_code_and_error() -> None:
    flows.complete(without_code(), "header")


@case
def a_browser_login_whose_port_is_taken() -> None:
    BrowserLogin("header", UserConnectionTarget(user()), redirect=Redirect(port=server.port)).run(print)


@case
def a_callback_whose_account_is_unknown() -> None:
    server.on("/userinfo", Answer(body={"token": canary("userinfo")}))
    complete()


@case
def a_callback_whose_userinfo_is_refused() -> None:
    server.on("/userinfo", Answer(403, {"error": canary("userinfo")}))
    complete()


def signed_userinfo(**claims: Any) -> Answer:
    return Answer(body=id_token(**claims).encode(), headers={"Content-Type": "application/jwt"})


@case
def a_callback_whose_userinfo_is_signed_for_another_client() -> None:
    server.on("/userinfo", signed_userinfo(aud=canary("client"), token=canary("userinfo")))
    complete()


@case
def a_callback_page_that_crashes() -> None:
    """As Django sees it: the error is reported by the signal."""
    Failing.connect_to(oauth_connect.flows.authorize, "store_connection")
    client = Client(raise_request_exception=False)
    try:
        client.get(back_from(client), secure=True)
    finally:
        Failing.disconnect()


@case
def a_callback_page_that_crashes_behind_a_server() -> None:
    """Sentry copies the request before the page runs, and servers put the URL into the environment."""
    Failing.connect_to(oauth_connect.flows.authorize, "store_connection")
    client = Client(raise_request_exception=False)
    back = back_from(client)
    path, _, query = back.partition("?")
    environ = client._base_environ(
        **{"PATH_INFO": path, "QUERY_STRING": query, "RAW_URI": back, "wsgi.url_scheme": "https"}
    )
    try:
        WSGIHandler()(environ, lambda *response: None)
    finally:
        Failing.disconnect()


@case
def a_callback_page_whose_settings_are_wrong() -> None:
    client = Client(raise_request_exception=False)
    back = back_from(client)
    configure(PROVIDERS={"header": entry(tokn="x")})
    client.get(back, secure=True)


@case
def a_device_that_is_refused() -> None:
    server.on("/device", Answer(400, {"error": "invalid_client"}))
    DeviceLogin("post", UserConnectionTarget(user())).run(lambda authorization: None)


@case
def a_device_authorization_that_is_odd() -> None:
    server.on("/device", Answer(body={"device_code": canary("device"), "user_code": ""}))
    DeviceLogin("post", UserConnectionTarget(user())).run(lambda authorization: None)


@case
def a_response_that_the_site_stores() -> None:
    Connection.objects.store(owner="o", provider="header", token_response=issued(token_type="mac"))


@case
def a_response_that_the_site_stores_for_its_user() -> None:
    user().oauth_connections.store(owner=user(), provider="header", token_response=issued(access_token=""))


@case
def a_response_that_a_queryset_stores() -> None:
    rows: Any = Connection.objects.all()
    rows.store(owner="o", provider="header", token_response={"refresh_token": canary("rt")})


@case
def a_row_that_cannot_be_inserted() -> None:
    with no_table("oauth_connect_connection"):
        connection()


@case
def a_history_that_cannot_be_written() -> None:
    with no_table("oauth_connect_connectionevent"):
        row = connection()
        row.refresh()


# --- unexpected errors ----------------------------------------------------------------------------


class Failing:
    """Makes a function of the package fail."""

    undo: list[Callable[[], None]] = []

    @classmethod
    def connect_to(cls, owner: Any, name: str, error: Exception | None = None) -> None:
        before = getattr(owner, name)

        def fail(*args: Any, **kwargs: Any) -> Any:
            raise error or RuntimeError("a mistake")

        setattr(owner, name, fail)
        cls.undo.append(lambda: setattr(owner, name, before))

    @classmethod
    def disconnect(cls) -> None:
        while cls.undo:
            cls.undo.pop()()


@contextlib.contextmanager
def no_table(name: str) -> Iterator[None]:
    with connections["default"].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {name} RENAME TO hidden")
    try:
        yield
    finally:
        with connections["default"].cursor() as cursor:
            cursor.execute(f"ALTER TABLE hidden RENAME TO {name}")


@contextlib.contextmanager
def receiving(signal: Any) -> Iterator[None]:
    def receiver(**kwargs: Any) -> None:
        raise RuntimeError("a mistake of the site")

    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@case
def a_receiver_that_fails() -> None:
    server.on("/token", Answer(503, {}))
    with receiving(signals.refresh_failed):
        connection().refresh()


@case
def a_receiver_that_fails_after_a_success() -> None:
    with receiving(signals.refreshed):
        connection().refresh()


@case
def a_lock() -> None:
    Failing.connect_to(RowStore, "claim", ConnectionLocked("An open transaction locks the row."))
    try:
        connection().session().get("me")
    finally:
        Failing.disconnect()


@case
def a_save_that_fails() -> None:
    with no_save():
        connection().refresh()


@contextlib.contextmanager
def no_save() -> Iterator[None]:
    """A trigger refuses the new token. No process comes near the tries that follow."""
    pauses, oauth_connect.stores.row.SAVE_PAUSES = oauth_connect.stores.row.SAVE_PAUSES, ()
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "CREATE TRIGGER no_save BEFORE UPDATE OF sealed_token ON oauth_connect_connection "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )
    try:
        yield
    finally:
        oauth_connect.stores.row.SAVE_PAUSES = pauses
        with connections["default"].cursor() as cursor:
            cursor.execute("DROP TRIGGER no_save")


@case
def a_run_that_cannot_save() -> None:
    connection()
    with no_save():
        list(refresh_due(Due()))


@case
def a_run_whose_loader_fails() -> None:
    connection()
    configure(PROVIDER_LOADER=lambda slug, owner: failing_function())
    list(refresh_due(Due()))


@case
def a_wrong_column() -> None:
    Connection.objects.update(sealed_token=canary("value"))


@case
def two_accounts() -> None:
    connection(), connection(account_id="2")
    flows.session_for(user(), "header")


@case
def no_account() -> None:
    flows.session_for(user(), "header")


@case
def an_unknown_provider() -> None:
    flows.session_for(user(), "nowhere")


@case
def a_revocation_that_fails() -> None:
    server.on("/revoke", Answer(503, {}))
    connection().disconnect()


@case
def a_revocation_that_crashes() -> None:
    server.on("/revoke", Answer(503, {}))
    connection().disconnect()
    PendingRevocation._base_manager.update(next_attempt_at=datetime.now(UTC) - timedelta(days=1))
    Failing.connect_to(oauth_connect.models.lifecycle.revocation, "revoke")
    try:
        list(revoke_due())
    finally:
        Failing.disconnect()


# --- the keyring ----------------------------------------------------------------------------------


class MemoryKeyring(keyring.backend.KeyringBackend):
    priority = 0.0  # type: ignore[assignment]
    entries: dict[str, str] = {}
    fails = False

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get(service)

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.fails:
            raise RuntimeError(f"cannot store {password}")
        self.entries[service] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service]


def kept() -> None:
    MemoryKeyring.fails = False
    keyring.set_keyring(MemoryKeyring())
    our_keyring.keep(provider(), Token.from_dict({**held().to_dict(), "expires_at": 1.0}))


@case
def a_keyring_that_is_locked() -> None:
    kept()
    MemoryKeyring.fails = True
    our_keyring.keep(provider(), held())


@case
def a_keyring_that_is_locked_during_a_refresh() -> None:
    kept()
    MemoryKeyring.fails = True
    flows.session_for_keyring("header").get("me")


# --- discovery, instances, logins, imports --------------------------------------------------------

METADATA: dict[str, Callable[[], Answer]] = {
    "names another issuer": lambda: Answer(body=metadata(issuer="https://a.example")),
    "has no token endpoint": lambda: Answer(body=metadata(token_endpoint="")),
    "has an odd list": lambda: Answer(body=metadata(scopes_supported="a")),
    "has no S256": lambda: Answer(body=metadata(code_challenge_methods_supported=["plain"])),
    "has another authentication": lambda: Answer(
        body=metadata(token_endpoint_auth_methods_supported=["private_key_jwt"])
    ),
    "is away": lambda: Answer(503, {}),
    "is refused": lambda: Answer(403, {}),
    "is large": lambda: Answer(body=b"x" * 1024, repeat=1025),
}


def metadata(**more: Any) -> dict[str, Any]:
    endpoints = {"authorization_endpoint": f"{server.url}/authorize", "token_endpoint": f"{server.url}/token"}
    return {"issuer": server.url, **endpoints, **more}


def discovering() -> None:
    conf._issuers = type(conf._issuers)()
    configure(PROVIDERS={"found": discovered()}, DISCOVERY_CACHE=None)
    conf.provider("found")


def discovered() -> dict[str, Any]:
    return {
        "client_id": "client",
        "client_secret": canary("secret"),
        "issuer": server.url,
        "identity": {"source": "userinfo", "id": ["id"]},
    }


for _name, _answer in METADATA.items():
    CASES[f"a discovered server whose document {_name}"] = lambda answer=_answer: (
        server.on("/.well-known/oauth-authorization-server", answer()),
        discovering(),
    )

SITES = {"sites": {"source": "accounts", "pattern": "[a-z]+"}}
FOUND = {"endpoint": f"{server.url}/sites", "variable": "sites", "id": "id"}
INSTANCES: dict[str, dict[str, Any]] = {
    "an id token of another issuer": {
        "issuer": "https://a.example",
        "scopes": ["openid"],
        "identity": {"source": "id_token", "id": ["sub"]},
    },
    "a list of sites that is none": {"variables": SITES, "accounts": FOUND},
    "a site without access": {
        "variables": SITES,
        "accounts": {**FOUND, "path": ["found"], "choose": "a", "match": ["id"]},
    },
    "a site without a value": {"variables": SITES, "accounts": {**FOUND, "path": ["found"], "id": "name"}},
    "an account that introspection does not name": {
        "introspection_endpoint": f"{server.url}/introspect",
        "identity": {"source": "introspection"},
    },
    "a variable of the token response": {
        "variables": {"shop": {"source": "token_response", "pattern": "[a-z]+"}},
        "api_base_url": "https://{shop}.example/",
        "api_hosts": ["{shop}.example"],
    },
}
for _name, _fields in INSTANCES.items():
    CASES[_name] = lambda fields=_fields: (
        server.on("/token", Answer(body=issued(id_token=f"a.{canary('id')}.c"))),
        server.on("/sites", Answer(body={"found": [{"id": "b"}]})),
        configure(PROVIDERS={"header": entry(**fields)}),
        complete(),
    )


def with_other(**more: Any) -> None:
    """Let the response have another token, and another entry that reads it unless ``more`` changes that."""
    server.on("/token", Answer(body=issued(user=issued("user", token_type="mac"))))
    other = {"token_response": {"path": ["user"]}, **more}
    configure(PROVIDERS={"header": entry(token_response={"other_entries": ["user"]}), "user": entry(**other)})


@case
def another_token_that_is_unusable() -> None:
    with_other()
    complete()


@case
def another_entry_that_reads_no_other_token() -> None:
    with_other(token_response={})
    flows.begin(request(), "header")


@case
def a_refresh_whose_secrets_are_in_the_query() -> None:
    server.on("/token", Answer(reset=True))
    configure(PROVIDERS={"header": entry(**PROVIDERS["post"], token_request={"method": "GET"})})
    connection().refresh()


@case
def a_revocation_with_the_secret_in_a_header() -> None:
    server.on("/revoke", Answer(400, {"error": "invalid_request"}))
    configure(PROVIDERS={"header": entry(revocation={"authentication": "client_secret_header"})})
    AuthorizationServer(provider()).revoke(held())


@case
def a_variable_of_a_user() -> None:
    shop = {"shop": {"source": "user", "pattern": "[a-z]+"}}
    configure(PROVIDERS={"header": entry(variables=shop)})
    flows.begin(request(), "header", variables={"shop": canary("shop")})


@case
def a_login_in_a_browser_that_sends_nothing() -> None:
    BrowserLogin("post", UserConnectionTarget(user())).run(lambda url: None, timeout=0)


@case
def a_login_in_a_browser_that_is_refused() -> None:
    BrowserLogin("post", UserConnectionTarget(user())).run(
        lambda url: requests.get(
            parse_qs(urlsplit(url).query)["redirect_uri"][0],
            {"state": parse_qs(urlsplit(url).query)["state"][0], "error": "access_denied"},
            timeout=9,
        )
    )


@case
def a_login_in_a_browser_without_pkce() -> None:
    configure(
        PROVIDERS={
            "header": entry(authorize={"code_challenge_method": "none", "without_pkce_because": "a test"})
        }
    )
    BrowserLogin("header", UserConnectionTarget(user())).run(lambda url: None)


@case
def a_login_by_the_command() -> None:
    server.on("/device", Answer(body={"device_code": canary("device"), "user_code": ""}))
    call_command("oauth_login", "header", "--user", user().username, stdout=Nothing(), stderr=Nothing())


@case
def a_keyring_whose_token_is_refused() -> None:
    kept()
    server.on("/token", Answer(body=issued()), Answer(400, {"error": "invalid_grant"}))
    server.on("/api/me", Answer(401, {}))
    flows.session_for_keyring("header").get("me")
    flows.forget_in_keyring("header")
    flows.session_for_keyring("header").get("me")


@case
def a_keyring_in_async_code() -> None:
    kept()
    server.on("/token", Answer(503, {}))
    asyncio.run(by_the_keyring(our_keyring.source_for(provider())))


async def by_the_keyring(source: Any) -> None:
    async with LIBRARIES[0].AsyncClient(auth=oauth_httpx.TokenAuth(source)) as client:
        await client.get(f"{server.url}/api/me")


@case
def a_dispatch_of_no_chunk() -> None:
    dispatch_due(lambda slug, pks: None, chunk=0)


@case
def a_row_of_another_package() -> None:
    row = {"pk": 1, "provider": "header", "user": user(), "account_id": "1", "client_id": "client"}
    tokens = {"access_token": canary("at"), "refresh_token": canary("rt"), "profile": issued()}
    done = TokenImport("a", {"header": "header"}).batch
    list(done([ForeignToken(**row, **tokens, obtained_at=datetime.now())]))  # noqa: DTZ005


# --- owners, tenants, entries of a loader -----------------------------------------------------------


@case
def an_owner_without_a_name() -> None:
    Connection.objects.store(owner="", provider="header", token_response=issued())


@case
def an_owner_of_the_setting_that_is_a_machine() -> None:
    configure(OWNER=lambda request: Owner("machine:header"))
    complete()


@case
def an_owner_of_the_setting_that_is_a_user() -> None:
    configure(OWNER=lambda request: Owner("user:other"))
    complete()


@case
def a_row_without_an_identity() -> None:
    row = connection()
    Connection(provider="header", sealed_token=row.sealed_token).save()


@case
def a_row_of_two_owners() -> None:
    connection()
    with connections["default"].cursor() as cursor:
        cursor.execute("UPDATE oauth_connect_connection SET owner = 'org:other'")
    Connection._base_manager.get().session().get("me")


@case
def a_move_to_an_owner_who_has_the_account() -> None:
    connection(owner="org:1")
    connection(owner="org:2").move_to("org:1")


@case
def a_move_to_nobody() -> None:
    connection().move_to("user:0")


@case
def a_move_of_a_machine() -> None:
    flows.machine_connection("header").move_to("org:1")


@case
def a_move_to_an_owner_with_another_client() -> None:
    row = connection(owner="org:1")
    configure(PROVIDER_LOADER=lambda slug, owner: entry(client_id=owner) if owner == "org:2" else None)
    row.move_to("org:2")


UNTRUSTED: dict[str, dict[str, Any]] = {
    "a path": {"preset": "/etc/preset.toml"},
    "a hook": {"hooks": {"client_secret": "tests.reporters.cases.failing_function"}},
    "a line break": {"name": "a\nb"},
    "a pattern": {"variables": {"shop": {"source": "user", "pattern": "(a+)+"}}},
    "an issuer and endpoints": {"issuer": "https://a.example"},
    "a private address": {},
}
for _name, _fields in UNTRUSTED.items():
    CASES[f"a loader's entry with {_name}"] = lambda fields=_fields: (
        configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry(**fields)),
        flows.machine_session("own").get("me"),
    )


@case
def a_private_address_by_httpx() -> None:
    row = connection(age=0)
    configure(PROVIDERS={}, PROVIDER_LOADER=lambda slug, owner: entry())
    by_httpx(LIBRARIES[0], row)


def fail_with(*arguments: Any) -> Any:
    raise RuntimeError("a mistake of the site")


STATES: dict[str, Any] = {
    "cannot be read": (fail_with, fail_with),
    "cannot be hashed": (lambda database: {"schema": "a"}, fail_with),
    "cannot be written": (lambda database: "a", fail_with),
}
for _name, _functions in STATES.items():
    CASES[f"a connection's state that {_name}"] = lambda functions=_functions: (
        connection(),
        configure(CONNECTION_STATE=functions),
        asyncio.run(asynchronously(Connection.arefresh)),
    )


@case
def a_row_that_only_the_caller_sees() -> None:
    Failing.connect_to(RowStore, "claim", ConnectionHidden("Only this transaction sees the row."))
    try:
        connection().session().get("me")
    finally:
        Failing.disconnect()


# --- running them ---------------------------------------------------------------------------------


def run_all() -> dict[str, Any]:
    found = {}
    ran: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        ran.add(frame.f_code)

    for name, function in CASES.items():
        reset()
        with contextlib.nullcontext() if name in REPEATED else traced(note):
            found[name] = run(function)
    package = str(Path(oauth_connect.__file__).parent)
    functions = [
        f"{code.co_filename[len(package) + 1 :]}:{code.co_firstlineno}"
        for code in ran
        if code.co_filename.startswith(package)
    ]
    return {"cases": found, "functions": sorted(functions)}


def run(function: Case) -> dict[str, Any]:
    """Return the error's classes, the number of reports, and what they leak."""
    pages: list[dict[str, str]] = []

    def report(request: Any, **kwargs: Any) -> None:
        error = sys.exception()
        assert error is not None
        pages.append(reports.of(error, request))

    got_request_exception.connect(report)
    try:
        function()
        kinds, message = [], ""
    except BaseException as error:
        kinds, message = [kind.__name__ for kind in type(error).__mro__], str(error)
        pages.append(reports.of(error))
        behind = error.__context__
    else:
        behind = None
    finally:
        got_request_exception.disconnect(report)
    texts = [("sentry", text) for text in reports.sent]
    texts += [item for page in pages for item in page.items()]
    leaks = [f"{place}: {leak}" for place, text in texts for leak in reports.leaks(text, site.CANARY)]
    return {
        "error": kinds,
        "message": message,
        "reports": len(texts),
        "behind": None if behind is None else repr(type(behind)),
        "leaks": leaks,
    }
