"""Errors of a call inside a site's own views: decorator, mixin and middleware, sync and async."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404, HttpResponse
from django.test import AsyncClient
from django.urls import include, path, re_path
from django.views import View

from oauth_connect.errors import (
    AmbiguousConnection,
    ForbiddenDestination,
    KeyUnavailable,
    ProviderMisconfigured,
    ProviderUnavailable,
    ReauthorizationRequired,
)
from oauth_connect.flows import connect_path
from oauth_connect.models import Connection
from oauth_connect.views import ConnectionRequiredMixin, connection_required
from tests.support.visitor import Visitor, query_of

ERRORS = {
    "down": lambda: ProviderUnavailable("It is down.", code="http_503", retry_after=7.2),
    "unreachable": lambda: ProviderUnavailable("It cannot be reached.", code="unreachable"),
    "settings": lambda: ProviderMisconfigured("Compare the client_id.", error="invalid_client"),
    "key": lambda: KeyUnavailable("Put the key back."),
    "reconnect": lambda: ReauthorizationRequired(
        reason="revoked", connect_url=connect_path("scripted", scopes=["read"])
    ),
    "several": lambda: AmbiguousConnection(choose_url="/oauth/scripted/accounts/"),
    "two": lambda: AmbiguousConnection(choose_url="/oauth/scripted/accounts/", connections=[Connection()]),
    "no_page": lambda: AmbiguousConnection(),
    "nowhere": lambda: ReauthorizationRequired(reason="revoked"),
    "other": lambda: ForbiddenDestination("Elsewhere."),
}


def plain(request, error):
    get_user_model().objects.filter(pk=request.user.pk).update(first_name="changed")
    raise ERRORS[error]()


async def coroutine(request, error):
    raise ERRORS[error]()


class Plain(ConnectionRequiredMixin, View):
    connection_provider = "scripted"

    def get(self, request, error):
        raise ERRORS[error]()

    post = get


class Coroutine(ConnectionRequiredMixin, View):
    connection_provider = "scripted"

    async def get(self, request, error):
        raise ERRORS[error]()

    post = get


def steady(request):
    return HttpResponse("inside")


required = connection_required("scripted")
urlpatterns = [
    path("function/<error>/", required(plain)),
    path("non-atomic/<error>/", transaction.non_atomic_requests(required(plain))),
    path("async-function/<error>/", required(coroutine)),
    path("class/<error>/", Plain.as_view()),
    path("async-class/<error>/", Coroutine.as_view()),
    path("middleware/<error>/", plain),
    path("async-middleware/<error>/", coroutine),
    path("steady/", steady),
    path("oauth/", include("oauth_connect.urls")),
    re_path("^/", plain, {"error": "down"}),  # a second slash at the beginning of the path
]

# Async views run their queries in another thread, which sees committed rows only.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

VIEWS = ["function", "async-function", "class", "async-class", "middleware", "async-middleware"]
MIDDLEWARE = "oauth_connect.middleware.ConnectionErrorsMiddleware"


@pytest.fixture(autouse=True)
def connected(scripted_provider, make_connection, settings):
    make_connection()
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]


@pytest.fixture(params=[Visitor, AsyncClient], ids=["wsgi", "asgi"])
def call(request, user):
    """Request a path as the user: through both kinds of handler."""
    visitor = Visitor(user)
    if request.param is Visitor:
        return lambda path, method="get", **headers: getattr(visitor, method)(path, headers=headers)
    client = AsyncClient()
    client.cookies = visitor.client.cookies

    async def call(path, method="get", **headers):
        try:
            return await getattr(client, method)(path, secure=True, headers=headers)
        finally:
            await sync_to_async(connections.close_all)()  # of the thread that the queries ran in

    return lambda *args, **kwargs: asyncio.run(call(*args, **kwargs))


@pytest.mark.parametrize("view", VIEWS)
def test_a_provider_that_is_down_is_503_with_retry_after(view, call):
    page = call(f"/{view}/down/?page=2")

    assert (page.status_code, page["Retry-After"]) == (503, "8")
    assert "no-store" in page["Cache-Control"]
    assert b"does not respond at the moment" in page.content
    assert f'href="/{view}/down/?page=2"'.encode() in page.content


@pytest.mark.parametrize("view", VIEWS)
def test_wrong_settings_are_a_page_and_one_error_in_the_log(view, call, caplog):
    page = call(f"/{view}/settings/")

    assert page.status_code == 502
    assert b"this site&#x27;s settings do not match it" in page.content
    records = [record for record in caplog.records if record.name == "oauth_connect.views"]
    assert [(one.levelname, one.action, one.code) for one in records] == [
        ("ERROR", "view_misconfigured", "invalid_client")
    ]
    assert "Compare the client_id." in records[0].getMessage()


@pytest.mark.parametrize("view", VIEWS)
def test_an_ended_connection_leads_to_connect_and_back(view, call):
    location = call(f"/{view}/reconnect/")["Location"]
    assert location.startswith("/oauth/scripted/connect/?scopes=")
    assert query_of(location)["next"] == f"/{view}/reconnect/"


@pytest.mark.parametrize("view", VIEWS)
def test_several_accounts_lead_to_the_choice_and_back(view, call):
    location = call(f"/{view}/several/?page=2")["Location"]
    assert location.startswith("/oauth/scripted/accounts/?next=")
    assert query_of(location)["next"] == f"/{view}/several/?page=2"


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        ("down", 503, {"error": "http_503"}),
        ("settings", 502, {"error": "invalid_client"}),
        ("key", 500, {"error": "key_unavailable"}),
        ("reconnect", 403, {"error": "revoked", "connect_url": "/oauth/scripted/connect/"}),
        (
            "several",
            409,
            {"error": "several_accounts", "choose_url": "/oauth/scripted/accounts/", "accounts": []},
        ),
    ],
)
@pytest.mark.parametrize("view", VIEWS)
def test_asked_for_json_the_answer_is_json(view, error, status, body, call):
    response = call(f"/{view}/{error}/", accept="application/json")

    found = response.json()
    if "connect_url" in found:
        found["connect_url"] = found["connect_url"].partition("?")[0]
    assert (response.status_code, found) == (status, body)
    assert response.has_header("Retry-After") is (status == 503)


@pytest.mark.parametrize("view", ["middleware", "async-middleware"])
@pytest.mark.parametrize("error", [PermissionDenied, Http404, KeyError])
def test_a_page_leads_to_the_choice_where_the_site_s_owner_setting_knows_no_owner(
    view, error, call, configure
):
    """The view has named an owner itself. The setting may depend on a URL that this view does not have."""

    def owner(request):
        raise error

    configure(OWNER=owner)

    assert call(f"/{view}/two/")["Location"].startswith("/oauth/scripted/accounts/?next=")
    if error is not KeyError:  # a defect of the site, which nothing hides
        found = call(f"/{view}/two/", accept="application/json")
        assert (found.status_code, found.json()["accounts"]) == (409, [])


@pytest.mark.parametrize("view", ["function", "async-function", "middleware"])
def test_other_errors_and_those_that_lead_nowhere_pass(view, call):
    kinds = {
        "other": ForbiddenDestination,
        "nowhere": ReauthorizationRequired,
        "no_page": AmbiguousConnection,
    }
    for error, kind in kinds.items():
        with pytest.raises(kind):
            call(f"/{view}/{error}/")


def test_who_is_not_connected_gets_json_too(call, user):
    user.oauth_connections.all().delete()
    response = call("/function/down/", accept="application/json")
    assert response.status_code == 403
    assert response.json()["error"] == "not_connected"
    assert response.json()["connect_url"].startswith("/oauth/scripted/connect/")


def test_without_a_known_time_retry_after_is_half_a_minute(call):
    assert call("/function/unreachable/")["Retry-After"] == "30"


def test_a_post_is_not_offered_to_be_sent_again(call):
    page = call("/class/down/", "post")
    assert page.status_code == 503
    assert b"href" not in page.content.partition(b"<main>")[2]


@pytest.mark.compliance("A13")
def test_try_again_never_leads_to_another_site(user):
    page = Visitor(user).client.get("/", PATH_INFO="//evil.test/", secure=True)
    assert page.status_code == 503
    assert b"evil.test" not in page.content


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        ("application/json; charset=utf-8", True),
        ("application/vnd.api+json", True),
        ("application/json, text/plain, */*", True),
        ("text/html, application/vnd.api+json", False),
        ("*/*", False),
        ("image/png", False),
    ],
)
def test_json_is_recognised_with_a_parameter_or_a_suffix(accept, is_json, user):
    page = Visitor(user).get("/middleware/down/", headers={"Accept": accept})
    assert (page["Content-Type"] == "application/json") is is_json


@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_no_cache_keeps_the_way_to_connect(accept, user):
    page = Visitor(user).get("/middleware/reconnect/", headers={"Accept": accept})
    assert "no-store" in page["Cache-Control"]


def test_a_missing_key_is_our_fault(call, caplog):
    page = call("/middleware/key/")
    assert page.status_code == 500
    assert b"not set up completely" in page.content
    assert [one.action for one in caplog.records if one.name == "oauth_connect.views"] == [
        "site_misconfigured"
    ]


def test_developers_get_their_box(call, user):
    assert b"For developers" not in call("/function/settings/").content
    user.is_staff = True
    user.save()
    assert b"manage.py oauth_doctor scripted --online" in call("/function/settings/").content
    assert b"manage.py oauth_doctor --online" in call("/middleware/settings/").content


def test_the_middleware_leaves_the_rest_alone(call):
    assert call("/steady/").content == b"inside"


WRITTEN = [("function", ""), ("middleware", ""), ("non-atomic", "changed")]


@pytest.mark.parametrize(("view", "written"), WRITTEN)
def test_an_answered_error_rolls_the_request_back(view, written, user, monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    assert Visitor(user).get(f"/{view}/down/").status_code == 503

    user.refresh_from_db()
    assert user.first_name == written
