"""The presets, those of a site and of other packages, and their errors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from oauth_connect import presets
from oauth_connect.conf import conf
from oauth_connect.errors import InvalidProvider
from oauth_connect.presets import lint
from oauth_connect.protocol.grants.requests import authorization_url
from oauth_connect.protocol.provider import Provider

NAMES = sorted(path.stem for path in Path(presets.__file__).parent.glob("*.toml"))
SCOPES = {
    "airtable": ("user.email:read",),
    "amazon": ("profile",),
    "amazon-selling-partner": (),
    "apple": ("openid", "email"),
    "asana": (),
    "atlassian": ("read:me",),
    "auth0": ("openid", "email"),
    "basecamp": (),
    "bitbucket": (),
    "box": (),
    "calendly": ("users:read",),
    "canva": ("profile:read",),
    "clickup": (),
    "cloudflare": ("openid",),
    "digitalocean": (),
    "discord": ("identify",),
    "docusign": ("signature",),
    "dropbox": ("account_info.read",),
    "eventbrite": (),
    "facebook": (),
    "figma": ("current_user:read",),
    "fitbit": ("profile",),
    "forgejo": (),
    "freshbooks": (),
    "front": (),
    "garmin": (),
    "gitea": ("read:user",),
    "github": (),
    "gitlab": ("read_user",),
    "google": ("openid", "email"),
    "harvest": (),
    "heroku": (),
    "hubspot": ("oauth",),
    "instagram": ("instagram_business_basic",),
    "intercom": (),
    "keycloak": ("openid",),
    "linear": ("read",),
    "linkedin": ("openid", "profile"),
    "mailchimp": (),
    "mastodon": ("read:accounts",),
    "microsoft": ("User.Read",),
    "miro": (),
    "monday": ("me:read",),
    "notion": (),
    "okta": ("openid", "profile"),
    "oura": ("personal", "email"),
    "patreon": ("identity",),
    "paypal": ("openid", "profile"),
    "pinterest": ("user_accounts:read",),
    "pipedrive": (),
    "quickbooks": ("com.intuit.quickbooks.accounting",),
    "reddit": ("identity",),
    "salesforce": ("openid",),
    "sentry": (),
    "shopify": (),
    "slack": (),
    "snapchat": ("snapchat-marketing-api",),
    "spotify": (),
    "square": ("MERCHANT_PROFILE_READ",),
    "strava": ("read",),
    "stripe": ("read_only",),
    "stripe-apps": (),
    "tiktok": ("user.info.basic",),
    "todoist": ("data:read",),
    "twitch": (),
    "typeform": (),
    "vercel": ("openid", "profile"),
    "vimeo": ("public",),
    "webex": ("spark:people_read",),
    "webflow": ("authorized_user:read",),
    "withings": (),
    "wordpress-com": ("auth",),
    "wrike": ("wsReadOnly",),
    "x": ("users.read", "tweet.read"),
    "xero": ("openid", "email"),
    "yahoo": ("openid",),
    "zendesk": ("read",),
    "zoho": ("AaaServer.profile.READ",),
    "zoom": (),
}
every_preset = pytest.mark.parametrize("name", NAMES)


def provider(name: str) -> Provider:
    preset = presets.load(name)
    assert preset is not None
    return Provider.from_mapping(name, {**preset, "client_id": "client", "client_secret": "secret"})


def filled(variables: Any) -> dict[str, str]:
    """Return a value for each variable that the site or the user must give."""
    return {
        name: variable.example or variable.choices[0]
        for name, variable in variables.items()
        if not variable.is_late and not variable.default and variable.value_of("") is None
    }


# Their endpoints, hosts or most of their data are from few or indirect sources.
DOUBTFUL = {
    *("amazon-selling-partner", "forgejo", "garmin", "heroku", "oura", "paypal", "vimeo", "webflow"),
    *("wordpress-com", "yahoo"),
}
# The first twelve, and the others with whose scopes a person is helped.
EXPLAINED = {
    *("atlassian", "facebook", "github", "gitlab", "google", "microsoft", "notion", "quickbooks"),
    *("salesforce", "shopify", "slack", "x"),
    *("airtable", "calendly", "canva", "discord", "figma", "gitea", "linear", "linkedin", "monday"),
    *("oura", "reddit", "square", "strava", "todoist"),
}


@pytest.mark.parametrize("name", sorted(DOUBTFUL))
def test_doubtful_data_is_marked(name: str) -> None:
    about = presets.about(name)
    assert about
    assert about.confidence == "low"
    assert about.doubts
    assert all(path in about.doubts for path in about.unverified)


@pytest.mark.parametrize("name", sorted(EXPLAINED))
def test_the_scopes_are_explained(name: str) -> None:
    about, found = presets.about(name), provider(name)
    assert about
    assert about.least_scopes is not None
    if found.authorize.scope_parameter:
        assert about.scope_labels
        assert about.scopes_for


@every_preset
def test_a_preset_follows_the_rules(name: str) -> None:
    whole = presets.read_whole(name)
    assert whole is not None
    assert list(lint.problems(name, whole)) == []


@pytest.mark.compliance("C-state")
@every_preset
def test_no_preset_can_leave_out_the_state(name: str) -> None:
    found = provider(name)
    url = authorization_url(
        found.resolve(filled(found.variables)),
        redirect_uri="https://app.example/cb",
        state="the-state",
        scopes=found.scopes,
        code_verifier="v" * 64,
    )
    assert url.count("state=the-state") == 1
    assert url.count("redirect_uri=") == 1


@pytest.mark.compliance("A6")
@every_preset
def test_a_preset_without_pkce_says_why(name: str) -> None:
    authorize = provider(name).authorize
    assert authorize.code_challenge_method != "none" or len(authorize.without_pkce_because) > 10


@pytest.mark.compliance("C-account-id")
@every_preset
def test_a_preset_knows_accounts_by_what_their_owners_cannot_change(name: str) -> None:
    last = {path.rpartition(".")[2] for path in provider(name).identity.id}
    assert last
    assert not last & lint.MUTABLE


@pytest.mark.compliance("A40")
@pytest.mark.compliance("B4")
@pytest.mark.parametrize(("name", "scopes"), sorted(SCOPES.items()))
def test_a_preset_asks_for_little(name: str, scopes: tuple[str, ...]) -> None:
    assert provider(name).scopes == scopes


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nowhere",
        "../presets/github",
        "../conf",
        "..",
        "/etc/passwd",
        "github.toml",
        "github\x00",
        "__init__",
        "a/b",
    ],
)
def test_what_is_no_preset_is_none(name: str) -> None:
    assert presets.load(name) is None


@pytest.mark.parametrize(
    ("base", "override", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": {"b": {"x": 1}}}, {"a": {"b": {"y": 2}}}, {"a": {"b": {"x": 1, "y": 2}}}),
        ({"a": {"x": 1}}, {"a": 5}, {"a": 5}),
        ({"a": 5}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_tables_are_merged_and_everything_else_is_replaced(base, override, merged) -> None:
    assert presets.merge(base, override) == merged


def test_merging_changes_neither_side() -> None:
    base, override = {"a": {"x": 1}}, {"a": {"y": 2}}
    presets.merge(base, override)["a"]["z"] = 3
    assert (base, override) == ({"a": {"x": 1}}, {"a": {"y": 2}})


# --- rules for every preset ---------------------------------------------------------------------

PACKAGE = Path(presets.__file__).parents[1]
ENVIRONMENTS = [
    pytest.param(name, environment, id=f"{name}-{environment}")
    for name in NAMES
    for environment in (presets.load(name) or {}).get("environments", {})
]


def urls(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from urls(item)
    elif isinstance(value, str) and "://" in value and not value.startswith("(?"):
        yield value


@pytest.mark.compliance("A23")
@every_preset
def test_a_preset_speaks_https_only(name: str) -> None:
    found = list(urls(dict(presets.load(name) or {})))
    assert found
    assert all(url.startswith("https://") for url in found)


@pytest.mark.parametrize(("name", "environment"), ENVIRONMENTS)
def test_an_environment_is_laid_over_its_preset(name: str, environment: str) -> None:
    entry = {"client_id": "client", "client_secret": "secret", "environment": environment}
    data = presets.compose(presets.load(name) or {}, entry)
    other = Provider.from_mapping(name, data).resolve({})
    assert other != provider(name).resolve({})
    assert other.label == provider(name).label


WORDS = {"box", "sentry"}  # the first is a word, and sites report errors to the second


def test_the_engine_knows_no_provider_by_name() -> None:
    distinct = [name for name in NAMES if len(name) > 1 and name not in WORDS]
    names = re.compile(rf"\b(?:{'|'.join(distinct)})\b", re.IGNORECASE)
    # Code for single providers, and for other packages' names of them, is in contrib. Nothing imports it.
    for path in set(PACKAGE.rglob("*.py")) - set((PACKAGE / "contrib").rglob("*.py")):
        text = path.read_text("utf-8")
        lines = [line.partition("  # ")[0] for line in text.splitlines()]
        found = [line for line in lines if names.search(line) and not is_example(line)]
        assert not found, f"{path}: {found}"


def is_example(line: str) -> bool:
    """Return whether the line is an example: in a docstring, in --help or in a hint. It decides nothing."""
    return "``" in line or line.strip().startswith(("#", ">>>", '"""', "manage.py ", "python -m "))


# --- a site's own presets -----------------------------------------------------------------------

OWN = """
name = "Own"
authorization_endpoint = "https://own.example/authorize"
token_endpoint = "https://own.example/token"
api_base_url = "https://own.example/api/"

[environments.sandbox]
token_endpoint = "https://sandbox.own.example/token"
"""
OWN_MAPPING = {
    "name": "Own",
    "authorization_endpoint": "https://own.example/authorize",
    "token_endpoint": "https://own.example/token",
}


@pytest.fixture
def own_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.toml"
    path.write_text(OWN, encoding="utf-8")
    return path


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another installed package that has a preset named ``elsewhere`` and one named ``github``."""
    value = f"{__name__}:OWN_MAPPING"
    found = {name: [EntryPoint(name, value, presets.GROUP)] for name in ("elsewhere", "github")}

    def entry_points(group: str, name: str = "") -> list[EntryPoint]:
        return found.get(name, []) if name else [one for ones in found.values() for one in ones]

    monkeypatch.setattr(presets, "entry_points", entry_points)
    presets._load.cache_clear()
    yield
    presets._load.cache_clear()


Configure = Callable[..., None]


@pytest.mark.parametrize("how", ["path", "string", "mapping"])
def test_a_site_brings_its_own_preset(how: str, own_file: Path, configure: Configure) -> None:
    preset = {"path": own_file, "string": str(own_file), "mapping": OWN_MAPPING}[how]
    configure(PROVIDERS={"mine": {"preset": preset, "client_id": "x"}})
    assert conf.provider("mine").token_endpoint == "https://own.example/token"


@pytest.mark.usefixtures("entry_point")
def test_an_installed_package_brings_a_preset(configure: Configure) -> None:
    configure(PROVIDERS={"elsewhere": {"client_id": "x"}, "github": {"client_id": "x", "client_secret": "s"}})
    assert conf.provider("elsewhere").label == "Own"
    assert conf.provider("github").label == "GitHub"


def test_an_environment_is_chosen_by_the_entry(own_file: Path, configure: Configure) -> None:
    entry = {"preset": own_file, "client_id": "x", "environment": "sandbox"}
    configure(PROVIDERS={"mine": entry, "over": {**entry, "token_endpoint": "https://o.example/token"}})
    assert conf.provider("mine").token_endpoint == "https://sandbox.own.example/token"
    assert conf.provider("over").token_endpoint == "https://o.example/token"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"preset": "nowhere"}, "mine.preset: there is no preset 'nowhere'"),
        ({"preset": "/nowhere.toml"}, "mine.preset: there is no "),
        ({"preset": 5}, "mine.preset: there is no preset"),
        ({"preset": OWN_MAPPING, "environment": "sandbox"}, "mine.environment: there is no 'sandbox'"),
        ({"preset": {**OWN_MAPPING, "api": {"headers": {"X": 5}}}}, "mine.api.headers.X: expected a string"),
        (
            {"preset": OWN_MAPPING, "variables": {"tenant": {"pattern": "x", "patern": "y"}}},
            "mine.variables.tenant.patern: unknown key; did you mean 'pattern'?",
        ),
        (
            {"preset": OWN_MAPPING, "hooks": {"client_secret": "no-path"}},
            "mine.hooks.client_secret: expected",
        ),
    ],
)
def test_what_is_wrong_with_an_entry_is_named(
    entry: dict[str, Any], message: str, configure: Configure
) -> None:
    configure(PROVIDERS={"mine": {"client_id": "x", **entry}})
    with pytest.raises(ImproperlyConfigured, match=re.escape(message)):
        conf.provider("mine")


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("name = ", encoding="utf-8")
    with pytest.raises(InvalidProvider, match=r"^preset: "):
        presets.read(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "folder.toml"
    path.mkdir()
    with pytest.raises(InvalidProvider, match=r"^preset: .*folder\.toml cannot be read \("):
        presets.read(path)


@pytest.mark.usefixtures("entry_point")
@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ("githbu", "there is no preset 'githbu'; did you mean 'github'?"),
        ("elsewere", "there is no preset 'elsewere'; did you mean 'elsewhere'?"),
        ("acme", "there is no preset 'acme'"),
        (5, "there is no preset 5"),
    ],
)
def test_a_missing_preset_is_reported_with_the_most_similar_name(preset: object, message: str) -> None:
    assert presets.missing(preset) == message


@pytest.mark.parametrize("kind", [str, Path])
def test_a_missing_file_is_reported_with_its_folder(
    kind: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = tmp_path / "acme3.toml"
    assert presets.read(kind(str(absolute))) is None
    assert presets.missing(kind(str(absolute))) == f"there is no file {absolute}"
    assert presets.missing(kind("acme3.toml")) == f"there is no file acme3.toml (searched in {tmp_path})"


@pytest.mark.parametrize(
    ("slug", "data", "message"),
    [
        ("githbu", {}, " (there is no preset of this name; did you mean 'github'?)"),
        ("mine", {}, ""),  # not "linear"
        ("githbu", {"token_endpoint": "https://id.example/token"}, ""),
        ("githbu", {"issuer": "https://id.example"}, ""),
        ("github", {}, ""),
        ("acme", {}, ""),
    ],
)
def test_an_entry_that_is_named_nearly_like_a_preset(slug: str, data: dict[str, Any], message: str) -> None:
    assert presets.overlooked(slug, data) == message


def test_a_variable_may_be_just_its_value(configure: Configure) -> None:
    entry = {"client_id": "x", "client_secret": "s", "variables": {"host": "gitlab.own.example"}}
    configure(PROVIDERS={"gitlab": entry})
    assert conf.provider("gitlab").resolve({}).token_endpoint == "https://gitlab.own.example/oauth/token"
