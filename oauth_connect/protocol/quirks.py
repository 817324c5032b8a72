"""The quirks of providers, in small tables. The defaults are those of the RFCs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oauth_connect.errors import InvalidProvider

ClientAuthentication = Literal["client_secret_basic", "client_secret_post", "none"]
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


@dataclass(frozen=True, kw_only=True)
class Authorize:
    """The authorization request (RFC 6749 section 4.1.1, RFC 7636).

    ``offline_scopes`` are requested together with ``scopes``. Without them the provider issues no refresh
    token. An empty ``scope_parameter`` means that the provider has no scopes. With ``form_post`` the browser
    posts the response to the callback.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    offline_scopes: tuple[str, ...] = ()
    scope_parameter: str = "scope"
    scope_separator: str = " "
    response_mode: Literal["", "query", "form_post"] = ""
    code_challenge_method: Literal["S256", "none"] = "S256"
    without_pkce_because: str = ""
    without_iss_because: str = ""

    def __post_init__(self) -> None:
        if taken := FLOW_PARAMETERS.intersection(self.params):
            raise InvalidProvider(f"params.{min(taken)}: the flow sets this parameter itself")
        if self.code_challenge_method == "none" and not self.without_pkce_because:
            raise InvalidProvider(
                "without_pkce_because: give a reason why PKCE is turned off; check --deploy shows the reason"
            )


@dataclass(frozen=True, kw_only=True)
class Callback:
    """The authorization response. ``verify`` is the method by which the client secret signs it.

    ``hmac_sha256_query``: the parameter ``hmac`` is the HMAC-SHA256, in hex, of all other parameters, sorted.
    """

    verify: Literal["none", "hmac_sha256_query"] = "none"


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """Requests to the token endpoint (RFC 6749 sections 4.1.3 and 6).

    ``repeat_client_id``: with Basic authentication, send the client id in the body too.
    """

    body: Literal["form", "json"] = "form"
    client_id_parameter: str = "client_id"
    params: Mapping[str, str] = field(default_factory=dict)
    refresh_params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat_redirect_uri_on_refresh: bool = False
    repeat_client_id: bool = False


@dataclass(frozen=True, kw_only=True)
class TokenResponse:
    """The token response: where its fields are, and what they mean (default: RFC 6749 section 5.1).

    ``path``: the list of keys that leads to the token. ``fields``: the RFC's name -> the provider's name.
    ``success_field`` must be true. ``error_field``: a dotted path. ``errors``: the provider's error code ->
    the RFC's (section 5.2). A key "code: text" matches this code if the description begins with the text.
    ``assumed_lifetime``: seconds until expiry, if the response has no ``expires_in``.
    ``expires_unit``: ``seconds`` from now, a point in time, or ``jwt`` for the ``exp`` of the access token.
    """

    path: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    success_field: str = ""
    error_field: str = "error"
    errors: Mapping[str, str] = field(default_factory=dict)
    scope_separator: str = " "
    token_types: tuple[str, ...] = ("bearer",)
    token_type_required: bool = True
    wider_scopes: bool = False
    expires_unit: Literal["seconds", "epoch_seconds", "epoch_milliseconds", "iso8601", "jwt"] = "seconds"
    refresh_token_expires_in: str = "refresh_token_expires_in"
    assumed_lifetime: int | None = None

    def __post_init__(self) -> None:
        for name in self.fields:
            if name not in RESPONSE_FIELDS:
                allowed = ", ".join(RESPONSE_FIELDS)
                raise InvalidProvider(f"fields.{name}: not a field of a token response ({allowed})")

    def name_of(self, parameter: str) -> str:
        return self.fields.get(parameter, parameter)


RESPONSE_FIELDS = ("access_token", "refresh_token", "token_type", "scope", "expires_in")


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """Refresh tokens and how the provider treats them. A spent one still works for ``grace_seconds``.

    ``style``: ``exchange_access_token`` if there are no refresh tokens. A valid access token is then
    exchanged for a newer one, as the parameter ``exchange_parameter`` of the grant ``exchange_grant_type``.
    ``expected``: whether the first token response contains a refresh token.
    ``lifetime_seconds``: an unused refresh token expires after this time. ``absolute_seconds``: every refresh
    token expires after this time, counted from the user's consent. ``ended_errors``: the error codes for a
    grant that has ended. ``at_once``: the maximum number of token requests that a bulk refresh has in flight
    at this provider. 0 means no extra limit.
    """

    style: Literal["grant", "exchange_access_token", "none"] = "grant"
    endpoint: str = ""
    exchange_grant_type: str = ""
    exchange_parameter: str = ""
    expected: Literal["always", "conditional", "never"] = "conditional"
    rotation: Literal["always", "sometimes", "never", "unknown"] = "unknown"
    ended_errors: tuple[str, ...] = ("invalid_grant",)
    grace_seconds: int = 0
    lifetime_seconds: int | None = None
    absolute_seconds: int | None = None
    at_once: int = 0

    def __post_init__(self) -> None:
        if self.style == "exchange_access_token":
            for name in ("exchange_grant_type", "exchange_parameter"):
                if not getattr(self, name):
                    raise InvalidProvider(f"{name}: missing; the style {self.style!r} needs it")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The connected account. ``id`` and ``label`` list dotted paths. The first path with a value is used.

    Paths joined by ``+`` make one id of several parts, which must all have a value. ``id`` must be a value
    that the account's owner cannot change. ``method`` and ``headers`` are for userinfo_endpoint.
    """

    source: Literal["userinfo", "id_token", "token_response", "callback", "none"] | None = None
    method: Literal["GET", "POST"] = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    id: tuple[str, ...] = ("sub", "id")
    label: tuple[str, ...] = ("name", "preferred_username", "email", "login")


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """A second request, which lists what a token can access (sites, tenants). One entry sets a variable.

    ``endpoint`` returns a list, or an object with the list at ``path`` (keys). The entry's ``id`` is the
    value of ``variable``. ``choose``: the id, name or URL (any of ``match``) of the entry to use. Without it
    the first entry is used.
    """

    endpoint: str = ""
    variable: str = ""
    path: tuple[str, ...] = ()
    id: str = "id"
    match: tuple[str, ...] = ("id", "name", "url")
    choose: str = ""

    def __post_init__(self) -> None:
        if self.endpoint and not self.variable:
            raise InvalidProvider("variable: missing; name the variable that this request sets")


@dataclass(frozen=True, kw_only=True)
class Api:
    """API requests: the header and scheme of the token (default: RFC 6750 section 2.1)."""

    header: str = "Authorization"
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """Revocation: its request and its effect (default: RFC 7009).

    ``style``: with ``bearer`` the token itself is the only credential, and with ``none`` no request is sent.
    ``authentication``: the default is the method of the token endpoint. ``effect``: it ends this ``token``,
    the whole ``grant`` (every token of this client and account), or everything of the ``account``.
    ``page``: the URL at which the provider's users withdraw access, or read how.
    """

    style: Literal["rfc7009", "bearer", "none"] = "rfc7009"
    method: Literal["POST", "DELETE"] = "POST"
    body: Literal["form", "json"] = "form"
    token_parameter: str = "token"
    authentication: ClientAuthentication | None = None
    token: Literal["refresh_token", "access_token"] = "refresh_token"
    effect: Literal["token", "grant", "account"] = "grant"
    page: str = ""

    def __post_init__(self) -> None:
        if self.page and not self.page.startswith("https://"):
            raise InvalidProvider("page: must be an https URL")


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device flow (RFC 8628). ``params`` are added to the device authorization request."""

    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Functions of this site, or their dotted paths, for values that cannot be written as data.

    ``client_secret(provider) -> str``: returns a secret for each request, for example a signed one.
    ``register_client(provider, variables) -> mapping``: returns ``client_id`` and ``client_secret`` at the
    instance that the variables name. It is called before every contact with a server, so it must store the
    clients that it registers.
    """

    client_secret: Any = field(default="", repr=False)
    register_client: Any = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("client_secret", "register_client"):
            hook = getattr(self, name)
            if not callable(hook) and not (isinstance(hook, str) and (not hook or _DOTTED.fullmatch(hook))):
                raise InvalidProvider(f"{name}: expected the dotted path of a function")


_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A part of the endpoints that differs by site or user: a tenant, a shop, an instance.

    ``source``: ``config`` (the settings), ``user`` (a form when connecting), ``callback``,
    ``token_response`` or ``accounts`` (the second request). ``field``: the callback parameter, or the dotted
    path in the token response, that contains the value. The default is the variable's name. With ``config``
    and ``user``, ``field`` is the callback parameter that must repeat the value. A value from the callback is
    the browser's word. In a host it needs choices, or a pattern that ends in the registrable domain.
    ``pattern`` is matched against the whole value. It must not allow a slash or a host without a dot. If it
    has a group, the group is the value, and it must match the pattern too.
    """

    source: Literal["config", "user", "callback", "token_response", "accounts"] = "config"
    pattern: str = ""
    choices: tuple[str, ...] = ()
    default: str = ""
    label: str = ""
    field: str = ""

    def __post_init__(self) -> None:
        if not self.pattern and not self.choices:
            raise InvalidProvider("pattern: missing; give a pattern or choices")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InvalidProvider(f"pattern: {error}") from None
        if self.default and self.value_of(self.default) is None:
            raise InvalidProvider("default: does not match the pattern, or is not among the choices")

    @property
    def is_late(self) -> bool:
        """Return whether the value comes from one of the provider's responses."""
        return self.source not in ("config", "user")

    def value_of(self, given: object) -> str | None:
        """Return the variable's value from input, or None if it does not match."""
        if not isinstance(given, str) or not given.isprintable():
            return None
        value = self._match(given)
        if value is None or (self.choices and value not in self.choices):
            return None
        return value if self._match(value) == value else None

    def _match(self, given: str) -> str | None:
        if not self.pattern:
            return given
        found = re.fullmatch(self.pattern, given)
        if found is None:
            return None
        return found[1] if found.re.groups else given
