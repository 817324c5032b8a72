"""The checks of ``oauth_doctor``, one method each. They change nothing and show no secret."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags
from django.core.checks.registry import registry as check_registry
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, router
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Count

from oauth_connect import crypto
from oauth_connect.conf import conf
from oauth_connect.errors import KeyUnavailable
from oauth_connect.management.base import database_problem
from oauth_connect.management.doctor.finding import Finding, Level
from oauth_connect.management.doctor.presets import preset_findings
from oauth_connect.management.output import humanize
from oauth_connect.management.redirect_uris import RedirectURI, mounts, redirect_uri
from oauth_connect.models import Connection, PendingRevocation
from oauth_connect.models.lifecycle import ownership, provider_health
from oauth_connect.protocol.grants import client_refusal
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.clock import database_now
from oauth_connect.stores.columns import bindings

SAMPLE = 100  # rows
CLOCK_TOLERANCE = 60.0  # seconds
OVERDUE = timedelta(days=2)
PROOF = ("proof", "oauth_doctor")

# The subject of each system check. All other checks are about the settings.
SUBJECTS = {
    "oauth_connect.E001": "Keys",
    "oauth_connect.E002": "Keys",
    "oauth_connect.W006": "Providers",
    "oauth_connect.W011": "Providers",
    "oauth_connect.W013": "Providers",
    "oauth_connect.W007": "URLs",
    "oauth_connect.W041": "URLs",
    "oauth_connect.W044": "URLs",
    "oauth_connect.E008": "Sessions",
    "oauth_connect.E009": "Sessions",
    "oauth_connect.E016": "Sessions",
    "oauth_connect.W017": "Sessions",
    "oauth_connect.W045": "Sessions",
    "oauth_connect.E018": "Sessions",
    "oauth_connect.W019": "Sessions",
    "oauth_connect.W010": "Database",
    "oauth_connect.W020": "Database",
}
REPORTED_ELSEWHERE = {"oauth_connect.E005"}  # ``providers`` has a finding for each provider


class Examination:
    """Examines a site once. ``findings`` yields the findings, and the attributes collect their numbers.

    ``only``: the name of the provider to examine; "" means all.
    """

    def __init__(self, only: str = "") -> None:
        self.only = only
        self.alias = router.db_for_write(Connection)
        self.counts: dict[str, dict[str, int]] = {}
        self.numbers: dict[str, Any] = {}
        self.redirect_uris: dict[str, str] = {}

    def findings(self) -> Iterator[Finding]:
        yield from self.settings()
        yield from self.keys()
        yield from self.sessions()
        yield from self.urls()
        yield from self.providers()
        yield from self.redirects()
        if not settings.USE_TZ:  # reported by ``settings``; no time can be read from the database
            return
        readable = True
        for finding in self.database():
            readable = readable and finding.level != "error"
            yield finding
        if readable:
            yield from self.stored_rows()
            yield self.owners()
            yield from self.connections()
            yield from self.revocations()
            yield from self.alarms()

    # --- the settings ---------------------------------------------------------------------------

    def settings(self) -> Iterator[Finding]:
        yield from self._system_checks("Settings")

    def keys(self) -> Iterator[Finding]:
        try:
            crypto.unseal(crypto.seal("", PROOF), PROOF)
            count = len(conf.keys)
        except (KeyUnavailable, ImproperlyConfigured):
            yield from self._system_checks("Keys", wrong=True)
        else:
            yield from self._system_checks("Keys", f"{count} in the ring; a sealed sample opens")

    def sessions(self) -> Iterator[Finding]:
        yield from self._system_checks("Sessions", settings.SESSION_ENGINE)

    def urls(self) -> Iterator[Finding]:
        yield from self._system_checks("URLs")

    def providers(self) -> Iterator[Finding]:
        yield from self._system_checks("Providers", f"{self._number} in the settings")
        for slug in self.slugs:
            try:
                provider = conf.declared_provider(slug)
            except ImproperlyConfigured as error:
                yield Finding(f"Provider {slug}", "error", sentence(str(error)), "Correct that field.")
            else:
                yield Finding(f"Provider {slug}", "ok", "" if provider.enabled else "disabled")
                yield from preset_findings(slug)

    def redirects(self) -> Iterator[Finding]:
        for provider in self.usable:
            if conf.connectable_provider(provider.slug) is None:
                continue
            places = mounts()
            for mount in places:
                found = redirect_uri(provider.slug, mount)
                self.redirect_uris.setdefault(provider.slug, found.uri)
                name = f" in {mount}" if len(places) > 1 else ""
                yield _redirect(f"Redirect URI of {provider.slug}{name}", found)

    @cached_property
    def slugs(self) -> tuple[str, ...]:
        if self.only:
            return (self.only,)
        try:
            return conf.provider_slugs
        except ImproperlyConfigured:  # reported by check_providers
            return ()

    @property
    def _number(self) -> int:
        try:
            return len(conf.provider_slugs)
        except ImproperlyConfigured:  # reported by check_providers
            return 0

    @cached_property
    def usable(self) -> list[Provider]:
        found = []
        for slug in self.slugs:
            try:
                found.append(conf.declared_provider(slug))
            except ImproperlyConfigured:  # reported by ``providers``
                continue
        return found

    def _provider(self, slug: str) -> Provider | None:
        return next((provider for provider in self.usable if provider.slug == slug), None)

    @cached_property
    def _messages(self) -> list[CheckMessage]:
        """The messages of this package's system checks, without those that query the database."""
        ours = [
            check
            for check in check_registry.get_checks(include_deployment_checks=not settings.DEBUG)
            if check.__module__.startswith("oauth_connect.") and Tags.database not in check.tags
        ]
        return [message for check in ours for message in check(app_configs=None, databases=None)]

    def _system_checks(self, subject: str, details: str = "", *, wrong: bool = False) -> Iterator[Finding]:
        for message in self._messages:
            check = str(message.id)
            if SUBJECTS.get(check, "Settings") != subject or (check in REPORTED_ELSEWHERE and self.slugs):
                continue
            wrong = True
            level: Level = "error" if message.is_serious() else "warning"
            yield Finding(subject, level, f"{message.msg} [{check}]", message.hint or "")
        if not wrong:
            yield Finding(subject, "ok", details)

    # --- the database ---------------------------------------------------------------------------

    def database(self) -> Iterator[Finding]:
        yield from self._system_checks("Database", f"{connections[self.alias].vendor}, alias {self.alias}")
        try:
            yield self._migrations()
            yield self._clock()
        except Error as error:
            message = database_problem(error).partition(" Run")[0]
            yield Finding("Database", "error", message, "Check that it is running.")

    def _migrations(self) -> Finding:
        executor = MigrationExecutor(connections[self.alias])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes("oauth_connect"))
        missing = [migration.name for migration, _ in plan if migration.app_label == "oauth_connect"]
        if not missing:
            return Finding("Migrations", "ok")
        hint = f"Run migrate{'' if self.alias == 'default' else f' --database {self.alias}'}."
        return Finding("Migrations", "error", f"not applied: {', '.join(missing)}.", hint)

    def _clock(self) -> Finding:
        before = datetime.now(UTC)
        database_time = database_now(self.alias)
        local_time = before + (datetime.now(UTC) - before) / 2
        difference = abs((database_time - local_time).total_seconds())
        if difference <= CLOCK_TOLERANCE:
            return Finding("Clocks", "ok", "this machine and the database agree")
        return Finding(
            "Clocks",
            "warning",
            f"this machine and the database are {difference:.0f} s apart.",
            "Tokens are refreshed too early or too late. Synchronize both with a time server.",
        )

    def stored_rows(self) -> Iterator[Finding]:
        """Count how many rows of a sample each key opens."""
        rows: Any = Connection.objects.using(self.alias).filter(sealed_token__isnull=False).order_by("pk")
        try:
            keys = len(conf.keys)
        except ImproperlyConfigured:  # reported by ``keys``
            return
        sample = list(rows.only("pk", "provider", "sealed_token")[:SAMPLE])
        opened = Counter(crypto.key_index(row.sealed_token, *bindings(row)) for row in sample)
        by_key = [opened[index] for index in range(keys)]
        self.numbers["sample"] = {"rows": len(sample), "opened_by_key": by_key, "unopened": opened[None]}
        each = ", ".join(f"key {index + 1} opens {count}" for index, count in enumerate(by_key))
        if not opened[None]:
            yield Finding("Sealed rows", "ok", f"a sample of {len(sample)}: {each}")
            return
        yield Finding(
            "Sealed rows",
            "error",
            f"no key opens {opened[None]} of a sample of {len(sample)} ({each}).",
            'Put the key that sealed them back into OAUTH_CONNECT["KEYS"]. If it is lost, disconnect them.',
        )

    def owners(self) -> Finding:
        """Count the rows whose owner and user do not agree."""
        count = sum(1 for _ in ownership.mismatched(Connection, self.alias))
        self.numbers["owner_mismatches"] = count
        if not count:
            return Finding("Owners", "ok")
        message = f"owner and user are not the same in connections: {count}. They are not used."
        return Finding("Owners", "error", message, "Run oauth_repair_owners.")

    def connections(self) -> Iterator[Finding]:
        rows: Any = Connection.objects.using(self.alias).order_by()
        if self.only:
            rows = rows.filter(provider=self.only)
        for slug, status, count in rows.values_list("provider", "status").annotate(Count("pk")):
            self.counts.setdefault(slug, {})[status] = count
        active = rows.filter(status=Connection.Status.ACTIVE)
        due = grouped(rows.due())
        errors = by_error(active.filter(failures__gt=0))
        failing = {slug: codes.total() for slug, codes in errors.items()}
        self.numbers |= {"due": due, "failing": failing}
        if not self.counts:
            yield Finding("Connections", "ok", "none yet")
        for slug, by_status in sorted(self.counts.items()):
            yield self._connections_of(slug, by_status, due.get(slug, 0), errors.get(slug, Counter()))

    def _connections_of(
        self, slug: str, by_status: Mapping[str, int], due: int, errors: Counter[str]
    ) -> Finding:
        numbers = [f"{count} {humanize(status)}" for status, count in sorted(by_status.items())]
        summary = ", ".join([*numbers, f"{due} due", f"{errors.total()} failing"])
        subject = f"Connections of {slug}"
        if by_status.get(Connection.Status.ACTIVE) and not self._known(slug):
            hint = f"{slug!r} is not in the settings. Put it back, or disconnect these connections."
            return Finding(subject, "error", f"{summary}.", hint)
        if errors:
            # oauth_refresh does not report these while they back off, nor machine tokens.
            why = ", ".join(f"{code} {count}" for code, count in sorted(errors.items()))
            return Finding(subject, "warning", f"{summary}.", f"Failing: {why}.")
        return Finding(subject, "ok", summary)

    def _known(self, slug: str) -> bool:
        try:
            return slug in self.slugs or conf.loads_providers
        except ImproperlyConfigured:  # reported by ``settings``
            return True

    def revocations(self) -> Iterator[Finding]:
        rows: Any = PendingRevocation.objects.using(self.alias).waiting().order_by()
        pending = grouped(rows)
        self.numbers["pending_revocations"] = pending
        summary = ", ".join(f"{slug} {count}" for slug, count in sorted(pending.items()))
        if rows.filter(next_attempt_at__lt=datetime.now(UTC) - OVERDUE).exists():
            hint = "Run oauth_prune once a day. It revokes them at the providers."
            yield Finding("Pending revocations", "warning", f"overdue for days ({summary}).", hint)
            return
        yield Finding("Pending revocations", "ok", summary or "none")

    def alarms(self) -> Iterator[Finding]:
        found = provider_health.alarms(self.alias)
        self.numbers["alarms"] = found
        for slug, alarm in sorted(found.items()):
            fields = f"client_id, client_secret, issuer and endpoints of {slug!r}"
            hint = f"Compare {fields} with the provider's documentation."
            if alarm == "invalid_client" and (provider := self._provider(slug)):
                hint = f"{hint} {client_refusal.advice(provider)}"
            yield Finding(f"Alarm of {slug}", "error", f"{alarm}.", hint)
        if not found:
            yield Finding("Alarms", "ok", "none")


def grouped(rows: Any) -> dict[str, int]:
    """Count rows by provider."""
    return dict(rows.values_list("provider").annotate(Count("pk")))


def by_error(rows: Any) -> dict[str, Counter[str]]:
    """Count rows by provider and by the code of the last error. A code that is not known is not shown."""
    found: dict[str, Counter[str]] = {}
    for slug, code, count in rows.values_list("provider", "last_error").annotate(Count("pk")):
        found.setdefault(slug, Counter())[shown(code)] += count
    return found


def sentence(text: str) -> str:
    """Return the text with a full stop, so that another sentence can follow."""
    return text if text.endswith((".", "?")) else f"{text}."


def _redirect(subject: str, found: RedirectURI) -> Finding:
    if found.uri:
        return Finding(subject, "ok", f"register {found.uri}")
    if found.note:
        return Finding(subject, "ok", found.note)
    return Finding(subject, "warning", "not known.", found.problem)
