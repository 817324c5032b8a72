"""A provider as its entry declares it, before discovery, and the hosts that it may use."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ImproperlyConfigured

from oauth_connect import presets
from oauth_connect.conf.entries import Entry, InvalidLoadedEntry, Values
from oauth_connect.conf.settings import Settings
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.metadata.discovery import GuardedProvider
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.net.destination import is_loopback, origin_of
from oauth_connect.protocol.provider import Provider


@dataclass(frozen=True, slots=True)
class Declared:
    """A provider as its entry declares it. Fields that discovery would fill are missing."""

    entry: Entry
    provider: Provider
    settings: Settings

    def is_current(self, entry: Entry) -> bool:
        """Return whether the entry is still this one, and the settings still allow the same private hosts."""
        if self.entry != entry:
            return False
        guard = self.provider.guard
        return guard is None or guard == _declared_guard(self.settings, self.provider, entry.trusted)

    def guard(self) -> AddressGuard:
        """Return the guard of discovery. An issuer on this machine is allowed if the settings name it."""
        if not self.entry.trusted:
            return AddressGuard(self.settings.discovery_private_hosts)
        host = origin_of(self.provider.issuer).host
        local = {host} if is_loopback(host) else frozenset()
        return AddressGuard(self.settings.discovery_private_hosts | local)

    def issuer_problem(self) -> str:
        """Return why the issuer cannot be discovered, or an empty string. Sends no request."""
        return self.guard().url_problem(self.provider.issuer)


def declare(settings: Settings, entry: Entry) -> Declared:
    """Return the provider of an entry. Raises ImproperlyConfigured with the path."""
    return Declared(entry.copied(), _provider(settings, entry), settings)


def _provider(settings: Settings, entry: Entry) -> Provider:
    """Return the provider of an entry, guarded if others than the settings name its hosts."""
    slug, trusted = entry.slug, entry.trusted
    data = Values()
    try:
        data = entry.composed()
        provider = Provider.from_mapping(slug, data)
        if trusted and not provider.lets_others_choose_hosts:
            return provider
        guard = _declared_guard(settings, provider, trusted)
        if not trusted and provider.needs_discovery and (problem := guard.url_problem(provider.issuer)):
            raise InvalidProvider(f"{slug}.issuer: {problem}")
        own = {"addresses": guard, "from_loader": not trusted, "guards_api": True}
        return GuardedProvider.from_mapping(slug, {**data, **own})
    except InvalidProvider as error:
        problem = f"{error}{presets.overlooked(slug, data) if data else ''}"
    if trusted:
        raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {problem}')
    raise InvalidLoadedEntry(f'OAUTH_CONNECT["PROVIDER_LOADER"]: {problem}')


def _declared_guard(settings: Settings, provider: Provider, trusted: bool) -> AddressGuard:
    """Return the guard for hosts that others choose. Hosts that the settings name are allowed."""
    named = provider.named_hosts if trusted else frozenset()
    return AddressGuard(settings.discovery_private_hosts | named)
