from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oauth_connect.models import Connection
from tests.interop.browser import Browser
from tests.management.conftest import start  # noqa: F401  (a fixture)
from tests.servers.oidc_provider import OIDCProvider, absence
from tests.support.visitor import Visitor


@pytest.fixture(scope="session")
def oidc_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OIDCProvider]:
    if missing := absence():
        pytest.skip(f"not there: {missing}")
    server = OIDCProvider(Path(tmp_path_factory.mktemp("oidc")))
    yield server
    server.stop()


@pytest.fixture
def oidc(oidc_process: OIDCProvider, configure: Callable[..., None]) -> OIDCProvider:
    """The server, its counts at zero, and its issuer in the settings: the rest is discovered."""
    oidc_process.reset()
    scopes = ["openid", "offline_access", "profile"]
    # It gives refresh tokens only where consent was asked for (OpenID Connect Core section 11).
    authorize = {"params": {"prompt": "consent"}}
    configure(PROVIDERS={"oidc": oidc_process.entry(scopes=scopes, authorize=authorize)})
    return oidc_process


@pytest.fixture
def connected(oidc: OIDCProvider, visitor: Visitor) -> Callable[..., Connection]:
    """Connect an account by our pages and the server's."""

    def connect(login: str = "ada") -> Connection:
        with Browser(oidc.url, login) as browser:
            landed: Any = visitor.come_back("oidc", **browser.authorize(visitor.start("oidc")))
        assert landed.status_code == 302, landed.content
        return Connection.objects.get(account_id=login)

    return connect
