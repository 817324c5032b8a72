"""The settings of this package while fake providers are open.

They are an overlay over OAUTH_CONNECT, which ``conf`` applies at each access. So ``override_settings`` works
inside and outside of an open fake provider, in any order, and nothing is restored in a wrong order.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from oauth_connect import presets
from oauth_connect.conf import conf, names_a_key
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.definition import suggestion
from oauth_connect.protocol.provider import Provider
from oauth_connect.site_origin import may_use_request_host
from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.server import ENDPOINTS as CAN_FAIL
from oauth_connect.testing.server import FakeServer, shapes
from oauth_connect.testing.server.rules import CLIENT_ID, CLIENT_SECRET
from oauth_connect.testing.server.settings_entry import (
    endpoints_for,
    missing_variables,
    nested_endpoints_for,
)

HOST = "127.0.0.1"
KEY = base64.urlsafe_b64encode(os.urandom(32)).decode()  # for a site without keys
# Seconds, while an endpoint is to time out: a test must not wait for the site's own time limits.
TIMEOUT = 1
TIMEOUTS = {"HTTP_TIMEOUT": tuple(one for one in CAN_FAIL if one != "api"), "API_TIMEOUT": ("api",)}
NO_SECRET = (None, "none")


@dataclass(eq=False)
class Entry:
    """The entry of a fake provider: what the site's settings say, with the addresses of the fake.

    ``own``: values that override the site's. ``where``: the line that opened the fake, for messages.
    ``others``: the entries that read another token of the same response, which ``is_other`` in them.
    """

    slug: str
    server: FakeServer
    own: Mapping[str, Any]
    keep_api: bool
    where: str
    is_other: bool = False
    others: Sequence[Entry] = ()
    _made: tuple[Mapping[str, Any] | None, dict[str, Any]] | None = field(default=None, repr=False)

    def of(self, site: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the entry for what PROVIDERS has under this name, or None. The server behaves like it."""
        if self._made is None or self._made[0] != site:
            self._made = (None if site is None else {**site}, self._make(site))
        return self._made[1]

    def of_loaded(self, loaded: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same for an entry of PROVIDER_LOADER. It cannot have an issuer and other endpoints."""
        given = presets.merge(loaded, self.own)
        no_issuer = {"issuer": "", "authorization_response_iss_parameter_supported": False}
        # The server knows one client.
        changed = {**self._at_the_fake(given), **no_issuer, "client_id": CLIENT_ID}
        if _table(self._composed(given), "identity").get("source") == "id_token":
            changed["identity"] = {"source": "userinfo"}
        changed.pop("hooks", None)
        return self._served(presets.merge(given, changed))

    def _make(self, site: Mapping[str, Any] | None) -> dict[str, Any]:
        # None: the value of a missing environment variable.
        present = {name: value for name, value in (site or {}).items() if value is not None}
        given = presets.merge(present, self.own)
        return self._served(presets.merge(given, self._at_the_fake(given)))

    def _served(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry with what only its provider knows, and let the server behave like it."""
        try:
            entry = presets.merge(entry, self._completed(self._provider(entry)))
            self._serve(self._provider(entry))
        except InvalidProvider:  # conf raises the same, with the path of the wrong field
            if not self.is_other:
                self.server.serve(None)
        return entry

    def _serve(self, provider: Provider) -> None:
        if self.is_other:
            self.server.serve_other(provider)
            return
        self.server.serve(provider)
        self.others = [
            Entry(slug, self.server, {}, self.keep_api, self.where, is_other=True)
            for slug in provider.token_response.other_entries
        ]

    def _provider(self, entry: Mapping[str, Any]) -> Provider:
        return Provider.from_mapping(self.slug, self._composed(entry))

    def _completed(self, provider: Provider) -> dict[str, Any]:
        """Return values for variables that the settings leave empty, and what a callback must repeat."""
        values = {name: {"default": value} for name, value in missing_variables(provider).items()}
        changed: dict[str, Any] = {"variables": values} if values else {}
        if query := shapes.authorization_query(provider):
            changed["authorization_endpoint"] = f"{provider.authorization_endpoint}{query}"
        return changed

    def _composed(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry with what its preset says, as ``conf`` composes them."""
        preset = presets.read(entry.get("preset", self.slug)) or {}
        return presets.compose(preset, {key: value for key, value in entry.items() if key != "preset"})

    def _at_the_fake(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that differ from the site's: addresses, and what the site lacks."""
        try:
            whole = self._composed(given)
        except InvalidProvider:  # conf raises the same
            whole = dict(given)
        nested = nested_endpoints_for(self.server, whole)
        changed: dict[str, Any] = {**self._endpoints(whole), **_client(whole), **nested}
        if not (self.keep_api and whole.get("api_base_url")):
            changed |= {"api_base_url": self.server.api_base_url, "api_hosts": []}
        return changed

    def _endpoints(self, whole: Mapping[str, Any]) -> dict[str, Any]:
        """Return the endpoints that the provider has. Without a token endpoint of its own, it has all."""
        if whole.get("token_endpoint"):
            return endpoints_for(self.server, whole)
        return {"authorization_response_iss_parameter_supported": True, **self.server.endpoints()}


def _client(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the client where the site has none: variables of its environment may be missing in a test.

    A function for the secret is replaced, and hooks that sign one or register a client: they need keys, or
    another server.
    """
    hooks = _table(whole, "hooks")
    changed: dict[str, Any] = {"hooks": dict.fromkeys(hooks, "")} if hooks else {}
    if not whole.get("client_id"):
        changed["client_id"] = CLIENT_ID
    secret = whole.get("client_secret")
    if _needs_secret(whole) and (callable(secret) or not _has_secret(secret)):
        changed["client_secret"] = CLIENT_SECRET
    return changed


def _needs_secret(whole: Mapping[str, Any]) -> bool:
    """Return whether the client has a secret. Without ``client_secret`` in the entry it is a public one."""
    if any(_table(whole, "hooks").values()) or _table(whole, "callback").get("verify"):
        return True
    method = whole.get("token_endpoint_auth_method")
    if method is None:
        return "client_secret" in whole or not whole.get("client_id")
    methods = (method, *(_table(whole, part).get("authentication") for part in ("refresh", "revocation")))
    return any(one not in NO_SECRET for one in methods)


def _has_secret(secret: Any) -> bool:
    return any(secret) if isinstance(secret, Sequence) and not isinstance(secret, str) else bool(secret)


def _table(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = data.get(name)
    return value if isinstance(value, Mapping) else {}


_open: dict[str, Entry] = {}
_lock = threading.Lock()


def check_name(name: str) -> None:
    """Raise FakeProviderError for a name that nobody knows, if it is similar to a known one.

    Nothing is known of the names of a PROVIDER_LOADER.
    """
    known = {*conf.provider_slugs, *presets.names(), *presets.installed()}
    if conf.loads_providers or name in known:
        return
    if similar := suggestion(name, known):
        raise FakeProviderError(
            f"{name!r} is neither in PROVIDERS nor a preset{similar} If the name is right, pass an entry: "
            f"FakeProvider({name!r}, entry={{}}) is a plain provider that only the test knows."
        )


def install(entry: Entry) -> None:
    """Let the site use a fake provider. Raises FakeProviderError if one of this name is open."""
    with _lock:
        if other := _open.get(entry.slug):
            raise FakeProviderError(
                f"A fake provider {entry.slug!r} is open already, since {other.where}. Close it first, or "
                f'open the second one under another name, with entry={{"preset": {entry.slug!r}}}.'
            )
        _open[entry.slug] = entry
        conf.overlay = _overlay


def remove(entry: Entry) -> None:
    """Let the site use its own settings. The order in which fake providers are closed does not matter."""
    with _lock:
        if _open.get(entry.slug) is entry:
            del _open[entry.slug]
        if not _open:
            conf.overlay = None


def _overlay(site: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the site with the open fake providers."""
    return {**site, **_needed(site), **_providers(site), **_timeouts()}


def _needed(site: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every site needs and this one lacks."""
    needed: dict[str, Any] = {}
    if not names_a_key(site):
        needed["KEYS"] = [KEY]
    if not site.get("BASE_URL"):
        needed["BASE_URL"] = None if may_use_request_host() else f"http://{HOST}"
    return needed


def _providers(site: Mapping[str, Any]) -> dict[str, Any]:
    providers = site.get("PROVIDERS", {})
    if not isinstance(providers, Mapping):  # conf says what is wrong
        return {}
    opened = {one.slug: one.of(providers.get(one.slug)) for one in open_entries()}
    others = [other for one in open_entries() for other in one.others if other.slug in providers]
    at_the_fake = {other.slug: other.of(providers[other.slug]) for other in others}
    changed: dict[str, Any] = {"PROVIDERS": {**providers, **at_the_fake, **opened}}
    loader = site.get("PROVIDER_LOADER")
    if callable(loader):
        hosts = [*site.get("DISCOVERY_PRIVATE_HOSTS", ()), HOST]
        changed |= {"PROVIDER_LOADER": partial(_load, loader), "DISCOVERY_PRIVATE_HOSTS": hosts}
    return changed


def _load(loader: Callable[[str, str], Any], slug: str, owner: str) -> Any:
    loaded, entry = loader(slug, owner), _open.get(slug)
    return loaded if entry is None or not isinstance(loaded, Mapping) else entry.of_loaded(loaded)


def _timeouts() -> dict[str, Any]:
    """Return shorter time limits while an endpoint is to time out."""
    return {name: TIMEOUT for name, endpoints in TIMEOUTS.items() if _times_out(endpoints)}


def _times_out(endpoints: Sequence[str]) -> bool:
    servers = [entry.server for entry in open_entries()]
    return any(one.timeout for server in servers for name in endpoints for one in server.failures(name))


def open_entries() -> list[Entry]:
    """Return the entries of the fake providers that are open."""
    return list(_open.values())
