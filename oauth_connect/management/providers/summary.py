"""The providers of a site and the presets, summed up for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, get_args

from django.core.exceptions import ImproperlyConfigured

from oauth_connect import presets
from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.presets.about import About, Category
from oauth_connect.protocol.definition import suggestion
from oauth_connect.protocol.provider import Provider
from oauth_connect.protocol.quirks import DEVICE_CODE

NO_CLIENT = {"client_id": "...", "client_secret": "..."}
CATEGORIES: tuple[str, ...] = get_args(Category)
CONFIGURED, DISABLED, PRESET = "configured", "disabled", "preset"


@dataclass(frozen=True, slots=True)
class Summary:
    """A row of the table. ``kind`` is configured, disabled or preset. ``problem`` says what is wrong.

    ``doubts`` says what of the preset's data is not verified.
    """

    name: str
    kind: str
    label: str = ""
    category: str = ""
    flows: tuple[str, ...] = ()
    pkce: str = ""
    refresh: str = ""
    rotation: str = ""
    needs: tuple[str, ...] = ()
    doubts: str = ""
    problem: str = ""

    @property
    def heading(self) -> str:
        return self.category or "other" if self.kind == PRESET else "in the settings"


def everything() -> Iterator[Summary]:
    """Yield the providers of the settings, and the other presets by category and name."""
    yield from map(configured, conf.provider_slugs)
    available = (*presets.names(), *presets.installed())
    unused = [preset(name) for name in available if name not in conf.provider_slugs]
    order = {category: number for number, category in enumerate(CATEGORIES)}
    yield from sorted(unused, key=lambda one: (order.get(one.category, len(order)), one.name))


def named_like(text: str) -> list[Summary]:
    """Return what has a text in its name or label, in any case. The exact name comes alone."""
    wanted = text.casefold()
    found = [one for one in everything() if wanted in f"{one.name} {one.label}".casefold()]
    return [one for one in found if one.name.casefold() == wanted] or found


def similar(text: str) -> str:
    """Return the end of a message that suggests a similar name."""
    return suggestion(text, [name for one in everything() for name in (one.label, one.name)])


def configured(slug: str) -> Summary:
    """Return the summary of a provider of the settings. Raises UnknownProvider."""
    try:
        provider = conf.declared_provider(slug)
    except UnknownProvider:
        raise
    except ImproperlyConfigured as error:
        return Summary(slug, CONFIGURED, problem=str(error))
    kind = CONFIGURED if provider.enabled else DISABLED
    return summary_of(provider, kind, variables(provider), about_of(slug))


def preset(name: str) -> Summary:
    try:
        provider, about = example(name), presets.about(name)
    except InvalidProvider as error:
        return Summary(name, PRESET, problem=str(error))
    needs = (*_missing_client(provider), *_missing_scopes(provider, about), *variables(provider))
    return summary_of(provider, PRESET, needs, about)


def _missing_client(provider: Provider) -> tuple[str, ...]:
    if provider.hooks.register_client:
        return ()
    return ("client_id",) if provider.client_authentication == "none" else ("client_id", "client_secret")


def _missing_scopes(provider: Provider, about: About | None) -> tuple[str, ...]:
    needs_none = bool(provider.scopes) or not takes_scopes(provider) or (about and about.least_scopes == ())
    return () if needs_none else ("scopes",)


def takes_scopes(provider: Provider) -> bool:
    """Return whether an authorization request of this provider has scopes."""
    return bool(provider.authorize.scope_parameter or provider.authorize.extra_scopes)


def example(name: str) -> Provider:
    """Return a preset as a provider, with placeholders for the client's credentials."""
    return Provider.from_mapping(name, presets.merge(NO_CLIENT, presets.load(name) or {}))


def about_of(slug: str) -> About | None:
    """Return what is known about the preset of a provider of the settings, or of this name."""
    with suppress(InvalidProvider):
        return presets.about(entry_of(slug).get("preset", slug))
    return None


def entry_of(slug: str) -> Mapping[str, Any]:
    found = conf.mapping.get("PROVIDERS", {}).get(slug)
    return found if isinstance(found, Mapping) else {}


def connectable(provider: Provider) -> bool:
    """Return whether users can connect accounts, once the provider is enabled."""
    return replace(provider, enabled=True).connects_accounts


def variables(provider: Provider) -> tuple[str, ...]:
    """Return the names of the variables that need a value."""
    return tuple(
        name
        for name, variable in provider.variables.items()
        if not variable.is_late and variable.value_of(variable.default) is None
    )


def summary_of(provider: Provider, kind: str, needs: Iterable[str], about: About | None) -> Summary:
    return Summary(
        name=provider.slug,
        kind=kind,
        label=provider.label,
        category=about.category if about else "",
        flows=flows(provider),
        pkce=provider.authorize.code_challenge_method,
        refresh=refreshing(provider),
        rotation=provider.refresh.rotation,
        needs=tuple(needs),
        doubts=about.doubts if about else "",
    )


def flows(provider: Provider) -> tuple[str, ...]:
    available = {
        "code": provider.authorization_endpoint and provider.allows("authorization_code"),
        "device": provider.device_authorization_endpoint and provider.allows(DEVICE_CODE),
        "machine": "client_credentials" in provider.grant_types,
        "discovered": provider.needs_discovery,
    }
    return tuple(flow for flow, is_available in available.items() if is_available)


def refreshing(provider: Provider) -> str:
    """Return whether the provider issues a refresh token, or how else it renews a token."""
    rules = provider.refresh
    return {"grant": rules.expected, "exchange_access_token": "exchange", "none": "never"}[rules.style]
