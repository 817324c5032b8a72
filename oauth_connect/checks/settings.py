"""Checks of OAUTH_CONNECT: its keys, its BASE_URL, and the values of its settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import KEY_HINT, KNOWN, conf, names_a_key
from oauth_connect.protocol.definition import suggestion
from oauth_connect.site_origin import base_url_problem, in_test_environment, may_use_request_host
from oauth_connect.tracebacks import without_locals


@register(Tags.security)
@without_locals
def check_keys(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        keys = conf.keys
    except ImproperlyConfigured as error:
        if _tests_without_keys():
            return
        hint = f"{KEY_HINT} If connections are stored already, use the key that sealed them."
        yield Error(str(error).removesuffix(KEY_HINT).strip(), hint=hint, id="oauth_connect.E001")
        return
    if any(key.decode() == settings.SECRET_KEY for key in keys):
        yield Error(
            'OAUTH_CONNECT["KEYS"] contains SECRET_KEY.',
            hint=f"Rotating SECRET_KEY would make every token unreadable. {KEY_HINT}",
            id="oauth_connect.E002",
        )


def _tests_without_keys() -> bool:
    """Return whether this is a test run without any key. A fake provider needs none (docs/test-kit.md)."""
    try:
        return in_test_environment() and not names_a_key(conf.mapping)
    except ImproperlyConfigured:
        return False


@register()
@without_locals
def check_settings(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        unknown = sorted(set(conf.mapping) - KNOWN, key=str)
        _ = (conf.refresh_leeway, conf.http_timeout, conf.api_timeout, conf.owner, conf.provider_loader)
        _ = (conf.discovery_private_hosts, conf.discovery_cache, conf.history_days, conf.revoked_days)
        _ = conf.record_redirects
        _ = conf.connection_state
    except ImproperlyConfigured as error:
        yield Error(str(error), hint="See docs/settings.md.", id="oauth_connect.E004")
        return
    for key in unknown:
        yield Error(
            f'OAUTH_CONNECT["{key}"] is not a setting{suggestion(str(key), KNOWN) or "."}',
            hint=f"Settings: {', '.join(sorted(KNOWN))}.",
            id="oauth_connect.E004",
        )


@register()
@without_locals
def check_base_url(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        url = conf.base_url
    except ImproperlyConfigured:  # check_settings reports it
        return
    if callable(url) or (url is None and may_use_request_host()):
        return
    problem = "is not set." if url is None else base_url_problem(url)
    if problem:
        yield Error(
            f'OAUTH_CONNECT["BASE_URL"] {problem}',
            hint='Set the site\'s public origin, for instance "https://app.example".',
            id="oauth_connect.E003",
        )


@register(Tags.security, deploy=True)
@without_locals
def check_deployed_base_url(app_configs: Any, **kwargs: Any) -> Iterator[CheckMessage]:
    try:
        url = conf.base_url
    except ImproperlyConfigured:  # check_settings reports it
        return
    if isinstance(url, str) and not base_url_problem(url) and urlsplit(url).scheme == "http":
        yield checks.Warning(
            'OAUTH_CONNECT["BASE_URL"] is http on a loopback address.',
            hint="Providers send authorization codes to this address. Set the site's public https origin.",
            id="oauth_connect.W012",
        )
