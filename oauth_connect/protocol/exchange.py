"""Requests to an authorization server: client authentication, secrets in order, deadline, errors.

Redirects are not followed: requests would send the secret to another host. ``.netrc`` is ignored, and TLS is
verified. The transport does not retry. Every request has a deadline and a size limit. An error is raised
outside of the library's frames, because their locals hold secrets and error pages print locals.
"""

from __future__ import annotations

import email.utils
import math
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from oauth_connect.errors import InvalidProvider, ProviderMisconfigured, ProviderUnavailable
from oauth_connect.protocol.client_auth import secrets
from oauth_connect.protocol.grants import refusals
from oauth_connect.protocol.grants.bodies import read_document
from oauth_connect.protocol.grants.requests import Parameters
from oauth_connect.protocol.net.addresses import AddressRefused
from oauth_connect.protocol.net.causes import (
    PROXY_FAILED,
    UNREACHABLE,
    CertificatesMissing,
    before_request,
    cause_of,
    detail_of,
    explained,
    reason_of,
)
from oauth_connect.protocol.net.guarded import guarded_session
from oauth_connect.protocol.net.transport import ServerSession, deadline, new_session, remaining
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import has_brace, without_missing

MAX_RETRY_AFTER = 3600.0  # seconds
# The names under which the transport takes parameters, by ``token_request.body``.
SENT_AS = {"form": "form", "json": "document", "query": "query"}
NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError)


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """The parts of a complete HTTP response that the protocol uses."""

    status: int
    document: Any
    retry_after: float | None
    is_empty: bool = False

    @property
    def is_structured(self) -> bool:
        """Whether the body is a JSON object or list, or a form."""
        return isinstance(self.document, Mapping | list)


def _in_header(provider: Provider, authentication: str, secret: str) -> Parameters:
    """Return the client's credentials for the header Authorization, or none. Raises UnicodeError."""
    if authentication == "client_secret_basic":
        return _basic(provider, secret)
    if authentication != "client_secret_header":
        return Parameters()
    if not secret.isprintable():
        raise UnicodeError
    return Parameters({"Authorization": f"{provider.revocation.secret_scheme} {secret}".strip()})


def _basic(provider: Provider, secret: str) -> Parameters:
    """Return HTTP Basic credentials, form-encoded first (RFC 6749 section 2.3.1), or raw (RFC 7617)."""
    rules = provider.token_request
    encoded = quote_plus if rules.basic == "encoded" else str
    pair = f"{encoded(provider.client_id)}:{encoded(secret)}"
    if rules.basic == "secret_as_username":
        pair = f"{secret}:"
    return Parameters({"Authorization": f"Basic {b64encode(pair.encode()).decode()}"})


class Exchange:
    """Sends requests to one provider's authorization server. Opens and closes a session if none is given.

    ``timeout`` is in seconds, for one whole request. ``provider`` may be replaced when a flow learns the
    instance. Raises ProviderUnavailable and ProviderMisconfigured.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        timeout: float,
        session: ServerSession | None,
        now: Callable[[], datetime],
    ) -> None:
        self.provider = provider
        self.timeout = timeout
        self._owns_session = session is None
        self._session = session or (guarded_session(provider.guard) if provider.guard else new_session())
        self._now = now

    def close(self) -> None:
        if self._owns_session:
            self._session.close()

    def post(
        self,
        url: str,
        parameters: Parameters,
        *,
        authentication: str = "",
        body: str = "",
        method: str = "POST",
        is_final: Callable[[Reply], bool] = lambda reply: False,
    ) -> Reply:
        """Send parameters with the client's credentials, by default as the token endpoint expects them.

        If the server refuses the client's secret, try the next one. Such a refusal spends no code or token.
        ``is_final``: whether a reply with a transient status is an answer nevertheless, and is returned. With
        ``method`` GET the parameters are in the query.
        """
        authentication = authentication or self.provider.client_authentication
        sent_as = "query" if method == "GET" else SENT_AS[body or self.provider.token_request.body]
        if authentication == "none":
            request = self._authenticated(parameters, sent_as, authentication)
            return self.send(method, url, is_final=is_final, **request)
        secrets_in_order = self._secrets()
        deadline_at = time.monotonic() + self.timeout
        for secret in secrets_in_order:
            request = self._authenticated(parameters, sent_as, authentication, secret)
            reply = self.send(method, url, deadline_at=deadline_at, is_final=is_final, **request)
            if not refusals.refuses_client(self.provider, reply.status, reply.document):
                secrets.remember(self.provider, secrets_in_order, secret)
                break
        return reply

    def _authenticated(
        self, parameters: Parameters, sent_as: str, authentication: str, secret: str = ""
    ) -> dict[str, Any]:
        """Return a request with the client's authentication, in the header or in the body."""
        provider = self.provider
        rules = provider.token_request
        body = Parameters(parameters)
        in_body = authentication == "client_secret_post"
        if in_body or provider.client_authentication == "none" or rules.repeat_client_id:
            body[rules.client_id_parameter] = provider.client_id
        if in_body:
            body["client_secret"] = secret
        try:
            credentials = _in_header(provider, authentication, secret)
        except UnicodeError:
            failure = self._unsendable()
        else:
            return {"credentials": credentials, "headers": without_missing(rules.headers), sent_as: body}
        raise failure

    def _secrets(self) -> Sequence[secrets.Secret]:
        try:
            return secrets.in_order(self.provider)
        except InvalidProvider as error:
            failure: Exception = ProviderMisconfigured(str(error), error="invalid_client")
        except Exception as error:
            # For example, a vault is down. Raise outside of the function's frames, which hold secrets.
            failure = ProviderUnavailable(
                f"The function for client_secret of {self.provider.slug!r} failed ({type(error).__name__}). "
                "Nothing was sent. Correct the function that the settings name, or try again later."
            )
        raise failure

    def probe(self, url: str) -> int:
        """Send a bare GET to an endpoint and return the response's status. It changes nothing at the server.

        Sends no parameters and no credentials, and reads no body. Raises ProviderUnavailable, or
        ProviderMisconfigured for a forbidden address.
        """
        self._check_url(url)
        try:
            with deadline(self.timeout):
                response = self._session.get(url, timeout=remaining(), allow_redirects=False, stream=True)
                response.close()
            return response.status_code
        except (requests.RequestException, HTTPError) as error:
            failure = self._failure(error, url)
        except AddressRefused as refused:
            failure = ProviderMisconfigured(str(refused), error="forbidden_address")
        except OSError:  # the deadline passed while the head was read
            failure = self._lost("timeout")
        raise failure

    def send(
        self,
        method: str,
        url: str,
        *,
        deadline_at: float | None = None,
        is_final: Callable[[Reply], bool] = lambda reply: False,
        **request: Any,
    ) -> Reply:
        """Send a request and return the reply. ``deadline_at`` is a deadline on the monotonic clock.

        ``is_final``: as for ``post``.
        """
        self._check_url(url)
        left = self.timeout if deadline_at is None else deadline_at - time.monotonic()
        if left <= 0:
            raise self._unreachable(url)
        try:
            reply = self._attempt(method, url, request, left)
            self._check_status(reply, is_final)
            return reply
        except (requests.RequestException, HTTPError) as error:
            failure = self._failure(error, url)
        except AddressRefused as refused:
            failure = ProviderMisconfigured(str(refused), error="forbidden_address")
        except UnicodeError:
            failure = self._unsendable()
        except OSError:  # the deadline passed while the body was read
            failure = self._lost("timeout")
        # Raise after the except block, so that the error refers to no frame of the libraries.
        raise failure

    def _check_url(self, url: str) -> None:
        """Refuse a URL in which a variable has no value. The variable comes from a later response."""
        if has_brace(url):
            raise ProviderMisconfigured(
                f"No value is known for a variable of {url}. Connect the account again, or correct the "
                f"variable's source in the entry {self.provider.slug!r}.",
                error="variable_missing",
            )

    def _attempt(self, method: str, url: str, request: dict[str, Any], timeout: float) -> Reply:
        with deadline(timeout):
            response = self._session.exchange(method, url, **request)
        if response.status == 407:  # only a proxy sends it (RFC 9110 section 15.5.8)
            raise self._unreachable(url, PROXY_FAILED, "HTTP 407")
        return Reply(
            status=response.status,
            document=read_document(response.headers.get("Content-Type", ""), response.body),
            retry_after=retry_after(response.headers.get("Retry-After"), self._now()),
            is_empty=not response.body.strip(),
        )

    def _check_status(self, reply: Reply, is_final: Callable[[Reply], bool]) -> None:
        if refusals.is_transient_status(reply.status) and not is_final(reply):
            raise ProviderUnavailable(
                f"{self.provider.label} responded with HTTP {reply.status}. Try again later.",
                code=f"http_{reply.status}",
                retry_after=reply.retry_after,
            )
        if 300 <= reply.status < 400:
            raise ProviderMisconfigured(
                f"{self.provider.label} redirects a request that must not be redirected. "
                f"Write the endpoint's final URL into the entry {self.provider.slug!r}.",
                error="redirected",
                status=reply.status,
            )

    def _failure(self, error: requests.RequestException | HTTPError, url: str) -> Exception:
        if isinstance(error, ProviderUnavailable | ProviderMisconfigured):
            return error.with_traceback(None)
        if not was_sent(error):
            return self._unreachable(url, cause_of(error), detail_of(error))
        return self._lost("timeout" if timed_out(error) else "answer_lost")

    def _unsendable(self) -> ProviderMisconfigured:
        return ProviderMisconfigured(
            f"The client, a parameter or a header of {self.provider.slug!r} has a character that cannot be "
            "sent. Nothing was sent. Correct the entry.",
            error="unsendable",
        )

    def _unreachable(self, url: str, cause: str = UNREACHABLE, detail: str = "") -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self.provider.label} cannot be reached. {explained(cause, url, detail)}", code=cause
        )

    def _lost(self, code: str) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"The response of {self.provider.label} did not arrive completely. "
            "The request may still have had an effect.",
            code=code,
            answer_lost=True,
        )


def timed_out(error: requests.RequestException | HTTPError) -> bool:
    """Return whether the error is a timeout. During a body, requests raises ConnectionError instead."""
    return isinstance(error, requests.Timeout) or isinstance(reason_of(error), ReadTimeoutError)


def was_sent(error: requests.RequestException | HTTPError) -> bool:
    """Return whether the request may have reached the server. If that is unknown, return True."""
    # ValueError: the request is malformed
    if isinstance(error, requests.ConnectTimeout | CertificatesMissing | ValueError):
        return False
    reason = reason_of(error)
    if isinstance(reason, SSLError):  # may come after sending
        return not before_request(reason)
    return not isinstance(reason, NOT_SENT)


def retry_after(value: str | None, now: datetime) -> float | None:
    """Return Retry-After (RFC 9110 section 10.2.3) in seconds, at most an hour, or None if it is unusable."""
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
