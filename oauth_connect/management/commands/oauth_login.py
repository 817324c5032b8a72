from __future__ import annotations

import contextlib
import math
import webbrowser
from argparse import ArgumentTypeError
from typing import Any, NoReturn

from django.core.management.base import CommandError, CommandParser

from oauth_connect.errors import (
    CallbackRefused,
    CallError,
    InvalidProvider,
    KeyringUnavailable,
    ProviderRejected,
)
from oauth_connect.flows.account import Account
from oauth_connect.flows.terminal import (
    BrowserLogin,
    DeviceLogin,
    KeyringTarget,
    TokenTarget,
    UserConnectionTarget,
    has_device_flow,
    without_device_flow,
)
from oauth_connect.management.base import Command as Base
from oauth_connect.management.login_screen import Screen
from oauth_connect.protocol.device import DeviceAuthorization

INTERRUPTED = 130
WHERE = (
    "Say where to store the token: --user USERNAME stores it as that user's connection, --store keyring "
    "stores it on this machine for command-line tools."
)
ENDED = {
    "access_denied": "Access was denied. Nothing was stored.",
    "expired_token": "The code expired before it was used. Run the command again for a new code.",
}


def assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


class Command(Base):
    help = (
        "Logs in at a provider from a terminal. Uses the device flow if the provider has one, otherwise a "
        "browser on this machine."
    )
    examples = """\
  manage.py oauth_login github --user grace       becomes a connection of the user grace
  manage.py oauth_login github --store keyring    for command-line tools on this machine
  manage.py oauth_login acme --store keyring --browser
  manage.py oauth_login gitlab --user grace --scope api --variable host=git.acme.example
  manage.py oauth_login github --user grace --dry-run"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("provider", metavar="PROVIDER", help="the provider's name in the settings")
        target = parser.add_mutually_exclusive_group()
        target.add_argument("--user", metavar="USERNAME", help="store the token as this user's connection")
        target.add_argument("--store", choices=["keyring"], help="store the token in this machine's keyring")
        flow = parser.add_mutually_exclusive_group()
        flow.add_argument(
            "--device", action="store_true", help="show a code to enter on any device (default if supported)"
        )
        flow.add_argument(
            "--browser",
            action="store_true",
            help="use a browser on this machine, which is redirected to 127.0.0.1",
        )
        parser.add_argument(
            "--no-open", action="store_true", help="print the address and do not open a browser"
        )
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            metavar="SCOPE",
            help="in addition to the provider's (repeatable)",
        )
        parser.add_argument(
            "--variable",
            action="append",
            default=[],
            type=assignment,
            metavar="NAME=VALUE",
            help="a variable of the provider, such as its tenant or shop (repeatable)",
        )
        parser.add_argument("--dry-run", action="store_true", help="show what would be done and send nothing")

    def work(self, **options: Any) -> None:
        self.options = options
        # With --json, standard output has nothing but the document.
        self.screen = Screen(self.stderr if self.as_json else self.stdout)
        try:
            target = self._target(options["user"], options["store"])
            login = self._login(options["provider"], target)
        except (KeyringUnavailable, InvalidProvider) as error:
            self.usage_error(str(error))
        except CallError as error:  # discovery failed
            self._end(str(error))
        if options["dry_run"]:
            self._dry_run(login)
            return
        self._report(login, target, self._run(login))

    def _target(self, username: str | None, store: str | None) -> TokenTarget:
        if store:
            return KeyringTarget()
        if not username:
            self.usage_error(WHERE)
        user = self.user(username)
        if not user.is_active:
            self.usage_error(f"The user {username!r} has been deactivated.")
        return UserConnectionTarget(user)

    def _login(self, slug: str, target: TokenTarget) -> DeviceLogin | BrowserLogin:
        by_device = not self.options["browser"] and has_device_flow(slug, target.owner)
        if self.options["device"] and not by_device:
            self.usage_error(without_device_flow(slug))
        kind = DeviceLogin if by_device else BrowserLogin
        variables = dict(self.options["variable"])
        return kind(slug, target, scopes=self.options["scope"], variables=variables)

    def _dry_run(self, login: DeviceLogin | BrowserLogin) -> None:
        if isinstance(login, BrowserLogin):
            login.check()  # raises what the login itself would raise
        by = "device flow" if isinstance(login, DeviceLogin) else "browser"
        kept = self.options["user"] or "the keyring of this machine"
        scopes = " ".join(login.scopes) or "none"
        self.line(f"Would log in at {login.provider.label} ({by}, scopes: {scopes}) for {kept}.")
        self.line("Nothing was sent.")
        self.document(
            {"dry_run": True, "provider": login.declared.slug, "grant": login.grant, "scopes": login.scopes}
        )

    def _run(self, login: DeviceLogin | BrowserLogin) -> Account:
        try:
            if isinstance(login, DeviceLogin):
                return login.run(self._show_code, self.screen.countdown)
            return login.run(self._show_address, self.screen.countdown)
        except KeyboardInterrupt:
            self.screen.end_countdown()
            self.document({"error": "interrupted"})
            raise CommandError("Stopped. Nothing was stored.", returncode=INTERRUPTED) from None
        except ProviderRejected as error:
            self._end(ENDED.get(error.error, str(error)))
        except (CallError, CallbackRefused) as error:
            self._end(str(error))
        finally:
            self.screen.end_countdown()

    def _end(self, message: str) -> NoReturn:
        self.document({"error": message})
        self.failed(message)

    def _show_code(self, authorization: DeviceAuthorization) -> None:
        self.screen.line(f"Open  {authorization.verification_uri}")
        self.screen.line(f"and enter the code  {authorization.user_code}")
        if authorization.verification_uri_complete:
            self.screen.qr_code(authorization.verification_uri_complete)
        minutes = math.ceil(authorization.expires_in / 60)
        self.screen.line(
            "Continue only if that page shows this code and you started this login yourself. The code "
            f"expires in {minutes} minute{'' if minutes == 1 else 's'}."
        )

    def _show_address(self, address: str) -> None:
        self.screen.line("Log in with the browser of this machine:")
        self.screen.line(f"  {address}")
        if not self.options["no_open"]:
            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)

    def _report(self, login: DeviceLogin | BrowserLogin, target: TokenTarget, account: Account) -> None:
        connection = target.connection if isinstance(target, UserConnectionTarget) else None
        kept = (
            f"as a connection of {self.options['user']}" if connection else "in the keyring of this machine"
        )
        name = f" as {account.label}" if account.label else ""
        self.line(f"Logged in at {login.provider.label}{name}. The token is stored {kept}.")
        self.document(
            {
                "provider": login.declared.slug,
                "account": account.label,
                "account_id": account.id,
                "grant": login.grant,
                "kept": "connection" if connection else "keyring",
                "connection": str(connection.pk) if connection else None,
            }
        )
