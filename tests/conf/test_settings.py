from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings

from oauth_connect.conf import conf
from oauth_connect.site_origin import base_url_problem
from tests.support.acme import ACME, KEY

OLD = base64.urlsafe_b64encode(b"\x01" * 32).decode()


def request(**headers: str) -> Any:
    return RequestFactory(headers=headers).get("/")


# --- keys ---------------------------------------------------------------------------------------


def test_keys_are_in_their_order(configure) -> None:
    configure(KEYS=[KEY, OLD])
    assert conf.keys == (KEY.encode(), OLD.encode())


def test_keys_may_be_bytes_and_in_the_standard_alphabet(configure) -> None:
    configure(KEYS=[KEY.encode(), base64.b64encode(b"\xff" * 32)])
    assert conf.keys == (KEY.encode(), KEY.encode())


@pytest.mark.compliance("B3")
def test_fernet_keys_are_used_instead_and_the_secret_key_never(configure, settings) -> None:
    settings.SECRET_KEY = OLD
    configure(KEYS=None)
    with pytest.raises(ImproperlyConfigured, match="KEYS"):
        _ = conf.keys
    settings.FERNET_KEYS = [KEY]
    assert conf.keys == (KEY.encode(),)


@pytest.mark.parametrize("keys", [None, [], (), "", KEY, KEY.encode(), {KEY}, {KEY: 1}, 5])
def test_keys_are_a_list_that_is_not_empty(configure, keys) -> None:
    configure(KEYS=keys)
    with pytest.raises(ImproperlyConfigured, match="list of keys"):
        _ = conf.keys


@pytest.mark.parametrize(
    "key", ["", "x", KEY[:-4], f"{KEY}AAAA", KEY.replace("_", "!"), f" {KEY}", "é" * 44, None, 5, b"\xff"]
)
def test_a_key_that_is_none_is_named_by_its_place_and_not_shown(configure, key) -> None:
    configure(KEYS=[OLD, key])
    with pytest.raises(ImproperlyConfigured, match=r"KEYS\"\]\[1\]") as refused:
        _ = conf.keys
    assert not key or str(key) == "x" or str(key) not in str(refused.value)


# --- reading at access --------------------------------------------------------------------------


def test_settings_are_read_at_each_access() -> None:
    assert conf.refresh_leeway == timedelta(seconds=60)
    with override_settings(OAUTH_CONNECT={"REFRESH_LEEWAY": 5, "HTTP_TIMEOUT": 2.5, "API_TIMEOUT": 7}):
        assert conf.refresh_leeway == timedelta(seconds=5)
        assert (conf.http_timeout, conf.api_timeout) == (2.5, 7.0)
    assert (conf.http_timeout, conf.api_timeout) == (15.0, 30.0)


def test_no_settings_at_all_are_empty_ones(settings) -> None:
    del settings.OAUTH_CONNECT
    assert conf.provider_slugs == ()
    assert conf.base_url is None


@pytest.mark.parametrize("wrong", [None, [], "x"])
def test_settings_are_a_dict(settings, wrong) -> None:
    settings.OAUTH_CONNECT = wrong
    with pytest.raises(ImproperlyConfigured, match="must be a dict"):
        _ = conf.provider_slugs


@pytest.mark.parametrize("name", ["REFRESH_LEEWAY", "HTTP_TIMEOUT", "API_TIMEOUT"])
@pytest.mark.parametrize("value", ["60", None, True, -1, timedelta(seconds=1)])
def test_seconds_are_a_number(configure, name: str, value: Any) -> None:
    configure(**{name: value})
    with pytest.raises(ImproperlyConfigured, match=name):
        _ = (conf.refresh_leeway, conf.http_timeout, conf.api_timeout)


def test_an_owner_is_a_callable(configure) -> None:
    configure(OWNER="accounts.owner")
    with pytest.raises(ImproperlyConfigured, match="OWNER"):
        _ = conf.owner


@pytest.mark.parametrize(
    "value", ["mysite.tenants.read", print, (print,), (print, "write"), (print,) * 3, ()]
)
def test_the_state_of_a_connection_is_two_callables(configure, value) -> None:
    configure(CONNECTION_STATE=value)
    with pytest.raises(ImproperlyConfigured, match=r"CONNECTION_STATE.*\(read, write\)"):
        _ = conf.connection_state


@pytest.mark.parametrize("value", [(len, print), [len, print]])
def test_the_state_of_a_connection_is_read_and_written(configure, value) -> None:
    assert conf.connection_state is None
    configure(CONNECTION_STATE=value)
    assert conf.connection_state == (len, print)


def test_providers_keep_their_order(configure) -> None:
    configure(PROVIDERS={"b": ACME, "a": ACME})
    assert conf.provider_slugs == ("b", "a")


@pytest.mark.parametrize(
    "hosts", ["id.corp", None, [1], ["https://id.corp"], ["id.corp:443"], ["a b"], [""], {"id.corp": 1}]
)
def test_the_private_hosts_are_a_list_of_hosts(configure, hosts: Any) -> None:
    configure(DISCOVERY_PRIVATE_HOSTS=hosts)
    with pytest.raises(ImproperlyConfigured, match="DISCOVERY_PRIVATE_HOSTS"):
        _ = conf.discovery_private_hosts


@pytest.mark.parametrize("alias", ["nowhere", 5, ["default"]])
def test_the_cache_is_one_of_the_sites(configure, alias: Any) -> None:
    configure(DISCOVERY_CACHE=alias)
    with pytest.raises(ImproperlyConfigured, match="DISCOVERY_CACHE"):
        _ = conf.discovery_cache


# --- the site's origin --------------------------------------------------------------------------


@pytest.mark.compliance("D15")
@pytest.mark.compliance("B10")
@pytest.mark.parametrize(
    "base", ["https://app.example", "https://app.example/", lambda _: "https://app.example"]
)
def test_the_origin_comes_from_the_settings_and_never_from_the_request(configure, base) -> None:
    configure(BASE_URL=base)
    forged = request(host="evil.example", x_forwarded_host="evil.example")
    assert conf.site_origin(forged) == "https://app.example"


@pytest.mark.compliance("D15")
def test_in_production_the_origin_must_be_set(configure, in_production) -> None:
    configure(BASE_URL=None)
    with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
        conf.site_origin(request())


def test_in_the_tests_of_a_site_the_requests_own_host_serves(configure) -> None:
    configure(BASE_URL=None)
    assert conf.site_origin(request()) == "http://testserver"


def test_under_debug_the_requests_own_host_serves(configure, settings) -> None:
    settings.DEBUG = True
    configure(BASE_URL=None)
    assert conf.site_origin(request(host="localhost:8000")) == "http://localhost:8000"


@pytest.mark.compliance("A12")
@pytest.mark.compliance("B6")
@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://app.example",
            "HTTP://app.example",
            "//app.example",
            "app.example",
            "",
            "ftp://app.example",
        ),
        *("https://app.example/site", "https://app.example?x", "https://app.example#x"),
        *("https://user@app.example", "http://localhost:80@evil.example", "https://[::1", "https://a b"),
        *(5, None, b"https://app.example"),
    ],
)
def test_an_unsafe_origin_is_refused(configure, url: Any) -> None:
    assert base_url_problem(url)
    configure(BASE_URL=lambda _: url)
    with pytest.raises(ImproperlyConfigured, match="BASE_URL"):
        conf.site_origin(request())


@pytest.mark.parametrize("url", ["https://app.example", "https://app.example:8443/", "http://127.0.0.1:8000"])
def test_a_good_origin_has_no_problem(url: str) -> None:
    assert base_url_problem(url) == ""
