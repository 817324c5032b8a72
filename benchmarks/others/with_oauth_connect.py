"""This package, by each way to a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from django.contrib.auth.models import User

from benchmarks.others.recipe import (
    ACCESS_TOKEN,
    LIFETIME,
    REFRESH_TOKEN,
    Recipe,
    bearer,
    call,
)
from oauth_connect.flows import session_for
from oauth_connect.models import Connection

SLUG = "bench"
AGE = timedelta(minutes=2)  # of a token. One that is refused in its first minute is not refreshed again


class Ours(Recipe):
    is_ours = True

    model = Connection

    def store(self, users: Sequence[User]) -> None:
        self.user = users[0]
        row = Connection.objects.store(
            owner=self.user,
            provider=SLUG,
            account_id="1",
            obtained_at=datetime.now(UTC) - AGE,
            token_response={
                "access_token": ACCESS_TOKEN,
                "refresh_token": REFRESH_TOKEN,
                "token_type": "Bearer",
                "expires_in": LIFETIME,
            },
        )
        self.pk = row.pk


class Rows(Ours):
    name = "oauth_connect"
    situations = ("loaded",)


class ByUser(Ours):
    name = "`session_for(user, ...)`"
    situations = ("first_call", "call_on")

    def first_call(self) -> None:
        with session_for(self.user, SLUG) as http:
            call(http)

    def call_on(self, http: requests.Session) -> None:
        """The sessions of this package share their connections, so that theirs is warm too."""
        call(session_for(self.user, SLUG))


class ByKey(Ours):
    name = "`objects.get(pk=...).session()`"
    situations = ("held", "first_call", "call_on")

    def row(self) -> Connection:
        return Connection.objects.get(pk=self.pk)

    def held(self) -> Callable[[], Any]:
        http = self.row().session()
        return lambda: call(http)

    def first_call(self) -> None:
        with self.row().session() as http:
            call(http)

    def call_on(self, http: requests.Session) -> None:
        call(self.row().session())


class TokenOfRow(ByKey):
    name = "`objects.get(pk=...).access_token()`"
    situations = ("call_on",)

    def call_on(self, http: requests.Session) -> None:
        call(http, headers=bearer(self.row().access_token()))


RECIPES: list[Recipe] = [Rows(), ByUser(), ByKey(), TokenOfRow()]
