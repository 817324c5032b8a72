"""The gates for a site's own views, sync and async."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpResponse
from django.test import AsyncClient
from django.urls import include, path
from django.views import View

from oauth_connect.flows import connection_for, session_for
from oauth_connect.flows.choice import choose
from oauth_connect.models import Connection, Owner
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


@connection_required("scripted", several=True)
def of_somebody_else(request):
    return HttpResponse(connection_for(request.GET["owner"], "scripted"))


def answer(request):
    if account := request.GET.get("ends"):
        connection = Connection.objects.get(account_id=account)
        raise connection.reauthorization_required("revoked")
    return HttpResponse("inside")


@connection_required("scripted", scopes=SCOPES)
def needs_another_too(request):
    session_for(request.user, "another", scopes=["mail"])
    return HttpResponse("inside")


def selected(request):
    return HttpResponse(connection_for(request.user, "scripted", request.GET.get("account")).account_id)


@connection_required("scripted", several=True)
def several(request):
    return selected(request)


@connection_required("scripted", several=True)
async def async_several(request):
    return await sync_to_async(selected)(request)


class Several(ConnectionRequiredMixin, View):
    connection_provider = "scripted"
    connection_several = True

    def get(self, request):
        return selected(request)


urlpatterns = [
    path("several/", several),
    path("async-several/", async_several),
    path("several-class/", Several.as_view()),
    path("function/", plain),
    path("async-function/", coroutine),
    path("class/", Plain.as_view()),
    path("async-class/", Coroutine.as_view()),
    path("two/", needs_another_too),
    path("other-owner/", of_somebody_else),
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

    async def get(path, **options):
        try:
            return await client.get(path, secure=True, **options)
        finally:
            await sync_to_async(connections.close_all)()  # of the thread that the queries ran in

    return lambda *args, **options: asyncio.run(get(*args, **options))


@pytest.fixture
def granted(scripted_provider, make_connection):
    """Store a connection that was granted these scopes."""

    def grant(*scopes, **options):
        response = {"access_token": "access", "token_type": "Bearer", "scope": " ".join(scopes)}
        return make_connection(response=response, **options)

    return grant


def test_without_its_provider_the_gate_says_how_it_is_written():
    with pytest.raises(TypeError, match=r'@connection_required\("NAME"\)'):
        connection_required(plain)


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
def test_who_has_several_accounts_chooses_one_and_comes_back(view, get, granted):
    granted("read", account_id="ada")
    granted("read", account_id="linus")

    response = get(f"{view}?page=2")

    assert response.status_code == 302
    assert urlsplit(response["Location"]).path == "/oauth/scripted/accounts/"
    assert query_of(response["Location"])["next"] == f"{view}?page=2"


@pytest.mark.parametrize("view", VIEWS)
def test_who_has_chosen_one_of_several_accounts_gets_in(view, get, user, granted):
    granted("read", account_id="ada")
    choose(Owner.of(user), "scripted", granted("read", account_id="linus").pk)

    assert get(view).content == b"inside"


@pytest.mark.parametrize("view", ["/several/", "/several-class/", "/async-several/"])
def test_a_view_that_selects_an_account_itself_asks_nobody(view, get, granted):
    granted("read", account_id="ada")
    granted("read", account_id="linus")

    assert get(f"{view}?account=linus").content == b"linus"


@pytest.mark.parametrize("view", ["/several/", "/several-class/", "/async-several/"])
def test_a_view_that_cannot_select_an_account_asks(view, get, granted):
    """It is the view that raises AmbiguousConnection."""
    granted("read", account_id="ada")
    granted("read", account_id="linus")

    assert urlsplit(get(view)["Location"]).path == "/oauth/scripted/accounts/"


@pytest.mark.parametrize("view", ["/several/", "/several-class/", "/async-several/"])
def test_a_view_that_selects_an_account_itself_needs_no_other_one(view, get, user, granted):
    """Not the chosen one either, which must be connected again."""
    chosen = granted("read", account_id="ada")
    granted("read", account_id="linus")
    choose(Owner.of(user), "scripted", chosen.pk)
    QuerySet(Connection).filter(pk=chosen.pk).update(status="reauthorization_required")

    assert get(f"{view}?account=linus").content == b"linus"


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


# --- asked for JSON -------------------------------------------------------------------------------

JSON = {"Accept": "application/json"}


@pytest.mark.parametrize("view", VIEWS)
def test_asked_for_json_a_stranger_gets_401_and_no_redirect(view, db, scripted_provider):
    response = Visitor().get(view, headers=JSON)

    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Session")
    assert response.json() == {
        "error": "not_authenticated",
        "message": "Sign in first.",
        "login_url": "/accounts/login/",
    }
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("view", VIEWS)
def test_asked_for_json_the_way_to_connect_starts_a_flow_by_json(view, get, visitor, granted):
    connection = granted("write")

    response = get(view, headers=JSON)

    assert (response.status_code, response.json()["error"]) == (403, "missing_scopes")
    query = query_of(response.json()["connect_url"])
    assert query["connection"] == str(connection.pk)
    started = visitor.post("/oauth/api/scripted/connect/", query).json()
    assert query_of(started["authorization_url"])["scope"].split() == ["read", "write"]


@pytest.mark.parametrize("view", VIEWS)
def test_asked_for_json_the_accounts_are_named_and_one_is_chosen_by_json(view, get, visitor, granted):
    accounts = {
        name: granted("read", account_id=name, account_label=f"{name}@x") for name in ("ada", "linus")
    }

    response = get(view, headers=JSON)

    found = response.json()
    assert (response.status_code, found["error"]) == (409, "several_accounts")
    listed = [
        {"id": str(row.pk), "account": f"{name}@x", "account_id": name} for name, row in accounts.items()
    ]
    assert sorted(found["accounts"], key=lambda one: one["account"]) == listed
    chosen = visitor.post(found["choose_url"], {"connection": found["accounts"][0]["id"]}, headers=JSON)
    assert chosen.json() == {"connection": found["accounts"][0]["id"]}
    assert get(view, headers=JSON).content == b"inside"


def test_the_accounts_of_another_owner_are_not_named(get, user, other_user, granted):
    """A view may ask for any owner. Its visitor reads nothing of that one's accounts."""
    granted("read")
    for _ in range(2):
        granted("read", owner=other_user, account_label="mallory@x")

    response = get(f"/other-owner/?owner=user:{other_user.pk}", headers=JSON)

    assert (response.status_code, response.json()["accounts"]) == (409, [])
    assert "mallory" not in response.content.decode()
