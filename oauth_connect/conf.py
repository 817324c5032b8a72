"""Reads OAUTH_CONNECT at each access, so that ``override_settings`` works. No other module reads them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured

from oauth_connect import presets
from oauth_connect.errors import CallError, ForbiddenDestination, InvalidProvider
from oauth_connect.issuers import Issuers, Terms
from oauth_connect.presets import untrusted
from oauth_connect.protocol.definition import UNSET, suggestion
from oauth_connect.protocol.metadata.discovery import GuardedProvider, Metadata
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.destination import is_loopback, origin_of, parse_hosts
from oauth_connect.protocol.provider import Provider
from oauth_connect.site_origin import NOT_SET, base_url_problem, may_use_request_host
from oauth_connect.tracebacks import methods_without_locals

KEY_HINT = (
    'Create one with: python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
)
MAX_DAYS = 36_500  # of any setting in days
KNOWN = frozenset(
    {
        "KEYS",
        "BASE_URL",
        "PROVIDERS",
        "PROVIDER_LOADER",
        "OWNER",
        "CONNECTION_STATE",
        "REFRESH_LEEWAY",
        "HTTP_TIMEOUT",
        "API_TIMEOUT",
        "DISCOVERY_CACHE",
        "DISCOVERY_PRIVATE_HOSTS",
        "RECORD_REDIRECTS",
        "HISTORY_DAYS",
        "REVOKED_DAYS",
    }
)
RESERVED = "api"  # no provider's name: below this path are the answers of the JSON API
CLIENT_AND_SERVER = ("client_id", "issuer", "token_endpoint")


class UnknownProvider(ImproperlyConfigured):
    """The settings contain no provider of that name."""


class InvalidLoadedEntry(ImproperlyConfigured):
    """PROVIDER_LOADER returned an entry that cannot be used. It may contain a user's text."""


class _Entry(dict[str, Any]):
    """An entry's values. Its ``repr`` shows names only: error pages print locals, and it has a secret."""

    def __repr__(self) -> str:
        return f"<entry: {', '.join(map(str, self))}>"


@dataclass(frozen=True, slots=True)
class _Declared:
    """A provider as its entry declares it. ``trusted``: the entry is in the settings, not from a loader."""

    entry: _Entry
    trusted: bool
    provider: Provider


@dataclass(frozen=True, slots=True)
class _Discovered:
    """A provider completed with its issuer's metadata, and the values it was built from."""

    declared: _Declared
    metadata: Metadata
    guard: AddressGuard
    provider: Provider


@methods_without_locals
class Conf:
    """Typed access to ``settings.OAUTH_CONNECT``. Raises ImproperlyConfigured for wrong values."""

    def __init__(self) -> None:
        self._declared_cache: dict[str, _Declared] = {}
        self._discovered_cache: dict[str, _Discovered] = {}
        self._issuers = Issuers()
        # Set by oauth_connect.testing while a fake provider is open. It takes what the settings say.
        self.overlay: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None

    @property
    def mapping(self) -> Mapping[str, Any]:
        value = getattr(settings, "OAUTH_CONNECT", {})
        if not isinstance(value, Mapping):
            raise ImproperlyConfigured("OAUTH_CONNECT must be a dict.")
        return value if self.overlay is None else self.overlay(value)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that seal tokens, newest first: ``KEYS``, or else ``FERNET_KEYS``. Never SECRET_KEY."""
        configured = self.mapping.get("KEYS") or getattr(settings, "FERNET_KEYS", None)
        if isinstance(configured, str | bytes) or not isinstance(configured, Sequence) or not configured:
            raise ImproperlyConfigured(
                f'Set OAUTH_CONNECT["KEYS"] to a list of keys, newest first. {KEY_HINT}'
            )
        return _ring_of(tuple(key if isinstance(key, str | bytes) else str(key or "") for key in configured))

    @property
    def base_url(self) -> str | Callable[[Any], str] | None:
        value = self.mapping.get("BASE_URL")
        return value if callable(value) or value is None else str(value)

    @property
    def refresh_leeway(self) -> timedelta:
        return timedelta(seconds=self._seconds("REFRESH_LEEWAY", 60))

    @property
    def http_timeout(self) -> float:
        """Seconds for a whole exchange with an authorization server."""
        return self._timeout("HTTP_TIMEOUT", 15)

    @property
    def api_timeout(self) -> float:
        """Seconds for each wait of an API call that passes no timeout."""
        return self._timeout("API_TIMEOUT", 30)

    @property
    def history_days(self) -> int | None:
        """Days for which the history of connections is kept. 0: none is written. None: for ever."""
        return self._days("HISTORY_DAYS", 365, "0 writes no history, None keeps it for ever")

    @property
    def revoked_days(self) -> int | None:
        """Days for which a row is kept after its connection is disconnected. None: for ever."""
        return self._days("REVOKED_DAYS", 365, "None keeps disconnected connections for ever")

    @property
    def discovery_private_hosts(self) -> frozenset[str]:
        """Private hosts that discovery and discovered endpoints may nevertheless use."""
        value = self.mapping.get("DISCOVERY_PRIVATE_HOSTS", ())
        wrong = ImproperlyConfigured(
            'OAUTH_CONNECT["DISCOVERY_PRIVATE_HOSTS"] must be a list of hosts, without scheme and port.'
        )
        if not isinstance(value, list | tuple) or not all(isinstance(host, str) for host in value):
            raise wrong
        try:
            hosts = parse_hosts(value)
        except ForbiddenDestination:
            raise wrong from None
        if any(port is not None for _, port in hosts):
            raise wrong
        return frozenset(host for host, _ in hosts)

    @property
    def record_redirects(self) -> frozenset[str]:
        """The slugs whose redirect URI names the owner's record. An entry cannot add one."""
        value = self.mapping.get("RECORD_REDIRECTS", ())
        if not isinstance(value, list | tuple) or not all(isinstance(slug, str) for slug in value):
            raise ImproperlyConfigured('OAUTH_CONNECT["RECORD_REDIRECTS"] must be a list of provider names.')
        return frozenset(value)

    @property
    def discovery_cache(self) -> BaseCache | None:
        """The cache in which processes share the metadata of issuers. None: each process fetches its own."""
        alias = self.mapping.get("DISCOVERY_CACHE", "default")
        if alias is None:
            return None
        if not isinstance(alias, str) or alias not in settings.CACHES:
            raise ImproperlyConfigured(
                'OAUTH_CONNECT["DISCOVERY_CACHE"] must be an alias in CACHES, or None.'
            )
        return caches[alias]

    @property
    def owner(self) -> Callable[[Any], Any] | None:
        value = self.mapping.get("OWNER")
        if value is not None and not callable(value):
            raise ImproperlyConfigured('OAUTH_CONNECT["OWNER"] must be a callable that takes the request.')
        return value

    @property
    def connection_state(self) -> tuple[Callable[[Any], Any], Callable[[Any, Any], object]] | None:
        """How to read the state of a database connection, and how to write it to another one."""
        value = self.mapping.get("CONNECTION_STATE")
        if value is None:
            return None
        if not isinstance(value, tuple | list) or len(value) != 2 or not all(map(callable, value)):
            raise ImproperlyConfigured(
                'OAUTH_CONNECT["CONNECTION_STATE"] must be two callables, (read, write): read(connection) '
                "returns a hashable value, and write(connection, value) writes it to another connection."
            )
        read, write = value
        return read, write

    @property
    def provider_slugs(self) -> tuple[str, ...]:
        """The slugs of the providers in the settings, in their order."""
        return tuple(self._providers)

    @property
    def provider_loader(self) -> Callable[[str, str], Mapping[str, Any] | None] | None:
        value = self.mapping.get("PROVIDER_LOADER")
        if value is not None and not callable(value):
            raise ImproperlyConfigured(
                'OAUTH_CONNECT["PROVIDER_LOADER"] must be a callable that takes a slug and an owner\'s key.'
            )
        return value

    @property
    def loads_providers(self) -> bool:
        """Whether the site has a PROVIDER_LOADER, which may query a database."""
        return self.provider_loader is not None

    def provider(self, slug: str, owner: str = "") -> Provider:
        """Return a provider by its slug. If its entry names an issuer and no endpoints, discover them.

        Raises UnknownProvider, or ImproperlyConfigured with the path. If discovery fails, raises
        ProviderUnavailable or ProviderMisconfigured.
        """
        declared = self._declared(slug, owner)
        return self._discovered(declared) if declared.provider.needs_discovery else declared.provider

    def declared_provider(self, slug: str, owner: str = "") -> Provider:
        """Return a provider as settings and preset declare it. Sends no request, so it suits pages and names.

        Fields that discovery would fill are missing. Raises UnknownProvider or ImproperlyConfigured.
        """
        return self._declared(slug, owner).provider

    def connectable_provider(self, slug: str, owner: str = "") -> Provider | None:
        """Return a provider as declared if users can connect accounts there, as far as is known, else None.

        Sends no request: metadata counts if this process or its cache has it. Raises as
        ``declared_provider``.
        """
        if slug == RESERVED:
            return None
        declared = self._declared(slug, owner)
        connects = declared.provider.connects_accounts and self._known(declared).connects_accounts
        return declared.provider if connects else None

    def other_entries(self, provider: Provider, owner: str = "") -> list[Provider]:
        """Return the entries that read another token of this provider's token response.

        Raises ImproperlyConfigured as ``check_other_entries`` does, and as ``provider``.
        """
        self.check_other_entries(provider, owner)
        return [self.provider(slug, owner) for slug in provider.token_response.other_entries]

    def check_other_entries(self, provider: Provider, owner: str = "") -> None:
        """Raise ImproperlyConfigured with the path if another entry cannot read a token. Sends no request."""
        path = f"{provider.slug}.token_response.other_entries"
        for slug in provider.token_response.other_entries:
            declared, other = (self.declared_provider(name, owner) for name in (provider.slug, slug))
            if not other.token_response.path:
                raise ImproperlyConfigured(f"{path}: {slug!r} has no token_response.path to its token")
            # Otherwise it could not refresh the token.
            same = all(getattr(declared, name) == getattr(other, name) for name in CLIENT_AND_SERVER)
            if not same:
                raise ImproperlyConfigured(f"{path}: {slug!r} has another {' or '.join(CLIENT_AND_SERVER)}")

    def has_one_client(self, slug: str) -> bool:
        """Return whether all connections of a provider use the same client at the same server."""
        return not self.loads_providers and not self.declared_provider(slug).variables

    def issuer_problem(self, slug: str) -> str:
        """Return why a provider in the settings cannot be discovered, or an empty string. Send no request."""
        declared = self._declared(slug, "")
        return self._issuer_problem(declared) if declared.provider.needs_discovery else ""

    def site_origin(self, request: Any) -> str:
        """Return scheme and host to which providers send users back.

        Never use the request's host, which a client can forge. The exceptions are DEBUG and tests, where
        BASE_URL may be missing.
        """
        configured = self.base_url
        if configured is None:
            if not may_use_request_host():
                raise ImproperlyConfigured(NOT_SET)
            return f"{request.scheme}://{request.get_host()}"
        url = configured(request) if callable(configured) else configured
        if problem := base_url_problem(url):
            raise ImproperlyConfigured(f'OAUTH_CONNECT["BASE_URL"] {problem}')
        return url.rstrip("/")

    @property
    def _providers(self) -> Mapping[str, Mapping[str, Any]]:
        value = self.mapping.get("PROVIDERS", {})
        if not isinstance(value, Mapping):
            raise ImproperlyConfigured('OAUTH_CONNECT["PROVIDERS"] must be a dict: slug -> entry.')
        return value

    def _declared(self, slug: str, owner: str) -> _Declared:
        entry, trusted = self._entry(slug, owner)
        cached = self._declared_cache.get(slug)
        if cached and cached.trusted is trusted and cached.entry == entry and self._is_current(cached):
            return cached
        declared = _Declared(_Entry(_copy(entry)), trusted, self._declare(slug, entry, trusted))
        self._declared_cache[slug] = declared
        return declared

    def _is_current(self, declared: _Declared) -> bool:
        """Return whether the settings still allow the same private hosts."""
        provider = declared.provider
        return provider.guard is None or provider.guard == self._declared_guard(provider, declared.trusted)

    def _declared_guard(self, provider: Provider, trusted: bool) -> AddressGuard:
        """Return the guard for hosts that others choose. Hosts that the settings name are allowed."""
        named = provider.named_hosts if trusted else frozenset()
        return AddressGuard(self.discovery_private_hosts | named)

    def _declare(self, slug: str, entry: _Entry, trusted: bool) -> Provider:
        """Return the provider of an entry, guarded if others than the settings name its hosts."""
        data = _Entry()
        try:
            data = self._data(slug, entry, trusted)
            provider = Provider.from_mapping(slug, data)
            if trusted and not provider.lets_others_choose_hosts:
                return provider
            guard = self._declared_guard(provider, trusted)
            if not trusted and provider.needs_discovery and (problem := guard.url_problem(provider.issuer)):
                raise InvalidProvider(f"{slug}.issuer: {problem}")
            own = {"addresses": guard, "from_loader": not trusted, "guards_api": True}
            return GuardedProvider.from_mapping(slug, {**data, **own})
        except InvalidProvider as error:
            problem = f"{error}{presets.overlooked(slug, data) if data else ''}"
        if trusted:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {problem}')
        raise InvalidLoadedEntry(f'OAUTH_CONNECT["PROVIDER_LOADER"]: {problem}')

    def _discovered(self, declared: _Declared) -> Provider:
        provider = declared.provider
        if problem := self._issuer_problem(declared):
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {provider.slug}.issuer: {problem}')
        guard = self._guard(declared)
        metadata = self._issuers.metadata(provider.issuer, self._terms(guard))
        return self._completed(declared, metadata, guard)

    def _known(self, declared: _Declared) -> Provider:
        """Return a provider, completed if its metadata is known and fits. Sends no request."""
        provider = declared.provider
        if not provider.needs_discovery or self._issuer_problem(declared):
            return provider
        guard = self._guard(declared)
        metadata = self._issuers.known(provider.issuer, self._terms(guard))
        if metadata is None:
            return provider
        try:
            return self._completed(declared, metadata, guard)
        except (CallError, InvalidProvider, ImproperlyConfigured):  # connecting says what is wrong
            return provider

    def _terms(self, guard: AddressGuard) -> Terms:
        return Terms(guard, self.http_timeout, self.discovery_cache)

    def _completed(self, declared: _Declared, metadata: Metadata, guard: AddressGuard) -> Provider:
        slug = declared.provider.slug
        cached = self._discovered_cache.get(slug)
        if cached and cached.declared is declared and cached.metadata is metadata and cached.guard == guard:
            return cached.provider
        completed = self._complete(declared, metadata, guard)
        self._discovered_cache[slug] = _Discovered(declared, metadata, guard, completed)
        return completed

    def _complete(self, declared: _Declared, metadata: Metadata, guard: AddressGuard) -> Provider:
        slug = declared.provider.slug
        fields = metadata.fields_for(declared.provider)
        data = _Entry(presets.merge(fields, self._data(slug, declared.entry, declared.trusted)))
        guards_api = declared.provider.api_guard is not None
        own = {"addresses": guard, "from_loader": not declared.trusted, "guards_api": guards_api}
        try:
            return GuardedProvider.from_mapping(slug, {**data, **own})
        except InvalidProvider as error:
            problem = str(error)
        # Raised outside of the handler: no frame of the traceback then holds the secret.
        if declared.trusted:
            raise InvalidProvider(problem)
        raise InvalidLoadedEntry(f'OAUTH_CONNECT["PROVIDER_LOADER"]: {problem}')

    def _issuer_problem(self, declared: _Declared) -> str:
        return self._guard(declared).url_problem(declared.provider.issuer)

    def _guard(self, declared: _Declared) -> AddressGuard:
        """Return the guard of a provider. An issuer on this machine is allowed if the settings name it."""
        if not declared.trusted:
            return AddressGuard(self.discovery_private_hosts)
        host = origin_of(declared.provider.issuer).host
        local = {host} if is_loopback(host) else frozenset()
        return AddressGuard(self.discovery_private_hosts | local)

    def _entry(self, slug: str, owner: str) -> tuple[_Entry, bool]:
        """Return an entry, and whether it is in the settings. A loader's entry may contain a user's input."""
        if not isinstance(slug, str):
            raise TypeError(
                f"A provider is given by its name in the settings, not by a {type(slug).__name__}."
            )
        loader = self.provider_loader
        entry: Any = loader(slug, owner) if loader is not None else None
        trusted = entry is None
        if entry is None and slug in self._providers:
            entry = self._providers[slug]
        elif entry is None:
            slugs = ", ".join(map(repr, self._providers)) or "none yet"
            raise UnknownProvider(
                f'No provider {slug!r} in OAUTH_CONNECT["PROVIDERS"] (it has: {slugs})'
                f"{suggestion(slug, self._providers) or '.'} Add it, or correct the name."
            )
        if not isinstance(entry, Mapping):
            if not trusted:
                raise InvalidLoadedEntry('OAUTH_CONNECT["PROVIDER_LOADER"] must return a dict or None.')
            raise ImproperlyConfigured(
                f'OAUTH_CONNECT["PROVIDERS"][{slug!r}] must be a dict, not {type(entry).__name__}.'
            )
        return _Entry(entry), trusted

    def _data(self, slug: str, entry: _Entry, trusted: bool) -> _Entry:
        """Return an entry composed with its preset. Raises InvalidProvider with the path."""
        data = _Entry(entry)
        named = data.pop("preset", slug)
        try:
            if not trusted:
                untrusted.check_preset(named)
            preset = presets.read(named)
            if preset is None and "preset" in entry:
                raise InvalidProvider(f"preset: {presets.missing(named)}")
            whole = _Entry(presets.compose(preset or {}, data))
            if not trusted:
                untrusted.check(data, preset or {}, whole)
            return whole
        except InvalidProvider as error:
            problem = str(error)
        raise InvalidProvider(f"{slug}.{problem}")

    def _days(self, name: str, default: int, special: str) -> int | None:
        value = self.mapping.get(name, default)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_DAYS:
            raise ImproperlyConfigured(
                f'OAUTH_CONNECT["{name}"] must be a whole number of days, at most {MAX_DAYS}; {special}.'
            )
        return value

    def _seconds(self, name: str, default: float) -> float:
        value = self.mapping.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["{name}"] must be a number of seconds.')
        return float(value)

    def _timeout(self, name: str, default: float) -> float:
        seconds = self._seconds(name, default)
        if not seconds:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["{name}"] must be more than 0 seconds.')
        return seconds


def names_a_key(mapping: Mapping[str, Any]) -> bool:
    """Return whether the settings name a key. An empty one is that of a missing environment variable."""
    configured = mapping.get("KEYS") or getattr(settings, "FERNET_KEYS", None)
    return any(configured) if isinstance(configured, list | tuple) else bool(configured)


def _copy(value: Any) -> Any:
    """Copy the containers of an entry, so that a later change of it is noticed.

    Other values stay the same. A callable for a secret may belong to an object that cannot be copied.
    """
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


@lru_cache(maxsize=8)
def _ring_of(configured: tuple[str | bytes, ...]) -> tuple[bytes, ...]:
    """Return the keys in the form that ``cryptography`` takes. Cached, because every token needs them."""
    return tuple(_key(number, key) for number, key in enumerate(configured))


def _key(number: int, key: str | bytes) -> bytes:
    try:
        raw = base64.b64decode(key, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not key:
        raise ImproperlyConfigured(f'OAUTH_CONNECT["KEYS"][{number}] is empty. {UNSET} {KEY_HINT}')
    if len(raw) != 32:
        raise ImproperlyConfigured(
            f'OAUTH_CONNECT["KEYS"][{number}] is not 32 bytes in urlsafe base64. {KEY_HINT}'
        )
    return base64.urlsafe_b64encode(raw)


conf = Conf()
