"""The endpoints that an access token opens: userinfo, the list of accounts, and the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from oauth_connect.testing.server import shapes
from oauth_connect.testing.server.api import PREFIX
from oauth_connect.testing.server.failures import Failure
from oauth_connect.testing.server.grants import Grant
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import Response, document, error
from oauth_connect.testing.server.state import State

# RFC 6750 section 3.1
STATUSES = {"invalid_request": 400, "invalid_token": 401, "insufficient_scope": 403}

Opened = Callable[[State, ReceivedRequest, Grant], Response]


def with_token(opened: Opened) -> Callable[[State, ReceivedRequest], Response]:
    """Return the endpoint that needs a valid access token (RFC 6750)."""

    def endpoint(state: State, request: ReceivedRequest) -> Response:
        access_token = shapes.bearer_of(state.provider, request.headers, request.body)
        grant = state.grants.grant_of(access_token) if access_token else None
        if grant is not None:
            return opened(state, request, grant)
        return refused("invalid_token") if access_token else refused("")

    return endpoint


def refused(code: str, status: int | None = None) -> Response:
    """Return the refusal of a token. Without a token there is no error code (RFC 6750 section 3.1)."""
    challenge = f'Bearer error="{code}"' if code else 'Bearer realm="fake provider"'
    message = "The access token has expired, or its grant has ended, or it is not of this fake provider."
    body = {"error": code, "message": message} if code else {"message": "The access token is missing."}
    return document(body, status or STATUSES.get(code, 401), {"WWW-Authenticate": challenge})


def failed(failure: Failure) -> Response:
    """Return the failure that a test asked for, with an error code of RFC 6750."""
    return refused(failure.error or "", failure.status or STATUSES.get(failure.error or "", 400))


def _userinfo(state: State, request: ReceivedRequest, grant: Grant) -> Response:
    return Response.of(shapes.userinfo_answer(state.provider, grant.account))


def _accounts(state: State, request: ReceivedRequest, grant: Grant) -> Response:
    return Response.of(shapes.accounts_answer(state.provider, grant.account, sites=state.sites))


def _api(state: State, request: ReceivedRequest, grant: Grant) -> Response:
    path = request.path.removeprefix(PREFIX)
    response = state.api.take(request.method, path)
    if response is not None:
        return response
    call = f'fake.api("{request.method}", "{path}", json=...)'
    known = ", ".join(state.api.known) or "none"
    message = f"The fake API has no answer for this path. Add one: in a test {call}, else --api {path} JSON."
    refusal = error(404, "no_answer", f"{message} It has: {known}.")
    return replace(refusal, reason="Not Found: the fake API has no answer for this path")


userinfo = with_token(_userinfo)
accounts = with_token(_accounts)
api = with_token(_api)
