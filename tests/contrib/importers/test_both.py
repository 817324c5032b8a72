"""What holds for each package: a person signs in by it at a real server, and its token is taken over."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.contrib.importers.conftest import OtherSite
from tests.servers.codeyard import CLIENT_ID, Codeyard

SCOPES = ["profile", "repositories", "activity"]


@pytest.fixture(params=["allauth", "social_auth"])
def package(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(package: str, other_site: Callable[..., OtherSite], codeyard: Codeyard) -> OtherSite:
    """A user has signed in with an account at Codeyard."""
    made = other_site(package, codeyard)
    assert made.do("sign_in", username="ada") == {"status": 302, "user": "1"}
    return made


def test_a_token_that_was_signed_in_with_goes_on_living_here(
    site: OtherSite, package: str, codeyard: Codeyard
) -> None:
    tokens = site.do("stored_tokens")["tokens"]
    run = site.command("oauth_import", package)
    assert (run.status, run.lines[-1]) == (0, "1 of 1 rows imported.")

    (told,) = site.do("tell", tokens=tokens)
    assert told["holds"]
    assert not told["in_the_row"]
    assert (told["owner"], told["user"], told["client_id"]) == ("user:1", 1, CLIENT_ID)
    assert (told["provider"], told["account_label"], told["status"]) == ("codeyard", "ada", "active")
    assert told["due"]
    assert 0 < told["expires_at"] - time.time() <= 300
    assert told["history"] == [{"imported_from": package}]

    refreshes = codeyard.refreshes
    called = site.do("call")
    assert (called["status"], called["login"], called["version"]) == (200, "ada", 1)
    assert sorted(called["scopes"]) == sorted(SCOPES)
    assert codeyard.refreshes == refreshes + 1
    assert not any(token in run.out + run.err for token in tokens)


def test_a_second_run_changes_nothing_even_after_a_refresh_here(site: OtherSite, package: str) -> None:
    assert site.command("oauth_import", package).status == 0
    site.do("call")
    before = site.do("tell")
    run = site.command("oauth_import", package, "--json")
    assert run.status == 0
    assert run.document["outcomes"]["already_here"] == 1
    assert run.document["outcomes"]["imported"] == 0
    assert site.do("tell") == before


def test_a_dry_run_says_the_same_and_writes_nothing(site: OtherSite, package: str) -> None:
    run = site.command("oauth_import", package, "--dry-run")
    assert (run.status, run.lines[-1]) == (0, "1 of 1 rows would be imported. Nothing was written.")
    assert site.do("tell") == []


def test_a_token_of_another_client_is_left_out_by_name(site: OtherSite, package: str) -> None:
    site.orders["providers"]["codeyard"] = {**site.orders["providers"]["codeyard"], "client_id": "another"}
    run = site.command("oauth_import", package)
    assert run.status == 1
    assert "codeyard: obtained by another client_id than the provider's entry has" in run.out
    assert "Rows 1." in run.out
    assert site.do("tell") == []


def test_a_provider_can_have_another_name_here(site: OtherSite, package: str) -> None:
    entry = site.orders["providers"].pop("codeyard")
    site.orders["providers"]["yard"] = entry
    run = site.command("oauth_import", package, "--json")
    assert run.document["outcomes"]["unknown_provider"] == 1
    assert run.document["left_out"] == [{"name": "codeyard", "outcome": "unknown_provider", "rows": ["1"]}]
    assert run.status == 0
    assert site.command("oauth_import", package, "--map", "codeyard=yard").status == 0
    assert [told["provider"] for told in site.do("tell")] == ["yard"]


def test_only_the_providers_asked_for_are_read(site: OtherSite, package: str) -> None:
    assert site.command("oauth_import", package, "--provider", "google", "--json").document["total"] == 0
    assert site.command("oauth_import", package, "--provider", "codeyard", "--json").document["total"] == 1


def test_what_makes_no_sense_is_refused_before_anything_is_read(site: OtherSite, package: str) -> None:
    unknown = site.command("oauth_import", package, "--map", "codeyard=nowhere")
    assert unknown.status == 2
    assert "No provider 'nowhere'" in unknown.err
    assert site.command("oauth_import", package, "--map", "codeyard").status == 2
    other = {"allauth": "social_auth", "social_auth": "allauth"}[package]
    absent = site.command("oauth_import", other)
    assert absent.status == 2
    assert "INSTALLED_APPS" in absent.err
