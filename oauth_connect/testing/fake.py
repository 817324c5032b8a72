"""A fake provider as a test holds it: one server on loopback, and this site's settings for it."""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypedDict

from asgiref.sync import sync_to_async
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client

from oauth_connect.conf import conf
from oauth_connect.models import Connection, Owner
from oauth_connect.protocol.provider import scope_tuple
from oauth_connect.protocol.token import Token
from oauth_connect.testing import browser, rows, walk
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.installed import Entry, check_name, install, remove
from oauth_connect.testing.server import Account, FakeServer, ReceivedRequest, UnknownToken
from oauth_connect.testing.walk import sentence

OURS = Path(__file__).parent
LIBRARIES = ("contextlib", "unittest")  # between a test and this module


@contextmanager
def _misuse() -> Iterator[None]:
    """Raise FakeProviderError where the server, or a function of this package, refuses an argument."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise FakeProviderError(str(error)) from None


class Options(TypedDict, total=False):
    """The keyword arguments of FakeProvider, for the mixin and the fixture."""

    entry: Mapping[str, Any] | None
    accounts: Sequence[str | Account]
    keep_api: bool
    lifetime: int


class FakeProvider:
    """A provider that is not there: real HTTP on 127.0.0.1, while it is open (docs/test-kit.md).

    ``name``: of an entry in PROVIDERS, of a preset, or of a provider that only the test knows. A name that is
    similar to one of the first two needs an ``entry``, which may be empty: it could be a typing error.
    ``entry``: values that override the entry's. ``accounts``: the logins of its accounts; the first is the
    default. ``keep_api``: the API's URLs stay, for ``responses``, ``requests_mock`` and ``respx``.
    ``lifetime``: of access tokens, in seconds. Misuse raises FakeProviderError.
    """

    def __init__(
        self,
        name: str,
        *,
        entry: Mapping[str, Any] | None = None,
        accounts: Sequence[str | Account] = ("octocat", "hubot"),
        keep_api: bool = False,
        lifetime: int = 3600,
    ) -> None:
        self.name = name
        with _misuse():
            self._server = FakeServer(accounts=accounts, lifetime=lifetime)
        if not isinstance(entry, Mapping | None):
            raise FakeProviderError(f'entry: pass a dict such as {{"scopes": ["repo"]}}, not {entry!r:.100}.')
        self._own = None if entry is None else dict(entry)
        self._keep_api = keep_api
        self._process = 0  # that opened it
        self._closer: weakref.finalize[..., Any] | None = None

    def __repr__(self) -> str:
        state = f"at {self._server.url}" if self._is_open else "not open"
        return f"<FakeProvider {self.name!r} {state}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself: Django copies what ``setUpTestData`` sets, and there is one server."""
        return self

    # --- open and closed ------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *error: object) -> None:
        self.close()

    def open(self) -> Self:
        """Start the server, and let the site use it.

        Raises FakeProviderError if the name is in use, or looks like a typing error.
        """
        if self._closer is not None:
            raise FakeProviderError(f"This fake provider {self.name!r} was open already. Make another one.")
        if self._own is None:
            check_name(self.name)
        entry = Entry(self.name, self._server, self._own or {}, self._keep_api, _caller())
        self._server.start()
        browser.register()
        try:
            install(entry)
            if not conf.loads_providers:  # a loader may query a database that a test may not use
                conf.declared_provider(self.name)
        except BaseException:
            _close(entry)
            raise
        self._process = os.getpid()
        self._closer = weakref.finalize(self, _left_open, entry, os.getpid())
        self._entry = entry
        return self

    def close(self) -> None:
        """Stop the server. The site uses its own settings again. A second call does nothing."""
        if self._closer is not None and self._closer.detach():
            _close(self._entry)

    @property
    def _is_open(self) -> bool:
        return self._closer is not None and self._closer.alive

    @property
    def server(self) -> FakeServer:
        """The server. Raises FakeProviderError unless it is open in this process."""
        if not self._is_open:
            when = "is not open any more" if self._closer is not None else "is not open"
            raise FakeProviderError(
                f"The fake provider {self.name!r} {when}. Use it inside of: "
                f"with FakeProvider({self.name!r}) as fake:"
            )
        if os.getpid() != self._process:
            raise FakeProviderError(
                f"The fake provider {self.name!r} was opened in the process {self._process}, and this is "
                f"{os.getpid()}. Open one in each process, in the test itself or in setUp()."
            )
        return self._server

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at its end."""
        return self.server.url

    @property
    def api_base_url(self) -> str:
        """The URL of its API, with a slash at its end."""
        return self.server.api_base_url

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests that it has received, in their order. The list is a copy."""
        return self.server.requests

    # --- connections ----------------------------------------------------------------------------

    def connect(
        self,
        client: Client,
        account: str | None = None,
        scopes: Sequence[str] = (),
        *,
        granted: Sequence[str] | None = None,
        **variables: str,
    ) -> Connection:
        """Connect an account through the site's pages, as a browser does, and return the connection.

        ``client``: Django's test client, logged in. ``account``: default the first. ``scopes``: requested in
        addition to the entry's. ``granted``: what the user allows; default all. ``variables``: what the user
        enters, for example ``shop``. Raises FakeProviderError with the page's sentence if it refuses.
        """
        visit = self._visit(account, scopes, granted, variables)
        return self._connected(walk.go(client, walk.walk(visit)))

    async def aconnect(
        self,
        client: AsyncClient,
        account: str | None = None,
        scopes: Sequence[str] = (),
        *,
        granted: Sequence[str] | None = None,
        **variables: str,
    ) -> Connection:
        """``connect`` for async tests, with Django's AsyncClient."""
        visit = self._visit(account, scopes, granted, variables)
        return await sync_to_async(self._connected)(await walk.ago(client, walk.walk(visit)))

    def callback(
        self,
        client: Client,
        account: str | None = None,
        scopes: Sequence[str] = (),
        *,
        granted: Sequence[str] | None = None,
        **variables: str,
    ) -> HttpResponseBase:
        """Do the same as ``connect``, and return the site's response to the callback, whatever it is."""
        visit = self._visit(account, scopes, granted, variables)
        return walk.go(client, walk.walk(visit)).response

    def _visit(
        self,
        account: str | None,
        scopes: Sequence[str],
        granted: Sequence[str] | None,
        variables: Mapping[str, str],
    ) -> walk.Visit:
        chosen = self._account(account).name
        with _misuse():
            asked, allowed = scope_tuple(scopes), None if granted is None else scope_tuple(granted)
        return walk.Visit(self.name, self.server, chosen, asked, allowed, variables)

    def _connected(self, walked: walk.Walked) -> Connection:
        if walked.response.status_code >= 400:
            raise FakeProviderError(
                f"The site refuses the provider's response. Its page says {sentence(walked.response)}"
            )
        connection = rows.newest(self.name, walked.owner)
        if connection is None or not self.server.holds(connection.token.access_token):
            raise FakeProviderError(
                f"The site has stored no connection to {self.name!r} for the owner {walked.owner.key!r}."
            )
        return connection

    def store(self, owner: Any, account: str | None = None, scopes: Sequence[str] = ()) -> Connection:
        """Store a connection without pages and requests, for tests of tasks and commands.

        ``owner``: a user, an Owner or its key. ``scopes``: in addition to the entry's.
        """
        server = self.server
        with _misuse():
            found, asked = Owner.of(owner), scope_tuple(scopes)
        return rows.store(server, self.name, found, self._account(account), asked)

    def _account(self, name: str | None) -> Account:
        accounts = self.server.accounts
        found = next((one for one in accounts if name in (None, one.name, one.id)), None)
        if found is None:
            names = ", ".join(repr(one.name) for one in accounts)
            raise FakeProviderError(
                f"The fake provider {self.name!r} has no account {name!r}. It has: {names}. "
                f"Add it: FakeProvider({self.name!r}, accounts=[{name!r}])"
            )
        return found

    # --- what the provider does -----------------------------------------------------------------

    def consent(self, account: str | None = None, scopes: Sequence[str] | None = None) -> None:
        """Answer the next authorization or device request without a person. ``scopes``: default all."""
        with _misuse():
            self.server.consent(self._account(account).name, scopes)

    def deny(self) -> None:
        """Deny the next authorization or device request without a person."""
        self.server.deny()

    def api(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer calls of the API. ``path``: after ``api_base_url``. Answers queue; the last one stays."""
        with _misuse():
            self.server.answer_api(method, path, json=json, body=body, status=status, headers=headers)

    def fail(
        self,
        endpoint: str,
        *,
        status: int | None = None,
        error: str | None = None,
        retry_after: int | None = None,
        lost: bool = False,
        timeout: bool = False,
        times: int | None = 1,
        body: bytes | str | None = None,
    ) -> None:
        """Let an endpoint fail: "authorization", "token", "revocation", "userinfo", "api" and others.

        ``lost``: the work is done, and the response does not arrive. ``timeout``: no response; the time
        limits of new sessions are then one second. ``retry_after``: seconds. ``times``: None means until
        ``recover``.
        """
        with _misuse():
            self.server.fail(
                endpoint,
                status=status,
                error=error,
                retry_after=retry_after,
                lost=lost,
                timeout=timeout,
                times=times,
                body=body,
            )

    def recover(self, endpoint: str | None = None) -> None:
        """Forget the failures of one endpoint, or of all."""
        with _misuse():
            self.server.recover(endpoint)

    def expire(self, connection: Connection) -> None:
        """Let the access token expire, at the provider and in the row. The next call refreshes."""
        token = self._token(connection)
        self._know(connection, self.server.expire, token.access_token)
        rows.let_expire(connection)

    def end_grant(self, connection: Connection) -> None:
        """End the grant at the provider: the user has removed the app. The next call finds out."""
        token = self._token(connection)
        self._know(connection, self.server.end_grant, token.refresh_token or token.access_token)
        rows.let_expire(connection)

    def _token(self, connection: Connection) -> Token:
        _ = self.server
        if not isinstance(connection, Connection):
            raise FakeProviderError(f"Pass the Connection, not {type(connection).__name__}.")
        if connection.provider != self.name:
            raise FakeProviderError(
                f"This is a connection to {connection.provider!r}, and the fake provider is {self.name!r}."
            )
        return rows.token_of(connection)

    def _know(self, connection: Connection, act: Any, token: str) -> None:
        try:
            act(token)
        except UnknownToken:
            raise FakeProviderError(
                f"The fake provider {self.name!r} did not issue the token of the connection "
                f"{connection.pk}. Connect here: fake.connect(client), or fake.store(user)."
            ) from None


def _close(entry: Entry) -> None:
    remove(entry)
    entry.server.stop()


def _left_open(entry: Entry, process: int) -> None:
    """Close a fake provider that the test has forgotten. A forked process has only a copy of it."""
    if os.getpid() != process:
        return
    _close(entry)
    warnings.warn(
        f"The fake provider {entry.slug!r} was left open. It was opened in {entry.where}. Use it in a with "
        "statement, or call close().",
        ResourceWarning,
        stacklevel=2,
    )


def _caller() -> str:
    """Return the file and the line of the test that opens a fake provider."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_library(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def _is_library(file: str) -> bool:
    path = Path(file)
    return OURS in path.parents or path.stem in LIBRARIES or path.parent.name in LIBRARIES
