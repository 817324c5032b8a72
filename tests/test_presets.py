from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oauth_connect import presets
from oauth_connect.protocol import messages
from oauth_connect.protocol.provider import Provider

NAMES = sorted(path.stem for path in Path(presets.__file__).parent.glob("*.toml"))
MUTABLE = {"email", "preferred_username", "login", "username", "name", "upn", "mail"}
every_preset = pytest.mark.parametrize("name", NAMES)


def provider(name: str) -> Provider:
    preset = presets.load(name)
    assert preset is not None
    return Provider.from_mapping(name, {**preset, "client_id": "client", "client_secret": "secret"})


def defaults_of(variables: Any) -> dict[str, str]:
    return {name: variable.default or "acme" for name, variable in variables.items()}


@every_preset
def test_a_preset_lacks_only_the_client(name: str) -> None:
    found = provider(name)
    assert found.name
    assert found.documentation.startswith("https://")
    assert found.authorization_endpoint
    assert found.api_base_url or found.api_hosts


@every_preset
def test_a_preset_holds_no_client(name: str) -> None:
    assert not {"client_id", "client_secret", "slug"} & set(presets.load(name) or {})


@pytest.mark.compliance("C-state")
@every_preset
def test_no_preset_can_leave_out_the_state(name: str) -> None:
    found = provider(name)
    url = messages.authorization_url(
        found.resolve(defaults_of(found.variables)),
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
    assert authorize.code_challenge_method == "S256" or len(authorize.without_pkce_because) > 10


@pytest.mark.compliance("C-account-id")
@every_preset
def test_a_preset_knows_accounts_by_what_their_owners_cannot_change(name: str) -> None:
    last = {path.rpartition(".")[2] for path in provider(name).identity.id}
    assert last
    assert not last & MUTABLE


@pytest.mark.compliance("A40")
@pytest.mark.compliance("B4")
@pytest.mark.parametrize(("name", "scopes"), [("github", ()), ("gitlab", ("read_user",))])
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
