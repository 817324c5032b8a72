"""Entries that cannot work, and entries that turn a protection off."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.acme import ACME
from tests.support.our_checks import found

CHOSEN = {
    **ACME,
    "authorization_endpoint": "https://{host}/authorize",
    "token_endpoint": "https://{host}/token",
    "variables": {"host": {"source": "user", "pattern": "[a-z.]+"}},
}
OTHERS = {"other_entries": ["acme"]}
NO_PKCE = {"code_challenge_method": "none", "without_pkce_because": "it answers 400"}


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("W040", {"PROVIDER_LOADER": lambda slug, owner: None}, "PROVIDER_LOADER"),
    ("W040", {"PROVIDERS": {"acme": CHOSEN}}, "choose its server"),
    ("E043", {"PROVIDERS": {"api": ACME}}, "the JSON API"),
    ("E005", {"PROVIDERS": []}, "PROVIDERS"),
    ("E005", {"PROVIDERS": {"my.acme": ACME}}, "my.acme.slug"),
    ("E005", {"PROVIDERS": {"acme": {}}}, "acme.client_id"),
    ("E005", {"PROVIDERS": {"acme": 5}}, "acme"),
    ("E005", {"PROVIDERS": {"acme": {**ACME, "token_endpoint": "http://id.test/"}}}, "acme.token_endpoint"),
    ("E005", {"PROVIDERS": {"acme": {**ACME, "api_hosts": ["a b"]}}}, "acme.api_hosts"),
    ("E005", {"PROVIDERS": {"acme": {**ACME, "preset": "nowhere"}}}, "acme.preset"),
    (
        "E005",
        {"PROVIDERS": {"acme": {**ACME, "token_response": OTHERS}}},
        "acme.token_response.other_entries",
    ),
    ("W006", {"PROVIDERS": {"acme": {**ACME, "api_base_url": ""}}}, "names no API"),
    ("W013", {"PROVIDERS": {"acme": {**ACME, "api_hosts": ["other.test"]}}}, "api_base_url"),
    ("W042", {"PROVIDERS": {"okta": {"client_id": "c", "client_secret": "s"}}}, "okta_domain"),
    ("W011", {"PROVIDERS": {"acme": {**ACME, "authorize": NO_PKCE}}}, "it answers 400"),
]


@pytest.mark.parametrize(("number", "wrong", "word"), CASES)
def test_a_wrong_entry_is_reported_with_its_fix(reported, number, wrong, word) -> None:
    reported(number, wrong, word)


@pytest.mark.compliance("A9")
@pytest.mark.parametrize(
    "kept_apart",
    [
        {"PROVIDERS": {"acme": CHOSEN}, "RECORD_REDIRECTS": ["acme"]},
        {"PROVIDER_LOADER": lambda slug, owner: None, "RECORD_REDIRECTS": ["tenant"]},
        {
            "PROVIDERS": {
                "acme": {
                    **CHOSEN,
                    "issuer": "https://{host}",
                    "authorization_response_iss_parameter_supported": True,
                }
            }
        },
        {
            "PROVIDERS": {
                "acme": {**CHOSEN, "variables": {"host": {"source": "user", "choices": ["a.test", "b.test"]}}}
            }
        },
        {
            "PROVIDERS": {
                "acme": {**CHOSEN, "variables": {"host": {"pattern": "[a-z.]+", "default": "a.test"}}}
            }
        },
    ],
)
def test_what_keeps_servers_apart_is_no_mix_up(configure, kept_apart) -> None:
    configure(**kept_apart)
    assert found() == {}


def test_a_hook_that_cannot_be_imported_is_named(configure) -> None:
    configure(PROVIDERS={"acme": {**ACME, "hooks": {"register_client": "nowhere.at_all"}}})
    assert "acme.hooks.register_client" in found()["E005"].msg
