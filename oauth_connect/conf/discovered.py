"""A provider completed with the metadata of its issuer."""

from __future__ import annotations

from dataclasses import dataclass

from oauth_connect import presets
from oauth_connect.conf.declared import Declared
from oauth_connect.conf.entries import InvalidLoadedEntry, Values
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.metadata.discovery import GuardedProvider, Metadata
from oauth_connect.protocol.net.addresses import AddressGuard
from oauth_connect.protocol.provider import Provider


@dataclass(frozen=True, slots=True)
class Discovered:
    """A provider completed with its issuer's metadata, and the values it was built from."""

    declared: Declared
    metadata: Metadata
    guard: AddressGuard
    provider: Provider

    def is_current(self, declared: Declared, metadata: Metadata, guard: AddressGuard) -> bool:
        return self.declared is declared and self.metadata is metadata and self.guard == guard


def complete(declared: Declared, metadata: Metadata, guard: AddressGuard) -> Discovered:
    """Return a provider with its metadata. Its entry and its preset override them.

    Raises InvalidProvider, or InvalidLoadedEntry for a loader's entry, if they do not fit together.
    """
    return Discovered(declared, metadata, guard, _provider(declared, metadata, guard))


def _provider(declared: Declared, metadata: Metadata, guard: AddressGuard) -> Provider:
    entry = declared.entry
    fields = metadata.fields_for(declared.provider)
    data = Values(presets.merge(fields, entry.composed()))
    guards_api = declared.provider.api_guard is not None
    own = {"addresses": guard, "from_loader": not entry.trusted, "guards_api": guards_api}
    try:
        return GuardedProvider.from_mapping(entry.slug, {**data, **own})
    except InvalidProvider as error:
        problem = str(error)
    # Raised outside of the handler: no frame of the traceback then holds the secret.
    if entry.trusted:
        raise InvalidProvider(problem)
    raise InvalidLoadedEntry(f'OAUTH_CONNECT["PROVIDER_LOADER"]: {problem}')
