"""The settings that ``python -m oauth_connect.testing.server`` prints, for each preset."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from oauth_connect import presets
from oauth_connect.errors import InvalidProvider
from oauth_connect.testing.server import FakeServer
from oauth_connect.testing.server.settings_entry import entry_for, lines, provider_of


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.mark.parametrize("preset", presets.names())
def test_every_preset_leads_to_the_fake_provider_and_nowhere_else(fake: FakeServer, preset: str) -> None:
    entry = entry_for(fake, preset)
    printed = "\n".join(lines(preset, entry)).partition(" = ")[2]
    assert ast.literal_eval(printed) == entry
    provider = provider_of(preset, entry)
    assert [url for url in provider._urls.values() if url and not url.startswith(f"{fake.url}/")] in (
        [],
        [fake.url],  # the issuer
    )
    assert provider.token_hosts() == {("127.0.0.1", int(fake.url.rpartition(":")[2]))}
    entered = [name for name, one in provider.variables.items() if one.source == "config" and not one.default]
    assert [name for name in entered if provider.variables[name].value_of("") is None] == []


def test_an_unknown_preset_is_named(fake: FakeServer) -> None:
    with pytest.raises(InvalidProvider, match="there is no preset 'gihub'; did you mean 'github'"):
        entry_for(fake, "gihub")
