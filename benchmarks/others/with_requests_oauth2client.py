"""requests_oauth2client: an auth object that refreshes. It has no hook that could save the new token."""

from __future__ import annotations

from datetime import UTC, datetime

import requests
from requests_oauth2client import BearerToken, OAuth2AccessTokenAuth, OAuth2Client

from benchmarks.others.recipe import CLIENT_ID, CLIENT_SECRET, TOKEN_ENDPOINT, Documented, Recipe


class RequestsOAuth2Client(Documented):
    name = "requests_oauth2client"

    def session(self) -> requests.Session:
        row = self.row()
        token = BearerToken(
            row.access_token,
            refresh_token=row.refresh_token,
            expires_at=datetime.fromtimestamp(row.expires_at, UTC),
        )
        # `testing`: the token endpoint of this benchmark is http.
        client = OAuth2Client(TOKEN_ENDPOINT, client_id=CLIENT_ID, client_secret=CLIENT_SECRET, testing=True)
        http = requests.Session()
        http.auth = OAuth2AccessTokenAuth(client, token)
        return http


RECIPES: list[Recipe] = [RequestsOAuth2Client()]
