"""The proxies of the environment: what requests finds, at each call, without reading all variables."""

from __future__ import annotations

import os

import pytest
from requests.utils import get_environ_proxies

from oauth_connect.protocol.net import environment
from oauth_connect.protocol.net.environment import ca_bundle, proxies_for

URLS = (
    "https://api.acme.example/v1/user?next=/a/b#c",
    "https://api.acme.example:8443/v1",
    "https://API.acme.example",
    "http://api.acme.example?x=1",
    "http://10.1.2.3/x",
    "http://[::1]:80/x",
    "http://localhost/x",
)
SETTINGS = (
    {},
    {"HTTPS_PROXY": "http://proxy.example:3128"},
    {"https_proxy": "http://lower.example:3128", "HTTPS_PROXY": "http://upper.example:3128"},
    {"ALL_PROXY": "socks5://proxy.example:1080", "NO_PROXY": "localhost,10.0.0.0/8,.acme.example:8443"},
    {"HTTP_PROXY": "http://proxy.example", "REQUEST_METHOD": "GET"},
    {"http_proxy": "http://proxy.example", "no_proxy": "*"},
)


@pytest.mark.parametrize("url", URLS)
def test_each_change_of_a_variable_is_seen_by_the_next_call(url, monkeypatch):
    for settings in (*SETTINGS, *reversed(SETTINGS)):
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            assert proxies_for(url) == get_environ_proxies(url), settings


def test_the_environment_is_read_once_for_the_same_values(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(environment, "get_environ_proxies", lambda url: asked.append(url) or {})
    environment._found.cache_clear()
    for path in ("/a", "/b?c", ""):
        proxies_for(f"https://once.acme.example{path}")
    environment._found.cache_clear()
    assert asked == ["https://once.acme.example/"]


def test_what_a_caller_changes_is_not_kept(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    proxies_for("https://api.acme.example/").clear()
    assert proxies_for("https://api.acme.example/")


def test_where_the_system_has_settings_they_are_asked_each_time(monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(environment, "_ASKS_THE_SYSTEM", True)
    monkeypatch.setattr(environment, "get_environ_proxies", lambda url: asked.append(url) or {})
    for _ in range(2):
        proxies_for("https://api.acme.example/x")
    assert asked == ["https://api.acme.example/x"] * 2


def test_an_environment_that_a_test_replaces_is_read(monkeypatch):
    proxies_for("https://api.acme.example/")
    monkeypatch.setattr(os, "environ", {"https_proxy": "http://p.example", "CURL_CA_BUNDLE": "/bundle"})
    assert proxies_for("https://api.acme.example/") == {"https": "http://p.example"}
    assert ca_bundle() == "/bundle"


def test_the_variables_of_the_bundle_are_read_each_time(monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    assert ca_bundle() is None
    monkeypatch.setenv("CURL_CA_BUNDLE", "/curl")
    assert ca_bundle() == "/curl"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests")
    assert ca_bundle() == "/requests"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    assert ca_bundle() == "/curl"
