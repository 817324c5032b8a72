"""How the users of a package call an API with a stored token."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Model

from benchmarks import rows, server
from benchmarks.others.models import DocumentedToken

URL = f"{settings.API}/api"
TOKEN_ENDPOINT = f"{settings.AUTHORITY}/token"
ACCESS_TOKEN = server.access_token(0, 0)
REFRESH_TOKEN = server.refresh_token(0, 0)
CLIENT_ID, CLIENT_SECRET = "benchmark", "secret"
LIFETIME = 3600  # seconds
EXPIRES_AT = datetime.now(UTC) + timedelta(seconds=LIFETIME)
BEARER = {"Authorization": f"Bearer {ACCESS_TOKEN}"}


class Recipe:
    """`situations`: which of `held`, `first_call`, `call_on` and `loaded` this one is for."""

    name: str
    is_ours = False
    situations: tuple[str, ...] = ("held", "first_call", "call_on", "loaded")
    model: type[Model]  # of the rows that hold a token

    def store(self, users: Sequence[User]) -> None:
        """Store a valid token of each user, and nothing else."""

    def held(self) -> Callable[[], Any]:
        """Return a call on a session that is held, as is all that it needs."""
        raise NotImplementedError

    def first_call(self) -> None:
        """Load the token, make a session, call, and close the session."""
        raise NotImplementedError

    def call_on(self, http: requests.Session) -> None:
        """Load the token, and call on a session that is held."""
        raise NotImplementedError


def create(made: Iterable[Any]) -> list[Any]:
    """Insert instances of one model."""
    instances = list(made)
    return list(type(instances[0])._default_manager.bulk_create(instances, batch_size=rows.AT_ONCE))


def call(http: Any, **options: Any) -> None:
    """Call the API. Raises AssertionError unless the server accepts the token."""
    response = http.get(URL, **options)
    assert response.status_code == 200, response.status_code


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class TokenOnly(Recipe, ABC):
    """For a package that stores tokens, and leaves the call to its user."""

    @abstractmethod
    def access_token(self) -> str:
        """Load the row, and return its token by the package's own function."""

    def first_call(self) -> None:
        token = self.access_token()
        with requests.Session() as http:
            call(http, headers=bearer(token))

    def call_on(self, http: requests.Session) -> None:
        call(http, headers=bearer(self.access_token()))


class WithSession(Recipe, ABC):
    """For what has a session that sends the token by itself."""

    @abstractmethod
    def session(self) -> Any:
        """Load the row, and return the session."""

    def held(self) -> Callable[[], Any]:
        http = self.session()
        return lambda: call(http)

    def first_call(self) -> None:
        with self.session() as http:
            call(http)


class Documented(WithSession):
    """For a package that stores nothing: the model that Authlib's documentation gives."""

    situations = ("held", "first_call")

    model = DocumentedToken

    def store(self, users: Sequence[User]) -> None:
        DocumentedToken.objects.all().delete()
        token = {
            "token_type": "Bearer",
            "access_token": ACCESS_TOKEN,
            "refresh_token": REFRESH_TOKEN,
            "expires_at": int(time.time()) + LIFETIME,
        }
        create(DocumentedToken(user=user, name="bench", **token) for user in users)
        self.user = users[0]

    def row(self) -> DocumentedToken:
        return DocumentedToken.objects.get(user=self.user, name="bench")


def save(row: DocumentedToken, token: dict[str, Any]) -> None:
    """Keep a refreshed token, as the hooks of the packages want it."""
    row.access_token = token["access_token"]
    row.refresh_token = token["refresh_token"]
    row.expires_at = int(token["expires_at"])
    row.save()
