"""From a request to its response: which endpoint answers, and whether it fails on demand."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from oauth_connect.testing.server import authorization, console, resources, token_endpoint
from oauth_connect.testing.server.api import PREFIX
from oauth_connect.testing.server.failures import Failure
from oauth_connect.testing.server.messages import Refused
from oauth_connect.testing.server.recorded import ReceivedRequest
from oauth_connect.testing.server.responses import HELD, JSON, Response, document, error
from oauth_connect.testing.server.state import State

Act = Callable[[State, ReceivedRequest], Response]
WELL_KNOWN = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
REGISTRATION = "/api/v1/apps"  # Mastodon's
GET, POST = frozenset({"GET"}), frozenset({"POST"})
READ = frozenset({"GET", "POST"})


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """``name``: the word for ``fail``, or "". ``is_page``: for a browser, so the host's name is checked."""

    act: Act
    name: str = ""
    methods: Collection[str] = GET
    is_page: bool = False


def _page_or_decision(show: Act) -> Act:
    def act(state: State, request: ReceivedRequest) -> Response:
        return authorization.decide(state, request) if request.method == "POST" else show(state, request)

    return act


def _metadata(state: State, request: ReceivedRequest) -> Response:
    """Return the metadata of RFC 8414, also for OpenID Connect Discovery."""
    return document(
        {
            **locations(state.url),
            "authorization_response_iss_parameter_supported": True,
            "code_challenge_methods_supported": ["S256"],
            "grant_types_supported": [*token_endpoint.GRANT_TYPES],
            "response_types_supported": ["code"],
            "scopes_supported": ["openid"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
    )


def locations(url: str) -> dict[str, str]:
    """Return the issuer and the endpoints of the fake provider at this URL, by their names of RFC 8414."""
    return {
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "revocation_endpoint": f"{url}/revoke",
        "introspection_endpoint": f"{url}/introspect",
        "device_authorization_endpoint": f"{url}/device_authorization",
        "userinfo_endpoint": f"{url}/userinfo",
    }


ENDPOINTS: dict[str, Endpoint] = {
    "/authorize": Endpoint(
        act=_page_or_decision(authorization.authorize), name="authorization", methods=READ, is_page=True
    ),
    "/token": Endpoint(act=token_endpoint.token, name="token", methods=POST),
    "/revoke": Endpoint(act=token_endpoint.revocation, name="revocation", methods={"POST", "DELETE"}),
    "/introspect": Endpoint(act=token_endpoint.introspection, name="introspection", methods=POST),
    "/device_authorization": Endpoint(
        act=token_endpoint.device_authorization, name="device_authorization", methods=POST
    ),
    "/device": Endpoint(act=_page_or_decision(authorization.device), methods=READ, is_page=True),
    "/userinfo": Endpoint(act=resources.userinfo, name="userinfo", methods=READ),
    "/accounts": Endpoint(act=resources.accounts, name="accounts"),
    "/": Endpoint(act=console.show, is_page=True),
    "/console": Endpoint(act=console.act, methods=POST, is_page=True),
    **{path: Endpoint(act=_metadata) for path in WELL_KNOWN},
}
CONSOLE = ("/", "/console")
API = Endpoint(act=resources.api, name="api", methods=())
REGISTER = Endpoint(act=token_endpoint.registration, methods=POST)


def answer(state: State, request: ReceivedRequest) -> Response:
    """Return the response to a request."""
    if state.is_down and request.path not in CONSOLE:
        return _plain(503)
    endpoint = _endpoint_at(state, request.path)
    if endpoint is None:
        return _unknown(request.path)
    if endpoint.is_page and not _is_own_host(state, request):
        return error(421, "wrong_host", f"The fake provider answers at {state.url} only.")
    methods = endpoint.methods or {request.method}
    if request.path == "/token":
        methods = state.rules.token_methods
    if request.method not in methods:
        return error(405, "wrong_method", _methods(methods), {"Allow": ", ".join(sorted(methods))})
    is_decision = endpoint.name == "authorization" and request.method == "POST"
    failure = state.failures.take(endpoint.name) if endpoint.name and not is_decision else None
    return _act(state, request, endpoint, failure)


def _endpoint_at(state: State, path: str) -> Endpoint | None:
    if path == REGISTRATION and state.provider is not None and state.provider.hooks.register_client:
        return REGISTER
    return API if path.startswith(f"{PREFIX}/") else ENDPOINTS.get(path)


def _act(state: State, request: ReceivedRequest, endpoint: Endpoint, failure: Failure | None) -> Response:
    if failure is None:
        return endpoint.act(state, request)
    if failure.timeout:
        return HELD
    if failure.lost:
        return endpoint.act(state, request).cut()
    response = _failed(state, request, endpoint, failure)
    if failure.retry_after is not None:
        response = response.with_header("Retry-After", str(failure.retry_after))
    return response


def _failed(state: State, request: ReceivedRequest, endpoint: Endpoint, failure: Failure) -> Response:
    """Return the failure that a test asked for, as this endpoint writes it."""
    if failure.payload is not None or not failure.error:
        return _plain(failure.status or 400, failure.payload)
    if endpoint.name == "authorization":
        return authorization.authorize(state, request, failure)
    if endpoint.name in ("userinfo", "accounts", "api"):
        return resources.failed(failure)
    status = failure.status or (401 if failure.error == "invalid_client" else 400)
    return token_endpoint.refusal(
        state, request, Refused(failure.error, "A test asked for this failure.", status)
    )


def _plain(status: int, body: bytes | None = None) -> Response:
    """Return a response of this status. Its type is JSON if the body is, else text."""
    if body is None:
        known = {one.value: one.phrase for one in HTTPStatus}
        body = known.get(status, "").encode()
    try:
        json.loads(body)
    except ValueError:
        return Response(status=status, content_type="text/plain; charset=utf-8", body=body)
    return Response(status=status, content_type=JSON, body=body)


def _unknown(path: str) -> Response:
    known = ", ".join(sorted([*ENDPOINTS, f"{PREFIX}/..."]))
    return error(404, "unknown_path", f"The fake provider has no path {path!r}. It has: {known}.")


def _methods(methods: Collection[str]) -> str:
    return f"This path takes {' and '.join(sorted(methods))} only."


def _is_own_host(state: State, request: ReceivedRequest) -> bool:
    """Return whether the browser names this host. Another name may be a page that rebinds its name to us."""
    port = urlsplit(state.url).port
    return request.headers.get("host", "") in (f"127.0.0.1:{port}", f"localhost:{port}")
