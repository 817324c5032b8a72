from __future__ import annotations

from typing import Any

from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.core.wsgi import get_wsgi_application

from example_project.server import listen, serve


class Command(BaseCommand):
    help = "Runs migrate, then serves without reloading. The demo runs this site as a child process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: Any, port: int, **options: Any) -> None:
        server = listen(port)
        call_command("migrate", verbosity=0)
        serve(server, StaticFilesHandler(get_wsgi_application()))
