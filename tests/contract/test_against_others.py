"""Each preset's endpoints against those of two well-worn packages; a preset says where and why it differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from oauth_connect import presets
from oauth_connect.conf import conf
from tests.contract.others import ADAPTERS, ALLAUTH, BACKENDS, ONLY_SETTINGS, SOCIAL, comparable, known

CLIENT = {"client_id": "client", "client_secret": "secret"}
NEEDED = {
    "okta": {"okta_domain": "example.okta.com"},
    "reddit": {"user_agent": "web:com.example.app:v1.0 (by u-example)"},
    "shopify": {"shop": "lovelace-mills"},
}
COMPARED = {*((ALLAUTH, name) for name in ADAPTERS), *((SOCIAL, name) for name in BACKENDS)}

pytestmark = pytest.mark.process  # the other packages have settings of their own


def differences(provider: str) -> Mapping[str, str]:
    """Return what a preset says of other packages' URLs: ``package: endpoint`` -> why its own differs."""
    about = presets.about(provider)
    return about.differences if about else {}


@pytest.mark.parametrize(("package", "provider"), sorted(COMPARED))
def test_a_preset_s_endpoints_are_those_that_others_use(
    package: str, provider: str, configure: Callable[..., None]
) -> None:
    configure(PROVIDERS={provider: {**CLIENT, "variables": NEEDED.get(provider, {})}})
    preset = conf.provider(provider).resolve({})
    endpoints = known()[package][provider]
    assert {"authorization_endpoint", "token_endpoint"} <= endpoints.keys(), "nothing to compare with"

    for endpoint, url in endpoints.items():
        ours = comparable(getattr(preset, endpoint))
        if f"{package}: {endpoint}" in differences(provider):
            assert ours != url, f"{endpoint}: both have {url}; the reason why they differ is out of date"
        else:
            assert ours == url, f"{endpoint}: {ours!r}, {package} has {url!r}"


def named_as_sources() -> Iterator[tuple[str, str]]:
    for name in presets.names():
        about = presets.about(name)
        for package in (ALLAUTH, SOCIAL):
            if about and any(source.startswith(f"{package} ") for source in about.sources):
                yield package, name


def test_a_preset_that_names_a_package_as_a_source_is_compared_with_it() -> None:
    assert set(named_as_sources()) - COMPARED == ONLY_SETTINGS


def test_reasons_are_given_for_what_is_compared() -> None:
    for name in presets.names():
        for reason in differences(name):
            package, _, endpoint = reason.partition(": ")
            assert endpoint in known()[package][name], reason
