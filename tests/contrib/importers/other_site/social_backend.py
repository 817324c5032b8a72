"""Codeyard as a backend of social-auth."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from social_core.backends.oauth import BaseOAuth2PKCE


class Codeyard(BaseOAuth2PKCE):
    name = "codeyard"
    ID_KEY = "id"
    REDIRECT_STATE = False
    ACCESS_TOKEN_METHOD = "POST"
    SCOPE_SEPARATOR = " "
    EXTRA_DATA = [
        ("id", "id"),
        ("login", "login"),
        ("refresh_token", "refresh_token", True),
        ("expires_in", "expires"),
        ("scope", "scope"),
    ]

    def authorization_url(self) -> str:
        return settings.CODEYARD["authorization_endpoint"]

    def access_token_url(self) -> str:
        return settings.CODEYARD["token_endpoint"]

    def get_user_details(self, response: dict[str, Any]) -> dict[str, Any]:
        return {"username": response["login"]}

    def user_data(self, access_token: str, *args: Any, **kwargs: Any) -> Any:
        bearer = {"Authorization": f"Bearer {access_token}"}
        return self.get_json(settings.CODEYARD["userinfo_endpoint"], headers=bearer)
