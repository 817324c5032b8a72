"""One redirect URI for visitors of every language, and one for each place where the pages are included."""

from __future__ import annotations

import io
from types import ModuleType

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.management import call_command
from django.urls import include, path

from oauth_connect.models import Connection
from tests.support.visitor import query_of, state_of

pytestmark = [pytest.mark.django_db, pytest.mark.compliance("B7")]


def urlconf(*patterns) -> ModuleType:
    module = ModuleType("urlconf")
    module.urlpatterns = list(patterns)
    return module


LANGUAGES = urlconf(*i18n_patterns(path("connections/", include("oauth_connect.urls"))))
TWICE = urlconf(
    path("a/", include("oauth_connect.urls", namespace="mine")),
    path("b/", include("oauth_connect.urls", namespace="theirs")),
)


@pytest.fixture
def languages(settings):
    settings.ROOT_URLCONF = LANGUAGES
    settings.LANGUAGE_CODE = "en"
    settings.LANGUAGES = [("en", "English"), ("de", "Deutsch"), ("fr", "Français")]
    session = settings.MIDDLEWARE.index("django.contrib.sessions.middleware.SessionMiddleware")
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE[: session + 1],
        "django.middleware.locale.LocaleMiddleware",
        *settings.MIDDLEWARE[session + 1 :],
    ]


def registered() -> str:
    out = io.StringIO()
    call_command("oauth_doctor", stdout=out, stderr=out)
    return out.getvalue()


@pytest.mark.parametrize("language", ["en", "de", "fr"])
def test_the_language_changes_neither_the_redirect_uri_nor_the_way_back(
    language, languages, visitor, scripted, scripted_provider, issues
):
    start = visitor.follow(f"/{language}/connections/scripted/connect/")
    uri = query_of(start)["redirect_uri"]
    assert uri == "https://app.example/en/connections/scripted/callback/"

    done = visitor.get("/en/connections/scripted/callback/", {"state": state_of(start), "code": "c"})

    assert done["Location"] == f"/{language}/connections/", "the user's language"
    assert scripted.asked("/token")[0].form["redirect_uri"] == uri
    assert uri in registered()


def test_a_site_whose_language_code_is_no_language_of_its_urls_has_a_callback(
    languages, settings, visitor, scripted_provider, issues
):
    """Django's default is "en-us", which is in no LANGUAGES, and Django serves the pages below /en/."""
    settings.LANGUAGE_CODE = "en-us"
    start = visitor.follow("/de/connections/scripted/connect/")
    assert query_of(start)["redirect_uri"] == "https://app.example/en/connections/scripted/callback/"

    done = visitor.get("/en/connections/scripted/callback/", {"state": state_of(start), "code": "c"})
    assert done["Location"] == "/de/connections/"
    assert visitor.get("/en-us/connections/scripted/callback/").status_code == 404


def test_an_answer_that_arrives_under_another_language_ends_the_flow(
    languages, visitor, scripted, scripted_provider, issues
):
    start = visitor.follow("/de/connections/scripted/connect/")
    done = visitor.get("/fr/connections/scripted/callback/", {"state": state_of(start), "code": "c"})
    assert done.status_code == 302
    assert scripted.asked("/token")[0].form["redirect_uri"] == query_of(start)["redirect_uri"]


@pytest.mark.parametrize("mount", ["a", "b"])
def test_a_flow_stays_where_it_began(mount, settings, visitor, scripted_provider, issues):
    settings.ROOT_URLCONF = TWICE
    start = visitor.follow(f"/{mount}/scripted/connect/")
    assert query_of(start)["redirect_uri"] == f"https://app.example/{mount}/scripted/callback/"

    done = visitor.get(f"/{mount}/scripted/callback/", {"state": state_of(start), "code": "c"})

    assert done["Location"] == f"/{mount}/"
    pk = Connection.objects.get().pk
    assert visitor.post(f"/{mount}/{pk}/disconnect/")["Location"] == f"/{mount}/"


def test_an_answer_in_another_place_is_refused(settings, visitor, scripted, scripted_provider):
    settings.ROOT_URLCONF = TWICE
    start = visitor.follow("/a/scripted/connect/")
    assert visitor.get("/b/scripted/callback/", {"state": state_of(start), "code": "c"}).status_code == 400
    assert scripted.requests == []


def test_the_doctor_names_the_redirect_uri_of_each_place(settings, scripted_provider, db):
    settings.ROOT_URLCONF = TWICE
    for mount in ("a", "b"):
        assert f"register https://app.example/{mount}/scripted/callback/" in registered()


def test_the_doctor_says_that_each_owner_has_a_redirect_uri(configure, scripted_provider, db):
    configure(RECORD_REDIRECTS=["scripted"])
    assert "one for each owner: https://app.example/oauth/scripted/callback/RECORD/" in registered()
