"""The browser of ``oauth_login`` while fake providers are open.

Where a provider has no device flow, the command opens a browser and waits ten minutes for a person. In a test
there is none.
"""

from __future__ import annotations

import webbrowser
from functools import cache
from urllib.parse import urljoin, urlsplit

from oauth_connect.testing.errors import FakeProviderError
from oauth_connect.testing.installed import Entry, open_entries
from oauth_connect.testing.walk import TIMEOUT, fetch, text_of

NAME = "oauth_connect.testing"


class FakeBrowser(webbrowser.BaseBrowser):
    """Opens the authorization page of a fake provider, as the person whom ``consent`` or ``deny`` stands for.

    Leaves every other page to the other browsers.
    """

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        for entry in open_entries():
            if url.startswith(f"{entry.server.endpoints()['authorization_endpoint']}?"):
                _decide(entry, url)
                return True
        return False


def _decide(entry: Entry, url: str) -> None:
    if not entry.server.has_decision:
        raise FakeProviderError(
            f"A login opens the page of the fake provider {entry.slug!r} in a browser, and nobody is there. "
            "Call fake.consent() or fake.deny() before."
        )
    status, location, body = fetch(url, TIMEOUT)
    if not location:
        raise FakeProviderError(
            f"The fake provider does not send the browser back. It answers {status}: {text_of(body)}"
        )
    callback = urljoin(url, location)
    if urlsplit(callback).scheme == "http":  # the login listens on a loopback address
        fetch(callback, TIMEOUT)


@cache
def register() -> None:
    """Let ``webbrowser.open`` try this browser first, from now on."""
    webbrowser.register(NAME, None, FakeBrowser(NAME), preferred=True)
