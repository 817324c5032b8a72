"""The only code that talks to an authorization server.

No redirect is followed (requests would post the secret again, to another host), ``.netrc`` is
ignored, TLS is verified, nothing is retried, and every exchange has a deadline and a size. A
failure is raised afresh, outside of the library's frames: their locals hold secrets, and error
pages print locals.
"""

from __future__ import annotations

import email.utils
import math
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote_plus

import requests
from requests.auth import AuthBase
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    MaxRetryError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from oauth_connect.errors import (
    InvalidProvider,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from oauth_connect.protocol import answers, client_secrets, lifetimes, messages
from oauth_connect.protocol.addresses import AddressRefused
from oauth_connect.protocol.answers import Answer
from oauth_connect.protocol.device import DeviceAuthorization, read_device_authorization
from oauth_connect.protocol.guarded import guarded_session
from oauth_connect.protocol.messages import Parameters
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.token import Token
from oauth_connect.protocol.transport import ServerSession, deadline, new_session, remaining

LONGEST_RETRY_AFTER = 3600.0
NOT_SENT = (NewConnectionError, ConnectTimeoutError, ProxyError)


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """A whole answer."""

    status: int
    document: Any
    retry_after: float | None

    @property
    def answer(self) -> Answer | None:
        """The body where it is an object."""
        return self.document if isinstance(self.document, Answer) else None


class _Anonymous(AuthBase):
    """No credentials in the header; being there at all keeps requests away from ``.netrc``."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _basic(provider: Provider, secret: str) -> Parameters:
    """Return HTTP Basic as RFC 6749 section 2.3.1 wants it: id and secret form-encoded first."""
    pair = f"{quote_plus(provider.client_id)}:{quote_plus(secret)}"
    return Parameters({"Authorization": f"Basic {b64encode(pair.encode()).decode()}"})


def _bearer(provider: Provider, token: Token) -> Parameters:
    return Parameters({provider.api.header: f"{provider.api.scheme} {token.access_token}".strip()})


class AuthorizationServer:
    """This site's client at one provider's authorization server.

    ``timeout`` is in seconds, for one whole exchange. ``session``: of ``transport.new_session``, shared by
    several and closed by who made it. ``now`` tells the time, aware, in UTC.
    Every method may raise ProviderUnavailable, ProviderRejected or ProviderMisconfigured.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        timeout: float = 15.0,
        session: ServerSession | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.provider = provider
        self.timeout = timeout
        self._own = session is None
        self._session = session or (guarded_session(provider.guard) if provider.guard else new_session())
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._own:
            self._session.close()

    def exchange_code(
        self, *, code: str, redirect_uri: str, code_verifier: str, scopes: Iterable[str] = ()
    ) -> Token:
        """Exchange an authorization code (RFC 6749 section 4.1.3)."""
        parameters = messages.code_request(
            self.provider, code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
        )
        return self._token(self.provider.token_endpoint, parameters, scopes)

    def refresh(self, token: Token, *, redirect_uri: str = "") -> Token:
        """Spend a refresh token (RFC 6749 section 6). The result keeps what the answer leaves out."""
        parameters = messages.refresh_request(self.provider, token=token, redirect_uri=redirect_uri)
        fresh = self._token(self.provider.refresh_endpoint, parameters, token.scopes)
        kept = fresh.after(token)
        if not fresh.refresh_token and self.provider.refresh.lifetime_seconds:
            # The old one, used now: its idle time begins again.
            ends = lifetimes.refresh_token_expiry(self.provider, fresh.extra, fresh.obtained_at, assume=True)
            return replace(kept, refresh_token_expires_at=ends)
        return kept

    def client_credentials(
        self, *, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
    ) -> Token:
        """Ask for the client's own token (RFC 6749 section 4.4).

        A refresh token in the answer is ignored (section 4.4.3): the credentials say more than it could.
        """
        wanted = tuple(scopes)
        parameters = messages.client_credentials_request(
            self.provider, scopes=wanted, resource=resource, audience=audience
        )
        token = self._token(self.provider.token_endpoint, parameters, wanted)
        return replace(
            token, refresh_token="", refresh_token_expires_at=None, exchangeable=False, reissuable=True
        )

    def authorize_device(self, scopes: Iterable[str] = ()) -> DeviceAuthorization:
        """Begin a device flow (RFC 8628 section 3.1)."""
        parameters = messages.device_authorization_request(self.provider, scopes)
        reply = self._post(self.provider.device_authorization_endpoint, parameters)
        return read_device_authorization(self.provider, reply.status, reply.answer)

    def device_token(self, device_code: str, *, scopes: Iterable[str] = ()) -> Token:
        """Ask once for the token of a device flow (RFC 8628 section 3.4); ``scopes`` were asked for."""
        parameters = messages.device_token_request(self.provider, device_code)
        return self._token(self.provider.token_endpoint, parameters, scopes)

    def revoke(self, token: Token) -> bool:
        """Revoke a token (RFC 7009); False where the provider has no way to.

        A token that the server does not know is revoked as well (section 2.2).
        """
        if self.provider.revocation.style == "none" or not self.provider.revocation_endpoint:
            return False
        reply = self._revocation(token)
        refused = reply.answer is not None and answers.is_refusal(self.provider, reply.answer)
        # Errors in a 200 are told in the words of the token endpoint; RFC 7009 answers have no body.
        if not 200 <= reply.status < 300 or (reply.answer and refused):
            raise answers.refusal(self.provider, reply.status, reply.answer or Answer())
        return True

    def userinfo(self, token: Token) -> Answer:
        """Fetch the account's own description (OpenID Connect Core section 5.3)."""
        rules = self.provider.identity
        reply = self._ask(rules.method, self.provider.userinfo_endpoint, token, rules.headers)
        if reply.answer is None or answers.is_refusal(self.provider, reply.answer):
            raise self._unsaid("whose token this is", "userinfo_endpoint", reply)
        return reply.answer

    def probe(self, url: str) -> int:
        """Return the status with which an endpoint answers a bare GET, which changes nothing there.

        No parameters, no credentials; the body is not read. Raises ProviderUnavailable.
        """
        try:
            with deadline(self.timeout):
                response = self._session.get(
                    url, timeout=remaining(), auth=_Anonymous(), allow_redirects=False, stream=True
                )
                response.close()
            return response.status_code
        except requests.RequestException as error:
            failure = self._failure(error)
        except OSError:  # the deadline, met while the head was read
            failure = self._lost("timeout")
        raise failure

    def accounts(self, token: Token) -> list[Any]:
        """Fetch the list of what a token reaches."""
        rules = self.provider.accounts
        reply = self._ask("GET", rules.endpoint, token)
        found = reply.document
        for key in rules.path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, list):
            raise self._unsaid("what this token reaches", "accounts.endpoint", reply)
        return found

    def _ask(self, method: str, url: str, token: Token, headers: Mapping[str, str] | None = None) -> Reply:
        """Send a request with the token, as the API wants it; only an answer of 200 says anything."""
        sent = {**self.provider.api.headers, **(headers or {})}
        reply = self._exchange(method, url, credentials=_bearer(self.provider, token), headers=sent)
        if reply.status != 200:
            raise self._unsaid("what was asked", "endpoints", reply)
        return reply

    def _unsaid(self, what: str, where: str, reply: Reply) -> ProviderRejected:
        return ProviderRejected(
            f"{self.provider.label} did not say {what} (HTTP {reply.status}). Compare "
            f"{where} and scopes of {self.provider.slug!r} with the provider's page.",
            error=f"http_{reply.status}",
            status=reply.status,
        )

    def _revocation(self, token: Token) -> Reply:
        rules = self.provider.revocation
        url = self.provider.revocation_endpoint
        if rules.style == "bearer":
            credentials = _bearer(self.provider, token)
            return self._exchange(
                rules.method, url, credentials=credentials, headers=self.provider.api.headers
            )
        parameters = messages.revocation_request(self.provider, token)
        how = rules.authentication or self.provider.client_authentication
        return self._post(url, parameters, how=how, body=rules.body, method=rules.method)

    def _token(self, endpoint: str, parameters: Parameters, scopes: Iterable[str]) -> Token:
        started = self._now()
        reply = self._post(endpoint, parameters)
        return answers.token_from(
            self.provider,
            reply.status,
            reply.answer,
            obtained_at=started,
            requested_scopes=scopes,
            retry_after=reply.retry_after,
        )

    def _post(
        self, url: str, parameters: Parameters, *, how: str = "", body: str = "", method: str = "POST"
    ) -> Reply:
        """Send parameters with the client's credentials, by default as the token endpoint wants both.

        Where the client's secret is refused the next one is tried: with that refusal nothing was spent.
        """
        how = how or self.provider.client_authentication
        sent_as = "document" if (body or self.provider.token_request.body) == "json" else "form"
        if how == "none":
            return self._exchange(method, url, **self._proven(parameters, sent_as, how))
        secrets = self._secrets()
        give_up = time.monotonic() + self.timeout
        for secret in secrets:
            request = self._proven(parameters, sent_as, how, secret)
            reply = self._exchange(method, url, give_up=give_up, **request)
            if not answers.refuses_client(self.provider, reply.status, reply.answer):
                client_secrets.took(self.provider, secrets, secret)
                break
        return reply

    def _proven(self, parameters: Parameters, sent_as: str, how: str, secret: str = "") -> dict[str, Any]:
        """Return a request with the proof of who the client is, in the header or in the body."""
        provider = self.provider
        rules = provider.token_request
        whole = Parameters(parameters)
        credentials = _basic(provider, secret) if how == "client_secret_basic" else Parameters()
        if how == "client_secret_post" or provider.client_authentication == "none" or rules.repeat_client_id:
            whole[rules.client_id_parameter] = provider.client_id
        if how == "client_secret_post":
            whole["client_secret"] = secret
        return {"credentials": credentials, "headers": rules.headers, sent_as: whole}

    def _secrets(self) -> Sequence[client_secrets.Secret]:
        try:
            return client_secrets.in_order(self.provider)
        except InvalidProvider as error:
            failure: Exception = ProviderMisconfigured(str(error), error="invalid_client")
        except Exception as error:
            # A vault is away, for instance. Raised here, afresh: a function's frames hold secrets.
            failure = ProviderUnavailable(
                f"The client_secret of {self.provider.slug!r} could not be had ({type(error).__name__}); "
                "nothing was sent. Mend the function that the settings name, or try again later."
            )
        raise failure

    def _exchange(self, method: str, url: str, *, give_up: float | None = None, **request: Any) -> Reply:
        """Send a request. ``give_up``: on the monotonic clock, where it is one of several."""
        left = self.timeout if give_up is None else give_up - time.monotonic()
        if left <= 0:
            raise self._unreachable()
        try:
            return self._send(method, url, request, left)
        except (requests.RequestException, HTTPError) as error:
            failure = self._failure(error)
        except AddressRefused as refused:
            failure = ProviderMisconfigured(str(refused), error="forbidden_address")
        except OSError:  # the deadline, met while the body was read
            failure = self._lost("timeout")
        # Raised here, after the except block, so that no frame of the libraries hangs on it.
        raise failure

    def _send(self, method: str, url: str, request: dict[str, Any], timeout: float) -> Reply:
        with deadline(timeout):
            whole = self._session.exchange(method, url, **request)
        reply = Reply(
            status=whole.status,
            document=answers.read_document(whole.headers.get("Content-Type", ""), whole.body),
            retry_after=retry_after(whole.headers.get("Retry-After"), self._now()),
        )
        self._check_status(reply)
        return reply

    def _check_status(self, reply: Reply) -> None:
        if reply.status == 429 or reply.status >= 500:
            raise ProviderUnavailable(
                f"{self.provider.label} answered HTTP {reply.status}; try again later.",
                code=f"http_{reply.status}",
                retry_after=reply.retry_after,
            )
        if 300 <= reply.status < 400:
            raise ProviderMisconfigured(
                f"{self.provider.label} redirects a request that must not be redirected. "
                f"Put the endpoint's final URL into the entry {self.provider.slug!r}.",
                error="redirected",
                status=reply.status,
            )

    def _failure(self, error: requests.RequestException | HTTPError) -> Exception:
        if isinstance(error, ProviderUnavailable | ProviderMisconfigured):
            return error.with_traceback(None)
        if not was_sent(error):
            return self._unreachable()
        return self._lost("timeout" if timed_out(error) else "answer_lost")

    def _unreachable(self) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self.provider.label} cannot be reached; nothing was sent. Try again later.",
            code="unreachable",
        )

    def _lost(self, code: str) -> ProviderUnavailable:
        return ProviderUnavailable(
            f"{self.provider.label} did not answer in full; whether it acted is unknown.",
            code=code,
            answer_lost=True,
        )


def timed_out(error: requests.RequestException | HTTPError) -> bool:
    """Tell whether a wait was too long; requests calls it a ConnectionError while it reads a body."""
    return isinstance(error, requests.Timeout) or isinstance(reason_of(error), ReadTimeoutError)


def was_sent(error: requests.RequestException | HTTPError) -> bool:
    """Tell whether the request may have reached the server; in doubt it may."""
    if isinstance(error, requests.ConnectTimeout | ValueError):  # ValueError: the request is malformed
        return False
    reason = reason_of(error)
    if isinstance(reason, SSLError):  # also raised while reading; only a refused certificate is certain
        return not isinstance(reason.args[0], ssl.SSLCertVerificationError)
    return not isinstance(reason, NOT_SENT)


def reason_of(error: requests.RequestException | HTTPError) -> object:
    """Return urllib3's own error, which requests wraps."""
    if isinstance(error, HTTPError):
        return error
    reason: Any = error.args[0] if error.args else None
    return reason.reason if isinstance(reason, MaxRetryError) else reason


def retry_after(value: str | None, now: datetime) -> float | None:
    """Read Retry-After (RFC 9110 section 10.2.3), seconds or a date; at most an hour, else None."""
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
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)
