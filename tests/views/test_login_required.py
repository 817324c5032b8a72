"""The pages in a site that requires a login everywhere (LoginRequiredMiddleware)."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory

from oauth_connect.models import Connection
from oauth_connect.views import connection_required
from tests.support.visitor import Visitor, callback_path, query_of, state_of

pytestmark = [pytest.mark.django_db, pytest.mark.compliance("A42")]
CODE, STATE = "the-code", "the-state"
ANSWER = {"code": CODE, "state": STATE, "iss": "https://id.example", "session_state": "s"}


@pytest.fixture(autouse=True)
def login_is_required(settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]


def test_a_flow_ends(visitor, scripted_provider, issues):
    assert visitor.connect().status_code == 302
    assert Connection.objects.count() == 1


def test_a_posted_answer_ends_a_flow(visitor, scripted_entry, configure, issues):
    """The browser posts without the session's cookie."""
    configure(PROVIDERS={"scripted": {**scripted_entry, "authorize": {"response_mode": "form_post"}}})
    answer = {"state": state_of(visitor.start()), "code": CODE}

    posted = Visitor().post(callback_path("scripted"), answer)

    assert posted.status_code == 303
    assert posted["Location"].startswith(callback_path("scripted"))
    assert visitor.get(posted["Location"]).status_code == 302
    assert Connection.objects.count() == 1


@pytest.mark.parametrize("slug", ["scripted", "nowhere"])
def test_a_signed_out_callback_is_a_page_and_no_login(slug, db, scripted_provider):
    page = Visitor().come_back(slug, **ANSWER)

    assert page.status_code == 400
    assert "Location" not in page.headers


@pytest.mark.parametrize("path", ["/oauth/", "/oauth/scripted/connect/"])
def test_the_other_pages_still_require_a_login(path, db, scripted_provider):
    for response in (Visitor().get(path), Visitor().post(path)):
        assert response["Location"].startswith("/accounts/login/?next=")


@pytest.mark.parametrize("path", ["/oauth/", "/oauth/scripted/connect/"])
def test_no_login_url_has_a_code_or_a_state(path, db, scripted_provider):
    """A redirect URI that was registered wrongly leads to another page."""
    answer = Visitor().get(path, {**ANSWER, "next": "/back/"})

    assert answer.status_code == 302
    assert unquote(query_of(answer["Location"])["next"]).endswith(f"{path}?next=/back/")
    assert not any(secret in answer["Location"] for secret in (CODE, STATE, "id.example"))


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        (ANSWER, ""),
        ({**ANSWER, "page": "2"}, "?page=2"),
        ({"state": STATE, "error": "access_denied"}, ""),
        ({"code": "coupon"}, "?code=coupon"),
        ({"state": "open"}, "?state=open"),
    ],
)
@pytest.mark.parametrize("signed_in", [False, True])
def test_a_view_that_needs_a_connection_repeats_no_answer(query, kept, signed_in, user, scripted_provider):
    request = RequestFactory().get("/report/", query, secure=True)
    request.user = user if signed_in else AnonymousUser()
    view = connection_required("scripted")(lambda request: HttpResponse())

    answer = view(request)

    assert query_of(answer["Location"])["next"] == f"/report/{kept}"
