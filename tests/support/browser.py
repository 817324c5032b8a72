"""A real browser (Chromium, by Playwright), for what Django's test client cannot show.

Playwright's sync API runs an event loop in its thread. Django refuses to query a database in such a thread.
So the browser has a thread of its own, and a test passes functions to it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, TypeVar

from tests.support.services import CHROMIUM, find_chromium
from tests.support.waiting import TIMEOUT

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
T = TypeVar("T")


class Browser:
    """One process for many tests. Each test has a context of its own: cookies, cache, history."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self.run(self._start)

    def run(self, act: Callable[..., T], *args: Any) -> T:
        return self._thread.submit(act, *args).result(2 * TIMEOUT)

    def open_tab(self, **options: Any) -> Tab:
        """Open a tab. ``options``: of the context, such as ``viewport`` and ``color_scheme``."""
        return Tab(self, self.run(self._new_page, options))

    def close(self) -> None:
        self.run(self._end)
        self._thread.shutdown()

    def _start(self) -> None:
        self._playwright = import_module("playwright.sync_api").sync_playwright().start()
        program = find_chromium(CHROMIUM.url)
        self._chromium = self._playwright.chromium.launch(executable_path=program, args=list(FLAGS))

    def _new_page(self, options: dict[str, Any]) -> Any:
        context = self._chromium.new_context(**options)
        context.set_default_timeout(TIMEOUT * 1000)
        return context.new_page()

    def _end(self) -> None:
        self._chromium.close()
        self._playwright.stop()


class Tab:
    """A tab. Call it with a function of Playwright's ``Page``.

    ``refused``: messages about what the page's Content-Security-Policy refused.
    """

    def __init__(self, browser: Browser, page: Any) -> None:
        self._browser = browser
        self._page = page
        self.refused: list[str] = []
        self(lambda page: page.on("console", self._on_message))  # Playwright needs its own thread here, too

    def __call__(self, act: Callable[[Any], T]) -> T:
        return self._browser.run(act, self._page)

    def close(self) -> None:
        self(lambda page: page.context.close())

    def _on_message(self, message: Any) -> None:
        if "Content Security Policy" in message.text:
            self.refused.append(message.text)
