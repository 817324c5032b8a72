"""django-esi, for the API of one game: its rows refresh themselves, without a lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import requests
from django.contrib.auth.models import User
from esi.models import Token

from benchmarks.others.recipe import ACCESS_TOKEN, REFRESH_TOKEN, Recipe, TokenOnly, bearer, call, create


class Esi(TokenOnly):
    name = "django-esi"

    model = Token

    def store(self, users: Sequence[User]) -> None:
        Token.objects.all().delete()
        values = {"character_id": 1, "character_name": "Ada", "character_owner_hash": "1"}
        tokens = {"access_token": ACCESS_TOKEN, "refresh_token": REFRESH_TOKEN}
        create(Token(user=user, **values, **tokens) for user in users)
        self.pk = Token.objects.earliest("pk").pk

    def row(self) -> Token:
        return Token.objects.get(pk=self.pk)

    def access_token(self) -> str:
        return self.row().valid_access_token()

    def held(self) -> Callable[[], Any]:
        row, http = self.row(), requests.Session()
        return lambda: call(http, headers=bearer(row.valid_access_token()))


RECIPES: list[Recipe] = [Esi()]
