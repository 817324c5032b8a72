"""Starts Codeyard and Desk for the demo, on free ports and with temporary files."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .processes import HOST, Process, StartError, free_port

TOKEN_LIFETIME = 5
"""Seconds. Long enough for a step, and short enough to wait for."""
REFRESH_LEEWAY = 1
MAX_STARTS = 3
DEVICE_CLIENT_ID = "desk-terminal"


@contextmanager
def start(folder: Path) -> Iterator[tuple[Process, Process]]:
    """Yield Codeyard, and Desk as its client. Both are stopped at the end.

    Each needs the other's address, so Desk's port is chosen before it is bound. If another process takes
    that port in between, both are started again.
    """
    with ExitStack() as stack:
        for attempt in range(1, MAX_STARTS + 1):
            try:
                services = _start_once(stack, folder)
                break
            except StartError as error:
                if attempt == MAX_STARTS or "Cannot listen" not in str(error):
                    raise
                stack.close()
        yield services


def _start_once(stack: ExitStack, folder: Path) -> tuple[Process, Process]:
    port = free_port()
    secret = secrets.token_urlsafe(32)
    codeyard = stack.enter_context(_codeyard(folder, port, secret))
    return codeyard, stack.enter_context(_site(folder, port, secret, codeyard.url))


def _codeyard(folder: Path, site_port: int, secret: str) -> Process:
    callback = f"http://{HOST}:{site_port}/connections/codeyard/callback/"
    return Process(
        "Codeyard",
        [
            *("-m", "example_project.provider", "--port", "0"),
            *("--database", str(folder / "codeyard.sqlite3")),
            *("--token-lifetime", str(TOKEN_LIFETIME)),
            *("--redirect-uri", callback, "--client-id", "desk", f"--client-secret={secret}"),
            *("--device-client-id", DEVICE_CLIENT_ID, "--device-interval", "1"),
        ],
        {},
        folder / "codeyard.log",
    )


def _site(folder: Path, port: int, secret: str, codeyard_url: str) -> Process:
    keys = folder / "desk.keys"
    keys.write_text(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(), encoding="utf-8")
    return Process(
        "Desk",
        ["manage.py", "serve", "--port", str(port)],
        {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "OAUTH_CONNECT_KEY_FILE": str(keys),
            "SITE_BASE_URL": f"http://{HOST}:{port}",
            "SITE_DATABASE": str(folder / "desk.sqlite3"),
            "SITE_REFRESH_LEEWAY": str(REFRESH_LEEWAY),
            "CODEYARD_URL": codeyard_url,
            "CODEYARD_CLIENT_ID": "desk",
            "CODEYARD_CLIENT_SECRET": secret,
            "CODEYARD_DEVICE_CLIENT_ID": DEVICE_CLIENT_ID,
        },
        folder / "desk.log",
    )
