"""The session for API calls: a ``requests.Session`` that sends a connection's token.

It sends the token only to the provider's API hosts, and only over https or to this machine.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any, NoReturn, Protocol
from urllib.parse import urljoin
from weakref import WeakSet

import requests
from requests.auth import AuthBase
from requests.exceptions import InvalidHeader
from requests.utils import rewind_body

from oauth_connect.errors import CallError, ForbiddenDestination
from oauth_connect.protocol.bearer import Bearer
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.addresses import AddressRefused
from oauth_connect.protocol.net.environment import KeptEnvironment
from oauth_connect.protocol.net.guarded import api_adapter
from oauth_connect.protocol.net.preparation import Preparation, begin
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import without_missing
from oauth_connect.protocol.token import Token
from oauth_connect.redaction import redacted
from oauth_connect.tracebacks import inherited_without_locals, methods_without_locals

_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://|//|\\", re.IGNORECASE)


class TokenSource(Protocol):
    """Provides the token of a session."""

    @property
    def provider(self) -> Provider:
        """The resolved provider. It may change with the token: an organisation may move to another host."""

    def current(self) -> Token:
        """Return a token that is valid now. Refresh it if needed."""

    def renewed(self, rejected: Token) -> Token | None:
        """Return a newer token than the one that the API refused, or None if there is none."""


@methods_without_locals
class TokenAuth(AuthBase):
    """Adds the token to a request. After a 401, refreshes once and retries once (RFC 6750 section 3.1)."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self._bearer = Bearer(source.provider)
        self._first = source.provider
        self._left: tuple[str, ...] = ()

    @property
    def bearer(self) -> Bearer:
        return self._present()

    # The methods that begin with an underscore are not decorated, which is cheaper.
    def _present(self) -> Bearer:
        """Return the bearer of the source's provider. First notice that the connection has moved."""
        provider = self.source.provider
        if provider is not self._bearer.provider:
            self._left = tuple({*self._left, self._bearer.provider.api_base_url})
            self._bearer = Bearer(provider)
        return self._bearer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        self._present().check_destination(request.url or "")
        token = self.source.current()
        self._relocate(request)
        self.place(request, token)
        request.hooks["response"].append(partial(self.retry_once, token=token))
        return request

    def check(self, url: str) -> None:
        """Raise ForbiddenDestination unless a token may be sent to this URL."""
        self._present().check_destination(url)

    def _relocate(self, request: requests.PreparedRequest) -> None:
        """Move a request to the API's present host, if it is for one that the connection has left.

        The headers of the entry may name another instance even at the same host.
        """
        bearer = self._present()
        bearer.follow_headers(request.headers, self._first)
        moved = bearer.relocated(request.url or "", self._left)
        if moved != request.url:
            bearer.check_destination(moved)
            request.url = moved
            request.headers.pop("Cookie", None)  # for the host that the connection has left
            request.prepare_cookies(request._cookies)  # type: ignore[attr-defined]

    def at_present(self, url: str) -> str:
        """Return the URL at the API's present host, if it is at one that the connection has left."""
        bearer = self._present()  # before _left is read
        return bearer.relocated(url, self._left)

    def place(self, request: requests.PreparedRequest, token: Token) -> None:
        bearer = self._present()
        request.headers[bearer.header] = bearer.value(token)

    def retry_once(self, response: requests.Response, *, token: Token, **options: Any) -> requests.Response:
        """Send the request again with a newer token after a 401 to *this* token. This is a response hook."""
        request, bearer = response.request, self._present()
        sent = request.headers.get(bearer.header)
        if not bearer.is_refused(token, status=response.status_code, sent=sent):
            return response
        try:
            newer = self.source.renewed(token)
        except BaseException:
            response.close()  # the caller never gets it, so its socket would stay open for a while
            raise
        if newer is None or not _can_be_sent_again(request):
            return response
        response.content  # noqa: B018  (reads the body, so that the connection can be used again)
        response.close()
        if request._body_position is not None:  # type: ignore[attr-defined]
            rewind_body(request)
        response.request = request.copy()  # its cookies are for its own host
        # Change the request itself, because a later redirect copies it.
        self._relocate(request)
        self.place(request, newer)
        retried: requests.Response = response.connection.send(request, **options)
        retried.history.append(response)
        retried.request = request
        return retried


@methods_without_locals
class ApiSession(KeptEnvironment):
    """A ``requests.Session`` for one connection. Relative URLs are joined to ``api_base_url``.

    ``timeout`` (seconds, for each wait) applies to calls without one. requests itself has no default timeout.
    """

    def __init__(self, source: TokenSource, *, timeout: float = 30.0) -> None:
        begin(self, api_adapter(source.provider.api_guard))
        self.timeout = timeout
        added = without_missing(source.provider.api.headers)
        self.headers.update(added)
        self.token_auth = TokenAuth(source)
        self.auth = self.token_auth
        self._preparation = Preparation(added)
        self._streams: WeakSet[requests.Response] = WeakSet()

    @property
    def base_url(self) -> str:
        return self.token_auth.bearer.provider.api_base_url

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        target = self.token_auth.at_present(self.absolute(url.decode() if isinstance(url, bytes) else url))
        self.token_auth.check(target)
        return super().request(method, target, *args, **kwargs)

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        try:
            prepared = self._preparation.prepare(self, request)
            # Before 2.33, requests lets a line break at the end pass. http.client quotes the value.
            if not any(value[-1:] in ("\n", b"\n") for value in prepared.headers.values()):
                return prepared
        except InvalidHeader:  # its message quotes the value
            pass
        raise InvalidHeader("A header has a line break, or begins with a blank. Nothing was sent.")

    def absolute(self, url: str) -> str:
        """Join a URL to ``api_base_url`` and keep the base's path. "/user" and "user" give the same URL."""
        if _ABSOLUTE.match(url.lstrip()):
            return url
        if not self.base_url:
            raise ForbiddenDestination("Pass an absolute URL, or set api_base_url for this provider.")
        return urljoin(f"{self.base_url.rstrip('/')}/", f"./{url.lstrip('/')}")

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        try:
            response = super().send(request, **kwargs)
            if kwargs.get("stream"):
                self._streams.add(response)
            return response
        except requests.RequestException as error:
            # The libraries' own errors behind it and their frames only repeat what this error says.
            raise _masked(error).with_traceback(None) from None
        except AddressRefused as refused:
            problem = f"{refused} Nothing was sent to it."
        raise ForbiddenDestination(problem)

    def close(self) -> None:
        """Close the responses that were not read, and the adapters that the site mounted."""
        for response in self._streams:
            response.close()
        super().close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("A session holds secrets and cannot be pickled. Pass the connection's pk.")

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Remove the token from a redirect to an unnamed host. Raises for a redirect to plain http."""
        bearer = self.token_auth.bearer
        source = destination.origin_of(response.request.url or "")
        if not bearer.survives_redirect(source, destination.origin_of(prepared_request.url or "")):
            for name in bearer.private_headers:
                prepared_request.headers.pop(name, None)


inherited_without_locals(ApiSession, "get", "options", "head", "post", "put", "patch", "delete")


def _masked(error: requests.RequestException) -> requests.RequestException:
    """Mask secrets in the URL that a message of the libraries quotes."""
    if not isinstance(error, CallError):
        for one in (error, *error.args):
            if isinstance(one, Exception):
                one.args = tuple(redacted(part) if isinstance(part, str) else part for part in one.args)
    return error


def _can_be_sent_again(request: requests.PreparedRequest) -> bool:
    # requests knows the position of a file, but not of a generator.
    body: object = request.body
    return isinstance(body, str | bytes | None) or isinstance(getattr(request, "_body_position", None), int)
