"""The settings of a site while a fake provider is open."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.exceptions import ImproperlyConfigured
from django.test import Client, override_settings
from django.urls import include, path

from oauth_connect.conf import conf
from oauth_connect.flows import session_for
from oauth_connect.models import Connection, Owner
from oauth_connect.testing import FakeProvider

pytestmark = [pytest.mark.django_db, pytest.mark.once]


def urlconf(*patterns: Any) -> ModuleType:
    module = ModuleType("urlconf")
    module.urlpatterns = list(patterns)
    return module


# --- what a site lacks --------------------------------------------------------------------------


def test_a_site_without_any_setting_connects(no_settings, client):
    with FakeProvider("github") as fake:
        assert fake.connect(client).provider == "github"


@pytest.mark.parametrize("keys", [None, [], [""], [None]])
def test_a_missing_key_is_replaced_while_it_is_open(configure, user, keys):
    configure(KEYS=keys)
    with FakeProvider("acme") as fake:
        assert fake.store(user).token
    with pytest.raises(ImproperlyConfigured, match="KEYS"):
        _ = conf.keys


def test_the_keys_of_a_site_stay(user):
    with FakeProvider("acme") as fake:
        connection = fake.store(user)
    assert Connection.objects.get(pk=connection.pk).sealed_token is not None
    assert conf.keys


def test_values_of_missing_environment_variables_are_replaced(configure, client):
    empty = {"client_id": "", "client_secret": None, "variables": {"okta_domain": ""}}
    configure(
        KEYS=[""],
        BASE_URL="",
        PROVIDERS={"okta": empty, "acme": {"client_id": None, "issuer": "", "name": None}},
    )
    for name in ("okta", "acme"):
        with FakeProvider(name) as fake:
            assert fake.connect(client).status == "active"


def test_outside_of_a_test_run_a_missing_base_url_is_this_machine(no_settings, in_production):
    with FakeProvider("acme"):
        assert conf.base_url == "http://127.0.0.1"


# --- the entry ----------------------------------------------------------------------------------


def test_the_entry_of_the_site_stays_but_for_its_addresses(configure, client):
    entry = {"client_id": "ours", "client_secret": "s3cret", "scopes": ["repo"], "name": "Our GitHub"}
    configure(PROVIDERS={"github": entry})
    with FakeProvider("github") as fake:
        connection = fake.connect(client)
        provider = conf.provider("github")
        assert (provider.client_id, provider.label, provider.scopes) == ("ours", "Our GitHub", ("repo",))
        assert provider.token_endpoint.startswith(fake.url)
        assert provider.api_base_url == fake.api_base_url
        assert (connection.client_id, connection.scopes) == ("ours", ["repo"])
    assert conf.provider("github").resolve({}).api_base_url == "https://api.github.com/"


def test_values_of_the_test_win(configure, client):
    configure(PROVIDERS={"github": {"client_id": "ours", "client_secret": "s", "scopes": ["repo"]}})
    with FakeProvider("github", entry={"scopes": ["gist"], "one_account": True}) as fake:
        assert fake.connect(client).scopes == ["gist"]
        assert conf.provider("github").one_account


def test_an_entry_by_discovery_needs_no_discovery(configure, client):
    configure(PROVIDERS={"acme": {"issuer": "https://id.acme.example", "client_id": "c"}})
    with FakeProvider("acme") as fake:
        assert fake.connect(client).status == "active"
        assert fake.requests[0].path == "/authorize"


def test_every_address_of_an_entry_is_on_this_machine(configure):
    refresh = {"style": "exchange_access_token", "exchange_grant_type": "x", "exchange_parameter": "y"}
    entry = {
        "client_id": "c",
        "authorization_endpoint": "https://id.acme.example/a",
        "token_endpoint": "https://id.acme.example/t",
        "introspection_endpoint": "https://id.acme.example/i",
        "refresh": {**refresh, "endpoint": "https://a.example/", "first_endpoint": "https://a.example/"},
        "accounts": {"endpoint": "https://a.example/", "variable": "site"},
        "variables": {"site": {"source": "accounts", "pattern": "[a-z]+"}},
    }
    configure(PROVIDERS={"acme": entry})
    with FakeProvider("acme") as fake:
        urls = [url for url in conf.provider("acme")._urls.values() if url]
        assert len(urls) == 7
        assert [url for url in urls if not url.startswith(fake.url)] == []
        assert conf.provider("acme").named_hosts == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("entry", "text"),
    [({"scopes": ["a b"]}, r"slack\.scopes"), ({"environment": "x"}, r"slack\.environment")],
)
def test_a_wrong_entry_says_which_field_is_wrong(entry, text):
    with pytest.raises(ImproperlyConfigured, match=text):
        FakeProvider("slack", entry=entry).open()
    assert conf.overlay is None


def test_a_wrong_setting_is_the_error_that_it_is_without_the_fake(configure):
    configure(PROVIDERS=[])
    with pytest.raises(ImproperlyConfigured, match="PROVIDERS"):
        FakeProvider("slack").open()
    assert conf.overlay is None


def test_a_posted_response_reaches_the_callback(client):
    with FakeProvider("acme", entry={"authorize": {"response_mode": "form_post"}}) as fake:
        assert fake.connect(client).status == "active"


def test_a_function_for_the_secret_is_not_called(configure, client):
    """It may ask a vault, and no request leaves the machine."""

    def vault(*arguments: Any) -> str:
        raise AssertionError("the vault was asked")

    configure(PROVIDERS={"github": {"client_id": "ours", "client_secret": vault}})
    with FakeProvider("github") as fake:
        assert fake.connect(client).client_id == "ours"


# --- nesting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)])
def test_the_order_of_closing_does_not_matter(no_settings, user, order):
    fakes = [FakeProvider(name).open() for name in ("github", "slack", "acme")]
    assert {"github", "slack", "acme"} <= set(conf.provider_slugs)
    for number in order:
        fakes[number].close()
        assert fakes[number].name not in conf.provider_slugs
    assert conf.overlay is None


def test_settings_may_be_overridden_while_it_is_open_and_closed_in_any_order(client):
    fake = FakeProvider("acme").open()
    override = override_settings(OAUTH_CONNECT={"PROVIDERS": {"acme": {"scopes": ["read"]}}})
    override.enable()
    try:
        assert fake.connect(client).scopes == ["read"]
        fake.close()
    finally:
        override.disable()
    assert "acme" not in conf.provider_slugs


# --- loaders ------------------------------------------------------------------------------------


LOADED = {
    "gitlab": {"preset": "gitlab", "client_id": "tenants", "client_secret": "tenants"},
    "google": {"preset": "google", "client_id": "tenants"},
    "by discovery": {"issuer": "https://id.acme.example", "client_id": "tenants"},
    "by hand": {
        "client_id": "tenants",
        "authorization_endpoint": "https://id.acme.example/authorize",
        "token_endpoint": "https://id.acme.example/token",
        "api_base_url": "https://api.acme.example/",
    },
}


LOADED["with an ID token"] = {
    "issuer": "https://id.acme.example",
    "client_id": "tenants",
    "scopes": ["openid"],
    "identity": {"source": "id_token"},
}


@pytest.mark.parametrize("entry", LOADED.values(), ids=LOADED.keys())
def test_a_loader_of_the_site_goes_on_deciding_for_whom_there_is_a_provider(configure, client, user, entry):
    asked = []

    def load(slug: str, owner: str) -> dict[str, Any] | None:
        asked.append((slug, owner))
        return entry if slug == "acme" and owner else None

    configure(PROVIDERS={}, PROVIDER_LOADER=load)
    with FakeProvider("acme") as fake:
        connection = fake.connect(client)
        fake.api("GET", "/projects", json=[])
        fake.expire(connection)
        assert session_for(user, "acme").get("projects").json() == []
    assert ("acme", f"user:{user.pk}") in asked


def test_opening_asks_no_database(configure, django_db_blocker):
    def load(slug: str, owner: str) -> Any:
        return Connection.objects.first() and None

    configure(PROVIDER_LOADER=load)
    with django_db_blocker.block(), FakeProvider("github") as fake:
        assert fake.url


# --- where the pages are ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        path("deep/below/", include("oauth_connect.urls")),
        path("other/", include("oauth_connect.urls", namespace="ours")),
        *i18n_patterns(path("connections/", include("oauth_connect.urls"))),
    ],
    ids=["prefix", "namespace", "languages"],
)
def test_the_pages_may_be_mounted_anywhere(settings, client, pattern):
    settings.ROOT_URLCONF = urlconf(pattern)
    with FakeProvider("github") as fake:
        assert fake.connect(client, scopes=["repo"]).scopes == ["repo"]


def test_a_site_that_wants_https_gets_https(settings, configure, client):
    settings.SECURE_SSL_REDIRECT = settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    configure(BASE_URL=None)
    with FakeProvider("github") as fake:
        fake.connect(client)
        assert fake.requests[0].query["redirect_uri"].startswith("https://testserver/")


def test_a_client_that_checks_csrf_connects(user):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    with FakeProvider("github") as fake:
        assert fake.connect(strict).status == "active"


def test_an_organisation_may_be_the_owner(configure, client):
    configure(OWNER=lambda request: Owner("org:1", "Acme Inc."))
    with FakeProvider("github") as fake:
        connection = fake.connect(client, scopes=["repo"])
        assert (connection.owner, connection.scopes) == ("org:1", ["repo"])
        assert fake.store("org:2").owner == "org:2"
