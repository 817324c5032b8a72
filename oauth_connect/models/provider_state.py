"""What all machines should know of a provider: its back-off, and an alarm about its settings."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError, models, router, transaction
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from oauth_connect.models.connection import Connection

logger = logging.getLogger("oauth_connect")


class ProviderState(models.Model):
    provider = models.CharField(_("provider"), primary_key=True, max_length=100)
    blocked_until = models.DateTimeField(_("blocked until"), null=True, blank=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    alarm = models.CharField(_("alarm"), max_length=64, blank=True)
    alarm_since = models.DateTimeField(_("alarm since"), null=True, blank=True)
    fingerprint = models.CharField(_("settings fingerprint"), max_length=64, blank=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("provider state")
        verbose_name_plural = _("provider states")

    def __str__(self) -> str:
        return self.provider


def begin_alarm(connection: Connection, code: str) -> None:
    """Raise one alarm for the provider: logged when it begins, whoever meets it first."""
    alias = router.db_for_write(ProviderState, instance=connection)
    began = {"alarm": code[:64], "alarm_since": datetime.now(UTC)}
    rows = ProviderState.objects.using(alias)
    try:
        with transaction.atomic(using=alias):
            rows.create(provider=connection.provider, **began)
        first = True
    except IntegrityError:
        first = bool(rows.filter(provider=connection.provider, alarm="").update(**began))
    if first:
        logger.error(
            "%s refuses this site's client: %s",
            connection.provider,
            code,
            extra={"action": "provider_misconfigured", "provider": connection.provider},
        )


def end_alarm(connection: Connection, code: str) -> None:
    """The provider takes this site's client again."""
    alias = router.db_for_write(ProviderState, instance=connection)
    rows = ProviderState.objects.using(alias).filter(provider=connection.provider)
    rows.update(alarm=code, alarm_since=None)
