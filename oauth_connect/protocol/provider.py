"""The definition of a provider: its endpoints under their RFC 8414 names, and its quirks in small tables.

All of it can be written in settings or in a preset file. The code here only checks and reads this data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, NoReturn, Self
from urllib.parse import quote

from oauth_connect.errors import ForbiddenDestination, InvalidProvider
from oauth_connect.protocol.definition import UNSET, build, function_at
from oauth_connect.protocol.net import destination
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.registrable import PLACEHOLDER, Endings, endings_of, fixes_domain, netloc
from oauth_connect.protocol.quirks import (
    Accounts,
    Api,
    Authorize,
    Callback,
    ClientAuthentication,
    ClientCredentials,
    Device,
    GrantType,
    Hooks,
    Identity,
    Refresh,
    Revocation,
    TokenRequest,
    TokenResponse,
    Variable,
)
from oauth_connect.protocol.templates import TABLES, check_placeholders, fill_table, fill_url, has_brace
from oauth_connect.tracebacks import methods_without_locals

ENDPOINTS = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "introspection_endpoint",
    "device_authorization_endpoint",
    "userinfo_endpoint",
)
# Further endpoints, in the tables of the entry.
NESTED_ENDPOINTS = (("refresh", "endpoint"), ("refresh", "first_endpoint"), ("accounts", "endpoint"))
TEMPLATED = (*ENDPOINTS, "issuer", "api_base_url")
MAX_RESOLVED = 256
# No variable has one of these names.
RESERVED = {
    "client_id": "the client's id",
    "token": "the token",
    **dict.fromkeys(("connection", "next", "scopes"), "a parameter of the connect page"),
}
_SLUG = re.compile("[-a-zA-Z0-9_]{1,100}")  # part of URLs
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


@methods_without_locals
@dataclass(frozen=True, kw_only=True)
class Provider:
    """One OAuth 2.0 authorization server, and this site's client there.

    ``scope_aliases``: a granted scope -> the scopes that it includes (another name of it, its parts).
    Raises InvalidProvider with the name of the field, if a value cannot work or is unsafe.
    """

    slug: str
    client_id: str = ""
    name: str = ""
    client_secret: Any = ""
    scopes: tuple[str, ...] = ()
    scope_aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    grant_types: tuple[GrantType, ...] = ()
    enabled: bool = True
    one_account: bool = False
    documentation: str = ""
    environment: str = ""
    environments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

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
    callback: Callback = field(default_factory=Callback)
    token_request: TokenRequest = field(default_factory=TokenRequest)
    client_credentials: ClientCredentials = field(default_factory=ClientCredentials)
    token_response: TokenResponse = field(default_factory=TokenResponse)
    refresh: Refresh = field(default_factory=Refresh)
    identity: Identity = field(default_factory=Identity)
    accounts: Accounts = field(default_factory=Accounts)
    api: Api = field(default_factory=Api)
    revocation: Revocation = field(default_factory=Revocation)
    device: Device = field(default_factory=Device)
    hooks: Hooks = field(default_factory=Hooks)
    variables: Mapping[str, Variable] = field(default_factory=dict)

    _resolved: ClassVar[Any]

    def __repr__(self) -> str:
        # Parameters and headers may be secret too.
        return f"<{type(self).__name__} {self.slug}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Provider holds the client's secret and cannot be pickled, nor can an auth object or a token "
            "source with it. Pass the connection's pk, or the provider's slug."
        )

    @classmethod
    def from_mapping(cls, slug: str, data: Mapping[str, Any]) -> Self:
        """Return a provider built from plain data. Errors begin with ``slug.`` and the field's path."""
        provider: Self = build(cls, {**data, "slug": slug}, slug)
        return provider

    def __post_init__(self) -> None:
        self._check_slug()
        self._check_client()
        self._check_endpoints()
        self._check_discovery()
        self._check_scopes()
        self._check_hosts()
        self._check_variables()
        object.__setattr__(self, "_resolved", {})

    @property
    def guard(self) -> AddressGuard | None:
        """The guard of connections to endpoints, or None for any address. Those in settings are trusted."""
        return None

    @property
    def api_guard(self) -> AddressGuard | None:
        """The guard of connections to the API, or None for any address."""
        return None

    @property
    def has_several_servers(self) -> bool:
        """Return whether servers of different parties answer under this name, as the user chooses.

        One of them could send a response to a request that was for another (RFC 9700 section 4.4, mix-up).
        """
        endings = self._endings("user")
        urls = (self.authorization_endpoint, self.token_endpoint)
        return not all(fixes_domain(netloc(url), endings) for url in urls)

    @property
    def lets_others_choose_hosts(self) -> bool:
        """Return whether a user or a response decides the registrable domain of a URL that is requested.

        Such a URL could be one of this site's internal servers.
        """
        endings = self._endings("user", "callback", "token_response", "identity", "accounts")
        return not all(fixes_domain(host, endings) for host in self._requested_hosts)

    @property
    def named_hosts(self) -> frozenset[str]:
        """The hosts to which requests go, as far as the entry names them without a variable."""
        named = {host for host in self._requested_hosts if host and not has_brace(host) and "*" not in host}
        return frozenset(destination.origin_of(f"https://{host}").host for host in named)

    @property
    def _requested_hosts(self) -> list[str]:
        urls = (url for name, url in self._urls.items() if name not in ("authorization_endpoint", "issuer"))
        return [netloc(url) for url in (*urls, *self.api_hosts)]

    @property
    def needs_discovery(self) -> bool:
        """Return whether the endpoints must still be discovered from the issuer (RFC 8414)."""
        return bool(self.issuer) and not self.token_endpoint

    @property
    def connects_accounts(self) -> bool:
        """Return whether users can connect accounts, according to the settings."""
        has_endpoint = bool(self.authorization_endpoint or self.needs_discovery)
        return self.enabled and has_endpoint and self.allows("authorization_code")

    def allows(self, grant_type: GrantType) -> bool:
        """Return whether this client uses a grant (RFC 7591 section 2). Without ``grant_types``, any."""
        return not self.grant_types or grant_type in self.grant_types

    @property
    def label(self) -> str:
        return self.name or self.slug

    @property
    def client_authentication(self) -> ClientAuthentication:
        """The client's authentication method. The default is Basic with a secret (RFC 6749 section 2.3.1)."""
        if self.token_endpoint_auth_method is not None:
            return self.token_endpoint_auth_method
        return "client_secret_basic" if self.has_secret else "none"

    @property
    def has_secret(self) -> bool:
        return bool(self.client_secret or self.hooks.client_secret)

    @property
    def refresh_endpoint(self) -> str:
        return self.refresh.endpoint or self.token_endpoint

    @property
    def identity_source(self) -> str:
        if self.identity.source is not None:
            return self.identity.source
        return "userinfo" if self.userinfo_endpoint else "none"

    def proves(self, source: str) -> bool:
        """Return whether a value from this source is the provider's word.

        A parameter of the callback is the browser's word, unless the provider signs its callbacks.
        """
        return source != "callback" or self.callback.verify != "none"

    def secret(self) -> str:
        """Return the newest client secret. A callable is called each time, so it may read from a vault."""
        return self.secrets()[0]

    def secrets(self) -> Sequence[str]:
        """Return all client secrets that are valid now, newest first.

        Raises InvalidProvider if a function returned no secret. Errors of the function are raised too.
        """
        if self.hooks.client_secret:
            material = function_at(self.hooks.client_secret, f"{self.slug}.hooks.client_secret")(self)
        else:
            material = self.client_secret() if callable(self.client_secret) else self.client_secret
        found = (material,) if isinstance(material, str) else material
        if not isinstance(found, Sequence) or not found or not all(isinstance(one, str) for one in found):
            raise InvalidProvider(f"{self.slug}.client_secret: the function returned no secret")
        return tuple(found)

    def token_hosts(self) -> frozenset[tuple[str, int | None]]:
        """Return the (host, port) pairs that may receive a token. Port None is the scheme's default port.

        A host that still contains a variable is omitted.
        """
        return self._token_hosts

    @cached_property
    def _token_hosts(self) -> frozenset[tuple[str, int | None]]:
        if self.api_hosts:
            return destination.parse_hosts(host for host in self.api_hosts if not has_brace(host))
        if not self.api_base_url or has_brace(netloc(self.api_base_url)):
            return frozenset()
        origin = destination.origin_of(self.api_base_url)
        return frozenset({(origin.host, origin.port)})

    def value_of(self, name: str, given: object) -> str:
        """Return a variable's value from input. Raises InvalidProvider with the variable's path."""
        path = f"{self.slug}.variables.{name}"
        if name not in self.variables:
            raise InvalidProvider(f"{path}: the provider has no such variable")
        if given in ("", None) and self.variables[name].value_of("") is None:
            raise InvalidProvider(f"{path}: missing")
        value = self.variables[name].value_of(given)
        if value is None:
            raise InvalidProvider(
                f"{path}: the value does not match the pattern, or is not among the choices"
            )
        return value

    def asked_of(self, source: str) -> dict[str, Variable]:
        """Return the variables with this source."""
        return {name: one for name, one in self.variables.items() if one.source == source}

    def missing_variables(self) -> list[str]:
        """Return the names of the variables that only the settings can give a value, and that have none."""
        asked = self.asked_of("config").items()
        return [name for name, variable in asked if variable.value_of(variable.default) is None]

    def resolve(self, values: Mapping[str, Any]) -> Self:
        """Return the provider with its variables filled. Raises InvalidProvider for an invalid value.

        Variables that come from the provider's responses may still be missing. Their placeholders remain.
        """
        chosen = {}
        for name, variable in self.variables.items():
            given = values.get(name) or variable.default
            if given or not variable.is_late:
                chosen[name] = self.value_of(name, given)
        if not self._is_template:
            return self
        key = tuple(sorted(chosen.items()))
        if key not in self._resolved:
            if len(self._resolved) >= MAX_RESOLVED:
                self._resolved.clear()
            self._resolved[key] = self._filled({**chosen, "client_id": quote(self.client_id, safe="")})
        found: Self = self._resolved[key]
        return found

    def resolve_with_client(self, values: Mapping[str, Any]) -> Self:
        """Return the resolved provider with the client that ``register_client`` returns, if it is set."""
        resolved = self.resolve(values)
        if not self.hooks.register_client:
            return resolved
        path = f"{self.slug}.hooks.register_client"
        client = function_at(self.hooks.register_client, path)(resolved, dict(values))
        if not isinstance(client, Mapping) or not client.get("client_id"):
            raise InvalidProvider(f"{path}: returned no client_id")
        if unknown := set(client) - {"client_id", "client_secret"}:
            raise InvalidProvider(f"{path}: returned {min(map(str, unknown))!r}, which is not used")
        return replace(resolved, hooks=replace(self.hooks, register_client=""), **client)

    def check_hooks(self) -> None:
        """Import the hooks. Raises InvalidProvider with the path of a hook that cannot be imported."""
        for name in ("client_secret", "register_client"):
            if hook := getattr(self.hooks, name):
                function_at(hook, f"{self.slug}.hooks.{name}")

    @cached_property
    def _is_template(self) -> bool:
        in_tables = [text for table in self._tables.values() for text in table.values()]
        return any(PLACEHOLDER.search(text) for text in (*self._urls.values(), *self.api_hosts, *in_tables))

    @property
    def _urls(self) -> dict[str, str]:
        """The URLs by the paths of their fields."""
        nested = {f"{part}.{name}": getattr(getattr(self, part), name) for part, name in NESTED_ENDPOINTS}
        return {**{name: getattr(self, name) for name in TEMPLATED}, **nested}

    @property
    def _tables(self) -> dict[str, Mapping[str, str]]:
        """The parameters and headers that may have variables, by the paths of their fields."""
        return {f"{part}.{name}": getattr(getattr(self, part), name) for part, name in TABLES}

    def _filled(self, chosen: Mapping[str, str]) -> Self:
        urls = {name: fill_url(f"{self.slug}.{name}", url, chosen) for name, url in self._urls.items()}
        filled: dict[str, Any] = {name: urls[name] for name in TEMPLATED}
        for part, name in TABLES:
            quirks = filled.get(part, getattr(self, part))
            filled[part] = replace(quirks, **{name: fill_table(getattr(quirks, name), chosen)})
        filled["refresh"] = replace(
            self.refresh, endpoint=urls["refresh.endpoint"], first_endpoint=urls["refresh.first_endpoint"]
        )
        is_chosen = chosen.keys() >= {self.accounts.variable, *self.accounts.variables}
        endpoint = urls["accounts.endpoint"]
        filled["accounts"] = Accounts() if is_chosen else replace(self.accounts, endpoint=endpoint)
        filled["api_hosts"] = tuple(
            fill_url(f"{self.slug}.api_hosts", host, chosen) for host in self.api_hosts
        )
        missing = {name: variable for name, variable in self.variables.items() if name not in chosen}
        return replace(self, **filled, variables=missing)

    def _check_slug(self) -> None:
        if not _SLUG.fullmatch(self.slug):
            raise InvalidProvider(
                "slug: use only letters, digits, hyphens and underscores in a provider's name, "
                "at most 100 characters"
            )

    def _check_client(self) -> None:
        if not self.client_id and not self.hooks.register_client:
            raise InvalidProvider(
                f"client_id: missing; the provider issued it together with the secret. {UNSET}"
            )
        may_have_secret = self.has_secret or self.hooks.register_client
        for method in (self.token_endpoint_auth_method, self.refresh.authentication):
            if method not in (None, "none") and not may_have_secret:
                raise InvalidProvider(f"client_secret: missing, but {method} needs one. {UNSET}")
        methods = (self.client_authentication, self.revocation.authentication)
        if self.token_request.basic == "raw" and ":" in self.client_id and "client_secret_basic" in methods:
            raise InvalidProvider(
                "token_request.basic: raw cannot send a client_id with a colon (RFC 7617 section 2)"
            )
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
            raise InvalidProvider("token_endpoint: missing; set it, or set issuer for discovery")
        if self.authorization_response_iss_parameter_supported and not self.issuer:
            raise InvalidProvider("issuer: missing; authorization responses are compared with it")
        for name, url in self._urls.items():
            check_placeholders(name, url, self._sources)
            self._check_domain(name, url)
            plain = PLACEHOLDER.sub("variable", url)
            if has_brace(plain):
                raise InvalidProvider(f"{name}: has a brace that belongs to no variable")
            problem = url and destination.endpoint_problem(plain)
            if problem:
                raise InvalidProvider(f"{name}: {problem}")
        for path, table in self._tables.items():
            for text in table.values():
                check_placeholders(path, text, self._sources)

    def _check_domain(self, name: str, url: str) -> None:
        """Refuse a host whose owner the browser chooses, because codes, secrets and tokens are sent there."""
        if not fixes_domain(netloc(url), self._endings("callback")):
            raise InvalidProvider(
                f"{name}: the callback's variable decides the registrable domain, and anybody can write a "
                "callback. Let its pattern end in the domain, or list choices"
            )

    def _endings(self, *sources: str) -> dict[str, Endings]:
        """Return the possible endings of the values of variables with these sources."""
        found = ((name, one) for name, one in self.variables.items() if one.source in sources)
        return {name: endings_of(one.pattern, one.choices) for name, one in found}

    @property
    def _sources(self) -> dict[str, str]:
        return {name: variable.source for name, variable in self.variables.items()}

    def _check_discovery(self) -> None:
        if not self.needs_discovery:
            return
        if "?" in self.issuer or PLACEHOLDER.search(self.issuer):
            raise InvalidProvider("issuer: cannot be discovered, because it has a query or a variable")
        relaxed = self.authorization_response_iss_parameter_supported is False
        if relaxed and not self.authorize.without_iss_because:
            raise InvalidProvider(
                "authorize.without_iss_because: give a reason why responses need no iss, even if the server "
                "declares it; check --deploy shows the reason"
            )

    def _check_scopes(self) -> None:
        separators = {self.authorize.scope_separator, self.token_response.scope_separator}
        for path, scope in self._named_scopes():
            if not is_scope(scope) or any(one and one in scope for one in separators):
                raise InvalidProvider(
                    f"{path}: {scope!r} is not one scope; list each scope separately (RFC 6749 section 3.3)"
                )
        if self.identity_source == "id_token" and not (self.issuer and "openid" in self.scopes):
            raise InvalidProvider("identity.source: id_token needs issuer, and openid in scopes")
        if self.identity_source == "introspection" and not (self.issuer or self.introspection_endpoint):
            raise InvalidProvider("identity.source: introspection needs introspection_endpoint")

    def _named_scopes(self) -> Iterator[tuple[str, str]]:
        """Yield each scope in the entry with the path of its field."""
        yield from (("scopes", scope) for scope in self.scopes)
        for parameter, scopes in self.authorize.extra_scopes.items():
            yield from ((f"authorize.extra_scopes.{parameter}", scope) for scope in scopes)
        for scope, included in self.scope_aliases.items():
            yield from ((f"scope_aliases.{scope}", one) for one in (scope, *included))

    def _check_hosts(self) -> None:
        for host in self.api_hosts:
            check_placeholders("api_hosts", host, self._sources)
            self._check_domain("api_hosts", host)
        try:
            destination.parse_hosts(PLACEHOLDER.sub("variable", host) for host in self.api_hosts)
        except ForbiddenDestination as refused:
            raise InvalidProvider(f"api_hosts: {refused}") from None

    def _check_variables(self) -> None:
        if reserved := self.variables.keys() & RESERVED.keys():
            name = min(reserved)
            raise InvalidProvider(f"variables.{name}: this name is reserved for {RESERVED[name]}")
        without_document = ("callback",) if self.needs_discovery else ("callback", "none")
        if (named := self.asked_of("identity")) and self.identity_source in without_document:
            raise InvalidProvider(
                f"variables.{min(named)}.source: identity needs a document of the provider (identity.source)"
            )
        if self.accounts.endpoint and self.accounts.variable not in self.variables:
            raise InvalidProvider("accounts.variable: not among the provider's variables")
        for name in self.accounts.variables:
            if name not in self.variables:
                raise InvalidProvider(f"accounts.variables.{name}: not among the provider's variables")


def scope_tuple(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return scopes as a tuple. Raises TypeError for a string, because each letter would become a scope."""
    if isinstance(scopes, str):
        raise TypeError(f"scopes: pass a list such as [{scopes!r}], not a string.")
    return tuple(scopes)


def is_scope(value: object) -> bool:
    """Return whether a value is one scope (RFC 6749 section 3.3)."""
    return isinstance(value, str) and _SCOPE.fullmatch(value) is not None
