"""This site's client at an authorization server: one method for each endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Self

from oauth_connect.errors import ProtocolError, ProviderRejected, ProviderUnavailable
from oauth_connect.protocol.device import DeviceAuthorization, read_device_authorization
from oauth_connect.protocol.exchange import Exchange, Reply
from oauth_connect.protocol.grants import responses
from oauth_connect.protocol.grants.requests import (
    Parameters,
    client_credentials_request,
    code_request,
    device_authorization_request,
    device_token_request,
    refresh_request,
    revocation_request,
)
from oauth_connect.protocol.grants.responses import Body
from oauth_connect.protocol.net.transport import ServerSession
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import without_missing
from oauth_connect.protocol.token import Token

__all__ = ["AuthorizationServer", "Reply"]


class AuthorizationServer:
    """This site's client at one provider's authorization server.

    ``on_unusable`` gets the tokens of a first response that is unusable otherwise: they must be revoked.
    ``timeout`` is in seconds, for one whole request. ``session`` comes from ``transport.new_session``.
    Several clients may share it, and the caller closes it. ``now`` returns the time, aware, in UTC.
    Every method may raise ProviderUnavailable, ProviderRejected or ProviderMisconfigured.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        timeout: float = 15.0,
        session: ServerSession | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_unusable: Callable[[Token], None] = lambda token: None,
    ) -> None:
        self._on_unusable = on_unusable
        self._exchange = Exchange(provider, timeout=timeout, session=session, now=now)
        self._now = now

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._exchange.close()

    @property
    def provider(self) -> Provider:
        return self._exchange.provider

    def move_to(self, provider: Provider) -> None:
        """Continue at another instance of the provider, once a flow knows which one."""
        self._exchange.provider = provider

    @property
    def timeout(self) -> float:
        return self._exchange.timeout

    def exchange_code(
        self, *, code: str, redirect_uri: str, code_verifier: str, scopes: Iterable[str] = ()
    ) -> Token:
        """Exchange an authorization code (RFC 6749 section 4.1.3)."""
        parameters = code_request(
            self.provider, code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
        )
        return self._token(self.provider.token_endpoint, parameters, scopes)

    def refresh(self, token: Token, *, redirect_uri: str = "") -> Token:
        """Refresh a token (RFC 6749 section 6). Fields that the response omits keep their old values.

        If only the new refresh token of the response is usable, the result is ``carried``.
        """
        started = self._now()
        parameters = refresh_request(self.provider, token=token, redirect_uri=redirect_uri)
        reply = self._exchange.post(self.provider.refresh_endpoint, parameters)
        return responses.refreshed(
            self.provider,
            reply.status,
            reply.body,
            previous=token,
            obtained_at=started,
            received_at=self._now(),
            retry_after=reply.retry_after,
        )

    def client_credentials(
        self, *, scopes: Iterable[str] = (), resource: str = "", audience: str = ""
    ) -> Token:
        """Request the client's own token (RFC 6749 section 4.4).

        A refresh token in the response is ignored (section 4.4.3). The client's credentials are enough.
        """
        requested = tuple(scopes)
        parameters = client_credentials_request(
            self.provider, scopes=requested, resource=resource, audience=audience
        )
        token = self._token(self.provider.token_endpoint, parameters, requested)
        return replace(
            token, refresh_token="", refresh_token_expires_at=None, exchangeable=False, reissuable=True
        )

    def authorize_device(self, scopes: Iterable[str] = ()) -> DeviceAuthorization:
        """Start a device flow (RFC 8628 section 3.1)."""
        parameters = device_authorization_request(self.provider, scopes)
        reply = self._exchange.post(self.provider.device_authorization_endpoint, parameters)
        return read_device_authorization(self.provider, reply.status, reply.body)

    def device_token(self, device_code: str, *, scopes: Iterable[str] = ()) -> Token:
        """Request the token of a device flow once (RFC 8628 section 3.4). ``scopes`` were requested."""
        parameters = device_token_request(self.provider, device_code)
        return self._token(self.provider.token_endpoint, parameters, scopes)

    def revoke(self, token: Token) -> bool:
        """Revoke a token (RFC 7009). Return False if the provider offers no revocation.

        A token that the server does not know counts as revoked (section 2.2).
        """
        if self.provider.revocation.style == "none" or not self.provider.revocation_endpoint:
            return False
        reply = self._revocation(token)
        refused = reply.body is not None and responses.is_refusal(self.provider, reply.body)
        # An error with status 200 has the format of token endpoint errors. An RFC 7009 response has no body.
        if not 200 <= reply.status < 300 or (reply.body and refused):
            raise responses.refusal(self.provider, reply.status, reply.body or Body())
        return True

    def userinfo(self, token: Token) -> Body:
        """Fetch the claims about the account (OpenID Connect Core section 5.3)."""
        rules = self.provider.identity
        reply = self._call_api(rules.method, self.provider.userinfo_endpoint, token, rules.headers)
        if reply.body is None or responses.is_refusal(self.provider, reply.body):
            raise self._rejected("return the account of this token", "userinfo_endpoint", reply)
        return reply.body

    def accounts(self, token: Token) -> list[Any]:
        """Fetch the list of sites, tenants or the like that a token can access."""
        rules = self.provider.accounts
        reply = self._call_api("GET", rules.endpoint, token)
        found = reply.document
        for key in rules.path:
            found = found.get(key) if isinstance(found, Mapping) else None
        if not isinstance(found, list):
            raise self._rejected("list what this token can access", "accounts.endpoint", reply)
        return found

    def probe(self, url: str) -> int:
        """Send a bare GET to an endpoint and return the response's status. It changes nothing at the server.

        Sends no parameters and no credentials, and reads no body. Raises ProviderUnavailable.
        """
        return self._exchange.probe(url)

    def _call_api(
        self, method: str, url: str, token: Token, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request with the token in the API's header. Raises ProviderRejected unless it gets a 200."""
        sent = without_missing({**self.provider.api.headers, **(headers or {})})
        reply = self._exchange.send(method, url, credentials=_bearer(self.provider, token), headers=sent)
        if reply.status != 200:
            raise self._rejected("accept this request", "endpoints", reply)
        return reply

    def _rejected(self, action: str, fields: str, reply: Reply) -> ProviderRejected:
        return ProviderRejected(
            f"{self.provider.label} did not {action} (HTTP {reply.status}). Compare "
            f"{fields} and scopes of {self.provider.slug!r} with the provider's documentation.",
            error=f"http_{reply.status}",
            status=reply.status,
        )

    def _revocation(self, token: Token) -> Reply:
        rules = self.provider.revocation
        url = self.provider.revocation_endpoint
        if rules.style == "bearer":
            credentials = _bearer(self.provider, token)
            headers = without_missing(self.provider.api.headers)
            return self._exchange.send(rules.method, url, credentials=credentials, headers=headers)
        parameters = revocation_request(self.provider, token)
        authentication = rules.authentication or self.provider.client_authentication
        return self._exchange.post(
            url, parameters, authentication=authentication, body=rules.body, method=rules.method
        )

    def _token(self, endpoint: str, parameters: Parameters, scopes: Iterable[str]) -> Token:
        started = self._now()
        reply = self._exchange.post(endpoint, parameters)
        try:
            return responses.token_from(
                self.provider,
                reply.status,
                reply.body,
                obtained_at=started,
                received_at=self._now(),
                requested_scopes=scopes,
                retry_after=reply.retry_after,
            )
        except (ProtocolError, ProviderUnavailable):
            issued = responses.unusable_tokens(self.provider, reply.status, reply.body, started)
            if issued is not None:
                self._on_unusable(issued)
            raise


def _bearer(provider: Provider, token: Token) -> Parameters:
    return Parameters({provider.api.header: f"{provider.api.scheme} {token.access_token}".strip()})
