"""social-auth-app-django keeps a token in a JSON column, and refreshes one that has expired."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import requests
from django.contrib.auth.models import User
from social_django.models import UserSocialAuth
from social_django.utils import load_strategy

from benchmarks.others.recipe import (
    ACCESS_TOKEN,
    LIFETIME,
    REFRESH_TOKEN,
    Recipe,
    TokenOnly,
    bearer,
    call,
    create,
)


class SocialAuth(TokenOnly):
    name = "social-auth-app-django"

    model = UserSocialAuth

    def store(self, users: Sequence[User]) -> None:
        UserSocialAuth.objects.all().delete()
        self.user = users[0]
        data = {
            "access_token": ACCESS_TOKEN,
            "refresh_token": REFRESH_TOKEN,
            "token_type": "Bearer",
            "expires_in": LIFETIME,
            "auth_time": int(time.time()),
        }
        create(
            UserSocialAuth(user=user, provider="bench", uid=f"user {user.pk}", extra_data=data)
            for user in users
        )

    def row(self) -> UserSocialAuth:
        return UserSocialAuth.objects.get(user=self.user, provider="bench")

    def access_token(self) -> str:
        return self.row().get_access_token(load_strategy())

    def held(self) -> Callable[[], Any]:
        row, strategy, http = self.row(), load_strategy(), requests.Session()
        return lambda: call(http, headers=bearer(row.get_access_token(strategy)))


RECIPES: list[Recipe] = [SocialAuth()]
