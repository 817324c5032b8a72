"""The settings with their providers, which are kept until an entry or its metadata changes."""

from __future__ import annotations

from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf.declared import Declared, declare
from oauth_connect.conf.discovered import Discovered, complete
from oauth_connect.conf.entries import RESERVED, read_entry
from oauth_connect.conf.settings import Settings
from oauth_connect.errors import CallError, InvalidProvider
from oauth_connect.issuers import Issuers, Terms
from oauth_connect.protocol.metadata.discovery import Metadata
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.provider import Provider
from oauth_connect.tracebacks import methods_without_locals

CLIENT_AND_SERVER = ("client_id", "issuer", "token_endpoint")


@methods_without_locals
class Conf(Settings):
    """The site's settings and providers. Read at each access, so that ``override_settings`` works."""

    def __init__(self) -> None:
        super().__init__()
        self._declared_cache: dict[str, Declared] = {}
        self._discovered_cache: dict[str, Discovered] = {}
        self._issuers = Issuers()

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
        return declared.issuer_problem() if declared.provider.needs_discovery else ""

    def _declared(self, slug: str, owner: str) -> Declared:
        entry = read_entry(self, slug, owner)
        cached = self._declared_cache.get(slug)
        if cached and cached.is_current(entry):
            return cached
        declared = self._declared_cache[slug] = declare(self, entry)
        return declared

    def _discovered(self, declared: Declared) -> Provider:
        provider = declared.provider
        if problem := declared.issuer_problem():
            raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {provider.slug}.issuer: {problem}')
        guard = declared.guard()
        metadata = self._issuers.metadata(provider.issuer, self._terms(guard))
        return self._completed(declared, metadata, guard)

    def _known(self, declared: Declared) -> Provider:
        """Return a provider, completed if its metadata is known and fits. Sends no request."""
        provider = declared.provider
        if not provider.needs_discovery or declared.issuer_problem():
            return provider
        guard = declared.guard()
        metadata = self._issuers.known(provider.issuer, self._terms(guard))
        if metadata is None:
            return provider
        try:
            return self._completed(declared, metadata, guard)
        except (CallError, InvalidProvider, ImproperlyConfigured):  # connecting says what is wrong
            return provider

    def _completed(self, declared: Declared, metadata: Metadata, guard: AddressGuard) -> Provider:
        slug = declared.provider.slug
        cached = self._discovered_cache.get(slug)
        if cached and cached.is_current(declared, metadata, guard):
            return cached.provider
        completed = self._discovered_cache[slug] = complete(declared, metadata, guard)
        return completed.provider

    def _terms(self, guard: AddressGuard) -> Terms:
        return Terms(guard, self.http_timeout, self.discovery_cache)
