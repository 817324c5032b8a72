"""Alarms about a provider's settings, and the back-off of bulk runs from a provider that fails."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.db import IntegrityError, transaction

from oauth_connect import crypto
from oauth_connect.engine.refresh import pause
from oauth_connect.models.provider_state import ProviderState
from oauth_connect.protocol.grants.error_codes import shown
from oauth_connect.protocol.provider import Provider

logger = logging.getLogger("oauth_connect")
FIRST_BACK_OFF = 4  # counts as so many failures of one connection: about half a minute


def begin_alarm(alias: str, slug: str, code: str) -> None:
    """Raise one alarm for the provider: logged when it begins, whoever meets it first."""
    began = {"alarm": code[:64], "alarm_since": datetime.now(UTC)}
    rows = ProviderState.objects.using(alias)
    try:
        with transaction.atomic(using=alias):
            rows.create(provider=slug, **began)
        first = True
    except IntegrityError:
        first = bool(rows.filter(provider=slug, alarm="").update(**began))
    if first:
        told = shown(code)
        details = {"action": "provider_misconfigured", "provider": slug, "code": told}
        logger.error("%s refuses this site's client: %s", slug, told, extra=details)


def end_alarm(alias: str, slug: str) -> None:
    """The provider takes this site's client again."""
    rows = ProviderState.objects.using(alias).filter(provider=slug).exclude(alarm="")
    rows.update(alarm="", alarm_since=None)


def alarmed(alias: str) -> set[str]:
    """Return the providers of which there is an alarm."""
    return set(ProviderState.objects.using(alias).exclude(alarm="").values_list("provider", flat=True))


def back_off(alias: str, provider: Provider, asked: float | None) -> datetime:
    """Have all machines leave a provider alone in bulk: longer each time, or as long as it asked (seconds).

    Not when its settings change meanwhile: then it is worth a try at once.
    """
    rows = ProviderState.objects.using(alias)
    state, _ = rows.get_or_create(provider=provider.slug)
    failures = state.failures + 1
    until = datetime.now(UTC) + timedelta(seconds=pause(FIRST_BACK_OFF + failures, asked))
    changes = {"failures": failures, "blocked_until": until, "fingerprint": _fingerprint(provider)}
    rows.filter(pk=state.pk).update(**changes, updated_at=datetime.now(UTC))
    details = {"action": "provider_back_off", "provider": provider.slug}
    logger.warning("%s is left alone until %s", provider.slug, until.isoformat("T", "seconds"), extra=details)
    return until


def recovered(alias: str, slug: str) -> None:
    """The provider has answered again: the next back-off begins small."""
    rows = ProviderState.objects.using(alias).filter(provider=slug)
    rows.update(failures=0, blocked_until=None, updated_at=datetime.now(UTC))


def recently_failing(alias: str) -> set[str]:
    """Return the providers of which no success has been seen since their last back-off."""
    rows = ProviderState.objects.using(alias)
    return set(rows.filter(failures__gt=0).values_list("provider", flat=True))


def is_backed_off(alias: str, provider: Provider) -> bool:
    """Tell whether a provider is to be left alone in bulk, unless its settings have changed since."""
    state = ProviderState.objects.using(alias).filter(provider=provider.slug).first()
    if state is None or state.blocked_until is None or state.blocked_until <= datetime.now(UTC):
        return False
    return state.fingerprint == _fingerprint(provider)


def _fingerprint(provider: Provider) -> str:
    """Return what changes with the client or its endpoints; keyed, so that it tells nothing of the secret."""
    # What a function returns may be another one each time, and it may fail.
    made = provider.hooks.client_secret or callable(provider.client_secret)
    secret = "" if made else provider.secret()
    parts = [provider.client_id, secret, provider.issuer, provider.token_endpoint]
    return crypto.fingerprint([*parts, provider.client_authentication, provider.refresh.endpoint])
