"""The one place that reads settings; at each access, so that ``override_settings`` works."""

from __future__ import annotations

import base64
import binascii
import copy
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from oauth_connect import presets
from oauth_connect.errors import ForbiddenDestination, InvalidProvider
from oauth_connect.protocol.destination import origin_of
from oauth_connect.protocol.provider import Provider

KEY_HINT = (
    'Make one with: python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
)
KNOWN = frozenset(
    {
        "KEYS",
        "BASE_URL",
        "PROVIDERS",
        "PROVIDER_LOADER",
        "OWNER",
        "REFRESH_LEEWAY",
        "HTTP_TIMEOUT",
        "API_TIMEOUT",
    }
)


class UnknownProvider(ImproperlyConfigured):
    """No such provider in the settings."""


class Conf:
    """Typed access to ``settings.OAUTH_CONNECT``. Raises ImproperlyConfigured for what cannot work."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[Mapping[str, Any], Provider]] = {}

    @property
    def mapping(self) -> Mapping[str, Any]:
        found = getattr(settings, "OAUTH_CONNECT", {})
        if not isinstance(found, Mapping):
            raise ImproperlyConfigured("OAUTH_CONNECT must be a dict.")
        return found

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that seal tokens, newest first: ``KEYS``, else ``FERNET_KEYS``; never SECRET_KEY."""
        configured = self.mapping.get("KEYS") or getattr(settings, "FERNET_KEYS", None)
        if isinstance(configured, str | bytes) or not isinstance(configured, Sequence) or not configured:
            raise ImproperlyConfigured(
                f'Set OAUTH_CONNECT["KEYS"] to a list of keys, newest first. {KEY_HINT}'
            )
        return tuple(self._key(number, key) for number, key in enumerate(configured))

    @property
    def base_url(self) -> str | Callable[[Any], str] | None:
        found = self.mapping.get("BASE_URL")
        return found if callable(found) or found is None else str(found)

    @property
    def refresh_leeway(self) -> timedelta:
        return timedelta(seconds=self._seconds("REFRESH_LEEWAY", 60))

    @property
    def http_timeout(self) -> float:
        """Seconds for one whole exchange with an authorization server."""
        return self._seconds("HTTP_TIMEOUT", 15)

    @property
    def api_timeout(self) -> float:
        """Seconds for each wait of an API call that names no time-out of its own."""
        return self._seconds("API_TIMEOUT", 30)

    @property
    def owner(self) -> Callable[[Any], Any] | None:
        found = self.mapping.get("OWNER")
        if found is not None and not callable(found):
            raise ImproperlyConfigured('OAUTH_CONNECT["OWNER"] must be a callable that takes the request.')
        return found

    @property
    def provider_slugs(self) -> tuple[str, ...]:
        """The providers that the settings list, in their order."""
        return tuple(self._providers)

    def provider(self, slug: str, owner: str = "") -> Provider:
        """Return a provider by its name. Raises UnknownProvider, or ImproperlyConfigured with the path."""
        entry = self._entry(slug, owner)
        cached = self._built.get(slug)
        if cached is not None and cached[0] == entry:
            return cached[1]
        provider = self._build(slug, entry)
        self._built[slug] = (copy.deepcopy(dict(entry)), provider)
        return provider

    def site_origin(self, request: Any) -> str:
        """Return scheme and host under which providers send users back; never from the Host header.

        Only under DEBUG, without BASE_URL, the request's own host is taken.
        """
        configured = self.base_url
        if configured is None:
            if not settings.DEBUG:
                raise ImproperlyConfigured(
                    'Set OAUTH_CONNECT["BASE_URL"], for instance "https://app.example".'
                )
            return f"{request.scheme}://{request.get_host()}"
        url = configured(request) if callable(configured) else configured
        if problem := base_url_problem(url):
            raise ImproperlyConfigured(f'OAUTH_CONNECT["BASE_URL"]: {problem}')
        return url.rstrip("/")

    @property
    def _providers(self) -> Mapping[str, Mapping[str, Any]]:
        found = self.mapping.get("PROVIDERS", {})
        if not isinstance(found, Mapping):
            raise ImproperlyConfigured('OAUTH_CONNECT["PROVIDERS"] must be a dict: name -> settings.')
        return found

    def _entry(self, slug: str, owner: str) -> Mapping[str, Any]:
        loader = self.mapping.get("PROVIDER_LOADER")
        entry = loader(slug, owner) if loader is not None else None
        if entry is None:
            entry = self._providers.get(slug)
        if entry is None:
            known = ", ".join(map(repr, self._providers)) or "none yet"
            raise UnknownProvider(
                f'No provider {slug!r} in OAUTH_CONNECT["PROVIDERS"] (there: {known}). '
                "Add it, or mend the name."
            )
        if not isinstance(entry, Mapping):
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"][{slug!r}] must be a dict.')
        return entry

    def _build(self, slug: str, entry: Mapping[str, Any]) -> Provider:
        data = dict(entry)
        named = data.pop("preset", slug)
        try:
            preset = presets.read(named)
            if preset is None and "preset" in entry:
                raise InvalidProvider(f"preset: there is no preset {named!r}")
            composed = presets.compose(preset or {}, data)
        except InvalidProvider as error:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {slug}.{error}') from None
        try:
            return Provider.from_mapping(slug, composed)
        except InvalidProvider as error:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {error}') from None

    def _key(self, number: int, key: Any) -> bytes:
        try:
            raw = base64.b64decode(key, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError, TypeError):
            raw = b""
        if len(raw) != 32:
            raise ImproperlyConfigured(
                f'OAUTH_CONNECT["KEYS"][{number}] is not 32 bytes in urlsafe base64. {KEY_HINT}'
            )
        return base64.urlsafe_b64encode(raw)

    def _seconds(self, name: str, default: float) -> float:
        value = self.mapping.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ImproperlyConfigured(f'OAUTH_CONNECT["{name}"] must be a number of seconds.')
        return float(value)


def base_url_problem(url: object) -> str:
    """Say why a URL cannot be BASE_URL; empty when it can."""
    if not isinstance(url, str):
        return 'must be a string such as "https://app.example", or a callable that takes the request.'
    try:
        origin = origin_of(url)
    except ForbiddenDestination as refused:
        return str(refused)
    if not origin.is_trustworthy:
        return "must be https; http is for loopback addresses only (RFC 9700 section 2.6)."
    if url.rstrip("/").count("/") > 2 or "?" in url or "#" in url:
        return "must be scheme and host only; paths come from your URLconf."
    return ""


conf = Conf()
