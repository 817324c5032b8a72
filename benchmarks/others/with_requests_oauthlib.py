"""requests-oauthlib, with its automatic refresh."""

from __future__ import annotations

from functools import partial

from requests_oauthlib import OAuth2Session

from benchmarks.others.recipe import (
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_ENDPOINT,
    Documented,
    Recipe,
    save,
)


class RequestsOauthlib(Documented):
    name = "requests-oauthlib"

    def session(self) -> OAuth2Session:
        row = self.row()
        return OAuth2Session(
            CLIENT_ID,
            token=row.to_token(),
            auto_refresh_url=TOKEN_ENDPOINT,
            auto_refresh_kwargs={"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
            token_updater=partial(save, row),
        )


RECIPES: list[Recipe] = [RequestsOauthlib()]
