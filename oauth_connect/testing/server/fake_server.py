"""The fake provider as a test holds it."""

from __future__ import annotations

import json as json_module
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from traceback import extract_tb
from typing import Any, Self
from urllib.parse import parse_qsl

from oauth_connect.protocol.provider import Provider, scope_tuple
from oauth_connect.testing.server import shapes
from oauth_connect.testing.server.api import PREFIX
from oauth_connect.testing.server.endpoints import answer, locations
from oauth_connect.testing.server.failures import Failure
from oauth_connect.testing.server.http import Listener
from oauth_connect.testing.server.messages import Account, Decision
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response
from oauth_connect.testing.server.responses import error as error_response
from oauth_connect.testing.server.state import State

NOT_STARTED = "The fake provider is not started. Call start(), or use it in a with statement."


class FakeServer:
    """A fake provider on 127.0.0.1, in a thread. Also a context manager, which starts and stops it.

    ``port``: 0 chooses a free one. ``accounts``: their names; each may be an ``Account`` with an id of its
    own. ``lifetime``: seconds until an access token expires. ``keeps_requests``: for ``requests``; a server
    that runs for days must not. Raises ValueError for accounts that are none.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        accounts: Sequence[str | Account] = ("octocat", "hubot"),
        lifetime: int = 3600,
        keeps_requests: bool = True,
    ) -> None:
        self._port = port
        self._state = State(accounts, lifetime)
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self._keeps_requests = keeps_requests
        self._requests: list[ReceivedRequest] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<FakeServer {self._state.url or 'not started'}>"

    def start(self) -> None:
        """Begin to serve. A second call does nothing. Raises OSError if the port is in use."""
        if self._listener is None:
            self._listener = Listener(self._port, self._answer)
            self._state.url = self._listener.url

    def stop(self) -> None:
        """End every connection and the thread. A second call does nothing."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    def serve(self, provider: Provider | None) -> None:
        """Behave as this provider: its client, and the quirks of its entry. None: as the RFCs say."""
        self._state.serve(provider)

    def serve_other(self, provider: Provider) -> None:
        """Issue a token for this entry too. The entry of ``serve`` names it in ``other_entries``."""
        self._state.serve_other(provider)

    def _answer(self, request: ReceivedRequest) -> Response:
        if self._keeps_requests:
            with self._lock:
                self._requests.append(request)
        try:
            return answer(self._state, request)
        except Exception as failed:
            return error_response(500, "internal_error", _where(failed))

    # --- where it is ----------------------------------------------------------------------------

    @property
    def provider(self) -> Provider | None:
        return self._state.provider

    @property
    def url(self) -> str:
        """The address, which stays after ``stop``. Raises RuntimeError before ``start``."""
        if not self._state.url:
            raise RuntimeError(NOT_STARTED)
        return self._state.url

    @property
    def api_base_url(self) -> str:
        return f"{self.url}{PREFIX}/"

    @property
    def accounts_url(self) -> str:
        """The URL for the entry's ``accounts.endpoint``, which lists what a token can access."""
        return f"{self.url}/accounts"

    @property
    def sites(self) -> int:
        """How many sites, tenants or the like each account has, where the entry lists them. One at first."""
        return self._state.sites

    @sites.setter
    def sites(self, count: int) -> None:
        self._state.sites = count

    def endpoints(self) -> dict[str, str]:
        """Return the endpoints and the issuer, by their names of RFC 8414."""
        return locations(self.url)

    @property
    def accounts(self) -> tuple[Account, ...]:
        return self._state.accounts

    # --- what it has received -------------------------------------------------------------------

    @property
    def requests(self) -> list[ReceivedRequest]:
        """The requests so far, in the order in which they came."""
        with self._lock:
            return list(self._requests)

    # --- what it answers ------------------------------------------------------------------------

    def answer_api(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        body: bytes | str | None = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Queue an answer of the API. The last one of a method and a path stays.

        ``path``: below the API's base URL, without a query. Raises ValueError.
        """
        self._state.api.add(method, path, json=json, body=body, status=status, headers=headers or {})

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
        """Let an endpoint of ``ENDPOINTS`` fail, as ``Failure`` says.

        ``times``: None means until ``recover``. Raises ValueError.
        """
        failure = Failure(
            status=status, error=error, retry_after=retry_after, lost=lost, timeout=timeout, body=body
        )
        self._state.failures.add(endpoint, failure, times)

    def recover(self, endpoint: str | None = None) -> None:
        """Forget the failures that are still to come, of one endpoint or of all. Raises ValueError."""
        self._state.failures.forget(endpoint)

    def failures(self, endpoint: str) -> list[Failure]:
        """Return the failures of an endpoint that are still to come. Raises ValueError."""
        return self._state.failures.coming(endpoint)

    def consent(self, account: str, scopes: Sequence[str] | None = None) -> None:
        """Answer the next authorization request, or device authorization request, without a person.

        ``scopes``: None grants the requested ones. Raises ValueError for an unknown account, and TypeError
        for a string of scopes.
        """
        granted = None if scopes is None else scope_tuple(scopes)
        self._state.decide_next(Decision(account=self._state.account(account), scopes=granted))

    def deny(self) -> None:
        """Deny the next authorization request, or device authorization request, without a person."""
        self._state.decide_next(Decision())

    @property
    def has_decision(self) -> bool:
        """Whether ``consent`` or ``deny`` has decided the next request."""
        return self._state.has_decision

    # --- its tokens -----------------------------------------------------------------------------

    def issue(self, account: str, scopes: Sequence[str] = (), client_id: str | None = None) -> dict[str, Any]:
        """Return a token response, in the provider's shape, without a flow.

        Raises ValueError for an unknown account, and TypeError for a string of scopes.
        """
        state = self._state
        client = state.rules.client_id if client_id is None else client_id
        grant = state.grants.new_grant(state.rules, state.account(account), scope_tuple(scopes), client)
        written = shapes.token_answer(
            state.provider, state.grants.issue(grant), grant.account, accept="application/json"
        )
        if written.content_type.startswith("application/json"):
            document: dict[str, Any] = json_module.loads(written.body)
            return document
        return dict(parse_qsl(written.body.decode(), keep_blank_values=True))

    def expire(self, access_token: str) -> None:
        """Let this access token be expired from now on. Raises UnknownToken."""
        self._state.grants.expire(access_token)

    def end_grant(self, token: str) -> None:
        """End the grant of this access token or refresh token. Raises UnknownToken."""
        self._state.grants.end(token)

    def holds(self, token: str) -> bool:
        """Return whether this access token or refresh token is valid now."""
        return self._state.grants.holds(token)


def _where(failed: Exception) -> str:
    """Return what failed, without the text of the error, which may have a token."""
    frames = extract_tb(failed.__traceback__)
    lines = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-3:]]
    return f"The fake provider has a defect: {type(failed).__name__} at {', '.join(lines)}."
