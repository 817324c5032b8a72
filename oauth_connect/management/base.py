"""The base class of the commands: examples, output as lines or as one JSON document, exit status."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured, ObjectDoesNotExist, ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import DatabaseError, Error

from oauth_connect.checks.databases import check_time_zone
from oauth_connect.errors import InvalidOwner
from oauth_connect.management.output import progress
from oauth_connect.models import Connection
from oauth_connect.stores.connection_state import StateNotWritten
from oauth_connect.stores.lock_timeouts import is_missing_table
from oauth_connect.tracebacks import without_locals

SOME_FAILED = 1
USAGE = 2
PIPE_CLOSED = 141  # as a shell says it: 128 and the number of SIGPIPE
EXIT_STATUS = "exit status: 0 success, 1 something failed, 2 wrong usage or configuration"


class HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's formatter, which here keeps the line breaks of the examples."""


class Command(ABC, BaseCommand):
    """Base class of this package's commands. A subclass implements ``work``.

    System checks do not run first, because an error in one provider's entry must not stop the others.
    """

    requires_system_checks: Any = []
    # A command that wraps others, such as tenant_command, passes it on.
    stealth_options = ("skip_checks",)
    examples = ""
    needs_time_zone = True
    as_json = False
    verbosity = 1
    has_colours = False

    def __init__(
        self, stdout: Any = None, stderr: Any = None, no_color: bool = False, force_color: bool = False
    ) -> None:
        no_color = no_color or (bool(os.environ.get("NO_COLOR")) and not force_color)
        super().__init__(stdout, stderr, no_color, force_color)

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        epilog = f"examples:\n{self.examples.rstrip()}\n\n{EXIT_STATUS}"
        return super().create_parser(
            prog_name, subcommand, formatter_class=HelpFormatter, epilog=epilog, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print one JSON document instead of lines, for machines"
        )

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of the output, such as head, has ended
            # Python flushes again when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(PIPE_CLOSED)

    @without_locals
    def handle(self, *args: Any, **options: Any) -> None:
        self.as_json = options["json"]
        self.verbosity = options["verbosity"]
        # ``self.style`` has no colours with --no-color, NO_COLOR or a terminal that shows none.
        self.has_colours = bool(options.get("force_color")) or self.stdout.isatty()
        if self.needs_time_zone and not settings.USE_TZ:
            self.usage_error(time_zone_problem())
        try:
            self.work(**options)
        except (ImproperlyConfigured, InvalidOwner) as error:
            self.usage_error(str(error))
        except Error as error:
            self.usage_error(database_problem(error))

    @abstractmethod
    def work(self, **options: Any) -> None: ...

    # --- arguments ------------------------------------------------------------------------------

    def user(self, username: str) -> AbstractBaseUser:
        """Return the user of that name. If there is none, end the command."""
        try:
            return get_user_model()._default_manager.get_by_natural_key(username)
        except (ObjectDoesNotExist, ValueError, ValidationError):  # the column may be a number or a UUID
            self.usage_error(f"There is no user {username!r}.")

    # --- output ---------------------------------------------------------------------------------

    def line(self, text: str = "", verbosity: int = 1) -> None:
        """Write a line at this verbosity or a higher one. With --json, write nothing."""
        if not self.as_json and self.verbosity >= verbosity:
            self.stdout.write(text)

    def document(self, content: dict[str, Any], *, on_one_line: bool = False) -> None:
        """Write the JSON document if --json was given. ``on_one_line`` is for commands that write several."""
        if self.as_json:
            self.stdout.write(json.dumps(content, indent=None if on_one_line else 2))

    def progress(self, unit: str, total: Callable[[], int]) -> AbstractContextManager[Callable[..., object]]:
        """Show a progress bar on a terminal, unless --json or another verbosity was given."""
        return progress(unit, total, quiet=self.as_json or self.verbosity != 1)

    # --- the end --------------------------------------------------------------------------------

    def usage_error(self, message: str) -> NoReturn:
        """End the command, because its arguments or the settings are wrong."""
        self.document({"error": message})
        raise CommandError(message, returncode=USAGE)

    def failed(self, message: str) -> NoReturn:
        """End the command after its work, because something failed. The output has named it."""
        raise CommandError(message, returncode=SOME_FAILED)


def database_problem(error: Error) -> str:
    """Return a message that says what to do. The driver's text is left out, because it may quote a row."""
    if isinstance(error, StateNotWritten):
        return str(error)
    if isinstance(error, DatabaseError) and is_missing_table(error):
        return (
            f"A table of oauth_connect ({Connection._meta.db_table} or another) is not in this database, "
            "or not in the schema of this connection. Run migrate. With a schema for each tenant, run the "
            "command once for each: with django-tenants, manage.py tenant_command (docs/tenants.md)."
        )
    return (
        f"The database reports an error ({type(error).__name__}). Run migrate, or oauth_doctor for details."
    )


def time_zone_problem() -> str:
    """Return the message and the hint of the system check about USE_TZ."""
    return " ".join(f"{message.msg} {message.hint}" for message in check_time_zone(app_configs=None))


def integer(text: str, least: int, most: int | None) -> int:
    """Return the whole number of an option. Raises ArgumentTypeError for other text or out of range."""
    try:
        number = int(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a whole number") from None
    if number < least or (most is not None and number > most):
        span = f"{least} or more" if most is None else f"{least} to {most}"
        raise ArgumentTypeError(f"{number} is out of range ({span})")
    return number
