"""Authlib's two clients, with its hook for a refreshed token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from authlib.integrations.httpx_client import OAuth2Client
from authlib.integrations.requests_client import OAuth2Session

from benchmarks.others.models import DocumentedToken
from benchmarks.others.recipe import (
    CLIENT_ID,
    CLIENT_SECRET,
    TOKEN_ENDPOINT,
    Documented,
    Recipe,
    save,
)


class Authlib(Documented):
    client: type

    def session(self) -> Any:
        row = self.row()
        return self.client(
            CLIENT_ID,
            CLIENT_SECRET,
            token=row.to_token(),
            token_endpoint=TOKEN_ENDPOINT,
            update_token=saves(row),
        )


def saves(row: DocumentedToken) -> Callable[..., None]:
    def update_token(token: Any, refresh_token: Any = None, access_token: Any = None) -> None:
        save(row, token)

    return update_token


class OverRequests(Authlib):
    name = "Authlib (requests)"
    client = OAuth2Session


class OverHttpx(Authlib):
    name = "Authlib (httpx)"
    client = OAuth2Client


RECIPES: list[Recipe] = [OverRequests(), OverHttpx()]
