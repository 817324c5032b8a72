"""Checks of the entries in PROVIDERS, and of what they turn off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import RESERVED, conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.protocol.net.destination import allows, origin_of
from oauth_connect.protocol.provider import Provider
from oauth_connect.site_origin import in_test_environment
from oauth_connect.tracebacks import without_locals

MIX_UP_HINT = (
    "One server could get a code of another. Add the provider to RECORD_REDIRECTS, and register the redirect "
    "URI of each owner."
)


@register()
@without_locals
def check_providers(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        _ = conf.provider_loader
    except ImproperlyConfigured:
        return  # E004 reports it
    try:
        slugs = conf.provider_slugs
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="See docs/settings.md.", id="oauth_connect.E005")
        return
    if RESERVED in slugs:
        yield Error(
            f"A provider has the name {RESERVED!r}, and its pages would have the paths of the JSON API.",
            hint=f'Give it another name, and keep "preset" if it has one: '
            f'"my-{RESERVED}": {{"preset": "...", ...}}. Register the redirect URI of the new name.',
            id="oauth_connect.E043",
        )
    for slug in slugs:
        try:
            provider = conf.declared_provider(slug)
            provider.check_hooks()
            conf.check_other_entries(provider)
            if problem := conf.issuer_problem(slug):
                raise ImproperlyConfigured(f'OAUTH_CONNECT["PROVIDERS"]: {slug}.issuer: {problem}')
        except (ImproperlyConfigured, InvalidProvider) as error:
            if _lacks_environment(slug):
                continue
            yield Error(
                str(error),
                hint="The message begins with the path of the wrong field.",
                id="oauth_connect.E005",
            )
            continue
        yield from _provider_messages(provider)


def _lacks_environment(slug: str) -> bool:
    """Return whether this is a test run, and an entry has an empty value.

    Its environment variables are often missing there, and a fake provider needs none of them.
    """
    entry = conf.entries[slug]
    values = entry.values() if isinstance(entry, Mapping) else ()
    return in_test_environment() and any(value in ("", None) for value in values)


def _provider_messages(provider: Provider) -> Iterator[CheckMessage]:
    if provider.api_base_url and provider.api_hosts and not provider.variables:
        base = origin_of(provider.api_base_url)
        if not allows(provider.token_hosts(), base):
            yield checks.Warning(
                f"The provider {provider.slug!r} does not list the host of its api_base_url in api_hosts.",
                hint="Add the host to api_hosts. Until then, calls with relative URLs are refused.",
                id="oauth_connect.W013",
            )
    if not provider.api_base_url and not provider.api_hosts:
        yield checks.Warning(
            f"The provider {provider.slug!r} names no API. Every call through its connections is refused.",
            hint="Set api_base_url or api_hosts.",
            id="oauth_connect.W006",
        )
    for name in provider.missing_variables():
        yield checks.Warning(
            f"The provider {provider.slug!r} has no value of its variable {name!r}. Users cannot connect.",
            hint=f'Add "variables": {{"{name}": "..."}} to its entry.',
            id="oauth_connect.W042",
        )


@register(Tags.security, deploy=True)
@without_locals
def check_pkce(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    for provider in _valid_providers():
        if provider.authorize.code_challenge_method == "none":
            yield checks.Warning(
                f"PKCE is off for {provider.slug!r}: {provider.authorize.without_pkce_because}",
                hint="Remove authorize.code_challenge_method when the provider accepts S256.",
                id="oauth_connect.W011",
            )


@register(Tags.security, deploy=True)
@without_locals
def check_iss(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    for provider in _valid_providers():
        if provider.needs_discovery and provider.authorization_response_iss_parameter_supported is False:
            yield checks.Warning(
                f"Authorization responses of {provider.slug!r} are accepted without iss: "
                f"{provider.authorize.without_iss_because}",
                hint="Remove authorization_response_iss_parameter_supported when the provider sends iss.",
                id="oauth_connect.W015",
            )


@register(Tags.security, deploy=True)
@without_locals
def check_mix_up(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    """Find names under which servers of different parties answer (RFC 9700 section 4.4)."""
    try:
        apart, loads = conf.record_redirects, conf.loads_providers
    except ImproperlyConfigured:  # check_settings reports it
        return
    if loads and not apart:
        yield checks.Warning(
            "The providers of PROVIDER_LOADER share one redirect URI for each name.",
            hint=f"{MIX_UP_HINT} If the issuer of each entry declares that it sends iss, silence this check.",
            id="oauth_connect.W040",
        )
    for provider in _valid_providers():
        declares_iss = provider.authorization_response_iss_parameter_supported
        if provider.has_several_servers and not declares_iss and provider.slug not in apart:
            yield checks.Warning(
                f"Users of {provider.slug!r} choose its server, and all servers share one redirect URI.",
                hint=f"{MIX_UP_HINT} Or declare iss (authorization_response_iss_parameter_supported).",
                id="oauth_connect.W040",
            )


def _valid_providers() -> Iterator[Provider]:
    try:
        slugs = conf.provider_slugs
    except ImproperlyConfigured:  # check_providers reports it
        return
    for slug in slugs:
        try:
            yield conf.declared_provider(slug)
        except ImproperlyConfigured:
            continue
