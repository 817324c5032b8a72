"""A browser may fetch the callback before its user opens it. Only the user's own request counts."""

from __future__ import annotations

import logging

import pytest

from oauth_connect.models import ConsumedState
from tests.support.visitor import Visitor, callback_path, state_of

pytestmark = pytest.mark.django_db
PREFETCHES = [
    {"Sec-Purpose": "prefetch"},
    {"Sec-Purpose": "prefetch;prerender"},
    {"Purpose": "prefetch"},
    {"X-Moz": "prefetch"},
    {"X-Purpose": "preview"},
]


@pytest.mark.parametrize("headers", PREFETCHES, ids=str)
@pytest.mark.parametrize("method", ["get", "post"])
def test_a_prefetch_gets_nothing_and_changes_nothing(
    headers, method, visitor, scripted, scripted_provider, issues, django_assert_num_queries
):
    query = {"state": state_of(visitor.start()), "code": "code"}

    with django_assert_num_queries(0):
        early = getattr(visitor.client, method)(
            callback_path("scripted"), query, secure=True, headers=headers
        )

    assert (early.status_code, early.content) == (503, b"")
    assert "no-store" in early["Cache-Control"]
    assert "sessionid" not in early.cookies
    assert scripted.asked("/token") == []
    assert not ConsumedState.objects.exists()
    assert visitor.come_back(**query).status_code == 302


def test_a_prefetch_at_a_path_of_one_record_is_one_too(visitor, scripted_provider):
    path = f"{callback_path('scripted')}{'0' * 32}"

    assert visitor.client.get(path, headers=PREFETCHES[0], secure=True, follow=True).status_code == 503


def test_a_prefetch_is_no_error_for_the_administrators(visitor, scripted_provider, caplog):
    caplog.set_level(logging.DEBUG)

    visitor.client.get(callback_path("scripted"), headers=PREFETCHES[0], secure=True)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_page_that_is_loaded_as_usual_is_no_prefetch(visitor, scripted_provider):
    headers = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert visitor.client.get(callback_path("scripted"), headers=headers, secure=True).status_code == 400
    assert Visitor().get("/oauth/", headers=PREFETCHES[0]).status_code == 302
