from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from oauth_connect.models import Connection

from tests.servers.codeyard import Codeyard
from tests.servers.scripted import ScriptedServer


@pytest.fixture(scope="session")
def codeyard_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Codeyard]:
    server = Codeyard(Path(tmp_path_factory.mktemp("codeyard")))
    yield server
    server.stop()


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Set keys of OAUTH_CONNECT for one test."""

    def change(**changes: Any) -> None:
        settings.OAUTH_CONNECT = {**settings.OAUTH_CONNECT, **changes}

    return change


@pytest.fixture
def codeyard(codeyard_process: Codeyard, configure: Callable[..., None]) -> Codeyard:
    """The real authorization server, its counters at zero, and its provider in the settings."""
    codeyard_process.reset()
    configure(PROVIDERS={"codeyard": codeyard_process.entry()})
    return codeyard_process


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def scripted_entry(scripted: ScriptedServer) -> dict[str, Any]:
    """The settings of a provider at the scripted server."""
    return {
        "client_id": "client",
        "client_secret": "secret",
        "authorization_endpoint": f"{scripted.url}/authorize",
        "token_endpoint": f"{scripted.url}/token",
        "revocation_endpoint": f"{scripted.url}/revoke",
        "api_base_url": f"{scripted.url}/api/",
    }


@pytest.fixture
def scripted_provider(
    scripted_entry: dict[str, Any], configure: Callable[..., None]
) -> dict[str, Any]:
    configure(PROVIDERS={"scripted": scripted_entry})
    return scripted_entry


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user(username="grace", password="a password")


@pytest.fixture
def make_connection(user: Any) -> Callable[..., Connection]:
    """Store a connection; ``age`` is how many seconds ago its token (of an hour's life) was obtained."""
    accounts = itertools.count(1)

    def make(
        provider: str = "scripted",
        *,
        age: float = 0,
        response: dict[str, Any] | None = None,
        **options: Any,
    ) -> Connection:
        answer = response or {
            "access_token": "access-0",
            "refresh_token": "refresh-0",
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        return Connection.objects.store(
            **{"owner": user, "account_id": str(next(accounts)), **options},
            provider=provider,
            token_response=answer,
            obtained_at=datetime.now(UTC) - timedelta(seconds=age),
        )

    return make
