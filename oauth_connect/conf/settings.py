"""Reads OAUTH_CONNECT at each access, so that ``override_settings`` works. No other module reads them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.errors import ForbiddenDestination
from oauth_connect.protocol.definition import UNSET
from oauth_connect.protocol.net.destination import parse_hosts
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


@methods_without_locals
class Settings:
    """Typed access to ``settings.OAUTH_CONNECT``. Raises ImproperlyConfigured for wrong values."""

    def __init__(self) -> None:
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
    def entries(self) -> Mapping[str, Any]:
        """The entries of the providers in the settings, by their slugs."""
        value = self.mapping.get("PROVIDERS", {})
        if not isinstance(value, Mapping):
            raise ImproperlyConfigured('OAUTH_CONNECT["PROVIDERS"] must be a dict: slug -> entry.')
        return value

    @property
    def provider_slugs(self) -> tuple[str, ...]:
        """The slugs of the providers in the settings, in their order."""
        return tuple(self.entries)

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
