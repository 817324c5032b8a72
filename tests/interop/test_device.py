"""The device flow at a server that others wrote: the command in its own process, approval at their pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from oauth_connect.models import Connection
from tests.interop.browser import Browser
from tests.management.conftest import finished
from tests.servers.oidc_provider import OIDCProvider
from tests.support.processes import Forked

pytestmark = pytest.mark.django_db(transaction=True)

Start = Callable[..., Forked]


@pytest.fixture
def terminal(oidc: OIDCProvider, configure: Callable[..., None]) -> OIDCProvider:
    scopes = ["openid", "offline_access", "profile"]
    device = {"params": {"prompt": "consent"}}
    configure(PROVIDERS={"oidc": oidc.entry("terminal", scopes=scopes, device=device)})
    return oidc


def shown(process: Forked) -> tuple[str, str]:
    assert process.stdout is not None
    return process.stdout.readline().split()[-1], process.stdout.readline().split()[-1]


def test_a_code_that_is_entered_at_the_server_s_page_becomes_a_connection(
    terminal: OIDCProvider, user: Any, start: Start
) -> None:
    process = start("oauth_login", "oidc", "--device", "--user", "grace")
    address, code = shown(process)
    with Browser(terminal.url) as browser:
        page = browser.through(browser.get(address, timeout=60), user_code=code)
    assert page.status_code == 200
    run = finished(process)
    assert run.status == 0, run.err

    connection = Connection.objects.get()
    assert (connection.user, connection.account_id) == (user, "ada")
    assert connection.session().get("me").json()["sub"] == "ada"
    for _ in range(3):
        connection.refresh()
    assert connection.session().get("me").status_code == 200
    assert list(terminal.stats["refresh_tokens"].values()) == [1, 1, 1]
