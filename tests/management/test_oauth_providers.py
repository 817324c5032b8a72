"""oauth_providers: what there is, what to paste, what to register; and no secret."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from oauth_connect import presets
from oauth_connect.management.providers.summary import CATEGORIES
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
    assert head.split() == ["name", "label", "flows", "refresh", "rotation", "needs"]
    names = {line.split()[0].rstrip("*") for line in lines if line}
    assert names >= {"acme", "github-bot", *presets.names()}


def test_the_presets_are_listed_by_category(command):
    lines = [line.split("  ")[0].rstrip("*") for line in command("oauth_providers").lines]
    for name in presets.names():
        about = presets.about(name)
        category = about.category if about else "other"
        heading = next(
            line for line in reversed(lines[: lines.index(name)]) if line in {*CATEGORIES, "other"}
        )
        assert heading == category
    assert lines.index("acme") < min(lines.index(name) for name in presets.names())


@pytest.mark.parametrize("part", ["GITHUB-B", "git", "gitlab", "GitLab", "GOOG"])
def test_a_part_of_a_name_finds_it(command, part):
    found = {"GITHUB-B": ["github-bot"], "git": ["github-bot", "github", "gitlab"]}.get(part)
    run = command("oauth_providers", part, json=True)
    assert run.status == 0
    if part == "git":
        assert run.document["providers"][0]["name"] == "github-bot"  # this site's own are first
        assert set(found) <= {one["name"] for one in run.document["providers"]}
    else:
        assert run.document["name"] == (found or [part.lower() if part != "GOOG" else "google"])[0]


@pytest.mark.parametrize(
    ("wrong", "near"), [("githb", "'github'"), ("Gogle", "'google'"), ("acmee", "'acme'")]
)
def test_a_name_that_is_nearly_right_gets_a_suggestion(command, wrong, near):
    run = command("oauth_providers", wrong)
    assert run.status == 2
    assert f"did you mean {near}" in run.err


def test_a_line_says_what_the_data_says(command):
    assert summary(command, "acme") == {
        "name": "acme",
        "kind": "configured",
        "label": "acme",
        "category": "",
        "flows": ["code", "device"],
        "pkce": "S256",
        "refresh": "conditional",
        "rotation": "unknown",
        "needs": ["tenant"],
        "doubts": "",
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
    # A hook registers Mastodon's clients.
    assert ("os.environ[" in pasted) is (name != "mastodon")
    namespace: dict[str, Any] = {"OAUTH_CONNECT": {}, "os": Environment()}
    exec(pasted, namespace)  # noqa: S102  (our own output)
    entry = namespace["OAUTH_CONNECT"]["PROVIDERS"][name]
    preset = presets.load(entry.pop("preset", name)) or {}
    # What only the site knows is asked for in one place, and an example of it is enough to start a flow.
    for blank in set(entry.get("variables", {})) & set(preset.get("variables", {})):
        entry["variables"][blank] = preset["variables"][blank]["example"]
    provider = Provider.from_mapping(name, presets.compose(preset, entry))
    entered = {key: value.example for key, value in provider.asked_of("user").items()}
    assert not preset or provider.resolve(entered).slug == name


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


def test_what_the_redirect_uri_lacks_is_said(command, configure, settings, in_production):
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


def test_an_entry_for_machine_tokens_has_nothing_to_register(command, configure):
    entry = {
        "client_id": "c",
        "client_secret": "s",
        "token_endpoint": "https://id.example/token",
        "authorization_endpoint": "https://id.example/authorize",
        "grant_types": ["client_credentials"],
    }
    configure(PROVIDERS={"reports": entry})
    run = command("oauth_providers", "reports")
    assert "none: users connect no accounts in a browser" in run.out
    assert '"grant_types": ["client_credentials"],' in run.out
    assert command("oauth_providers", "reports", "--json").document["flows"] == ["machine"]


def test_an_unknown_name_ends_with_2(command):
    run = command("oauth_providers", "nowhere", json=True)
    assert run.status == 2
    assert "lists them all" in run.document["error"]


def test_settings_that_are_none_end_with_2(command, configure):
    configure(PROVIDERS=5)
    assert command("oauth_providers").status == 2


@pytest.mark.parametrize("name", presets.names())
def test_presets_are_read_by_name(name):
    whole = tomllib.loads((presets.files(presets.__package__) / f"{name}.toml").read_text("utf-8"))
    whole.pop("about", None)
    assert presets.load(name) == whole


# --- what is known about a preset ---------------------------------------------------------------

ABOUT = """
name = "Own"
documentation = "https://own.example/docs"
authorization_endpoint = "https://own.example/authorize"
token_endpoint = "https://own.example/token"
revocation_endpoint = "https://own.example/revoke"
api_base_url = "https://own.example/api/"

[refresh]
lifetime_seconds = 7776000

[about]
category = "forms"
sources = ["https://own.example/docs"]
read = "2026-10"
known_by = "vendor"
confidence = "high"
unverified = ["revocation_endpoint"]
access_token_seconds = 7200
redirect_uri = "It must be https."
caveats = ["A user can have one token only."]

[about.fields]
"refresh.lifetime_seconds" = "secondary"

[about.scope_labels]
"forms:read" = "Read the forms"

[about.scopes_for]
"Read answers" = ["forms:read"]

[about.errors]
bad_code = "The code was used before."

[[about.changes]]
on = "2027-02"
what = "Version 1 ends."

[about.console]
page = "https://own.example/apps"
read = "2026-11"
steps = ["Open the page.", "Press the button."]
"""


@pytest.fixture
def own(tmp_path, configure) -> Path:
    """A site's own preset, which the provider ``own`` of the settings uses."""
    path = tmp_path / "own.toml"
    path.write_text(ABOUT, encoding="utf-8")
    configure(PROVIDERS={"own": {"preset": path, "client_id": "c", "client_secret": SECRET}})
    return path


def test_what_is_known_is_shown_with_its_marks(command, own):
    run = command("oauth_providers", "own")
    for text in (
        "about 2 hours",
        "90 days unused",
        "https://own.example/revoke (not verified)",
        "It must be https.",
        "A user can have one token only.",
        "forms:read: Read the forms",
        "Read answers: forms:read",
        "bad_code: The code was used before.",
        "2027-02: Version 1 ends.",
        "https://own.example/apps (read 2026-11)",
        "2. Press the button.",
        "the provider's own pages, read 2026-10",
    ):
        assert text in run.out
    document = command("oauth_providers", "own", json=True).document
    assert document["about"]["unverified"] == ["revocation_endpoint"]
    assert document["doubts"] == "not verified: revocation_endpoint"
    listed = command("oauth_providers").out
    assert "own*" in listed
    assert "* not everything is verified" in listed


def test_what_helps_to_paste_and_to_register_is_shown(command, own):
    own.write_text(
        f"{ABOUT}\n[authorize]\noffline_scopes=['offline']\n"
        "[token_response.errors]\nbad_code='invalid_grant'\nslow='slow_down'\n"
        "'denied: token'='invalid_grant'\nok=''\n[revocation]\neffect='account'\n".replace(
            "caveats", "least_scopes = []\ncaveats"
        ),
        encoding="utf-8",
    )
    lines = [" ".join(line.split()) for line in command("oauth_providers", "own").lines]
    for line in (
        "added for a refresh token offline",
        "revocation ends every connection of this account",
        "least scopes none",
        "bad_code: The code was used before.",
        "slow: The client sent too many requests.",
        'denied (description: "token"): The code or the refresh token is wrong, spent or has ended.',
    ):
        assert line in lines
    assert not any(line.startswith("ok:") for line in lines)


@pytest.mark.parametrize(
    ("name", "needs", "line"),
    [
        ("notion", ["client_id", "client_secret"], ""),  # it has no scopes
        ("zoom", ["client_id", "client_secret"], '"scopes": [],'),  # they are set at the provider
        ("twitch", ["client_id", "client_secret", "scopes"], '"scopes": [],'),
        ("slack", ["client_id", "client_secret", "scopes"], '"scopes": ["channels:read"],'),
        ("mastodon", ["instance"], '"scopes": ["read:accounts"],'),  # a hook registers its clients
    ],
)
def test_a_preset_needs_what_it_lacks(command, name, needs, line):
    assert summary(command, name)["needs"] == needs
    pasted = command("oauth_providers", name, json=True).document["settings"]
    assert line in pasted
    assert ("scopes" in pasted) is bool(line)


def test_variables_that_have_a_value_are_shown_too(command):
    out = command("oauth_providers", "microsoft").out
    assert "tenant: from the settings, default common, such as contoso.onmicrosoft.com" in out
    assert "https://login.microsoftonline.com/common/" in out


def test_what_is_pasted_for_a_preset_of_this_site_names_its_file(command, own):
    pasted = command("oauth_providers", "own", json=True).document["settings"]
    assert f'"preset": {json.dumps(str(own))}' in pasted
    assert "token_endpoint" not in pasted


def test_what_is_pasted_for_a_mapping_keeps_the_rules_of_its_variables(command, own, configure):
    rules = {"source": "user", "label": "Shop", "choices": ["a", "b"], "lowercase": True}
    mapping = {**tomllib.loads(ABOUT), "variables": {"shop": rules}}
    configure(PROVIDERS={"own": {"preset": mapping, "client_id": "c", "client_secret": SECRET}})
    namespace: dict[str, Any] = {"OAUTH_CONNECT": {}, "os": Environment()}
    exec(command("oauth_providers", "own", json=True).document["settings"], namespace)  # noqa: S102
    assert namespace["OAUTH_CONNECT"]["PROVIDERS"]["own"]["variables"] == {"shop": rules}


def test_a_client_secret_that_is_no_string_is_made_by_its_class(command):
    pasted = command("oauth_providers", "apple", json=True).document["settings"]
    assert pasted.startswith("from oauth_connect.contrib.apple import ClientSecret\n\nOAUTH_CONNECT")
    assert '"client_secret": ClientSecret(\n            client_id="...", team_id="..."' in pasted


def test_a_good_preset_passes_the_rules(command, own):
    run = command("oauth_providers", lint=str(own))
    assert (run.status, run.out) == (0, f"{own}: OK\n")
    assert command("oauth_providers", lint=str(own), json=True).document == {"file": str(own), "problems": []}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('sources = ["https://own.example/docs"]', "", "own.about.sources: missing"),
        ('read = "2026-10"', 'read = "lately"', "own.about.read: expected a date"),
        ('category = "forms"', 'category = "cars"', "own.about.category: expected one of"),
        (
            '"refresh.lifetime_seconds" = "secondary"',
            '"refresh.grace" = "vendor"',
            "not a field of this preset",
        ),
        ('on = "2027-02"', 'on = "soon"', "own.about.changes[0].on: expected a date"),
        ('page = "https://own.example/apps"', 'page = "http://own.example"', "page: must be an https URL"),
        ('documentation = "https://own.example/docs"', "", "own.documentation: missing"),
        ('name = "Own"', "", "own.name: missing"),
        ("https://own.example/revoke", "http://own.example/revoke", "https"),
        ('api_base_url = "https://own.example/api/"', "", "own.api_base_url: missing"),
        ("[refresh]", '[identity]\nid = ["user.email"]\n[refresh]', "can be changed by the account's owner"),
        ("[refresh]", '[variables.shop]\nsource="user"\npattern="[a-z]+"\n[refresh]', "shop.label: missing"),
        ("[refresh]", '[variables.shop]\npattern="[a-z]+"\n[refresh]', "variables.shop.example: missing"),
        ('name = "Own"', 'name = "Own"\nclient_id = "x"', "own.client_id: a preset holds no client"),
        ("[refresh]", "[refresh]\nrotate = true", "own.refresh.rotate: unknown key"),
        (
            "[refresh]",
            "[environments.test.refresh]\nrotate = true\n[refresh]",
            "own.environments.test.refresh.rotate: unknown key",
        ),
        ('category = "forms"', "", "own.about.category: missing; expected one of 'identity', "),
        ('read = "2026-10"', 'read = "2099-01"', "own.about.read: 2099-01 is in the future"),
        ('known_by = "vendor"', 'known_by = "library"', "own.about.sources: no library has a version"),
        ('= ["forms:read"]', '= ["forms:write"]', "own.about.scope_labels: missing for forms:write"),
        (
            "[refresh]",
            '[variables.shop]\npattern="["\nexample="a"\n[refresh]',
            "variables.shop.pattern: not a regular expression (",
        ),
        *(
            (
                'https://own.example/api/"\n',
                f'https://own.example{between}{{part}}/"\n[variables.part]\n'
                f"pattern='{pattern}'\nexample='{example}'\n",
                f"own.variables.part.pattern: accepts '{accepted}', which leads to another host or path",
            )
            for between, pattern, example, accepted in (
                ("/", ".+", "acme", "acme/a"),
                ("/", "[a-z@]+", "acme", "acme@a"),
                ("", "/[a-z0-9/?]+", "/api/v3", "/api/v3?a"),
            )
        ),
    ],
)
def test_what_a_preset_lacks_is_named_with_its_path(command, own, old, new, problem):
    own.write_text(ABOUT.replace(old, new), encoding="utf-8")
    run = command("oauth_providers", lint=str(own))
    assert run.status == 1
    assert problem in run.out


@pytest.mark.parametrize(("content", "problem"), [(None, "There is no file"), ("name = ", "is not TOML")])
def test_a_file_that_cannot_be_read_ends_with_2(command, tmp_path, content, problem):
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    run = command("oauth_providers", lint=str(path))
    assert run.status == 2
    assert problem in run.err


@pytest.mark.parametrize(
    ("content", "status", "problem"),
    [
        ("a = " + "[" * 9999 + "]" * 9999, 2, "is not TOML"),
        (f"{ABOUT}\n[token_request]\nrepeat_client_id = 0x{'f' * 5000}", 1, "true or false, not int"),
        (f'{ABOUT}\n[variables.a]\npattern = "{"(" * 9999}"', 1, "variables.a.pattern: "),
        (f'{ABOUT}\n[variables.a]\npattern = "a{{{"9" * 99}}}"', 1, "variables.a.pattern: "),
    ],
    ids=["nested", "number", "nested pattern", "number in a pattern"],
)
def test_no_file_stops_the_rules(command, tmp_path, content, status, problem):
    path = tmp_path / "wrong.toml"
    path.write_text(content, encoding="utf-8")
    run = command("oauth_providers", lint=str(path))
    assert run.status == status
    assert problem in run.out + run.err
    assert len(run.out + run.err) < 1000


def test_an_empty_file_name_is_no_list(command):
    assert command("oauth_providers", lint="").status == 2


@pytest.fixture
def installed(monkeypatch) -> Iterator[None]:
    """Other installed packages with a preset, and with one that cannot be loaded."""
    found = [
        EntryPoint("elsewhere", f"{__name__}:PRESET", presets.GROUP),
        EntryPoint("torn", "nowhere_at_all:PRESET", presets.GROUP),
    ]
    monkeypatch.setattr(
        presets, "entry_points", lambda group, name="": [one for one in found if name in ("", one.name)]
    )
    presets._load.cache_clear()
    yield
    presets._load.cache_clear()


PRESET = {**tomllib.loads(ABOUT), "name": "Else"}


@pytest.mark.usefixtures("installed")
def test_a_preset_of_another_package_is_shown_and_a_torn_one_stops_no_other(command):
    run = command("oauth_providers", "elsewhere")
    assert run.status == 0
    assert run.out.startswith("Else (elsewhere)")
    assert '"elsewhere": {' in run.out
    listed = command("oauth_providers")
    assert listed.status == 1
    assert "elsewhere" in listed.out
    assert "torn: WRONG: preset: the entry point 'torn' (nowhere_at_all:PRESET) cannot" in listed.out


def test_a_name_and_a_file_are_too_much(command):
    assert command("oauth_providers", "acme", lint="x.toml").status == 2


def test_a_discovered_provider_is_listed_without_asking_its_issuer(command, configure, scripted):
    entry = {"issuer": scripted.url, "client_id": "x", "client_secret": "y"}
    configure(PROVIDERS={"found": entry}, DISCOVERY_PRIVATE_HOSTS=["127.0.0.1"])
    assert summary(command, "found")["flows"] == ["discovered"]
    assert command("oauth_providers").status == 0
    assert not scripted.requests
