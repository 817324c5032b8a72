"""`python -m example_project.demo`: start Codeyard and Desk, run all steps, keep both running."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

from example_project.logins import CODEYARD, DESK

from . import walk
from .processes import Process, StartError
from .services import TOKEN_LIFETIME, start
from .steps import STEPS

FOLDER_PREFIX = "oauth-connect-demo-"


def main() -> int:
    options = _arguments()
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=FOLDER_PREFIX, ignore_cleanup_errors=True) as folder,
            start(Path(folder)) as (codeyard, site),
        ):
            return _run(codeyard, site, check=options.check)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m example_project.demo", description=__doc__)
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit after the steps, with status 0 only if every step succeeded",
    )
    return parser.parse_args()


def _exit(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def _run(codeyard: Process, site: Process, *, check: bool) -> int:
    print(f"Codeyard, an OAuth 2.0 server with an API: {codeyard.url}/")
    print(f"Desk, a site that uses oauth_connect:      {site.url}/")
    print(f"Access tokens expire after {TOKEN_LIFETIME} seconds here.\n", flush=True)
    started = time.monotonic()
    if not walk.run(STEPS, walk.Walk(site.url, codeyard.url, site)):
        _print_errors(codeyard, site)
        return 1
    print(f"\nEvery step succeeded, in {time.monotonic() - started:.0f} seconds.", flush=True)
    return 0 if check else _stay_up(codeyard, site)


def _stay_up(codeyard: Process, site: Process) -> int:
    print("Both keep running until you press Ctrl-C. Sign in at")
    for process, logins in ((site, DESK), (codeyard, CODEYARD)):
        names = ", ".join(logins.usernames)
        print(f"  {process.url}/  as {names}  with the password {logins.password}")
    sys.stdout.flush()
    try:
        while codeyard.running and site.running:
            time.sleep(0.5)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 0
    _print_errors(codeyard, site)
    return 1


def _print_errors(*processes: Process) -> None:
    for process in processes:
        if not process.running:
            print(f"\n{process.name} has stopped.", file=sys.stderr)
        print(f"\n{process.name} wrote:\n{process.errors() or '(nothing)'}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
