from __future__ import annotations

import base64
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory, override_settings

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.site_origin import base_url_problem

ACME = {
    "client_id": "client",
    "authorization_endpoint": "https://id.example/authorize",
    "token_endpoint": "https://id.example/token",
    "api_base_url": "https://api.example/",
}
KEY = base64.urlsafe_b64encode(b"\xff" * 32).decode()
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


def test_a_changed_provider_is_used_immediately(configure) -> None:
    configure(PROVIDERS={"acme": ACME})
    assert conf.provider("acme") is conf.provider("acme")
    configure(PROVIDERS={"acme": {**ACME, "client_id": "another"}})
    assert conf.provider("acme").client_id == "another"


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


# --- providers ----------------------------------------------------------------------------------


def test_providers_keep_their_order(configure) -> None:
    configure(PROVIDERS={"b": ACME, "a": ACME})
    assert conf.provider_slugs == ("b", "a")


def test_a_preset_is_known_by_the_providers_name(configure) -> None:
    configure(PROVIDERS={"github": {"client_id": "id", "client_secret": "s", "scopes": ["repo"]}})
    github = conf.provider("github").resolve({})
    assert github.token_endpoint == "https://github.com/login/oauth/access_token"
    assert github.scopes == ("repo",)
    assert github.refresh.rotation == "always"


def test_a_preset_can_be_named_and_overridden_by_key(configure) -> None:
    entry = {"preset": "github", "client_id": "id", "client_secret": "s", "identity": {"label": ["name"]}}
    configure(PROVIDERS={"github-bot": entry})
    bot = conf.provider("github-bot").resolve({})
    assert (bot.slug, bot.api_base_url) == ("github-bot", "https://api.github.com/")
    assert (bot.identity.id, bot.identity.label) == (("id",), ("name",))


class Vault:
    """A client of a secret store, which cannot be copied."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value = "secret-1"

    def read(self) -> str:
        with self.lock:
            return self.value


def test_a_secret_may_be_a_method_of_an_object_that_cannot_be_copied(configure) -> None:
    vault = Vault()
    configure(PROVIDERS={"acme": {**ACME, "client_secret": vault.read}})
    acme = conf.provider("acme")
    vault.value = "secret-2"

    assert conf.provider("acme") is acme
    assert acme.secrets() == ("secret-2",)


def test_a_change_inside_an_entry_is_noticed(configure) -> None:
    entry = {**ACME, "scopes": ["a"], "authorize": {"params": {"access_type": "offline"}}}
    configure(PROVIDERS={"acme": entry})
    conf.provider("acme")
    entry["scopes"].append("b")
    assert conf.provider("acme").scopes == ("a", "b")
    entry["authorize"]["params"]["access_type"] = "online"
    assert conf.provider("acme").authorize.params == {"access_type": "online"}


@pytest.mark.parametrize("preset", ["nowhere", "../conf", 5, None])
def test_a_preset_that_is_not_there_is_named(configure, preset: Any) -> None:
    configure(PROVIDERS={"acme": {**ACME, "preset": preset}})
    with pytest.raises(ImproperlyConfigured, match=r"acme\.preset"):
        conf.provider("acme")


def test_an_unknown_provider_is_reported_with_the_known_ones(configure) -> None:
    configure(PROVIDERS={"acme": ACME})
    with pytest.raises(UnknownProvider, match=r"'nowhere'.*has: 'acme'"):
        conf.provider("nowhere")


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({**ACME, "token_endpont": "x"}, r"acme\.token_endpont: unknown key"),
        ({**ACME, "token_endpoint": "http://id.example/"}, r"acme\.token_endpoint: Use https"),
        ({**ACME, "api_hosts": ["https://api.example"]}, r"acme\.api_hosts: "),
        ({**ACME, "api_hosts": ["a b"]}, r"acme\.api_hosts: "),
        ({}, r"acme\.client_id: missing"),
        ("x", r"'acme'\] must be a dict, not str"),
        (None, r"'acme'\] must be a dict, not NoneType"),
    ],
)
def test_what_is_wrong_with_a_provider_is_named_by_its_path(configure, entry: Any, path: str) -> None:
    configure(PROVIDERS={"acme": entry})
    with pytest.raises(ImproperlyConfigured, match=path):
        conf.provider("acme")


def test_providers_are_a_dict(configure) -> None:
    configure(PROVIDERS=["github"])
    with pytest.raises(ImproperlyConfigured, match="PROVIDERS"):
        conf.provider("github")


def test_a_loader_keeps_apps_elsewhere_by_owner(configure) -> None:
    apps = {"team:1": "app-1", "team:2": "app-2"}

    def load(slug: str, owner: str) -> Any:
        return {**ACME, "client_id": apps[owner]} if owner in apps else None

    configure(PROVIDERS={"acme": ACME}, PROVIDER_LOADER=load)
    found = [conf.provider("acme", owner).client_id for owner in ("team:1", "team:2", "team:1", "user:9")]
    assert found == ["app-1", "app-2", "app-1", "client"]


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


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        ({"hooks": {"client_secret": "os.getcwd"}}, "acme.hooks"),
        (
            {"environment": "x", "environments": {"x": {"hooks": {"register_client": "os.getcwd"}}}},
            "acme.hooks",
        ),
        ({"preset": "/etc/anything.toml"}, "acme.preset"),
        ({"preset": {"hooks": {"client_secret": "os.getcwd"}}}, "acme.preset"),
    ],
)
def test_what_a_loader_returns_names_no_code_and_no_file(configure, entry, path) -> None:
    """It may come from a table that users write."""
    words = {"client_id": "x", "token_endpoint": "https://id.test/token", **entry}
    configure(PROVIDER_LOADER=lambda slug, owner: words)
    with pytest.raises(ImproperlyConfigured, match=path):
        conf.provider("acme")


def test_a_misspelt_preset_is_named_with_the_right_one(configure) -> None:
    for entries in ({"githbu": {"client_id": "x"}}, {"mine": {"preset": "githbu", "client_id": "x"}}):
        configure(PROVIDERS=entries)
        with pytest.raises(ImproperlyConfigured, match="did you mean 'github'"):
            conf.declared_provider(next(iter(entries)))
