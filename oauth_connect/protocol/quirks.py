"""What differs from provider to provider, in small tables; where nothing is said, the RFCs hold."""

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

    ``offline_scopes`` are asked for beside ``scopes``: without them no refresh token comes. An empty
    ``scope_parameter``: the provider knows no scopes. ``form_post``: the answer is posted to the callback.
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
                "without_pkce_because: say why PKCE is turned off; check --deploy shows the reason"
            )


@dataclass(frozen=True, kw_only=True)
class Callback:
    """The authorization response. ``verify``: it is signed with the client secret.

    ``hmac_sha256_query``: the parameter ``hmac`` is the HMAC-SHA256, in hex, of all the others, sorted.
    """

    verify: Literal["none", "hmac_sha256_query"] = "none"


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """What differs in requests to the token endpoint (RFC 6749 sections 4.1.3 and 6).

    ``repeat_client_id``: in the body too, where the client proves itself by Basic.
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
    """Where a token answer keeps things (RFC 6749 section 5.1 where nothing is said).

    ``path``: a list of keys. ``fields``: the RFC's name -> the provider's. ``success_field`` must be true.
    ``error_field``: a dotted path. ``errors``: the provider's error code -> the RFC's (section 5.2);
    "code: words" is for that code with a description that begins with these words.
    ``assumed_lifetime`` is in seconds, for providers whose tokens expire without saying so.
    ``expires_unit``: ``seconds`` from now, a moment, or ``jwt``: the ``exp`` of the access token itself.
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
                known = ", ".join(RESPONSE_FIELDS)
                raise InvalidProvider(f"fields.{name}: not a field of a token response ({known})")

    def name_of(self, parameter: str) -> str:
        return self.fields.get(parameter, parameter)


RESPONSE_FIELDS = ("access_token", "refresh_token", "token_type", "scope", "expires_in")


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """How refresh tokens behave there. ``grace_seconds``: how long a spent one still works.

    ``style``: ``exchange_access_token`` where there is no refresh token and a valid access token is
    exchanged for a younger one, as ``exchange_parameter`` of the grant ``exchange_grant_type``.
    ``expected``: whether a refresh token comes with the first answer.
    ``lifetime_seconds``: an unused refresh token dies after so long; ``absolute_seconds``: any does, counted
    from the user's consent. ``ended_errors``: the codes that say that the grant is over.
    ``at_once``: how many token requests a bulk refresh may have under way there; 0 is no limit of its own.
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
    """Which account was connected. Each of ``id`` and ``label`` lists dotted paths, first hit wins.

    Paths joined by ``+`` make one id of several parts, all of which must be there. ``id`` must be
    something the account's owner cannot change. ``method`` and ``headers`` are for userinfo_endpoint.
    """

    source: Literal["userinfo", "id_token", "token_response", "callback", "none"] | None = None
    method: Literal["GET", "POST"] = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    id: tuple[str, ...] = ("sub", "id")
    label: tuple[str, ...] = ("name", "preferred_username", "email", "login")


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """A second look-up: what a token reaches (sites, tenants), of which one becomes a variable.

    ``endpoint`` answers a list, or an object with the list at ``path`` (keys). ``id`` is what ``variable``
    gets. ``choose``: the id, name or URL (any of ``match``) of the one to take; otherwise the first.
    """

    endpoint: str = ""
    variable: str = ""
    path: tuple[str, ...] = ()
    id: str = "id"
    match: tuple[str, ...] = ("id", "name", "url")
    choose: str = ""

    def __post_init__(self) -> None:
        if self.endpoint and not self.variable:
            raise InvalidProvider("variable: missing; name the variable that the look-up sets")


@dataclass(frozen=True, kw_only=True)
class Api:
    """How the provider's API wants its token (RFC 6750 section 2.1 where nothing is said)."""

    header: str = "Authorization"
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """Revocation (RFC 7009 where nothing is said): how to ask, and what it ends.

    ``style``: ``bearer`` where the token itself is the credential and nothing else is sent; ``none``: never
    asked. ``authentication``: empty, that of the token endpoint. ``effect``: what ends with it: this
    ``token``, the whole ``grant`` (every token of this client and account), or everything of the ``account``.
    """

    style: Literal["rfc7009", "bearer", "none"] = "rfc7009"
    method: Literal["POST", "DELETE"] = "POST"
    body: Literal["form", "json"] = "form"
    token_parameter: str = "token"
    authentication: ClientAuthentication | None = None
    token: Literal["refresh_token", "access_token"] = "refresh_token"
    effect: Literal["token", "grant", "account"] = "grant"


@dataclass(frozen=True, kw_only=True)
class Device:
    """What differs in the device flow (RFC 8628)."""

    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What data cannot say: dotted paths of this site's own functions, or the functions.

    ``client_secret(provider) -> str``: a secret made for each request, a signed one for instance.
    ``register_client(provider, variables) -> mapping``: ``client_id`` and ``client_secret`` at the instance
    that the variables name. It is asked whenever a server is spoken to, so it keeps what it registers.
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

    ``source``: ``config`` (the settings), ``user`` (asked when connecting), ``callback``, ``token_response``
    or ``accounts`` (the second look-up). ``field``: the callback parameter, or the dotted path in the token
    answer, that holds it; its own name where nothing is said. With ``config`` and ``user``, a ``field`` is
    the callback parameter that must repeat the value.
    ``pattern`` is matched against the whole value; it must not let a slash or a dot-less host in. Where it
    has a group, the group is the value, and must fit by itself.
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
            raise InvalidProvider("default: does not fit the pattern, or is not among the choices")

    @property
    def is_late(self) -> bool:
        """Whether the value comes with the provider's answers only."""
        return self.source not in ("config", "user")

    def value_of(self, given: object) -> str | None:
        """Return the value that was given in this form or another; None where it does not fit."""
        if not isinstance(given, str):
            return None
        value = self._grouped(given)
        if value is None or (self.choices and value not in self.choices):
            return None
        return value if self._grouped(value) == value else None

    def _grouped(self, given: str) -> str | None:
        if not self.pattern:
            return given
        found = re.fullmatch(self.pattern, given)
        if found is None:
            return None
        return found[1] if found.re.groups else given
