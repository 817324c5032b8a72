"""A backend of social-auth for the benchmark's server."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from social_core.backends.oauth import BaseOAuth2


class BenchOAuth2(BaseOAuth2):
    name = "bench"
    AUTHORIZATION_URL = f"{settings.AUTHORITY}/authorize"
    ACCESS_TOKEN_URL = f"{settings.AUTHORITY}/token"
    ACCESS_TOKEN_METHOD = "POST"
    REDIRECT_STATE = False
    ID_KEY = "id"
    EXTRA_DATA = [("refresh_token", "refresh_token", True), ("expires_in", "expires_in")]

    def get_user_details(self, response: dict[str, Any]) -> dict[str, Any]:
        return {"username": response["login"], "email": response["email"], "fullname": response["name"]}

    def user_data(self, access_token: str, *args: Any, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {access_token}"}
        return self.get_json(f"{settings.AUTHORITY}/user", headers=headers)
