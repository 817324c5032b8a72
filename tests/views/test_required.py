"""The gates for a site's own views, sync and async."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import include, path
from django.views import View

from oauth_connect.flows import session_for
from oauth_connect.models import Connection
from oauth_connect.views import ConnectionRequiredMixin, connection_required
from tests.servers.scripted import Answer
from tests.support.visitor import Visitor, query_of, state_of

SCOPES = ["read"]


@connection_required("scripted", scopes=SCOPES)
def plain(request):
    return answer(request)


@connection_required("scripted", scopes=SCOPES)
async def coroutine(request):
    return await sync_to_async(answer)(request)


class Plain(ConnectionRequiredMixin, View):
    connection_provider = "scripted"
    connection_scopes = SCOPES

    def get(self, request):
        return answer(request)


class Coroutine(ConnectionRequiredMixin, View):
    connection_provider = "scripted"
    connection_scopes = SCOPES

    async def get(self, request):
        return await coroutine.__wrapped__(request)


def answer(request):
    if account := request.GET.get("ends"):
        connection = Connection.objects.get(account_id=account)
        raise connection.reauthorization_required("revoked")
    return HttpResponse("inside")


@connection_required("scripted", scopes=SCOPES)
def needs_another_too(request):
    session_for(request.user, "another", scopes=["mail"])
    return HttpResponse("inside")


urlpatterns = [
    path("function/", plain),
    path("async-function/", coroutine),
    path("class/", Plain.as_view()),
    path("async-class/", Coroutine.as_view()),
    path("two/", needs_another_too),
    path("oauth/", include("oauth_connect.urls")),
]

# Async views run their queries in another thread, which sees committed rows only.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

VIEWS = ["/function/", "/async-function/", "/class/", "/async-class/"]


@pytest.fixture(params=[Visitor, AsyncClient], ids=["wsgi", "asgi"])
def get(request, user):
    """Get a path as the user: through both kinds of handler."""
    visitor = Visitor(user)
    if request.param is Visitor:
        return visitor.get
    client = AsyncClient()
    client.cookies = visitor.client.cookies

    async def get(path):
        try:
            return await client.get(path, secure=True)
        finally:
            await sync_to_async(connections.close_all)()  # of the thread that the queries ran in

    return lambda path: asyncio.run(get(path))


@pytest.fixture
def granted(scripted_provider, make_connection):
    """Store a connection that was granted these scopes."""

    def grant(*scopes, **options):
        response = {"access_token": "access", "token_type": "Bearer", "scope": " ".join(scopes)}
        return make_connection(response=response, **options)

    return grant


@pytest.mark.parametrize("view", VIEWS)
def test_who_is_connected_gets_in(view, get, granted):
    granted("read", "write")

    assert get(view).content == b"inside"


@pytest.mark.parametrize("view", VIEWS)
def test_who_is_not_connected_goes_to_connect_and_comes_back(view, get, scripted_provider):
    response = get(f"{view}?page=2")

    assert response.status_code == 302
    assert urlsplit(response["Location"]).path == "/oauth/scripted/connect/"
    assert query_of(response["Location"])["next"] == f"{view}?page=2"


@pytest.mark.parametrize("view", VIEWS)
def test_who_lacks_a_scope_goes_to_grant_it_on_the_same_connection(view, get, granted):
    connection = granted("write")

    query = query_of(get(view)["Location"])

    assert (query["connection"], query["next"]) == (str(connection.pk), view)


@pytest.mark.parametrize("view", VIEWS)
def test_whose_connection_ends_inside_the_view_goes_to_connect_it_again(view, get, granted):
    connection = granted("read", account_id="ada")

    query = query_of(get(f"{view}?ends=ada")["Location"])

    assert (query["connection"], query["next"]) == (str(connection.pk), f"{view}?ends=ada")


@pytest.mark.parametrize("view", VIEWS)
def test_several_accounts_get_in_and_the_view_chooses(view, get, granted):
    granted("read", account_id="ada")
    granted("read", account_id="linus")

    assert get(view).content == b"inside"


@pytest.mark.parametrize("view", VIEWS)
def test_a_stranger_is_asked_to_sign_in(view, db, scripted_provider):
    response = Visitor().get(f"{view}?page=2")

    assert response.status_code == 302
    assert response["Location"] == f"/accounts/login/?next={view}%3Fpage%3D2"


def test_a_view_that_needs_a_second_provider_leads_to_that_one(get, granted, scripted_entry, configure):
    granted("read")
    configure(PROVIDERS=dict.fromkeys(("scripted", "another"), scripted_entry))

    location = get("/two/")["Location"]

    assert urlsplit(location).path == "/oauth/another/connect/"
    assert query_of(location)["next"] == "/two/"


@pytest.mark.compliance("A40", "B4")
def test_the_detour_asks_for_the_missing_scope_and_ends_where_it_began(
    user, visitor, scripted, granted, issues
):
    granted("write", account_id="")
    issues(scope="read write")

    url = visitor.follow(visitor.get("/function/?page=2")["Location"])
    assert query_of(url)["scope"].split() == ["read", "write"]
    back = visitor.come_back(state=state_of(url), code="code")

    assert back["Location"] == "/function/?page=2"
    assert visitor.get(back["Location"]).content == b"inside"


def test_a_dead_connection_is_not_let_in(get, scripted, granted, scripted_provider, make_connection):
    connection = make_connection()
    scripted.on("/token", Answer(400, {"error": "invalid_grant"}))
    with pytest.raises(Exception, match="connected again"):
        connection.refresh()

    assert query_of(get("/function/")["Location"])["connection"] == str(connection.pk)


def test_one_string_for_scopes_is_refused_when_the_gate_is_built():
    """Its letters would be asked for."""
    with pytest.raises(TypeError, match="pass a list"):
        connection_required("scripted", scopes="read")
