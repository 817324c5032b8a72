"""The docs name every setting, field of a provider, check, error and signal."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest
from django.urls import reverse

from oauth_connect import checks, errors, signals
from oauth_connect.conf import KNOWN
from oauth_connect.protocol.provider import Provider

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
INTERNAL_ERRORS = {
    "CallError",
    "ProtocolError",
    "OAuthConnectError",
    "InvalidProvider",
    "CallbackRefused",
    "RepeatedResponse",
}
PROVIDER_FIELDS = [field.name for field in dataclasses.fields(Provider) if field.name != "slug"]
CHECKS = "".join(path.read_text("utf-8") for path in Path(checks.__file__).parent.glob("*.py"))
CHECK_IDS = sorted(set(re.findall(r'"(oauth_connect\.[EW]\d{3})"', CHECKS)))
ERRORS = sorted(
    name
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, errors.OAuthConnectError) and name not in INTERNAL_ERRORS
)
SIGNALS = sorted(name for name in vars(signals) if name.islower() and not name.startswith("_"))


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_setting_has_a_row(name):
    assert f"| `{name}` |" in page("settings.md")


@pytest.mark.parametrize("name", PROVIDER_FIELDS)
def test_every_field_of_a_provider_is_described(name):
    assert f"`{name}`" in page("settings.md")


@pytest.mark.parametrize("check_id", CHECK_IDS)
def test_every_check_has_a_row(check_id):
    assert f"| `{check_id}` |" in page("checks.md")


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_that_a_call_can_meet_has_a_row(name):
    assert f"| `{name}` |" in page("calling.md")


@pytest.mark.parametrize("name", SIGNALS)
def test_every_signal_is_named(name):
    assert f"`{name}`" in page("calling.md")


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))], ids=lambda path: path.name
)
def test_links_between_documents_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        assert (document.parent / target).exists(), target


def test_the_redirect_uri_of_the_readme_is_the_one_that_is_sent():
    callback = reverse("oauth_connect:callback", kwargs={"provider": "github"})
    assert callback.rpartition("github")[2] == "/callback/"
    assert "/connections/github/callback/" in (ROOT / "README.md").read_text("utf-8")
