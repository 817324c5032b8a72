"""What all commands have in common: examples, lines or one JSON document, and the exit status."""

from __future__ import annotations

import json
import queue
import signal
import threading
from abc import ABC, abstractmethod
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, NoReturn

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import Error

from oauth_connect.checks import check_time_zone
from oauth_connect.management.progress import progress

SOME_FAILED = 1
USAGE = 2
EXIT_STATUS = "exit status: 0 all is well, 1 something failed, 2 usage or configuration"


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's, with the lines of the examples left as they are."""


class Command(ABC, BaseCommand):
    """Base of this package's commands; ``work`` does it.

    System checks are not asked first: what is wrong with one provider must not stop the others.
    """

    requires_system_checks: Any = []
    examples = ""
    needs_time_zone = True
    as_json = False
    verbosity = 1

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        epilog = f"examples:\n{self.examples.rstrip()}\n\n{EXIT_STATUS}"
        return super().create_parser(
            prog_name, subcommand, formatter_class=HelpFormatter, epilog=epilog, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document instead of lines, for machines"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = options["json"]
        self.verbosity = options["verbosity"]
        if self.needs_time_zone and not settings.USE_TZ:
            self.refuse(time_zone_problem())
        try:
            self.work(**options)
        except ImproperlyConfigured as error:
            self.refuse(str(error))
        except Error as error:
            self.refuse(database_problem(error))

    @abstractmethod
    def work(self, **options: Any) -> None: ...

    # --- what is asked for ----------------------------------------------------------------------

    def user(self, username: str) -> AbstractBaseUser:
        """Return the user of that name; where there is none, that ends it."""
        try:
            return get_user_model()._default_manager.get_by_natural_key(username)
        except ObjectDoesNotExist:
            self.refuse(f"There is no user {username!r}.")

    # --- what is said ---------------------------------------------------------------------------

    def line(self, text: str = "", verbosity: int = 1) -> None:
        """Write a line for people, from this verbosity on."""
        if not self.as_json and self.verbosity >= verbosity:
            self.stdout.write(text)

    def document(self, content: dict[str, Any], *, on_one_line: bool = False) -> None:
        """Write the document for machines; on one line where more may come."""
        if self.as_json:
            self.stdout.write(json.dumps(content, indent=None if on_one_line else 2))

    def progress(self, unit: str, total: Callable[[], int]) -> AbstractContextManager[Callable[..., object]]:
        """Show how far it is, on a terminal, unless lines or a document are wanted."""
        return progress(unit, total, quiet=self.as_json or self.verbosity != 1)

    # --- how it ends ----------------------------------------------------------------------------

    def refuse(self, message: str) -> NoReturn:
        """End it: what was asked for makes no sense, or the settings do not."""
        self.document({"error": message})
        raise CommandError(message, returncode=USAGE)

    def fail(self, message: str) -> NoReturn:
        """End it after its work: something failed, and it has been said what."""
        raise CommandError(message, returncode=SOME_FAILED)


def database_problem(error: Error) -> str:
    """Say what to do. The driver's own words may quote a row."""
    return (
        f"The database does not answer as it should ({type(error).__name__}). "
        "Run migrate; oauth_doctor says more."
    )


def time_zone_problem() -> str:
    """Say what the system check says; databases refuse moments with a time zone, or lose it."""
    return " ".join(f"{told.msg} {told.hint}" for told in check_time_zone(app_configs=None))


def whole(text: str, least: int, most: int | None) -> int:
    """Read the whole number of an option."""
    try:
        number = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least or (most is not None and number > most):
        span = f"{least} or more" if most is None else f"{least} to {most}"
        raise ArgumentTypeError(f"{number} is out of range ({span})")
    return number


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Lay out lines in columns, numbers to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [bool(rows) and all(isinstance(row[place], int) for row in rows) for place in range(len(head))]
    for row in cells:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        yield "  ".join(padded).rstrip()


def words(name: str) -> str:
    """Write the name of an outcome or a table for people."""
    return name.replace("_", " ")


def by_provider(tally: Counter[tuple[str, str]], outcomes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return the number of each outcome, the zeros too, for each provider that has any."""
    slugs = sorted({slug for slug, _ in tally})
    return {slug: {outcome: tally[slug, outcome] for outcome in outcomes} for slug in slugs}


class StopRequest:
    """Whether SIGINT or SIGTERM has asked for an end."""

    def __init__(self) -> None:
        self.asked = False
        self._then: Callable[[], None] = lambda: None
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(self) -> None:
        """Safe in a signal handler, whatever the interrupted thread holds."""
        self.asked = True
        self._wake.put(None)
        self._then()

    def then(self, call: Callable[[], None]) -> None:
        """Have this called when it is asked: at once if it has been, while what is called was being made."""
        self._then = call
        if self.asked:
            call()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is asked."""
        with suppress(queue.Empty):
            self._wake.get(timeout=seconds)


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Have SIGINT and SIGTERM ask for an end, so that what is in flight can be finished.

    A token whose answer is under way would be lost otherwise. The second signal does what it always did.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: object) -> None:
        request.ask()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
