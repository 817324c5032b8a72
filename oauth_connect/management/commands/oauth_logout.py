from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandParser

from oauth_connect.conf import conf
from oauth_connect.errors import CallError, InvalidProvider, KeyringUnavailable
from oauth_connect.flows.disconnect import Outlook, awaits_revocation, outlook
from oauth_connect.flows.keyring import forget_in_keyring
from oauth_connect.management.base import Command as Base
from oauth_connect.models import Connection
from oauth_connect.models.owner import key_of
from oauth_connect.stores import keyring

WHERE = (
    "Say what to log out: --user USERNAME disconnects that user's account, --store keyring deletes the token "
    "on this machine."
)
MESSAGES = {
    "revoked": "Logged out of {label}. The token is revoked and deleted.",
    "unsupported": "Logged out of {label}. The token is deleted. The provider has no way to revoke it.",
    "refused": "Logged out of {label}. The token is deleted. The provider refused to revoke it.",
    "absent": "There is no login at {label} on this machine.",
}
WHAT_BECAME: dict[Outlook, str] = {
    "revoked": "The token is deleted. The provider was asked to revoke it.",
    "kept": "Another connection uses the same access. Its revocation waits until that one is disconnected.",
    "unsupported": "The token is deleted. The provider has no way to revoke it.",
    "unreadable": (
        "No configured key opens the token, so it could not be revoked. The user must withdraw the access in "
        "the settings of their account at the provider."
    ),
}
PENDING = "{label} has not revoked the token yet. It is no longer used. Run the command again to revoke it."


class Command(Base):
    help = "Logs out at a provider: revokes the token there and deletes it here."
    examples = """\
  manage.py oauth_logout github --user grace      the user's connection
  manage.py oauth_logout github --user grace --account 583231
  manage.py oauth_logout github --store keyring   the token in this machine's keyring"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("provider", metavar="PROVIDER", help="the provider's name in the settings")
        target = parser.add_mutually_exclusive_group()
        target.add_argument("--user", metavar="USERNAME", help="disconnect this user's account")
        target.add_argument("--store", choices=["keyring"], help="delete the token in this machine's keyring")
        parser.add_argument("--account", metavar="ID", help="the account's id, if the user has several")
        parser.add_argument(
            "--dry-run", action="store_true", help="show what would be done and change nothing"
        )

    def work(self, **options: Any) -> None:
        if not (options["store"] or options["user"]):
            self.usage_error(WHERE)
        try:
            if options["store"]:
                self._log_out(options["provider"], dry_run=options["dry_run"])
            else:
                self._disconnect(options)
        except (KeyringUnavailable, InvalidProvider) as error:
            self.usage_error(str(error))
        except CallError as error:
            self.document({"error": str(error)})
            self.failed(str(error))

    # --- the keyring ------------------------------------------------------------------------------

    def _log_out(self, slug: str, *, dry_run: bool) -> None:
        provider = conf.declared_provider(slug)
        if dry_run:
            found = keyring.KeyringStore(provider).login()
            number = "no" if found is None else "one"
            self.line(f"Would log out of {provider.label}: {number} token on this machine.")
            self.document({"dry_run": True, "provider": slug, "found": found is not None})
            return
        outcome = forget_in_keyring(slug)
        self.document({"provider": slug, "outcome": outcome})
        if outcome == "pending":
            self.failed(PENDING.format(label=provider.label))
        self.line(MESSAGES[outcome].format(label=provider.label))

    # --- the database -----------------------------------------------------------------------------

    def _disconnect(self, options: dict[str, Any]) -> None:
        slug, username = options["provider"], options["user"]
        user = self.user(username)
        connection = self._connection(user, slug, options["account"])
        if options["dry_run"]:
            found = str(connection) if connection else "nothing"
            self.line(f"Would disconnect {found} of {username}.")
            self.document({"dry_run": True, "provider": slug, "found": connection is not None})
        elif connection is None:
            self.line(f"{username} has no connection to {slug}.")
            self.document({"provider": slug, "outcome": "absent"})
        else:
            self._end(connection, user)

    def _connection(self, user: Any, slug: str, account: str | None) -> Connection | None:
        rows = Connection.objects.from_primary().for_owner(user).filter(provider=slug)
        connected = list(rows.exclude(status=Connection.Status.REVOKED).order_by("account_id", "pk"))
        # Compared in Python, because some databases treat "abc" and "ABC" as equal.
        found = [row for row in connected if account is None or row.account_id == account]
        if len(found) > 1:
            self.usage_error(f"Several accounts are connected. Name one with --account: {named(found)}.")
        if connected and not found:
            username = user.get_username()
            self.usage_error(
                f"{username} has no account {account!r} at {slug}. Connected: {named(connected)}."
            )
        if not connected:
            conf.declared_provider(slug, key_of(user))  # the error lists the known names
        return found[0] if found else None

    def _end(self, connection: Connection, user: Any) -> None:
        name, before = str(connection), outlook(connection)
        connection.disconnect(actor=user)
        pending = awaits_revocation(connection)
        outcome = "pending" if pending else "disconnected"
        self.document({"provider": connection.provider, "outcome": outcome, "connection": str(connection.pk)})
        if pending:
            self.failed(
                f"Disconnected {name}. The provider has not revoked the token yet. oauth_prune retries it."
            )
        self.line(f"Disconnected {name}. {WHAT_BECAME[before]}")


def named(connections: Iterable[Connection]) -> str:
    """Return the accounts as text: each id, as --account takes it, with its label."""
    labels = ((row.account_id, row.account_label) for row in connections)
    return ", ".join(f"{account} ({label})" if label else account for account, label in labels)
