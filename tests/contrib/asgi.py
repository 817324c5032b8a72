"""A site of async views under uvicorn, in a process of its own: ``python -m tests.contrib.asgi``.

It says where it listens, and ends when its stdin does.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application

from tests.contrib.settings import providers_variable
from tests.support import processes
from tests.support.databases import worker_environment

VIEWS = "tests.contrib.async_views"


class Site:
    """The process, with these providers in its settings, on this run's test databases."""

    def __init__(self, providers: dict[str, Any]) -> None:
        self._process = processes.start(
            "tests.contrib.asgi",
            environment={
                **worker_environment(),
                "DJANGO_SETTINGS_MODULE": "tests.contrib.settings",
                **providers_variable(providers),
            },
            preloaded="tests.contrib.preloaded",
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def stop(self) -> None:
        """End it, as a deployment does; it must not have been killed."""
        self._process.communicate(timeout=60)
        assert self._process.returncode == 0


def main() -> None:
    application = get_asgi_application()
    settings.ROOT_URLCONF = VIEWS
    listening = socket.create_server(("127.0.0.1", 0), backlog=256)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning", lifespan="off"))

    def end_with_stdin() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=end_with_stdin, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    server.run(sockets=[listening])


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.contrib.settings")
    main()
