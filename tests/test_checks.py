"""Every check id: what raises it, what does not, and that it says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.core.checks import CheckMessage, registry, run_checks
from django.test import override_settings
from django.urls import include, path, reverse_lazy

from oauth_connect import checks
from oauth_connect.models import Connection
from tests.test_conf import ACME, KEY

pytestmark = pytest.mark.django_db  # one of them reads rows

OURS = [
    check
    for check in (*registry.registry.registered_checks, *registry.registry.deployment_checks)
    if check.__module__ == checks.__name__
]
URLCONF = "tests.test_checks"
urlpatterns: list[Any] = []
LANGUAGES = type("Urls", (), {"urlpatterns": i18n_patterns(path("", include("tests.urls")))})
CHOSEN = {
    **ACME,
    "authorization_endpoint": "https://{host}/authorize",
    "token_endpoint": "https://{host}/token",
    "variables": {"host": {"source": "user", "pattern": "[a-z.]+"}},
}
OTHERS = {"other_entries": ["acme"]}
NO_PKCE = {"code_challenge_method": "none", "without_pkce_because": "it answers 400"}


def found() -> dict[str, CheckMessage]:
    """Run all of our checks, as ``check --deploy --database default`` does, and return them by id."""
    messages = [message for check in OURS for message in check(app_configs=None, databases=["default"])]
    return {message.id.removeprefix("oauth_connect."): message for message in messages if message.id}


@pytest.fixture(autouse=True)
def good(configure) -> None:
    configure(PROVIDERS={"acme": ACME})


def test_good_settings_raise_nothing() -> None:
    assert found() == {}


@pytest.mark.django_db(databases="__all__")  # some of Django's own ask the database
def test_django_runs_our_checks(in_production) -> None:
    with override_settings(OAUTH_CONNECT={}):
        ids = {message.id for message in run_checks(include_deployment_checks=True)}
    assert {"oauth_connect.E001", "oauth_connect.E003"} <= ids


@pytest.mark.parametrize(
    "empty", [{"KEYS": None}, {"KEYS": [""]}, {"PROVIDERS": {"acme": {**ACME, "client_id": ""}}}]
)
def test_what_the_environment_lacks_fails_no_test_run(configure, empty) -> None:
    """A site reads keys and clients from environment variables, which are often missing in its tests."""
    configure(**empty)
    assert found() == {}


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("E001", {"KEYS": None}, "KEYS"),
    ("E001", {"KEYS": ["short"]}, "KEYS"),
    ("E001", {"KEYS": [None]}, "is empty. Is its environment variable set"),
    ("E002", {"KEYS": [KEY]}, "SECRET_KEY"),
    ("E003", {"BASE_URL": "app.example"}, "has no scheme"),
    ("E003", {"BASE_URL": "http://app.test"}, "https"),
    ("E003", {"BASE_URL": "http://localhost:80@evil.test"}, "user information"),
    ("E003", {"BASE_URL": "https://app.example/site"}, "scheme and host"),
    ("E003", {"BASE_URL": 5}, "URL"),
    ("E004", {"KEY": "x"}, '"KEY"'),
    ("E004", {"BASEURL": "https://app.example"}, "did you mean 'BASE_URL'?"),
    ("E004", {"providers": {}}, "did you mean 'PROVIDERS'?"),
    ("E004", {"REFRESH_LEEWAY": "60"}, "REFRESH_LEEWAY"),
    ("E004", {"HTTP_TIMEOUT": -1}, "HTTP_TIMEOUT"),
    ("E004", {"HISTORY_DAYS": "365"}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": True}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": -1}, "HISTORY_DAYS"),
    ("E004", {"HISTORY_DAYS": 10**9}, "None keeps it for ever"),
    ("E004", {"OWNER": "x"}, "OWNER"),
    ("E004", {"CONNECTION_STATE": "mysite.tenants"}, "CONNECTION_STATE"),
    ("E004", {"CONNECTION_STATE": (print,)}, "CONNECTION_STATE"),
    ("E004", {"PROVIDER_LOADER": "site.providers.load"}, "PROVIDER_LOADER"),
    ("E004", {"HTTP_TIMEOUT": 0}, "HTTP_TIMEOUT"),
    *(
        ("E004", {"RECORD_REDIRECTS": value}, "RECORD_REDIRECTS")
        for value in ("acme", [5], {"acme": 1}, None)
    ),
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
    ("W012", {"BASE_URL": "http://127.0.0.1:8000"}, "loopback"),
]


@pytest.mark.compliance("A12")
@pytest.mark.compliance("B6")
@pytest.mark.parametrize(("number", "wrong", "word"), CASES)
def test_a_wrong_setting_is_reported_with_its_fix(
    configure, settings, in_production, number, wrong, word
) -> None:
    settings.SECRET_KEY = KEY
    configure(**wrong)
    messages = found()
    assert set(messages) == {number}
    assert word in messages[number].msg
    assert messages[number].hint
    assert messages[number].is_serious() is number.startswith("E")


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


def test_every_wrong_provider_and_setting_is_reported_together(configure) -> None:
    configure(KEY=1, BASEURL=2, PROVIDERS={"a": {}, "b": {}, "acme": ACME})
    messages = [message for check in OURS for message in check(app_configs=None)]
    assert [message.id for message in messages].count("oauth_connect.E004") == 2
    assert [message.id for message in messages].count("oauth_connect.E005") == 2


@pytest.mark.parametrize("wrong", [None, [], "x", 5])
def test_settings_that_are_no_dict_are_reported_without_a_crash(settings, wrong: Any) -> None:
    settings.OAUTH_CONNECT = wrong
    messages = found()
    assert {"E001", "E004"} <= set(messages)
    assert all("must be a dict" in message.msg for message in messages.values())


@pytest.mark.parametrize("key", [None, "x"])
def test_a_key_is_not_shown(configure, key: Any) -> None:
    configure(KEYS=["canary", key])
    assert "canary" not in found()["E001"].msg


def test_a_missing_base_url_is_reported_in_production(configure, in_production) -> None:
    configure(BASE_URL=None)
    assert "is not set" in found()["E003"].msg


def test_the_tests_of_a_site_need_no_base_url(configure) -> None:
    configure(BASE_URL=None)
    assert found() == {}


def test_under_debug_no_base_url_is_needed(configure, settings) -> None:
    settings.DEBUG = True
    configure(BASE_URL=None)
    assert found() == {}


def test_a_base_url_of_a_callable_is_not_asked_without_a_request(configure) -> None:
    configure(BASE_URL=pytest.fail)
    assert found() == {}


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
    loader = ("django.template.loaders.locmem.Loader", {checks.PAGE: "{% load nowhere %}"})
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


MEMORY = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"SESSION_ENGINE": "nowhere"}, "E016"),
        ({"MIDDLEWARE": []}, "W017"),
        ({"MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"]}, "W045"),
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


def test_times_without_a_time_zone_are_reported(settings) -> None:
    settings.USE_TZ = False
    messages = found()
    assert set(messages) == {"E021"}
    assert messages["E021"].is_serious()
    assert "USE_TZ = True" in (messages["E021"].hint or "")


@pytest.mark.parametrize(
    ("engine", "atomic", "told"),
    [
        ("django.db.backends.sqlite3", True, {"W010"}),
        ("django.db.backends.sqlite3", False, set()),
        ("django.db.backends.postgresql", True, set()),
    ],
)
def test_atomic_requests_on_sqlite_are_reported(monkeypatch, settings, engine, atomic, told) -> None:
    options = {"transaction_mode": "IMMEDIATE"}  # without which another check speaks
    entry = {
        **settings.DATABASES["default"],
        "ENGINE": engine,
        "ATOMIC_REQUESTS": atomic,
        "OPTIONS": options,
    }
    monkeypatch.setitem(settings.DATABASES, "default", entry)
    messages = found()
    assert set(messages) == told
    assert all(message.hint for message in messages.values())


@pytest.mark.parametrize(
    ("engine", "state", "warned"),
    [
        ("django_tenants.postgresql_backend", None, {"W022"}),
        ("django_tenants.postgresql_backend", (print, print), set()),
        ("tenant_schemas.postgresql_backend", None, {"W022"}),
        ("django.db.backends.postgresql", None, set()),
    ],
)
def test_schemas_of_tenants_without_their_state_are_reported(
    monkeypatch, settings, engine, state, warned
) -> None:
    settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, "CONNECTION_STATE": state}
    monkeypatch.setitem(settings.DATABASES, "default", {**settings.DATABASES["default"], "ENGINE": engine})
    assert set(found()) == warned


@pytest.mark.parametrize(
    ("engine", "options", "told"),
    [
        ("django.db.backends.sqlite3", {}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": "deferred"}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": None}, {"W020"}),
        ("django.db.backends.sqlite3", {"transaction_mode": "IMMEDIATE"}, set()),
        ("django.db.backends.sqlite3", {"transaction_mode": "exclusive"}, set()),
        ("django.db.backends.postgresql", {}, set()),
    ],
)
def test_transactions_on_sqlite_that_begin_as_readers_are_reported(
    monkeypatch, settings, engine, options, told
) -> None:
    entry = {**settings.DATABASES["default"], "ENGINE": engine, "OPTIONS": options}
    monkeypatch.setitem(settings.DATABASES, "default", entry)
    messages = found()
    assert set(messages) == told
    assert all(message.hint for message in messages.values())


@pytest.mark.compliance("B6")
@pytest.mark.django_db(databases="__all__")
def test_rows_that_no_key_opens_are_reported_when_the_check_may_use_the_database(
    configure, make_connection
) -> None:
    make_connection("acme")
    assert found() == {}
    configure(KEYS=[KEY])
    make_connection("acme")
    message = found()["E014"]
    assert "1 of 2" in message.msg
    assert "Put the key" in (message.hint or "")
    assert [check for check in run_checks() if check.id == message.id] == []
    assert message.id in {check.id for check in run_checks(databases=["default"], tags=["database"])}


def test_a_row_whose_key_is_lost_can_be_let_go(configure, make_connection) -> None:
    connection = make_connection("acme")
    configure(KEYS=[KEY])
    connection.disconnect()
    assert found() == {}


def test_a_database_without_our_table_is_not_asked(configure, make_connection, monkeypatch) -> None:
    make_connection("acme")
    configure(KEYS=[KEY])
    monkeypatch.setattr(Connection._meta, "db_table", "not_there_yet")
    assert found() == {}


def test_every_id_has_a_test() -> None:
    source = Path(checks.__file__).read_text(encoding="utf-8")
    ids = {word.split('"')[0] for word in source.split('id="oauth_connect.')[1:]}
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    assert {number for number in ids if f'"{number}"' not in tests and f".{number}" not in tests} == set()


def test_a_hook_that_cannot_be_imported_is_named(configure) -> None:
    configure(PROVIDERS={"acme": {**ACME, "hooks": {"register_client": "nowhere.at_all"}}})
    assert "acme.hooks.register_client" in found()["E005"].msg
