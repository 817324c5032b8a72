from __future__ import annotations

from dataclasses import asdict
from itertools import chain
from typing import Any

from django.core.management.base import CommandParser

from oauth_connect.management.base import Command as Base
from oauth_connect.management.doctor.endpoints import endpoints
from oauth_connect.management.doctor.site import Examination, Finding


class Command(Base):
    help = "Checks settings, keys, database and connections, and says what to correct. Changes nothing."
    needs_time_zone = False  # a finding reports USE_TZ
    examples = """\
  manage.py oauth_doctor             settings, keys, database, redirect URIs, connections
  manage.py oauth_doctor --online    also whether the providers' endpoints respond
  manage.py oauth_doctor --json -v 0 | jq .ok"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--online",
            action="store_true",
            help="also send each endpoint a GET request, without parameters or credentials",
        )

    def work(self, **options: Any) -> None:
        examination = Examination()
        found: list[Finding] = []
        online = endpoints(examination.usable) if options["online"] else ()
        for finding in chain(examination.findings(), online):
            found.append(finding)
            self.line(str(finding), verbosity=1 if finding.level == "ok" else 0)
        wrong = [finding for finding in found if finding.level == "error"]
        numbers: dict[str, Any] = {
            "due": {},
            "failing": {},
            "pending_revocations": {},
            "alarms": {},
            "sample": {},
            "owner_mismatches": 0,
        }
        self.document(
            {
                "ok": not wrong,
                "findings": [asdict(finding) for finding in found],
                "redirect_uris": examination.redirect_uris,
                "connections": examination.counts,
                **numbers,
                **examination.numbers,
            }
        )
        if wrong:
            self.failed(f"Wrong: {', '.join(finding.subject for finding in wrong)}.")
