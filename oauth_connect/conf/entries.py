"""The entry of a provider: read from PROVIDER_LOADER or the settings, and composed with its preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, SynchronousOnlyOperation
from django.db import Error
from django.http import Http404

from oauth_connect import presets
from oauth_connect.conf.settings import Settings
from oauth_connect.errors import InvalidProvider
from oauth_connect.presets import untrusted
from oauth_connect.protocol.definition import suggestion

RESERVED = "api"  # no provider's name: below this path are the answers of the JSON API


class UnknownProvider(ImproperlyConfigured):
    """The settings contain no provider of that name."""


class InvalidLoadedEntry(ImproperlyConfigured):
    """PROVIDER_LOADER returned an entry that cannot be used. It may contain a user's text."""


class LoaderFailed(ImproperlyConfigured):
    """PROVIDER_LOADER raised an error, which is the ``__cause__``. Other providers are not concerned."""


class Values(dict[str, Any]):
    """An entry's values. Its ``repr`` shows names only: error pages print locals, and it has a secret."""

    def __repr__(self) -> str:
        return f"<entry: {', '.join(map(str, self))}>"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry. ``trusted``: it is in the settings. A loader's entry may contain a user's input."""

    slug: str
    values: Values
    trusted: bool

    def copied(self) -> Entry:
        """Return a copy, so that a later change of the values is noticed."""
        return Entry(self.slug, Values(_copy(self.values)), self.trusted)

    def composed(self) -> Values:
        """Return the values composed with those of the preset. Raises InvalidProvider with the path."""
        data = Values(self.values)
        named = data.pop("preset", self.slug)
        try:
            if not self.trusted:
                untrusted.check_preset(named)
            preset = presets.read(named)
            if preset is None and "preset" in self.values:
                raise InvalidProvider(f"preset: {presets.missing(named)}")
            whole = Values(presets.compose(preset or {}, data))
            if not self.trusted:
                untrusted.check(data, preset or {}, whole)
            return whole
        except InvalidProvider as error:
            problem = str(error)
        raise InvalidProvider(f"{self.slug}.{problem}")


def read_entry(settings: Settings, slug: str, owner: str) -> Entry:
    """Return an entry. Raises UnknownProvider, or ImproperlyConfigured if it is not a dict."""
    if not isinstance(slug, str):
        raise TypeError(f"A provider is given by its name in the settings, not by a {type(slug).__name__}.")
    values = _loaded(settings, slug, owner)
    trusted = values is None
    if values is None:
        entries = settings.entries
        if slug not in entries:
            slugs = ", ".join(map(repr, entries)) or "none yet"
            raise UnknownProvider(
                f'No provider {slug!r} in OAUTH_CONNECT["PROVIDERS"] (it has: {slugs})'
                f"{suggestion(slug, entries) or '.'} Add it, or correct the name."
            )
        values = entries[slug]
    if not isinstance(values, Mapping):
        if not trusted:
            raise InvalidLoadedEntry('OAUTH_CONNECT["PROVIDER_LOADER"] must return a dict or None.')
        raise ImproperlyConfigured(
            f'OAUTH_CONNECT["PROVIDERS"][{slug!r}] must be a dict, not {type(values).__name__}.'
        )
    return Entry(slug, Values(values), trusted)


def _loaded(settings: Settings, slug: str, owner: str) -> Any:
    """Return what PROVIDER_LOADER returns, or None.

    Django would answer an Http404 or a PermissionDenied for the whole page, which lists other providers
    too. So every error is one of this provider's settings, but not an error of the database: the caller
    may have to repeat its transaction.
    """
    loader = settings.provider_loader
    if loader is None:
        return None
    try:
        return loader(slug, owner)
    except (ImproperlyConfigured, Error, SynchronousOnlyOperation):
        raise
    except (Http404, ObjectDoesNotExist):
        raise UnknownProvider(
            f'OAUTH_CONNECT["PROVIDER_LOADER"] found no provider {slug!r} for this owner.'
        ) from None
    except Exception as error:
        raise LoaderFailed(
            f'OAUTH_CONNECT["PROVIDER_LOADER"] raised {type(error).__name__}. It must return a dict or '
            "None; correct it."
        ) from error


def _copy(value: Any) -> Any:
    """Copy the containers of an entry.

    Other values stay the same. A callable for a secret may belong to an object that cannot be copied.
    """
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value
