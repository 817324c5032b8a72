"""An entry: where it is read, what its preset adds, and what is wrong with it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect.conf import UnknownProvider, conf
from tests.support.acme import ACME


def test_a_changed_provider_is_used_immediately(configure) -> None:
    configure(PROVIDERS={"acme": ACME})
    assert conf.provider("acme") is conf.provider("acme")
    configure(PROVIDERS={"acme": {**ACME, "client_id": "another"}})
    assert conf.provider("acme").client_id == "another"


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
