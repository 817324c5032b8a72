"""The session a caller gets: a ``requests.Session`` that carries a connection's token.

The token goes to the provider's API hosts, over https (loopback aside), and nowhere else.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NoReturn, Protocol
from urllib.parse import urljoin

import requests
from requests.auth import AuthBase
from requests.utils import rewind_body

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.bearer import Bearer
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://|//|\\", re.IGNORECASE)


class TokenSource(Protocol):
    """Where a session gets its token from."""

    @property
    def provider(self) -> Provider: ...

    def current(self) -> Token:
        """Return a token that is valid now, refreshed where needed."""

    def renewed(self, rejected: Token) -> Token | None:
        """Return another token than the one the API refused; None when there is none to be had."""


class TokenAuth(AuthBase):
    """Places the token, and answers one 401 with one refresh and one retry (RFC 6750 section 3.1)."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self.bearer = Bearer(source.provider)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self.check(request.url or "")
        token = self.source.current()
        self.place(request, token)
        request.hooks["response"].append(partial(self.retry_once, token=token))
        return request

    def check(self, url: str) -> None:
        """Raise ForbiddenDestination unless a token may be sent there."""
        self.bearer.check(destination.origin_of(url))

    def place(self, request: requests.PreparedRequest, token: Token) -> None:
        request.headers[self.bearer.header] = self.bearer.value(token)

    def retry_once(self, response: requests.Response, *, token: Token, **options: Any) -> requests.Response:
        """The response hook: on a 401 to *this* token, send the request again with a newer one."""
        request = response.request
        sent = request.headers.get(self.bearer.header)
        if not self.bearer.is_refused(token, status=response.status_code, sent=sent):
            return response
        newer = self.source.renewed(token)
        if newer is None or not _can_be_sent_again(request):
            return response
        response.content  # noqa: B018  (reads the body, so that the connection can be used again)
        response.close()
        if request._body_position is not None:  # type: ignore[attr-defined]
            rewind_body(request)
        # On the request itself: a redirect that follows is made from it.
        self.place(request, newer)
        retried: requests.Response = response.connection.send(request, **options)
        retried.history.append(response)
        retried.request = request
        return retried


class ApiSession(requests.Session):
    """A ``requests.Session`` for one connection; relative URLs are joined to ``api_base_url``.

    ``timeout`` (seconds, for each wait) serves calls that name none: requests itself waits for ever.
    """

    def __init__(self, source: TokenSource, *, timeout: float = 30.0) -> None:
        super().__init__()
        self.timeout = timeout
        self.base_url = source.provider.api_base_url
        self.headers.update(source.provider.api.headers)
        self.token_auth = TokenAuth(source)
        self.auth = self.token_auth

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        target = self.absolute(url.decode() if isinstance(url, bytes) else url)
        self.token_auth.check(target)
        return super().request(method, target, *args, **kwargs)

    def absolute(self, url: str) -> str:
        """Join a URL to ``api_base_url``, keeping the base's path: "/user" and "user" are the same."""
        if _ABSOLUTE.match(url.lstrip()):
            return url
        if not self.base_url:
            raise ForbiddenDestination("Give an absolute URL, or set api_base_url for this provider.")
        return urljoin(f"{self.base_url.rstrip('/')}/", f"./{url.lstrip('/')}")

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        try:
            return super().send(request, **kwargs)
        except requests.RequestException as error:
            # The frames below hold the token among their locals, and error pages print locals.
            raise error.with_traceback(None) from None

    def __reduce__(self) -> NoReturn:
        raise TypeError("A session is not pickled: it leads to secrets. Pass the connection's pk.")

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """On a redirect, keep the token only for the same origin; never follow one down to http."""
        bearer = self.token_auth.bearer
        came_from = destination.origin_of(response.request.url or "")
        if not bearer.goes_along(came_from, destination.origin_of(prepared_request.url or "")):
            for name in (bearer.header, "Authorization", "Proxy-Authorization"):
                prepared_request.headers.pop(name, None)


def _can_be_sent_again(request: requests.PreparedRequest) -> bool:
    # A file's position is known; a generator's never is.
    body: object = request.body
    return isinstance(body, str | bytes | None) or isinstance(getattr(request, "_body_position", None), int)
