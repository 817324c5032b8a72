"""`python -m example_project.provider`: run Codeyard on a loopback port."""

from __future__ import annotations

import argparse
import os

import django
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from example_project.server import listen, serve

DESK_CALLBACK = "http://127.0.0.1:8000/connections/codeyard/callback/"


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m example_project.provider",
        description="Codeyard, the service that the example site connects to.",
    )
    parser.add_argument("--port", type=int, default=8001, help="0 takes any free port (default: 8001)")
    parser.add_argument("--database", metavar="PATH", default="codeyard.sqlite3", help="SQLite file")
    parser.add_argument(
        "--token-lifetime",
        type=int,
        metavar="SECONDS",
        default=300,
        help="lifetime of an access token (default: 300)",
    )
    parser.add_argument(
        "--redirect-uri",
        action="append",
        dest="redirect_uris",
        metavar="URI",
        help=f"redirect URI of the site; may be repeated (default: {DESK_CALLBACK})",
    )
    parser.add_argument(
        "--client-id",
        metavar="ID",
        default="desk",
        help="client id of the site; ID-reports, with the same secret, is for machine tokens (default: desk)",
    )
    parser.add_argument("--client-secret", metavar="SECRET", default="desk-development-secret")
    parser.add_argument(
        "--device-client-id",
        metavar="ID",
        default="desk-terminal",
        help="client id of the site's command-line tools",
    )
    parser.add_argument(
        "--device-interval",
        type=int,
        metavar="SECONDS",
        default=5,
        help="pause between two polls of a device that waits (default: 5)",
    )
    parser.add_argument(
        "--urlconf",
        metavar="MODULE",
        default="example_project.provider.urls",
        help="the URLconf to serve; tests add endpoints with it",
    )
    options = parser.parse_args(argv)
    options.redirect_uris = options.redirect_uris or [DESK_CALLBACK]
    return options


def configure(options: argparse.Namespace, url: str) -> None:
    os.environ.update(
        DJANGO_SETTINGS_MODULE="example_project.provider.settings",
        CODEYARD_URL=url,
        CODEYARD_DATABASE=os.path.abspath(options.database),
        CODEYARD_TOKEN_LIFETIME=str(options.token_lifetime),
        CODEYARD_DEVICE_INTERVAL=str(options.device_interval),
        CODEYARD_URLCONF=options.urlconf,
    )
    django.setup()


def prepare(options: argparse.Namespace) -> None:
    # Imported here, because models can only be imported after Django is set up.
    from example_project.provider.set_up import (  # noqa: PLC0415
        create_people,
        register_machine,
        register_site,
        register_terminal,
    )

    call_command("migrate", verbosity=0)
    create_people()
    register_site(options.client_id, options.client_secret, options.redirect_uris)
    register_machine(f"{options.client_id}-reports", options.client_secret)
    register_terminal(options.device_client_id)


def main() -> None:
    options = parse_arguments()
    server = listen(options.port)
    configure(options, server.url)
    prepare(options)
    serve(server, StaticFilesHandler(get_wsgi_application()))


if __name__ == "__main__":
    main()
