"""This site's client at an authorization server: one method for each endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Self, TypeVar, cast

from oauth_connect.errors import CallError, ProtocolError, ProviderRejected, ProviderUnavailable
from oauth_connect.protocol.device import DeviceAuthorization, read_device_authorization
from oauth_connect.protocol.exchange import SENT_AS, Exchange, Reply
from oauth_connect.protocol.grants import id_tokens, refusals, responses
from oauth_connect.protocol.grants.authorization_errors import clean_code
from oauth_connect.protocol.grants.bodies import Body
from oauth_connect.protocol.grants.requests import (
    Parameters,
    client_credentials_request,
    code_request,
    device_authorization_request,
    device_token_request,
    exchange_request,
    introspection_request,
    refresh_request,
    revocation_request,
)
from oauth_connect.protocol.net.transport import ServerSession
from oauth_connect.protocol.paths import inside, pick
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.templates import without_missing
from oauth_connect.protocol.token import Token
from oauth_connect.tracebacks import methods_without_locals

__all__ = ["AuthorizationServer", "Reply"]
M = TypeVar("M", bound=Callable[..., Any])


def asks(endpoint: str) -> Callable[[M], M]:
    """Name the endpoint in the errors of a method, because a flow asks several endpoints."""

    def decorate(method: M) -> M:
        @wraps(method)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except CallError as error:
                error.endpoint = endpoint
                raise

        return cast(M, named)

    return decorate


@methods_without_locals
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
        self.provider = provider
        self.timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._exchange.close()

    def move_to(self, provider: Provider) -> None:
        """Continue at another instance of the provider, once a flow knows which one."""
        self.provider = self._exchange.provider = provider

    @asks("token_endpoint")
    def exchange_code(
        self, *, code: str, redirect_uri: str, code_verifier: str, scopes: Iterable[str] = ()
    ) -> Token:
        """Exchange an authorization code (RFC 6749 section 4.1.3)."""
        parameters = code_request(
            self.provider, code=code, redirect_uri=redirect_uri, code_verifier=code_verifier
        )
        return self._token(self.provider.token_endpoint, parameters, scopes)

    @asks("token_endpoint")
    def refresh(self, token: Token, *, redirect_uri: str = "") -> Token:
        """Refresh a token (RFC 6749 section 6). Fields that the response omits keep their old values.

        If only the new refresh token of the response is usable, the result is ``carried``.
        """
        parameters = refresh_request(self.provider, token=token, redirect_uri=redirect_uri)
        authentication = self.provider.refresh.authentication or ""
        return self._refreshed(token, self.provider.refresh_endpoint, parameters, authentication)

    @asks("token_endpoint")
    def exchange_short_lived(self, token: Token) -> Token:
        """Exchange the short-lived token of a code for a long-lived one, as the entry's ``refresh`` says."""
        rules = self.provider.refresh
        if not (rules.first_endpoint or rules.first_grant_type):
            return self.refresh(token)
        grant_type = rules.first_grant_type or rules.exchange_grant_type
        parameters = exchange_request(self.provider, token, grant_type)
        return self._refreshed(token, rules.first_endpoint or self.provider.refresh_endpoint, parameters)

    @asks("token_endpoint")
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
        token = self._token(self.provider.token_endpoint, parameters, requested, client_only=True)
        return replace(
            token, refresh_token="", refresh_token_expires_at=None, exchangeable=False, reissuable=True
        )

    @asks("device_authorization_endpoint")
    def authorize_device(self, scopes: Iterable[str] = ()) -> DeviceAuthorization:
        """Start a device flow (RFC 8628 section 3.1)."""
        parameters = device_authorization_request(self.provider, scopes)
        reply = self._exchange.post(self.provider.device_authorization_endpoint, parameters)
        return read_device_authorization(self.provider, reply.status, reply.document)

    @asks("token_endpoint")
    def device_token(self, device_code: str, *, scopes: Iterable[str] = ()) -> Token:
        """Request the token of a device flow once (RFC 8628 section 3.4). ``scopes`` were requested.

        Some servers answer 400 without a body until the user has decided.
        """
        started = self._now()
        parameters = device_token_request(self.provider, device_code)
        reply = self._exchange.post(
            self.provider.token_endpoint,
            parameters,
            method=self.provider.token_request.method,
            is_final=lambda reply: self._is_of_device_flow(reply) or self._ends_grant(reply),
        )
        if reply.status == 400 and reply.is_empty and "http_400" not in self.provider.token_response.errors:
            raise refusals.error_for(self.provider, "authorization_pending", status=400)
        return self._issued(reply, started, scopes)

    @asks("revocation_endpoint")
    def revoke(self, token: Token) -> bool:
        """Revoke a token (RFC 7009). Return False if the provider offers no revocation.

        A token that the server does not know counts as revoked (section 2.2).
        """
        if self.provider.revocation.style == "none" or not self.provider.revocation_endpoint:
            return False
        reply = self._revocation(token)
        refused = bool(reply.document) and refusals.is_refusal(self.provider, reply.document)
        # An error with status 200 has the format of token endpoint errors. An RFC 7009 response has no body.
        if not 200 <= reply.status < 300 or refused:
            client_only = self.provider.revocation.style == "rfc7009"
            raise refusals.refusal(self.provider, reply.status, reply.document, client_only=client_only)
        return True

    @asks("userinfo_endpoint")
    def userinfo(self, token: Token) -> Any:
        """Fetch the claims about the account (OpenID Connect Core section 5.3): an object, or a list.

        Raises CallbackRefused for signed claims that are not for this client.
        """
        rules = self.provider.identity
        reply = self._call_api(
            rules.method,
            self.provider.userinfo_endpoint,
            token,
            rules.headers,
            scheme=rules.scheme,
            document=rules.json,
        )
        if isinstance(reply.document, str) and (claims := id_tokens.claims_of(reply.document)) is not None:
            id_tokens.check_userinfo(self.provider, claims)
            return Body(claims)
        if not reply.is_structured or self._is_no_account(reply.document):
            raise self._rejected("return the account of this token", "userinfo_endpoint", reply)
        return reply.document

    @asks("introspection_endpoint")
    def introspect(self, token: Token) -> Mapping[str, Any]:
        """Ask about an access token (RFC 7662 section 2.2). Raises ProviderRejected if it is not active."""
        reply = self._exchange.post(
            self.provider.introspection_endpoint, introspection_request(token), body="form"
        )
        document = reply.document
        refused = not 200 <= reply.status < 300 or self._is_no_account(document)
        # Some servers send no "active", or send it as a string.
        if refused or not isinstance(document, Mapping) or document.get("active", True) not in (True, "true"):
            raise self._rejected("describe this token", "introspection_endpoint", reply)
        return document

    def _is_no_account(self, document: Any) -> bool:
        """Return whether a document about an account is an error response.

        The entry's rules are made for token responses. In an account, a "status" may be anything.
        """
        by_rfc = bool(inside(document, ["error"]))
        return refusals.is_refusal(self.provider, document) and (
            by_rfc or not pick(document, self.provider.identity.id)
        )

    @asks("accounts.endpoint")
    def accounts(self, token: Token) -> list[Any]:
        """Fetch the list of sites, tenants or the like that a token can access."""
        rules = self.provider.accounts
        reply = self._call_api("GET", rules.endpoint, token)
        found = inside(reply.document, rules.path)
        if not isinstance(found, list):
            fields = "accounts.endpoint, accounts.path"
            raise self._rejected("list what this token can access", fields, reply)
        return found

    def probe(self, url: str) -> int:
        """Send a bare GET to an endpoint and return the response's status. It changes nothing at the server.

        Sends no parameters and no credentials, and reads no body. Raises ProviderUnavailable.
        """
        return self._exchange.probe(url)

    def _call_api(
        self,
        method: str,
        url: str,
        token: Token,
        headers: Mapping[str, str] | None = None,
        *,
        scheme: str | None = None,
        document: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send a request with the token in the API's header. Raises ProviderRejected unless it gets a 2xx.

        ``document``: the body, sent as JSON unless it is empty.
        """
        sent = without_missing({**self.provider.api.headers, **(headers or {})})
        credentials = _bearer(self.provider, token, scheme)
        reply = self._exchange.send(
            method, url, credentials=credentials, headers=sent, document=document or None
        )
        if not 200 <= reply.status < 300:
            raise self._rejected("accept this request", "endpoints", reply)
        return reply

    def _rejected(self, action: str, fields: str, reply: Reply) -> ProviderRejected:
        code = refusals.code_of(self.provider, reply.document)
        what = f"HTTP {reply.status}, {clean_code(code)}" if code else f"HTTP {reply.status}"
        return ProviderRejected(
            f"{self.provider.label} did not {action} ({what}). Compare "
            f"{fields} and scopes of {self.provider.slug!r} with the provider's documentation.",
            error=f"http_{reply.status}",
            status=reply.status,
        )

    def _revocation(self, token: Token) -> Reply:
        rules = self.provider.revocation
        url = self.provider.revocation_endpoint
        parameters = revocation_request(self.provider, token)
        if rules.style == "bearer":
            credentials = _bearer(self.provider, token)
            headers = without_missing(self.provider.api.headers)
            body: dict[str, Any] = {SENT_AS[rules.body]: parameters} if parameters else {}
            return self._exchange.send(
                rules.method,
                url,
                is_final=self._ends_grant,
                credentials=credentials,
                headers=headers,
                **body,
            )
        authentication = rules.authentication or self.provider.client_authentication
        return self._exchange.post(
            url,
            parameters,
            authentication=authentication,
            body=rules.body,
            method=rules.method,
            is_final=self._ends_grant,
        )

    def _ends_grant(self, reply: Reply) -> bool:
        return refusals.ends_grant(self.provider, reply.status, reply.document)

    def _is_of_device_flow(self, reply: Reply) -> bool:
        return refusals.is_of_device_flow(self.provider, reply.status, reply.document)

    def _token(
        self, endpoint: str, parameters: Parameters, scopes: Iterable[str], *, client_only: bool = False
    ) -> Token:
        started = self._now()
        reply = self._exchange.post(endpoint, parameters, method=self.provider.token_request.method)
        return self._issued(reply, started, scopes, client_only=client_only)

    def _refreshed(
        self, token: Token, endpoint: str, parameters: Parameters, authentication: str = ""
    ) -> Token:
        started = self._now()
        reply = self._exchange.post(
            endpoint,
            parameters,
            authentication=authentication,
            method=self.provider.refresh.method or self.provider.token_request.method,
            is_final=self._ends_grant,
        )
        return responses.refreshed(
            self.provider,
            reply.status,
            reply.document,
            previous=token,
            obtained_at=started,
            received_at=self._now(),
            retry_after=reply.retry_after,
        )

    def _issued(
        self, reply: Reply, started: datetime, scopes: Iterable[str], *, client_only: bool = False
    ) -> Token:
        """Return the token of a first response that was requested at ``started``."""
        try:
            return responses.token_from(
                self.provider,
                reply.status,
                reply.document,
                obtained_at=started,
                received_at=self._now(),
                requested_scopes=scopes,
                retry_after=reply.retry_after,
                client_only=client_only,
            )
        except (ProtocolError, ProviderUnavailable):
            issued = responses.unusable_tokens(self.provider, reply.status, reply.document, started)
            if issued is not None:
                self._on_unusable(issued)
            raise


def _bearer(provider: Provider, token: Token, scheme: str | None = None) -> Parameters:
    scheme = provider.api.scheme if scheme is None else scheme
    return Parameters({provider.api.header: f"{scheme} {token.access_token}".strip()})
