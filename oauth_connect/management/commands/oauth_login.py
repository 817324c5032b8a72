from __future__ import annotations

import contextlib
import math
import sys
import webbrowser
from argparse import ArgumentTypeError
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

from django.core.management.base import CommandError, CommandParser

from oauth_connect.errors import (
    CallbackRefused,
    CallError,
    InvalidProvider,
    KeyringUnavailable,
    ProviderRejected,
)
from oauth_connect.flows.account import Account, Site
from oauth_connect.flows.terminal import (
    BrowserLogin,
    DeviceLogin,
    KeyringTarget,
    Redirect,
    TokenTarget,
    UserConnectionTarget,
    has_device_flow,
    without_device_flow,
)
from oauth_connect.management.base import SOME_FAILED
from oauth_connect.management.base import Command as Base
from oauth_connect.management.login_screen import Screen
from oauth_connect.protocol.device import DeviceAuthorization
from oauth_connect.protocol.net.loopback import HOST, HOSTS, PATH, VALID_PATH

INTERRUPTED = 130
MAX_PORT = 65535
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


def to_register(redirect: Redirect) -> str:
    """Return the line that says which redirect URI the provider must know."""
    if redirect.port:
        return f"The redirect URI to register at the provider: {redirect.uri}"
    return (
        f"The redirect URI to register at the provider: {redirect.uri} (with any port). If the provider "
        "compares the port too, choose one with --port."
    )


def loopback_host(text: str) -> str:
    host = "[::1]" if text == "::1" else text.lower()
    if host not in HOSTS:
        raise ArgumentTypeError(f"{text!r} is none of {', '.join(HOSTS)}")
    return host


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= MAX_PORT):
        raise ArgumentTypeError(f"{text!r} is not a port (0 to {MAX_PORT})")
    return int(text)


def redirect_path(text: str) -> str:
    if not VALID_PATH.fullmatch(text):
        raise ArgumentTypeError(f"{text!r} is not a path such as {PATH}")
    return text


class Command(Base):
    help = (
        "Logs in at a provider from a terminal. Uses the device flow if the provider has one, otherwise a "
        "browser on this machine."
    )
    examples = """\
  manage.py oauth_login github --user grace       becomes a connection of the user grace
  manage.py oauth_login github --store keyring    for command-line tools on this machine
  manage.py oauth_login acme --store keyring --browser
  manage.py oauth_login acme --user grace --browser --host localhost --port 8400
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
            help="use a browser on this machine, which is redirected to a loopback address",
        )
        redirect = parser.add_argument_group("the redirect URI of --browser")
        redirect.add_argument(
            "--host",
            type=loopback_host,
            default=HOST,
            help="127.0.0.1 (default), localhost or [::1], as it is registered at the provider",
        )
        redirect.add_argument(
            "--port",
            type=port_number,
            default=0,
            help="the port that is registered at the provider (default: any free port)",
        )
        redirect.add_argument(
            "--path", type=redirect_path, default=PATH, help=f"the path that is registered (default: {PATH})"
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
        parser.add_argument(
            "--replace",
            action="store_true",
            help="disconnect the user's other account without asking, if the provider allows one account",
        )
        parser.add_argument(
            "--site",
            default="",
            metavar="NAME",
            help="the site or organisation to use, if the account has several (its name or id)",
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
        if isinstance(target, UserConnectionTarget):
            self._ask_to_replace(login, target)
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
        options = self.options
        by_device = not options["browser"] and has_device_flow(slug, target.owner)
        if options["device"] and not by_device:
            self.usage_error(without_device_flow(slug, target.owner))
        redirect = Redirect(options["host"], options["port"], options["path"])
        if by_device and redirect != Redirect():
            self.usage_error("--host, --port and --path belong to --browser.")
        more: dict[str, Any] = {
            "scopes": options["scope"],
            "variables": dict(options["variable"]),
            "choose": self._choose_site,
        }
        if by_device:
            return DeviceLogin(slug, target, **more)
        return BrowserLogin(slug, target, redirect=redirect, **more)

    def _ask_to_replace(self, login: DeviceLogin | BrowserLogin, target: UserConnectionTarget) -> None:
        """End the command unless the user agrees that the new account replaces the connected one."""
        others = target.replaceable(login)
        if not others or self.options["replace"]:
            return
        names = ", ".join(other.account_label or other.account_id or "one account" for other in others)
        what = (
            f"{self.options['user']} may have one account at {login.provider.label}. If you log in with "
            f"another account, it replaces {names}. What it replaces is disconnected."
        )
        if self.as_json or not sys.stdin.isatty():
            self.usage_error(f"{what} Add --replace if you want that.")
        self.screen.line(what)
        try:
            answer = input("Continue? [y/N] ")
        except (EOFError, KeyboardInterrupt):
            raise CommandError("Stopped. Nothing was stored.", returncode=INTERRUPTED) from None
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Stopped. Nothing was stored.", returncode=SOME_FAILED)

    def _choose_site(self, account: Account, sites: Sequence[Site]) -> Site:
        """Return the site that --site names or that the user chooses. Raises CallbackRefused without one."""
        wanted = self.options["site"] or self._ask_for_site(account, sites)
        by_id = [site for site in sites if site.id == wanted]
        by_name = [site for site in sites if site.label == wanted]
        if by_id:
            return by_id[0]
        if len(by_name) == 1:
            return by_name[0]
        raise CallbackRefused(
            f"The account has access to several sites or organisations: {', '.join(_names_of(sites))}. "
            "Name one with --site.",
            code="site_undecided",
        )

    def _ask_for_site(self, account: Account, sites: Sequence[Site]) -> str:
        """Return the id of a site by its number, or another answer of the user, or ""."""
        if self.as_json or not sys.stdin.isatty():
            return ""
        self.screen.line(f"{account.label or 'The account'} has access to several:")
        for number, name in enumerate(_names_of(sites), 1):
            self.screen.line(f"  {number}  {name}")
        try:
            answer = input("Number: ").strip()
        except EOFError:
            return ""
        return sites[int(answer) - 1].id if answer in map(str, range(1, len(sites) + 1)) else answer

    def _dry_run(self, login: DeviceLogin | BrowserLogin) -> None:
        if isinstance(login, BrowserLogin):
            login.check()  # raises what the login itself would raise
        by = "device flow" if isinstance(login, DeviceLogin) else "browser"
        kept = self.options["user"] or "the keyring of this machine"
        scopes = " ".join(login.scopes) or "none"
        self.line(f"Would log in at {login.provider.label} ({by}, scopes: {scopes}) for {kept}.")
        document: dict[str, Any] = {"dry_run": True, "provider": login.declared.slug}
        document |= {"grant": login.grant, "scopes": login.scopes}
        if isinstance(login, BrowserLogin):
            self.line(to_register(login.redirect))
            document["redirect_uri"] = login.redirect.uri
        self.line("Nothing was sent.")
        self.document(document)

    def _run(self, login: DeviceLogin | BrowserLogin) -> Account:
        try:
            if isinstance(login, DeviceLogin):
                return login.run(self._show_code, self.screen.countdown)

            def show(address: str) -> None:
                self._show_address(address, login)

            return login.run(show, self.screen.countdown)
        except KeyboardInterrupt:
            self.screen.end_countdown()
            self.document({"error": "interrupted"})
            raise CommandError("Stopped. Nothing was stored.", returncode=INTERRUPTED) from None
        except ProviderRejected as error:
            self._end(ENDED.get(error.error, str(error)))
        except CallbackRefused as error:
            self._end(str(error), code=error.code, provider_error=error.error)
        except CallError as error:
            self._end(str(error))
        finally:
            self.screen.end_countdown()

    def _end(self, message: str, **details: str) -> NoReturn:
        self.document({"error": message, **details})
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

    def _show_address(self, address: str, login: BrowserLogin) -> None:
        self.screen.line("Log in with the browser of this machine:")
        self.screen.line(f"  {address}")
        self.screen.line(to_register(login.redirect))
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
                **({"redirect_uri": login.redirect_uri} if login.redirect_uri else {}),
            }
        )


def _names_of(sites: Sequence[Site]) -> list[str]:
    """Return the sites' names. Where several have the same, the id follows."""
    count = Counter(site.label for site in sites)
    return [site.label if count[site.label] == 1 else f"{site.label} ({site.id})" for site in sites]
