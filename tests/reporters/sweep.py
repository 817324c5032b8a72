"""An unexpected error at every place where a secret is a local, in a site with Sentry.

A trace finds the places: it looks at the locals of each frame of the package and of the libraries that it
calls. Then the same is done again, once for each place, and fails there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import sentry_sdk
from django.core.management import call_command
from django.db import transaction

import oauth_connect
from oauth_connect import flows, tracebacks
from oauth_connect.jobs.refresh import Due, refresh_due
from tests.reporters import cases, reports, site
from tests.reporters.tracing import traced

PACKAGE = str(Path(oauth_connect.__file__).parent)
LEFT_OUT = (str(Path(__file__).parents[1]), str(Path(sentry_sdk.__file__).parent), tracebacks.__file__)
MAX_LOOKS = 200  # at one function
Place = tuple[CodeType, int]


class Mistake(Exception):
    """The unexpected error."""


def in_a_transaction() -> None:
    with transaction.atomic():
        list(refresh_due(Due()))


class Hidden:
    """Hides a value that the test's own frames have."""

    def __init__(self, value: Any) -> None:
        self.value = value


def come_back() -> Hidden:
    client = cases.browser()
    path = cases.back_from(client)
    return Hidden(lambda: client.get(path, secure=True))


# Each begins with what is not swept.
RUNS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "a callback": (
        lambda: Hidden(cases.returning(cases.Client())),
        lambda hidden: flows.complete(hidden.value, "header"),
    ),
    "the page of the callback": (come_back, lambda hidden: hidden.value()),
    "a call": (lambda: cases.connection("post"), lambda row: row.session().get("me")),
    "a call by httpx": (
        lambda: cases.connection("json"),
        lambda row: cases.by_httpx(cases.LIBRARIES[0], row),
    ),
    "store": (lambda: None, lambda nothing: cases.connection()),
    "store once more": (cases.connection, lambda row: cases.connection()),
    "begin": (cases.request, lambda request: flows.begin(request, "header")),
    "a machine": (lambda: None, lambda nothing: flows.machine_access_token("header")),
    "a disconnect": (cases.connection, lambda row: row.disconnect()),
    "the keyring": (cases.kept, lambda nothing: flows.session_for_keyring("header").get("me")),
    "a logout of the keyring": (cases.kept, lambda nothing: flows.forget_in_keyring("header")),
    "a device": (lambda: None, lambda nothing: cases.by_device()),
    "a run": (cases.connection, lambda row: list(refresh_due(Due()))),
    "a run in a transaction": (cases.connection, lambda row: in_a_transaction()),
    "the command that rotates keys": (
        lambda: (cases.connection(), cases.configure(KEYS=[site.OTHER_KEY, site.KEY])),
        lambda nothing: call_command("oauth_rotate_keys", stdout=cases.Nothing(), verbosity=0),
    ),
}


def run_all() -> dict[str, Any]:
    found = {}
    for name, (prepare, act) in RUNS.items():
        places = places_with_a_secret(prepare, act)
        found[name] = {described(place): fail_at(place, prepare, act) for place in places}
    return found


def described(place: Place) -> str:
    code, line = place
    return f"{code.co_filename.removeprefix(str(Path(PACKAGE).parent))}:{line} {code.co_name}"


def places_with_a_secret(prepare: Callable[[], Any], act: Callable[[Any], Any]) -> list[Place]:
    """Return the first line of each function at which it has a secret, for functions below the package."""
    found: dict[CodeType, int] = {}
    looks: dict[CodeType, int] = {}

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return look if is_below_the_package(frame) else None

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        looks[code] = looks.get(code, 0) + 1
        if code in found or looks[code] > MAX_LOOKS:
            return None
        if event == "line" and reports.in_locals(frame, site.CANARY):
            found[code] = frame.f_lineno
            return None
        return look

    cases.reset()
    prepared = prepare()
    with traced(enter):
        act(prepared)
    return list(found.items())


def is_below_the_package(frame: FrameType) -> bool:
    if frame.f_code.co_filename.startswith(LEFT_OUT):
        return False
    above: FrameType | None = frame
    while above is not None:
        if above.f_code.co_filename.startswith(PACKAGE) and above.f_code.co_filename != tracebacks.__file__:
            return True
        above = above.f_back
    return False


def fail_at(place: Place, prepare: Callable[[], Any], act: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the number of reports of an error at a place, and what they leak."""

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        return fail if frame.f_code is place[0] and is_below_the_package(frame) else None

    def fail(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and frame.f_lineno == place[1]:
            raise Mistake
        return fail

    cases.reset()
    prepared = prepare()
    reports.sent.clear()
    try:
        with traced(enter):
            act(prepared)
    except BaseException as error:
        sentry_sdk.capture_exception(error)
    leaks = [leak for text in reports.sent for leak in reports.leaks(text, site.CANARY)]
    return {"reports": len(reports.sent), "leaks": leaks}
