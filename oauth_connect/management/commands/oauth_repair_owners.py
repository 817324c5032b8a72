from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from oauth_connect.jobs.repair_owners import FAILED, OUTCOMES, repair_owners
from oauth_connect.management.base import Command as Base
from oauth_connect.management.output import Tally, humanize, table

ADVICE = {
    "already_connected": "The user has a connection to this account already. Delete one of the two.",
    "no_user": "No user has this key. Delete the connection, or hand it over with move_to().",
}


class Command(Base):
    help = (
        "Corrects connections whose owner and user are not the same, in favour of the user. They are not "
        "used until then. A connection that was stored for another owner keeps that owner and loses its user."
    )
    examples = """\
  manage.py oauth_repair_owners --dry-run     what would be corrected
  manage.py oauth_repair_owners"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="show the outcomes and change nothing")

    def work(self, **options: Any) -> None:
        tally = Tally(OUTCOMES, FAILED)
        connections = []
        for result in repair_owners(dry_run=options["dry_run"]):
            tally.add(result.outcome)
            connections.append({"connection": result.connection, "outcome": result.outcome})
            text = f"{result.connection}: {humanize(result.outcome)}. {ADVICE.get(result.outcome, '')}"
            self.line(text.rstrip(), verbosity=0 if result.outcome in FAILED else 2)
        if tally.total:
            for text in table(("outcome", "connections"), tally.rows()):
                self.line(text)
        else:
            self.line("The owner and the user of every connection are the same.")
        if options["dry_run"]:
            self.line("Nothing was changed.")
        self.document(
            {"dry_run": options["dry_run"], "outcomes": tally.by_outcome(), "connections": connections}
        )
        if tally.failed:
            self.failed(f"{tally.failed} of {tally.total} connections could not be corrected.")
