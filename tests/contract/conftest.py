from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract import golden
from tests.contract.authority import server_context
from tests.contract.play import Play
from tests.contract.server import EveryProvider
from tests.support.visitor import Visitor

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(scope="session")
def every_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EveryProvider, Path]]:
    hosts = frozenset().union(*(golden.hosts_of(golden.load(name)) for name in golden.PROVIDERS))
    context, authority = server_context(hosts, tmp_path_factory.mktemp("authority"))
    server = EveryProvider(context)
    yield server, authority
    server.close()


@pytest.fixture
def server(every_provider: tuple[EveryProvider, Path], monkeypatch: pytest.MonkeyPatch) -> EveryProvider:
    """The providers, for one test: names lead to them, their authority is trusted, nothing leads out."""
    server, authority = every_provider
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setattr("urllib3.util.connection.create_connection", server.route)
    return server


@pytest.fixture
def play(server: EveryProvider, visitor: Visitor, configure: Callable[..., None]) -> Callable[[str], Play]:
    return lambda provider: Play(provider, server, visitor, configure)
