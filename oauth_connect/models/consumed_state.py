"""The model of used states. Each state can be used once, and a unique key enforces it."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.db import IntegrityError, models, router
from django.utils.translation import gettext_lazy as _

from oauth_connect.stores.compiled import insert
from oauth_connect.stores.lock_timeouts import inserted


class ConsumedStateManager(models.Manager["ConsumedState"]):
    def consume(self, state: str, expires_at: datetime) -> bool:
        """Mark a state as used. Return False if it was used before. Commits before any request is sent.

        The session cannot do this: two simultaneous callbacks may both still see its entry.
        """
        digest = hashlib.sha256(state.encode()).hexdigest()
        alias = self._db or router.db_for_write(self.model)
        try:
            inserted(alias, lambda: insert(self.model(state_hash=digest, expires_at=expires_at), alias))
        except IntegrityError:
            return False
        return True


class ConsumedState(models.Model):
    """A used state. The table stores only its hash, so that a reader of the table cannot replay it."""

    state_hash = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(_("expires at"), db_index=True)

    objects = ConsumedStateManager()

    class Meta:
        verbose_name = _("consumed state")
        verbose_name_plural = _("consumed states")

    def __str__(self) -> str:
        return self.state_hash[:8]
