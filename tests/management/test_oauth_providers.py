"""oauth_providers: what there is, what to paste, what to register; and no secret."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from django.test import override_settings

from oauth_connect import presets
from oauth_connect.protocol.provider import Provider

SECRET = "canary-client-secret"
ACME = {
    "client_id": "client-of-acme",
    "client_secret": SECRET,
    "authorization_endpoint": "https://{tenant}.id.example/authorize",
    "device_authorization_endpoint": "https://{tenant}.id.example/device",
    "token_endpoint": "https://{tenant}.id.example/token",
    "api_base_url": "https://api.example/",
    "scopes": ["orders.read", "orders.write"],
    "token_request": {"headers": {"X-Key": SECRET}},
    "variables": {"tenant": {"pattern": "[a-z]+"}},
}
URLCONF = "tests.management.test_oauth_providers"
urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def providers(configure) -> None:
    github = {"preset": "github", "client_id": "bot", "client_secret": SECRET}
    configure(PROVIDERS={"acme": ACME, "github-bot": github})


def summary(command, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        one["name"]: one for one in command("oauth_providers", json=True).document["providers"]
    }
    return found[name]


def test_the_table_has_what_is_configured_and_every_preset(command):
    run = command("oauth_providers")
    assert run.status == 0
    head, *lines = run.lines
    assert head.split() == ["name", "kind", "flows", "PKCE", "refresh", "rotation", "needs"]
    assert {line.split()[0] for line in lines} == {"acme", "github-bot", *presets.names()}


def test_a_line_says_what_the_data_says(command):
    assert summary(command, "acme") == {
        "name": "acme",
        "kind": "configured",
        "label": "acme",
        "flows": ["code", "device"],
        "pkce": "S256",
        "refresh": "conditional",
        "rotation": "unknown",
        "needs": ["tenant"],
        "problem": "",
    }
    assert summary(command, "gitlab")["needs"] == ["client_id", "client_secret"]
    assert summary(command, "github")["kind"] == "preset"


def test_a_disabled_provider_is_listed_as_disabled(command, configure):
    configure(PROVIDERS={"acme": {**ACME, "enabled": False}})
    assert summary(command, "acme")["kind"] == "disabled"


def test_a_wrong_entry_is_named_and_the_others_are_listed(command, configure):
    configure(PROVIDERS={"wrong": {"client_id": "x"}, "acme": ACME})
    run = command("oauth_providers", verbosity=0)
    assert run.status == 1
    assert len(run.lines) == 1
    assert run.lines[0].startswith('wrong: WRONG: OAUTH_CONNECT["PROVIDERS"]: wrong.token_endpoint: missing')
    assert summary(command, "acme")["problem"] == ""
    assert command("oauth_providers", "wrong").status == 2


def test_one_in_detail(command):
    run = command("oauth_providers", "github-bot")
    assert run.status == 0
    assert "https://app.example/oauth/github-bot/callback/" in run.out
    assert "https://github.com/login/oauth/access_token" in run.out
    assert command("oauth_providers", "github-bot", json=True).document["redirect_uri"] == (
        "https://app.example/oauth/github-bot/callback/"
    )


@pytest.mark.parametrize("name", ["acme", "github-bot", *presets.names()])
def test_what_is_pasted_works(command, configure, name):
    pasted = command("oauth_providers", name, json=True).document["settings"]
    assert "os.environ[" in pasted
    namespace: dict[str, Any] = {"OAUTH_CONNECT": {}, "os": Environment()}
    exec(pasted, namespace)  # noqa: S102  (our own output)
    entry = namespace["OAUTH_CONNECT"]["PROVIDERS"][name]
    preset = presets.load(entry.pop("preset", name)) or {}
    assert Provider.from_mapping(name, presets.merge(preset, entry)).slug == name


class Environment:
    environ: Any

    def __init__(self) -> None:
        self.environ = self

    def __getitem__(self, name: str) -> str:
        assert name.isidentifier()
        return "from the environment"


@pytest.mark.compliance("D45")
@pytest.mark.parametrize("arguments", [(), ("acme",), ("github-bot",)])
@pytest.mark.parametrize("options", [{"json": True}, {"verbosity": 3}])
def test_secrets_are_not_shown(command, arguments, options):
    run = command("oauth_providers", *arguments, **options)
    assert run.out
    assert SECRET not in run.out + run.err


def test_what_the_redirect_uri_lacks_is_said(command, configure, settings):
    configure(BASE_URL=None)
    settings.DEBUG = True
    told = "under DEBUG the host of the request, with the path /oauth/acme/callback/"
    assert f"  {told}" in command("oauth_providers", "acme").lines
    document = command("oauth_providers", "acme", json=True).document
    assert (document["redirect_uri"], document["redirect_uri_problem"]) == ("", told)
    settings.DEBUG = False
    assert 'Set OAUTH_CONNECT["BASE_URL"]. The path is /oauth/acme/callback/.' in (
        command("oauth_providers", "acme").out
    )
    configure(BASE_URL="http://app.example")
    assert "must be https" in command("oauth_providers", "acme").out
    configure(BASE_URL=lambda request: "https://one.example")
    assert "Register /oauth/acme/callback/ under each" in command("oauth_providers", "acme").out


@override_settings(ROOT_URLCONF=URLCONF)
def test_urls_that_are_not_included_are_said(command):
    run = command("oauth_providers", "acme", json=True).document
    assert run["redirect_uri"] == ""
    assert "include(" in run["redirect_uri_problem"]


def test_a_name_that_no_url_can_have_is_said(command, configure):
    configure(PROVIDERS={"a b": ACME})
    run = command("oauth_providers", "a b")
    assert "use only letters" in run.out + run.err


def test_an_unknown_name_ends_with_2(command):
    run = command("oauth_providers", "nowhere", json=True)
    assert run.status == 2
    assert "github-bot" in run.document["error"]


def test_settings_that_are_none_end_with_2(command, configure):
    configure(PROVIDERS=5)
    assert command("oauth_providers").status == 2


@pytest.mark.parametrize("name", presets.names())
def test_presets_are_read_by_name(name):
    assert presets.load(name) == tomllib.loads(
        (presets.files(presets.__package__) / f"{name}.toml").read_text("utf-8")
    )


def test_a_discovered_provider_is_listed_without_asking_its_issuer(command, configure, scripted):
    entry = {"issuer": scripted.url, "client_id": "x", "client_secret": "y"}
    configure(PROVIDERS={"found": entry}, DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
    assert summary(command, "found")["flows"] == ["discovered"]
    assert command("oauth_providers").status == 0
    assert not scripted.requests
