"""URLs, the login page, sessions and users."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.test import override_settings
from django.urls import include, path, reverse_lazy

from oauth_connect.checks import pages
from tests.support.our_checks import found

URLCONF = "tests.checks.test_pages"
urlpatterns: list[Any] = []
LANGUAGES = type("Urls", (), {"urlpatterns": i18n_patterns(path("", include("tests.urls")))})
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
MEMORY = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@override_settings(ROOT_URLCONF=URLCONF)
def test_urls_that_are_not_included_are_reported() -> None:
    message = found()["W007"]
    assert "include(" in (message.hint or "")


def test_urls_below_another_namespace_are_reported_with_its_name(settings) -> None:
    inner = path("in/", include(([path("own/", include("oauth_connect.urls"))], "inner")))
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("", include(([inner], "site")))]})
    message = found()["W007"]
    assert "'site:inner'" in message.msg
    assert "outside" in (message.hint or "")


@pytest.mark.parametrize(
    "templates",
    [
        [],
        [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["elsewhere"]}],
    ],
    ids=["no engine", "no APP_DIRS"],
)
def test_templates_that_are_not_found_are_reported(settings, templates) -> None:
    settings.TEMPLATES = templates
    messages = found()
    assert set(messages) == {"W044"}
    assert "APP_DIRS" in (messages["W044"].hint or "")


def test_a_mistake_in_a_template_of_the_site_stops_no_check(settings) -> None:
    loader = ("django.template.loaders.locmem.Loader", {pages.PAGE: "{% load nowhere %}"})
    engine = {"BACKEND": "django.template.backends.django.DjangoTemplates", "OPTIONS": {"loaders": [loader]}}
    settings.TEMPLATES = [engine]
    assert found() == {}


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("login", None),  # the name of a URL
        ("/accounts/login/", None),
        ("/accounts/login", None),  # APPEND_SLASH
        ("/accounts/login/?a=b#c", None),
        (reverse_lazy("login"), None),
        ("https://login.example/", None),
        ("//login.example/", None),
        ("../login/", None),
        ("no-such-name", "'no-such-name' not found"),
        (reverse_lazy("no-such-name"), "'no-such-name' not found"),
        ("/nowhere/", "'/nowhere/': no URLconf"),
        ("accounts/login/", "begins with a slash"),
    ],
)
def test_a_login_url_that_leads_nowhere_is_reported(settings, url, word) -> None:
    settings.LOGIN_URL = url
    messages = found()
    assert set(messages) == ({"W041"} if word else set())
    assert not word or ". Visitors" in messages["W041"].msg
    assert not word or (word in messages["W041"].msg and "LOGIN_URL" in (messages["W041"].hint or ""))


@override_settings(ROOT_URLCONF=LANGUAGES, LOGIN_URL="/accounts/login/")
def test_a_login_page_below_a_language_is_found() -> None:
    assert found() == {}


@override_settings(FORCE_SCRIPT_NAME="/app", LOGIN_URL="/app/accounts/login/")
def test_a_login_page_below_the_scripts_name_is_found() -> None:
    assert found() == {}


def test_a_site_without_urls_needs_none(settings) -> None:
    del settings.ROOT_URLCONF
    assert found() == {}


@override_settings(SESSION_COOKIE_SAMESITE="Strict")
def test_a_session_that_does_not_come_back_is_reported() -> None:
    assert "Lax" in (found()["E008"].hint or "")


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"SESSION_ENGINE": "nowhere"}, "E016"),
        ({"MIDDLEWARE": []}, "W017"),
        ({"MIDDLEWARE": [SESSIONS]}, "W045"),
        ({"MIDDLEWARE": [SESSIONS, "oauth_connect.middleware.ConnectionErrorsMiddleware"]}, "W045"),
        ({"SESSION_ENGINE": "django.contrib.sessions.backends.cache", "CACHES": MEMORY}, "W019"),
    ],
)
def test_sessions_that_could_lose_a_flow_are_reported(changes, number) -> None:
    with override_settings(**changes):
        messages = found()
    assert set(messages) == {number}
    assert messages[number].hint


def test_sessions_in_a_database_without_their_app_are_reported(settings) -> None:
    installed = [name for name in settings.INSTALLED_APPS if name != "django.contrib.sessions"]
    with override_settings(INSTALLED_APPS=installed):
        assert "migrate" in (found()["E018"].hint or "")


def test_an_app_without_users_is_reported(settings) -> None:
    installed = [name for name in settings.INSTALLED_APPS if name == "oauth_connect"]
    with override_settings(INSTALLED_APPS=installed):
        assert "INSTALLED_APPS" in (found()["E009"].hint or "")
