"""A provider is data: its endpoints under their RFC 8414 names, and its quirks in small tables.

Everything here can stand in settings or in a preset file; nothing here does anything but say
what is so and refuse what cannot be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, Self

from oauth_connect.errors import ForbiddenDestination, InvalidProvider
from oauth_connect.protocol import destination
from oauth_connect.protocol.addresses import AddressGuard
from oauth_connect.protocol.definition import build

ClientAuthentication = Literal["client_secret_basic", "client_secret_post", "none"]

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "device_authorization_endpoint",
    "userinfo_endpoint",
)
TEMPLATED = (*ENDPOINTS, "issuer", "api_base_url")
FLOW_PARAMETERS = frozenset(
    {
        "response_type",
        "client_id",
        "redirect_uri",
        "scope",
        "state",
        "nonce",
        "code_challenge",
        "code_challenge_method",
    }
)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@dataclass(frozen=True, kw_only=True)
class Authorize:
    """The authorization request (RFC 6749 section 4.1.1, RFC 7636)."""

    params: Mapping[str, str] = field(default_factory=dict)
    scope_parameter: str = "scope"
    scope_separator: str = " "
    code_challenge_method: Literal["S256", "none"] = "S256"
    without_pkce_because: str = ""
    without_iss_because: str = ""

    def __post_init__(self) -> None:
        if taken := FLOW_PARAMETERS.intersection(self.params):
            raise InvalidProvider(f"params.{min(taken)}: the flow sets this parameter itself")
        if self.code_challenge_method == "none" and not self.without_pkce_because:
            raise InvalidProvider(
                "without_pkce_because: say why PKCE is turned off; check --deploy shows the reason"
            )


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """What differs in requests to the token endpoint (RFC 6749 sections 4.1.3 and 6)."""

    body: Literal["form", "json"] = "form"
    client_id_parameter: str = "client_id"
    params: Mapping[str, str] = field(default_factory=dict)
    refresh_params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat_redirect_uri_on_refresh: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenResponse:
    """Where a token answer keeps things (RFC 6749 section 5.1 where nothing is said).

    Paths are lists of keys. ``assumed_lifetime`` is in seconds, for providers whose tokens
    expire without saying so.
    """

    path: tuple[str, ...] = ()
    scope_separator: str = " "
    token_types: tuple[str, ...] = ("bearer",)
    token_type_required: bool = True
    wider_scopes: bool = False
    refresh_token_expires_in: str = "refresh_token_expires_in"
    assumed_lifetime: int | None = None


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """How refresh tokens behave there. ``grace_seconds``: how long a spent one still works.

    ``ended_errors``: the error codes that say that the grant is over (RFC 6749 section 5.2).
    """

    endpoint: str = ""
    rotation: Literal["always", "sometimes", "never", "unknown"] = "unknown"
    ended_errors: tuple[str, ...] = ("invalid_grant",)
    grace_seconds: int = 0


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which account was connected. Each of ``id`` and ``label`` lists dotted paths, first hit wins.

    ``id`` must be something the account's owner cannot change.
    """

    source: Literal["userinfo", "id_token", "token_response", "none"] | None = None
    id: tuple[str, ...] = ("sub", "id")
    label: tuple[str, ...] = ("name", "preferred_username", "email", "login")


@dataclass(frozen=True, kw_only=True)
class Api:
    """How the provider's API wants its token (RFC 6750 section 2.1 where nothing is said)."""

    header: str = "Authorization"
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """Revocation (RFC 7009): which token to name. ``none``: never asked, the provider has no such thing."""

    style: Literal["rfc7009", "none"] = "rfc7009"
    token: Literal["refresh_token", "access_token"] = "refresh_token"


@dataclass(frozen=True, kw_only=True)
class Device:
    """What differs in the device flow (RFC 8628)."""

    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A part of the endpoints that differs by site or user: a tenant, a shop, an instance.

    ``pattern`` is matched against the whole value; it must not let a slash or a dot-less host in.
    """

    pattern: str
    default: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InvalidProvider(f"pattern: {error}") from None
        if self.default and not re.fullmatch(self.pattern, self.default):
            raise InvalidProvider("default: does not fit the pattern")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One OAuth 2.0 authorization server, and this site's client there.

    Raises InvalidProvider, with the name of the field, when it could not work or not safely.
    """

    slug: str
    client_id: str
    name: str = ""
    client_secret: Any = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    enabled: bool = True
    documentation: str = ""

    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    revocation_endpoint: str = ""
    introspection_endpoint: str = ""
    device_authorization_endpoint: str = ""
    userinfo_endpoint: str = ""
    token_endpoint_auth_method: ClientAuthentication | None = None
    authorization_response_iss_parameter_supported: bool | None = None

    api_base_url: str = ""
    api_hosts: tuple[str, ...] = ()

    authorize: Authorize = field(default_factory=Authorize)
    token_request: TokenRequest = field(default_factory=TokenRequest)
    token_response: TokenResponse = field(default_factory=TokenResponse)
    refresh: Refresh = field(default_factory=Refresh)
    identity: Identity = field(default_factory=Identity)
    api: Api = field(default_factory=Api)
    revocation: Revocation = field(default_factory=Revocation)
    device: Device = field(default_factory=Device)
    variables: Mapping[str, Variable] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, slug: str, data: Mapping[str, Any]) -> Self:
        """Build a provider from plain data; errors begin with ``slug.`` and the path inside."""
        provider: Self = build(cls, {**data, "slug": slug}, slug)
        return provider

    def __post_init__(self) -> None:
        self._check_client()
        self._check_endpoints()
        self._check_discovery()
        self._check_scopes()
        self._check_hosts()

    @property
    def guard(self) -> AddressGuard | None:
        """Where connections may lead; None: anywhere, for the settings' own word is believed."""
        return None

    @property
    def needs_discovery(self) -> bool:
        """Tell whether the endpoints are still to be learnt from the issuer (RFC 8414)."""
        return bool(self.issuer) and not self.token_endpoint

    @property
    def connects_accounts(self) -> bool:
        """Tell whether accounts can be connected here, as far as the settings say."""
        return self.enabled and bool(self.authorization_endpoint or self.needs_discovery)

    @property
    def label(self) -> str:
        return self.name or self.slug

    @property
    def client_authentication(self) -> ClientAuthentication:
        """How the client proves itself; without a word, Basic with a secret (RFC 6749 section 2.3.1)."""
        if self.token_endpoint_auth_method is not None:
            return self.token_endpoint_auth_method
        return "client_secret_basic" if self.client_secret else "none"

    @property
    def refresh_endpoint(self) -> str:
        return self.refresh.endpoint or self.token_endpoint

    @property
    def identity_source(self) -> str:
        if self.identity.source is not None:
            return self.identity.source
        return "userinfo" if self.userinfo_endpoint else "none"

    def secret(self) -> str:
        """Return the newest client secret, asked for now: a callable may read it from a vault."""
        material = self.client_secret() if callable(self.client_secret) else self.client_secret
        return material if isinstance(material, str) else material[0]

    def token_hosts(self) -> frozenset[tuple[str, int | None]]:
        """Return the (host, port) pairs that may see a token; None is the scheme's own port."""
        if self.api_hosts:
            return destination.parse_hosts(self.api_hosts)
        if not self.api_base_url:
            return frozenset()
        origin = destination.origin_of(self.api_base_url)
        return frozenset({(origin.host, origin.port)})

    def resolve(self, values: Mapping[str, Any]) -> Self:
        """Return the provider with its variables filled in. Raises InvalidProvider for a bad value."""
        if not self.variables:
            return self
        chosen = {name: values.get(name) or variable.default for name, variable in self.variables.items()}
        for name, value in chosen.items():
            if not isinstance(value, str) or not re.fullmatch(self.variables[name].pattern, value):
                raise InvalidProvider(f"{self.slug}.variables.{name}: the value does not fit its pattern")

        def fill(template: str) -> str:
            return _PLACEHOLDER.sub(lambda found: chosen[found[1]], template)

        filled: dict[str, Any] = {name: fill(getattr(self, name)) for name in TEMPLATED}
        filled["refresh"] = replace(self.refresh, endpoint=fill(self.refresh.endpoint))
        filled["api_hosts"] = tuple(map(fill, self.api_hosts))
        return replace(self, **filled, variables={})

    def _check_client(self) -> None:
        if not self.client_id:
            raise InvalidProvider("client_id: missing; the provider gave it to you with the secret")
        if (
            self.token_endpoint_auth_method in ("client_secret_basic", "client_secret_post")
            and not self.client_secret
        ):
            raise InvalidProvider(f"client_secret: missing, but {self.token_endpoint_auth_method} needs it")
        material = self.client_secret
        if isinstance(material, str) or callable(material):
            return
        if (
            not isinstance(material, Sequence)
            or not material
            or not all(isinstance(one, str) for one in material)
        ):
            raise InvalidProvider(
                "client_secret: expected a string, a callable or a list of strings, newest first"
            )

    def _check_endpoints(self) -> None:
        if not self.token_endpoint and not self.issuer:
            raise InvalidProvider("token_endpoint: missing; or set issuer, and it is discovered")
        if self.authorization_response_iss_parameter_supported and not self.issuer:
            raise InvalidProvider("issuer: missing; authorization responses are compared with it")
        named = {name: getattr(self, name) for name in TEMPLATED}
        for name, url in {**named, "refresh.endpoint": self.refresh.endpoint}.items():
            self._check_placeholders(name, url)
            problem = url and destination.endpoint_problem(_PLACEHOLDER.sub("variable", url))
            if problem:
                raise InvalidProvider(f"{name}: {problem}")

    def _check_discovery(self) -> None:
        if not self.needs_discovery:
            return
        if "?" in self.issuer or _PLACEHOLDER.search(self.issuer):
            raise InvalidProvider("issuer: has a query or a variable, and cannot be discovered")
        relaxed = self.authorization_response_iss_parameter_supported is False
        if relaxed and not self.authorize.without_iss_because:
            raise InvalidProvider(
                "authorize.without_iss_because: say why answers need no iss here, whatever the server "
                "declares; check --deploy shows the reason"
            )

    def _check_placeholders(self, name: str, url: str) -> None:
        for variable in _PLACEHOLDER.findall(url):
            if variable not in self.variables:
                raise InvalidProvider(f"{name}: {{{variable}}} is not among the provider's variables")

    def _check_scopes(self) -> None:
        for scope in self.scopes:
            if not _SCOPE.fullmatch(scope):
                raise InvalidProvider(
                    f"scopes: {scope!r} is not one scope; list each by itself (RFC 6749 section 3.3)"
                )

        if self.identity_source == "id_token" and not (self.issuer and "openid" in self.scopes):
            raise InvalidProvider("identity.source: an ID token needs issuer, and openid among the scopes")

    def _check_hosts(self) -> None:
        for host in self.api_hosts:
            self._check_placeholders("api_hosts", host)
        try:
            destination.parse_hosts(self.api_hosts)
        except ForbiddenDestination as refused:
            raise InvalidProvider(f"api_hosts: {refused}") from None


FIELD_NAMES = frozenset(f.name for f in fields(Provider))
