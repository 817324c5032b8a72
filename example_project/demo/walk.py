"""The tools of the steps, and the function that runs the steps one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from .browser import Browser, Form, Link, Page
from .processes import Process


class StepError(Exception):
    def __init__(self, expected: str, seen: object) -> None:
        super().__init__(expected)
        self.expected = expected
        self.seen = seen


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise StepError unless `holds`. Both the expectation and `seen` are printed."""
    if not holds:
        raise StepError(expected, seen)


@dataclass(frozen=True)
class Stats:
    """The counts of Codeyard."""

    counts: dict[str, Any]

    def __getitem__(self, name: str) -> int:
        """Return a counter, or the number of token requests of a grant type."""
        if name in self.counts:
            return int(self.counts[name])
        return int(self.counts["token_requests"].get(name, 0))

    def since(self, earlier: Stats) -> Callable[[str], int]:
        return lambda name: self[name] - earlier[name]


@dataclass
class Walk:
    """One visitor: alice at Desk, ada at Codeyard."""

    site: str
    codeyard: str
    desk: Process
    """The process that serves the site. It can also run management commands."""
    browser: Browser = field(default_factory=Browser)
    left_at: Page | None = None
    """The page at which the last step left the browser. The next step continues there."""
    connection_id: str = ""

    def dashboard(self) -> Page:
        return self.browser.get(f"{self.site}/")

    def resume(self) -> Page:
        return self.left_at or self.dashboard()

    def stats(self) -> Stats:
        return Stats(self.browser.get(f"{self.codeyard}/stats").json())

    def connections(self) -> list[dict[str, Any]]:
        """Return Desk's status of the visitor's connections, without tokens."""
        return self.browser.get(f"{self.site}/status/").json()["connections"]

    def connection(self) -> dict[str, Any]:
        connections = self.connections()
        expect(len(connections) == 1, "one connection", connections)
        return connections[0]

    def wait_for_expiry(self) -> float:
        """Sleep until the access token has expired. Return the seconds slept."""
        expires_at = datetime.fromisoformat(self.connection()["expires_at"])
        seconds = max(0.0, (expires_at - datetime.now(UTC)).total_seconds() + 0.2)
        time.sleep(seconds)
        return seconds

    def follow(self, page: Page, text: str) -> Page:
        return self.browser.follow(page, need_link(page, text))

    def press(self, page: Page, button: str, **filled: str) -> Page:
        return self.browser.submit(page, need_form(page, button), button, **filled)


def need_link(page: Page, text: str) -> Link:
    link = page.link(text)
    if link is None:
        raise StepError(f"a link {text!r}", page)
    return link


def need_form(page: Page, button: str) -> Form:
    form = page.form_with(button)
    if form is None:
        raise StepError(f"a button {button!r}", page)
    return form


class Step(NamedTuple):
    title: str
    run: Callable[[Walk], str]
    """Returns a short result. Raises StepError if an expectation fails."""


def run(steps: Sequence[Step], walk: Walk) -> bool:
    """Run the steps and print a line for each. Return False at the first that fails."""
    for number, step in enumerate(steps, start=1):
        try:
            seen = step.run(walk)
        except StepError as failure:
            _print_failure(number, step, failure)
            return False
        except Exception as error:
            # Any error fails the step. It is printed with the logs of the child processes.
            _print_failure(number, step, StepError("no error", f"{type(error).__name__}: {error}"))
            return False
        print(f"{number:3}. {step.title}: {seen}", flush=True)
    return True


def _print_failure(number: int, step: Step, failure: StepError) -> None:
    print(f"{number:3}. {step.title}: FAILED")
    print(f"       expected: {failure.expected}")
    print(f"       seen:     {failure.seen}", flush=True)
