"""Records alarms about a provider's settings, and lets bulk runs back off from a provider that fails."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import IntegrityError
from django.db.models import Exists

from oauth_connect import crypto
from oauth_connect.engine.timing import pause
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider
from oauth_connect.stores.lock_timeouts import inserted

logger = logging.getLogger("oauth_connect")
FIRST_BACK_OFF = 4  # in failures of one connection; the first back-off is about half a minute


def begin_alarm(alias: str, slug: str, code: str) -> None:
    """Begin an alarm for the provider, unless there is one already. The caller that begins it logs it."""
    values = {"alarm": code[:64], "alarm_since": datetime.now(UTC)}
    rows = ProviderState.objects.using(alias)
    try:
        inserted(alias, lambda: rows.create(provider=slug, **values))
        first = True
    except IntegrityError:
        first = bool(rows.filter(provider=slug, alarm="").update(**values))
    if first:
        shown_code = shown(code)
        details = {"action": "provider_misconfigured", "provider": slug, "code": shown_code}
        logger.error("the settings of %s are wrong: %s", slug, shown_code, extra=details)


def end_alarm(alias: str, slug: str) -> None:
    """End the provider's alarm: it accepts this site's client again."""
    rows = ProviderState.objects.using(alias).filter(provider=slug).exclude(alarm="")
    rows.update(alarm="", alarm_since=None)


def has_alarm(slug: Any) -> Exists:
    """Return whether there is an alarm for the provider, as an expression of a query in the same database."""
    return Exists(ProviderState.objects.filter(provider=slug).exclude(alarm=""))


def alarms(alias: str) -> dict[str, str]:
    """Return the codes of the alarms, by provider."""
    return dict(ProviderState.objects.using(alias).exclude(alarm="").values_list("provider", "alarm"))


def back_off(alias: str, provider: Provider, retry_after: float | None) -> datetime:
    """Let bulk runs on all machines skip a provider, longer after each failure. Return when that ends.

    ``retry_after``: seconds that the provider requested. A change of the provider's settings ends the
    back-off, because the new settings may work.
    """
    rows = ProviderState.objects.using(alias)
    state, _ = inserted(alias, lambda: rows.get_or_create(provider=provider.slug))
    failures = state.failures + 1
    until = datetime.now(UTC) + timedelta(seconds=pause(FIRST_BACK_OFF + failures, retry_after))
    changes = {"failures": failures, "blocked_until": until, "fingerprint": _fingerprint(provider)}
    rows.filter(pk=state.pk).update(**changes, updated_at=datetime.now(UTC))
    details = {"action": "provider_back_off", "provider": provider.slug}
    logger.warning(
        "bulk runs skip %s until %s", provider.slug, until.isoformat("T", "seconds"), extra=details
    )
    return until


def recovered(alias: str, slug: str) -> None:
    """Record a success: end the back-off, and let the next one start short."""
    rows = ProviderState.objects.using(alias).filter(provider=slug)
    rows.update(failures=0, blocked_until=None, updated_at=datetime.now(UTC))


def recently_failing(alias: str) -> set[str]:
    """Return the providers that had no success since their last back-off."""
    rows = ProviderState.objects.using(alias)
    return set(rows.filter(failures__gt=0).values_list("provider", flat=True))


def is_backed_off(alias: str, provider: Provider) -> bool:
    """Return whether bulk runs must skip a provider. Changed settings end its back-off."""
    state = ProviderState.objects.using(alias).filter(provider=provider.slug).first()
    if state is None or state.blocked_until is None or state.blocked_until <= datetime.now(UTC):
        return False
    return state.fingerprint == _fingerprint(provider)


def _fingerprint(provider: Provider) -> str:
    """Return a keyed hash of the client and its endpoints. The key protects the client's secret."""
    # A function may return another secret each time, and it may fail.
    is_computed = provider.hooks.client_secret or callable(provider.client_secret)
    secret = "" if is_computed else provider.secret()
    parts = [provider.client_id, secret, provider.issuer, provider.token_endpoint]
    return crypto.fingerprint([*parts, provider.client_authentication, provider.refresh.endpoint])
