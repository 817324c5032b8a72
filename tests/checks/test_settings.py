"""Keys, BASE_URL and the values of settings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.acme import KEY
from tests.support.our_checks import found

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("E001", {"KEYS": None}, "KEYS"),
    ("E001", {"KEYS": ["short"]}, "KEYS"),
    ("E001", {"KEYS": [None]}, "is empty. Is its environment variable set"),
    ("E002", {"KEYS": [KEY]}, "SECRET_KEY"),
    ("E003", {"BASE_URL": "app.example"}, "has no scheme"),
    ("E003", {"BASE_URL": "http://app.test"}, "https"),
    ("E003", {"BASE_URL": "http://localhost:80@evil.test"}, "user information"),
    ("E003", {"BASE_URL": "https://app.example/site"}, "scheme and host"),
    ("E003", {"BASE_URL": 5}, "URL"),
    ("E004", {"KEY": "x"}, '"KEY"'),
    ("E004", {"BASEURL": "https://app.example"}, "did you mean 'BASE_URL'?"),
    ("E004", {"providers": {}}, "did you mean 'PROVIDERS'?"),
    ("E004", {"REFRESH_LEEWAY": "60"}, "REFRESH_LEEWAY"),
    ("E004", {"HTTP_TIMEOUT": -1}, "HTTP_TIMEOUT"),
    ("E004", {"HISTORY_DAYS": "365"}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": True}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": -1}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": 10**9}, "None keeps it for ever"),
    ("E004", {"OWNER": "x"}, "OWNER"),
    ("E004", {"DISCOVERY_PRIVATE_HOSTS": "id.corp"}, "DISCOVERY_PRIVATE_HOSTS"),
    ("E004", {"DISCOVERY_CACHE": "nowhere"}, "DISCOVERY_CACHE"),
    ("E004", {"CONNECTION_STATE": "mysite.tenants"}, "CONNECTION_STATE"),
    ("E004", {"CONNECTION_STATE": (print,)}, "CONNECTION_STATE"),
    ("E004", {"PROVIDER_LOADER": "site.providers.load"}, "PROVIDER_LOADER"),
    ("E004", {"HTTP_TIMEOUT": 0}, "HTTP_TIMEOUT"),
    *(
        ("E004", {"RECORD_REDIRECTS": value}, "RECORD_REDIRECTS")
        for value in ("acme", [5], {"acme": 1}, None)
    ),
    ("W012", {"BASE_URL": "http://127.0.0.1:8000"}, "loopback"),
]


@pytest.mark.compliance("A12")
@pytest.mark.compliance("B6")
@pytest.mark.parametrize(("number", "wrong", "word"), CASES)
def test_a_wrong_setting_is_reported_with_its_fix(reported, number, wrong, word) -> None:
    reported(number, wrong, word)


@pytest.mark.parametrize("key", [None, "x"])
def test_a_key_is_not_shown(configure, key: Any) -> None:
    configure(KEYS=["canary", key])
    assert "canary" not in found()["E001"].msg


def test_a_missing_base_url_is_reported_in_production(configure, in_production) -> None:
    configure(BASE_URL=None)
    assert "is not set" in found()["E003"].msg


def test_the_tests_of_a_site_need_no_base_url(configure) -> None:
    configure(BASE_URL=None)
    assert found() == {}


def test_under_debug_no_base_url_is_needed(configure, settings) -> None:
    settings.DEBUG = True
    configure(BASE_URL=None)
    assert found() == {}


def test_a_base_url_of_a_callable_is_not_asked_without_a_request(configure) -> None:
    configure(BASE_URL=pytest.fail)
    assert found() == {}
