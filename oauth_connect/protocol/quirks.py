"""The quirks of providers, in small tables. The defaults are those of the RFCs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.paths import check_keys, check_paths

ClientAuthentication = Literal["client_secret_basic", "client_secret_post", "none"]
RevocationAuthentication = Literal[
    "client_secret_basic", "client_secret_post", "client_secret_header", "none"
]
Body = Literal["form", "json", "query"]
Method = Literal["POST", "GET"]
Moment = Literal["seconds", "epoch_seconds", "epoch_milliseconds", "iso8601"]
GrantType = Literal[
    "authorization_code",
    "client_credentials",
    "urn:ietf:params:oauth:grant-type:device_code",
    "refresh_token",
]
DEVICE_CODE: Literal["urn:ietf:params:oauth:grant-type:device_code"]
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
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
    token. An empty ``scope_parameter`` means that the provider has no scopes. ``extra_scopes``: another
    parameter -> the scopes in it, for example optional ones. With ``form_post`` the browser posts the
    response to the callback. ``code_challenge_method``: ``s256`` is S256 for a server that wants its name in
    lower case.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    client_id_parameter: str = "client_id"
    offline_scopes: tuple[str, ...] = ()
    scope_parameter: str = "scope"
    scope_separator: str = " "
    extra_scopes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    response_mode: Literal["", "query", "form_post"] = ""
    code_challenge_method: Literal["S256", "s256", "none"] = "S256"
    without_pkce_because: str = ""
    without_iss_because: str = ""

    def __post_init__(self) -> None:
        own = FLOW_PARAMETERS | {self.client_id_parameter, self.scope_parameter}
        if taken := own.intersection(self.params):
            raise InvalidProvider(f"params.{min(taken)}: the flow sets this parameter itself")
        if taken := (own | self.params.keys()).intersection(self.extra_scopes):
            raise InvalidProvider(f"extra_scopes.{min(taken)}: the request has this parameter already")
        if self.code_challenge_method == "none" and not self.without_pkce_because:
            raise InvalidProvider(
                "without_pkce_because: give a reason why PKCE is turned off; check --deploy shows the reason"
            )


@dataclass(frozen=True, kw_only=True)
class Callback:
    """The authorization response. ``verify`` is the method by which the client secret signs it.

    ``hmac_sha256_query``: the parameter ``hmac`` is the HMAC-SHA256, in hex, of all other parameters, sorted.
    ``code_parameter``: the parameter that holds the code. ``errors``: the provider's error code -> the RFC's
    (RFC 6749 section 4.1.2.1).
    """

    verify: Literal["none", "hmac_sha256_query"] = "none"
    code_parameter: str = "code"
    errors: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_code_parameter(self.code_parameter):
            raise InvalidProvider(
                "code_parameter: must be code, or end in auth_code or authorization_code, because logs and "
                "pages recognize a code by these names"
            )


def is_code_parameter(name: str) -> bool:
    """Return whether a parameter of this name may hold an authorization code."""
    return _CODE.fullmatch(name) is not None


_CODE = re.compile(r"code|[A-Za-z0-9_-]{0,40}auth(?:orization)?[_-]code", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """Requests to the token endpoint (RFC 6749 sections 4.1.3 and 6).

    ``body``: where the parameters are. With ``method`` GET they are always in the query. ``basic``:
    ``encoded`` form-encodes client id and secret before Basic (RFC 6749 section 2.3.1). With ``raw`` they are
    sent as they are (RFC 7617). With ``secret_as_username`` the secret is the user, without a password.
    ``repeat_client_id``: with Basic authentication, send the client id in the body too. ``omit``: parameters
    that the request for a code's token does not have, because the server refuses them.
    """

    method: Method = "POST"
    body: Body = "form"
    basic: Literal["encoded", "raw", "secret_as_username"] = "encoded"
    client_id_parameter: str = "client_id"
    params: Mapping[str, str] = field(default_factory=dict)
    refresh_params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    repeat_redirect_uri_on_refresh: bool = False
    repeat_client_id: bool = False
    omit: tuple[Literal["grant_type", "redirect_uri"], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClientCredentials:
    """The request for the client's own token (RFC 6749 section 4.4.2).

    ``grant_type``: the provider's own name of this grant. ``params`` are added to those of ``token_request``.
    """

    grant_type: str = "client_credentials"
    params: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.grant_type in USERS_GRANTS:
            raise InvalidProvider(f"grant_type: {self.grant_type!r} is no grant of the client alone")
        if "grant_type" in self.params:
            raise InvalidProvider("params.grant_type: write it into client_credentials.grant_type")


USERS_GRANTS = ("", "authorization_code", "password", "refresh_token")


@dataclass(frozen=True, kw_only=True)
class TokenResponse:
    """The token response: where its fields are, and what they mean (default: RFC 6749 section 5.1).

    ``path``: the list of keys that leads to the token. ``path_optional``: a response without that path has
    the token at the top. ``other_entries``: names of entries of this site that read another token of the same
    response, each at its own ``path``. ``fields``: the RFC's name -> the provider's name.
    ``success_field`` must be true. ``error_field`` and ``error_description_field``: dotted paths. In all
    paths a number may be the index of a list. ``errors``: the provider's error code -> the RFC's (section
    5.2). A key "code: text" matches this code if the description begins with the text. ``http_400`` matches a
    400 without a code, and so on. A code of a success leads to "". ``wider_scopes``: granted scopes count
    that were not requested. ``scopes_ignore_case``: scopes that differ in case only are the same.
    ``lists_all_scopes``: a response that names scopes names every granted one, so a requested scope that it
    omits was refused.
    ``assumed_lifetime``: seconds until expiry, if the response has no ``expires_in``.
    ``expires_unit``: ``seconds`` from now, a point in time, or ``jwt`` for the ``exp`` of the access token.
    ``refresh_token_expires_in``: the name of the field, in ``refresh_token_expires_unit``.
    """

    path: tuple[str, ...] = ()
    path_optional: bool = False
    other_entries: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    success_field: str = ""
    error_field: str = "error"
    error_description_field: str = "error_description"
    errors: Mapping[str, str] = field(default_factory=dict)
    scope_separator: str = " "
    token_types: tuple[str, ...] = ("bearer",)
    token_type_required: bool = True
    wider_scopes: bool = False
    scopes_ignore_case: bool = False
    lists_all_scopes: bool = False
    expires_unit: Literal["seconds", "epoch_seconds", "epoch_milliseconds", "iso8601", "jwt"] = "seconds"
    refresh_token_expires_in: str = "refresh_token_expires_in"
    refresh_token_expires_unit: Moment = "seconds"
    assumed_lifetime: int | None = None

    def __post_init__(self) -> None:
        for name in self.fields:
            if name not in RESPONSE_FIELDS:
                allowed = ", ".join(RESPONSE_FIELDS)
                raise InvalidProvider(f"fields.{name}: not a field of a token response ({allowed})")
        for name in ("error_field", "error_description_field"):
            check_paths(name, filter(None, [getattr(self, name)]))
        check_keys("path", self.path)
        if self.other_entries and self.path:
            raise InvalidProvider(
                "other_entries: belongs in the entry whose token is at the top of the response"
            )

    def name_of(self, parameter: str) -> str:
        return self.fields.get(parameter, parameter)


ENDED_ERRORS = (
    "invalid_grant",  # RFC 6749 section 5.2
    "interaction_required",  # OpenID Connect Core section 3.1.2.6
    "login_required",
    "consent_required",
    "invalid_token",  # RFC 6750 section 3.1
)
RESPONSE_FIELDS = ("access_token", "refresh_token", "token_type", "scope", "expires_in")


@dataclass(frozen=True, kw_only=True)
class Refresh:
    """Refresh tokens and how the provider treats them. A spent one still works for ``grace_seconds``.

    ``style``: ``exchange_access_token`` if there are no refresh tokens. A valid access token is then
    exchanged for a newer one, as the parameter ``exchange_parameter`` of the grant ``exchange_grant_type``.
    ``first_endpoint`` and ``first_grant_type``: the same for the token of a code, where they differ.
    ``method``: with GET the parameters are in the query. ``authentication``: the default is the method of the
    token endpoint.
    ``expected``: whether the first token response contains a refresh token.
    ``lifetime_seconds``: an unused refresh token expires after this time. ``absolute_seconds``: every refresh
    token expires after this time, counted from the user's consent. ``ended_errors``: the error codes for a
    grant that has ended, with any status. ``at_once``: the maximum number of token requests that a bulk
    refresh has in flight at this provider. 0 means no extra limit.
    """

    style: Literal["grant", "exchange_access_token", "none"] = "grant"
    endpoint: str = ""
    method: Method | None = None
    authentication: ClientAuthentication | None = None
    exchange_grant_type: str = ""
    exchange_parameter: str = ""
    first_endpoint: str = ""
    first_grant_type: str = ""
    expected: Literal["always", "conditional", "never"] = "conditional"
    rotation: Literal["always", "sometimes", "never", "unknown"] = "unknown"
    ended_errors: tuple[str, ...] = ENDED_ERRORS
    grace_seconds: int = 0
    lifetime_seconds: int | None = None
    absolute_seconds: int | None = None
    at_once: int = 0

    def __post_init__(self) -> None:
        if self.style == "exchange_access_token":
            for name in ("exchange_grant_type", "exchange_parameter"):
                if not getattr(self, name):
                    raise InvalidProvider(f"{name}: missing; the style {self.style!r} needs it")
        else:
            for name in ("first_endpoint", "first_grant_type"):
                if getattr(self, name):
                    raise InvalidProvider(f"{name}: only the style exchange_access_token uses it")


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The connected account. ``id`` and ``label`` list dotted paths. The first path with a value is used.

    A number in a path may be the index of a list: ``data.0.id``. Paths joined by ``+`` make one id of several
    parts, which must all have a value. ``id`` must be a value that the account's owner cannot change.
    ``introspection``: introspection_endpoint names the account (RFC 7662). ``method`` and ``headers`` are for
    userinfo_endpoint. So are ``scheme``, if its token has another one than ``api.scheme``, and ``json``: the
    fields of the body, for example the ``query`` of GraphQL.
    """

    source: Literal["userinfo", "introspection", "id_token", "token_response", "callback", "none"] | None = (
        None
    )
    method: Literal["GET", "POST"] = "GET"
    scheme: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, str] = field(default_factory=dict)
    id: tuple[str, ...] = ("sub", "id")
    label: tuple[str, ...] = ("name", "preferred_username", "email", "login")

    def __post_init__(self) -> None:
        check_paths("id", self.id)
        check_paths("label", self.label)
        check_scheme("scheme", self.scheme or "")
        if self.json and self.method != "POST":
            raise InvalidProvider('json: needs identity.method = "POST"')


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """A second request, which lists what a token can access (sites, tenants). One entry sets a variable.

    ``endpoint`` returns a list, or an object with the list at ``path`` (keys). The entry's ``id`` is the
    value of ``variable``. ``variables``: further variables -> their dotted paths in the same entry.
    ``choose``: the id, name or URL (any of ``match``) of the entry to use. Without it the first entry is
    used in which the value at the dotted path ``preferred`` is true, or else the first.
    """

    endpoint: str = ""
    variable: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    preferred: str = ""
    path: tuple[str, ...] = ()
    id: str = "id"
    match: tuple[str, ...] = ("id", "name", "url")
    choose: str = ""

    def __post_init__(self) -> None:
        if self.endpoint and not self.variable:
            raise InvalidProvider("variable: missing; name the variable that this request sets")
        check_paths("id", [self.id])
        check_paths("variables", self.variables.values())
        check_paths("preferred", [self.preferred] if self.preferred else [])
        check_paths("match", self.match)
        check_keys("path", self.path)


@dataclass(frozen=True, kw_only=True)
class Api:
    """API requests: the header and scheme of the token (default: RFC 6750 section 2.1)."""

    header: str = "Authorization"
    scheme: str = "Bearer"
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_scheme("scheme", self.scheme)


def check_scheme(field: str, scheme: str) -> None:
    """Refuse a scheme that no header can have: the library's error would show it with the secret after it."""
    if not scheme.isprintable():
        raise InvalidProvider(f"{field}: must not contain unprintable characters")


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """Revocation: its request and its effect (default: RFC 7009).

    ``style``: with ``bearer`` the token itself is the only credential, and with ``none`` no request is sent.
    ``token_parameter``: empty if no parameter holds the token. A ``bearer`` request has ``params`` alone, in
    which ``{token}`` is the token. ``authentication``: the default is the method of the token endpoint. With
    ``client_secret_header`` the secret follows ``secret_scheme`` in the header Authorization. ``effect``: it
    ends this ``token``, the whole ``grant`` (every token of this client and account), or everything of the
    ``account``. ``page``: the URL at which the provider's users withdraw access, or read how.
    """

    style: Literal["rfc7009", "bearer", "none"] = "rfc7009"
    method: Literal["POST", "DELETE"] = "POST"
    body: Body = "form"
    token_parameter: str = "token"
    params: Mapping[str, str] = field(default_factory=dict)
    authentication: RevocationAuthentication | None = None
    secret_scheme: str = "Bearer"
    token: Literal["refresh_token", "access_token"] = "refresh_token"
    effect: Literal["token", "grant", "account"] = "grant"
    page: str = ""

    def __post_init__(self) -> None:
        check_scheme("secret_scheme", self.secret_scheme)
        if self.page and not self.page.startswith("https://"):
            raise InvalidProvider("page: must be an https URL")


@dataclass(frozen=True, kw_only=True)
class Device:
    """The device flow (RFC 8628). ``params`` are added to the device authorization request.

    ``scope_parameter``: its parameter for scopes, if ``authorize.scope_parameter`` is not meant.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    scope_parameter: str = ""


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
    ``token_response``, ``identity`` (the document that names the account) or ``accounts`` (the second
    request). ``field``: the callback parameter, or the dotted path in the document, that contains the value.
    The default is the variable's name. With ``config`` and ``user``, ``field`` is the callback parameter that
    must repeat the value. A value from the callback is the browser's word. In a host it needs choices, or a
    pattern that ends in the registrable domain. ``pattern`` is matched against the whole value. It must not
    allow a slash or a host without a dot. If it has a group, the group is the value, and it must match the
    pattern too. ``lowercase``: the value is put into lower case first, as for a host's name. ``example``:
    what a user may enter, shown with the form and in its errors.
    """

    source: Literal["config", "user", "callback", "token_response", "identity", "accounts"] = "config"
    pattern: str = ""
    choices: tuple[str, ...] = ()
    default: str = ""
    label: str = ""
    example: str = ""
    field: str = ""
    lowercase: bool = False

    def __post_init__(self) -> None:
        if not self.pattern and not self.choices:
            raise InvalidProvider("pattern: missing; give a pattern or choices")
        try:
            re.compile(self.pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidProvider(f"pattern: not a regular expression ({error})") from None
        if self.default and self.value_of(self.default) is None:
            raise InvalidProvider("default: does not match the pattern, or is not among the choices")
        if self.source in ("token_response", "identity"):
            check_paths("field", [self.field] if self.field else [])
        if self.example and self.value_of(self.example) is None:
            raise InvalidProvider("example: does not match the pattern, or is not among the choices")

    @property
    def is_late(self) -> bool:
        """Return whether the value comes from one of the provider's responses."""
        return self.source not in ("config", "user")

    def value_of(self, given: object) -> str | None:
        """Return the variable's value from input, or None if it does not match."""
        if not isinstance(given, str) or not given.isprintable():
            return None
        value = self._match(given.lower() if self.lowercase else given)
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
