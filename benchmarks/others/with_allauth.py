"""django-allauth stores tokens as they are, and never refreshes one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import requests
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.contrib.auth.models import User

from benchmarks.others.recipe import (
    ACCESS_TOKEN,
    EXPIRES_AT,
    REFRESH_TOKEN,
    Recipe,
    TokenOnly,
    bearer,
    call,
    create,
)


class Allauth(TokenOnly):
    name = "django-allauth"

    model = SocialToken

    def store(self, users: Sequence[User]) -> None:
        SocialAccount.objects.all().delete()
        accounts = create(SocialAccount(user=user, provider="bench", uid=f"user {user.pk}") for user in users)
        values = {"token": ACCESS_TOKEN, "token_secret": REFRESH_TOKEN, "expires_at": EXPIRES_AT}
        create(SocialToken(account=account, **values) for account in accounts)
        self.user = users[0]

    def row(self) -> SocialToken:
        return SocialToken.objects.get(account__user=self.user, account__provider="bench")

    def access_token(self) -> str:
        return self.row().token

    def held(self) -> Callable[[], Any]:
        row, http = self.row(), requests.Session()
        return lambda: call(http, headers=bearer(row.token))


RECIPES: list[Recipe] = [Allauth()]
