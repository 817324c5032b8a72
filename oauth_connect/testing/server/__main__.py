"""``python -m oauth_connect.testing.server``: the fake provider as a process, for a project of one's own."""

from __future__ import annotations

import contextlib
import errno
import json
import signal
import sys
import threading
from argparse import Action, ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any, NoReturn

from oauth_connect.errors import InvalidProvider
from oauth_connect.testing.server.fake_server import FakeServer
from oauth_connect.testing.server.settings_entry import PLAIN, entry_for, lines, provider_of

PORT = 9000
LIFETIME = 60  # seconds: short, so that a refresh is seen soon
MAX_LIFETIME = 10 * 365 * 24 * 3600
ACCOUNTS = ("octocat", "hubot")
USAGE = 2
DESCRIPTION = (
    "Run a fake OAuth 2.0 provider on 127.0.0.1, for trying out and for tests. It has no real accounts, and "
    "forgets everything when it ends."
)
EPILOG = """examples:
  python -m oauth_connect.testing.server
  python -m oauth_connect.testing.server --preset github --lifetime 300
  python -m oauth_connect.testing.server --account ada --account grace
  python -m oauth_connect.testing.server --preset github --api /user/repos '[{"full_name": "octocat/hello"}]'

exit status: 0 success, 2 wrong usage, or the port is in use"""


class _Once(Action):
    """An option that may not be repeated. Without this, argparse would take the last one silently."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option_string}: one for each fake provider. Start another one with --port 0")
        setattr(namespace, self.dest, values)


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line. The usage is in --help."""
        self.exit(USAGE, f"{message[:1].upper()}{message[1:]}. See --help.\n")


def main(arguments: Sequence[str] | None = None) -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # an account's name may not fit the terminal's encoding
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    ended = _ended_by_signal()
    try:
        server = FakeServer(
            port=options.port,
            accounts=options.account or ACCOUNTS,
            lifetime=options.lifetime,
            keeps_requests=False,
        )
        server.start()
    except ValueError as error:
        _end(f"--account: {error}")
    except OSError as error:
        _end(_port_problem(options.port, error))
    with server:
        _prepare(server, options)
        _wait_for(ended)


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="python -m oauth_connect.testing.server",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", type=_integer(0, 65535), default=PORT, help="0 chooses a free one (default: %(default)s)"
    )
    parser.add_argument(
        "--preset",
        action=_Once,
        metavar="NAME",
        help="behave like the provider of this preset (docs/providers.md)",
    )
    parser.add_argument(
        "--lifetime",
        type=_integer(1, MAX_LIFETIME),
        default=LIFETIME,
        metavar="SECONDS",
        help="of an access token (default: %(default)s)",
    )
    parser.add_argument(
        "--account",
        action="append",
        metavar="NAME",
        help=f"an account, once for each (default: {' and '.join(ACCOUNTS)})",
    )
    parser.add_argument(
        "--api",
        action="append",
        nargs=2,
        default=[],
        metavar=("PATH", "JSON"),
        help="what the API answers to GET on this path, once for each",
    )
    return parser


def _integer(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return convert


def _prepare(server: FakeServer, options: Namespace) -> None:
    """Behave as the preset says, and print what a site needs."""
    slug = options.preset or PLAIN
    for path, answer in options.api:
        _answer_api(server, path, answer)
    try:
        entry = entry_for(server, options.preset)
        if options.preset:
            server.serve(provider_of(slug, entry))
    except InvalidProvider as error:
        _end(f"--preset: {error}.")
    _say(f"A fake provider serves at {server.url} until Ctrl-C. Its accounts: {_names(server)}.")
    _say("In a browser, this address is the console: expire a token, end a grant, go down.")
    _say("")
    _say("Settings to paste below OAUTH_CONNECT (client and secret are not secret here):")
    _say("")
    for line in lines(slug, entry):
        _say(line)
    sys.stdout.flush()


def _answer_api(server: FakeServer, path: str, answer: str) -> None:
    try:
        json.loads(answer)
        server.answer_api("GET", path, body=answer, headers={"Content-Type": "application/json"})
    except ValueError as error:
        _end(f"--api {path}: {error}")


def _names(server: FakeServer) -> str:
    return ", ".join(account.name for account in server.accounts)


def _ended_by_signal() -> threading.Event:
    """Return the event of Ctrl-C, or of a process manager that ends the process."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *arguments: ended.set())
    return ended


def _wait_for(ended: threading.Event) -> None:
    while not ended.wait(1):  # without a limit, Windows would not run the handler of the signal
        pass
    with contextlib.suppress(OSError):  # nobody reads: the reader of a pipe has ended first
        _say("")
        _say("The fake provider has ended. It has forgotten every grant, so each account must connect again.")
        sys.stdout.flush()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _port_problem(port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is in use. Choose another one with --port, or any free one with --port 0."
    return f"Port {port} cannot be used ({error.strerror}). Choose another one with --port."


def _end(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(USAGE)


if __name__ == "__main__":
    main()
