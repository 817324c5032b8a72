"""Connects an account as a browser does: the site's connect page, the fake provider, the site's callback.

The walk is a generator of requests to the site, so that Django's ``Client`` and ``AsyncClient`` share it.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http.response import HttpResponseBase
from django.middleware.csrf import get_token
from django.test import AsyncClient, Client

from oauth_connect.conf import conf
from oauth_connect.flows.completion import asked_variables
from oauth_connect.flows.paths import connect_path
from oauth_connect.models.owner import Owner, owner_of
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.installed import TIMEOUT as SHORT_TIMEOUT
from oauth_connect.testing.server import FakeServer, shapes

FORM = "application/x-www-form-urlencoded"
TIMEOUT = 60  # seconds; the fake provider answers in milliseconds, unless the machine is very busy


@dataclass(frozen=True)
class Request:
    """A request to the site. ``target``: path and query."""

    method: str
    target: str
    data: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """What a visitor of the connect page does.

    ``scopes``: requested in addition. ``granted``: what the visitor allows; None means all. ``variables``:
    what the visitor enters.
    """

    provider: str
    server: FakeServer
    account: str
    scopes: Sequence[str] = ()
    granted: Sequence[str] | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Walked:
    """The result of a walk: the site's response to the callback, and for whom it connects."""

    response: HttpResponseBase
    owner: Owner


Walk = Generator[Request, HttpResponseBase, Walked]


def walk(visit: Visit) -> Walk:
    """Yield the requests to the site, and take their responses. Raises FakeProviderError if one refuses."""
    target = connect_path(visit.provider, scopes=visit.scopes)
    if not target:
        raise FakeProviderError(
            "The site has no page to connect an account. Add to its URLconf: "
            'path("connections/", include("oauth_connect.urls")). '
            "Or store a connection without the pages: fake.store(user)."
        )
    page: Any = yield Request("GET", target)
    _check_page(page, visit.provider)
    request = _request_of(page)
    owner = owner_of(request)
    # Signed for this owner.
    target = connect_path(visit.provider, scopes=visit.scopes, owner=owner)
    data = {**_entered(visit, owner), "csrfmiddlewaretoken": get_token(request)}
    started = yield Request("POST", target, data, {"referer": request.build_absolute_uri()})
    callback = _at_provider(visit, _authorization_url(started))
    response: Any = yield callback
    if response.status_code == 303 and callback.method == "POST":  # response_mode=form_post
        response = yield Request("GET", response["Location"])
    return Walked(response, owner)


def _entered(visit: Visit, owner: Owner) -> dict[str, str]:
    """Return what the visitor enters. A variable that the test does not name gets a value that fits."""
    provider = conf.declared_provider(visit.provider, owner.key)
    fitted = {name: shapes.value_for(provider, name) for name in asked_variables(provider)}
    if unknown := ", ".join(sorted(visit.variables.keys() - fitted)):
        names = ", ".join(fitted) or "nothing"
        raise FakeProviderError(
            f"The page that connects {visit.provider!r} does not ask for {unknown}. It asks for {names}."
        )
    return {**fitted, **visit.variables}


def go(client: Client | AsyncClient, walk: Walk) -> Walked:
    """Walk with Django's test client."""
    if isinstance(client, AsyncClient):
        raise FakeProviderError("This is an AsyncClient. Use: await fake.aconnect(client)")
    if not isinstance(client, Client):
        raise FakeProviderError(f"Pass Django's test client, as in self.client, not {type(client).__name__}.")
    done, result = _next(walk, None)
    while not done:
        done, result = _next(walk, _send(client, result))
    return result  # type: ignore[no-any-return]


async def ago(client: Client | AsyncClient, walk: Walk) -> Walked:
    """Walk with Django's asynchronous test client. What may query the database runs in a thread."""
    if not isinstance(client, AsyncClient):
        raise FakeProviderError("This is not an AsyncClient. Use: fake.connect(client)")
    step = sync_to_async(_next)
    done, result = await step(walk, None)
    while not done:
        done, result = await step(walk, await _send(client, result))
    return result  # type: ignore[no-any-return]


def _next(walk: Walk, response: Any) -> tuple[bool, Any]:
    """Return whether the walk has ended, and its result or its next request."""
    try:
        return False, walk.send(response)
    except StopIteration as end:  # which no future may raise
        return True, end.value


def _send(client: Any, request: Request) -> Any:
    """Send a request to the site. Returns the response, or its coroutine for an AsyncClient."""
    options: dict[str, Any] = {"secure": _is_secure(), "headers": {"accept": "*/*", **request.headers}}
    if request.method == "GET":
        return client.get(request.target, **options)
    return client.post(request.target, urlencode(request.data), content_type=FORM, **options)


def _is_secure() -> bool:
    """Return whether the site wants https. Otherwise it would redirect, or refuse the flow's cookie."""
    base = conf.base_url
    return settings.SECURE_SSL_REDIRECT or (isinstance(base, str) and base.startswith("https:"))


def _request_of(response: Any) -> Any:
    """Return the request as the site's view has seen it: the middleware has set its user and tenant."""
    return getattr(response, "wsgi_request", None) or response.asgi_request


def _check_page(page: Any, provider: str) -> None:
    if page.status_code in (301, 302):
        raise FakeProviderError(
            f"The page that connects an account redirects to {urlsplit(page['Location']).path}. Is the "
            "client logged in? Use: client.force_login(user)"
        )
    if page.status_code == 404:
        raise FakeProviderError(
            f"The site offers no page to connect an account at {provider!r}: its entry has enabled = False, "
            "or grant_types without authorization_code, or no authorization_endpoint."
        )
    if page.status_code != 200:
        raise FakeProviderError(f"The page that connects an account answers {sentence(page)}")


def _authorization_url(started: Any) -> str:
    """Return the URL to which the site sends the browser."""
    if started.status_code != 302:
        raise FakeProviderError(f"The flow does not start. The site answers {sentence(started)}")
    return str(started["Location"])


def sentence(response: Any) -> str:
    """Return the status of a page of the site, and what it says to its reader."""
    context = response.context or {}
    message, code = (context.get(name) for name in ("message", "code"))
    form = context.get("form")
    if not message and form is not None and form.errors:
        message = " ".join(f"{name}: {' '.join(errors)}" for name, errors in form.errors.items())
    return f"{response.status_code}: {message or _text(response)}{f' (code: {code})' if code else ''}"


def _text(response: Any) -> str:
    return text_of(getattr(response, "content", b"").decode("utf-8", "replace"))


def text_of(page: str) -> str:
    """Return the text of a page without its head and its markup, at most 500 characters."""
    body = re.sub(r"(?is)<(head|script|style)\b.*?</\1>|<[^>]*>", " ", page)
    return " ".join(unescape(body).split())[:500]


def _at_provider(visit: Visit, url: str) -> Request:
    """Visit the fake provider, and return the request to the callback to which it sends the browser."""
    server = visit.server
    will_wait = any(failure.timeout for failure in server.failures("authorization"))
    if not server.has_decision:  # deny() or consent() before
        server.consent(visit.account, visit.granted)
    status, location, body = fetch(url, SHORT_TIMEOUT if will_wait else TIMEOUT)
    if location:
        callback = urlsplit(urljoin(url, location))
        return Request("GET", f"{callback.path}?{callback.query}")
    if posted := _posted(body):
        return posted
    raise FakeProviderError(
        f"The fake provider does not send the browser back. It answers {status}: {text_of(body)}"
    )


def fetch(url: str, timeout: float) -> tuple[int, str, str]:
    """Return the status, the Location and the body of a page.

    Not with requests or httpx: a test may have replaced their connections.
    """
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=timeout)
    try:
        connection.request("GET", f"{split.path}?{split.query}", headers={"Accept": "text/html"})
        response = connection.getresponse()
        return (
            response.status,
            response.headers.get("Location", ""),
            response.read().decode("utf-8", "replace"),
        )
    except (OSError, http.client.HTTPException) as error:
        raise FakeProviderError(
            f"The browser gets no answer from {split.scheme}://{split.netloc}{split.path} "
            f"({type(error).__name__}). It stops here, as a user's browser does."
        ) from None
    finally:
        connection.close()


def _posted(body: str) -> Request | None:
    """Return the callback of a page that posts itself (OAuth 2.0 Form Post Response Mode), or None."""
    form = re.search(r'(?is)<form\b[^>]*\baction="([^"]*)"', body)
    fields = re.findall(r'(?is)<input\b[^>]*\bname="([^"]*)"[^>]*\bvalue="([^"]*)"', body)
    if form is None or "state" not in dict(fields):
        return None
    data = {unescape(name): unescape(value) for name, value in fields}
    return Request("POST", urlsplit(unescape(form[1])).path, data)
