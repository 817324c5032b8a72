"""The state of a provider that all machines share: its back-off, and an alarm about its settings."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from oauth_connect.models.fields import KeyField


class ProviderState(models.Model):
    provider: models.Field[str, str] = KeyField(_("provider"), primary_key=True, max_length=100)
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
