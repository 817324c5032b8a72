from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import CommandParser

from oauth_connect.conf import UnknownProvider, conf
from oauth_connect.management.base import Command as Base
from oauth_connect.management.doctor.endpoints import endpoints
from oauth_connect.management.doctor.finding import Finding
from oauth_connect.management.doctor.site import Examination

STYLES = {"ok": "SUCCESS", "warning": "WARNING", "error": "ERROR"}


class Command(Base):
    help = "Checks settings, keys, database and connections, and says what to correct. Changes nothing."
    needs_time_zone = False  # a finding reports USE_TZ
    examples = """\
  manage.py oauth_doctor             settings, keys, database, redirect URIs, connections
  manage.py oauth_doctor NAME        the same without the other providers
  manage.py oauth_doctor --online    also whether the providers' endpoints respond
  manage.py oauth_doctor --json -v 0 | jq .ok"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "slug", nargs="?", default="", metavar="NAME", help="leave out the other providers"
        )
        parser.add_argument(
            "--online",
            action="store_true",
            help="also send each endpoint a GET request, without parameters or credentials",
        )

    def work(self, **options: Any) -> None:
        slug = options["slug"]
        if slug:
            self._check_name(slug)
        examination = Examination(slug)
        online = endpoints(examination.usable) if options["online"] else ()
        found = list(self._shown(chain(examination.findings(), online)))
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
        self.line(_summary(found))
        if wrong:
            self.failed(f"Wrong: {', '.join(dict.fromkeys(finding.subject for finding in wrong))}.")

    def _check_name(self, slug: str) -> None:
        """End the command if there is no provider of this name."""
        try:
            conf.declared_provider(slug)
        except UnknownProvider as error:
            self.usage_error(str(error))
        except ImproperlyConfigured:  # a finding reports it
            return

    def _shown(self, findings: Iterator[Finding]) -> Iterator[Finding]:
        """Yield the findings, and write their lines: what is wrong comes last, where a reader looks first."""
        held: list[Finding] = []
        try:
            for finding in findings:
                if finding.level == "ok":
                    self.line(self._line(finding))
                else:
                    held.append(finding)
                yield finding
        finally:
            for finding in sorted(held, key=lambda one: one.level == "error"):
                self.line(self._line(finding), verbosity=0)

    def _line(self, finding: Finding) -> str:
        text, head, word = str(finding), f"{finding.subject}: ", finding.level.upper()
        if not self.has_colours:
            return text
        coloured = getattr(self.style, STYLES[finding.level])(word)
        return f"{head}{coloured}{text.removeprefix(head + word)}"


def _summary(found: list[Finding]) -> str:
    counts = Counter(finding.level for finding in found)
    if counts["ok"] == len(found):
        return f"{len(found)} checks: OK"
    warnings = "1 warning" if counts["warning"] == 1 else f"{counts['warning']} warnings"
    errors = "1 error" if counts["error"] == 1 else f"{counts['error']} errors"
    return f"{len(found)} checks: {counts['ok']} OK, {warnings}, {errors}."
